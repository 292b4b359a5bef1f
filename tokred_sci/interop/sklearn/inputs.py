"""What scikit-learn's users hand in: settings as plain values, X as a list of records that our tokenizers take."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from tokred_sci.errors import InputError
from tokred_sci.experiment import LEARNED, REDUCTIONS, Reduce

DOMAINS = ("series", "dna", "points")


def plain(value: Any) -> Any:
    """NumPy's numbers, as searches over parameters draw them, as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def find_method(name: str) -> Callable[..., Any]:
    """A reduction without weights.

    Raises:
        InputError: an unknown name (the message has the nearest), or a method that is learned inside a model.
    """
    if name in LEARNED:
        raise InputError(f"Expected a method without weights (got {name!r}): it learns inside a model only.")
    Reduce(0, name, 1).build(1)
    return REDUCTIONS[name]


def check_names(setting: str, names: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Refuse arguments that a function does not have."""
    known = list(inspect.signature(function).parameters)
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"Expected the names in {setting!r} among {', '.join(known)} (got {unknown[0]!r}).")


def read_records(estimator: BaseEstimator, X: Any, reset: bool) -> list[Any]:
    """Series as (channels, steps) arrays, clouds as (points, channels) arrays, or sequences as text.

    Args:
        estimator: its `domain` says what X holds. A table's width is noted in its `n_features_in_` with `reset`, and
            compared without.
        X: a table (n_samples, steps) of series with one channel; (n_samples, channels, steps) or (n_samples, points,
            channels); a list of such arrays, each of its own length; for DNA a list of texts.
        reset: whether this is what the estimator is fitted to.

    Raises:
        InputError: not what the domain needs.
        ValueError: scikit-learn's own, or its TypeError, for an array it would refuse anywhere.
    """
    domain = estimator.domain
    if domain not in DOMAINS:
        raise InputError(f"Expected 'domain' as one of {', '.join(map(repr, DOMAINS))} (got {domain!r}).")
    if reset:
        for name in ("n_features_in_", "feature_names_in_"):
            vars(estimator).pop(name, None)
    if domain == "dna":
        return _texts(X)
    if (listed := _listed(X)) is not None:
        return [_with_channels(x, domain, place) for place, x in enumerate(listed)]
    if domain == "series" and getattr(X, "ndim", 2) != 3:
        return list(validate_data(estimator, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")[:, None])
    if getattr(X, "ndim", 2) != 3:
        raise InputError(
            f"Expected clouds as a list of (points, channels) arrays, or one array (n_samples, points, channels) (got "
            f"{type(X).__name__})."
        )
    return list(check_array(X, allow_nd=True, dtype=np.float64, ensure_all_finite="allow-nan", input_name="X"))


def _texts(X: Any) -> list[str]:
    texts = [] if isinstance(X, str) else list(X)
    if not texts or not all(isinstance(text, str) for text in texts):
        kinds = sorted({type(text).__name__ for text in texts})
        raise InputError(f"Expected DNA as a list of texts (got {type(X).__name__} of {', '.join(kinds) or 'none'}).")
    return [str(text) for text in texts]


def _listed(X: Any) -> list[np.ndarray] | None:
    """The records in a list of them; None for anything that is one array, as a list of equally long lists is."""
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1:
        X = list(X)
    if not isinstance(X, list | tuple):
        return None
    try:
        records = [np.asarray(x) for x in X]
    except ValueError as error:
        raise InputError(f"Expected each record as a rectangular array (got: {error}).") from error
    arrays = any(getattr(x, "ndim", 0) > 0 for x in X) or any(record.ndim > 1 for record in records)
    return records if arrays or len({record.shape for record in records}) > 1 else None


def _with_channels(x: np.ndarray, domain: str, place: int) -> np.ndarray:
    if x.ndim == 1 and domain == "series":
        return x[None]
    if x.ndim != 2 or 0 in x.shape:
        wanted = "(channels, steps)" if domain == "series" else "(points, channels)"
        raise InputError(f"Expected records of shape {wanted} (got {x.shape} as record {place}).")
    return x
