"""Graph-based grouping on the chain of tokens: neighbours in order are the edges, so cost is linear in length."""

from functools import partial
from heapq import heappop, heappush

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.reduction.rounds import in_rounds, join
from tokred_sci.reduction.rows import Keep, Rows, best, dots
from tokred_sci.tokens import Grouping, Tokens


def links(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep) -> Grouping:
    """Cut the `keep - 1` weakest links of the chain: exact single linkage along a sequence, in one pass.

    Law: exactly `keep` groups, each a run of neighbours, in their order; no other set of runs leaves a higher
    weakest link uncut.
    Facts: local; order kept; count exact; O(ND) time plus one selection among N numbers.

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
    return chunks(metric, tokens, keep)


def chunks(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, threshold: float | None = None) -> Grouping:
    """Dynamic chunking: a boundary wherever a token differs enough from the one before it.

    The probability of a boundary is (1 - cosine similarity) / 2.
    Law: each group is a run of neighbours, in their order; with `threshold` no two neighbours inside a group differ
    by as much, unless `keep` was reached first; without it the threshold is whatever gives `keep` groups, so this is
    `links`.
    Facts: local; order kept; count at most keep, follows the data; O(ND) time plus one selection among N numbers.

    Args:
        metric: what cosine similarity of neighbours is measured on, (B, N, D).
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,); the upper bound if `threshold` is given.
        threshold: probability in [0, 1] from which there is a boundary; 0.5 in the paper, after learned projections.

    Raises:
        InputError: `keep` outside [1, tokens of the record], or no such threshold.

    Reference: Dynamic Chunking for End-to-End Hierarchical Sequence Modeling (Hwang et al., 2025),
    https://arxiv.org/abs/2507.07955, its routing without the learned projections.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.0]]])
        >>> tokens = Tokens(x, torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> chunks(x, tokens, keep=4, threshold=0.4).labels
        tensor([[0, 0, 1, 2]])
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"Expected 'threshold' in [0, 1] (got {threshold!r}): it is the probability of a boundary.")
    rows = Rows.of(metric, tokens, keep)
    similar = rows.neighbours()
    cut = best(-similar, (rows.keep - 1).clamp(min=0))
    if threshold is not None:
        cut &= (1 - similar) / 2 >= threshold
    return rows.runs(cut)


def local(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, width: int = 1, causal: bool = False) -> Grouping:
    """Local merging: as `bipartite`, but only with partners a few places away, so that cost is linear in length.

    Law: exactly `keep` groups; with `width` 1 each is a run of neighbours, so the order of tokens is kept.
    Facts: local; order kept with width 1, else of kept tokens; count exact; O(N width D) time, O(N width) memory.

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
        tensor([[0, 1, 2, 2]])
    """
    if not isinstance(width, int) or isinstance(width, bool) or width < 1:
        raise InputError(f"Expected 'width' as an int >= 1 (got {width!r}).")
    return in_rounds(Rows.of(metric, tokens, keep), partial(_join_near, width=width, causal=causal))


def ward(x: Tensor, keep: int, average: bool = False, table: int = 8) -> Tensor:
    """Greedy agglomeration of one sequence (N, D) into `keep` runs: always the cheapest pair of neighbours next.

    The cost of joining runs a and b follows from |sum over a|^2, |sum over b|^2 and |sum over both|^2. These come
    from tables for runs of up to `table` tokens, filled by one recurrence, and from sums kept for longer ones: a merge
    costs a few lookups and two pushes on a heap. Pairs of single tokens are sorted beforehand, so the heap stays small.

    Args:
        average: cost is the mean squared distance between members of a and b, not the growth in squared error.
    """
    count = len(x)
    squares = _run_squares(x, min(table, count))
    if not average:  # then a cost is what the two runs have for their own, less what both have together
        squares = [row / max(1, n) for n, row in enumerate(squares)]
    known = [row.numpy().data for row in squares]
    tabled, rows = len(known), x.numpy()
    totals: dict[tuple[int, int], np.ndarray] = {}

    def total(start: int, stop: int) -> np.ndarray:
        if (start, stop) in totals:  # as every run is that has outgrown the tables
            return totals[start, stop]
        return rows[start:stop].sum(0, dtype=np.float64)

    before, after = list(range(-1, count)), list(range(1, count + 2))  # the borders beside each border
    own = squares[1].tolist()  # of the run that starts here
    pairs = (squares[1][1:] + squares[1][:-1] - squares[min(2, count)][: count - 1]).numpy()
    cost = [0.0, *pairs.tolist()]  # of joining the two runs beside each border
    both = [0.0, *squares[min(2, count)].tolist()]  # what they have together
    order = np.argsort(pairs, kind="stable")[::-1]
    first = [(np.inf, count), *zip(pairs[order].tolist(), (order + 1).tolist(), strict=True)]  # the cheapest last
    heap: list[tuple[float, int]] = []  # of costs found on the way
    for _ in range(count - keep):
        price, middle = np.nan, 0
        while price != cost[middle]:  # else one of the two has grown or gone since
            price, middle = heappop(heap) if heap and heap[0] < first[-1] else first.pop()
        start, stop = before[middle], after[middle]
        if stop - start >= tabled:
            totals[start, stop] = total(start, middle) + total(middle, stop)
            totals.pop((start, middle), None), totals.pop((middle, stop), None)
        after[start], before[stop], own[start], cost[middle] = stop, start, both[middle], np.nan
        for border in (start, stop):
            if 0 < border < count:
                low, high = before[border], after[border]
                n = high - low
                if n >= tabled:
                    run = total(low, border) + total(border, high)
                    joint = float(run @ run) / (1 if average else n)
                else:
                    joint = known[n][low]
                price = own[low] + own[border] - joint
                if average:
                    price /= (border - low) * (high - border)
                cost[border], both[border] = price, joint
                heappush(heap, (price, border))
    return (~torch.from_numpy(np.array(cost[:count])).isnan()).long().cumsum(0) - 1


def _run_squares(x: Tensor, longest: int) -> list[Tensor]:
    """|x_i + ... + x_(i + n - 1)|^2 at [n][i]: of runs of up to `longest` tokens, from those of shorter ones."""
    count = len(x)
    products = _band(x[None], x[None], 0, longest - 1)[0].double()  # of x_i with x_i, x_(i + 1) ...
    squares = [products.new_zeros(count + 1), products[:, 0]]
    for n in range(2, longest + 1):
        ends = products[: count - n + 1, n - 1]
        squares.append(squares[n - 1][1:] + squares[n - 1][:-1] - squares[n - 2][1:-1] + 2 * ends)
    return squares


def _join_near(x: Tensor, counts: Tensor, target: Tensor, full: bool, width: int, causal: bool) -> Tensor:
    """One round: odd tokens join the most similar even one at most `width` places of the even half away."""
    count = x.shape[1] // 2
    leave, stay = x[:, 1::2], x[:, ::2]
    reach = range(1 - width, 1 if causal else 1 + width)
    band = _scaled_band(leave, stay, reach) if width > 2 else _shifted(leave, stay, reach)
    own, last = torch.arange(count, device=x.device), (counts - 1).clamp(min=0) // 2
    places = torch.arange(reach[0], count + reach[-1], device=x.device)
    there = torch.where((places >= 0) & (places <= last[:, None]), 0.0, -torch.inf).to(x)
    value, place = band.add_(there.unfold(1, len(reach), 1)).max(-1)
    lengths = torch.linalg.vector_norm(leave, dim=2)  # changes no choice of partner, only which pairs come first
    value = value / torch.where(lengths > 0, lengths, 1)
    return join(x.shape[1], (2 * own + 1).expand_as(place), value, 2 * (own + reach[0] + place), counts, target)


def _shifted(leave: Tensor, stay: Tensor, shifts: range) -> Tensor:
    """Similarity, times its own length, of token i of `leave` with token i + shift of `stay`: one pass per shift."""
    count = leave.shape[1]
    lengths = torch.linalg.vector_norm(stay, dim=2)
    lengths = torch.where(lengths > 0, lengths, 1)
    columns = []
    if torch.compiler.is_compiling():  # slices of one length, whatever the parity of the record's
        low, high = -shifts.start, max(0, shifts.stop)
        stay, lengths = F.pad(stay, (0, 0, low, high)), F.pad(lengths, (low, high), value=1.0)
        for start in range(len(shifts)):
            there = slice(start, start + count)
            columns.append(dots(leave, stay[:, there]) / lengths[:, there])
        return torch.stack(columns, -1)
    for shift in shifts:
        low, high = max(0, -shift), max(0, -shift, min(count, stay.shape[1] - shift))
        there = slice(low + shift, high + shift)
        columns.append(F.pad(dots(leave[:, low:high], stay[:, there]) / lengths[:, there], (low, count - high)))
    return torch.stack(columns, -1)


def _scaled_band(leave: Tensor, stay: Tensor, shifts: range) -> Tensor:
    """What `_shifted` gives, from one product of blocks."""
    before, after = -shifts[0], shifts[-1]
    lengths = torch.linalg.vector_norm(stay, dim=2)[:, : leave.shape[1] + after]
    lengths = F.pad(
        torch.where(lengths > 0, lengths, 1), (before, leave.shape[1] + after - lengths.shape[1]), value=1.0
    )
    return _band(leave, stay, before, after) / lengths.unfold(1, len(shifts), 1)


def _band(leave: Tensor, stay: Tensor, before: int, after: int) -> Tensor:
    """Products of token i of `leave` with tokens i - before to i + after of `stay`: blocks against overlapping blocks.

    The product of a block of s tokens with the s + before + after around it holds the band as its diagonals.
    """
    batch, count = leave.shape[:2]
    size = max(32, (before + after) // 2)
    number = -(-count // size)
    span = size + before + after
    if number * size > count:
        leave = F.pad(leave, (0, 0, 0, number * size - count))
    leave = leave.unflatten(1, (number, size))
    stay = _padded(stay, before, (number - 1) * size + span)
    scores = leave @ stay.unfold(1, span, size)  # B number size span
    diagonals = scores.contiguous().as_strided(
        (batch, number, size, before + after + 1), (number * size * span, size * span, span + 1, 1)
    )
    return diagonals.flatten(1, 2)[:, :count]


def _padded(x: Tensor, before: int, length: int) -> Tensor:
    """(B, N, D), or its start, with so many zeros before it, and zeros after it up to this length: written once."""
    x = x[:, : length - before]
    zeros = (
        x.new_zeros(x.shape[0], before, x.shape[2]),
        x.new_zeros(x.shape[0], length - before - x.shape[1], x.shape[2]),
    )
    return torch.cat([zeros[0], x, zeros[1]], 1)
