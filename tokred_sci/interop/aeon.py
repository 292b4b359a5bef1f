"""aeon: `AeonClassifier`, the encoder as one of its classifiers; `AeonReducer`, which shortens series for any of them.

Both are classes of aeon's own kinds, so they are made when they are first asked for:
`from tokred_sci.interop.aeon import AeonClassifier, AeonReducer` needs aeon, importing this module does not.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from tokred_sci.errors import InputError, package
from tokred_sci.experiment import Reduce
from tokred_sci.interop.sklearn.inputs import check_names, find_method, plain
from tokred_sci.interop.sklearn.sequence import SequenceClassifier
from tokred_sci.reduction.merge import merge
from tokred_sci.tokens import Tokens

TAGS = {
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "X_inner_type": ["np-list", "numpy3D"],
}


def reduce_series(
    series: np.ndarray,
    keep: int | float = 64,
    method: str = "links",
    options: Mapping[str, Any] | None = None,
    window: int | None = None,
) -> np.ndarray:
    """A series whose steps are the means of groups of steps, in the order of their mean times.

    Steps are compared by their channels' standard scores with a constant beside them, so that methods that compare by
    cosine tell the levels of a single channel apart.
    Law: the mean over all steps, weighted by how many each stands for, is kept (unless the method prunes).

    Args:
        series: (channels, steps) finite numbers.
        keep: steps of the result: a number (a series that has no more stays as it is), or a share of its own steps.
        method: a name in `experiment.REDUCTIONS`; those of chains join neighbours in time only.
        options: further arguments of the method.
        window: join only within windows of so many steps.

    Raises:
        InputError: no such series, method or budget.

    Example:
        >>> reduce_series(np.array([[0.0, 2.0, 9.0, 8.0, 7.0]]), keep=2)
        array([[1., 8.]])
    """
    series = np.asarray(series)
    if series.ndim != 2 or 0 in series.shape or series.dtype.kind not in "iuf" or not np.isfinite(series).all():
        raise InputError(f"Expected finite numbers of shape (channels, steps) (got {series.dtype} {series.shape}).")
    count = series.shape[1]
    steps = series.T.astype(np.promote_types(series.dtype, np.float32))
    spread = steps.std(0)
    scores = (steps - steps.mean(0)) / np.where(spread > 0, spread, 1)
    metric = torch.from_numpy(np.pad(scores, ((0, 0), (0, 1)), constant_values=1))[None]
    places = torch.arange(count, dtype=torch.float64).view(1, count, 1)
    tokens = Tokens(torch.from_numpy(steps)[None], places, torch.ones(1, count), torch.arange(count)[None])
    check_names("options", options or {}, find_method(method))
    step = Reduce(0, method, plain(keep), options=dict(options or {}), window=plain(window))
    group, budget = step.build(metric.shape[2])
    merged = merge(tokens, group(metric, tokens, budget(metric, tokens)))[0]
    return merged.features[0, merged.positions[0, :, 0].argsort()].numpy().T.copy()


def _classifier() -> type:
    base: Any = package("aeon.classification", "AeonClassifier", "aeon").BaseClassifier

    class AeonClassifier(base):
        """`SequenceClassifier` under aeon's interface: the same parameters, for series only."""

        __qualname__ = "AeonClassifier"
        _tags = TAGS | {"capability:missing_values": True}

        def __init__(
            self,
            method: str = "peaks",
            keep: int | float = 16,
            patch: int = 16,
            dim: int = 32,
            depth: int = 2,
            heads: int = 2,
            steps: int = 200,
            batch: int = 32,
            learning_rate: float = 5e-3,
            random_state: int | None = 0,
        ):
            self.method = method
            self.keep = keep
            self.patch = patch
            self.dim = dim
            self.depth = depth
            self.heads = heads
            self.steps = steps
            self.batch = batch
            self.learning_rate = learning_rate
            self.random_state = random_state
            super().__init__()

        def _fit(self, X: Any, y: np.ndarray) -> "AeonClassifier":
            self.classifier_ = SequenceClassifier(**self.get_params(deep=False)).fit(list(X), y)
            return self

        def _predict(self, X: Any) -> np.ndarray:
            return self.classifier_.predict(list(X))

        def _predict_proba(self, X: Any) -> np.ndarray:
            return self.classifier_.predict_proba(list(X))

        @classmethod
        def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
            return {"patch": 4, "dim": 8, "depth": 1, "heads": 1, "steps": 5, "batch": 4}

    return AeonClassifier


def _reducer() -> type:
    base: Any = package("aeon.transformations.collection", "AeonReducer", "aeon").BaseCollectionTransformer

    class AeonReducer(base):
        """`reduce_series` under aeon's interface: each series of a collection is shortened by itself."""

        __qualname__ = "AeonReducer"
        _tags = TAGS | {"fit_is_empty": True}

        def __init__(
            self,
            keep: int | float = 64,
            method: str = "links",
            options: Mapping[str, Any] | None = None,
            window: int | None = None,
        ):
            self.keep = keep
            self.method = method
            self.options = options
            self.window = window
            super().__init__()

        def _transform(self, X: Any, y: Any = None) -> np.ndarray | list[np.ndarray]:
            short = [reduce_series(series, self.keep, self.method, self.options, self.window) for series in X]
            alike = isinstance(X, np.ndarray) and len({series.shape for series in short}) == 1
            return np.stack(short) if alike else short

        @classmethod
        def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
            return {"keep": 4}

    return AeonReducer


_MAKERS: dict[str, Callable[[], type]] = {"AeonClassifier": _classifier, "AeonReducer": _reducer}


def __getattr__(name: str) -> type:
    """Make a class when it is asked for, once: pickled estimators find it under its name."""
    if name not in _MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()[name] = _MAKERS[name]()
    return made
