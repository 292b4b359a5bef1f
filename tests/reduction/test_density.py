"""What one density method promises beyond the common laws."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from tokred_sci.errors import InputError
from tokred_sci.reduction.density import cover, dbscan, hdbscan, peaks, shift
from tokred_sci.reduction.near import LONG, closeness, highest, nearest
from tokred_sci.tokens import Tokens


def tokens_of(x):
    count = x.shape[1]
    return Tokens(x, torch.arange(count).double().view(1, count, 1), torch.ones(1, count), torch.arange(count)[None])


def reach(x, labels):
    """For each group the smallest, over its members, of the distance to its farthest member: a centre's reach."""
    x = F.normalize(x, dim=-1)
    members = [x[labels == g] for g in range(int(labels.max()) + 1)]
    return max(float(torch.cdist(m, m).amax(1).min()) for m in members)


@given(st.integers(1, 60), st.integers(0, 100), st.floats(0.05, 1.9))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_with_a_radius_every_token_is_that_near_to_its_centre_and_centres_are_farther_apart(count, seed, radius):
    x = torch.randn(1, count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = cover(x, tokens_of(x), count, radius).labels[0]
    assert reach(x[0], labels) <= radius + 1e-12
    assert set(labels.tolist()) == set(range(int(labels.max()) + 1))


def test_with_a_radius_the_count_does_not_grow_with_length():
    """The packing bound on the circle: centres more than r apart, so at most 2 pi / (2 arcsin(r / 2)) of them."""
    draw = torch.Generator().manual_seed(0)
    bound = 3.1416 / torch.tensor(0.25).arcsin()
    for count in (64, 256, 1024, 4096):
        x = torch.randn(1, count, 2, generator=draw, dtype=torch.float64)
        groups = int(cover(x, tokens_of(x), 64, radius=0.5).labels.max()) + 1
        assert 6 <= groups <= bound


def test_the_budget_bounds_what_the_radius_asks_for():
    x = torch.randn(1, 50, 8, generator=torch.Generator().manual_seed(0))
    assert int(cover(x, tokens_of(x), 7, radius=1e-3).labels.max()) == 6


@pytest.mark.parametrize("radius", [0, -1, 2.1, float("nan")])
def test_a_radius_that_is_none_is_refused(radius):
    x = torch.zeros(1, 4, 2)
    with pytest.raises(InputError, match=r"'radius' in \(0, 2\]"):
        cover(x, tokens_of(x), 2, radius)


@pytest.mark.parametrize("neighbours", [0, -1, 2.5])
def test_no_neighbours_are_refused(neighbours):
    x = torch.zeros(1, 4, 2)
    with pytest.raises(InputError, match="'neighbours' as an int >= 1"):
        peaks(x, tokens_of(x), 2, neighbours)


def members(labels):
    return {frozenset((labels == g).nonzero().flatten().tolist()) for g in labels.unique()}


def in_spreads(x):
    """Around the mean, in units of the root-mean-square distance to it."""
    x = x - x.mean(0)
    return x / x.square().sum(1).mean().sqrt()


def blobs(sizes, apart=10.0, seed=0):
    """Balls of these many tokens around places `apart` along the axes, one after the other; and who is where."""
    draw = torch.Generator().manual_seed(seed)
    home = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    x = apart * torch.eye(len(sizes) + 1, dtype=torch.float64)[home]
    return (x + 0.2 * torch.randn(x.shape, generator=draw, dtype=torch.float64))[None], home


# Searches over all pairs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [LONG, LONG + 77, 4 * LONG + 1])  # whole blocks, a rest, wider chunks
@pytest.mark.parametrize("half", [False, True])
def test_the_highest_scores_of_a_long_record_are_those_of_the_product(length, half):
    """Half of the product and the best chunks of it are enough. Each token is there twice, so scores tie."""
    x = torch.randn(1, length, 3, generator=torch.Generator().manual_seed(0))
    x[:, length // 2 : length // 2 * 2] = x[:, : length // 2].clone()
    real = torch.arange(length)[None] < length - 9
    left, right = closeness(x, real, half)
    value, index = highest(left, right, 2)
    some = torch.arange(0, length - 9, 41)
    scores = -(left[0, some] @ right[0].T).float().abs()  # above 0 by rounding only
    slack = 1e-5 + 0.02 * half * scores.topk(2)[0].abs()
    assert ((value[0, some] - scores.topk(2)[0]).abs() <= slack).all()
    assert ((value[0, some] - scores.gather(1, index[0, some])).abs() <= slack).all()
    assert (index[0, some].sort(1)[0].diff() > 0).all()
    assert bool((index < length - 9).all())


def test_the_first_of_equally_near_columns_is_found_in_whatever_block_it_lies():
    right = torch.zeros(1, 7000, 1)
    right[0, [3000, 3001, 6500]] = 1.0
    for dtype in (torch.float32, torch.float64):
        value, index = nearest(torch.tensor([[[1.0], [-1.0], [0.0]]], dtype=dtype), right.to(dtype))
        assert (value.tolist(), index.tolist()) == ([[1.0, 0.0, 0.0]], [[3000, 0, 0]])


# DBSCAN -----------------------------------------------------------------------------------------------------


@given(count=st.integers(1, 60), seed=st.integers(0, 99), radius=st.floats(0.05, 2), neighbours=st.integers(1, 8))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_dense_tokens_are_grouped_as_by_dbscan_and_others_stay_alone(count, seed, radius, neighbours):
    x = torch.randn(1, count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = dbscan(x, tokens_of(x), count, radius, neighbours).labels[0]
    model = DBSCAN(eps=radius, min_samples=min(neighbours, count)).fit(in_spreads(x[0]).numpy() if count > 1 else x[0])
    core = torch.from_numpy(model.core_sample_indices_)
    dense = torch.zeros(count, dtype=torch.bool)
    dense[core] = True
    assert members(labels[core]) == members(torch.from_numpy(model.labels_)[core])
    sizes = labels.bincount()
    assert (sizes[labels[~dense]] == 1).all()


@pytest.mark.parametrize("keep", [1, 5, 20, 49])
def test_dbscan_without_a_radius_takes_the_one_that_leaves_the_budget(keep):
    """Any two groups are at least as far apart as the largest step inside one, so one radius gives just these."""
    x = torch.randn(1, 50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = dbscan(x, tokens_of(x), keep).labels[0]
    distance = torch.cdist(in_spreads(x[0]), in_spreads(x[0]))
    core = distance.sort(1)[0][:, 4]
    reach = torch.maximum(distance, torch.maximum(core[:, None], core[None]))
    assert len(labels.unique()) == keep
    apart = reach[labels[:, None] != labels]
    assert keep == 1 or float(apart.min()) >= spanning_radius(reach, labels)


def spanning_radius(reach, labels):
    """The largest step it takes to connect each group inside itself."""
    largest = 0.0
    for g in labels.unique():
        inside = (labels == g).nonzero().flatten().tolist()
        found, rest = inside[:1], inside[1:]
        while rest:
            step, nearest = min((float(reach[i, j]), j) for i in found for j in rest)
            largest = max(largest, step)
            found.append(nearest)
            rest.remove(nearest)
    return largest


def test_dbscan_widens_a_radius_that_leaves_too_many():
    x, home = blobs([8, 8, 8])
    assert members(dbscan(x, tokens_of(x), 3, radius=1e-6).labels[0]) == members(home)
    assert members(dbscan(x, tokens_of(x), 24, radius=1e-6).labels[0]) == {frozenset([i]) for i in range(24)}


@pytest.mark.parametrize(("radius", "neighbours"), [(0, 5), (-1.0, 5), (float("nan"), 5), (1.0, 0), (1.0, 2.5)])
def test_a_dbscan_that_is_none_is_refused(radius, neighbours):
    x = torch.zeros(1, 4, 2)
    with pytest.raises(InputError, match=re.escape(f"(got {radius!r} and {neighbours!r})")):
        dbscan(x, tokens_of(x), 2, radius, neighbours)


# HDBSCAN ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [3, 10, 32])
def test_hdbscan_finds_the_blobs_and_noise_joins_the_nearest(keep):
    x, home = blobs([12, 10, 8])
    stray = x[0, [3, 25]] + torch.tensor([2.0, 2.5, -2.0, 1.5])  # near the first and the last blob
    x = torch.cat([x, stray[None]], 1)
    labels = hdbscan(x, tokens_of(x), keep).labels[0]
    assert members(labels) == members(torch.cat([home, torch.tensor([0, 2])]))


def test_hdbscan_takes_larger_clusters_until_they_fit():
    """Two far pairs of blobs: four clusters, or two."""
    x, home = blobs([10, 10, 10, 10], apart=2.0)
    x[0, 20:, 4] += 40
    assert members(hdbscan(x, tokens_of(x), 4).labels[0]) == members(home)
    assert members(hdbscan(x, tokens_of(x), 3).labels[0]) == members(home // 2)


def test_a_record_without_clusters_is_one_group():
    x = torch.arange(8.0).view(1, 8, 1)
    assert hdbscan(x, tokens_of(x), 4).labels[0].tolist() == [0] * 8


@pytest.mark.parametrize("smallest", [1, 0, 2.5, True])
def test_a_smallest_cluster_that_is_none_is_refused(smallest):
    x = torch.zeros(1, 4, 2)
    with pytest.raises(InputError, match=re.escape(f"'smallest' as an int >= 2 (got {smallest!r})")):
        hdbscan(x, tokens_of(x), 2, smallest)


# Mean shift -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[6, 9], [5, 5, 5], [20, 3]])
def test_shift_finds_the_blobs(sizes):
    x, home = blobs(sizes)
    assert members(shift(x, tokens_of(x), len(sizes)).labels[0]) == members(home)
    assert members(shift(x, tokens_of(x), len(home), bandwidth=0.5).labels[0]) == members(home)


def test_shift_by_hand():
    """On a line at 0, 1, 2 and 10, spread 4.04; with radius 1.3 spreads ~ 1.3 the ends move in and all three meet."""
    x = torch.tensor([[[0.0], [1.0], [2.0], [10.0]]])
    unit = float((x - x.mean()).square().mean().sqrt())
    assert shift(x, tokens_of(x), 4, bandwidth=1.3 / unit).labels.tolist() == [[0, 0, 0, 1]]
    assert shift(x, tokens_of(x), 4, bandwidth=0.9 / unit).labels.tolist() == [[0, 1, 2, 3]]
    assert shift(x, tokens_of(x), 3, bandwidth=0.9 / unit).labels.tolist() == [[0, 0, 0, 1]]  # it widens until it fits


def test_shift_sees_only_tokens_within_reach():
    """The same two values far apart in space: one group of each, or one at each place."""
    x = torch.tensor([[[0.0], [5.0], [0.1], [0.0], [5.0], [0.1]]])
    places = torch.tensor([0.0, 1.0, 2.0, 100.0, 101.0, 102.0]).view(1, 6, 1)
    tokens = Tokens(x, places, torch.ones(1, 6), torch.arange(6)[None])
    assert shift(x, tokens, 6, bandwidth=0.5).labels.tolist() == [[0, 1, 0, 0, 1, 0]]
    assert shift(x, tokens, 6, bandwidth=0.5, reach=10.0).labels.tolist() == [[0, 1, 0, 2, 3, 2]]


@pytest.mark.parametrize("name", ["bandwidth", "reach"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_a_kernel_that_is_none_is_refused(name, value):
    x = torch.zeros(1, 4, 2)
    with pytest.raises(InputError, match=re.escape(f"'{name}' > 0 or None (got {value!r})")):
        shift(x, tokens_of(x), 2, **{name: value})
