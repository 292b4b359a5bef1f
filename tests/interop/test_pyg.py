"""PyG's shapes and ours: the way there and back, and pooling held against PyG's own."""

import sys
from functools import partial

import pytest
import torch

from tokred_sci.errors import InputError, MissingExtra
from tokred_sci.interop.pyg import MergePool, coarsen, from_data, to_cluster, to_data
from tokred_sci.reduction import budget, chain, control, density, graph
from tokred_sci.reduction.merge import merge
from tokred_sci.tokens import Grouping, Tokens

pytest.importorskip("torch_geometric")
from torch_geometric.data import Batch, Data
from torch_geometric.nn import avg_pool_x
from torch_geometric.utils import coalesce, remove_self_loops, scatter

GROUPS = [control.none, control.stride, graph.bipartite, chain.links, partial(density.peaks, neighbours=3)]
NAMES = ["none", "stride", "bipartite", "links", "peaks"]


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
    x, _, batch, _, cluster = MergePool(control.stride, 1)(data.pos, data.pos, data.batch)
    assert x.flatten().tolist() == [2, 1]
    assert batch.tolist() == [0, 1]
    assert cluster.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("keep", [3, 0.4, budget.threshold(0.2)], ids=["constant", "ratio", "threshold"])
@pytest.mark.parametrize("group", GROUPS, ids=NAMES)
def test_pooled_means_are_those_of_pyg(group, keep):
    data = clouds()
    x, pos, batch, edges, cluster = MergePool(group, keep)(data.x, data.pos, data.batch)
    theirs, their_batch = avg_pool_x(cluster, data.x, data.batch)
    torch.testing.assert_close(x, theirs)
    torch.testing.assert_close(pos, scatter(data.pos, cluster, reduce="mean"))
    assert torch.equal(batch, their_batch)
    assert edges is None
    assert torch.equal(batch[cluster], data.batch)  # graphs never mix
    assert len(cluster.unique()) == len(x)


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
    x, pos, batch, _, first = MergePool(control.stride, 4)(data.x, data.pos)
    x, pos, *_ = MergePool(control.stride, 1)(x, pos, batch, sizes=first.bincount().float())
    torch.testing.assert_close(x[0], data.x.mean(0))
    torch.testing.assert_close(pos[0], data.pos.mean(0))


def test_metric_may_be_the_places():
    pos = torch.tensor([[1.0, 0, 0], [1, 0.1, 0], [0, 1, 0], [0.1, 1, 0]])
    pool = MergePool(graph.bipartite, 2, metric=lambda tokens: tokens.positions)
    cluster = pool(torch.randn(4, 2), pos)[-1]
    assert cluster[0] == cluster[1]
    assert cluster[2] == cluster[3]
    assert cluster[0] != cluster[2]


def test_edges_by_hand():
    #   0 - 1 - 2 - 3 - 0, both ways, groups {0, 1}, {2}, {3}
    edges = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0], [1, 0, 2, 1, 3, 2, 0, 3]])
    assert coarsen(edges, torch.tensor([0, 0, 1, 2])).tolist() == [[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]]
    assert coarsen(edges, torch.tensor([0, 0, 1, -1])).tolist() == [[0, 1], [1, 0]]
    assert coarsen(edges, torch.zeros(4).long()).shape == (2, 0)
    assert coarsen(edges[:, :0], torch.zeros(4).long()).shape == (2, 0)
    with pytest.raises(InputError, match=r"points 0 to 2 .*from 0 to 3"):
        coarsen(edges, torch.zeros(3).long())
    with pytest.raises(InputError, match=r"\(2, E\)"):
        coarsen(edges.T, torch.zeros(4).long())


def test_edges_are_those_of_pyg():
    data = clouds((30,))
    edges = torch.randint(0, 30, (2, 200), generator=torch.Generator().manual_seed(1))
    *_, ours, cluster = MergePool(graph.bipartite, 0.5)(data.x, data.pos, data.batch, edges)
    assert torch.equal(ours, coalesce(remove_self_loops(cluster[edges])[0]))


@pytest.mark.parametrize("group", GROUPS, ids=NAMES)
def test_gradients_flow(group):
    data = clouds()
    x, pos = data.x.double().requires_grad_(), data.pos.double().requires_grad_()
    pooled, places, *_ = MergePool(group, 0.5)(x, pos, data.batch)
    (pooled.square().sum() + places.square().sum()).backward()
    for leaf in (x, pos):
        assert leaf.grad.isfinite().all()
        assert (leaf.grad != 0).any(1).all()
    batch = data.batch
    torch.autograd.gradcheck(lambda x: MergePool(control.stride, 0.5)(x, pos, batch)[0], x)


def test_in_a_network_of_pyg():
    from torch_geometric.nn import GCNConv, Sequential

    data = clouds()
    edges = torch.stack([torch.arange(19), torch.arange(1, 20)])
    net = Sequential(
        "x, pos, batch, edge_index",
        [
            (GCNConv(5, 8), "x, edge_index -> x"),
            (
                MergePool(graph.bipartite, 0.5),
                "x, pos, batch, edge_index -> x, pos, batch, edge_index, cluster",
            ),
            (GCNConv(8, 2), "x, edge_index -> x"),
        ],
    )
    out = net(data.x, data.pos, data.batch, edges)
    assert out.shape == (4 + 1 + 6, 2)
    out.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in net.parameters())


def test_what_does_not_fit_is_refused():
    x, pos = torch.zeros(3, 2), torch.zeros(3, 3)
    with pytest.raises(InputError, match="with 'pos'"):
        from_data(Data(x=x))
    with pytest.raises(InputError, match=r"graphs \[1\] have none"):
        from_data(Batch.from_data_list([Data(pos=pos), Data(pos=pos[:0]), Data(pos=pos)]))
    with pytest.raises(InputError, match="n >= 1"):
        from_data(Data(pos=pos[:0]))
    with pytest.raises(InputError, match="one n"):
        MergePool(control.stride, 2)(x[:2], pos)
    with pytest.raises(InputError, match="'sizes' > 0"):
        MergePool(control.stride, 2)(x, pos, sizes=torch.tensor([1.0, 0.0, 1.0]))


def test_pooling_skips_graphs_without_points():
    _, _, batch, _, cluster = MergePool(control.stride, 1)(torch.ones(3, 2), torch.ones(3, 3), torch.tensor([0, 2, 2]))
    assert batch.tolist() == [0, 2]
    assert cluster.tolist() == [0, 1, 1]


def test_without_pyg(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    tokens = Tokens(torch.zeros(1, 1, 1), torch.zeros(1, 1, 3), torch.ones(1, 1), torch.zeros(1, 1).long())
    with pytest.raises(MissingExtra, match="pip install torch-geometric"):
        to_data(tokens)
