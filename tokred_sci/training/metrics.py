"""Numbers that say how good answers are, from scikit-learn, and the one way to collect answers: all, in order."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

from tokred_sci.datasets.loader import IGNORE, Batch
from tokred_sci.errors import InputError
from tokred_sci.training import hooks

Answer = Callable[[nn.Module, Batch], tuple[np.ndarray, np.ndarray]]
"""`(model, batch) -> (truth, guess)`, one row for each thing that was asked, in order."""


def classification(truth: np.ndarray, guess: np.ndarray) -> dict[str, float]:
    """Accuracy, Matthews correlation, macro and micro F1, and the mean over classes of intersection over union.

    Classes are those that occur in truth or guess; with one class alone the correlation is 0. Truth of -100 is left
    out.

    Args:
        truth, guess: (n,) whole numbers.

    Raises:
        InputError: nothing to compare, or arrays of other shapes.

    Reference: Matthews correlation for several classes: Gorodkin (2004),
    https://doi.org/10.1016/j.compbiolchem.2004.09.006.

    Example:
        >>> scores = classification(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))
        >>> {name: round(value, 3) for name, value in scores.items()}
        {'accuracy': 0.75, 'mcc': 0.577, 'macro_f1': 0.733, 'micro_f1': 0.75, 'miou': 0.583}
    """
    from sklearn import metrics

    truth, guess = _pairs(truth, guess, truth != IGNORE)
    return {
        "accuracy": float(metrics.accuracy_score(truth, guess)),
        "mcc": float(metrics.matthews_corrcoef(truth, guess)) if len(np.union1d(truth, guess)) > 1 else 0.0,
        "macro_f1": float(metrics.f1_score(truth, guess, average="macro", zero_division=0)),
        "micro_f1": float(metrics.f1_score(truth, guess, average="micro", zero_division=0)),
        "miou": float(metrics.jaccard_score(truth, guess, average="macro", zero_division=0)),
    }


def regression(truth: np.ndarray, guess: np.ndarray) -> dict[str, float]:
    """Mean squared and mean absolute error, in the unit of the values (squared, and plain); NaN truth is left out.

    Args:
        truth, guess: numbers, of one shape.

    Raises:
        InputError: nothing to compare, or arrays of other shapes.

    Example:
        >>> regression(np.array([[0.0, 1.0], [2.0, np.nan]]), np.array([[0.0, 2.0], [2.0, 9.0]]))
        {'mse': 0.3333333333333333, 'mae': 0.3333333333333333}
    """
    from sklearn import metrics

    truth, guess = _pairs(truth, guess, ~np.isnan(truth))
    return {
        "mse": float(metrics.mean_squared_error(truth, guess)),
        "mae": float(metrics.mean_absolute_error(truth, guess)),
    }


def _pairs(truth: np.ndarray, guess: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if truth.shape != guess.shape or not asked.any():
        raise InputError(
            f"Expected as many answers as questions, at least one (got {truth.shape} and {guess.shape}, "
            f"{int(asked.sum())} to compare)."
        )
    return truth[asked], guess[asked]


@torch.no_grad()
def collect(
    model: nn.Module, batches: Iterable[Batch], answer: Answer, seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Truth and guess of every batch, in order, in evaluation mode; none is dropped.

    Law: the same at every call, whatever the random state, which is left alone.

    Args:
        seed: of masks, and of merging at random.
    """
    was, device = model.training, next(model.parameters()).device
    generators = hooks.generators(model)
    before = hooks.states(generators)
    found = []
    model.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for place, batch in enumerate(batches):
                torch.manual_seed(seed + place)
                for generator in generators:
                    generator.manual_seed(seed + place)
                found.append(answer(model, batch.to(device)))
    finally:
        hooks.restore(generators, before)
        model.train(was)
    if not found:
        raise InputError("Expected at least one batch to evaluate on (got none).")
    return [truth for truth, _ in found], [guess for _, guess in found]
