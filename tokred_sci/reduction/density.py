"""Density-based grouping: dense places in feature space become groups, wherever in the record they stand."""

import torch
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.reduction.rows import Rows, best, blocks
from tokred_sci.tokens import Grouping, Tokens


def peaks(metric: Tensor, tokens: Tokens, keep: int | Tensor, neighbours: int = 5) -> Grouping:
    """Density peaks: tokens that are dense and far from anything denser become centres; others join the nearest.

    The density of a token is exp(-mean squared distance to its `neighbours` nearest tokens, itself included); its
    separation is the distance to the nearest denser token; centres are the `keep` highest products. Distances are in
    units of the record's own spread, so the scale of the metric does not matter.
    Law: exactly `keep` groups, numbered in token order of their centres; deterministic (ties go to the lower
    index). Global: groups need not be contiguous. O(N^2 D) time, O(N) memory.

    Args:
        metric: what Euclidean distance is measured on, (B, N, D).
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,).
        neighbours: nearest tokens the density looks at; a shorter record uses all it has.

    Raises:
        InputError: `keep` outside [1, tokens of the record], or no neighbours.

    References: Clustering by fast search and find of density peaks (Rodriguez & Laio, 2014),
    https://doi.org/10.1126/science.1242072; with k nearest neighbours for tokens: TCFormer (Zeng et al., 2022),
    https://arxiv.org/abs/2204.08680, without its random tie-breaking noise.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[0.0], [5.0], [0.1], [5.3], [0.3]]])
        >>> tokens = Tokens(x, torch.arange(5.0).view(1, 5, 1), torch.ones(1, 5), torch.arange(5)[None])
        >>> peaks(x, tokens, keep=2, neighbours=3).labels
        tensor([[1, 0, 1, 0, 1]])
    """
    if not isinstance(neighbours, int) or neighbours < 1:
        raise InputError(f"Expected 'neighbours' as an int >= 1 (got {neighbours!r}).")
    rows = Rows.of(metric, tokens, keep)
    x, mask, counts = rows.metric, rows.mask, rows.counts
    batch, length, dim = x.shape
    x = (x - x.sum(1, keepdim=True) / counts.clamp(min=1)[:, None, None]).masked_fill(~mask[..., None], 0)
    spread = torch.linalg.vecdot(x, x).sum(1) / counts.clamp(min=1)  # mean squared distance to the mean
    x = x / torch.where(spread > 0, spread, 1).sqrt()[:, None, None]
    half = torch.linalg.vecdot(x, x).div(2).masked_fill(~mask, torch.inf)  # padding is infinitely far away

    near = x.new_empty(batch, length, min(neighbours, length))
    for records, part in blocks(batch, length, length):
        near[records, part] = _minus_half_squares(x, half, records, part, x, half).topk(near.shape[2], sorted=False)[0]
    near = near.clamp(max=0).masked_fill(near.isinf(), 0)  # a record with fewer neighbours: what it has
    density = (2 * near.sum(2) / counts.clamp(1, neighbours)[:, None]).masked_fill(~mask, -torch.inf)  # its logarithm

    order = density.argsort(dim=1, descending=True, stable=True)  # from here on tokens are sorted by density
    x, half = x.gather(1, order[..., None].expand_as(x)), half.gather(1, order)
    separation = x.new_zeros(batch, length)
    for records, part in blocks(batch, length, length):
        denser = _minus_half_squares(x, half, records, part, x[:, : part.stop], half[:, : part.stop])
        rank = torch.arange(part.stop, device=x.device)
        denser.masked_fill_(rank >= rank[part, None], -torch.inf)
        separation[records, part] = (-2 * denser.amax(2)).clamp(min=0).sqrt()
    separation = separation.masked_fill(half.isinf(), 0)
    farthest = separation[:, 1:].amax(1).clamp(min=1) if length > 1 else 1.0
    separation[:, 0] = farthest
    score = (separation.log() + density.gather(1, order)).masked_fill(half.isinf(), -torch.inf)
    score[:, 0] = torch.inf  # the densest token is always a centre

    scores = torch.empty_like(score).scatter_(1, order, score)
    is_centre = best(scores, rows.keep)
    centre = (~is_centre).to(torch.uint8).argsort(dim=1, stable=True)[:, : rows.num_groups]  # in token order
    x = torch.empty_like(x).scatter_(1, order[..., None].expand_as(x), x)  # back in token order
    half = torch.empty_like(half).scatter_(1, order, half)
    at, half_at = x.gather(1, centre[..., None].expand(-1, -1, dim)), half.gather(1, centre)
    missing = torch.arange(centre.shape[1], device=x.device) >= rows.keep[:, None]
    half_at = half_at.masked_fill(missing, torch.inf)
    labels = torch.empty_like(order)
    for records, part in blocks(batch, length, centre.shape[1]):
        labels[records, part] = _minus_half_squares(x, half, records, part, at, half_at).argmax(2)
    return rows.grouping(torch.where(is_centre, is_centre.long().cumsum(1) - 1, labels))


def cover(metric: Tensor, tokens: Tokens, keep: int | Tensor, radius: float | None = None) -> Grouping:
    """Greedy epsilon-net: the token farthest from all centres becomes the next centre; others join the nearest.

    Law: exactly `keep` groups, or with `radius` as few of them as it takes to bring every token within `radius` of its
    centre; numbered in token order of their centres; deterministic (ties go to the lower index). The largest distance
    to a centre is at most twice the best that `keep` centres could do, and with `radius` the number of groups is at
    most the packing number of the metric's range: it does not grow with length. Global; O(N keep D) time, O(N) memory.

    Args:
        metric: what is compared, (B, N, D), by Euclidean distance of the directions (2 - 2 cosine, squared).
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,); the upper bound if `radius` is given.
        radius: distance in (0, 2] at which no further centre is needed.

    Raises:
        InputError: `keep` outside [1, tokens of the record], or no such radius.

    Reference: Clustering to minimize the maximum intercluster distance (Gonzalez, 1985),
    https://doi.org/10.1016/0304-3975(85)90224-5.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]]])
        >>> tokens = Tokens(x, torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> cover(x, tokens, keep=2).labels, cover(x, tokens, keep=4, radius=0.5).labels
        (tensor([[0, 1, 0, 1]]), tensor([[0, 1, 0, 1]]))
    """
    if radius is not None and not 0 < radius <= 2:
        raise InputError(f"Expected 'radius' in (0, 2] (got {radius!r}): it is a distance of unit vectors.")
    rows = Rows.of(metric, tokens, keep)
    unit, mask = rows.unit(), rows.mask
    records = torch.arange(len(unit), device=unit.device)
    distance = torch.where(mask, torch.inf, -torch.inf)  # squared, to the nearest centre; -inf = cannot become one
    nearest = torch.zeros_like(mask, dtype=torch.long)
    centre_of = torch.full((len(unit), rows.num_groups), -1, device=unit.device)
    for group in range(rows.num_groups):
        far = distance.argmax(1)
        wanted = group < rows.keep
        if radius is not None and group:
            wanted &= distance[records, far] > radius**2
        here = (unit - unit[records, far][:, None]).square().sum(-1)
        here[records, far] = -1.0  # a centre is its own, whatever ties with it
        closer = (here < distance) & mask & wanted[:, None]
        distance = torch.where(closer, here, distance)
        nearest = torch.where(closer, group, nearest)
        centre_of[:, group] = torch.where(wanted, far, -1)
    opened = centre_of.masked_fill(centre_of < 0, unit.shape[1])  # unopened ones last
    rank = opened.argsort(dim=1, stable=True).argsort(dim=1)  # in token order of the centres
    return rows.grouping(rank.gather(1, nearest))


def _minus_half_squares(x: Tensor, half: Tensor, records: slice, part: slice, y: Tensor, half_y: Tensor) -> Tensor:
    """-|x_i - y_j|^2 / 2 for a block of rows, from one product: the larger, the nearer; -inf to padding."""
    product = x[records, part] @ y[records].mT
    own = half[records, part, None]
    return product.sub_(half_y[records, None]).sub_(own.masked_fill(own.isinf(), 0))
