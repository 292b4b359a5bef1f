"""PyG's shapes and ours: the way there and back, and pooling held against PyG's own."""

import importlib
import sys
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.errors import InputError, MissingExtra
from tokred_sci.reduction import budget, chain, control, density, graph
from tokred_sci.reduction.merge import merge
from tokred_sci.tokens import Grouping

pytest.importorskip("torch_geometric")
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCNConv, Sequential, avg_pool_x, global_mean_pool
from torch_geometric.transforms import BaseTransform, Compose, NormalizeScale
from torch_geometric.utils import coalesce, remove_self_loops, scatter

from tokred_sci.interop.pyg import ReduceCloud, TokenPool, coarsen, from_data, to_cluster, to_data

GROUPS = [control.none, control.stride, graph.bipartite, chain.links, partial(density.peaks, neighbours=3)]
NAMES = ["none", "stride", "bipartite", "links", "peaks"]
POINT_SETS = ["rank", "agglomerative", "knn", "voxel", "peaks", "dbscan", "hdbscan"]  # groups of a set, not a list


def clouds(counts=(7, 1, 12), dim=5):
    draw = torch.Generator().manual_seed(0)
    return Batch.from_data_list(
        [Data(pos=torch.randn(n, 3, generator=draw), x=torch.randn(n, dim, generator=draw)) for n in counts]
    )


def test_round_trip():
    data = clouds()
    tokens = from_data(data)
    assert tokens.features.shape == (3, 12, 5)
    assert tokens.counts.tolist() == [7, 1, 12]
    assert tokens.source[1].tolist() == [0] + [-1] * 11
    back = to_data(tokens)
    for name in ("pos", "x", "batch", "ptr"):
        assert torch.equal(back[name], data[name])
    assert torch.equal(back.sizes, torch.ones(20))
    assert [len(cloud.pos) for cloud in back.to_data_list()] == [7, 1, 12]


def test_one_cloud_without_features():
    pos = torch.randn(4, 3, dtype=torch.float64)
    tokens = from_data(Data(pos=pos))
    assert torch.equal(tokens.features[0], pos)
    assert torch.equal(tokens.positions[0], pos)
    assert torch.equal(to_data(tokens).pos, pos)


def test_points_in_any_order():
    data = Data(pos=torch.arange(4.0)[:, None], batch=torch.tensor([1, 0, 1, 0]))
    assert from_data(data).positions.squeeze(2).tolist() == [[1, 3], [0, 2]]
    pooled = TokenPool("stride", 1)(data.pos, batch=data.batch)
    assert pooled.x.flatten().tolist() == [2, 1]
    assert pooled.batch.tolist() == [0, 1]
    assert pooled.cluster.tolist() == [1, 0, 1, 0]


@settings(max_examples=20)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
    keep=st.sampled_from([1, 3, 0.4, 1.0]),
    name=st.sampled_from(["stride", "bipartite", "peaks", "voxel", "agglomerative"]),
)
def test_mass_is_kept_and_a_graph_is_pooled_alone_as_in_any_batch(counts, seed, keep, name):
    draw, pool = torch.Generator().manual_seed(seed), TokenPool(name, keep)
    x = torch.randn(sum(counts), 4, generator=draw, dtype=torch.float64)
    pos = torch.randn(sum(counts), 3, generator=draw, dtype=torch.float64)
    edges = torch.cat([torch.randint(n, (2, 3 * n), generator=draw) + sum(counts[:i]) for i, n in enumerate(counts)], 1)
    sizes = torch.randint(1, 4, (sum(counts),), generator=draw).float()
    batch = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    pooled = pool(x, edges, None, batch, pos, sizes)
    for now, then in ((pooled.x, x), (pooled.pos, pos)):
        torch.testing.assert_close((pooled.sizes[:, None] * now).sum(0), (sizes[:, None] * then).sum(0))
    assert torch.equal(scatter(sizes, pooled.cluster), pooled.sizes)
    first, row = 0, 0
    for count in counts:
        mine = slice(first, first + count)
        inside = edges[:, (edges[0] >= first) & (edges[0] < first + count)] - first
        alone = pool(x[mine], inside, None, None, pos[mine], sizes[mine])
        assert torch.equal(alone.cluster + row, pooled.cluster[mine])
        torch.testing.assert_close(alone.x, pooled.x[row : row + len(alone.x)], rtol=1e-12, atol=1e-12)
        ours = pooled.edge_index[:, (pooled.edge_index[0] >= row) & (pooled.edge_index[0] < row + len(alone.x))]
        assert torch.equal(alone.edge_index + row, ours)
        first, row = first + count, row + len(alone.x)
    assert row == len(pooled.x)


@pytest.mark.parametrize("name", POINT_SETS)
def test_the_order_of_nodes_does_not_matter_to_methods_of_sets(name):
    draw, pool = torch.Generator().manual_seed(0), TokenPool(name, 7)
    x, pos = (torch.randn(30, k, generator=draw, dtype=torch.float64) for k in (5, 3))
    edges, order = torch.randint(30, (2, 90), generator=draw), torch.randperm(30, generator=draw)
    plain = pool(x, edges, torch.ones(90), pos=pos)
    mixed = pool(x[order], order.argsort()[edges], torch.ones(90), pos=pos[order])
    rows = torch.empty(len(plain.x), dtype=torch.long).index_copy(
        0, plain.cluster[order], mixed.cluster
    )  # ours: theirs
    assert torch.equal(rows[plain.cluster[order]], mixed.cluster)
    torch.testing.assert_close(mixed.x[rows], plain.x)
    renamed = coalesce(rows[plain.edge_index], num_nodes=len(rows))
    assert torch.equal(renamed, mixed.edge_index)


@pytest.mark.parametrize("keep", [3, 0.4, budget.threshold(0.2)], ids=["constant", "ratio", "threshold"])
@pytest.mark.parametrize("group", GROUPS, ids=NAMES)
def test_pooled_means_are_those_of_pyg(group, keep):
    data = clouds()
    pooled = TokenPool(group, keep)(data.x, batch=data.batch, pos=data.pos)
    theirs, their_batch = avg_pool_x(pooled.cluster, data.x, data.batch)
    torch.testing.assert_close(pooled.x, theirs)
    torch.testing.assert_close(pooled.pos, scatter(data.pos, pooled.cluster, reduce="mean"))
    assert torch.equal(pooled.batch, their_batch)
    assert pooled.edge_index is None and pooled.edge_attr is None
    assert torch.equal(pooled.batch[pooled.cluster], data.batch)  # graphs never mix
    assert len(pooled.cluster.unique()) == len(pooled.x)


def test_cluster_points_at_the_rows_of_to_data():
    tokens = from_data(clouds())
    grouping = graph.bipartite(tokens.features, tokens, torch.tensor([4, 1, 9]))
    rows = to_cluster(tokens, grouping)
    pooled = to_data(merge(tokens, grouping))
    torch.testing.assert_close(scatter(to_data(tokens).x, rows, reduce="mean"), pooled.x)
    assert torch.equal(rows.bincount().float(), pooled.sizes)
    with pytest.raises(InputError, match=r"for \(3, 12\) tokens"):
        to_cluster(tokens, Grouping(torch.zeros(1, 2).long(), 1))


def test_two_poolings_with_sizes_are_one_mean():
    data = clouds((9,))
    first = TokenPool("stride", 4)(data.x, pos=data.pos)
    second = TokenPool("stride", 1)(first.x, pos=first.pos, sizes=first.sizes)
    torch.testing.assert_close(second.x[0], data.x.mean(0))
    torch.testing.assert_close(second.pos[0], data.pos.mean(0))
    assert second.sizes.tolist() == [9]


def test_metric_may_be_the_places():
    pos = torch.tensor([[1.0, 0, 0], [1, 0.1, 0], [0, 1, 0], [0.1, 1, 0]])
    for metric in ("pos", lambda tokens: tokens.positions):
        cluster = TokenPool(graph.bipartite, 2, metric=metric)(torch.randn(4, 2), pos=pos).cluster
        assert cluster[0] == cluster[1] != cluster[2] == cluster[3]


def test_edges_by_hand():
    #   0 - 1 - 2 - 3 - 0, both ways, groups {0, 1}, {2}, {3}
    edges = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0], [1, 0, 2, 1, 3, 2, 0, 3]])
    groups = torch.tensor([0, 0, 1, 2])
    assert coarsen(edges, groups)[0].tolist() == [[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]]
    assert coarsen(edges, groups, loops=True)[0].tolist() == [[0, 0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 2, 0, 1]]
    assert coarsen(edges, torch.tensor([0, 0, 1, -1]))[0].tolist() == [[0, 1], [1, 0]]
    assert coarsen(edges, torch.zeros(4).long())[0].shape == (2, 0)
    assert coarsen(edges[:, :0], torch.zeros(4).long(), torch.ones(0, 3))[1].shape == (0, 3)


def test_edges_that_fit_nothing_are_refused():
    edges, groups = torch.tensor([[0, 1], [1, 2]]), torch.zeros(3).long()
    with pytest.raises(InputError, match=r"points 0 to 1 .*from 0 to 2"):
        coarsen(edges, groups[:2])
    with pytest.raises(InputError, match=r"\(2, E\)"):
        coarsen(edges[:1], groups)
    with pytest.raises(InputError, match="one row for each of 2 edges"):
        coarsen(edges, groups, torch.ones(3))
    with pytest.raises(InputError, match="one-hot"):
        coarsen(edges, groups, torch.ones(2).long())
    with pytest.raises(InputError, match="'mean' or 'sum'"):
        coarsen(edges, groups, how="max")


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("how", ["mean", "sum"])
def test_edges_and_their_attributes_are_those_of_pyg(how, loops):
    data, draw = clouds((30,)), torch.Generator().manual_seed(1)
    edges, attr = torch.randint(0, 30, (2, 200), generator=draw), torch.randn(200, 3, generator=draw)
    pooled = TokenPool("bipartite", 0.5, how=how, loops=loops)(data.x, edges, attr, data.batch)
    renamed = pooled.cluster[edges]
    theirs = coalesce(*((renamed, attr) if loops else remove_self_loops(renamed, attr)), reduce=how)
    assert torch.equal(pooled.edge_index, theirs[0])
    torch.testing.assert_close(pooled.edge_attr, theirs[1])
    if how == "sum" and loops:
        torch.testing.assert_close(pooled.edge_attr.sum(0), attr.sum(0))


@pytest.mark.parametrize("group", GROUPS, ids=NAMES)
def test_gradients_flow(group):
    data, edges = clouds(), torch.stack([torch.arange(19), torch.arange(1, 20)])
    x, pos = data.x.double().requires_grad_(), data.pos.double().requires_grad_()
    attr = torch.randn(19, 2, dtype=torch.float64, requires_grad=True)
    pooled = TokenPool(group, 0.5, loops=True)(x, edges, attr, data.batch, pos)
    (pooled.x.square().sum() + pooled.pos.square().sum() + pooled.edge_attr.square().sum()).backward()
    for leaf in (x, pos, attr):
        assert leaf.grad.isfinite().all()
        assert (leaf.grad != 0).any(1).all()
    batch = data.batch
    torch.autograd.gradcheck(lambda x, attr: TokenPool("stride", 0.5)(x, edges, attr, batch)[:3:2], (x, attr))


def test_a_small_network_of_pyg_trains():
    """Rings of two kinds: the sign of the first feature, hidden in noise, is learned through the pooling."""
    torch.manual_seed(0)
    label = torch.arange(16) % 2
    ring = torch.stack([torch.arange(10), (torch.arange(10) + 1) % 10])
    data = Batch.from_data_list(
        [Data(x=torch.randn(10, 4) + torch.tensor([2.0 * y - 1, 0, 0, 0]), edge_index=ring) for y in label.tolist()]
    )
    net = Sequential(
        "x, edge_index, edge_attr, batch",
        [
            (GCNConv(4, 8), "x, edge_index -> x"),
            torch.nn.ReLU(),
            (
                TokenPool("bipartite", 0.5),
                "x, edge_index, edge_attr, batch -> x, edge_index, edge_attr, batch, cluster, pos, size",
            ),
            (GCNConv(8, 8), "x, edge_index -> x"),
            (global_mean_pool, "x, batch -> x"),
            torch.nn.Linear(8, 2),
        ],
    )
    step = torch.optim.Adam(net.parameters(), 0.02)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(net(data.x, data.edge_index, None, data.batch), label)
        step.zero_grad()
        loss.backward()
        step.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_a_reduced_cloud_is_as_the_means_and_majorities_say():
    pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 0, 0], [10, 0, 0]])
    data = Data(
        x=torch.arange(5.0)[:, None],
        pos=pos,
        y=torch.tensor([3, 1, 1, 2, 0]),
        normal=torch.eye(5),
        seen=torch.tensor([True, True, False, True, False]),
        edge_index=torch.tensor([[0, 1, 2, 2, 3], [1, 2, 3, 3, 4]]),
        edge_attr=torch.tensor([1.0, 1, 2, 4, 1]),
        face=torch.tensor([[0], [1], [2]]),
        name="a cloud",
    )
    small = ReduceCloud("fps", 2, how="sum")(data)
    assert small.x.flatten().tolist() == [1, 3.5] and small.pos[:, 0].tolist() == [1, 9.5]
    assert small.y.tolist() == [1, 0] and small.seen.tolist() == [True, False]  # ties go to the lowest
    torch.testing.assert_close(small.normal, torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 1.5, 1.5]]) / 3)
    assert small.edge_index.tolist() == [[0], [1]] and small.edge_attr.tolist() == [6]
    assert small.sizes.tolist() == [3, 2] and small.source_index.tolist() == [0, 0, 0, 1, 1]
    assert small.name == "a cloud" and "face" not in small and len(data.pos) == 5
    again = ReduceCloud("stride", 1)(small)
    assert again.x.item() == 2 and again.y.item() == 1 and again.sizes.item() == 5  # 1 has two of five, 0 one after all
    assert again.source_index.tolist() == [0] * 5
    assert small.validate() and small.num_edges == 1


def test_a_transform_among_transforms_hands_answers_back_in_any_batch():
    chosen = Compose([NormalizeScale(), ReduceCloud("knn", 0.3)])
    whole = [Data(pos=torch.randn(n, 3, generator=torch.Generator().manual_seed(n))) for n in (20, 7, 11)]
    small = Batch.from_data_list([chosen(cloud) for cloud in whole])
    assert isinstance(chosen.transforms[1], BaseTransform) and small.x is None
    assert (small.batch.bincount() == torch.tensor([6, 3, 4])).all() and small.sizes.sum() == 38
    held = small.batch[small.source_index]
    assert held.tolist() == [0] * 20 + [1] * 7 + [2] * 11
    assert torch.equal(small.source_index.bincount().float(), small.sizes)


def test_reduced_graph_labels_stay():
    small = ReduceCloud("stride", 2)(Data(pos=torch.randn(6, 3), y=torch.tensor([5])))
    assert small.y.tolist() == [5]


def test_what_does_not_fit_is_refused():
    x, pos = torch.zeros(3, 2), torch.zeros(3, 3)
    with pytest.raises(InputError, match="with 'pos'"):
        from_data(Data(x=x))
    with pytest.raises(InputError, match=r"graphs \[1\] have none"):
        from_data(Batch.from_data_list([Data(pos=pos), Data(pos=pos[:0]), Data(pos=pos)]))
    with pytest.raises(InputError, match="n >= 1"):
        from_data(Data(pos=pos[:0]))
    with pytest.raises(InputError, match="one n"):
        TokenPool("stride", 2)(x[:2], pos=pos)
    with pytest.raises(InputError, match="'sizes' > 0"):
        TokenPool("stride", 2)(x, pos=pos, sizes=torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(InputError, match="looks at places"):
        TokenPool("voxel", 2)(x)
    with pytest.raises(InputError, match="looks at places"):
        TokenPool("peaks", 2, metric="pos")(x)


def test_methods_and_data_a_transform_cannot_take_are_refused():
    cloud = Data(pos=torch.randn(4, 3))
    with pytest.raises(InputError, match="did you mean 'peaks'"):
        TokenPool("peak", 2)
    with pytest.raises(InputError, match="belong into an Encoder"):
        TokenPool("soft", 2)
    with pytest.raises(InputError, match="'x', 'pos'"):
        TokenPool("peaks", 2, metric="y")
    with pytest.raises(InputError, match="drops some"):
        ReduceCloud("truncate", 2)
    with pytest.raises(InputError, match="drops some"):
        ReduceCloud(partial(control.topk), 2)(cloud)
    with pytest.raises(InputError, match="batch then"):
        ReduceCloud("stride", 2)(Batch.from_data_list([cloud, cloud]))
    with pytest.raises(InputError, match="'pos'"):
        ReduceCloud("stride", 2)(Data(x=torch.randn(4, 3)))


def test_pooling_skips_graphs_without_points():
    pooled = TokenPool("stride", 1)(torch.ones(3, 2), batch=torch.tensor([0, 2, 2]))
    assert pooled.batch.tolist() == [0, 2]
    assert pooled.cluster.tolist() == [0, 1, 1]


def test_without_pyg_the_import_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    monkeypatch.delitem(sys.modules, "tokred_sci.interop.pyg")
    with pytest.raises(MissingExtra, match="pip install torch-geometric"):
        importlib.import_module("tokred_sci.interop.pyg")
