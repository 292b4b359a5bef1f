"""What one method in space promises beyond the common laws."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.errors import InputError
from tokred_sci.reduction.space import bins, fps, voxel
from tokred_sci.tokens import Tokens


def tokens_at(places, x=None):
    count = places.shape[1]
    x = torch.ones(1, count, 2) if x is None else x
    return Tokens(x, places, torch.ones(1, count), torch.arange(count)[None])


def scattered(count, axes=3, seed=0):
    return torch.randn(1, count, axes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def members(labels):
    return {frozenset((labels == g).nonzero().flatten().tolist()) for g in labels.unique()}


# Voxel ------------------------------------------------------------------------------------------------------


@given(count=st.integers(1, 60), axes=st.sampled_from([1, 3]), seed=st.integers(0, 99), share=st.floats(0, 1))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_cells_of_an_edge_that_fits_are_those_by_hand(count, axes, seed, share):
    places, edge = scattered(count, axes, seed), 0.05 + share
    labels = voxel(places, tokens_at(places), count, edge).labels[0]
    cells = ((places[0] - places[0].amin(0)) / edge).floor()
    assert members(labels) == members(torch.unique(cells, dim=0, return_inverse=True)[1])
    firsts = [int((labels == g).nonzero()[0]) for g in range(len(labels.unique()))]
    assert firsts == sorted(firsts)


def test_an_edge_that_leaves_too_many_cells_grows_until_they_fit():
    places = torch.arange(64.0, dtype=torch.float64).view(1, 64, 1)
    labels = voxel(places, tokens_at(places), 10, edge=2.0).labels[0]
    assert len(labels.unique()) == 10  # cells of 6.3 .. 7
    assert (labels.diff() >= 0).all() and labels.bincount()[:-1].unique().tolist() in ([6, 7], [7])


@pytest.mark.parametrize("keep", [1, 2, 3, 16, 31, 63, 64])
def test_voxels_of_an_even_row_meet_the_budget_exactly_and_are_alike(keep):
    """Finer cells would be more than `keep`: of all cells but the last the widest holds one token more at most."""
    places = torch.arange(64.0, dtype=torch.float64).view(1, 64, 1)
    sizes = voxel(places, tokens_at(places), keep).labels[0].bincount()
    assert len(sizes) == keep
    assert sizes[:-1].unique().numel() <= 2 and (keep == 1 or sizes.max() <= -(-63 // (keep - 1)) + 1)


@given(count=st.integers(1, 60), seed=st.integers(0, 99), share=st.floats(0, 1))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_no_tried_resolution_half_as_wide_would_fit(count, seed, share):
    """The grid is the finest known to fit: groups are cells of some width, and cells half as wide are too many."""
    places, keep = scattered(count, 3, seed), max(1, int(share * count))
    labels = voxel(places, tokens_at(places), keep).labels[0]
    assert len(labels.unique()) <= keep
    corner = places[0] - places[0].amin(0)
    width = max(float((corner[labels == g].amax(0) - corner[labels == g].amin(0)).max()) for g in labels.unique())
    if width > 0:  # a cell is at least as wide as the widest group in it
        halved = torch.unique((corner / (width / 2)).floor(), dim=0)
        assert len(halved) > keep


def test_all_in_one_place_is_one_voxel():
    places = torch.full((1, 5, 3), 7.0)
    assert voxel(places, tokens_at(places), 4).labels.tolist() == [[0] * 5]


@pytest.mark.parametrize("edge", [0, -1.0, float("nan")])
def test_an_edge_that_is_none_is_refused(edge):
    places = scattered(4)
    with pytest.raises(InputError, match=re.escape(f"'edge' > 0 (got {edge!r})")):
        voxel(places, tokens_at(places), 2, edge)


# Bins -------------------------------------------------------------------------------------------------------


def curve_order(places):
    """Tokens by the interleaved bits of their places in the record's box, as Python whole numbers."""
    corner = places - places.amin(0)
    steps = (corner * ((2**20 - 1) / corner.max().clamp(min=1e-300))).long().tolist()
    axes = len(steps[0])

    def key(token):
        return sum((steps[token][axis] >> bit & 1) << (axes * bit + axis) for bit in range(20) for axis in range(axes))

    return sorted(range(len(steps)), key=key)


@given(
    count=st.integers(1, 80),
    axes=st.sampled_from([1, 3]),
    size=st.integers(1, 20),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_groups_stay_in_bins_along_the_curve_with_the_count_that_was_asked_for(count, axes, size, seed, share):
    places, keep = scattered(count, axes, seed), max(1, int(share * count))
    x = torch.randn(1, count, 4, generator=torch.Generator().manual_seed(seed))
    labels = bins(x, tokens_at(places, x), keep, size).labels[0]
    assert labels.sort()[0].unique().tolist() == list(range(keep))
    order = curve_order(places[0])
    number = min(-(-count // size), keep)
    width = -(-count // number)  # bins grow where there are fewer places than bins
    bin_of = {token: place // width for place, token in enumerate(order)}
    assert all(len({bin_of[token] for token in group}) == 1 for group in members(labels))
    firsts = [int((labels == g).nonzero()[0]) for g in range(keep)]
    assert firsts == sorted(firsts)


def test_bins_whose_tokens_differ_get_more_places():
    """Bin 0 holds equal tokens, bin 1 random ones: of 10 places all but one go to the second."""
    x = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(0))
    x[0, :8] = x[0, 0]
    places = torch.arange(16.0).view(1, 16, 1)
    labels = bins(x, tokens_at(places, x), 9, size=8).labels[0]
    assert labels.tolist() == [0] * 8 + list(range(1, 9))


def test_in_a_bin_tokens_at_even_distances_are_kept_and_others_join_the_most_similar():
    """Tokens 0, 2, 4, 6 of 8 are kept, and the groups numbered by their first tokens: 0, 1, 2, 4."""
    x = F.one_hot(torch.tensor([0, 3, 1, 0, 2, 1, 3, 2]), 4).float()[None]
    places = torch.arange(8.0).view(1, 8, 1)
    assert bins(x, tokens_at(places, x), 4, size=8).labels[0].tolist() == [0, 1, 2, 0, 3, 2, 1, 3]


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_size_that_is_none_is_refused(size):
    places = scattered(4)
    with pytest.raises(InputError, match=re.escape(f"'size' as an int >= 1 (got {size!r})")):
        bins(places, tokens_at(places), 2, size)


# Farthest points --------------------------------------------------------------------------------------------


def plain_fps(places, keep):
    distance = torch.cdist(places, places)
    centres = [0]
    while len(centres) < keep:
        centres.append(int(distance[:, centres].amin(1).argmax()))
    centres = sorted(centres)
    return distance[:, centres].argmin(1).tolist()


@given(count=st.integers(1, 40), axes=st.sampled_from([1, 3]), seed=st.integers(0, 99), share=st.floats(0, 1))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_farthest_points_are_those_by_hand(count, axes, seed, share):
    places, keep = scattered(count, axes, seed), max(1, int(share * count))
    assert fps(places, tokens_at(places), keep).labels[0].tolist() == plain_fps(places[0], keep)


def test_farthest_points_do_not_depend_on_where_the_record_lies():
    """A million box widths away, as for points in a national grid."""
    places = scattered(30).mul(8).round() / 8
    here, there = (fps(p, tokens_at(p), 9).labels for p in (places, places + 2.0**23))
    assert torch.equal(here, there)
