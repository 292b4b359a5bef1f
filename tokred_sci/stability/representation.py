"""Representation against length: how many directions the states of all elements keep, and what each layer attends to.

`attentions` and `states` take tensors from a model; `measure_layers` says it all in numbers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.models.attention import rotary, rotate, size_bias
from tokred_sci.stability.attention import SINK, entropies, over_log, spectral_gap
from tokred_sci.tokens import Tokens
from tokred_sci.training import hooks

AT_ONCE = 1 << 23  # attention weights held at once, in float64
ROWS = 1 << 16  # states decomposed at once


@dataclass(frozen=True, eq=False)
class LayerAttention:
    """The attention of one layer, recomputed in float64, some queries at a time.

    Args:
        q, k: rotated queries and keys, (B, H, N, K).
        bias: of each key, (B, N), see `size_bias`.
        mask: real tokens, (B, N).
        window: places to either side that are seen; None = all.
    """

    q: Float[Tensor, "B H N K"]
    k: Float[Tensor, "B H N K"]
    bias: Float[Tensor, "B N"]
    mask: Bool[Tensor, "B N"]
    window: int | None

    def logits(self, start: int, stop: int) -> tuple[Float[Tensor, "B H n m"], int]:
        """Scores of queries start to stop before the softmax, and the first key they are for; -inf outside windows."""
        first, last = 0, self.k.shape[2]
        if self.window is not None:
            first, last = max(0, start - self.window), min(last, stop + self.window)
        scores = self.q[:, :, start:stop].double() @ self.k[:, :, first:last].double().mT / math.sqrt(self.q.shape[3])
        scores = scores + self.bias[:, None, None, first:last].double()
        if self.window is not None:
            row, column = torch.arange(start, stop)[:, None], torch.arange(first, last)
            scores = scores.masked_fill(((row - column).abs() > self.window).to(scores.device), -torch.inf)
        return scores, first

    def blocks(self) -> Iterator[tuple[int, int, Tensor, int]]:
        """Start, stop, logits and first key of blocks of queries that fit into memory."""
        batch, heads, count, _ = self.q.shape
        seen = count if self.window is None else min(count, 3 * self.window)
        step = max(1, min(AT_ONCE // (batch * heads * seen), count if self.window is None else self.window))
        for start in range(0, count, step):
            stop = min(start + step, count)
            yield start, stop, *self.logits(start, stop)

    def weights(self) -> Float[Tensor, "B H N N"]:
        """The whole of it: N x N for each head."""
        full = self.q.new_zeros((*self.q.shape[:3], self.q.shape[2]), dtype=torch.float64)
        for start, stop, logits, first in self.blocks():
            full[:, :, start:stop, first : first + logits.shape[3]] = logits.softmax(-1)
        return full


def attentions(model: Any, tokens: Tokens) -> list[LayerAttention]:
    """What each block of the encoder attends to: with size bias, windows and the tokens that merging has left.

    Law: nothing is held but queries and keys; the model, its mode and its random generators stay as they were.

    Args:
        model: an `experiment.Model`, or a module with `embed` and `encoder`.
        tokens: a batch, as the model takes it.

    Example:
        >>> from tokred_sci.experiment import Model, ModelConfig
        >>> model = Model(ModelConfig("dna", {"patch": 4}, dim=8, depth=2, heads=2))
        >>> attentions(model, model.tokenize("ACGT" * 5))[1].weights().shape
        torch.Size([1, 2, 5, 5])
    """
    return _watch(model, tokens)[1]


def states(model: Any, tokens: Tokens) -> list[Tokens]:
    """The tokens that enter the encoder and those after each block, as `Encoder.trace` gives them; nothing is changed.

    `to_source` gives the state of every source element; the measures below need no such table: a token of size s
    counts as s rows.
    """
    return _watch(model, tokens)[0]


@torch.no_grad()
def _watch(model: Any, tokens: Tokens) -> tuple[list[Tokens], list[LayerAttention]]:
    seen: list[LayerAttention] = []
    generators, training = hooks.generators(model), model.training
    before = hooks.states(generators)
    handles = [
        block.attention.register_forward_pre_hook(lambda module, inputs: seen.append(_attention_of(module, *inputs)))
        for block in model.encoder.blocks
    ]
    try:
        model.eval()
        trace = model.encoder.trace(model.embed(tokens))
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
        hooks.restore(generators, before)
    return trace, seen


def _attention_of(module: Any, x: Tensor, places: Tensor, sizes: Tensor) -> LayerAttention:
    q, k, _ = module.qkv(x).unflatten(-1, (3, module.heads, -1)).permute(2, 0, 3, 1, 4)
    cos, sin = rotary(places, q.shape[-1], x.dtype)
    q, k = rotate(module.norm_q(q), cos, sin), rotate(module.norm_k(k), cos, sin)
    if module.window is None and (scale := module.scale(sizes, x.dtype)) is not None:
        q = q * scale
    return LayerAttention(q, k, size_bias(sizes, module.size_exponent, x.dtype), sizes > 0, module.window)


class AttentionMeasures(NamedTuple):
    """Of one layer, each (B, H) but for the sinks.

    Attributes:
        entropy: mean over queries of -sum A log A, in nats.
        entropy_share: the same, each over log of the number of tokens that the query sees: 1 = even attention.
        largest: mean over queries of the largest weight.
        max_logit: largest q k / sqrt(K), before the size bias.
        sinks: share of heads with a sink, (B,).
    """

    entropy: Tensor
    entropy_share: Tensor
    largest: Tensor
    max_logit: Tensor
    sinks: Tensor


def measure_attention(layer: LayerAttention, threshold: float = SINK) -> AttentionMeasures:
    """Entropy, largest weight, largest logit and sinks of a layer, by blocks of queries: memory stays bounded.

    Law: the numbers of `attention_entropy`, `max_attention` and `sink_rate` of its `weights()`; within windows a share
    is one of what a window can hold. Only real tokens count, as queries and as keys.

    Reference: for entropy and logits: Stabilizing Transformer Training by Preventing Attention Entropy Collapse
    (Zhai et al., 2023), https://arxiv.org/abs/2303.06296.
    """
    heads = layer.q.shape[1]
    entropy, share, largest = (layer.q.new_zeros((len(layer.q), heads), dtype=torch.float64) for _ in range(3))
    received = layer.q.new_zeros((len(layer.q), heads, layer.q.shape[2]), dtype=torch.float64)
    logit = torch.full_like(entropy, -torch.inf)
    for start, stop, scores, first in layer.blocks():
        real = layer.mask[:, None, start:stop].to(scores)
        weights = scores.softmax(-1)
        here = entropies(weights) * real
        entropy += here.sum(-1)
        largest += (weights.amax(-1) * real).sum(-1)
        received[:, :, first : first + weights.shape[3]] += (weights * real[..., None]).sum(2)
        pairs = layer.mask[:, None, start:stop, None] & layer.mask[:, None, None, first : first + weights.shape[3]]
        share += over_log(here, (pairs & scores.isfinite()).sum(-1)).sum(-1)
        scores -= layer.bias[:, None, None, first : first + weights.shape[3]]
        logit = torch.maximum(logit, scores.masked_fill(~pairs, -torch.inf).amax((2, 3)))
    count = layer.mask.sum(1).clamp(min=1)[:, None]
    sinks = (received / count[..., None]).amax(-1) > threshold
    return AttentionMeasures(entropy / count, share / count, largest / count, logit, sinks.double().mean(1))


def stable_rank(
    features: Float[Tensor, "B N D"], sizes: Float[Tensor, "B N"] | None = None, centre: bool = False
) -> Float[Tensor, " B"]:
    """Squared Frobenius norm over squared largest singular value: 1 = all states along one line; at most D.

    Law: states of tokens with their sizes give the number of the states of all elements, which are never written out.
    States that are all 0 have rank 0.

    Args:
        features: states.
        sizes: elements in each token, 0 = padding; None = one each.
        centre: take the mean state away first.

    Reference: Mind the Gap (Nait Saada et al., 2025), https://arxiv.org/abs/2410.07799.

    Example:
        >>> stable_rank(torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]), torch.tensor([[1.0, 4.0]]))
        tensor([2.], dtype=torch.float64)
    """
    values = _singular_values(features, sizes, centre)
    top = values[:, 0] ** 2
    return (values**2).sum(1) / torch.where(top > 0, top, 1)


def effective_rank(
    features: Float[Tensor, "B N D"], sizes: Float[Tensor, "B N"] | None = None, centre: bool = False
) -> Float[Tensor, " B"]:
    """exp(-sum p log p) of the singular values divided by their sum: how many directions are in use, from 1 to D.

    Law and arguments: see `stable_rank`.

    Reference: The Effective Rank (Roy & Vetterli, 2007), https://ieeexplore.ieee.org/document/7098875.

    Example:
        >>> effective_rank(torch.eye(4)[None]).round(decimals=6)
        tensor([4.], dtype=torch.float64)
    """
    values = _singular_values(features, sizes, centre)
    total = values.sum(1, keepdim=True)
    shares = values / torch.where(total > 0, total, 1)
    return torch.special.entr(shares).sum(1).exp() * (total[:, 0] > 0)


def high_frequency_share(
    features: Float[Tensor, "B N D"], sizes: Float[Tensor, "B N"] | None = None
) -> Float[Tensor, " B"]:
    """||X - mean|| / ||X|| over the states of all elements: 0 = all alike (oversmoothed), 1 = mean 0.

    Law and arguments: see `stable_rank`.

    Reference: Anti-Oversmoothing in Deep Vision Transformers via the Fourier Domain Analysis (Wang et al., 2022),
    https://arxiv.org/abs/2203.05962: attention is a low-pass filter, and the mean is what it lets through.

    Example:
        >>> high_frequency_share(torch.tensor([[[1.0], [3.0]], [[2.0], [2.0]]])).round(decimals=4)
        tensor([0.4472, 0.0000], dtype=torch.float64)
    """
    x, weight = _clean(features, sizes)
    apart = (_centred(x, weight) ** 2 * weight).sum((1, 2)).sqrt()
    whole = (x**2 * weight).sum((1, 2)).sqrt()
    return apart / torch.where(whole > 0, whole, 1)


def _singular_values(features: Tensor, sizes: Tensor | None, centre: bool) -> Tensor:
    """Of the matrix with a row for each element, (B, min(N, D)), largest first: triangles of blocks, not its square."""
    x, weight = _clean(features, sizes)
    rows = (_centred(x, weight) if centre else x) * weight.sqrt()
    triangle = rows[:, :0]
    for start in range(0, rows.shape[1], ROWS):
        triangle = torch.linalg.qr(torch.cat([triangle, rows[:, start : start + ROWS]], 1), mode="r")[1]
    return torch.linalg.svdvals(triangle)


def _clean(features: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
    """States in float64, 0 in padding, and the weight of each row, (B, N, 1)."""
    if features.ndim != 3 or not features.is_floating_point():
        raise InputError(f"Expected states as floats of shape (B, N, D) (got shape {tuple(features.shape)}).")
    if sizes is None:
        sizes = torch.ones(features.shape[:2], device=features.device)
    if sizes.shape != features.shape[:2]:
        raise InputError(f"Expected 'sizes' of shape {tuple(features.shape[:2])} (got {tuple(sizes.shape)}).")
    return features.double().masked_fill(sizes[..., None] <= 0, 0), sizes.double()[..., None]


def _centred(x: Tensor, weight: Tensor) -> Tensor:
    return x - (x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)


class AtLayer(NamedTuple):
    """One block of a model on one batch, each a mean over heads and records.

    Attributes:
        tokens: that attend.
        entropy, entropy_share, largest, sinks: see `AttentionMeasures`.
        max_logit: the largest of the batch.
        spectral_gap: see there; None where a record has more than `most` tokens.
        stable_rank, effective_rank, high_frequency_share: of the states after the block, over all elements.
    """

    tokens: float
    entropy: float
    entropy_share: float
    largest: float
    max_logit: float
    sinks: float
    spectral_gap: float | None
    stable_rank: float
    effective_rank: float
    high_frequency_share: float


def measure_layers(model: Any, tokens: Tokens, most: int = 1024) -> list[AtLayer]:
    """Every measure of this page for every block, one layer in memory at a time.

    Args:
        model: see `attentions`.
        tokens: a batch.
        most: tokens of a record up to which the spectral gap is taken: it needs N x N, and O(N^3) time for each head.

    Example:
        >>> from tokred_sci.experiment import Model, ModelConfig, Reduce
        >>> model = Model(ModelConfig("dna", {"patch": 4}, dim=8, depth=2, heads=2, reduce=(Reduce(0, "links", 3),)))
        >>> [layer.tokens for layer in measure_layers(model, model.tokenize("ACGT" * 5))]
        [5.0, 3.0]
    """
    trace, layers = _watch(model, tokens)
    return [_at_layer(layer, after, most) for layer, after in zip(layers, trace[1:], strict=True)]


def _at_layer(layer: LayerAttention, after: Tokens, most: int) -> AtLayer:
    measured = measure_attention(layer)
    gap = None
    if layer.mask.shape[1] <= most:
        gap = spectral_gap(layer.weights(), layer.mask).mean().item()
    x, sizes = after.features, after.sizes
    return AtLayer(
        layer.mask.sum(1).double().mean().item(),
        measured.entropy.mean().item(),
        measured.entropy_share.mean().item(),
        measured.largest.mean().item(),
        measured.max_logit.max().item(),
        measured.sinks.mean().item(),
        gap,
        stable_rank(x, sizes).mean().item(),
        effective_rank(x, sizes).mean().item(),
        high_frequency_share(x, sizes).mean().item(),
    )
