"""PyTorch Geometric: point clouds in and out, and any reduction of ours as a transform or a pooling layer.

PyG lays the points of a batch end to end, with a `batch` vector; `Tokens` pads. Importing this module imports PyG.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokred_sci.errors import InputError, MissingExtra
from tokred_sci.experiment import LEARNED, Reduce
from tokred_sci.reduction.budget import Budget, as_budget
from tokred_sci.reduction.control import topk, truncate
from tokred_sci.reduction.merge import flat_labels, merge
from tokred_sci.reduction.where import Group
from tokred_sci.tokens import Grouping, Tokens

try:
    from torch_geometric.data import Batch, Data
    from torch_geometric.transforms import BaseTransform
except ImportError as error:
    raise MissingExtra(
        "Expected the package 'torch_geometric' for PyG's types (got: not installed). Install it with\n"
        "pip install torch-geometric"
    ) from error

Metric = Literal["x", "pos"] | Callable[[Tokens], Tensor]
IN_SPACE = ("bins", "contract", "fps", "knn", "voxel")
"""Methods that look at places."""


def from_data(data: Data | Batch) -> Tokens:
    """A cloud, or a batch of clouds, as tokens: one token per point, in the points' order.

    Law: `to_data(from_data(data))` has the `pos`, `x` and `batch` of `data`.

    Args:
        data: with `pos` (n, 3 or 1), in the cloud's own unit; features are `x` (n, D),
            or `pos` where there is no `x`.

    Returns:
        Tokens with B = number of graphs, padded to the longest; each point is its own source element.

    Raises:
        InputError: no `pos`, no points, or a graph of the batch without any.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Batch, Data
        >>> clouds = [Data(pos=torch.rand(4, 3)), Data(pos=torch.rand(2, 3))]
        >>> from_data(Batch.from_data_list(clouds)).sizes
        tensor([[1., 1., 1., 1.],
                [1., 1., 0., 0.]])
    """
    pos, x = data.pos, data.x
    if pos is None:
        raise InputError(f"Expected data with 'pos' of shape (n, 3) (got {data}): set data.pos.")
    batch = getattr(data, "batch", None)
    graphs, tokens, _ = _pad(pos if x is None else x, pos, batch, None)
    if batch is not None and len(graphs) != (total := max(int(graphs.max()) + 1, getattr(data, "num_graphs", 0))):
        empty = sorted(set(range(total)) - set(graphs.tolist()))
        raise InputError(f"Expected points in every graph (graphs {empty} have none): leave empty graphs out.")
    return tokens


def to_data(tokens: Tokens) -> Batch:
    """Tokens as a PyG batch with `pos`, `x`, `sizes` (points inside each token) and `batch`, without padding.

    The map from source elements to tokens has no place in a PyG batch and is left behind.

    Example:
        >>> import torch
        >>> sizes = torch.tensor([[1.0, 3.0], [2.0, 0.0]])
        >>> tokens = Tokens(torch.zeros(2, 2, 8), torch.zeros(2, 2, 3), sizes,
        ...                 torch.tensor([[0, 1, 1, 1], [0, 0, -1, -1]]))
        >>> to_data(tokens)
        DataBatch(x=[3, 8], pos=[3, 3], sizes=[3], batch=[3], ptr=[3])
    """
    clouds = []
    for record, mask in enumerate(tokens.mask):
        x, pos, sizes = (f[record, mask] for f in (tokens.features, tokens.positions, tokens.sizes))
        clouds.append(Data(x=x, pos=pos, sizes=sizes))
    return Batch.from_data_list(clouds)


def to_cluster(tokens: Tokens, grouping: Grouping) -> Int[Tensor, " n"]:
    """A grouping as PyG's cluster vector: the row of `to_data(merge(tokens, grouping))` each point went to.

    Args:
        tokens: (B, N, ...) tokens the grouping was made from.
        grouping: group of each of them.

    Returns:
        One row for each row of `to_data(tokens)`, counted on through the batch; -1 where a point was dropped.

    Example:
        >>> import torch
        >>> sizes = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
        >>> tokens = Tokens(torch.zeros(2, 2, 8), torch.zeros(2, 2, 3), sizes,
        ...                 torch.tensor([[0, 1], [0, -1]]))
        >>> to_cluster(tokens, Grouping(torch.tensor([[0, 0], [1, -1]]), 2))
        tensor([0, 0, 1])
    """
    if grouping.labels.shape != tokens.sizes.shape:
        raise InputError(
            f"Expected a grouping for {tuple(tokens.sizes.shape)} tokens (got labels of shape "
            f"{tuple(grouping.labels.shape)}): make it from these very tokens."
        )
    groups = len(tokens) * grouping.num_groups
    index = flat_labels(grouping.labels, grouping.num_groups)[tokens.mask.flatten()]  # (n,), dropped: `groups`
    taken = torch.zeros(groups + 1, dtype=torch.int64, device=index.device).index_fill(0, index, 1)
    row = taken[:-1].cumsum(0) - 1
    return torch.cat([row, row.new_full((1,), -1)])[index]


def coarsen(
    edge_index: Int[Tensor, "2 E"],
    cluster: Int[Tensor, " n"],
    edge_attr: Tensor | None = None,
    how: Literal["mean", "sum"] = "mean",
    loops: bool = False,
) -> tuple[Int[Tensor, "2 F"], Tensor | None]:
    """The edges between groups: ends renamed to their groups, each edge once, in sorted order.

    Law: with `how="sum"` and `loops=True` the sum of `edge_attr` over all edges between grouped points is kept.

    Args:
        edge_index: (2, E) edges between points.
        cluster: (n,) group of each point; edges at a dropped point (-1) go with it.
        edge_attr: (E,) or (E, K) floats; edges that become one are joined.
        how: as their "mean" or their "sum".
        loops: whether an edge within a group stays, as a loop.

    Raises:
        InputError: an edge that ends at no point of `cluster`, attributes for other edges, or no such way to join.

    Example:
        >>> import torch
        >>> edges, weights = torch.tensor([[0, 1, 1], [1, 2, 3]]), torch.tensor([5.0, 1.0, 3.0])
        >>> coarsen(edges, torch.tensor([0, 0, 1, 1]), weights)
        (tensor([[0],
                [1]]), tensor([2.]))
    """
    _check_edges(edge_index, cluster, edge_attr, how)
    ends = cluster[edge_index]  # (2, E)
    kept = (ends >= 0).all(0) & ((ends[0] != ends[1]) | loops)
    ends, groups = ends[:, kept], max(1, len(cluster))  # never fewer than there are groups
    codes, into = torch.unique(ends[0] * groups + ends[1], return_inverse=True)
    edges = torch.stack([codes // groups, codes % groups])
    if edge_attr is None:
        return edges, None
    joined = edge_attr.new_zeros(len(codes), *edge_attr.shape[1:]).index_add(0, into, edge_attr[kept])
    if how == "sum":
        return edges, joined
    return edges, joined / torch.bincount(into, minlength=len(codes)).view(-1, *[1] * (edge_attr.ndim - 1))


class Pooled(NamedTuple):
    """What `TokenPool` returns, in the order of PyG's own pooling layers.

    Attributes:
        x: (m, D) features of the groups, size-weighted means, ordered by graph.
        edge_index: (2, F) edges between groups, or None.
        edge_attr: (F,) or (F, K), or None.
        batch: (m,) graph of each group.
        cluster: (n,) row of `x` each node went to; -1 = dropped. `x[cluster]` hands answers back to nodes.
        pos: (m, P) size-weighted mean places, or None.
        sizes: (m,) nodes in each group: hand them to the next pooling, and means stay means over the first nodes.
    """

    x: Tensor
    edge_index: Tensor | None
    edge_attr: Tensor | None
    batch: Tensor
    cluster: Tensor
    pos: Tensor | None
    sizes: Tensor


class TokenPool(nn.Module):
    """Pooling for a PyG network: nodes that a reduction groups become one node, their size-weighted mean.

    Laws: mass is kept (`(sizes[:, None] * x).sum(0)` is that of the nodes, unless the method drops some); a graph is
    pooled alone as in any batch, and graphs never mix; gradients flow through the means and through `edge_attr`, and
    the choice of groups has none.

    Args:
        method: a name in `REDUCTIONS`, or any function `(metric, tokens, keep) -> Grouping`.
        keep: nodes to keep of each graph: an int (at most so many), a share in (0, 1], or a function of
            `tokred_sci.reduction.budget`.
        metric: what is compared: "x", "pos", or a function of the tokens.
        how, loops: what becomes of edges, see `coarsen`.

    Raises:
        InputError: no such method or budget, or a learned method: it belongs into an encoder.

    Reference: pooling of points by a cluster vector, Dynamic Edge-Conditioned Filters in Convolutional Neural
    Networks on Graphs (Simonovsky and Komodakis, 2017), https://arxiv.org/abs/1704.02901.

    Example:
        >>> import torch
        >>> x, batch = torch.arange(6.0)[:, None], torch.tensor([0, 0, 0, 0, 1, 1])
        >>> edges = torch.tensor([[0, 1, 2, 4], [1, 2, 3, 5]])
        >>> pooled = TokenPool("stride", 0.5)(x, edges, batch=batch)
        >>> pooled.x.flatten().tolist(), pooled.batch.tolist(), pooled.edge_index.tolist(), pooled.cluster.tolist()
        ([0.5, 2.5, 4.5], [0, 0, 1], [[0], [1]], [0, 0, 1, 1, 2, 2])
    """

    def __init__(
        self,
        method: str | Group,
        keep: int | float | Budget,
        metric: Metric = "x",
        how: Literal["mean", "sum"] = "mean",
        loops: bool = False,
    ) -> None:
        super().__init__()
        if metric not in ("x", "pos") and not callable(metric):
            raise InputError(f"Expected 'metric' as 'x', 'pos' or a function of tokens (got {metric!r}).")
        self.method, self.metric, self.how, self.loops = method, metric, how, loops
        self.group, self.budget = _group(method), as_budget(keep)

    def forward(
        self,
        x: Float[Tensor, "n D"],
        edge_index: Int[Tensor, "2 E"] | None = None,
        edge_attr: Tensor | None = None,
        batch: Int[Tensor, " n"] | None = None,
        pos: Float[Tensor, "n P"] | None = None,
        sizes: Float[Tensor, " n"] | None = None,
    ) -> Pooled:
        """Pool a batch in PyG's shapes.

        Args:
            x: (n, D) features.
            edge_index, edge_attr: edges, coarsened with the nodes.
            batch: (n,) graph of each node; None = all one graph.
            pos: (n, 3 or 1) places; None = each node's number, for methods that do not look at places.
            sizes: (n,) weight of each node, > 0; None = 1.

        Raises:
            InputError: shapes that do not fit together, or a method that looks at places without any.
        """
        if pos is None and (self.metric == "pos" or self.method in IN_SPACE):
            raise InputError(f"Expected 'pos' (got None): method {self.method!r} with this metric looks at places.")
        places = torch.arange(len(x), device=x.device).double()[:, None] if pos is None else pos
        graphs, tokens, flat = _pad(x, places, batch, sizes)
        with torch.no_grad():
            grouping = self._groups(tokens)
        merged = merge(tokens, grouping)
        rows = flat.argsort().argsort()  # place of each node when the batch is read graph by graph
        cluster = to_cluster(tokens, grouping)[rows]
        edges, attr = None, None
        if edge_index is not None:
            edges, attr = coarsen(edge_index, cluster, edge_attr, self.how, self.loops)
        mask = merged.mask
        where = None if pos is None else merged.positions[mask]
        return Pooled(
            merged.features[mask], edges, attr, graphs[mask.nonzero()[:, 0]], cluster, where, merged.sizes[mask]
        )

    def _groups(self, tokens: Tokens) -> Grouping:
        if callable(self.metric):
            metric = self.metric(tokens)
        else:
            metric = tokens.features if self.metric == "x" else tokens.positions
        return self.group(metric, tokens, self.budget(metric, tokens))


class ReduceCloud(BaseTransform):
    """A PyG transform: a cloud or graph becomes one with fewer nodes, each the mean of those it stands for.

    Laws: `sizes` sum to the nodes of the first cloud; `source_index` says for each of these the node that holds it,
    through any number of reductions and in any batch, so that `answers[data.source_index]` is one answer per point.

    What becomes of attributes of nodes: floats their size-weighted mean; whole numbers and booleans, as labels `y`, the
    value that most of the size stands behind (a tie: the lowest). Of edges: see `coarsen`. `face` is left out: a group
    has no faces. The rest stays.

    Args:
        method, keep, metric, how, loops: see `TokenPool`; methods that drop points are refused.

    Raises:
        InputError: a method that drops points; (when called) a batch, or data without nodes or places.

    Example:
        >>> import torch
        >>> cloud = Data(pos=torch.tensor([[0.0, 0, 0], [0.2, 0, 0], [5, 0, 0]]), y=torch.tensor([4, 4, 7]))
        >>> small = ReduceCloud("voxel", keep=2)(cloud)
        >>> small.y.tolist(), small.sizes.tolist(), small.source_index.tolist()
        ([4, 7], [2.0, 1.0], [0, 0, 1])
    """

    def __init__(
        self,
        method: str | Group,
        keep: int | float | Budget,
        metric: Metric = "x",
        how: Literal["mean", "sum"] = "mean",
        loops: bool = False,
    ) -> None:
        self.pool = TokenPool(method, keep, metric, how, loops)
        if self.pool.group in (truncate, topk):
            raise InputError(
                f"Expected a method that keeps every point (got {method!r}, which drops some): use another."
            )

    def forward(self, data: Data) -> Data:
        if not isinstance(data, Data) or isinstance(data, Batch):
            raise InputError(f"Expected one cloud as Data (got {type(data).__name__}): transform first, batch then.")
        if data.pos is None or "adj_t" in data:
            raise InputError(f"Expected data with 'pos' of shape (n, 3), and edges as 'edge_index' (got {data}).")
        x = data.pos if data.x is None else data.x
        old = getattr(data, "sizes", None)
        old = torch.ones(len(x), device=x.device) if old is None else old
        pooled = self.pool(x if x.is_floating_point() else x.float(), pos=data.pos, sizes=old)
        if bool((pooled.cluster < 0).any()):
            raise InputError("Expected a method that keeps every point (got one that drops some): use another.")
        return self._reduced(data, pooled, old)

    def _reduced(self, data: Data, pooled: Pooled, old: Tensor) -> Data:
        """A new `Data` with every attribute of nodes and edges carried over."""
        made, count = Data(), len(pooled.x)
        for name, value in data.to_dict().items():
            if name == "x":
                made.x = pooled.x
            elif name not in ("sizes", "source_index", "edge_index", "face") and not data.is_edge_attr(name):
                made[name] = _carry(value, pooled.cluster, old, count) if data.is_node_attr(name) else value
        if data.edge_index is not None:
            made.edge_index = coarsen(data.edge_index, pooled.cluster, None, loops=self.pool.loops)[0]
            for name in data.edge_attrs():
                if name != "edge_index":
                    made[name] = coarsen(
                        data.edge_index, pooled.cluster, data[name], self.pool.how, self.pool.loops
                    )[1]  # fmt: skip
        before = getattr(data, "source_index", None)
        made.sizes = pooled.sizes
        made.source_index = pooled.cluster if before is None else pooled.cluster[before]
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pool.method!r})"


def _group(method: str | Group) -> Group:
    if callable(method):
        return method
    if method in LEARNED:
        raise InputError(f"Expected a method without weights (got {method!r}): learned ones belong into an Encoder.")
    return Reduce(0, method, keep=1).build(0)[0]


def _carry(values: Tensor, cluster: Tensor, sizes: Tensor, count: int) -> Tensor:
    """An attribute of nodes as one of groups: the size-weighted mean of floats, of anything else the majority."""
    if values.is_floating_point():
        wide = torch.promote_types(values.dtype, torch.float32)
        weight = sizes.to(wide).view(-1, *[1] * (values.ndim - 1))
        summed = values.new_zeros(count, *values.shape[1:], dtype=wide).index_add(0, cluster, values.to(wide) * weight)
        total = weight.new_zeros(count, *weight.shape[1:]).index_add(0, cluster, weight)
        return (summed / total).to(values.dtype)
    if values.ndim > 1:
        columns = [_carry(column, cluster, sizes, count) for column in values.flatten(1).unbind(1)]
        return torch.stack(columns, 1).view(count, *values.shape[1:])
    classes, place = values.unique(return_inverse=True)
    votes = sizes.double().new_zeros(count * len(classes)).index_add(0, cluster * len(classes) + place, sizes.double())
    return classes[votes.view(count, len(classes)).argmax(1)]


def _check_edges(edge_index: Tensor, cluster: Tensor, edge_attr: Tensor | None, how: str) -> None:
    if how not in ("mean", "sum"):
        raise InputError(f"Expected 'how' as 'mean' or 'sum' (got {how!r}).")
    if edge_index.ndim != 2 or len(edge_index) != 2 or edge_index.dtype != torch.int64:
        raise InputError(
            f"Expected 'edge_index' as int64 of shape (2, E) "
            f"(got {edge_index.dtype} of shape {tuple(edge_index.shape)})."
        )
    if edge_index.numel() and (int(edge_index.min()) < 0 or int(edge_index.max()) >= len(cluster)):
        raise InputError(
            f"Expected edges between points 0 to {len(cluster) - 1} "
            f"(got ends from {int(edge_index.min())} to {int(edge_index.max())})."
        )
    if edge_attr is not None and (
        edge_attr.ndim == 0 or len(edge_attr) != edge_index.shape[1] or not edge_attr.is_floating_point()
    ):
        raise InputError(
            f"Expected 'edge_attr' as floats, one row for each of {edge_index.shape[1]} edges (got "
            f"{edge_attr.dtype} of shape {tuple(edge_attr.shape)}): turn classes of edges into one-hot floats."
        )


def _pad(x: Tensor, pos: Tensor, batch: Tensor | None, sizes: Tensor | None) -> tuple[Tensor, Tokens, Tensor]:
    """Points as padded tokens: the graphs' numbers (B,), the tokens, and each point's place in B * N."""
    n = len(pos)
    if batch is None:
        batch = torch.zeros(n, dtype=torch.int64, device=pos.device)
    sizes = pos.new_ones(n, dtype=torch.float32) if sizes is None else sizes
    if not n or x.ndim != 2 or pos.ndim != 2 or not (n == len(x) == len(batch) == len(sizes)):
        shapes = ", ".join(str(tuple(value.shape)) for value in (x, pos, batch, sizes))
        raise InputError(f"Expected x (n, D), pos (n, 3), batch (n,) and sizes (n,) with one n >= 1 (got {shapes}).")
    if sizes.device.type == "cpu" and not bool((sizes > 0).all()):
        raise InputError(f"Expected 'sizes' > 0 (got a minimum of {sizes.min().item()}): leave empty points out.")
    graphs, record, counts = torch.unique(batch, return_inverse=True, return_counts=True)
    longest = int(counts.max())
    order = record.argsort(stable=True)
    place = torch.empty_like(order)  # (n,) of each point within its graph
    place[order] = torch.arange(n, device=order.device) - (counts.cumsum(0) - counts)[record[order]]
    flat = record * longest + place

    def spread(values: Tensor, fill: int = 0) -> Tensor:
        table = values.new_full((len(graphs) * longest, *values.shape[1:]), fill)
        return table.index_copy(0, flat, values).unflatten(0, (len(graphs), longest))

    return graphs, Tokens(spread(x), spread(pos), spread(sizes), spread(place, -1)), flat
