"""PyTorch Geometric: point clouds in and out, and any reduction of ours as a pooling layer of a PyG network.

PyG lays the points of a batch end to end, with a `batch` vector; `Tokens` pads. Only `to_data` imports
torch_geometric; the rest is arithmetic on PyG's shapes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokred_sci.errors import InputError, MissingExtra
from tokred_sci.reduction.budget import Budget, as_budget
from tokred_sci.reduction.merge import flat_labels, merge
from tokred_sci.tokens import Grouping, Tokens

if TYPE_CHECKING:
    from torch_geometric.data import Batch, Data


def from_data(data: "Data | Batch") -> Tokens:
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


def to_data(tokens: Tokens) -> "Batch":
    """Tokens as a PyG batch with `pos`, `x`, `sizes` (points inside each token) and `batch`, without padding.

    The map from source elements to tokens has no place in PyG and is left behind.

    Raises:
        MissingExtra: torch_geometric is not installed.

    Example:
        >>> import torch
        >>> sizes = torch.tensor([[1.0, 3.0], [2.0, 0.0]])
        >>> tokens = Tokens(torch.zeros(2, 2, 8), torch.zeros(2, 2, 3), sizes,
        ...                 torch.tensor([[0, 1, 1, 1], [0, 0, -1, -1]]))
        >>> to_data(tokens)
        DataBatch(x=[3, 8], pos=[3, 3], sizes=[3], batch=[3], ptr=[3])
    """
    try:
        from torch_geometric.data import Batch, Data
    except ImportError as error:
        raise MissingExtra(
            "Expected the package `torch_geometric` for PyG batches (it is not installed): pip install torch-geometric"
        ) from error
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


def coarsen(edge_index: Int[Tensor, "2 E"], cluster: Int[Tensor, " n"]) -> Int[Tensor, "2 F"]:
    """The edges between groups: ends renamed to their groups, loops removed, each edge once, in sorted order.

    Args:
        edge_index: (2, E) edges between points.
        cluster: (n,) group of each point; edges at a dropped point (-1) go with it.

    Raises:
        InputError: an edge that ends at no point of `cluster`.

    Example:
        >>> import torch
        >>> coarsen(torch.tensor([[0, 1, 2, 0], [1, 2, 3, 3]]), torch.tensor([0, 0, 1, 1]))
        tensor([[0],
                [1]])
    """
    if edge_index.ndim != 2 or len(edge_index) != 2 or edge_index.dtype != torch.int64:
        raise InputError(
            f"Expected 'edge_index' as int64 of shape (2, E) "
            f"(got {edge_index.dtype} of shape {tuple(edge_index.shape)})."
        )
    if not edge_index.numel():
        return edge_index
    if int(edge_index.min()) < 0 or int(edge_index.max()) >= len(cluster):
        raise InputError(
            f"Expected edges between points 0 to {len(cluster) - 1} "
            f"(got ends from {int(edge_index.min())} to {int(edge_index.max())})."
        )
    ends = cluster[edge_index]  # (2, E)
    ends = ends[:, (ends >= 0).all(0) & (ends[0] != ends[1])]
    groups = len(cluster)  # never fewer than there are groups
    codes = torch.unique(ends[0] * groups + ends[1])
    return torch.stack([codes // groups, codes % groups])


class MergePool(nn.Module):
    """Pooling for a PyG network: points that a reduction groups become one point, their size-weighted mean.

    Laws: pooled `x` and `pos` are the means over `cluster`; graphs never mix; gradients flow through the
    means, and the choice of groups has none.

    Args:
        group: any function of `tokred_sci.reduction`, `(metric, tokens, keep) -> Grouping`.
        budget: points to keep of each graph: an int (at most so many), a share in (0, 1], or a function of
            `tokred_sci.reduction.budget`.
        metric: what is compared, from tokens; None compares `x`, `lambda tokens: tokens.positions` places.

    Reference: pooling of points by a cluster vector, Dynamic Edge-Conditioned Filters in Convolutional Neural
    Networks on Graphs (Simonovsky and Komodakis, 2017), https://arxiv.org/abs/1704.02901.

    Example:
        >>> import torch
        >>> from tokred_sci.reduction.control import stride
        >>> x, pos, batch = torch.arange(6.0)[:, None], torch.zeros(6, 3), torch.tensor([0, 0, 0, 0, 1, 1])
        >>> edges = torch.tensor([[0, 1, 2, 4], [1, 2, 3, 5]])
        >>> x, pos, batch, edges, cluster = MergePool(stride, 0.5)(x, pos, batch, edges)
        >>> x.flatten().tolist(), batch.tolist(), edges.tolist(), cluster.tolist()
        ([0.5, 2.5, 4.5], [0, 0, 1], [[0], [1]], [0, 0, 1, 1, 2, 2])
    """

    def __init__(
        self,
        group: Callable[..., Grouping],
        budget: int | float | Budget,
        metric: Callable[[Tokens], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.group, self.budget, self.metric = group, as_budget(budget), metric

    def forward(
        self,
        x: Float[Tensor, "n D"],
        pos: Float[Tensor, "n P"],
        batch: Int[Tensor, " n"] | None = None,
        edge_index: Int[Tensor, "2 E"] | None = None,
        sizes: Float[Tensor, " n"] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Int[Tensor, " n"]]:
        """Pool a batch in PyG's shapes.

        Args:
            x: (n, D) features.
            pos: (n, 3 or 1) places.
            batch: (n,) graph of each point; None = all one graph.
            edge_index: (2, E) edges, coarsened with the points.
            sizes: (n,) weight of each point; None = 1. After a first pooling, hand the second
                `torch.bincount(cluster).float()` and means stay means over the original points.

        Returns:
            (x, pos, batch, edge_index, cluster): pooled points, ordered by graph, and the row each old
            point went to (-1 = dropped).

        Raises:
            InputError: shapes that do not fit together.
        """
        graphs, tokens, flat = _pad(x, pos, batch, sizes)
        with torch.no_grad():
            metric = tokens.features if self.metric is None else self.metric(tokens)
            grouping = self.group(metric, tokens, self.budget(metric, tokens))
        merged = merge(tokens, grouping)
        rows = flat.argsort().argsort()  # place of each point when the batch is read graph by graph
        cluster = to_cluster(tokens, grouping)[rows]
        mask = merged.mask
        edges = None if edge_index is None else coarsen(edge_index, cluster)
        return merged.features[mask], merged.positions[mask], graphs[mask.nonzero()[:, 0]], edges, cluster


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
