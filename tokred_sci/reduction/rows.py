"""What every grouping function shares: `Rows`, the checked and tidied view of its arguments.

A method asks for its rows, finds labels with the padding out of the way, and hands them back:

    rows = Rows.of(metric, tokens, keep)
    ...
    return rows.grouping(labels)
"""

import os
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.tokens import Grouping, Tokens, can_look


class Keep(NamedTuple):
    """A budget fitted to each record, with two bounds that are known without looking at the device.

    Attributes:
        each: groups each record ends with, (B,).
        most: no record keeps more.
        rate: no record has more than this many tokens per group it keeps.
    """

    each: Int[Tensor, " B"]
    most: int
    rate: float


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Arguments of a grouping function, made safe: real tokens first, zeros in padding, no gradient.

    Attributes:
        metric: what similarity is measured on, (B, N, D), float32 or float64; 0 in padding.
        mask: (B, N), True for the first `counts[b]` tokens of each record.
        counts: real tokens of each record, (B,).
        keep: groups each record must end with, (B,); 0 for a record that is all padding.
        num_groups: the largest of `keep`.
        rate: the largest number of tokens per group.
        sizes: source elements of each token, (B, N).
        positions: (B, N, P); 0 in padding.
        order: where each row came from if tokens had to be moved, else None.
        full: known to hold no padding.
    """

    metric: Float[Tensor, "B N D"]
    mask: Bool[Tensor, "B N"]
    counts: Int[Tensor, " B"]
    keep: Int[Tensor, " B"]
    num_groups: int
    rate: float
    sizes: Float[Tensor, "B N"]
    positions: Float[Tensor, "B N P"]
    order: Int[Tensor, "B N"] | None
    full: bool

    @classmethod
    def of(cls, metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep) -> "Rows":
        """Check and tidy.

        Where values cannot be looked at (on a GPU that would stall the stream, in a traced graph they are unknown), a
        record with fewer tokens than `keep` keeps all it has, and a tensor without a bound gets N groups' room.

        Raises:
            InputError: a metric for other tokens, or a budget that some record cannot meet.
        """
        batch, length = tokens.sizes.shape
        if metric.ndim != 3 or metric.shape[:2] != (batch, length) or not metric.is_floating_point():
            raise InputError(
                f"Expected 'metric' as floats of shape ({batch}, {length}, D), one row per token "
                f"(got {str(metric.dtype).removeprefix('torch.')} of shape {tuple(metric.shape)})."
            )
        mask, sizes, positions, order = tokens.mask, tokens.sizes, tokens.positions.detach(), None
        counts = mask.sum(1)
        look = can_look(metric)
        fitted = _check_keep(keep, counts, length, look)
        metric = metric.detach()
        metric = metric.to(torch.promote_types(metric.dtype, torch.float32))
        full = look and bool(mask.all())
        if not full:
            if not look or bool((mask[:, 1:] & ~mask[:, :-1]).any()):
                order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
                mask, sizes = mask.gather(1, order), sizes.gather(1, order)
                metric, positions = take(metric, order), take(positions, order)
            metric = metric.masked_fill(~mask[..., None], 0)
            positions = positions.masked_fill(~mask[..., None], 0)
        return cls(metric, mask, counts, *fitted, sizes, positions, order, full)

    def grouping(self, labels: Int[Tensor, "B N"], weights: Tensor | None = None) -> Grouping:
        """Labels of the tidied rows as a `Grouping` of the original tokens; padding joins no group."""
        labels = labels.masked_fill(~self.mask, -1)
        if self.order is not None:
            labels = torch.empty_like(labels).scatter_(1, self.order, labels)
            weights = None if weights is None else torch.zeros_like(weights).scatter(1, self.order, weights)
        return Grouping(labels, self.num_groups, weights)

    def room(self) -> Keep:
        """The budget as it was asked for."""
        return Keep(self.keep, self.num_groups, self.rate)

    def places(self) -> Int[Tensor, "B N"]:
        """0, 1, 2 ... for each record."""
        return torch.arange(self.mask.shape[1], device=self.mask.device).expand(self.mask.shape)

    def unit(self) -> Float[Tensor, "B N D"]:
        """The metric scaled to length 1, for cosine similarity; a zero vector stays zero (similarity 0, not NaN)."""
        return unit(self.metric)

    def neighbours(self) -> Float[Tensor, "B M"]:
        """Cosine similarity of each token to the one after it; 0 with a zero vector, infinity beyond the last token."""
        lengths = dots(self.metric, self.metric).sqrt()
        lengths = torch.where(lengths > 0, lengths, 1)
        similar = dots(self.metric[:, :-1], self.metric[:, 1:]) / lengths[:, :-1] / lengths[:, 1:]
        return similar.masked_fill(~self.mask[:, 1:], torch.inf)

    def runs(self, cut: Bool[Tensor, "B M"]) -> Grouping:
        """The grouping whose groups are the runs of tokens between cuts."""
        return self.grouping(torch.nn.functional.pad(cut.long().cumsum(1), (1, 0)))


def unit(x: Tensor) -> Tensor:
    """Scaled to length 1; a zero vector stays zero."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(length > 0, length, 1)


def places(chosen: Bool[Tensor, "B N"], most: int) -> Int[Tensor, "B K"]:
    """The first `most` chosen places of each row, in order; a row with fewer goes on with places not chosen."""
    return (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]


def last_chosen(chosen: Bool[Tensor, "B N"]) -> Int[Tensor, "B N"]:
    """For each token the place of the last chosen one up to it, 0 where there is none."""
    at = torch.arange(chosen.shape[1], device=chosen.device).expand_as(chosen)
    return torch.where(chosen, at, 0).cummax(1).values


def take(x: Tensor, index: Int[Tensor, "B K"]) -> Tensor:
    """Rows of (B, N, D) at the places (B, K)."""
    start = torch.arange(x.shape[0], device=x.device)[:, None] * x.shape[1]
    return x.flatten(0, 1).index_select(0, (index + start).flatten()).unflatten(0, index.shape)


def in_token_order(labels: Int[Tensor, "B N"], groups: int) -> Int[Tensor, "B N"]:
    """The same groups, numbered by their first token; -1 stays."""
    count = labels.shape[1]
    index = torch.arange(count, device=labels.device).expand_as(labels)
    first = labels.new_full((labels.shape[0], groups + 1), count)
    first = first.scatter_reduce(1, labels.where(labels >= 0, groups), index, "amin")[:, :groups]
    rank = first.argsort(dim=1, stable=True).argsort(dim=1)
    return torch.where(labels < 0, -1, rank.gather(1, labels.clamp(min=0)))


def need_memory(amount: int, what: str) -> None:
    """Refuse before allocating what the machine does not have.

    Raises:
        InputError: with the estimate and the way out.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 8 << 30
    if amount > free:
        raise InputError(
            f"Expected at most {free / 2**30:.1f} GiB for {what} (it would need {amount / 2**30:,.1f} GiB): use it "
            "within windows, `within(method, windows(size))`, or a method of linear cost."
        )


def smaller(a: int, b: int) -> int:
    """The smaller number. Unlike `min` it decides while a graph is traced, so the graph keeps no symbol for it."""
    return a if a < b else b


def finite(x: Tensor) -> Tensor:
    """With 0 for what is not a finite number: for libraries that would fail on it."""
    return x if bool(x.sum().isfinite()) else x.nan_to_num(0, 0, 0)


def dots(a: Float[Tensor, "B N D"], b: Float[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
    """Dot product of each row of `a` with the same row of `b`, in pieces whose products stay in the cache."""
    if torch.compiler.is_compiling() or a.device.type != "cpu" or a.shape[1] == 0:
        return torch.linalg.vecdot(a, b)
    rows = max(1, (1 << 17) // (len(a) * a.shape[2]))
    pairs = zip(a.split(rows, 1), b.split(rows, 1), strict=True)
    return torch.cat([torch.linalg.vecdot(x, y) for x, y in pairs], 1)


def best(scores: Float[Tensor, "B N"], counts: Int[Tensor, " B"]) -> Bool[Tensor, "B N"]:
    """Mark the `counts[b]` highest scores of each row; of equal ones an even spread, so that no end is favoured.

    NaN comes last; minus infinity is for what must not be chosen.

    Example:
        >>> import torch
        >>> best(torch.tensor([[1.0, 3.0, 3.0, 2.0, 2.0]]), torch.tensor([3]))
        tensor([[False,  True,  True, False,  True]])
    """
    if scores.shape[1] == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    scores = scores.nan_to_num(torch.finfo(scores.dtype).min, torch.inf, -torch.inf)
    lowest = _highest(scores, counts)
    above, level = scores > lowest, scores == lowest
    wanted, equals = (counts - above.sum(1))[:, None] + 1, level.sum(1, keepdim=True) + 1
    rank = level.cumsum(1)
    return above | level & (rank * wanted // equals > (rank - 1) * wanted // equals)


def _highest(scores: Tensor, counts: Tensor) -> Tensor:
    """The score of rank `counts[b]` in each row, (B, 1)."""
    if can_look(scores) and bool((counts == counts[0]).all()):  # one selection is several times faster than a sort
        return scores.topk(max(1, int(counts[0])), dim=1, sorted=False).values.amin(1, keepdim=True)
    return scores.sort(dim=1, descending=True).values.gather(1, (counts - 1).clamp(min=0)[:, None])


def _check_keep(keep: int | Tensor | Keep, counts: Tensor, length: int, look: bool) -> Keep:
    if isinstance(keep, Keep):
        fitted = keep
    elif isinstance(keep, Tensor):
        fitted = Keep(keep, length, length)
    elif isinstance(keep, int) and not isinstance(keep, bool):
        fitted = Keep(torch.full_like(counts, keep), max(1, keep), length / max(1, keep))
    else:
        raise InputError(f"Expected 'keep' as an int or an integer tensor (got {keep!r}): for a share, use a ratio.")
    each = fitted.each
    if each.shape != counts.shape or each.is_floating_point() or each.dtype == torch.bool:
        raise InputError(
            f"Expected 'keep' as an int or an integer tensor of shape ({len(counts)},), one number per record "
            f"(got {str(each.dtype).removeprefix('torch.')} of shape {tuple(each.shape)})."
        )
    each = each.to(counts)
    if not look:
        return Keep(torch.minimum(each, counts), fitted.most, fitted.rate)
    impossible = ((each < 1) | (each > counts)) & (counts > 0)
    if bool(impossible.any()):
        record = int(impossible.int().argmax())
        have, asked = int(counts[record]), int(each[record])
        raise InputError(
            f"Expected 'keep' in [1, {have}] (got {asked}): record {record} has {have} tokens and cannot keep "
            f"{'more' if asked > have else 'fewer than one'}. Change 'keep', or use a budget "
            "(constant, ratio), which fits itself to each record."
        )
    each = torch.minimum(each, counts)
    most = keep if isinstance(keep, int) else max(1, int(each.max()))
    return Keep(each, most, float((counts / each.clamp(min=1)).max()))
