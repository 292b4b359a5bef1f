"""Attention against length: entropy, sharpness, sinks, spectral gap, and what theory says of them.

Functions of plain tensors; `representation` takes those from a model.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokred_sci.errors import InputError

SINK = 0.3
"""Mean share of attention from which a token is a sink."""


def attention_entropy(
    weights: Float[Tensor, "B H N N"], mask: Bool[Tensor, "B N"] | None = None, share: bool = False
) -> Float[Tensor, "B H"]:
    """Mean over real queries of -sum A log A: 0 = one token has it all, log n = even attention.

    With `share` it is divided by log n, n the record's tokens. If attention disperses, the share goes to 1 as length
    grows; near 0 in training it foretells collapse. One token has entropy and share 0.

    Reference: Zhai et al., 2023, https://arxiv.org/abs/2303.06296; Softmax Is Not Enough (Velickovic et al., 2025),
    https://arxiv.org/abs/2410.01104.

    Example:
        >>> even = torch.full((1, 1, 4, 4), 0.25)
        >>> round(attention_entropy(even).item(), 4), attention_entropy(even, share=True).item()
        (1.3863, 1.0)
    """
    mask = _mask(weights, mask)
    entropy = _over_queries(entropies(weights.double()), mask)
    return over_log(entropy, mask.sum(1)[:, None]) if share else entropy


def max_attention(weights: Float[Tensor, "B H N N"], mask: Bool[Tensor, "B N"] | None = None) -> Float[Tensor, "B H"]:
    """Mean over real queries of the largest weight: what `dispersion_slope` follows as length grows.

    Example:
        >>> max_attention(torch.tensor([[[[0.75, 0.25], [0.5, 0.5]]]]))
        tensor([[0.6250]], dtype=torch.float64)
    """
    return _over_queries(weights.double().amax(-1), _mask(weights, mask))


def sink_rate(
    weights: Float[Tensor, "B H N N"], mask: Bool[Tensor, "B N"] | None = None, threshold: float = SINK
) -> Float[Tensor, " B"]:
    """Share of heads in which one token receives more than 0.3 of the attention, on the mean over real queries.

    Law: a record of few tokens has sinks by counting alone (three even weights exceed 0.3): compare equal counts.

    Reference: When Attention Sink Emerges in Language Models (Gu et al., 2025), https://arxiv.org/abs/2410.10781,
    which looks at the first token; here any token may be the sink.

    Example:
        >>> even, sink = torch.full((4, 4), 0.25), torch.tensor([[0.7, 0.1, 0.1, 0.1]] * 4)
        >>> sink_rate(torch.stack([even, sink])[None])
        tensor([0.5000], dtype=torch.float64)
    """
    mask = _mask(weights, mask)
    received = (weights.double() * mask[:, None, :, None]).sum(2) / mask.sum(1).clamp(min=1)[:, None, None]
    return (received.amax(-1) > threshold).double().mean(1)


def spectral_gap(weights: Float[Tensor, "B H N N"], mask: Bool[Tensor, "B N"] | None = None) -> Float[Tensor, "B H"]:
    """First minus second singular value of each head's attention among real tokens: the larger, the nearer to rank 1.

    Even attention has gap 1, the identity gap 0. As N grows the second value of dispersed attention goes to 0, and one
    layer brings all tokens together. O(N^3): a third of a second for a head of 1,024 tokens.

    Reference: Mind the Gap: a Spectral Analysis of Rank Collapse and Signal Propagation in Attention Layers
    (Nait Saada et al., 2025), https://arxiv.org/abs/2410.07799.

    Example:
        >>> spectral_gap(torch.stack([torch.full((4, 4), 0.25), torch.eye(4)])[None]).round(decimals=6).abs()
        tensor([[1., 0.]], dtype=torch.float64)
    """
    mask = _mask(weights, mask)
    gaps = [[_gap(head[real][:, real].double()) for head in record] for record, real in zip(weights, mask, strict=True)]
    return torch.tensor(gaps, dtype=torch.float64)


def dispersion_slope(lengths: Sequence[int | float], largest: Sequence[float]) -> float:
    """Slope of log(largest weight) against log(tokens): 0 = attention stays as sharp, -1 = it thins out as 1 / n.

    Args:
        lengths: tokens that attend, two or more different numbers.
        largest: `max_attention` at each, averaged.

    Raises:
        InputError: fewer than two lengths, or a number that is not above 0.

    Reference: Softmax Is Not Enough (for Sharp Size Generalisation) (Velickovic et al., 2025),
    https://arxiv.org/abs/2410.01104: with bounded logits every weight is Theta(1 / n).

    Example:
        >>> round(dispersion_slope([64, 128, 256], [0.5, 0.25, 0.125]), 12)
        -1.0
    """
    x, y = np.asarray(lengths, dtype=np.float64), np.asarray(largest, dtype=np.float64)
    if x.shape != y.shape or len(set(x.flat)) < 2 or not (x > 0).all() or not (y > 0).all():
        raise InputError(f"Expected two or more lengths and weights, all above 0 (got {lengths} and {largest}).")
    x, y = np.log(x), np.log(y)
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def attention_bounds(spread: float, groups: int) -> tuple[float, float]:
    """Least and largest weight that softmax can give any of `groups` tokens whose logits lie within `spread`.

    exp(-spread) / groups and exp(spread) / groups. With a constant number of groups and tau = 0 neither depends on the
    length of the record; without reduction `groups` is the length, and both go to 0. With tau > 0 the bias is part of
    the logits: `spread` grows by tau * log(largest size / smallest size), and the floor falls with length.

    Example:
        >>> attention_bounds(0.0, 4)
        (0.25, 0.25)
    """
    if not 0 <= spread < math.inf or groups < 1:
        raise InputError(f"Expected 'spread' >= 0 and 'groups' >= 1 (got {spread} and {groups}).")
    return math.exp(-spread) / groups, math.exp(spread) / groups


def packing_bound(width: int, radius: float) -> float:
    """Most unit vectors in `width` dimensions that are more than `radius` apart, (1 + 2 / radius) ** width.

    No record, however long, needs more groups of `reduction.density.cover(radius=...)`. The bound is in the dimension
    in which tokens really vary: if that grows with length, so may the groups.

    Reference: High-Dimensional Probability (Vershynin, 2018), corollary 4.2.13, https://doi.org/10.1017/9781108231596.

    Example:
        >>> packing_bound(2, 1.0)
        9.0
    """
    if width < 1 or not 0 < radius <= 2:
        raise InputError(f"Expected 'width' >= 1 and 'radius' in (0, 2] (got {width} and {radius}).")
    return (1 + 2 / radius) ** width


def entropies(weights: Tensor) -> Tensor:
    """-sum A log A of each row."""
    return torch.special.entr(weights).sum(-1)


def over_log(entropy: Tensor, count: Tensor) -> Tensor:
    """Entropy over its largest possible value; 0 for one token."""
    return entropy / count.clamp(min=2).double().log()


def _over_queries(values: Float[Tensor, "B H N"], mask: Bool[Tensor, "B N"]) -> Float[Tensor, "B H"]:
    return (values * mask[:, None]).sum(-1) / mask.sum(1).clamp(min=1)[:, None]


def _gap(matrix: Tensor) -> float:
    values = torch.linalg.svdvals(matrix)
    return float(values[0] - (values[1] if len(values) > 1 else 0)) if len(values) else 0.0


def _mask(weights: Tensor, mask: Tensor | None) -> Tensor:
    if weights.ndim != 4 or weights.shape[2] != weights.shape[3]:
        raise InputError(f"Expected attention of shape (B, H, N, N) (got {tuple(weights.shape)}).")
    if mask is None:
        return torch.ones(weights.shape[0], weights.shape[2], dtype=torch.bool, device=weights.device)
    if mask.shape != (weights.shape[0], weights.shape[2]):
        raise InputError(
            f"Expected 'mask' of shape ({weights.shape[0]}, {weights.shape[2]}) (got {tuple(mask.shape)})."
        )
    return mask
