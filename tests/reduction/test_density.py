"""What one density method promises beyond the common laws."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.errors import InputError
from tokred_sci.reduction.density import cover, peaks
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
