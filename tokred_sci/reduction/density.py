"""Density-based grouping: dense places in feature space become groups, wherever in the record they stand."""

import numpy as np
import torch
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.reduction.linkage import cut, pair_distances, tree_of
from tokred_sci.reduction.merge import first_lowest, flat_labels, sum_groups
from tokred_sci.reduction.near import FAR, blocks, closeness, highest, join_chosen, product
from tokred_sci.reduction.rows import Keep, Rows, best, finite, in_token_order, last_chosen, places, smaller, take
from tokred_sci.tokens import Grouping, Tokens, can_look

LISTED = 6  # nearest tokens that density peaks remembers: most find a denser one, and a centre, among them


def peaks(
    metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, neighbours: int = 5, half: bool = False
) -> Grouping:
    """Density peaks: tokens that are dense and far from anything denser become centres; others join the nearest.

    The density of a token is exp(-mean squared distance to its `neighbours` nearest tokens, itself included); its
    separation is the distance to the nearest denser token; centres are the `keep` highest products. Distances are in
    units of the record's own spread, so the scale of the metric does not matter.
    Law: exactly `keep` groups, numbered in token order of their centres; deterministic.
    Facts: global; order of centres; count exact; O(N^2 D) time, O(N) memory; linear within windows.

    Args:
        metric: what Euclidean distance is measured on, (B, N, D).
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,).
        neighbours: nearest tokens the density looks at; a shorter record uses all it has.
        half: take distances from bfloat16 products: faster where the processor has the units, near-ties may fall
            otherwise.

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
    if not isinstance(neighbours, int) or isinstance(neighbours, bool) or neighbours < 1:
        raise InputError(f"Expected 'neighbours' as an int >= 1 (got {neighbours!r}).")
    rows = Rows.of(metric, tokens, keep)
    x, mask, counts = _in_spreads(rows), rows.mask, rows.counts
    left, right = closeness(x, mask, half)
    listed = smaller(max(neighbours, LISTED), x.shape[1])
    near, index = highest(left, right, listed)
    squares = near[..., :neighbours].masked_fill(near[..., :neighbours] < -FAR / 2, 0).clamp(max=0)
    density = 2 * squares.sum(2) / counts.clamp(1, neighbours)[:, None]  # its logarithm
    density = density.masked_fill(~mask, -torch.inf)
    order = density.argsort(dim=1, descending=True, stable=True)
    separation = _to_denser(left, right, near, index, order)
    first = order[:, :1]
    farthest = separation.masked_fill(~mask, 0).scatter(1, first, 0).amax(1, keepdim=True).clamp(min=1)
    score = separation.scatter(1, first, farthest).log() + density
    score = score.clamp(min=torch.finfo(x.dtype).min).masked_fill(~mask, -torch.inf)
    chosen = best(score.scatter(1, first, torch.inf), rows.keep)  # the densest token is always a centre
    return rows.grouping(join_chosen(left, right, chosen, chosen, rows, near, index))


def cover(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, radius: float | None = None) -> Grouping:
    """Greedy epsilon-net: the token farthest from all centres becomes the next centre; others join the nearest.

    Law: exactly `keep` groups, or with `radius` as few of them as it takes to bring every token within `radius` of its
    centre; numbered in token order of their centres; deterministic. The largest distance to a centre is at most twice
    the best that `keep` centres could do, and with `radius` the number of groups is at most the packing number of the
    metric's range: it does not grow with length.
    Facts: global; order of centres; count exact, with a radius at most keep; O(N keep D) time, O(N D) memory.

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
    return farthest_first(rows.unit(), rows, radius)


def medoids(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, steps: int = 5, half: bool = False) -> Grouping:
    """K-medoids: tokens join the nearest centre, the member nearest to a group's mean is its next centre, and again.

    Centres start at even distances in token order, so nothing is drawn at random.
    Law: exactly `keep` groups, numbered in token order of their centres; deterministic.
    Facts: global; order of centres; count exact; O(steps N keep D) time, O(N) memory.

    Args:
        metric: what Euclidean distance is measured on, (B, N, D).
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,).
        steps: times that centres move; 0 leaves them where they start.
        half: take distances from bfloat16 products, see `peaks`.

    Raises:
        InputError: `keep` outside [1, tokens of the record], or no such number of steps.

    Reference: Token Pooling in Vision Transformers (Marin et al., 2021), https://arxiv.org/abs/2110.03860.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[0.0], [5.0], [0.1], [5.3], [0.3]]])
        >>> tokens = Tokens(x, torch.arange(5.0).view(1, 5, 1), torch.ones(1, 5), torch.arange(5)[None])
        >>> medoids(x, tokens, keep=2).labels
        tensor([[1, 0, 1, 0, 1]])
    """
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise InputError(f"Expected 'steps' as an int >= 0 (got {steps!r}).")
    rows = Rows.of(metric, tokens, keep)
    x = _in_spreads(rows)
    left, right = closeness(x, rows.mask, half)
    chosen = best(torch.zeros_like(x[..., 0]).masked_fill(~rows.mask, -torch.inf), rows.keep)
    for _ in range(steps):
        chosen = _nearest_to_mean(x, join_chosen(left, right, chosen, chosen, rows), rows)
    return rows.grouping(join_chosen(left, right, chosen, chosen, rows))


def dbscan(
    metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, radius: float | None = None, neighbours: int = 5
) -> Grouping:
    """Density-connected groups: tokens linked by steps no longer than a radius among tokens dense at that radius.

    A token is dense at a radius that reaches its `neighbours` nearest tokens, itself included. Tokens that are not
    dense stay alone: nothing is dropped. (This is DBSCAN without its border points, which are a matter of order.)
    Law: without `radius` the record's own radius that leaves exactly `keep` groups; with it the groups of that radius,
    or of a larger one if they are more than `keep`. Numbered by their first token.
    Facts: global; order of first tokens; count exact, with a radius at most keep; O(N^2 D) time, O(N^2) memory; on the
    CPU (SciPy).

    Args:
        metric: what Euclidean distance is measured on, (B, N, D), in units of the record's spread.
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,); the upper bound if `radius` is given.
        radius: the epsilon of DBSCAN, in units of the record's root-mean-square distance to its mean.
        neighbours: the min_samples of DBSCAN.

    Raises:
        InputError: `keep` outside [1, tokens of the record], no such radius, or not enough memory.

    Reference: A density-based algorithm for discovering clusters (Ester et al., 1996),
    https://cdn.aaai.org/KDD/1996/KDD96-037.pdf; all radii from one tree: Campello et al., 2013,
    https://doi.org/10.1007/978-3-642-37456-2_14.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[0.0], [5.0], [0.1], [5.3], [9.0]]])
        >>> tokens = Tokens(x, torch.arange(5.0).view(1, 5, 1), torch.ones(1, 5), torch.arange(5)[None])
        >>> dbscan(x, tokens, keep=3, neighbours=2).labels
        tensor([[0, 1, 0, 1, 2]])
    """
    if (radius is not None and not radius > 0) or not isinstance(neighbours, int) or neighbours < 1:
        raise InputError(f"Expected 'radius' > 0 and 'neighbours' >= 1 (got {radius!r} and {neighbours!r}).")
    rows = Rows.of(metric, tokens, keep)
    x, labels = finite(_in_spreads(rows).cpu()), torch.full_like(rows.mask, -1, dtype=torch.long)
    for record, (count, wanted) in enumerate(zip(rows.counts.tolist(), rows.keep.tolist(), strict=True)):
        if count:
            tree = tree_of(_reachability(x[record, :count], min(neighbours, count)), "single")
            labels[record, :count] = cut(tree, count, wanted, radius)
    return rows.grouping(in_token_order(labels, rows.num_groups))


def hdbscan(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, smallest: int = 5) -> Grouping:
    """Clusters that stay together over the widest range of densities; other tokens join the cluster nearest to them.

    Law: at most `keep` groups, numbered by their first token; the smallest cluster size is doubled until they fit.
    A record without clusters becomes one group.
    Facts: global; order of first tokens; count at most keep, follows the data; O(N^2 D) time, O(N D) memory; on the
    CPU (scikit-learn).

    Args:
        metric: what Euclidean distance is measured on, (B, N, D).
        tokens: the batch; padding is left out.
        keep: the upper bound of groups per record, an int or (B,).
        smallest: tokens a cluster must have.

    Raises:
        InputError: `keep` outside [1, tokens of the record], or no such size.

    Reference: Density-based clustering based on hierarchical density estimates (Campello et al., 2013),
    https://doi.org/10.1007/978-3-642-37456-2_14.

    Example:
        >>> import torch
        >>> x = torch.tensor([0.0, 5.0, 0.1, 5.1, 0.2, 5.2]).view(1, 6, 1)
        >>> tokens = Tokens(x, torch.arange(6.0).view(1, 6, 1), torch.ones(1, 6), torch.arange(6)[None])
        >>> hdbscan(x, tokens, keep=4, smallest=2).labels
        tensor([[0, 1, 0, 1, 0, 1]])
    """
    if not isinstance(smallest, int) or isinstance(smallest, bool) or smallest < 2:
        raise InputError(f"Expected 'smallest' as an int >= 2 (got {smallest!r}).")
    rows = Rows.of(metric, tokens, keep)
    x, labels = finite(_in_spreads(rows).cpu()), torch.full_like(rows.mask, -1, dtype=torch.long)
    for record, (count, wanted) in enumerate(zip(rows.counts.tolist(), rows.keep.tolist(), strict=True)):
        if count:
            labels[record, :count] = _clusters(x[record, :count], wanted, smallest)
    return rows.grouping(in_token_order(labels, rows.num_groups))


def shift(
    metric: Tensor,
    tokens: Tokens,
    keep: int | Tensor | Keep,
    bandwidth: float | None = None,
    reach: float | None = None,
    steps: int = 10,
) -> Grouping:
    """Mean shift with a flat kernel: every token climbs to a peak of density; tokens of one peak are a group.

    A token moves to the mean of all tokens within `bandwidth` in feature space and `reach` in position, `steps` times;
    tokens that end within half a bandwidth of each other belong together.
    Law: at most `keep` groups, numbered by their first token. Without `bandwidth` each record gets the smallest of a
    geometric series of bandwidths that fits; with it, that one if it fits, else the next larger.
    Facts: global; order of first tokens; count at most keep, follows the data; O(steps N^2 D) time for each bandwidth
    tried, O(N) memory.

    Args:
        metric: what Euclidean distance is measured on, (B, N, D), in units of the record's spread.
        tokens: the batch; its positions limit who counts as a neighbour.
        keep: the upper bound of groups per record, an int or (B,).
        bandwidth: radius of the kernel in feature space, in units of the record's root-mean-square spread.
        reach: radius of the kernel in space, in the unit of the positions; None = everywhere.
        steps: moves of every token.

    Raises:
        InputError: `keep` outside [1, tokens of the record], or no such bandwidth.

    Reference: Mean shift: a robust approach toward feature space analysis (Comaniciu & Meer, 2002),
    https://doi.org/10.1109/34.1000236.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[0.0], [5.0], [0.1], [5.3], [0.3]]])
        >>> tokens = Tokens(x, torch.arange(5.0).view(1, 5, 1), torch.ones(1, 5), torch.arange(5)[None])
        >>> shift(x, tokens, keep=5, bandwidth=0.5).labels
        tensor([[0, 1, 0, 1, 0]])
    """
    for name, value in (("bandwidth", bandwidth), ("reach", reach)):
        if value is not None and not value > 0:
            raise InputError(f"Expected '{name}' > 0 or None (got {value!r}).")
    rows = Rows.of(metric, tokens, keep)
    x, count = _in_spreads(rows), metric.shape[1]
    alone = torch.arange(count, device=x.device).expand(x.shape[0], count)
    free = bandwidth is not None
    found = torch.where((rows.counts > rows.keep)[:, None] | free, 0, alone)
    narrow, wide = torch.full_like(rows.counts, -1), torch.full_like(rows.counts, 24)  # does not fit, fits: all in one
    for _ in range(5):  # halves the series
        middle = ((narrow + wide) // 2).clamp(min=0)
        tried = _climb(x, rows, (bandwidth or 1 / 32) * 2 ** (middle / 2).to(x.dtype), reach, steps)
        fits = (_distinct(tried, rows) <= rows.keep) & (middle < wide)
        found = torch.where((fits & (free | (rows.counts > rows.keep)))[:, None], tried, found)
        wide = torch.where(fits, middle, wide)
        narrow = torch.where(fits, narrow, torch.minimum(middle, wide - 1))
    return rows.grouping(in_token_order(found.masked_fill(~rows.mask, -1), count))


def _distinct(labels: Tensor, rows: Rows) -> Tensor:
    """How many different labels each record's tokens have."""
    seen = torch.zeros_like(rows.mask).scatter(1, labels.where(rows.mask, labels[:, :1]), True)
    return seen.sum(1)


def farthest_first(x: Tensor, rows: Rows, radius: float | None) -> Grouping:
    """Centres by farthest point sampling among the rows of x, from the first token; others join the nearest."""
    mask, count = rows.mask, x.shape[1]
    records = torch.arange(x.shape[0], device=x.device)
    squares = torch.linalg.vecdot(x, x)
    distance = torch.where(mask, torch.inf, -torch.inf).to(x.dtype)  # squared, to the nearest centre
    nearest = torch.zeros_like(mask, dtype=torch.long)
    rank = torch.full_like(nearest, -1)
    noise = 16 * torch.finfo(x.dtype).eps * squares.amax(1)  # of a squared distance: what is below is no distance
    enough = noise.clamp(min=(radius or 0.0) ** 2)
    for group in range(rows.num_groups):
        far = distance.argmax(1)
        wanted = (group < rows.keep) & ((distance[records, far] > enough) | (group == 0))
        centre = x[records, far]
        here = squares + squares[records, far, None] - 2 * (x @ centre[:, :, None]).squeeze(-1)
        here[records, far] = -1.0  # a centre is its own, whatever ties with it
        closer = (here < distance) & mask & wanted[:, None]
        distance = torch.where(closer, here, distance)
        nearest = torch.where(closer, far[:, None], nearest)
        rank[records, far] = torch.where(wanted, group, rank[records, far])
    chosen = rank >= 0
    if radius is None:  # equal tokens are covered before the budget is used: the rest of it is spread over them
        chosen |= best(torch.zeros_like(distance).masked_fill(chosen | ~mask, -torch.inf), rows.keep - chosen.sum(1))
    own = chosen.long().cumsum(1) - 1
    before = last_chosen(chosen)
    alike = (x - take(x, before)).square().sum(2) <= distance.clamp(min=0) + noise[:, None]
    joined = torch.where(alike, before, nearest)
    at = torch.arange(count, device=x.device).expand_as(joined)
    return rows.grouping(own.gather(1, torch.where(chosen, at, joined)))


def _nearest_to_mean(x: Tensor, labels: Tensor, rows: Rows) -> Tensor:
    """Mark, in each group, the member nearest to the group's mean, the first of equals."""
    groups, (batch, count) = rows.num_groups, labels.shape
    index = flat_labels(labels.masked_fill(~rows.mask, -1), groups)
    members = sum_groups(rows.mask.to(x.dtype), index, groups).clamp(min=1)
    mean = sum_groups(x, index, groups) / members[..., None]
    squares = (x - take(mean, labels.clamp(0, groups - 1))).square().sum(2).nan_to_num(torch.inf)
    marked = torch.zeros(batch * count + 1, dtype=torch.bool, device=x.device)
    slack = 1024 * torch.finfo(x.dtype).eps  # two members are exactly as far from their mean, but for rounding
    return marked.index_fill(0, first_lowest(squares, index, groups, slack), True)[:-1].view(batch, count)


def _in_spreads(rows: Rows) -> Tensor:
    """The metric around the record's mean, in units of its root-mean-square distance to it; 0 in padding."""
    number = rows.counts.clamp(min=1)
    x = rows.metric - rows.metric.sum(1, keepdim=True) / number[:, None, None]
    if not rows.full:
        x.masked_fill_(~rows.mask[..., None], 0)
    spread = torch.linalg.vector_norm(x, dim=(1, 2)) / number.sqrt()
    return x.div_(torch.where(spread > 0, spread, 1)[:, None, None])


def _to_denser(left: Tensor, right: Tensor, near: Tensor, index: Tensor, order: Tensor) -> Tensor:
    """Distance of each token to the nearest denser one: in its list of nearest, or else searched for.

    With tokens sorted by density, only those before a token have to be searched.
    """
    rank = order.argsort(dim=1)
    denser = rank.gather(1, index.flatten(1)).view_as(index) < rank[..., None]
    found = near.masked_fill(~denser, -torch.inf).amax(2)
    lost = found.isinf().gather(1, order)  # in order of density
    number = int(lost.sum(1).max()) if can_look(left) else order.shape[1]
    if number:
        ranks = places(lost, number)
        left, right = take(left, order.gather(1, ranks)), take(right, order)
        for records, part in blocks(left.shape[0], number, right.shape[1], left.element_size()):
            reach = ranks[records, part]
            stop = int(reach.max()) + 1 if can_look(left) else right.shape[1]
            scores = product(left, right[:, :stop], records, part)
            scores.masked_fill_(torch.arange(stop, device=reach.device) >= reach[..., None], -torch.inf)
            best_score = scores.amax(2).to(found.dtype)
            found[records] = found[records].scatter(1, order[records].gather(1, reach), best_score)
    return (-2 * found).clamp(min=0).sqrt()


def _reachability(x: Tensor, neighbours: int) -> np.ndarray:
    """Mutual reachability: the radius at which two tokens are both dense and in touch, condensed."""
    from scipy.spatial.distance import squareform

    squares = pair_distances(x, need=28)
    square = np.sqrt(squareform(squares))
    core = np.partition(square, neighbours - 1, axis=1)[:, neighbours - 1]
    np.maximum(square, core[:, None], out=square)
    np.maximum(square, core[None], out=square)
    np.fill_diagonal(square, 0)
    return squareform(square, checks=False)


def _clusters(x: Tensor, keep: int, smallest: int) -> Tensor:
    from sklearn.cluster import HDBSCAN
    from sklearn.neighbors import NearestNeighbors

    while 2 <= smallest <= x.shape[0]:
        labels = HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(x.numpy())
        inside = labels >= 0
        if inside.any() and labels.max() < keep:
            near = NearestNeighbors(n_neighbors=1).fit(x[inside].numpy()).kneighbors(x.numpy(), return_distance=False)
            return torch.from_numpy(labels[inside][near[:, 0]]).long()
        smallest *= 2
    return torch.zeros(x.shape[0], dtype=torch.long)


def _climb(x: Tensor, rows: Rows, radius: Tensor, reach: float | None, steps: int) -> Tensor:
    """Labels of the peaks that tokens reach: the first token that ended within half a bandwidth (B,)."""

    def near(here: Tensor, there: Tensor, records: slice, part: slice, share: float) -> Tensor:
        inside = torch.cdist(here[records, part], there[records]) <= share * radius[records, None, None]
        inside &= rows.mask[records, None]
        if reach is not None:
            inside &= torch.cdist(rows.positions[records, part], rows.positions[records]) <= reach
        return inside

    here = x
    for _ in range(steps):
        moved = torch.empty_like(here)
        for records, part in blocks(x.shape[0], x.shape[1], x.shape[1]):
            weight = near(here, x, records, part, 1.0).to(x.dtype)
            moved[records, part] = weight @ x[records] / weight.sum(2, keepdim=True).clamp(min=1)
        here = moved
    labels = torch.empty(x.shape[:2], dtype=torch.long, device=x.device)
    for records, part in blocks(x.shape[0], x.shape[1], x.shape[1]):
        own = torch.arange(part.start, part.stop, device=x.device)
        met = near(here, here, records, part, 0.5)
        met[..., own - part.start, own] = True
        labels[records, part] = met.to(torch.uint8).argmax(2)
    for _ in range(max(1, x.shape[1] - 1).bit_length()):
        labels = labels.gather(1, labels)
    return labels
