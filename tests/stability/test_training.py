import math

import numpy as np
import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.stability.training import (
    LEARNING_RATES,
    adam_second_moment_max,
    diverged_share,
    loss_ratio,
    lr_sensitivity,
    seed_spread,
    spike_score,
)


def steady(count):
    return 1 + 0.01 * np.random.default_rng(0).normal(size=count)


def test_spikes_are_counted_and_falls_are_not():
    losses = steady(564)
    assert spike_score(losses) == 0
    losses[[200, 400]] = 3.0
    losses[300] = 0.1
    assert spike_score(losses) == 2 / 500  # the first 64 steps are not judged


def test_a_spike_is_six_deviations_of_the_window_before_it():
    window = [0.0, 2.0] * 64  # mean 1, standard deviation of a sample sqrt(128 / 127)
    edge = 1 + 6 * math.sqrt(128 / 127)
    judged = len(window) + 1 - 64
    assert spike_score([*window, edge + 1e-6]) == 1 / judged
    assert spike_score([*window, edge - 1e-6]) == 0
    assert spike_score([*window, edge - 1e-6], sigmas=5) == 1 / judged


def test_a_slow_rise_is_no_spike_and_a_lost_loss_is_one():
    assert spike_score(np.linspace(1, 2, 500)) == 0
    losses = steady(164)
    losses[100] = math.nan
    losses[120] = math.inf
    assert spike_score(losses) == 2 / 100


def test_loss_ratio_is_against_the_least_before():
    assert loss_ratio([4.0, 2.0, 3.0, 1.0, 2.5]).tolist() == [0.5, 1.5, 0.5, 2.5]
    assert loss_ratio([2.0, math.nan, 1.0]).tolist() == [1.0 * math.inf, 0.5]
    assert loss_ratio(np.linspace(2, 1, 50)).max() < 1


def test_seven_rates_two_a_decade():
    assert len(LEARNING_RATES) == 7
    assert LEARNING_RATES[0] == 3e-4
    assert LEARNING_RATES[-1] == 3e-1
    steps = np.diff(np.log10(LEARNING_RATES))
    assert steps.min() > 0.47
    assert steps.max() < 0.53


def test_sensitivity_is_nothing_for_equal_losses_and_caps_lost_runs():
    assert lr_sensitivity(LEARNING_RATES, [0.7] * 7, 2.0) == 0
    lost = [0.5, 0.5, 0.5, 0.5, 10.0, math.nan, math.inf]
    assert lr_sensitivity(LEARNING_RATES, lost, 2.0) == pytest.approx(3 * 1.5 / 7)
    assert lr_sensitivity([0.1, 1.0], [math.nan, math.nan], 2.0) == 0  # nothing is best: read with diverged_share


def test_a_run_diverged_if_it_ended_no_better_than_it_began():
    assert diverged_share([0.1, 2.0, 2.1, -math.inf, math.nan], 2.0) == 0.8


def test_spread_of_seeds():
    assert seed_spread([1.0, 3.0]) == pytest.approx(math.sqrt(2))
    assert seed_spread([0.5, 0.5, 0.5]) == 0


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_the_largest_second_moment_is_of_all_parameters(kind):
    weights = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 2))]
    optimizer = kind(weights, betas=(0.9, 0.75))
    for step in range(2):
        weights[0].grad = torch.tensor([1.0, -2.0, 0.5])
        weights[1].grad = torch.full((2, 2), 3.0 * (step == 0))
        optimizer.step()
    assert adam_second_moment_max(optimizer) == pytest.approx(math.sqrt(max(0.75 * 0.25 * 9, 4 * (0.25 + 0.75 * 0.25))))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spike_score([1.0] * 64), "more than 64 steps"),
        (lambda: spike_score([[1.0] * 200]), "one row"),
        (lambda: loss_ratio([1.0]), "two or more losses"),
        (lambda: loss_ratio([1.0, 0.0]), "above 0"),
        (lambda: lr_sensitivity([0.1, 0.1], [1.0, 1.0], 2.0), "different rates"),
        (lambda: lr_sensitivity([0.1, 0.2], [1.0], 2.0), "a loss for each"),
        (lambda: lr_sensitivity([0.1, 0.2], [1.0, 1.0], math.nan), "'initial_loss'"),
        (lambda: diverged_share([], 2.0), "one or more runs"),
        (lambda: seed_spread([1.0]), "two or more"),
        (lambda: seed_spread(["a", "b"]), "numbers"),
        (lambda: adam_second_moment_max(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])), "got SGD"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
