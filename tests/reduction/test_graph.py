"""What one graph method promises beyond the common laws."""

import math
import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.cluster import AgglomerativeClustering

from tokred_sci.errors import InputError
from tokred_sci.reduction.chain import local
from tokred_sci.reduction.density import peaks
from tokred_sci.reduction.graph import agglomerative, bipartite, contract, energy, knn, rank
from tokred_sci.tokens import Tokens


def tokens_of(x):
    count = x.shape[1]
    return Tokens(x, torch.arange(count).double().view(1, count, 1), torch.ones(1, count), torch.arange(count)[None])


def plain_local(x, keep, width, causal):
    """One round with every pair written out."""
    x = F.normalize(x, dim=-1)
    count = len(x)
    pairs = []
    for i in range(1, count, 2):
        reach = range(i // 2 - width + 1, i // 2 + (1 if causal else 1 + width))
        candidates = [2 * j for j in reach if 0 <= 2 * j < count]
        partner = max(candidates, key=lambda c, i=i: (float(x[i] @ x[c]), -c))
        pairs.append((-float(x[i] @ x[partner]), i, partner))
    joins = {i: partner for _, i, partner in sorted(pairs)[: count - keep]}
    names = {i: n for n, i in enumerate(i for i in range(count) if i not in joins)}
    return [names[joins.get(i, i)] for i in range(count)]


@given(st.integers(2, 40), st.integers(0, 100), st.floats(0, 1), st.integers(1, 5), st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_local_is_its_plain_form(count, seed, share, width, causal):
    x = torch.randn(1, count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    keep = count - int(share * (count // 2))
    got = local(x, tokens_of(x), keep, width, causal).labels[0].tolist()
    assert got == plain_local(x[0], keep, width, causal)


def test_local_with_a_width_over_everything_is_bipartite():
    x = torch.randn(1, 30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for keep in (15, 20, 4):
        assert torch.equal(local(x, tokens_of(x), keep, 30).labels, bipartite(x, tokens_of(x), keep).labels)


@pytest.mark.parametrize("keep", [20, 12, 5, 1])
def test_causal_tokens_only_join_earlier_ones(keep):
    """So the token that others joined comes first in its group, and groups stand in the order of their first tokens."""
    x = torch.randn(1, 40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = local(x, tokens_of(x), keep, width=3, causal=True).labels[0]
    firsts = [int((labels == g).nonzero()[0]) for g in range(keep)]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("width", [0, -1, 1.5, True])
def test_a_width_that_is_none_is_refused(width):
    x = torch.zeros(1, 4, 2)
    with pytest.raises(InputError, match="'width' as an int >= 1"):
        local(x, tokens_of(x), 2, width)


def members(labels):
    return {frozenset((labels == g).nonzero().flatten().tolist()) for g in labels.unique()}


def random_x(count, seed=0, dim=4):
    return torch.randn(1, count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("width", [1, 4, 8, 32])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("count", [97, 200])  # blocks of the band that are full, and that are not
def test_local_of_any_width_is_its_plain_form(width, causal, count):
    for seed in range(3):
        x, keep = random_x(count, seed), count - count // 3
        got = local(x, tokens_of(x), keep, width, causal).labels[0].tolist()
        assert got == plain_local(x[0], keep, width, causal)


@pytest.mark.parametrize("width", [1, 4, 8])
def test_causal_partners_come_before(width):
    """In one round each group is a pair or alone, and the even place of a pair is the lower one."""
    x = random_x(101, 1)
    for group in members(local(x, tokens_of(x), 70, width, causal=True).labels[0]):
        stays = [place for place in group if place % 2 == 0]
        assert len(group) == 1 or stays == [min(group)]


# Agglomerative ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linkage", ["single", "average", "complete", "ward"])
@given(count=st.integers(2, 60), seed=st.integers(0, 99), share=st.floats(0, 1))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_agglomerative_is_that_of_scikit_learn(linkage, count, seed, share):
    x, keep = random_x(count, seed), max(1, int(share * count))
    metric = "euclidean" if linkage == "ward" else "cosine"
    model = AgglomerativeClustering(n_clusters=keep, metric=metric, linkage=linkage)
    expected = model.fit_predict(F.normalize(x[0], dim=-1).numpy())
    labels = agglomerative(x, tokens_of(x), keep, linkage).labels[0]
    assert members(labels) == members(torch.from_numpy(expected))
    firsts = [int((labels == g).nonzero()[0]) for g in range(keep)]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize(
    ("linkage", "chain"), [("median", False), ("complete", True), ("average ", True), (None, False)]
)
def test_a_linkage_that_is_not_offered_is_refused(linkage, chain):
    x = random_x(4)
    with pytest.raises(InputError, match=re.escape(f"(got {linkage!r})")):
        agglomerative(x, tokens_of(x), 2, linkage, chain)


# Matching and contraction -----------------------------------------------------------------------------------


def scattered(x, axes, seed=0):
    places = torch.randn(1, x.shape[1], axes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    tokens = tokens_of(x)
    return Tokens(x, places, tokens.sizes, tokens.source)


def space_graph(tokens, neighbours):
    """Edges (i, j), i < j, of each token with its nearest in space."""
    distance = cdist(tokens.positions[0], tokens.positions[0])
    near = distance.argsort(1, kind="stable")[:, : neighbours + 1]
    return {(min(i, j), max(i, j)) for i, row in enumerate(near.tolist()) for j in row if i != j}


def chain_graph(count):
    return {(i, i + 1) for i in range(count - 1)}


def best_first(x, edges):
    unit = F.normalize(x[0], dim=-1)
    return sorted(edges, key=lambda edge: -float(unit[edge[0]] @ unit[edge[1]]))


def components(count, edges):
    home = list(range(count))
    for i, j in edges:
        home = [home[i] if h == home[j] else h for h in home]
    return members(torch.tensor(home))


def nearest_pairs(count, edges):
    """The first edge at each node, best first."""
    return [edge for edge in edges if any(edge == next(e for e in edges if node in e) for node in edge)]


def greedy_pairs(edges):
    used, pairs = set(), []
    for edge in edges:
        if not used & set(edge):
            used |= set(edge)
            pairs.append(edge)
    return pairs


@given(count=st.integers(2, 40), seed=st.integers(0, 99), share=st.floats(0, 1), neighbours=st.integers(1, 9))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_round_of_knn_is_greedy_matching(count, seed, share, neighbours):
    x = random_x(count, seed)
    tokens = scattered(x, 3, seed)
    pairs = greedy_pairs(best_first(x, space_graph(tokens, neighbours)))
    pairs = pairs[: max(1, round(share * len(pairs)))]
    labels = knn(x, tokens, count - len(pairs), neighbours).labels[0]
    assert members(labels) == components(count, pairs)
    firsts = [int((labels == g).nonzero()[0]) for g in range(count - len(pairs))]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("graph", ["chain", "space"])
@given(count=st.integers(2, 40), seed=st.integers(0, 99), share=st.floats(0, 1))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_round_of_contract_joins_every_token_with_its_nearest_or_the_most_similar_of_these(graph, count, seed, share):
    x = random_x(count, seed)
    tokens = scattered(x, 3, seed)
    edges = best_first(x, chain_graph(count) if graph == "chain" else space_graph(tokens, 3))
    chosen = nearest_pairs(count, edges)
    for pairs in (chosen, chosen[: max(1, round(share * len(chosen)))]):
        labels = contract(x, tokens, count - len(pairs), graph, neighbours=3).labels[0]
        assert members(labels) == components(count, pairs)


def test_the_graph_of_contract_follows_the_axes():
    x = random_x(30)
    flat, deep = scattered(x, 1), scattered(x, 3)
    for tokens, graph in ((flat, "chain"), (deep, "space")):
        assert torch.equal(contract(x, tokens, 9).labels, contract(x, tokens, 9, graph).labels)
    assert not torch.equal(contract(x, flat, 9).labels, contract(x, flat, 9, "space").labels)


def test_contract_lets_no_group_grow_to_a_giant():
    """A hundred equal tokens, down to 25: single linkage could join 76 of them."""
    x = torch.ones(1, 100, 2)
    assert contract(x, tokens_of(x), 25).labels[0].bincount().max() <= 8


@pytest.mark.parametrize("group", [knn, contract])
@pytest.mark.parametrize("neighbours", [0, -1, 2.5])
def test_no_neighbours_are_refused(group, neighbours):
    x = random_x(4)
    with pytest.raises(InputError, match="'neighbours'"):
        group(x, tokens_of(x), 2, neighbours=neighbours)


def test_a_graph_that_is_none_is_refused():
    x = random_x(4)
    with pytest.raises(InputError, match=re.escape("(got 'tree', 8)")):
        contract(x, tokens_of(x), 2, "tree")


# Energy and rank --------------------------------------------------------------------------------------------


def plain_energy(x, keep, margin, alpha, form):
    """One round with every number written out."""
    unit, count = F.normalize(x, dim=-1), len(x)

    def f(cosine):
        if cosine >= margin:
            return cosine if form == "paper" else cosine - margin
        return alpha * (math.exp(cosine - margin) - 1)

    def energy_of(i):
        return sum(f(float(unit[i] @ unit[j])) for j in range(count) if j != i) / max(1, count - 1)

    order = sorted(range(count), key=lambda i: -energy_of(i))[: 2 * (count - keep)]
    leave, stay = order[::2], order[1::2]
    joins = {i: max(stay, key=lambda j, i=i: float(unit[i] @ unit[j])) for i in leave}
    names = {i: n for n, i in enumerate(i for i in range(count) if i not in joins)}
    return [names[joins.get(i, i)] for i in range(count)]


@pytest.mark.parametrize("form", ["paper", "code"])
@given(
    count=st.integers(3, 30),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
    margin=st.floats(-0.9, 0.9),
    alpha=st.floats(0.1, 2),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_energy_is_its_plain_form(form, count, seed, share, margin, alpha):
    x, keep = random_x(count, seed), count - int(share * (count // 2))
    got = energy(x, tokens_of(x), keep, margin, alpha, form).labels[0].tolist()
    assert got == plain_energy(x[0], keep, margin, alpha, form)


def test_energy_merges_the_crowd_and_leaves_the_lonely():
    crowd = torch.tensor([[1.0, 0.0, 0.0]]).repeat(6, 1) + 0.01 * random_x(6, dim=3)[0].float()
    x = torch.cat([crowd[:3], torch.eye(3)[1:], crowd[3:]])[None]
    labels = energy(x, tokens_of(x), 5).labels[0]
    sizes = labels.bincount()
    assert sizes[labels[3]] == sizes[labels[4]] == 1


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({"margin": 1.5}, "1.5 and 1.0"),
        ({"margin": float("nan")}, "nan and 1.0"),
        ({"alpha": -1.0}, "0.5 and -1.0"),
        ({"form": "book"}, "'book'"),
    ],
)
def test_an_energy_that_is_none_is_refused(options, got):
    x = random_x(4)
    with pytest.raises(InputError, match=re.escape(f"(got {got})")):
        energy(x, tokens_of(x), 2, **options)


def plain_rank(x, keep, protect, steps):
    unit = F.normalize(x, dim=-1)
    attention = torch.softmax(x.shape[1] ** 0.5 * unit @ unit.T, 1)
    importance = torch.ones(len(x), dtype=x.dtype)
    for _ in range(steps):
        importance = attention.T @ importance
    order = importance.argsort(descending=True, stable=True)[:keep]
    open_ = order[int(keep * protect) :].sort()[0]
    home = torch.arange(len(x))
    rest = [i for i in range(len(x)) if i not in order]
    home[rest] = open_[(unit[rest] @ unit[open_].T).argmax(1)]
    return torch.unique(home, return_inverse=True)[1].tolist()


@given(
    count=st.integers(2, 30),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
    protect=st.floats(0, 0.99),
    steps=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_rank_is_its_plain_form_and_leaves_the_most_important_alone(count, seed, share, protect, steps):
    x, keep = random_x(count, seed), max(1, int(share * count))
    labels = rank(x, tokens_of(x), keep, protect, steps).labels[0]
    assert labels.tolist() == plain_rank(x[0], keep, protect, steps)
    assert (labels.bincount() == 1).sum() >= int(keep * protect)


@pytest.mark.parametrize(("protect", "steps"), [(1.0, 2), (-0.1, 2), (float("nan"), 2), (0.5, 0), (0.5, 1.5)])
def test_a_rank_that_is_none_is_refused(protect, steps):
    x = random_x(4)
    with pytest.raises(InputError, match=re.escape(f"(got {protect!r} and {steps!r})")):
        rank(x, tokens_of(x), 2, protect, steps)


# Half products ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "group", [bipartite, energy, partial(energy, form="code"), rank, partial(rank, protect=0.0), peaks]
)
def test_half_products_find_the_same_families(group):
    """Orthogonal directions, fifty copies of each with a hundredth of noise: groups stay within directions."""
    draw, count = torch.Generator().manual_seed(0), 400
    family = torch.randperm(count, generator=draw) % 8
    x = (torch.eye(8)[family] + 0.01 * torch.randn(count, 8, generator=draw))[None]
    for keep in (count // 2, count // 3):
        labels = [group(x, tokens_of(x), keep, half=half).labels[0] for half in (False, True)]
        for found in labels:
            assert len(found.unique()) == keep
            assert all(len({int(family[i]) for i in inside}) == 1 for inside in members(found))


def test_half_products_agree_with_float32_on_twins():
    """Twins at even and odd places: each has one partner that is far nearer than any other."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(64, 16, generator=draw)
    x = (centres.repeat_interleave(2, 0) + 1e-3 * torch.randn(128, 16, generator=draw))[None]
    for group in (bipartite, peaks):
        assert members(group(x, tokens_of(x), 64, half=True).labels[0]) == {
            frozenset([2 * i, 2 * i + 1]) for i in range(64)
        }
