"""What merging must know of each Hugging Face architecture: where its layers are, and what they are told of places."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokred_sci.errors import InputError
from tokred_sci.models.attention import size_bias
from tokred_sci.tokens import Tokens


@dataclass(frozen=True, eq=False)
class Merged:
    """What a layer behind a merge may ask about its tokens.

    Args:
        trunk: the module that runs the layers.
        tokens: the merged tokens; positions are mean places in the sequence, counted from 0.
        places: mean `position_ids` of each token, (B, N): the places themselves where the model was handed none.
        size_exponent: tau of the attention bias tau * log(size).
    """

    trunk: Any
    tokens: Tokens
    places: Float[Tensor, "B N"]
    size_exponent: float

    def bias(self) -> Float[Tensor, "B 1 1 N"]:
        """Additive attention mask: tau * log(size), and a large negative number for padding."""
        return size_bias(self.tokens.sizes, self.size_exponent, self.tokens.features.dtype)[:, None, None]


Takes = Callable[[Merged, Any], dict[str, Any]]
"""`(merged, layer) -> arguments`: what the layer is told besides its hidden states."""


def _mask(merged: Merged, layer: Any) -> dict[str, Any]:
    """Places entered with the embedding: tokens carry them."""
    return {"attention_mask": merged.bias()}


def _esm(merged: Merged, layer: Any) -> dict[str, Any]:
    """Rotary places, if the model has them: cosines and sines at the mean place of each token."""
    rotary = merged.trunk.rotary_embeddings
    turned = None if rotary is None else rotary(merged.tokens.features, merged.places)
    return {**_mask(merged, layer), "position_embeddings": turned}


def _modernbert(merged: Merged, layer: Any) -> dict[str, Any]:
    """Rotary places for each kind of layer; a sliding window reaches as far as in the original, from mean to mean."""
    mask = merged.bias()
    if layer.attention_type == "sliding_attention":
        at = merged.tokens.positions[..., 0]
        far = (at[:, None] - at[:, :, None]).abs() > merged.trunk.config.sliding_window  # B N N
        mask = mask.masked_fill(far[:, None], torch.finfo(mask.dtype).min / 2)
    turned = merged.trunk.rotary_emb(merged.tokens.features, merged.places, layer.attention_type)
    return {"attention_mask": mask, "position_embeddings": turned}


def _t5(merged: Merged, layer: Any) -> dict[str, Any]:
    """The learned bias of the rounded distance between mean places; the first layer has the table."""
    attention = merged.trunk.block[0].layer[0].SelfAttention
    at = merged.tokens.positions[..., 0]
    buckets = attention._relative_position_bucket(
        (at[:, None] - at[:, :, None]).round().long(),  # B query key
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    bias = attention.relative_attention_bias(buckets).permute(0, 3, 1, 2)  # B H query key
    return {**_mask(merged, layer), "position_bias": bias}


def _patchtst(merged: Merged, layer: Any) -> dict[str, Any]:
    normed = any(isinstance(part, nn.BatchNorm1d) for part in layer.modules())
    if layer.training and normed and not bool(merged.tokens.mask.all()):
        raise InputError(
            "Expected series that keep the same number of tokens while a PatchTST with norm_type='batchnorm' trains "
            "(got fewer in some): padding would enter its statistics. Use a method of exact count, e.g. 'links', or "
            "norm_type='layernorm'."
        )
    return _mask(merged, layer)


@dataclass(frozen=True)
class Architecture:
    """One kind of model.

    Args:
        trunk: full name of the class whose `forward` runs the layers.
        layers: where that class keeps them.
        takes: what a layer behind a merge is told.
        attention: the part of a layer that takes the mask, where the layer itself takes none.
        first, last: whether the first and the last real token of a record are special, and kept alone.
        pooled: models that only hand the hidden states on, or read nothing but the first: theirs may stay merged.
    """

    trunk: str
    layers: str
    takes: Takes
    attention: str | None = None
    first: bool = True
    last: bool = True
    pooled: tuple[str, ...] = ()


_HOME = "transformers.models."
ARCHITECTURES = {
    "BERT": Architecture(
        _HOME + "bert.modeling_bert.BertModel", "encoder.layer", _mask, pooled=("BertForSequenceClassification",)
    ),
    "ESM": Architecture(
        _HOME + "esm.modeling_esm.EsmModel", "encoder.layer", _esm, pooled=("EsmForSequenceClassification",)
    ),
    "ModernBERT": Architecture(_HOME + "modernbert.modeling_modernbert.ModernBertModel", "layers", _modernbert),
    "T5 encoder": Architecture(_HOME + "t5.modeling_t5.T5Stack", "block", _t5, first=False, pooled=("T5EncoderModel",)),
    "PatchTST": Architecture(
        _HOME + "patchtst.modeling_patchtst.PatchTSTEncoder",
        "layers",
        _patchtst,
        attention="self_attn",
        last=False,
        pooled=("PatchTSTModel",),
    ),
    "ViT": Architecture(
        _HOME + "vit.modeling_vit.ViTModel", "layers", _mask, last=False, pooled=("ViTForImageClassification",)
    ),
}


def find_trunk(model: nn.Module) -> tuple[Any, Architecture]:
    """The one module inside the model that runs layers we know, and its description.

    Raises:
        InputError: none is there, several are, or it is a decoder.
    """
    found = [(part, known) for part in model.modules() for known in ARCHITECTURES.values() if _is(part, known.trunk)]
    name = type(model).__name__
    if not found:
        raise InputError(
            f"Expected a model of transformers with a trunk of {', '.join(ARCHITECTURES)} (got {name}): other "
            "architectures, decoders and code from the Hub are not supported."
        )
    if len(found) > 1:
        raise InputError(
            f"Expected a model with one encoder (got {name} with {len(found)} stacks of layers): hand in the encoder "
            "alone, as in reduce(model.encoder, ...); the rest of the model goes on as before."
        )
    trunk, known = found[0]
    if getattr(trunk.config, "is_decoder", False):
        raise InputError(
            f"Expected an encoder (got {name}, a decoder): a token that is merged cannot be generated from. "
            "Set config.is_decoder=False, or reduce the encoder that it listens to."
        )
    if getattr(trunk.config, "channel_attention", False):
        raise InputError(
            f"Expected channels that do not attend to each other (got {name} with channel_attention=True): each "
            "channel has groups of its own. Use channel_attention=False."
        )
    return trunk, known


def _is(part: nn.Module, name: str) -> bool:
    """Whether the part is of the class with this full name. Code from the Hub may use the same short names."""
    return any(f"{cls.__module__}.{cls.__qualname__}" == name for cls in type(part).__mro__)


def has_class_token(trunk: Any, known: Architecture) -> bool:
    """Whether the first token is special: PatchTST has a class token only if its config says so."""
    return known.first and getattr(trunk.config, "use_cls_token", True)
