"""`SequenceClassifier` and `SequenceRegressor`: tokenizer, merging encoder and training loop as estimators."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d
from torch import Tensor, nn

from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.loader import Batch, MemoryStore, TokenLoader
from tokred_sci.errors import InputError
from tokred_sci.experiment import LEARNED, TOKENIZERS, Model, ModelConfig, Reduce
from tokred_sci.interop.sklearn.inputs import check_names, find_method, plain, read_records
from tokred_sci.tokenizers.record import check_integer
from tokred_sci.tokens import Tokens, stack
from tokred_sci.training import hooks
from tokred_sci.training.loop import TrainConfig, fit
from tokred_sci.training.tasks import Classify, Loss


class _Sequence(BaseEstimator):
    """What both have in common: settings, training, and the model's answers."""

    def __init__(
        self,
        domain: Literal["series", "dna", "points"] = "series",
        method: str = "peaks",
        keep: int | float = 16,
        *,
        block: int = 0,
        options: Mapping[str, Any] | None = None,
        window: int | None = None,
        patch: int | None = None,
        tokenizer: Mapping[str, Any] | None = None,
        dim: int = 32,
        depth: int = 2,
        heads: int = 2,
        unit: float = 1.0,
        steps: int = 200,
        batch: int = 32,
        learning_rate: float = 5e-3,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
    ):
        self.domain = domain
        self.method = method
        self.keep = keep
        self.block = block
        self.options = options
        self.window = window
        self.patch = patch
        self.tokenizer = tokenizer
        self.dim = dim
        self.depth = depth
        self.heads = heads
        self.unit = unit
        self.steps = steps
        self.batch = batch
        self.learning_rate = learning_rate
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _train(self, records: list[Any], y: np.ndarray, outputs: int, loss: Callable[..., Loss]) -> None:
        asked = self._settings()
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        model = _PortableModel(_config(asked, records[0], outputs, seed))
        entries = [Entry(tokens, label) for tokens, label in zip(_tokenize(model, records), y, strict=True)]
        loader = TokenLoader(MemoryStore(entries), asked.batch, bucket=False, seed=seed)
        config = TrainConfig(asked.steps, asked.batch, asked.learning_rate, warm_up=asked.steps // 10, seed=seed)
        history = fit(model, loss, loader, config, progress=bool(asked.verbose), device=asked.device)
        self.model_, self.loss_curve_ = model.double().cpu().eval(), history.losses

    def _settings(self) -> SimpleNamespace:
        """The parameters as plain values, checked as far as nobody else does."""
        asked = SimpleNamespace(**{name: plain(value) for name, value in self.get_params(deep=False).items()})
        for name in ("dim", "depth", "heads", "steps", "batch"):
            check_integer(name, getattr(asked, name), 1)
        for name in ("learning_rate", "unit"):
            if not isinstance(value := getattr(asked, name), int | float) or not value > 0:
                raise InputError(f"Expected {name!r} as a number above 0 (got {value!r}).")
        try:
            asked.device = torch.device(asked.device)
        except (RuntimeError, TypeError) as error:
            raise InputError(f"Expected 'device' as torch names it, e.g. 'cuda' (got {asked.device!r}).") from error
        return asked

    @torch.no_grad()
    def _answers(self, X: Any) -> np.ndarray:
        """What the model says, (n_samples, outputs), in float64: so that no record's answer depends on its batch."""
        check_is_fitted(self)
        asked, records = self._settings(), read_records(self, X, reset=False)
        model, told = self.model_.to(asked.device), []
        for start in range(0, len(records), asked.batch):
            for generator in hooks.generators(model):  # "random" draws the same borders for every batch
                generator.manual_seed(model.config.seed)
            tokens = stack(_tokenize(model, records[start : start + asked.batch], start))
            if tokens.features.is_floating_point():  # compact DNA is codes
                tokens = tokens.to(torch.float64)
            told.append(model(tokens.to(asked.device)).numpy(force=True))
        model.cpu()  # where it can be pickled for any machine
        return np.concatenate(told)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        series = self.domain == "series"
        tags.input_tags.allow_nan = tags.input_tags.two_d_array = series
        tags.input_tags.three_d_array = self.domain != "dna"
        tags.input_tags.string = self.domain == "dna"
        tags.target_tags.required = True
        return tags


class SequenceClassifier(ClassifierMixin, _Sequence):
    """One class for each series, cloud or DNA sequence, of any lengths: our tokenizers, encoder and training loop.

    Laws: a record has the same answer alone, in any batch and in any order, to float64 precision; the same
    `random_state` gives the same classifier on a CPU, and the global random state of torch is not touched (nor NumPy's,
    but for `random_state=None`, which draws from it).

    X is one of: (n_samples, n_steps), series of one channel; (n_samples, n_channels, n_steps); a list of (n_channels,
    n_steps) arrays of unequal length; for `domain="dna"` a list of texts; for `domain="points"` a list of (n_points, 3
    or more) arrays, or (n_samples, n_points, 3 or more). NaN in a series is a missing value.

    Args:
        domain: "series", "dna" or "points".
        method: a name in `experiment.REDUCTIONS` or `LEARNED`; "none" merges nothing.
        keep: tokens that a record is merged to: a number (a record that has no more stays as it is), or a share of its
            own tokens.
        block: number of the encoder's block that merges, from 0.
        options: further arguments of the method.
        window: merge only within windows of so many tokens.
        patch: steps or bases of a token; None = the tokenizer's default, 16.
        tokenizer: further arguments of the domain's tokenizer, e.g. {"normalise": "none"}, or {"tokens": 64} of clouds.
        dim, depth, heads: width, blocks and attention heads of the encoder.
        unit: length that counts as one step in attention: about the distance of tokens, in steps, bases, or the
            cloud's unit.
        steps, batch, learning_rate: training steps, records in each, and the largest step width (see `TrainConfig`).
        device: where torch computes.
        random_state: seed of the first weights and of the order of records.
        verbose: show a progress bar, if there is a terminal.

    Attributes:
        classes_: the labels, sorted.
        model_: the trained `Model`.
        loss_curve_: cross-entropy of each step.
        n_features_in_: steps of a series, if X was a table.

    Raises:
        InputError: (by `fit`) settings out of range, fewer than two classes, or a record that the tokenizer refuses.
        ValueError: scikit-learn's own, for an X or y it would refuse anywhere.

    Example:
        >>> slow, fast = (np.sin(np.arange(64) * rate + np.arange(8)[:, None]) for rate in (0.1, 0.6))
        >>> X, y = np.concatenate([slow, fast]), ["slow"] * 8 + ["fast"] * 8
        >>> classifier = SequenceClassifier(patch=8, keep=4, dim=16, steps=30).fit(X, y)
        >>> classifier.predict([np.sin(np.arange(100) * 0.1), np.sin(np.arange(30) * 0.6)]).tolist()
        ['slow', 'fast']
    """

    def fit(self, X: Any, y: Any) -> "SequenceClassifier":
        """Train from the start.

        Args:
            X: the records, see above.
            y: (n_samples,) labels, numbers or texts.
        """
        records = read_records(self, X, reset=True)
        y = column_or_1d(_given(self, y), warn=True)
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            raise InputError("Expected labels (got NaN or infinity): leave records without one out.")
        check_classification_targets(y)
        check_consistent_length(records, y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"Expected at least two classes (got one class, {self.classes_[0]!r}).")
        self._train(records, numbers.astype(np.int64), len(self.classes_), Classify().loss)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, (n_samples, n_classes), in the order of `classes_`."""
        return torch.from_numpy(self._answers(X)).softmax(1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each record, (n_samples,)."""
        chosen = self._answers(X).argmax(1)
        return self.classes_[chosen]


class SequenceRegressor(RegressorMixin, _Sequence):
    """One number, or a row of numbers, for each series, cloud or DNA sequence; all else as in `SequenceClassifier`.

    Trained by squared error on targets of mean 0 and standard deviation 1; answers are in the targets' own unit.

    Attributes:
        model_: the trained `Model`.
        y_mean_, y_scale_: mean and standard deviation of the targets.
        loss_curve_: mean squared error of each step, in standard deviations.
        n_features_in_: steps of a series, if X was a table.

    Example:
        >>> rates = np.linspace(0.1, 0.6, 16)
        >>> regressor = SequenceRegressor(patch=8, keep=4, dim=16, steps=60)
        >>> regressor.fit([np.sin(np.arange(64) * rate) for rate in rates], np.stack([rates, -rates], 1))
        SequenceRegressor(dim=16, keep=4, patch=8, steps=60)
        >>> regressor.predict([np.sin(np.arange(80) * 0.3)]).shape
        (1, 2)
    """

    def fit(self, X: Any, y: Any) -> "SequenceRegressor":
        """Train from the start.

        Args:
            X: the records, see `SequenceClassifier`.
            y: (n_samples,) or (n_samples, n_outputs) finite numbers.
        """
        records = read_records(self, X, reset=True)
        y = check_array(_given(self, y), ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(records, y)
        spread = y.std(0)
        self.y_mean_, self.y_scale_ = y.mean(0), np.where(spread > 0, spread, 1)
        scaled = ((y - self.y_mean_) / self.y_scale_).reshape(len(y), -1).astype(np.float32)
        self._train(records, scaled, scaled.shape[1], _squares)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(n_samples,) or (n_samples, n_outputs), as the targets were."""
        answers = self._answers(X)
        return answers.reshape(len(answers), *np.shape(self.y_mean_)) * self.y_scale_ + self.y_mean_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class _PortableModel(Model):
    """A model that is pickled as its settings and weights: grouping functions and budgets cannot be."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.config, self.state_dict(), self.training)


def _rebuild(config: ModelConfig, weights: Mapping[str, Tensor], training: bool) -> _PortableModel:
    model = _PortableModel(config).to(next(iter(weights.values())).dtype)
    model.load_state_dict(weights)
    model.train(training)
    return model


def _config(asked: SimpleNamespace, record: Any, outputs: int, seed: int) -> ModelConfig:
    """The model for records like this one."""
    tokenizer, options = dict(asked.tokenizer or {}), dict(asked.options or {})
    if asked.patch is not None:
        if asked.domain == "points":
            raise InputError(f"Expected no 'patch' of points (got {asked.patch}): use tokenizer={{'tokens': 64}}.")
        tokenizer["patch"] = asked.patch
    if asked.domain == "points":
        tokenizer["channels"] = record.shape[1]
    elif asked.domain == "series":
        if tokenizer.setdefault("channels", "mix") != "mix":
            raise InputError("Expected series whose tokens hold all channels (got 'independent' ones): use 'mix'.")
        tokenizer["in_channels"] = len(record)
    check_names("tokenizer", tokenizer, TOKENIZERS[asked.domain])
    check_names("options", options, LEARNED.get(asked.method) or find_method(asked.method))
    step = Reduce(asked.block, asked.method, asked.keep, options=options, window=asked.window)
    return ModelConfig(
        asked.domain,
        tokenizer,
        outputs=outputs,
        dim=asked.dim,
        depth=asked.depth,
        heads=asked.heads,
        unit=asked.unit,
        reduce=(step,),
        seed=seed,
    )


def _tokenize(model: Model, records: list[Any], first: int = 0) -> list[Tokens]:
    tokens = []
    for place, record in enumerate(records, first):
        try:
            tokens.append(model.tokenize(record))
        except InputError as error:
            raise InputError(f"Record {place} of X: {error}") from error
    return tokens


def _given(estimator: BaseEstimator, y: Any) -> Any:
    if y is None:
        raise InputError(f"{type(estimator).__name__} requires y to be passed, but the target y is None.")
    return y


def _squares(model: nn.Module, batch: Batch) -> Loss:
    """Squared error of the answers, over all outputs."""
    assert batch.labels is not None
    return Loss((model(batch.tokens) - batch.labels).square().sum(), torch.tensor(float(batch.labels.numel())))
