"""`merge`, `unmerge`, `to_source`: the only code in the library that moves features between tokens."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.tokens import Grouping, Tokens, can_look, check_floats

Combine = Literal["mean", "norm", "loudest"]


def merge(tokens: Tokens, grouping: Grouping, combine: Combine = "mean") -> Tokens:
    """Join the tokens of each group into one: features and positions by size-weighted mean, sizes by sum.

    Laws: mass is kept (`merged.sizes.sum() == tokens.sizes.sum()` unless the grouping drops tokens);
    `merge(unmerge(z)) == z`; `sizes == bincount(source)` before and after; padding has no effect, even with NaN
    inside. Linear in time and memory; differentiable in features, positions and `grouping.weights`.

    Args:
        tokens: (B, N, ...) tokens.
        grouping: group of each of the N tokens, as every function in `tokred_sci.reduction` returns it.
        combine: "mean" weighs features by size; "norm" gives that mean the weighted mean of the members' norms, so
            that merging does not shrink features; "loudest" takes the member of largest norm as it is.

    Returns:
        Tokens with N = `grouping.num_groups`; a group nobody joined is padding. Elements of dropped tokens
        (label -1) get source -1.

    Raises:
        InputError: the grouping is for another batch, no such way to combine, or features that are codes.

    References: the size-weighted mean is that of Token Merging (Bolya et al., 2023),
    https://arxiv.org/abs/2210.09461; keeping the norm is the idea of Token Fusion (Kim et al., 2024),
    https://arxiv.org/abs/2312.01026, which restores the largest norm; the bookkeeping as a map is ours.

    Example:
        >>> import torch
        >>> tokens = Tokens(torch.tensor([[[1.0], [3.0], [8.0]]]), torch.tensor([[[0.0], [1.0], [2.0]]]),
        ...                 torch.ones(1, 3), torch.tensor([[0, 1, 2]]))
        >>> merged = merge(tokens, Grouping(torch.tensor([[0, 0, 1]]), 2))
        >>> merged.features.flatten().tolist(), merged.sizes.tolist(), merged.source.tolist()
        ([2.0, 8.0], [[2.0, 1.0]], [[0, 0, 1]])
    """
    _check_same_batch(grouping, tokens.sizes)
    check_floats(tokens)
    if combine not in ("mean", "norm", "loudest"):
        raise InputError(f"Expected 'combine' to be 'mean', 'norm' or 'loudest' (got {combine!r}).")
    groups = grouping.num_groups
    index = flat_labels(torch.where(tokens.mask, grouping.labels, -1), groups)
    sizes = sum_groups(tokens.sizes, index, groups)
    features, said, total = tokens.features, tokens.sizes, sizes
    if grouping.weights is not None:
        said = tokens.sizes * grouping.weights
        total = sum_groups(said, index, groups)
    if grouping.weights is not None or combine != "mean":  # where padding would reach gradients
        features = features.masked_fill(~tokens.mask[..., None], 0)
    if combine == "loudest":
        merged = _take_loudest(features, index, groups)
    else:
        merged = _mean_groups(features, said, total, index)
    if combine == "norm":
        merged = _with_norm(merged, _mean_groups(_norms(features), said, total, index))
    return Tokens(
        features=merged,
        positions=_mean_groups(tokens.positions, tokens.sizes, sizes, index),
        sizes=sizes,
        source=_take_labels(grouping.labels, tokens.source),
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
    first = torch.arange(labels.shape[0], device=labels.device)[:, None] * groups
    return torch.where(labels < 0, labels.shape[0] * groups, labels + first).flatten()


def sum_groups(values: Tensor, index: Int[Tensor, " BN"], groups: int) -> Tensor:
    """Sum (B, N, ...) values into (B, groups, ...) by `flat_labels`. One flat index_add: the fast path on a CPU."""
    batch = values.shape[0]
    table = values.new_zeros(batch * groups + 1, *values.shape[2:])
    return table.index_add_(0, index, values.flatten(0, 1))[:-1].unflatten(0, (batch, groups))


def first_lowest(
    values: Float[Tensor, "B N"], index: Int[Tensor, " BN"], groups: int, slack: float = 0.0
) -> Int[Tensor, " BG"]:
    """Place in the flattened batch of each group's member of lowest value, B * N where nobody is.

    Of members whose values differ by no more than `slack` (of rounding) it is the first.
    """
    flat, number = values.flatten(), values.numel()
    room = len(values) * groups + 1
    least = flat.new_full((room,), torch.inf).scatter_reduce(0, index, flat, "amin")
    place = torch.where(flat <= least[index] + slack, torch.arange(number, device=flat.device), number)
    return index.new_full((room,), number).scatter_reduce(0, index, place, "amin")[:-1]


def extent(tokens: Tokens, places: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The box each token covers: the smallest and the largest place of its elements, after any number of merges.

    Args:
        tokens: the batch.
        places: where each source element is, (B, M, P); None = its index, which for a sequence is its place.

    Returns:
        Low and high corners, each (B, N, P); 0 for padding.

    Raises:
        InputError: places for other elements.

    Example:
        >>> import torch
        >>> tokens = Tokens(torch.zeros(1, 2, 1), torch.zeros(1, 2, 1), torch.tensor([[3.0, 1.0]]),
        ...                 torch.tensor([[0, 0, 1, 0]]))
        >>> low, high = extent(tokens)
        >>> low.flatten().tolist(), high.flatten().tolist()
        ([0.0, 2.0], [3.0, 2.0])
    """
    source = tokens.source
    if places is None:
        places = torch.arange(source.shape[1], device=source.device).double().expand(source.shape)[..., None]
    if places.ndim != 3 or places.shape[:2] != source.shape:
        raise InputError(f"Expected 'places' of shape {(*source.shape, 'P')} (got {tuple(places.shape)}).")
    batch, count, axes = *tokens.sizes.shape, places.shape[2]
    index = flat_labels(source, count)[:, None].expand(-1, axes)
    corners = []
    for reduce in ("amin", "amax"):
        table = places.new_zeros(batch * count + 1, axes)
        table = table.scatter_reduce(0, index, places.flatten(0, 1), reduce, include_self=False)
        corners.append(table[:-1].unflatten(0, (batch, count)))
    return corners[0], corners[1]


def _mean_groups(values: Tensor, weights: Tensor, totals: Tensor, index: Tensor) -> Tensor:
    """Weighted mean of each group, in float32 or better; a token alone in its group comes out bit-equal."""
    wide = torch.promote_types(values.dtype, torch.float32)
    totals = torch.where(totals > 0, totals, 1)
    if _all_alike(
        weights, totals, index
    ):  # tokens of one size, as every tokenizer makes them: one pass less over the features
        members = (totals / weights.max()).to(wide)
        return (sum_groups(values.to(wide), index, totals.shape[1]) / members[..., None]).to(values.dtype)
    share = weights.to(wide) / torch.cat([totals.flatten(), totals.new_ones(1)])[index].view_as(weights)
    return sum_groups(values.to(wide) * share[..., None], index, totals.shape[1]).to(values.dtype)


def _all_alike(sizes: Tensor, totals: Tensor, index: Tensor) -> bool:
    """Whether all tokens that are in a group are of one size, where that can be seen without stalling a device."""
    if not can_look(sizes) or sizes.requires_grad:
        return False
    return bool(((sizes == sizes.max()).flatten() | (index == totals.numel())).all())


def _with_norm(mean: Tensor, norm: Tensor) -> Tensor:
    """The direction of `mean` with this norm; members that cancel to nothing stay nothing."""
    own = _norms(mean)
    return (mean * (norm / torch.where(own > 0, own, 1))).to(mean.dtype)


def _norms(features: Tensor) -> Tensor:
    """Norms (B, N, 1), in float32 or better: a norm may be too large for the type of its features."""
    return torch.linalg.vector_norm(
        features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1, keepdim=True
    )


def _take_loudest(features: Tensor, index: Tensor, groups: int) -> Tensor:
    """The member of largest norm of each group, the first of equals."""
    batch, count, dim = features.shape
    norms = _norms(features.detach()).nan_to_num(torch.inf).view(batch, count)
    first = first_lowest(-norms, index, groups)
    taken = features.flatten(0, 1)[first.clamp(max=batch * count - 1)]
    return taken.masked_fill((first == batch * count)[:, None], 0).view(batch, groups, dim)


def _take_labels(labels: Tensor, source: Tensor) -> Tensor:
    """The group of each source element; -1 stays -1."""
    taken = labels.gather(1, source.clamp(min=0))
    return taken.masked_fill_(source < 0, -1)


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
