"""Where merging may happen: any grouping function, within parts of a record, or with some tokens left alone.

    within(peaks, windows(64))     density peaks inside windows of 64 tokens: linear cost
    within(bipartite, cells(2.0))  no two tokens of a group more than 2 metres apart
    protect(links, loudest(0.1))   the tenth of the tokens with the largest norms stays as it is

Each returns a grouping function like the one it was given.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.reduction.control import none
from tokred_sci.reduction.merge import merge
from tokred_sci.reduction.rows import Keep, Rows, best, in_token_order, last_chosen
from tokred_sci.reduction.space import along_curve, grid
from tokred_sci.tokens import Grouping, Tokens, can_look

AT_ONCE = 1 << 16  # tokens of a part handed on together: small enough to reuse memory that is still in the cache

Group = Callable[[Tensor, Tokens, int | Tensor | Keep], Grouping]
"""`(metric, tokens, keep) -> Grouping`."""


class Parts(NamedTuple):
    """A division of each record, with bounds that say how large a table holds it.

    Attributes:
        part: number of each tidied token's part, (B, N), from 0.
        slot: its place within the part, (B, N).
        most: no record has more parts than this.
        size: no part has more tokens than this.
    """

    part: Tensor
    slot: Tensor
    most: int
    size: int


Divide = Callable[[Rows], Parts]


def windows(size: int, along: Literal["order", "curve"] = "order") -> Divide:
    """Windows of `size` neighbours in token order, or along a space-filling curve of the positions.

    No two tokens of a group are then more than `size - 1` places apart in that order, in one merging step.

    Raises:
        InputError: no such size or order.
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 2 or along not in ("order", "curve"):
        raise InputError(f"Expected 'size' >= 2 and 'along' to be 'order' or 'curve' (got {size!r} and {along!r}).")

    def divide(rows: Rows) -> Parts:
        place = rows.places()
        if along == "curve":
            place = along_curve(rows).argsort(dim=1, stable=True).argsort(dim=1)
        return Parts(place // size, place % size, -(-rows.mask.shape[1] // size), min(size, rows.mask.shape[1]))

    return divide


def cells(radius: float) -> Divide:
    """Cells in space, so narrow that no two tokens of a group are farther apart than `radius`, in the positions' unit.

    Raises:
        InputError: no such radius.
    """
    if not radius > 0:
        raise InputError(f"Expected 'radius' > 0 (got {radius!r}): it is in the unit of the positions.")

    def divide(rows: Rows) -> Parts:
        edge = torch.full_like(rows.positions[:, 0, 0], radius / math.sqrt(rows.positions.shape[2]))
        part = grid(rows, edge).masked_fill(~rows.mask, rows.mask.shape[1])
        part, order = part.sort(dim=1, stable=True)
        first = last_chosen(F.pad(part[:, 1:] != part[:, :-1], (1, 0), value=True))
        slot = torch.empty_like(part).scatter_(1, order, rows.places() - first)
        part = torch.empty_like(part).scatter_(1, order, part)
        real = part.masked_fill(~rows.mask, -1)
        return Parts(part, slot, max(1, int(real.max()) + 1), max(1, int(slot.masked_fill(~rows.mask, 0).max()) + 1))

    return divide


def within(group: Group, divide: Divide) -> Group:
    """Let `group` work inside parts of each record only: groups never cross from one part to another.

    The budget is shared out evenly, at least one group to each part. Where it is smaller than the number of windows,
    tokens are first merged to a quarter within theirs, and those within new windows, until it fits: cost stays
    linear in length for any budget.
    Law: the groups of each part are those of the part as a record of its own; numbered by their first token.

    Args:
        group: any grouping function; options by `functools.partial`.
        divide: `windows(...)` or `cells(...)`.

    Raises:
        InputError: (by the function) fewer groups wanted than there are cells.

    Example:
        >>> import torch
        >>> from tokred_sci.reduction.density import peaks
        >>> x = torch.tensor([[[0.0], [5.0], [0.1], [5.3], [5.2], [0.3]]])
        >>> tokens = Tokens(x, torch.arange(6.0).view(1, 6, 1), torch.ones(1, 6), torch.arange(6)[None])
        >>> within(peaks, windows(3))(x, tokens, 4).labels
        tensor([[0, 1, 0, 2, 2, 3]])
    """

    if group is none:  # it is everywhere the same, whatever 'keep' says
        return group

    def grouped(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep) -> Grouping:
        rows = Rows.of(metric, tokens, keep)
        state = _state(rows.metric, rows.positions, rows.sizes)
        wanted, labels = rows.room(), rows.places()
        weights: Tensor | None = None
        while True:
            now = Rows.of(state.features, state, Keep(state.counts, state.sizes.shape[1], 1.0))
            parts = divide(now)
            number = (parts.part.masked_fill(~now.mask, -1).amax(1) + 1).clamp(min=0)
            enough = bool((number <= wanted.each).all()) if can_look(metric) else parts.most <= wanted.most
            if enough:
                target = torch.minimum(wanted.each, now.counts)
            else:
                quarter = -(-now.counts // 4)
                target = torch.maximum(torch.maximum(torch.minimum(wanted.each, now.counts), quarter), number)
                if can_look(metric) and bool((target == now.counts).all()):
                    raise InputError(
                        f"Expected 'keep' to leave a group to each part (got {int(number.max())} parts that groups may "
                        "not cross): keep more, or use a larger radius or window."
                    )
            most = wanted.most if enough else max(wanted.most, -(-now.mask.shape[1] // 4), parts.most)
            step = _in_parts(group, now, parts, number, target, min(most, now.mask.shape[1]))
            if step.weights is not None:  # of the token in its group, times that of the group in the next
                weights = step.weights.gather(1, labels.clamp(min=0)) * (1 if weights is None else weights)
            labels = torch.where(labels < 0, -1, step.labels.gather(1, labels.clamp(min=0)))
            if enough:
                return rows.grouping(labels, weights)
            state = merge(state, step)

    return grouped


def loudest(share: float) -> Callable[[Tensor, Tokens], Tensor]:
    """For `protect`: this share of each record's tokens, rounded down, those with the largest norm of the metric."""
    if not 0 <= share < 1:
        raise InputError(f"Expected 'share' in [0, 1) (got {share!r}).")

    def which(metric: Tensor, tokens: Tokens) -> Tensor:
        norms = torch.linalg.vector_norm(metric.detach().float(), dim=2).masked_fill(~tokens.mask, -torch.inf)
        return best(norms, (tokens.counts * share).long())

    return which


def protect(group: Group, which: Tensor | Callable[[Tensor, Tokens], Tensor]) -> Group:
    """Leave some tokens alone: each stays a group of its own, `group` shares out the rest of the budget.

    Law: exactly what `group` does to the record without these tokens; numbered by their first token. Runs of
    neighbours close over a protected token.

    Args:
        group: any grouping function; options by `functools.partial`.
        which: (B, N) True for tokens to protect, or a function `(metric, tokens)` that says so, as `loudest(0.1)`.

    Raises:
        InputError: (by the function) more protected tokens than `keep`, or none left for the others.

    Example:
        >>> import torch
        >>> from tokred_sci.reduction.chain import links
        >>> x = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
        >>> tokens = Tokens(x, torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> protect(links, torch.tensor([[False, True, False, False]]))(x, tokens, 3).labels
        tensor([[0, 1, 0, 2]])
    """

    if group is none:
        return group

    def grouped(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep) -> Grouping:
        rows = Rows.of(metric, tokens, keep)
        alone = which(metric, tokens) if callable(which) else which
        if alone.shape != tokens.sizes.shape or alone.dtype != torch.bool:
            raise InputError(
                f"Expected protected tokens as bool of shape {tuple(tokens.sizes.shape)} "
                f"(got {alone.dtype} of shape {tuple(alone.shape)})."
            )
        alone = alone & tokens.mask
        number = alone.sum(1)
        others = tokens.counts - number
        left = rows.keep - number
        if can_look(metric) and bool(((left < 0) | (left == 0) & (others > 0)).any()):
            record = int((left - (others > 0).long()).argmin())
            raise InputError(
                f"Expected 'keep' of at least {int(number[record] + (others[record] > 0))} (got "
                f"{int(rows.keep[record])}): record {record} has {int(number[record])} protected tokens and "
                f"{int(others[record])} others. Protect fewer, or keep more."
            )
        rest = replace(tokens, sizes=tokens.sizes.masked_fill(alone, 0))
        found = group(metric, rest, Keep(left, rows.num_groups, tokens.sizes.shape[1]))
        mine = found.num_groups + alone.long().cumsum(1) - 1
        labels = in_token_order(torch.where(alone, mine, found.labels), found.num_groups + alone.shape[1])
        weights = None if found.weights is None else found.weights.masked_fill(alone, 1)
        return Grouping(labels, rows.num_groups, weights)

    return grouped


def _in_parts(group: Group, rows: Rows, parts: Parts, number: Tensor, target: Tensor, most: int) -> Grouping:
    """Group each part as a record of its own, with the places left after one each shared out evenly."""
    batch, length = rows.mask.shape
    seats = torch.full_like(rows.sizes, -torch.inf).where(parts.slot == 0, 1 / (parts.slot + 0.5))
    taken = best(seats.masked_fill(~rows.mask, -torch.inf), (target - number).clamp(min=0))
    row = torch.arange(batch, device=rows.mask.device)[:, None] * parts.most + parts.part
    row = torch.where(rows.mask, row, batch * parts.most)  # padding goes to a row that is cut off
    shares = target.new_zeros(batch * parts.most + 1)
    shares = shares.scatter_add(0, row.flatten(), (taken | (parts.slot == 0)).flatten().long())[:-1]
    place = torch.where(rows.mask, row * parts.size + parts.slot, batch * parts.most * parts.size).flatten()

    straight = rows.full and length == parts.most * parts.size and bool((place.diff() == 1).all())

    def table(x: Tensor) -> Tensor:
        if straight:  # the windows lie one behind the other already
            return x.reshape(batch * parts.most, parts.size, *x.shape[2:])
        room = x.new_zeros(batch * parts.most * parts.size + 1, *x.shape[2:])
        return room.index_copy(0, place, x.flatten(0, 1))[:-1].unflatten(0, (batch * parts.most, parts.size))

    part = (table(rows.metric), table(rows.positions), table(rows.sizes), shares)
    height = max(1, AT_ONCE // parts.size)
    split = zip(*(x.split(height) for x in part), strict=True) if can_look(shares) else [part]
    found = [_group_parts(group, *some) for some in split]
    weights = None if found[0].weights is None else torch.cat([g.weights for g in found if g.weights is not None])
    first = shares.view(batch, parts.most).cumsum(1).sub(shares.view(batch, parts.most)).view(-1, 1)
    inside = torch.cat([g.labels for g in found])
    labels = torch.where(inside < 0, -1, inside + first)
    labels = F.pad(labels.flatten(), (0, 1), value=-1)[place].view(batch, length)
    if weights is not None:
        weights = F.pad(weights.flatten(), (0, 1))[place].view(batch, length)
    return Grouping(in_token_order(labels, most), most, weights)


def _group_parts(group: Group, metric: Tensor, positions: Tensor, sizes: Tensor, shares: Tensor) -> Grouping:
    """Group parts laid out as records of their own, each with its share of the budget."""
    return group(metric, _state(metric, positions, sizes), Keep(shares, sizes.shape[1], float(sizes.shape[1])))


def _state(metric: Tensor, positions: Tensor, sizes: Tensor) -> Tokens:
    """Tokens whose features are the metric, and that need no source."""
    return Tokens(metric, positions, sizes, torch.full((sizes.shape[0], 1), -1, device=sizes.device))
