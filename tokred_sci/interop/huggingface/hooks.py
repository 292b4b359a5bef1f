"""The hooks of a reduced model, and what one batch carries with it from layer to layer."""

import inspect
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokred_sci.errors import InputError
from tokred_sci.interop.huggingface.architectures import Architecture, Merged, has_class_token
from tokred_sci.reduction.budget import Budget
from tokred_sci.reduction.merge import Combine, merge, to_source
from tokred_sci.reduction.rows import Keep
from tokred_sci.reduction.where import Group, protect
from tokred_sci.tokens import Grouping, Tokens

NAME = "_tokred_merging"  # where a trunk keeps its merging
OUTPUTS = ("output_attentions", "output_hidden_states")
_RUNNING: ContextVar[tuple["Passage", ...]] = ContextVar("running", default=())


@dataclass(eq=False)
class Passage:
    """One batch on its way through the layers.

    Attributes:
        merging: whose it is.
        trunk: the module that runs the layers; a replica where a model is spread over devices.
        asked: the arguments of the forward pass by name.
        born: the tokens as they entered the first layer with merging.
        tokens: the tokens now, None as long as nothing has merged.
        shown: the hidden states the last layer gave to everybody else.
        told: what layers of each kind were told since the last merge.
    """

    merging: "Merging"
    trunk: Any
    asked: Mapping[str, Any]
    born: Tokens | None = None
    tokens: Tokens | None = None
    shown: Tensor | None = None
    told: dict[Any, dict[str, Any]] = field(default_factory=dict)

    def receive(self, hidden: Tensor) -> Tokens:
        """The tokens that enter a layer. Hidden states that somebody changed on the way are merged again."""
        flat = hidden.flatten(0, -3)
        if self.tokens is None or self.born is None:
            self.born = _born(flat, self.asked.get("attention_mask"))
            return self.born
        if hidden is not self.shown:
            if self.merging.unmerge:
                seen = replace(self.born, features=flat)
                flat = merge(seen, Grouping(self.tokens.source, self.tokens.sizes.shape[1])).features
            self.tokens = replace(self.tokens, features=flat)
        return self.tokens

    def tell(self, layer: nn.Module) -> dict[str, Any]:
        """What the layer takes besides hidden states; layers of one kind share it."""
        kind = getattr(layer, "attention_type", None)
        if kind not in self.told and self.tokens is not None:
            view = Merged(self.trunk, self.tokens, self._places(self.tokens), self.merging.size_exponent)
            self.told[kind] = self.merging.known.takes(view, layer)
        return self.told[kind]

    def _places(self, tokens: Tokens) -> Tensor:
        """Mean `position_ids` of the elements of each token, or their mean place where there are none."""
        ids = self.asked.get("position_ids")
        if ids is None or self.born is None:
            return tokens.positions[..., 0]
        places = ids.expand(self.born.sizes.shape).double()[..., None]
        seen = replace(self.born, features=self.born.features[..., :1], positions=places)
        return merge(seen, Grouping(tokens.source, tokens.sizes.shape[1])).positions[..., 0]


class Merging:
    """The merging inside one model: its settings, and the hooks that carry it out.

    Args:
        known: the architecture.
        steps: a budget for each layer whose input is merged.
        group: the grouping function.
        size_exponent, unmerge, combine: see `reduce`.
        alone: ids of tokens that are kept alone; None = not even those at the ends.
        asked: those of them the caller named, which cannot be found without `input_ids`.
    """

    def __init__(
        self,
        known: Architecture,
        steps: Mapping[int, Budget],
        group: Group,
        size_exponent: float,
        unmerge: bool,
        alone: tuple[int, ...] | None,
        asked: tuple[int, ...],
        combine: Combine,
    ):
        self.known, self.steps, self.group, self.size_exponent = known, dict(steps), group, size_exponent
        self.unmerge, self.alone, self.asked, self.combine = unmerge, alone, asked, combine
        self.handles: list[Any] = []

    def attach(self, trunk: Any) -> None:
        """Hang the hooks on the trunk and on its layers from the first that merges."""
        keep = self.handles.append
        keep(trunk.register_forward_pre_hook(self.start, with_kwargs=True))
        keep(trunk.register_forward_hook(self.stop, always_call=True))
        for number, layer in enumerate(trunk.get_submodule(self.known.layers)):
            if number >= min(self.steps):
                keep(layer.register_forward_pre_hook(partial(self.enter, number), with_kwargs=True))
                keep(layer.register_forward_hook(self.leave, prepend=True))  # before hooks that record hidden states
                if self.known.attention is not None:
                    part = layer.get_submodule(self.known.attention)
                    keep(part.register_forward_pre_hook(partial(self.inform, layer), with_kwargs=True))
        setattr(trunk, NAME, self)

    def detach(self) -> None:
        for handle in self.handles:
            handle.remove()

    def start(self, trunk: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        """Before the trunk: begin a passage, whatever a pass that was broken off may have left."""
        asked = inspect.signature(trunk.forward).bind(*args, **kwargs)
        asked.apply_defaults()
        given = {**asked.arguments, **asked.arguments.get("kwargs", {})}
        self._check(trunk, given)
        _RUNNING.set((*self._others(), Passage(self, trunk, given)))

    def stop(self, trunk: Any, args: tuple, output: Any) -> None:
        """Behind the trunk, or when it failed: the passage ends."""
        _RUNNING.set(self._others())

    def enter(self, number: int, layer: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Before a layer: merge if it is its turn, and hand it the merged tokens."""
        passage = self._passage()
        bound = inspect.signature(layer.forward).bind(*args, **kwargs)
        name, hidden = next(iter(bound.arguments.items()))
        tokens = passage.receive(hidden)
        if number in self.steps:
            self._merge(self.steps[number], passage, tokens)
        if passage.tokens is None:
            return None
        bound.arguments[name] = _shape(passage.tokens.features, hidden)
        if self.known.attention is None:
            bound.arguments.update(passage.tell(layer))
        return bound.args, bound.kwargs

    def inform(self, layer: nn.Module, attention: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Before the part of a layer that takes the mask."""
        passage = self._passage()
        return None if passage.tokens is None else (args, {**kwargs, **passage.tell(layer)})

    def leave(self, layer: nn.Module, args: tuple, output: Any) -> Any:
        """Behind a layer: keep the merged tokens, and show hidden states in their original length."""
        passage = self._passage()
        if passage.tokens is None:
            return None
        hidden = output[0] if isinstance(output, tuple) else output
        passage.tokens = replace(passage.tokens, features=hidden.flatten(0, -3))
        passage.shown = _shape(to_source(passage.tokens), hidden) if self.unmerge else hidden
        return (passage.shown, *output[1:]) if isinstance(output, tuple) else passage.shown

    def _merge(self, budget: Budget, passage: Passage, tokens: Tokens) -> None:
        with torch.no_grad():
            metric = F.layer_norm(tokens.features, tokens.features.shape[-1:])
            keep, alone = budget(metric, tokens), self._alone(passage, tokens)
            group = self.group
            if alone is not None:
                group, keep = protect(group, alone), _raised(keep, alone, tokens)
            grouping = group(metric, tokens, keep)
        merged = merge(tokens, grouping, self.combine)
        if not bool((merged.counts == tokens.counts).all()):  # else nothing merges: layers go on exactly as they were
            passage.tokens, passage.told = merged, {}

    def _alone(self, passage: Passage, tokens: Tokens) -> Tensor | None:
        """Which of the tokens are protected, (B, N): those that hold a special token."""
        if self.alone is None or passage.born is None:
            return None
        mask, ids = passage.born.mask, passage.asked.get("input_ids")
        number = mask.cumsum(1)
        special = torch.zeros_like(mask)
        if has_class_token(passage.trunk, self.known):
            special |= mask & (number == 1)
        if self.known.last:
            special |= mask & (number == number[:, -1:])
        if ids is not None and self.alone:
            special |= mask & torch.isin(ids, ids.new_tensor(self.alone))
        holder = tokens.source.masked_fill(tokens.source < 0, tokens.sizes.shape[1])
        table = torch.zeros_like(F.pad(tokens.sizes, (0, 1)), dtype=torch.long)
        return table.scatter_reduce(1, holder, special.long(), "amax")[:, :-1] > 0

    def _check(self, trunk: Any, given: Mapping[str, Any]) -> None:
        """Refuse what merging cannot serve."""
        check_attention(trunk)
        mask = given.get("attention_mask")
        if mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 2):
            got = f"shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise InputError(f"Expected 'attention_mask' of shape (B, N), 1 for real tokens (got {got}).")
        if self.asked and given.get("input_ids") is None:
            raise InputError(
                "Expected 'input_ids' (got none), to find the ids in 'protect': leave it out of reduce(...)."
            )
        wants = {name: given.get(name) or getattr(trunk.config, name, False) for name in OUTPUTS}
        if wants["output_attentions"]:
            raise InputError(
                "Expected no output_attentions from a reduced model: merged tokens attend in groups, not in the "
                "original length. Call restore(model) first."
            )
        if wants["output_hidden_states"] and (0 in self.steps or not self.unmerge):
            raise InputError(
                "Expected no output_hidden_states from a model that merges before layer 0 or with unmerge=False: they "
                "would differ in length. Merge at a later layer with unmerge=True, or call restore(model) first."
            )

    def _others(self) -> tuple[Passage, ...]:
        return tuple(passage for passage in _RUNNING.get() if passage.merging is not self)

    def _passage(self) -> Passage:
        for passage in _RUNNING.get():
            if passage.merging is self:
                return passage
        raise InputError(
            "A layer with merging inside was called outside of its model's forward pass: call the whole model, or "
            "restore(model) first. (For gradient checkpointing: a transformers that leaves hooks out of it, as "
            "5.23 does.)"
        )


def _born(features: Tensor, mask: Tensor | None) -> Tokens:
    """Hidden states as tokens: each its own source element, at its place in the sequence."""
    batch, length, _ = features.shape
    places = torch.arange(length, device=features.device).expand(batch, length)
    real = torch.ones_like(places) if mask is None else (mask.to(places.device) != 0).long()
    source = places.masked_fill(real == 0, -1)
    return Tokens(features, places.double()[..., None], real.float(), source)


def _shape(features: Tensor, like: Tensor) -> Tensor:
    """(B, N, D) in the leading shape of the model's hidden states: (B, N, D), or (B, C, N, D) with channels."""
    return features.reshape(*like.shape[:-2], *features.shape[1:])


def _raised(keep: Tensor | Keep, alone: Tensor, tokens: Tokens) -> Keep:
    """The budget, but room for every protected token and one group of others."""
    number = (alone & tokens.mask).sum(1)
    least = number + (tokens.counts > number).long()
    each = torch.maximum(keep.each if isinstance(keep, Keep) else keep, least)
    rate = float((tokens.counts / each.clamp(min=1)).max())
    return Keep(each, max(1, int(each.max())), rate)


def check_attention(trunk: Any) -> None:
    """Refuse implementations of attention that take no additive mask."""
    used = trunk.config._attn_implementation
    if used not in ("eager", "sdpa"):
        raise InputError(
            f"Expected attention 'sdpa' or 'eager' (got {used!r}): it takes no bias for sizes. Call "
            "model.set_attn_implementation('sdpa') first."
        )
