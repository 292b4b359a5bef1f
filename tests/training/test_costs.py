"""Costs of answers: what is counted is what was computed, at every budget; and the picture of it."""

import numpy as np
import pytest
import tiny
import torch

from tokred_sci.errors import InputError
from tokred_sci.experiment import Model
from tokred_sci.training import hooks
from tokred_sci.training.costs import draw_budgets, measure
from tokred_sci.training.tasks import Classify


def test_flops_are_those_of_the_matrix_products_and_tokens_those_that_are_left():
    config = tiny.replace(tiny.PLAIN, depth=1, reduce=())
    model = Model(config)
    batch = next(iter(tiny.loader(batch=4)))
    count, n, dim = len(batch.records), batch.tokens.features.shape[1], 16
    embed = count * (n * 4 * 64 * 5 * 9 + n * 128 * dim)
    block = count * n * dim * (3 * dim + dim + 8 * dim) + 2 * count * n * n * dim
    cost = measure(model, [batch], Classify().answer)
    assert cost.flops == pytest.approx(2 * (embed + block + count * dim * 2) / count)
    assert cost.tokens == pytest.approx(float(batch.tokens.mask.sum()) / count)


def test_a_smaller_budget_leaves_fewer_tokens_and_costs_less():
    model = Model(tiny.PLAIN)
    batches = list(tiny.loader())
    found = []
    for share in (1.0, 0.5, 0.25):
        with hooks.at_budget(model, share):
            found.append(measure(model, batches, Classify().answer))
    tokens, flops = ([getattr(cost, name) for cost in found] for name in ("tokens", "flops"))
    assert tokens == sorted(tokens, reverse=True) and flops == sorted(flops, reverse=True)
    assert tokens[0] / tokens[1] == pytest.approx(2, rel=0.1) and all(cost.seconds > 0 for cost in found)


def test_measuring_changes_nothing_and_repeats():
    model = Model(tiny.MODEL).train()  # it merges by chance
    batches, before = list(tiny.loader()), torch.get_rng_state()
    states = hooks.states(hooks.generators(model))
    first, second = (measure(model, batches, Classify().answer) for _ in range(2))
    assert (first.tokens, first.flops) == (second.tokens, second.flops)
    assert model.training and torch.get_rng_state().equal(before)
    assert all(a.equal(b) for a, b in zip(states, hooks.states(hooks.generators(model)), strict=True))


def test_no_records_are_refused():
    with pytest.raises(InputError, match="at least one record"):
        measure(Model(tiny.PLAIN), [], Classify().answer)


def test_the_picture_has_a_curve_for_each_run_over_each_cost():
    numbers = {f"{name}@{share}": 2.0 + share for name in ("mcc", "tokens", "seconds", "flops") for share in (1, 0.5)}
    figure = draw_budgets({"links": numbers, "peaks": numbers}, "mcc")
    assert [panel.get_xlabel().split()[0] for panel in figure.axes] == ["tokens", "milliseconds", "MFLOP"]
    for panel, unit in zip(figure.axes, (1, 1e3, 1e-6), strict=True):
        for line in panel.lines:
            np.testing.assert_allclose(line.get_xydata(), [[2.5 * unit, 2.5], [3 * unit, 3]])
        assert len(panel.lines) == 2
    with pytest.raises(InputError, match="'mse' at budgets in 'links'"):
        draw_budgets({"links": numbers}, "mse")
