"""Budgets: how many tokens each record keeps."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.errors import InputError
from tokred_sci.reduction.budget import as_budget, constant, ratio, threshold
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
