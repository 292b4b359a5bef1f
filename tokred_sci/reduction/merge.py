"""`merge`, `unmerge`, `to_source`: the only code in the library that moves features between tokens."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.tokens import Grouping, Tokens


def merge(tokens: Tokens, grouping: Grouping) -> Tokens:
    """Join the tokens of each group into one: features and positions by size-weighted mean, sizes by sum.

    Laws: mass is kept (`merged.sizes.sum() == tokens.sizes.sum()` unless the grouping drops tokens);
    `merge(unmerge(z)) == z`; `sizes == bincount(source)` before and after; padding has no effect, even with NaN
    inside. Linear in time and memory; differentiable in features and positions.

    Args:
        tokens: (B, N, ...) tokens.
        grouping: group of each of the N tokens, as every function in `tokred_sci.reduction` returns it.

    Returns:
        Tokens with N = `grouping.num_groups`; a group nobody joined is padding. Elements of dropped tokens
        (label -1) get source -1.

    Raises:
        InputError: the grouping is for another batch.

    Reference: the size-weighted mean is that of Token Merging (Bolya et al., 2023),
    https://arxiv.org/abs/2210.09461; the bookkeeping as a map instead of a matrix is ours.

    Example:
        >>> import torch
        >>> tokens = Tokens(torch.tensor([[[1.0], [3.0], [8.0]]]), torch.tensor([[[0.0], [1.0], [2.0]]]),
        ...                 torch.ones(1, 3), torch.tensor([[0, 1, 2]]))
        >>> merged = merge(tokens, Grouping(torch.tensor([[0, 0, 1]]), 2))
        >>> merged.features.flatten().tolist(), merged.sizes.tolist(), merged.source.tolist()
        ([2.0, 8.0], [[2.0, 1.0]], [[0, 0, 1]])
    """
    _check_same_batch(grouping, tokens.sizes)
    groups = grouping.num_groups
    index = flat_labels(torch.where(tokens.mask, grouping.labels, -1), groups)
    sizes = sum_groups(tokens.sizes, index, groups)
    held = tokens.source.clamp(min=0)
    source = torch.where(tokens.source < 0, -1, grouping.labels.gather(1, held))
    return Tokens(
        features=_mean_groups(tokens.features, tokens.sizes, sizes, index),
        positions=_mean_groups(tokens.positions, tokens.sizes, sizes, index),
        sizes=sizes,
        source=source,
    )


def unmerge(features: Float[Tensor, "B G D"], grouping: Grouping) -> Float[Tensor, "B N D"]:
    """Give every token the features of its group: the way back for dense answers.

    Law: `merge(unmerge(z)) == z`. Tokens in no group (padding, pruned) get zeros.

    Raises:
        InputError: features of another number of records or groups than the grouping's.

    Example:
        >>> import torch
        >>> grouping = Grouping(torch.tensor([[0, 0, 1, -1]]), 2)
        >>> unmerge(torch.tensor([[[5.0], [7.0]]]), grouping).flatten().tolist()
        [5.0, 5.0, 7.0, 0.0]
    """
    if features.ndim != 3 or features.shape[:2] != (len(grouping.labels), grouping.num_groups):
        raise InputError(
            f"Expected features of shape ({len(grouping.labels)}, {grouping.num_groups}, D) "
            f"(got {tuple(features.shape)}): the groups of another merge?"
        )
    return _take(features, grouping.labels)


def to_source(tokens: Tokens) -> Float[Tensor, "B M D"]:
    """The features of the token that holds each source element: one row per base, point or time step.

    Elements that are padding, or were dropped by pruning, get zeros.

    Example:
        >>> import torch
        >>> tokens = Tokens(torch.tensor([[[5.0], [7.0]]]), torch.zeros(1, 2, 1), torch.tensor([[2.0, 1.0]]),
        ...                 torch.tensor([[0, 0, 1, -1]]))
        >>> to_source(tokens).flatten().tolist()
        [5.0, 5.0, 7.0, 0.0]
    """
    return _take(tokens.features, tokens.source)


def flat_labels(labels: Int[Tensor, "B N"], groups: int) -> Int[Tensor, " BN"]:
    """Labels as row numbers of a (B * groups + 1, ...) table; the last row collects what is in no group."""
    first = torch.arange(len(labels), device=labels.device)[:, None] * groups
    return torch.where(labels < 0, len(labels) * groups, labels + first).flatten()


def sum_groups(values: Tensor, index: Int[Tensor, " BN"], groups: int) -> Tensor:
    """Sum (B, N, ...) values into (B, groups, ...) by `flat_labels`. One flat index_add: the fast path on a CPU."""
    batch = len(values)
    table = values.new_zeros(batch * groups + 1, *values.shape[2:])
    return table.index_add(0, index, values.flatten(0, 1))[:-1].unflatten(0, (batch, groups))


def _mean_groups(values: Tensor, weights: Tensor, totals: Tensor, index: Tensor) -> Tensor:
    """Weighted mean of each group, in float32 or better; a token alone in its group comes out bit-equal."""
    wide = torch.promote_types(values.dtype, torch.float32)
    of_group = torch.cat([totals.flatten(), totals.new_ones(1)])[index].view_as(weights)
    share = weights.to(wide) / of_group.to(wide)
    return sum_groups(values.to(wide) * share[..., None], index, totals.shape[1]).to(values.dtype)


def _take(features: Tensor, index: Int[Tensor, "B K"]) -> Tensor:
    rows = flat_labels(index.clamp(min=0), features.shape[1])
    taken = features.flatten(0, 1)[rows].unflatten(0, index.shape)
    return taken.masked_fill(index[..., None] < 0, 0)


def _check_same_batch(grouping: Grouping, sizes: Tensor) -> None:
    if grouping.labels.shape != sizes.shape:
        raise InputError(
            f"Expected a grouping for {tuple(sizes.shape)} tokens (got labels of shape "
            f"{tuple(grouping.labels.shape)}): make it from these very tokens."
        )
