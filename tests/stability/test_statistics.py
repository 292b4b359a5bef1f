import math

import numpy as np
import pytest

from tokred_sci.errors import InputError
from tokred_sci.stability.statistics import (
    Interval,
    above,
    hierarchical_interval,
    interval,
    paired_difference,
    retained_share,
)

METHODS = ["percentile", "BCa"]


@pytest.mark.parametrize("method", METHODS)
def test_an_interval_holds_its_estimate_and_repeats(method):
    values = np.random.default_rng(0).normal(size=12)
    first = interval(values, seed=3, method=method)
    assert first.estimate == pytest.approx(values.mean())
    assert first.low < first.estimate < first.high
    assert interval(values, seed=3, method=method) == first
    assert interval(values, seed=4, method=method) != first
    assert interval(values, np.random.default_rng(3), method=method) == first


def test_two_values_give_the_interval_that_all_their_samples_give():
    """Samples of two values: means 0, 0.5, 1 with chances 1/4, 1/2, 1/4; the 2.5 % points are 0 and 1."""
    assert interval([0.0, 1.0]) == Interval(0.5, 0.0, 1.0)
    assert interval([0.0, 1.0], level=0.2) == Interval(0.5, 0.5, 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_equal_values_have_no_width(method):
    assert interval([0.7] * 5, method=method) == (0.7, 0.7, 0.7)
    assert interval([0.1 + 0.2, 0.3, 0.3], method=method).high == pytest.approx(0.3)


def test_the_width_is_that_of_the_normal_law_for_many_values():
    values = np.random.default_rng(1).normal(size=2000)
    found = interval(values, resamples=4000)
    expected = 2 * 1.96 * values.std(ddof=1) / math.sqrt(2000)
    assert found.high - found.low == pytest.approx(expected, rel=0.05)


def test_another_statistic():
    values = [1.0, 2.0, 3.0, 100.0, 2.0]
    found = interval(values, statistic=np.median)
    assert found.estimate == 2.0
    assert found.high <= 100.0


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held = [
        found.low <= 0 <= found.high
        for found in (interval(generator.normal(size=30), seed=i, resamples=300) for i in range(200))
    ]
    assert 0.88 < np.mean(held) < 0.98


def test_a_pair_cancels_what_seeds_do():
    noise = np.random.default_rng(0).normal(size=5)
    a = {seed: noise[seed] + 0.1 + 0.001 * seed for seed in range(5)}
    b = {seed: noise[seed] for seed in reversed(range(5))}
    found = paired_difference(a, b)
    assert found.estimate == pytest.approx(0.102)
    assert 0.1 < found.low < found.high < 0.104
    assert interval(list(a.values())).low < interval(list(b.values())).high  # unpaired, nothing is seen


def test_one_record_per_seed_is_the_plain_bootstrap():
    values = np.random.default_rng(2).uniform(size=8)
    plain, nested = interval(values), hierarchical_interval([[value] for value in values])
    assert nested.estimate == pytest.approx(plain.estimate)
    assert [nested.low, nested.high] == pytest.approx([plain.low, plain.high], abs=0.01)


def test_one_seed_has_the_spread_of_its_records():
    right = [1.0] * 68 + [0.0] * 60
    found, half = hierarchical_interval([right]), 1.96 * (68 * 60 / 128**3) ** 0.5
    assert [found.low, found.high] == pytest.approx([68 / 128 - half, 68 / 128 + half], abs=0.01)
    assert retained_share([right], [[1.0] * 128]).low == pytest.approx(found.low, abs=0.01)


def test_both_levels_of_a_hierarchy_widen_the_interval():
    generator = np.random.default_rng(0)
    seeds = generator.normal(size=(40, 1))
    records = generator.normal(size=(40, 50))
    within = hierarchical_interval(records)
    both = hierarchical_interval(seeds + records)
    # a resampled record bears its spread twice: once in its seed's mean as observed, once drawn anew
    assert (within.high - within.low) / (2 * 1.96 * math.sqrt(2 / 2000)) == pytest.approx(1, rel=0.25)
    assert (both.high - both.low) / (2 * 1.96 * seeds.std() / math.sqrt(40)) == pytest.approx(1, rel=0.15)


def test_seeds_weigh_alike_whatever_their_records():
    assert hierarchical_interval([[1.0], [0.0] * 99]).estimate == 0.5


def test_a_hierarchy_repeats_with_its_seed():
    scores = [[1, 0, 1], [1, 1], [0, 1, 1, 1]]
    assert hierarchical_interval(scores, seed=1) == hierarchical_interval(scores, seed=1)
    assert hierarchical_interval(scores, seed=1, resamples=99) != hierarchical_interval(scores, seed=2, resamples=99)


def test_retained_share_by_hand():
    assert retained_share([0.4, 0.8], [0.8, 0.8]).estimate == pytest.approx(0.75)
    assert retained_share([0.4, 0.8], [0.8, 0.8], chance=0.4).estimate == pytest.approx(0.5)
    assert retained_share([0.25, 0.25], [0.9, 0.8], chance=0.25) == (0.0, 0.0, 0.0)
    assert retained_share([0.9, 0.7], [0.9, 0.7]) == (1.0, 1.0, 1.0)  # pairs: what a seed does cancels


def test_retained_share_over_records_has_the_wider_interval():
    long, short = np.repeat([[1.0, 0.0]], 20, 1), np.repeat([[1.0]], 40, 1)
    by_seed = retained_share([0.5] * 4, [1.0] * 4)
    by_record = retained_share([long[0]] * 4, [short[0]] * 4)
    assert by_seed.estimate == by_record.estimate == 0.5
    assert by_seed.low == by_seed.high
    assert by_record.low < 0.5 < by_record.high


def test_the_verdict_needs_intervals_that_do_not_meet():
    low, high = Interval(0.5, 0.4, 0.6), Interval(0.8, 0.7, 0.9)
    assert above(high, low)
    assert not above(low, high)
    assert not above(low, low)
    assert not above(Interval(0.7, 0.6, 0.8), low)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval([1.0]), "two or more"),
        (lambda: interval([1.0, math.nan]), "finite"),
        (lambda: interval(["a", "b"]), "numbers"),
        (lambda: interval([1.0, 2.0], level=95), "'level'"),
        (lambda: interval([1.0, 2.0], method="basic"), "'method'"),
        (lambda: paired_difference({0: 1.0, 1: 2.0}, {0: 1.0, 2: 2.0}), "same seeds"),
        (lambda: hierarchical_interval([[1.0]]), "more seeds"),
        (lambda: hierarchical_interval([]), "more seeds"),
        (lambda: hierarchical_interval([[1.0], []]), "finite numbers"),
        (lambda: retained_share([0.5, 0.5], [0.5]), "as many seeds"),
        (lambda: retained_share([0.5, 0.5], [0.9, 0.25], chance=0.25), "above chance"),
        (lambda: above(Interval(math.nan, 0, 1), Interval(0, 0, 0)), "finite"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
