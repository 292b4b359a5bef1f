"""Graph-based grouping: tokens are nodes, similarities are edges, groups are what the chosen edges connect."""

import torch
from torch import Tensor

from tokred_sci.reduction.merge import flat_labels, sum_groups
from tokred_sci.reduction.rows import Rows, best, blocks
from tokred_sci.tokens import Grouping, Tokens


def bipartite(metric: Tensor, tokens: Tokens, keep: int | Tensor) -> Grouping:
    """Bipartite soft matching: every other token may join its most similar token of the other half.

    One round removes at most half of the tokens; a smaller `keep` takes several rounds on the merged metric.
    Law: exactly `keep` groups; a group lives where its first-half partner stood, so the order of tokens is that of
    the kept ones. Global; O(N^2 D) time, O(N) memory.

    Args:
        metric: what similarity is measured on, (B, N, D), usually the attention keys.
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,).

    Raises:
        InputError: `keep` outside [1, tokens of the record].

    Reference: Token Merging (Bolya et al., 2023), https://arxiv.org/abs/2210.09461, from the paper's description.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]])
        >>> tokens = Tokens(x, torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> bipartite(x, tokens, keep=2).labels
        tensor([[0, 0, 1, 1]])
    """
    rows = Rows.of(metric, tokens, keep)
    labels = torch.arange(rows.mask.shape[1], device=metric.device).expand(rows.mask.shape)
    unit, sizes, counts = rows.metric, rows.sizes, rows.counts
    while bool((counts > rows.keep).any()):
        target = torch.maximum(rows.keep, counts - counts // 2)  # a round can halve
        unit = torch.nn.functional.normalize(unit, dim=-1, eps=1e-30)
        step = _match_halves(unit, counts, target)
        real = torch.arange(unit.shape[1], device=unit.device) < counts[:, None]
        labels = step.masked_fill(~real, 0).gather(1, labels)
        groups = max(rows.num_groups, unit.shape[1] - unit.shape[1] // 2)
        index = flat_labels(step.masked_fill(~real, -1), groups)
        merged = sum_groups(sizes, index, groups)
        unit = sum_groups(unit * sizes[..., None], index, groups) / merged.clamp(min=1)[..., None]
        sizes, counts = merged, target
    return rows.grouping(labels)


def links(metric: Tensor, tokens: Tokens, keep: int | Tensor) -> Grouping:
    """Cut the `keep - 1` weakest links of the chain of tokens: single linkage along a sequence, in one pass.

    Law: exactly `keep` groups, each a run of neighbours, in their order; no other set of runs leaves a higher
    weakest link uncut. Local (neighbours only); O(N D) time plus one sort of N numbers.

    Args:
        metric: what cosine similarity of neighbours is measured on, (B, N, D).
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,).

    Raises:
        InputError: `keep` outside [1, tokens of the record].

    Reference: single linkage is the minimum spanning tree cut at its weakest edges (Gower & Ross, 1969),
    https://doi.org/10.2307/2346439; on a chain the chain is that tree.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]])
        >>> tokens = Tokens(x, torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> links(x, tokens, keep=2).labels
        tensor([[0, 0, 1, 1]])
    """
    rows = Rows.of(metric, tokens, keep)
    left, right = rows.metric[:, :-1], rows.metric[:, 1:]
    squares = torch.linalg.vecdot(rows.metric, rows.metric)
    lengths = (squares[:, :-1].sqrt() * squares[:, 1:].sqrt()).clamp(min=1e-30)
    weakness = (-torch.linalg.vecdot(left, right) / lengths).masked_fill(~rows.mask[:, 1:], -torch.inf)
    cut = best(weakness, (rows.keep - 1).clamp(min=0))
    return rows.grouping(torch.nn.functional.pad(cut.long().cumsum(1), (1, 0)))


def _match_halves(unit: Tensor, counts: Tensor, target: Tensor) -> Tensor:
    """One round: labels (B, N) in which `counts - target` odd tokens have joined an even one."""
    batch, length, _ = unit.shape
    stay, leave = unit[:, ::2], unit[:, 1::2]
    real = torch.arange(0, length, 2, device=unit.device) < counts[:, None]
    value = unit.new_empty(batch, leave.shape[1])
    partner = torch.empty_like(value, dtype=torch.long)
    for records, part in blocks(batch, leave.shape[1], stay.shape[1]):
        similarity = leave[records, part] @ stay[records].mT
        similarity.masked_fill_(~real[records, None], -torch.inf)
        value[records, part], partner[records, part] = similarity.max(-1)
    candidate = torch.arange(1, length, 2, device=unit.device) < counts[:, None]
    gone = best(value.masked_fill(~candidate, -torch.inf), counts - target)
    kept = torch.ones(batch, length, dtype=torch.bool, device=unit.device)
    kept[:, 1::2] = ~gone
    labels = kept.long().cumsum(1) - 1
    labels[:, 1::2] = torch.where(gone, labels.gather(1, 2 * partner), labels[:, 1::2])
    return labels
