"""Variance that merging loses: the laws of a variance, on made-up tokens whose answer is known."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokred_sci.experiment import REDUCTIONS
from tokred_sci.explore.lost import Variance, variance_lost
from tokred_sci.tokens import Grouping, Tokens, stack


def tokens_of(x, sizes=None):
    sizes = torch.ones(1, len(x)) if sizes is None else sizes
    source = torch.repeat_interleave(torch.arange(len(x)), sizes[0].long())[None]
    return Tokens(x[None], torch.arange(float(len(x))).view(1, -1, 1), sizes, source)


def drawn(seed, count=24, dim=5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    return tokens_of(x, torch.randint(1, 9, (1, count), generator=generator).float())


@given(st.integers(0, 10_000))
def test_one_group_loses_all_and_no_merging_nothing(seed):
    tokens = drawn(seed)
    assert variance_lost(tokens, Grouping(torch.zeros(1, 24).long(), 1)).share == pytest.approx(1)
    assert variance_lost(tokens, Grouping(torch.arange(24)[None], 24)).lost == pytest.approx(0, abs=1e-20)


@given(st.integers(0, 10_000))
def test_joining_groups_further_loses_no_less(seed):
    tokens = drawn(seed)
    fine = torch.randint(0, 8, (1, 24), generator=torch.Generator().manual_seed(seed + 1))
    lost = [variance_lost(tokens, Grouping(fine // step, 8)).lost for step in (1, 2, 4, 8)]
    assert all(a <= b + 1e-9 for a, b in pairwise(lost))


@given(st.integers(0, 10_000))
def test_tokens_of_a_size_count_as_so_many_equal_ones(seed):
    tokens = drawn(seed)
    labels = torch.randint(0, 6, (1, 24), generator=torch.Generator().manual_seed(seed + 1))
    apart = tokens_of(tokens.features[0, tokens.source[0]])
    one, many = (
        variance_lost(tokens, Grouping(labels, 6)),
        variance_lost(apart, Grouping(labels[:, tokens.source[0]], 6)),
    )
    assert one == pytest.approx(many)


def test_equal_tokens_merge_for_nothing():
    x = torch.tensor([[1.0, 2.0], [5.0, 5.0]]).repeat_interleave(4, 0)
    tokens = tokens_of(x)
    told = variance_lost(tokens, REDUCTIONS["links"](tokens.features, tokens, 2))
    assert told.lost == 0 and told.total > 0


def test_padding_has_no_say():
    long, short = drawn(0), drawn(1, count=10)
    batch = stack([long, short])
    labels = torch.zeros(2, 24, dtype=torch.int64)
    alone = [variance_lost(one, Grouping(labels[:1, : one.features.shape[1]], 1)) for one in (long, short)]
    together = variance_lost(batch, Grouping(labels, 1))
    assert together.total == pytest.approx(alone[0].total + alone[1].total)
    assert together.lost == pytest.approx(alone[0].lost + alone[1].lost)


def test_what_was_pruned_is_lost_whole():
    tokens = tokens_of(torch.tensor([[0.0], [1.0], [5.0]]))
    told = variance_lost(tokens, Grouping(torch.tensor([[0, 1, -1]]), 2))
    assert told.lost == 9 and told.total == 14


def test_a_constant_record_has_nothing_to_lose():
    tokens = tokens_of(torch.ones(4, 2))
    assert variance_lost(tokens, Grouping(torch.zeros(1, 4).long(), 1)) == Variance(0, 0)
    assert Variance(0, 0).share == 0
