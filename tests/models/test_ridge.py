"""Laws of the linear map in closed form, against scikit-learn's."""

import numpy as np
import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.models.heads import ForecastWindow
from tokred_sci.models.ridge import solve_line
from tokred_sci.tokenizers.series import SeriesTokenizer
from tokred_sci.tokens import stack

STEPS, HORIZON = 12, 3


def windows(channels: str, seed: int, count: int = 40, batch: int = 7, gap: bool = False):
    """Batches of windows, and the same as arrays (rows, steps) and (rows, horizon)."""
    tokenizer = SeriesTokenizer(patch=4, channels=channels, in_channels=2 if channels == "mix" else 1)
    series = np.random.default_rng(seed).normal(size=(count, tokenizer.in_channels, STEPS + HORIZON)).cumsum(2)
    if gap:
        series[0, 0, -1] = np.nan
    past, future = torch.from_numpy(series[..., :STEPS]), torch.from_numpy(series[..., STEPS:])
    tokens = [tokenizer(values) for values in past]
    made = [(stack(tokens[i : i + batch]), future[i : i + batch]) for i in range(0, count, batch)]
    return tokenizer, made, past.flatten(0, 1).numpy(), future.flatten(0, 1).numpy()


def foretell(head, tokenizer, made):
    return torch.cat([tokenizer.restore(head.line(head.values(t)).double(), t) for t, _ in made]).flatten(0, 1).detach()


@pytest.mark.parametrize("channels", ["independent", "mix"])
def test_it_is_the_ridge_regression_of_windows_less_their_last_value(channels):
    from sklearn.linear_model import Ridge

    tokenizer, made, past, future = windows(channels, 0, gap=True)
    head = ForecastWindow(18, HORIZON, tokenizer, STEPS)
    assert solve_line(head, made, made, strengths=(2.0,)) == 2.0
    whole, last = ~np.isnan(future).any(1), past[:, -1:]
    known = Ridge(2.0, fit_intercept=False).fit((past - last)[whole], (future - last)[whole])
    np.testing.assert_allclose(foretell(head, tokenizer, made), known.predict(past - last) + last, atol=2e-4)
    assert not any(p.requires_grad for p in head.line.parameters()) and head.out.weight.requires_grad


def test_the_penalty_is_the_one_that_does_best_where_it_was_not_solved():
    tokenizer, train, *_ = windows("independent", 1, count=16)
    _, valid, _, future = windows("independent", 2)
    errors = {}
    for strength in (1e-6, 10.0, 1e9):
        head = ForecastWindow(18, HORIZON, tokenizer, STEPS)
        solve_line(head, train, valid, strengths=(strength,))
        errors[strength] = np.square(foretell(head, tokenizer, valid).numpy() - future).mean()
    assert solve_line(head, train, valid, strengths=tuple(errors)) == min(errors, key=errors.get)
    assert len(set(errors.values())) == 3


def test_a_strong_penalty_says_the_last_value():
    tokenizer, made, past, _ = windows("independent", 3)
    head = ForecastWindow(18, HORIZON, tokenizer, STEPS)
    solve_line(head, made, made, strengths=(1e12,))
    np.testing.assert_allclose(foretell(head, tokenizer, made), past[:, -1:].repeat(HORIZON, 1), atol=1e-4)


def test_nothing_to_solve_for_is_refused():
    tokenizer, made, *_ = windows("independent", 4)
    head = ForecastWindow(18, HORIZON, tokenizer, STEPS)
    for train, valid in (([], made), (made, [])):
        with pytest.raises(InputError, match="Expected windows to solve the linear map for"):
            solve_line(head, train, valid)
