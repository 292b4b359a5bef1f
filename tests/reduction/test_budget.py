"""Budgets: how many tokens each record keeps."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.errors import InputError
from tokred_sci.reduction.budget import as_budget, complexity, constant, ratio, schedule, threshold
from tokred_sci.reduction.chain import links
from tokred_sci.reduction.rows import Keep
from tokred_sci.tokens import Tokens

law = settings(max_examples=25, deadline=None, derandomize=True)


def batch_of(counts, features=None):
    length = max(1, *counts)
    real = torch.arange(length) < torch.tensor(counts)[:, None]
    x = torch.zeros(len(counts), length, 2) if features is None else features
    source = torch.arange(length).expand(len(counts), length).masked_fill(~real, -1)
    return Tokens(x, torch.zeros(len(counts), length, 1), real.float(), source)


def keep_of(budget, tokens):
    keep = budget(tokens.features, tokens)
    keep = keep.each if isinstance(keep, Keep) else keep
    assert keep.dtype == torch.int64 and keep.shape == (len(tokens),)
    return keep.tolist()


def test_constant_keeps_what_there_is_at_most():
    assert keep_of(constant(3), batch_of([5, 2, 3, 0])) == [3, 2, 3, 0]


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1.0, [10, 5, 1, 0]), (0.5, [5, 3, 1, 0]), (0.1, [1, 1, 1, 0]), (0.3, [3, 2, 1, 0])],
)
def test_ratio_rounds_up_and_padding_does_not_count(share, expected):
    assert keep_of(ratio(share), batch_of([10, 5, 1, 0])) == expected


@pytest.mark.parametrize("tenths", range(1, 11))
def test_ratio_of_tenths_is_exact(tenths):
    assert keep_of(ratio(tenths / 10), batch_of([10, 100, 1000])) == [tenths, 10 * tenths, 100 * tenths]


@law
@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=4), share=st.floats(0, 1, exclude_min=True))
def test_ratio_is_always_a_budget_a_record_can_meet(counts, share):
    tokens = batch_of(counts)
    keep = ratio(share)(tokens.features, tokens)
    assert ((keep.each >= 1) & (keep.each <= tokens.counts)).all()
    links(tokens.features, tokens, keep)


def test_threshold_counts_runs_of_alike_neighbours():
    a, b, zero = [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]
    x = torch.tensor([[a, a, b, b, a], [a, a, a, a, a], [a, b, a, zero, zero], [a, a, b, b, b], [a, a, a, a, a]])
    tokens = batch_of([5, 5, 5, 3, 0], x)
    assert keep_of(threshold(0.9), tokens) == [3, 1, 5, 2, 0]
    assert keep_of(threshold(-1.0), tokens) == [1, 1, 1, 1, 0]


@law
@given(seed=st.integers(0, 2**31), similarity=st.floats(-0.9, 0.9))
def test_runs_of_threshold_are_the_groups_of_links(seed, similarity):
    x = torch.randn(2, 20, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    tokens = batch_of([20, 13], x)
    labels = links(x, tokens, threshold(similarity)(x, tokens)).labels
    alike = torch.cosine_similarity(x[:, 1:], x[:, :-1], dim=-1) >= similarity
    for b, count in enumerate([20, 13]):
        assert torch.equal(labels[b, :count].diff() == 0, alike[b, : count - 1])


def test_threshold_does_not_look_at_padding():
    tokens = batch_of([3, 2], torch.tensor([[[1.0, 0], [1, 0], [0, 1]], [[1, 0], [1, 0], [torch.nan, torch.nan]]]))
    assert keep_of(threshold(0.5), tokens) == [2, 1]


@pytest.mark.parametrize("most", [0, -1, 2.0, True, None, "3"])
def test_bad_constants_are_refused(most):
    with pytest.raises(InputError, match=re.escape(f"a whole number >= 1 (got {most!r})")):
        constant(most)


@pytest.mark.parametrize("share", [0, 0.0, -0.1, 1.1, float("nan"), float("inf")])
def test_bad_ratios_are_refused(share):
    with pytest.raises(InputError, match=re.escape(f"a ratio in (0, 1] (got {share!r})")):
        ratio(share)


@pytest.mark.parametrize("similarity", [1.1, -2, float("nan")])
def test_bad_thresholds_are_refused(similarity):
    with pytest.raises(InputError, match=re.escape(f"in [-1, 1] (got {similarity!r})")):
        threshold(similarity)


def test_as_budget_reads_numbers_and_passes_functions_on():
    tokens = batch_of([8])
    assert keep_of(as_budget(3), tokens) == [3]
    assert keep_of(as_budget(0.5), tokens) == [4]
    assert keep_of(as_budget(1), tokens) == [1] and keep_of(as_budget(1.0), tokens) == [8]
    budget = constant(2)
    assert as_budget(budget) is budget
    for wrong in (0, True, 1.5):
        with pytest.raises(InputError):
            as_budget(wrong)


# Complexity -------------------------------------------------------------------------------------------------

A, B = [1.0, 0.0], [-1.0, 0.0]


def flat(count):
    return torch.tensor([[A] * count])


def busy(count):
    return torch.tensor([([A, B] * count)[:count]])


@pytest.mark.parametrize("count", [1, 2, 10, 500])
def test_complexity_keeps_little_of_a_flat_record_and_all_of_one_that_changes_at_every_step(count):
    assert keep_of(complexity(), batch_of([count], flat(count))) == [1]
    assert keep_of(complexity(), batch_of([count], busy(count))) == [count]
    assert keep_of(complexity(least=4), batch_of([count], flat(count))) == [min(4, count)]
    assert keep_of(complexity(most=6), batch_of([count], busy(count))) == [min(6, count)]


@pytest.mark.parametrize(("rate", "expected"), [(0.5, 2), (1.0, 3), (1.1, 4), (2.0, 6), (100.0, 8)])
def test_complexity_is_in_proportion_to_expected_boundaries(rate, expected):
    """Right angles count half a boundary: 1 + 4 / 2 = 3 runs are expected."""
    x = torch.tensor([[A, A, [0.0, 1], [0.0, 1], A, A, [0, 1.0], A]])
    assert keep_of(complexity(rate), batch_of([8], x)) == [expected]


def test_zero_vectors_are_half_a_boundary_away_from_anything():
    x = torch.tensor([[[0.0, 0.0]] * 5])
    assert keep_of(complexity(), batch_of([5], x)) == [3]  # 1 + 4 / 2


def test_bounds_of_complexity_do_not_ask_for_more_than_there_is():
    tokens = batch_of([5, 2, 0], torch.ones(3, 5, 2))
    assert keep_of(complexity(least=3), tokens) == [3, 2, 0]


@law
@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=4), seed=st.integers(0, 2**31))
def test_complexity_neither_looks_at_padding_nor_at_other_records(counts, seed):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(len(counts), max(counts), 2, generator=draw, dtype=torch.float64)
    real = batch_of(counts, x).mask
    together = keep_of(complexity(0.7, least=2), batch_of(counts, x.masked_fill(~real[..., None], torch.nan)))
    alone = [keep_of(complexity(0.7, least=2), batch_of([n], x[b : b + 1, :n])) for b, n in enumerate(counts)]
    assert [[keep] for keep in together] == alone
    assert all(min(2, n) <= keep <= n for n, keep in zip(counts, together, strict=True))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_complexity_of_a_record_with_nan_is_still_a_budget(bad):
    x = torch.randn(1, 9, 2, generator=torch.Generator().manual_seed(0))
    x[0, 4, 1] = bad
    assert 1 <= keep_of(complexity(), batch_of([9], x))[0] <= 9


@pytest.mark.parametrize(
    ("rate", "least", "most"),
    [(0, 1, None), (-1.0, 1, None), (float("nan"), 1, None), (float("inf"), 1, None), (1.0, 0, None), (1.0, 4, 3)],
)
def test_bounds_that_make_no_budget_are_refused(rate, least, most):
    with pytest.raises(InputError, match=re.escape(f"(got {rate!r}, {least!r}, {most!r})")):
        complexity(rate, least, most)


# Schedule ---------------------------------------------------------------------------------------------------


def run_through(steps, counts):
    """Counts after each block of a schedule, with the bounds of every `Keep` checked on the way."""
    seen = [counts]
    for block in sorted(steps):
        tokens = batch_of(counts)
        keep = steps[block](tokens.features, tokens)
        assert int(keep.each.max()) <= keep.most <= tokens.sizes.shape[1]
        assert all(have <= keep.rate * left + 1e-9 for have, left in zip(counts, keep.each.tolist(), strict=True))
        assert all(1 <= left <= have for have, left in zip(counts, keep.each.tolist(), strict=True))
        counts = keep.each.tolist()
        seen.append(counts)
    return seen


EVERY_LENGTH = list(range(1, 501))


@pytest.mark.parametrize("blocks", [[0], [1, 3], [0, 1, 2], [2, 4, 6, 9]])
@pytest.mark.parametrize("budget", [1, 2, 16, 100, 600])
def test_a_schedule_ends_exactly_at_its_number_of_tokens(blocks, budget):
    steps = schedule(budget, blocks)
    assert sorted(steps) == blocks
    assert run_through(steps, EVERY_LENGTH)[-1] == [min(n, budget) for n in EVERY_LENGTH]
    for n in (1, 7, 64, 500):  # the bounds of a record alone are tighter
        assert run_through(steps, [n])[-1] == [min(n, budget)]


@pytest.mark.parametrize("blocks", [[0], [1, 3], [0, 1, 2], [2, 4, 6, 9]])
@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.9, 1.0])
def test_a_schedule_ends_at_its_share_up_to_what_rounding_up_at_each_block_adds(blocks, share):
    """Each block rounds up by less than one token, and later blocks shrink that: a geometric series."""
    steps, each = schedule(share, blocks), share ** (1 / len(blocks))
    spare = sum(each**i for i in range(len(blocks)))
    for n, left in zip(EVERY_LENGTH, run_through(steps, EVERY_LENGTH)[-1], strict=True):
        assert math.ceil(n * share - 1e-9) <= left < n * share + spare + 1e-6
    if len(blocks) == 1:
        assert run_through(steps, EVERY_LENGTH)[-1] == [math.ceil(n * share - 1e-9) for n in EVERY_LENGTH]


def test_a_schedule_goes_down_in_equal_proportions():
    assert run_through(schedule(8, [0, 1, 2]), [512]) == [[512], [128], [32], [8]]
    assert run_through(schedule(1 / 64, [0, 1, 2]), [512]) == [[512], [128], [32], [8]]


def test_a_record_that_has_no_more_than_the_budget_is_left_alone_by_every_block():
    assert run_through(schedule(10, [0, 1, 2]), [500, 10, 3])[1:] == [[136, 10, 3], [37, 10, 3], [10, 10, 3]]


def test_a_schedule_in_a_padded_batch_does_not_count_padding():
    steps = schedule(4, [0, 1])
    tokens = batch_of([64, 0, 9])
    assert keep_of(steps[0], tokens) == [16, 0, 6] and keep_of(steps[1], tokens) == [4, 0, 4]


@pytest.mark.parametrize("blocks", [[], [1, 1], [2, 1]])
def test_blocks_out_of_order_are_refused(blocks):
    with pytest.raises(InputError, match=re.escape(f"increasing numbers (got {blocks!r})")):
        schedule(8, blocks)


@pytest.mark.parametrize("budget", [0, -1, 0.0, 1.5, float("nan"), True])
def test_a_schedule_to_no_budget_is_refused(budget):
    with pytest.raises(InputError, match=re.escape(f"(got {budget!r})")):
        schedule(budget, [0, 1])


@pytest.mark.parametrize("budget", [constant(3), None, "3"])
def test_a_schedule_to_something_else_than_a_number_is_refused(budget):
    with pytest.raises(InputError):
        schedule(budget, [0, 1])
