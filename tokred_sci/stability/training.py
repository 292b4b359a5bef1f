"""Stability of training, from plain numbers of runs: spikes, learning rates, seeds, and Adam's second moment."""

from collections.abc import Sequence

import numpy as np
import torch

from tokred_sci.errors import InputError

LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
"""The seven rates of `lr_sensitivity`, two a decade."""


def spike_score(losses: Sequence[float] | np.ndarray, window: int = 128, sigmas: float = 6.0) -> float:
    """Share of steps whose loss (or gradient norm) is above mean + 6 standard deviations of the last 128 before it.

    The short-run form: OLMo 2 counts values 7 deviations from the mean of the last 1,000, its training code skips
    steps by 128 and 6. Only upward spikes count. A step is judged once half a window lies before it; one that is not
    finite counts as a spike and is left out of later windows.

    Args:
        losses: one for each step, in order.
        window: steps before each that it is measured against.
        sigmas: standard deviations (of a sample, n - 1) that make a spike.

    Raises:
        InputError: too few steps to judge any, or settings out of range.

    Reference: 2 OLMo 2 Furious (OLMo team, 2025), https://arxiv.org/abs/2501.00656, section 3.

    Example:
        >>> spike_score([1.0, 1.1] * 50 + [9.0] + [1.0, 1.1] * 50)  # one of the 137 steps after the first 64
        0.0072992700729927005
    """
    values = _row(losses)
    least = max(2, window // 2)
    if window < 2 or not sigmas > 0 or len(values) <= least:
        raise InputError(
            f"Expected more than {least} steps, 'window' >= 2 and 'sigmas' > 0 (got {len(values)}, {window}, {sigmas})."
        )
    return float(
        np.mean([_is_spike(values[max(0, t - window) : t], values[t], sigmas) for t in range(least, len(values))])
    )


def _is_spike(before: np.ndarray, value: float, sigmas: float) -> bool:
    good = before[np.isfinite(before)]
    if not np.isfinite(value):
        return True
    return len(good) > 1 and bool(value > good.mean() + sigmas * good.std(ddof=1))


def loss_ratio(losses: Sequence[float] | np.ndarray) -> np.ndarray:
    """Loss of each step over the smallest loss before it, from the second step on; above 1 is a step back.

    Its maximum says how bad the worst moment was, the number above 1.5 how often. A loss that is not finite gives
    infinity and is no minimum.

    Args:
        losses: two or more, each above 0.

    Raises:
        InputError: fewer than two, a first one that is not finite, or one that is not above 0.

    Reference: The Stability-Efficiency Dilemma (Li et al., 2022), https://arxiv.org/abs/2108.06084.

    Example:
        >>> loss_ratio([4.0, 2.0, 3.0, 1.0]).tolist()
        [0.5, 1.5, 0.5]
    """
    values = np.where(np.isfinite(_row(losses)), _row(losses), np.inf)
    if len(values) < 2 or not np.isfinite(values[0]) or not (values > 0).all():
        raise InputError(f"Expected two or more losses above 0, the first one finite (got {len(values)} losses).")
    return values[1:] / np.minimum.accumulate(values)[:-1]


def lr_sensitivity(rates: Sequence[float], losses: Sequence[float], initial_loss: float) -> float:
    """Mean over learning rates of what is lost against the best one: E[min(loss(rate), initial loss) - best loss].

    0 = every rate is as good as the best. A run that diverged counts as one that learnt nothing.

    Args:
        rates: learning rates, evenly spaced in the logarithm as `LEARNING_RATES` are.
        losses: final loss at each; NaN or infinity for a run that was lost.
        initial_loss: before training.

    Raises:
        InputError: fewer than two rates, two alike, one loss missing, or an initial loss that is not finite.

    Reference: Small-scale Proxies for Large-scale Transformer Training Instabilities (Wortsman et al., 2023),
    https://arxiv.org/abs/2309.14322.

    Example:
        >>> lr_sensitivity([1e-3, 1e-2, 1e-1, 1.0], [1.5, 1.0, 2.0, float("nan")], initial_loss=4.0)
        1.125
    """
    at, final = _row(rates), _row(losses)
    if len(at) < 2 or len(set(at)) < len(at) or not (at > 0).all() or len(at) != len(final):
        raise InputError(
            f"Expected two or more different rates above 0 and a loss for each (got {rates} and {losses})."
        )
    if not np.isfinite(initial_loss):
        raise InputError(f"Expected 'initial_loss' as a finite number (got {initial_loss}).")
    reached = np.minimum(np.where(np.isfinite(final), final, np.inf), initial_loss)
    return float(np.mean(reached - reached.min()))


def diverged_share(final_losses: Sequence[float], initial_loss: float) -> float:
    """Share of runs that ended with a loss that is not finite, or is not below the loss before training.

    Example:
        >>> diverged_share([0.5, float("inf"), 4.5, 0.4], initial_loss=4.0)
        0.5
    """
    final = _row(final_losses)
    if not len(final) or not np.isfinite(initial_loss):
        raise InputError(f"Expected one or more runs and a finite 'initial_loss' (got {len(final)}, {initial_loss}).")
    return float(np.mean(~(final < initial_loss) | ~np.isfinite(final)))


def seed_spread(scores: Sequence[float]) -> float:
    """Standard deviation (of a sample, n - 1) of a metric over runs that differ in their seed alone.

    Example:
        >>> round(seed_spread([0.7, 0.8, 0.9]), 3)
        0.1
    """
    values = _row(scores)
    if len(values) < 2 or not np.isfinite(values).all():
        raise InputError(f"Expected two or more finite scores (got {scores}): count lost runs with `diverged_share`.")
    return float(values.std(ddof=1))


def adam_second_moment_max(optimizer: torch.optim.Optimizer) -> float:
    """Largest sqrt(v) over all parameters, v being Adam's running mean of squared gradients.

    It leaps when training becomes unstable, often before the loss does. Not corrected for bias, as in the paper.

    Args:
        optimizer: Adam, AdamW or another that keeps `exp_avg_sq`, after one step at least.

    Raises:
        InputError: an optimizer without second moments.

    Reference: The Stability-Efficiency Dilemma (Li et al., 2022), https://arxiv.org/abs/2108.06084.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = torch.optim.Adam([weight], betas=(0.9, 0.75))
        >>> weight.grad = torch.tensor([1.0, -4.0])
        >>> optimizer.step()
        >>> adam_second_moment_max(optimizer)  # sqrt(0.25 * 16)
        2.0
    """
    moments = [state["exp_avg_sq"] for state in optimizer.state.values() if "exp_avg_sq" in state]
    if not moments:
        raise InputError(
            f"Expected an optimizer that keeps 'exp_avg_sq' and has made a step (got {type(optimizer).__name__})."
        )
    return max(float(moment.detach().double().max().sqrt()) for moment in moments if moment.numel())


def _row(values: Sequence[float] | np.ndarray) -> np.ndarray:
    try:
        row = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"Expected numbers (got {error}).") from error
    if row.ndim != 1:
        raise InputError(f"Expected numbers in one row (got shape {row.shape}).")
    return row
