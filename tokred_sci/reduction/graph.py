"""Graph-based grouping: tokens are nodes, similarities are edges, groups are what the chosen edges connect."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tokred_sci.errors import InputError
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
    return _rounds(Rows.of(metric, tokens, keep), _match_all)


def local(metric: Tensor, tokens: Tokens, keep: int | Tensor, width: int = 1, causal: bool = False) -> Grouping:
    """Local merging: as `bipartite`, but only with partners a few places away, so that cost is linear in length.

    Law: exactly `keep` groups; with `width` 1 each is a run of neighbours, so the order of tokens is kept. Local;
    O(N width D) time, O(N width) memory.

    Args:
        metric: what similarity is measured on, (B, N, D), usually the attention keys.
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,); a small one takes several rounds, each reaching further.
        width: candidates to either side of a token, in one round.
        causal: only partners before a token. (Which pairs merge first still depends on the whole record.)

    Raises:
        InputError: `keep` outside [1, tokens of the record], or no width.

    Reference: Efficient Time Series Processing for Transformers and State-Space Models through Token Merging
    (Goetz et al., 2025), https://arxiv.org/abs/2405.17951, from the paper's description.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]])
        >>> tokens = Tokens(x, torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> local(x, tokens, keep=3).labels
        tensor([[0, 0, 1, 2]])
    """
    if not isinstance(width, int) or isinstance(width, bool) or width < 1:
        raise InputError(f"Expected 'width' as an int >= 1 (got {width!r}).")
    return _rounds(Rows.of(metric, tokens, keep), partial(_match_near, width=width, causal=causal))


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


Match = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""`(leave, stay, real) -> (value, partner)`: the best partner in `stay` of each in `leave`, and how alike they are."""


def _rounds(rows: Rows, match: Match) -> Grouping:
    """Every other token may join a partner, again and again on the merged metric, until each record has its budget."""
    labels = torch.arange(rows.mask.shape[1], device=rows.mask.device).expand(rows.mask.shape)
    unit, sizes, counts = rows.metric, rows.sizes, rows.counts
    while bool((counts > rows.keep).any()):
        target = torch.maximum(rows.keep, counts - counts // 2)  # a round can halve
        unit = torch.nn.functional.normalize(unit, dim=-1, eps=1e-30)
        step = _join_halves(unit, counts, target, match)
        real = torch.arange(unit.shape[1], device=unit.device) < counts[:, None]
        labels = step.masked_fill(~real, 0).gather(1, labels)
        groups = max(rows.num_groups, unit.shape[1] - unit.shape[1] // 2)
        index = flat_labels(step.masked_fill(~real, -1), groups)
        merged = sum_groups(sizes, index, groups)
        unit = sum_groups(unit * sizes[..., None], index, groups) / merged.clamp(min=1)[..., None]
        sizes, counts = merged, target
    return rows.grouping(labels)


def _join_halves(unit: Tensor, counts: Tensor, target: Tensor, match: Match) -> Tensor:
    """One round: labels (B, N) in which the `counts - target` odd tokens most like their partner have joined it."""
    places = torch.arange(unit.shape[1], device=unit.device)
    value, partner = match(unit[:, 1::2], unit[:, ::2], places[::2] < counts[:, None])
    gone = best(value.masked_fill(places[1::2] >= counts[:, None], -torch.inf), counts - target)
    kept = torch.ones_like(places, dtype=torch.bool).repeat(len(unit), 1)
    kept[:, 1::2] = ~gone
    labels = kept.long().cumsum(1) - 1
    labels[:, 1::2] = torch.where(gone, labels.gather(1, 2 * partner), labels[:, 1::2])
    return labels


def _match_all(leave: Tensor, stay: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Partners anywhere in the record, without ever holding N x N."""
    value = leave.new_empty(leave.shape[:2])
    partner = torch.empty_like(value, dtype=torch.long)
    for records, part in blocks(len(leave), leave.shape[1], stay.shape[1]):
        similarity = leave[records, part] @ stay[records].mT
        similarity.masked_fill_(~real[records, None], -torch.inf)
        value[records, part], partner[records, part] = similarity.max(-1)
    return value, partner


def _match_near(leave: Tensor, stay: Tensor, real: Tensor, width: int, causal: bool) -> tuple[Tensor, Tensor]:
    """Partners at most `width` places of `stay` to either side: one shifted product per place."""
    count = leave.shape[1]
    value = leave.new_full(leave.shape[:2], -torch.inf)
    partner = torch.arange(count, device=leave.device).repeat(len(leave), 1)  # the one before, always there
    for shift in range(1 - width, 1 if causal else 1 + width):  # token 2i + 1 against token 2(i + shift)
        low, high = max(0, -shift), min(count, stay.shape[1] - shift)
        if low >= high:
            continue
        there = slice(low + shift, high + shift)
        similarity = torch.linalg.vecdot(leave[:, low:high], stay[:, there]).masked_fill(~real[:, there], -torch.inf)
        better = similarity > value[:, low:high]
        value[:, low:high] = torch.where(better, similarity, value[:, low:high])
        index = torch.arange(there.start, there.stop, device=leave.device)
        partner[:, low:high] = torch.where(better, index, partner[:, low:high])
    return value, partner
