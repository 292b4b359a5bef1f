"""Matching in rounds: pairs can at most halve a record, so a small budget takes several, each on the merged metric."""

from collections.abc import Callable

import torch
from torch import Tensor

from tokred_sci.reduction.merge import flat_labels, sum_groups
from tokred_sci.reduction.near import cosines, keep_ties, nearest
from tokred_sci.reduction.rows import Rows, best, unit
from tokred_sci.tokens import Grouping

Step = Callable[[Tensor, Tensor, Tensor, bool], Tensor]
"""`(x, counts, target, full) -> labels`: join pairs of the (B, N, D) metric until `target` tokens are left."""


def in_rounds(rows: Rows, step: Step) -> Grouping:
    """Repeat a step on the merged metric until each record has its budget."""
    labels = rows.places()
    x, sizes, counts, full = rows.metric, rows.sizes, rows.counts, rows.full
    rounds = 0
    while rows.rate > 1 << rounds:  # comparisons: a logarithm would tie a traced graph to one length
        rounds += 1
    for number in range(rounds):
        target = torch.maximum(rows.keep, counts - counts // 2)
        real = torch.arange(x.shape[1], device=x.device) < counts[:, None]
        joined = step(x, counts, target, full).masked_fill(~real, 0)
        labels = joined.gather(1, labels)
        if number < rounds - 1:
            groups = max(rows.num_groups, x.shape[1] - x.shape[1] // 2)
            index = flat_labels(joined.masked_fill(~real, -1), groups)
            x = sum_groups(unit(x) * sizes[..., None], index, groups)
            sizes = sum_groups(sizes, index, groups)
            counts, full = target, full and bool((target == groups).all())
    return rows.grouping(labels)


def join(length: int, leave: Tensor, value: Tensor, partner: Tensor, counts: Tensor, target: Tensor) -> Tensor:
    """Labels (B, length) in which the `counts - target` leaving tokens most like their partner have joined it.

    Args:
        leave: places of the tokens that may leave, (B, n).
        value, partner: how alike each of them and its partner are, and the partner's place, (B, n).
    """
    value = value.masked_fill(leave >= counts[:, None], -torch.inf)
    gone = best(value, counts - target)
    stays = torch.ones(value.shape[0], length, dtype=torch.bool, device=value.device).scatter(1, leave, ~gone)
    labels = stays.long().cumsum(1) - 1
    return labels.scatter(1, leave, labels.gather(1, torch.where(gone, partner, leave)))


def join_halves(x: Tensor, counts: Tensor, target: Tensor, full: bool, half: bool) -> Tensor:
    """One round of bipartite soft matching: odd tokens join the most similar even one."""
    leave, stay = x[:, 1::2], unit(x[:, ::2])
    if leave.shape[1] == 0:
        return torch.zeros_like(x[..., 0], dtype=torch.long)
    real = None if full else torch.arange(0, x.shape[1], 2, device=x.device) < counts[:, None]
    lengths = torch.linalg.vector_norm(leave, dim=2)
    lengths = torch.where(lengths > 0, lengths, 1)
    if real is None and not half:  # its own length changes no token's choice of partner: one pass over the data less
        left, right = leave, stay
    else:
        left, right = cosines(leave / lengths[..., None], stay, real, half)
        lengths = torch.ones_like(lengths)
    value, partner = nearest(left, right)
    own = torch.arange(leave.shape[1], device=x.device).expand_as(partner)
    partner = keep_ties(left, right, value, partner, own)
    return join(x.shape[1], 2 * own + 1, value / lengths, 2 * partner, counts, target)
