"""Grouping by where tokens are: cells, bins along a space-filling curve, farthest points."""

import torch
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.reduction.density import farthest_first
from tokred_sci.reduction.near import CHUNK
from tokred_sci.reduction.rows import Keep, Rows, best, in_token_order, take, unit
from tokred_sci.tokens import Grouping, Tokens, can_look

BITS = 20  # per axis of a curve key: three axes fill 60 bits of an int64


def voxel(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, edge: float | None = None) -> Grouping:
    """Occupancy grid: tokens in one cell are a group, at the finest resolution that meets the budget.

    Law: at most `keep` groups, numbered by their first token; with `edge` the cells are that wide, or wider if they
    are more than `keep`. The grid starts at the record's lowest corner.
    Facts: local in space; order of first tokens; count at most keep, follows the data; O(N log N) time for each of
    about 40 resolutions, O(N) memory.

    Args:
        metric: not looked at; only its shape is checked.
        tokens: the batch; its positions say who shares a cell.
        keep: the upper bound of groups per record, an int or (B,).
        edge: width of a cell, in the unit of the positions.

    Raises:
        InputError: `keep` outside [1, tokens of the record], no such width, or more than 2^20 cells along an axis.

    Reference: 3D is here: Point Cloud Library (Rusu & Cousins, 2011), https://doi.org/10.1109/ICRA.2011.5980567, its
    voxel grid filter.

    Example:
        >>> import torch
        >>> places = torch.tensor([0.0, 1.0, 9.0, 10.0]).view(1, 4, 1)
        >>> tokens = Tokens(places, places, torch.ones(1, 4), torch.arange(4)[None])
        >>> voxel(places, tokens, keep=2).labels, voxel(places, tokens, keep=4, edge=2.0).labels
        (tensor([[0, 0, 1, 1]]), tensor([[0, 0, 1, 2]]))
    """
    if edge is not None and not edge > 0:
        raise InputError(f"Expected 'edge' > 0 (got {edge!r}): it is the width of a cell.")
    rows = Rows.of(metric, tokens, keep)
    places, _, extent = _from_corner(rows)
    widest = extent.amax(1).clamp(min=torch.finfo(places.dtype).tiny)
    cells_per_edge = torch.full_like(widest, 0.5)  # the finest number of cells along the longest side known to fit
    too_fine = widest.new_full(widest.shape, 2.0**BITS)
    if edge is not None:
        _check_cells(widest / edge)
        too_fine = (widest / edge).clamp(min=0.5)
        fits = _cells(places, rows, widest / too_fine).amax(1) < rows.keep
        cells_per_edge = torch.where(fits, too_fine, cells_per_edge)
    for _ in range(40):
        middle = (cells_per_edge * too_fine).sqrt()
        fits = _cells(places, rows, widest / middle).amax(1) < rows.keep
        cells_per_edge = torch.where(fits, middle, cells_per_edge)
        too_fine = torch.where(fits, too_fine, middle)
    return rows.grouping(in_token_order(_cells(places, rows, widest / cells_per_edge), places.shape[1]))


def bins(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, size: int = 64) -> Grouping:
    """Bins along a space-filling curve that give up the more tokens the more alike their tokens are.

    Each bin holds about `size` neighbours on the curve. Its energy is the mean cosine similarity of its tokens to
    their mean; places are shared out among bins by 1 - energy, at least one each. In a bin the tokens at even
    distances are kept, and every other joins the most similar of them.
    Law: exactly `keep` groups, each inside one bin; numbered by their first token. With fewer places than bins the
    bins grow.
    Facts: local in space; order of first tokens; count exact; O(N size D) time, O(N size) memory.

    Args:
        metric: what cosine similarity is measured on, (B, N, D).
        tokens: the batch; its positions make the curve.
        keep: groups per record, an int or (B,).
        size: tokens in a bin.

    Raises:
        InputError: `keep` outside [1, tokens of the record], or no such size.

    Reference: How Many Tokens Do 3D Point Cloud Transformer Architectures Really Need? (Tran et al., 2025),
    https://arxiv.org/abs/2511.05449, with an exact budget in place of its two fixed rates.

    Example:
        >>> import torch
        >>> places = torch.arange(4.0).view(1, 4, 1)
        >>> x = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
        >>> tokens = Tokens(x, places, torch.ones(1, 4), torch.arange(4)[None])
        >>> bins(x, tokens, keep=3, size=2).labels
        tensor([[0, 0, 1, 2]])
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InputError(f"Expected 'size' as an int >= 1 (got {size!r}).")
    rows = Rows.of(metric, tokens, keep)
    order = along_curve(rows).argsort(dim=1, stable=True)
    x = take(rows.unit(), order)
    labels = torch.full_like(order, -1)
    for record, (count, wanted) in enumerate(zip(rows.counts.tolist(), rows.keep.tolist(), strict=True)):
        if count:
            width = -(-count // min(-(-count // size), wanted))
            found = _in_bins(x[record, :count], wanted, width)
            labels[record, order[record, :count]] = found
    return rows.grouping(in_token_order(labels, rows.num_groups))


def fps(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep) -> Grouping:
    """Farthest point sampling in space: an even spread of centres, whatever tokens say; others join the nearest.

    Law: exactly `keep` groups, numbered in token order of their centres.
    Facts: local in space; order of centres; count exact; O(N keep) time, O(N) memory; a control.

    Args:
        metric: not looked at; only its shape is checked.
        tokens: the batch; its positions are what is spread.
        keep: groups per record, an int or (B,).

    Raises:
        InputError: `keep` outside [1, tokens of the record].

    Reference: PointNet++ (Qi et al., 2017), https://arxiv.org/abs/1706.02413.

    Example:
        >>> import torch
        >>> places = torch.tensor([0.0, 1.0, 9.0, 10.0]).view(1, 4, 1)
        >>> tokens = Tokens(places, places, torch.ones(1, 4), torch.arange(4)[None])
        >>> fps(places, tokens, keep=2).labels
        tensor([[0, 0, 1, 1]])
    """
    rows = Rows.of(metric, tokens, keep)
    return farthest_first(_from_corner(rows)[0], rows, None)


def along_curve(rows: Rows) -> Tensor:
    """Key of each token along the Morton curve of the record's own box, (B, N) int64; padding comes last.

    With one axis this is the order of places. Reference: Morton, 1966, as in Point Transformer V3 (Wu et al., 2024),
    https://arxiv.org/abs/2312.10035.
    """
    places, _, extent = _from_corner(rows)
    scale = (2**BITS - 1) / extent.amax(1).clamp(min=torch.finfo(places.dtype).tiny)
    cells = (places * scale[:, None, None]).clamp(0, 2**BITS - 1).long()
    if cells.shape[2] == 1:
        key = cells[..., 0]
    else:
        key = torch.zeros_like(cells[..., 0])
        for axis in range(cells.shape[2]):
            key |= _every_third_bit(cells[..., axis]) << axis
    return key.masked_fill(~rows.mask, torch.iinfo(torch.int64).max)


def _every_third_bit(x: Tensor) -> Tensor:
    """Move bit i of a number below 2^21 to bit 3 i."""
    for step, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        x = (x | x << step) & mask
    return x


def _from_corner(rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Places from the record's lowest corner, that corner, and the box's extent; 0 in padding, and for NaN."""
    places, mask = rows.positions.nan_to_num(0, 0, 0), rows.mask[..., None]
    low = places.masked_fill(~mask, torch.inf).amin(1, keepdim=True).nan_to_num(0, 0, 0)
    places = (places - low).masked_fill(~mask, 0)
    return places, low, places.amax(1)


def grid(rows: Rows, edge: Tensor) -> Tensor:
    """Number of each token's occupied cell, (B, N), for cells of each record's edge (B,); -1 for padding.

    Raises:
        InputError: more than 2^20 cells along an axis.
    """
    places, _, extent = _from_corner(rows)
    _check_cells(extent.amax(1) / edge)
    return _cells(places, rows, edge)


def _check_cells(number: Tensor) -> None:
    if can_look(number) and bool((number > 2.0**BITS).any()):
        raise InputError(
            f"Expected at most {2**BITS:,} cells along an axis (got {float(number.max()):,.0f}): make them wider."
        )


def _cells(places: Tensor, rows: Rows, edge: Tensor) -> Tensor:
    """Number of each token's occupied cell, from 0 in order of the grid, (B, N); -1 for padding."""
    cells = (places / edge[:, None, None]).floor().clamp(max=2.0**BITS).long()
    sides = cells.amax(1) + 1
    key = torch.zeros_like(cells[..., 0])
    for axis in range(cells.shape[2]):
        key = key * sides[:, None, axis] + cells[..., axis]
    key, order = key.masked_fill(~rows.mask, torch.iinfo(torch.int64).max).sort(dim=1, stable=True)
    new = torch.nn.functional.pad((key[:, 1:] != key[:, :-1]).long(), (1, 0)).cumsum(1)
    return torch.empty_like(new).scatter_(1, order, new).masked_fill(~rows.mask, -1)


def _in_bins(x: Tensor, keep: int, width: int) -> Tensor:
    """Labels (N,) for unit vectors in curve order, in bins of `width`."""
    count, dim = x.shape
    number = -(-count // width)
    padded = torch.nn.functional.pad(x, (0, 0, 0, number * width - count)).view(number, width, dim)
    real = (torch.arange(number * width, device=x.device) < count).view(number, width)
    sizes = real.sum(1)
    alike = torch.linalg.vecdot(padded, unit(padded.sum(1))[:, None]).sum(1) / sizes
    slot = torch.arange(width, device=x.device)
    seats = ((1 - alike).clamp(min=1e-3)[:, None] / (slot + 0.5)).masked_fill(~real | (slot == 0), -torch.inf)
    taken = best(seats.view(1, -1), torch.tensor([keep - number], device=x.device)).view(number, width)
    places = 1 + taken.sum(1)
    at = slot * places[:, None] // sizes[:, None]  # which place each slot falls to, if it is by distance alone
    first = torch.cat([at[:, :1] * 0 + 1, (at[:, 1:] != at[:, :-1]).long()], 1).bool() & real  # kept tokens
    labels = torch.empty(number, width, dtype=torch.long, device=x.device)
    step = max(1, (CHUNK << 15) // width**2)
    for start in range(0, number, step):
        part = slice(start, start + step)
        scores = padded[part] @ padded[part].mT
        scores = scores.masked_fill(~first[part, None], -torch.inf)
        value, near = scores.max(2)
        favourite = (first[part].long().cumsum(1) - 1).clamp(min=0)
        centre = (~first[part]).to(torch.uint8).argsort(dim=1, stable=True).gather(1, favourite)
        tied = scores.gather(2, centre[..., None])[..., 0] >= value - 8 * torch.finfo(x.dtype).eps
        joined = torch.where(first[part], slot, torch.where(tied, centre, near))
        labels[part] = (first[part].long().cumsum(1) - 1).gather(1, joined)
    labels += torch.nn.functional.pad(places, (1, 0)).cumsum(0)[:-1, None]
    return labels.view(-1)[:count]
