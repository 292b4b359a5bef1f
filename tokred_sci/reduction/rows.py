"""What every grouping function shares: `Rows`, the checked and tidied view of its arguments.

A method asks for its rows, finds labels with the padding out of the way, and hands them back:

    rows = Rows.of(metric, tokens, keep)
    ...
    return rows.grouping(labels)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.tokens import Grouping, Tokens


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Arguments of a grouping function, made safe: real tokens first, zeros in padding, no gradient.

    Attributes:
        metric: what similarity is measured on, (B, N, D), float32 or float64; 0 in padding.
        mask: (B, N), True for the first `counts[b]` tokens of each record.
        counts: real tokens of each record, (B,).
        keep: groups each record must end with, (B,); 0 for a record that is all padding.
        num_groups: the largest of `keep`.
        sizes: source elements of each token, (B, N).
        order: where each row came from if tokens had to be moved, else None.
    """

    metric: Float[Tensor, "B N D"]
    mask: Bool[Tensor, "B N"]
    counts: Int[Tensor, " B"]
    keep: Int[Tensor, " B"]
    num_groups: int
    sizes: Float[Tensor, "B N"]
    order: Int[Tensor, "B N"] | None

    @classmethod
    def of(cls, metric: Tensor, tokens: Tokens, keep: int | Tensor) -> "Rows":
        """Check and tidy.

        Raises:
            InputError: a metric for other tokens, or a budget that some record cannot meet.
        """
        batch, length = tokens.sizes.shape
        if metric.ndim != 3 or metric.shape[:2] != (batch, length) or not metric.is_floating_point():
            raise InputError(
                f"Expected 'metric' as floats of shape ({batch}, {length}, D), one row per token "
                f"(got {str(metric.dtype).removeprefix('torch.')} of shape {tuple(metric.shape)})."
            )
        mask, sizes, order = tokens.mask, tokens.sizes, None
        counts = mask.sum(1)
        budget = _check_keep(keep, counts)
        metric = metric.detach()
        metric = metric.to(torch.promote_types(metric.dtype, torch.float32))
        if metric.device.type != "cpu" or not bool(mask.all()):
            if metric.device.type != "cpu" or bool((mask[:, 1:] & ~mask[:, :-1]).any()):
                order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
                mask, sizes = mask.gather(1, order), sizes.gather(1, order)
                metric = metric.gather(1, order[..., None].expand_as(metric))
            metric = metric.masked_fill(~mask[..., None], 0)
        most = keep if isinstance(keep, int) else max(1, int(budget.max()))
        return cls(metric, mask, counts, budget, most, sizes, order)

    def grouping(self, labels: Int[Tensor, "B N"]) -> Grouping:
        """Labels of the tidied rows as a `Grouping` of the original tokens; padding joins no group."""
        labels = labels.masked_fill(~self.mask, -1)
        if self.order is not None:
            labels = torch.empty_like(labels).scatter_(1, self.order, labels)
        return Grouping(labels, self.num_groups)

    def unit(self) -> Float[Tensor, "B N D"]:
        """The metric scaled to length 1, for cosine similarity; a zero vector stays zero (similarity 0, not NaN)."""
        length = torch.linalg.vector_norm(self.metric, dim=-1, keepdim=True)
        return self.metric / torch.where(length > 0, length, 1)


def best(scores: Float[Tensor, "B N"], counts: Int[Tensor, " B"]) -> Bool[Tensor, "B N"]:
    """Mark the `counts[b]` highest scores of each row; ties go to the lower index.

    Example:
        >>> import torch
        >>> best(torch.tensor([[1.0, 3.0, 3.0, 2.0]]), torch.tensor([2]))
        tensor([[False,  True,  True, False]])
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    chosen = torch.arange(scores.shape[1], device=scores.device) < counts[:, None]
    return torch.zeros_like(chosen).scatter_(1, order, chosen)


def blocks(batch: int, rows: int, columns: int, floats: int = 1 << 21) -> Iterator[tuple[slice, slice]]:
    """Cut a (batch, rows, columns) product into (records, rows) blocks of at most about `floats` numbers.

    Many short records share a block, one long record gets many: no method ever holds N x N.
    """
    records = max(1, floats // (rows * columns))
    height = rows if records > 1 else max(16, min(rows, floats // columns))
    for record in range(0, batch, records):
        for row in range(0, rows, height):
            yield slice(record, min(record + records, batch)), slice(row, min(row + height, rows))


def _check_keep(keep: int | Tensor, counts: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    if isinstance(keep, Tensor):
        if keep.shape != counts.shape or keep.is_floating_point() or keep.dtype == torch.bool:
            raise InputError(
                f"Expected 'keep' as an int or an integer tensor of shape ({len(counts)},), one number per record "
                f"(got {str(keep.dtype).removeprefix('torch.')} of shape {tuple(keep.shape)})."
            )
        budget = keep.to(counts)
    elif isinstance(keep, int) and not isinstance(keep, bool):
        budget = torch.full_like(counts, keep)
    else:
        raise InputError(f"Expected 'keep' as an int or an integer tensor (got {keep!r}): for a share, use a ratio.")
    impossible = ((budget < 1) | (budget > counts)) & (counts > 0)
    if counts.device.type == "cpu" and bool(impossible.any()):
        record = int(impossible.int().argmax())
        have, asked = int(counts[record]), int(budget[record])
        raise InputError(
            f"Expected 'keep' in [1, {have}] (got {asked}): record {record} has {have} tokens and cannot keep "
            f"{'more' if asked > have else 'fewer than one'}. Change 'keep', or use a budget "
            "(constant, ratio), which fits itself to each record."
        )
    return torch.minimum(budget, counts)
