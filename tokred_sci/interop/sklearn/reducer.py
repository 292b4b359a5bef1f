"""`TokenReducer`: any reduction of ours as a scikit-learn transformer that groups and averages columns."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from tokred_sci.errors import InputError
from tokred_sci.experiment import Reduce
from tokred_sci.interop.sklearn.inputs import check_names, find_method, plain
from tokred_sci.reduction.merge import merge, unmerge
from tokred_sci.tokens import Grouping, Tokens


class TokenReducer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Group alike columns and average each group, as `sklearn.cluster.FeatureAgglomeration` does, by our methods.

    The columns of X are the tokens. What is compared is a column's values over the training samples, and its place is
    its number: methods of chains join neighbouring columns only, which is right for spectra and series of one length.
    Most methods compare by cosine: of standardised columns that is their correlation.

    Laws: every column is in one group, and means weighted by `sizes_` are kept: `transform(X) @ sizes_ == X.sum(1)`.
    `transform(inverse_transform(Z)) == Z`. Methods that prune ("topk", "truncate") drop columns instead: their label is
    -1, and `inverse_transform` gives them zeros, as scikit-learn's feature selectors do. Refitting gives the same
    groups, and the global random state is not touched (with `random_state=None` NumPy's is drawn from).

    Args:
        n_tokens: columns to keep: a number, at most those there are, or a share in (0, 1] of them. Some methods give
            fewer (see the table of methods): `n_tokens_` says how many.
        method: a name in `experiment.REDUCTIONS`.
        options: further arguments of the method, e.g. {"linkage": "ward"}.
        window: join columns only within windows of so many neighbours.
        places: (n_features,) or (n_features, 3) places of the columns, e.g. wavelengths, or sensors on a head, for
            methods that look at space; None = their numbers.
        random_state: seed of the method that has one ("random").

    Attributes:
        labels_: (n_features,) group of each column, -1 = dropped.
        n_tokens_: groups.
        sizes_: (n_tokens_,) columns in each group.
        places_: (n_tokens_,) or (n_tokens_, 3) mean place of each group's columns.

    Raises:
        InputError: (by `fit`) an unknown or a learned method, more tokens than columns, or places of other columns.
        ValueError: scikit-learn's own, for an X it would refuse anywhere.

    Reference: groups of features in place of features, and the way back: Recursive Nearest Agglomeration (Hoyos-Idrobo
    et al., 2019), https://arxiv.org/abs/1609.04608.

    Example:
        >>> X = np.array([[0.0, 1.0, 5.0, 6.0], [2.0, 3.0, 1.0, 1.0], [4.0, 4.0, 0.0, 2.0]])
        >>> reducer = TokenReducer(n_tokens=2, method="links").fit(X)
        >>> reducer.labels_, reducer.transform(X)[0]
        (array([0, 0, 1, 1]), array([0.5, 5.5]))
        >>> reducer.inverse_transform(reducer.transform(X))[0]
        array([0.5, 0.5, 5.5, 5.5])
    """

    def __init__(
        self,
        n_tokens: int | float = 0.5,
        method: str = "peaks",
        *,
        options: Mapping[str, Any] | None = None,
        window: int | None = None,
        places: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ):
        self.n_tokens = n_tokens
        self.method = method
        self.options = options
        self.window = window
        self.places = places
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "TokenReducer":
        """Find the groups of columns.

        Args:
            X: (n_samples, n_features) finite numbers.
            y: not used.
        """
        X = validate_data(self, X, dtype=(np.float64, np.float32))
        tokens = self._columns(X)
        group, budget = self._reduction().build(len(X))
        labels = group(tokens.features, tokens, budget(tokens.features, tokens)).labels[0].numpy()
        held, numbered = np.unique(labels[labels >= 0], return_inverse=True)  # without groups that nobody joined
        self.labels_ = labels.copy()
        self.labels_[labels >= 0] = numbered
        self.n_tokens_ = len(held)
        merged = merge(tokens, self._grouping())
        self.sizes_ = merged.sizes[0].numpy().astype(np.int64)
        self.places_ = merged.positions[0].squeeze(-1).numpy()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The mean of each group's columns, (n_samples, n_tokens_), float32 of float32."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return merge(self._columns(X), self._grouping()).features[0].numpy().T

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Each group's value in all of its columns, (n_samples, n_features)."""
        check_is_fitted(self)
        X = check_array(X, dtype=(np.float64, np.float32))
        if X.shape[1] != self.n_tokens_:
            raise InputError(
                f"Expected {self.n_tokens_} columns, one for each token (got {X.shape[1]}): pass what 'transform' gave."
            )
        return unmerge(torch.from_numpy(X.T.copy())[None], self._grouping())[0].numpy().T

    def _reduction(self) -> Reduce:
        options = dict(self.options or {})
        check_names("options", options, find_method(self.method))
        if self.method == "random":
            options.setdefault("seed", int(check_random_state(self.random_state).randint(2**31 - 1)))
        return Reduce(0, self.method, self._keep(), options=options, window=plain(self.window))

    def _keep(self) -> int | float:
        keep, columns = plain(self.n_tokens), self.n_features_in_
        if isinstance(keep, bool) or not isinstance(keep, int | float):
            raise InputError(f"Expected 'n_tokens' as a number or a share (got {keep!r}): 8 keeps eight, 0.5 half.")
        if isinstance(keep, int) and not 1 <= keep <= columns:
            raise InputError(
                f"Expected 'n_tokens' in [1, {columns}] (got {keep}): {columns} columns cannot become more; lower it, "
                "or give a share of them."
            )
        return keep

    def _columns(self, X: np.ndarray) -> Tokens:
        """One token for each column."""
        count = X.shape[1]
        places = np.arange(count) if self.places is None else np.asarray(self.places)
        if places.shape not in ((count,), (count, 1), (count, 3)) or places.dtype.kind not in "iuf":
            raise InputError(
                f"Expected 'places' as numbers of shape ({count},) or ({count}, 3), one row for each column (got "
                f"{places.dtype} of shape {places.shape})."
            )
        if not np.isfinite(places).all():
            raise InputError("Expected finite 'places' (got NaN or infinity).")
        return Tokens(
            torch.from_numpy(X.T.copy())[None],
            torch.from_numpy(places.reshape(count, -1).astype(np.float64))[None],
            torch.ones(1, count),
            torch.arange(count)[None],
        )

    def _grouping(self) -> Grouping:
        return Grouping(torch.from_numpy(np.array(self.labels_))[None], self.n_tokens_)

    @property
    def _n_features_out(self) -> int:
        return self.n_tokens_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
