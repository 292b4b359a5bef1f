"""Graph-based grouping: tokens are nodes, similarities are edges, groups are what the chosen edges connect."""

from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.reduction import chain as chains
from tokred_sci.reduction.edges import chain_edges, contracted, matching, nearest_edges, space_edges
from tokred_sci.reduction.linkage import cut, pair_distances, tree_of
from tokred_sci.reduction.near import cosines, join_chosen, keep_ties, nearest, sum_pairs
from tokred_sci.reduction.rounds import in_rounds, join, join_halves
from tokred_sci.reduction.rows import Keep, Rows, best, dots, finite, in_token_order, take, unit
from tokred_sci.tokens import Grouping, Tokens, can_look


def bipartite(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, half: bool = False) -> Grouping:
    """Bipartite soft matching: every other token may join its most similar token of the other half.

    One round removes at most half of the tokens; a smaller `keep` takes several rounds on the merged metric.
    Law: exactly `keep` groups; a group lives where its first-half partner stood.
    Facts: global; order of kept tokens; count exact; O(N^2 D) time, O(N) memory.

    Args:
        metric: what similarity is measured on, (B, N, D), usually the attention keys.
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,).
        half: take similarities in bfloat16: faster where the processor has the units, near-ties may fall otherwise.

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
    return in_rounds(Rows.of(metric, tokens, keep), partial(join_halves, half=half))


def energy(
    metric: Tensor,
    tokens: Tokens,
    keep: int | Tensor | Keep,
    margin: float = 0.5,
    alpha: float = 1.0,
    form: Literal["paper", "code"] = "paper",
    half: bool = False,
) -> Grouping:
    """Graph energy: tokens with many alike (high energy) are matched and merged, isolated ones are left alone.

    The energy of a token is the mean over all others of f(cosine similarity), with f(x) = x from `margin` on and
    alpha (exp(x - margin) - 1) below. The 2 (N - keep) tokens of highest energy are dealt out in turn to two sets;
    each of the first joins its most similar of the second. A `keep` below half takes several rounds.
    Law: exactly `keep` groups; a group lives where its partner of the second set stood.
    Facts: global; order of kept tokens; count exact; O(N^2 D) time, O(N) memory.

    Args:
        metric: what similarity is measured on, (B, N, D), usually the attention keys.
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,).
        margin: similarity from which two tokens count as alike; the paper lowers it from 0.9 to 0 over the layers.
        alpha: weight of those that are not.
        form: "paper" is its Eq. 4, as above; "code" is what its authors published, x - margin from `margin` on.
        half: take similarities in bfloat16, see `bipartite`.

    Raises:
        InputError: `keep` outside [1, tokens of the record], or an argument out of range.

    Reference: Accelerating Transformers with Spectrum-Preserving Token Merging (Tran et al., 2024),
    https://arxiv.org/abs/2405.16148.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.95, 0.1]]])
        >>> tokens = Tokens(x, torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> energy(x, tokens, keep=3).labels
        tensor([[0, 2, 1, 2]])
    """
    if not -1 <= margin <= 1 or not alpha >= 0:
        raise InputError(f"Expected 'margin' in [-1, 1] and 'alpha' >= 0 (got {margin!r} and {alpha!r}).")
    if form not in ("paper", "code"):
        raise InputError(f"Expected 'form' to be 'paper' or 'code' (got {form!r}).")
    step = partial(_join_tops, margin=margin, alpha=alpha, bonus=margin if form == "paper" else 0.0, half=half)
    return in_rounds(Rows.of(metric, tokens, keep), step)


def knn(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, neighbours: int = 8) -> Grouping:
    """Heavy-edge matching on the graph of nearest neighbours in space: the most similar neighbours pair up first.

    Law: exactly `keep` groups, grown by pairs of neighbours, so none can swallow the rest in a round; numbered by
    their first token.
    Facts: local in space; order of first tokens; count exact; O(N log N + N neighbours D) time; on the CPU (SciPy).

    Args:
        metric: what cosine similarity is measured on, (B, N, D).
        tokens: the batch; its positions say who is near whom.
        keep: groups per record, an int or (B,); a small one takes several rounds, each reaching further.
        neighbours: nearest tokens in space each token may pair with.

    Raises:
        InputError: `keep` outside [1, tokens of the record], or no neighbours.

    Reference: Weighted Graph Cuts without Eigenvectors (Dhillon et al., 2007),
    https://doi.org/10.1109/TPAMI.2007.1115, its coarsening step.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]]])
        >>> tokens = Tokens(x, torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> knn(x, tokens, keep=2, neighbours=3).labels
        tensor([[0, 1, 0, 1]])
    """
    if not isinstance(neighbours, int) or isinstance(neighbours, bool) or neighbours < 1:
        raise InputError(f"Expected 'neighbours' as an int >= 1 (got {neighbours!r}).")
    return contracted(Rows.of(metric, tokens, keep), partial(space_edges, neighbours=neighbours), matching)


def contract(
    metric: Tensor,
    tokens: Tokens,
    keep: int | Tensor | Keep,
    graph: Literal["chain", "space"] | None = None,
    neighbours: int = 8,
) -> Grouping:
    """Recursive nearest agglomeration: every token joins its most similar neighbour, again and again, in linear time.

    The last round uses only as many of its edges as are needed, the most similar first.
    Law: exactly `keep` groups, connected in the graph; on the chain they are runs, in their order. Every token moves
    in every round, so no giant group grows as in single linkage.
    Facts: local; order kept on the chain, else of first tokens; count exact; O(N log N + N D) time; on the CPU (SciPy).

    Args:
        metric: what cosine similarity is measured on, (B, N, D).
        tokens: the batch.
        keep: groups per record, an int or (B,).
        graph: "chain" of tokens in order, or nearest neighbours in "space"; None = chain if places have one axis.
        neighbours: nearest tokens in space each token may join.

    Raises:
        InputError: `keep` outside [1, tokens of the record], or an unknown graph.

    Reference: Recursive Nearest Agglomeration (Hoyos-Idrobo et al., 2019), https://arxiv.org/abs/1609.04608.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]])
        >>> tokens = Tokens(x, torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> contract(x, tokens, keep=2).labels
        tensor([[0, 0, 1, 1]])
    """
    if graph not in ("chain", "space", None) or not isinstance(neighbours, int) or neighbours < 1:
        raise InputError(
            f"Expected 'graph' to be 'chain', 'space' or None, and 'neighbours' >= 1 (got {graph!r}, {neighbours!r})."
        )
    rows = Rows.of(metric, tokens, keep)
    in_space = graph == "space" or (graph is None and tokens.positions.shape[2] > 1)
    return contracted(rows, partial(space_edges, neighbours=neighbours) if in_space else chain_edges, nearest_edges)


def agglomerative(
    metric: Tensor,
    tokens: Tokens,
    keep: int | Tensor | Keep,
    linkage: Literal["single", "average", "complete", "ward"] = "average",
    chain: bool = False,
) -> Grouping:
    """Agglomerative clustering: the two closest groups become one until `keep` are left.

    Distance is 1 - cosine; for "ward" it is the growth of squared error among unit vectors.
    Law: exactly `keep` groups, numbered by their first token; with `chain` they are runs of neighbours, in their order.
    Facts: global; order of first tokens; count exact; O(N^2 D) time, O(N^2) memory, with `chain` O(N D + N log N) and
    O(N D); on the CPU (SciPy).

    Args:
        metric: what is compared, (B, N, D).
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,).
        linkage: distance of two groups: of their nearest, farthest, or average members, or Ward's.
        chain: only neighbours in token order may join ("complete" is not offered there).

    Raises:
        InputError: `keep` outside [1, tokens of the record], an unknown linkage, or not enough memory.

    Reference: Agglomerative Token Clustering (Haurum et al., 2024), https://arxiv.org/abs/2409.11923.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.2, 0.9]]])
        >>> tokens = Tokens(x, torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> agglomerative(x, tokens, keep=2).labels, agglomerative(x, tokens, keep=3, chain=True).labels
        (tensor([[0, 1, 0, 1]]), tensor([[0, 1, 2, 2]]))
    """
    offered = ("single", "average", "ward") if chain else ("single", "average", "complete", "ward")
    if linkage not in offered:
        raise InputError(f"Expected 'linkage' to be one of {', '.join(offered)} (got {linkage!r}).")
    if chain and linkage == "single":
        return chains.links(metric, tokens, keep)
    rows = Rows.of(metric, tokens, keep)
    units, labels = finite(rows.unit().cpu()), torch.full_like(rows.mask, -1, dtype=torch.long)
    for record, (count, wanted) in enumerate(zip(rows.counts.tolist(), rows.keep.tolist(), strict=True)):
        x = units[record, :count]
        if chain:
            labels[record, :count] = chains.ward(x, wanted, average=linkage == "average")
        else:
            distances = pair_distances(x, need=13)
            tree = tree_of(np.sqrt(distances) if linkage == "ward" else distances / 2, linkage)
            labels[record, :count] = cut(tree, count, wanted)
    return rows.grouping(in_token_order(labels, rows.num_groups))


def rank(
    metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, protect: float = 0.5, steps: int = 2, half: bool = False
) -> Grouping:
    """Weighted PageRank: the tokens that others attend to most are kept, the rest join the most similar of them.

    The graph is the attention of the metric with itself, softmax(sqrt(D) cosine); importance flows along it for a
    few steps. Of the `keep` most important tokens the upper share is protected: nobody joins it.
    Law: exactly `keep` groups, each with one kept token; protected ones stay as they are.
    Facts: global; order of kept tokens; count exact; O(steps N^2 D) time, O(N) memory.

    Args:
        metric: what attention is estimated on, (B, N, D), usually the attention keys.
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,).
        protect: share of the kept tokens that nobody may join, in [0, 1).
        steps: steps of the power iteration.
        half: take similarities in bfloat16, see `bipartite`.

    Raises:
        InputError: `keep` outside [1, tokens of the record], or an argument out of range.

    Reference: Zero-TPrune (Wang et al., 2024), https://arxiv.org/abs/2305.17328; its second stage merges here
    instead of pruning, and the attention is that of the metric, since layers do not hand theirs out.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0, 0.0], [0.9, 0.1], [1.0, 0.1], [0.0, 1.0]]])
        >>> tokens = Tokens(x, torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> rank(x, tokens, keep=2).labels
        tensor([[1, 0, 1, 1]])
    """
    if not 0 <= protect < 1 or not isinstance(steps, int) or steps < 1:
        raise InputError(f"Expected 'protect' in [0, 1) and 'steps' >= 1 (got {protect!r} and {steps!r}).")
    rows = Rows.of(metric, tokens, keep)
    importance = attention_received(rows, steps, half)
    chosen = best(importance, rows.keep)
    closed = best(importance, (rows.keep * protect).long())
    left, right = cosines(rows.unit(), rows.unit(), rows.mask, half)
    return rows.grouping(join_chosen(left, right, chosen, chosen & ~closed, rows))


def attention_received(rows: Rows, steps: int, half: bool = False) -> Tensor:
    """How much attention reaches each token after some steps of softmax(sqrt(D) cosine), (B, N); -inf in padding."""
    x = rows.unit()
    heat = x.shape[2] ** 0.5
    left, right = cosines(x, x, None, half)
    shift = 0.0 if half else heat  # products in half are cosine - 1 already

    def kernel(scores: Tensor) -> Tensor:
        return scores.mul_(heat).sub_(shift).exp_()

    here = rows.mask.to(x.dtype)
    leaving = sum_pairs(left, right, here, kernel).clamp(min=1e-30)
    received = here
    for _ in range(steps):
        received = sum_pairs(left, right, received / leaving, kernel) * here
    return received.masked_fill(~rows.mask, -torch.inf)


def _join_tops(
    x: Tensor, counts: Tensor, target: Tensor, full: bool, margin: float, alpha: float, bonus: float, half: bool
) -> Tensor:
    """One round: of the tokens of highest energy, taken in turn, the first set joins the second."""
    length, x = x.shape[1], unit(x)
    real = torch.arange(length, device=x.device) < counts[:, None]
    heat = _energies(x, real, margin, alpha, bonus, half) / (counts - 1).clamp(min=1)[:, None]
    grain = 16 * torch.finfo(x.dtype).eps  # equal tokens are equal whatever order their sums were taken in
    heat = (heat / grain).round()
    order = heat.masked_fill(~real, -torch.inf).argsort(dim=1, descending=True, stable=True)
    removed = counts - target
    pairs = int(removed.max()) if can_look(x) else length // 2
    if pairs == 0:
        return torch.arange(length, device=x.device).expand(x.shape[0], length)
    leave, stay = order[:, : 2 * pairs : 2], order[:, 1 : 2 * pairs : 2]
    own = torch.arange(pairs, device=x.device).expand_as(leave)
    wanted = own < removed[:, None]
    left, right = cosines(take(x, leave), take(x, stay), None if full and bool(wanted.all()) else wanted, half)
    value, partner = nearest(left, right)
    partner = keep_ties(left, right, value, partner, own)
    return join(length, leave, value.masked_fill(~wanted, -torch.inf), stay.gather(1, partner), counts, target)


def _energies(x: Tensor, real: Tensor, margin: float, alpha: float, bonus: float, half: bool) -> Tensor:
    """Sum of f(cosine) over all other tokens, (B, N).

    With s = cosine - margin, f is s + bonus from 0 on and alpha (exp(s) - 1) below: three vectorised passes.
    """
    left, right = cosines(x, x, None, half)
    shift = 1 - margin if half else -margin  # s = product + shift

    def form(product: Tensor) -> Tensor:
        above = F.threshold(product, -shift - 1e-7, -shift - bonus)  # s + bonus where s >= 0, else 0: less a constant
        below = product.clamp_(max=-shift).add_(shift).exp_()
        return above.add_(below, alpha=alpha)

    here = real.to(x.dtype)
    constant = shift + bonus - alpha
    own = form(dots(x, x) - (1.0 if half else 0.0))
    return sum_pairs(left, right, here, form) - own + constant * (here.sum(1, keepdim=True) - 1)
