"""What may be said after a few seeds: bootstrap intervals, paired differences, and whether one arm lies above another.

Everything is computed in float64 and is the same for the same seed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from tokred_sci.errors import InputError

Method = Literal["percentile", "BCa"]
Random = int | np.random.Generator
"""A seed, or a generator to draw on."""
AT_ONCE = 1 << 22  # numbers drawn in one piece


class Interval(NamedTuple):
    """An estimate and where it may lie.

    Attributes:
        estimate: the statistic of the data as they are.
        low: lower end of the interval.
        high: upper end.

    Example:
        >>> print(Interval(0.84, 0.8, 0.875))
        0.840 [0.800, 0.875]
    """

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def above(a: Interval, b: Interval) -> bool:
    """The verdict "A is better": the whole interval of A lies above the whole interval of B.

    Stricter than a paired difference whose interval excludes 0; intervals that touch give no verdict.

    Example:
        >>> above(Interval(0.9, 0.85, 0.95), Interval(0.7, 0.6, 0.8)), above(Interval(0.9, 0.8, 1), Interval(0, 0, 0.8))
        (True, False)
    """
    if not np.isfinite([*a, *b]).all():
        raise InputError(f"Expected two intervals of finite numbers (got {a} and {b}).")
    return a.low > b.high


def interval(
    values: Sequence[float] | np.ndarray,
    seed: Random = 0,
    level: float = 0.95,
    method: Method = "percentile",
    resamples: int = 9999,
    statistic: Callable[..., np.ndarray] = np.mean,
) -> Interval:
    """Bootstrap interval of the mean (or another statistic) of independent values, one for each seed or record.

    Law: values that are all equal give an interval of width 0; the same seed gives the same interval. With five values
    a percentile interval is too narrow (about 83 % instead of 95 %): say how many values there were.

    Args:
        values: at least two finite numbers.
        seed: of the draws, or a generator.
        level: share of intervals, over many experiments, that should hold the truth.
        method: "percentile", or "BCa", which corrects for bias and skew.
        resamples: bootstrap samples.
        statistic: takes an array and `axis`, as `np.mean` and `np.median` do.

    Raises:
        InputError: fewer than two values, one that is not finite, or settings out of range.

    Reference: An Introduction to the Bootstrap (Efron & Tibshirani, 1993), https://doi.org/10.1201/9780429246593,
    through `scipy.stats.bootstrap`.

    Example:
        >>> print(interval([0.8, 0.9, 0.7, 0.85, 0.75]))
        0.800 [0.740, 0.860]
    """
    from scipy.stats import bootstrap

    data = _numbers(values, "values")
    _check(len(data), level, resamples)
    if method not in ("percentile", "BCa"):
        raise InputError(f"Expected 'method' to be 'percentile' or 'BCa' (got {method!r}).")
    estimate = float(statistic(data, axis=0))
    if np.ptp(data) <= 1e-12 * np.abs(data).max():  # equal up to rounding: scipy has no BCa interval of these
        return Interval(estimate, estimate, estimate)
    found = bootstrap(
        (data,),
        statistic,
        n_resamples=resamples,
        confidence_level=level,
        method=method,
        rng=np.random.default_rng(seed),
        vectorized=True,
        batch=max(1, AT_ONCE // len(data)),
    ).confidence_interval
    return Interval(estimate, float(found.low), float(found.high))


def paired_difference(
    a: Mapping[int, float],
    b: Mapping[int, float],
    seed: Random = 0,
    level: float = 0.95,
    method: Method = "percentile",
    resamples: int = 9999,
) -> Interval:
    """How much arm A is above arm B when both ran with the same seeds: mean of the differences, with its interval.

    What a seed does to both arms (its records, its order) cancels, so this sees smaller effects than two intervals.

    Args:
        a: {seed: metric} of one arm.
        b: the same seeds of the other arm.
        seed, level, method, resamples: see `interval`.

    Raises:
        InputError: arms that did not run with the same seeds.

    Example:
        >>> print(paired_difference({0: 0.9, 1: 0.7, 2: 0.8}, {0: 0.8, 1: 0.6, 2: 0.7}))
        0.100 [0.100, 0.100]
    """
    if a.keys() != b.keys():
        raise InputError(f"Expected the same seeds in both arms (got {sorted(a)} and {sorted(b)}): leave none out.")
    return interval([a[key] - b[key] for key in sorted(a)], seed, level, method, resamples)


def hierarchical_interval(
    scores: Sequence[Sequence[float] | np.ndarray], seed: Random = 0, level: float = 0.95, resamples: int = 9999
) -> Interval:
    """Interval of a mean score over seeds and test records: seeds are drawn again, then records within each.

    Law: the estimate is the mean over seeds of each seed's mean; one record per seed gives the plain bootstrap over
    seeds, one seed that over its records, which says nothing of other seeds. For two arms tested on the same records,
    hand in the differences record by record.

    Args:
        scores: for each seed the scores of its records (1 for a right answer, 0 for a wrong one); their number may
            differ.
        seed, level, resamples: see `interval`.

    Raises:
        InputError: one seed with one record, a seed without records, or a score that is not finite.

    Reference: Bootstrap Methods and Their Application (Davison & Hinkley, 1997), section 3.8,
    https://doi.org/10.1017/CBO9780511802843.

    Example:
        >>> print(hierarchical_interval([[1, 1, 1, 0], [1, 1, 0, 0]]))
        0.625 [0.250, 1.000]
    """
    means = _replicates([_nested(scores, "scores")], seed, level, resamples)[0]
    return _percentile(float(np.mean([np.mean(part) for part in _nested(scores, "scores")])), means, level)


def retained_share(
    long: Sequence[float] | Sequence[Sequence[float]] | np.ndarray,
    short: Sequence[float] | Sequence[Sequence[float]] | np.ndarray,
    chance: float = 0.0,
    seed: Random = 0,
    level: float = 0.95,
    resamples: int = 9999,
) -> Interval:
    """Share of the metric at training length that is left at a longer one: (long - chance) / (short - chance).

    Law: 1 = nothing lost, 0 = down to chance (or to 0 with `chance` = 0); a ratio of means over seeds. Seeds are drawn
    in pairs; where scores of records are given, records are drawn anew within each seed and length.

    Args:
        long: metric at the longer length, one number for each seed, or for each seed those of its records.
        short: the same at training length, seeds in the same order.
        chance: what guessing gives; 0 leaves the plain share.
        seed, level, resamples: see `interval`.

    Raises:
        InputError: other seeds in one than in the other, or a metric at training length that is, for some seed, not
            above chance: there is then nothing to retain.

    Example:
        >>> print(retained_share([0.625, 0.625], [1.0, 1.0], chance=0.25))
        0.500 [0.500, 0.500]
    """
    arms = [_nested(long, "long"), _nested(short, "short")]
    if len(arms[0]) != len(arms[1]):
        raise InputError(f"Expected as many seeds at both lengths (got {len(arms[0])} and {len(arms[1])}).")
    if not all(part.mean() > chance for part in arms[1]):
        raise InputError(f"Expected 'short' above chance ({chance}) for every seed: nothing was learnt to retain.")
    far, near = _replicates(arms, seed, level, resamples) - chance
    if not (near > 0).all():
        raise InputError(f"Expected 'short' clearly above chance ({chance}) (got samples at chance): use more records.")
    estimate = [np.mean([part.mean() for part in arm]) - chance for arm in arms]
    return _percentile(float(estimate[0] / estimate[1]), far / near, level)


def _replicates(arms: list[list[np.ndarray]], seed: Random, level: float, resamples: int) -> np.ndarray:
    """Bootstrap means (arms, resamples): the same seeds drawn for all arms, then records within each seed and arm."""
    seeds = len(arms[0])
    _check(seeds if seeds != 1 else len(arms[0][0]), level, resamples)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(seeds, size=(resamples, seeds))
    means = np.empty((len(arms), resamples, seeds))
    for arm, scores in zip(means, arms, strict=True):
        for number, records in enumerate(scores):
            where = drawn == number
            arm[where] = _means(records, int(where.sum()), generator)
    return means.mean(-1)


def _means(records: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Means of `count` samples of the records with replacement."""
    step = max(1, AT_ONCE // len(records))
    parts = [
        records[generator.integers(len(records), size=(min(step, count - start), len(records)))].mean(1)
        for start in range(0, count, step)
    ]
    return np.concatenate([np.empty(0), *parts])


def _percentile(estimate: float, replicates: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def _nested(values: Sequence | np.ndarray, name: str) -> list[np.ndarray]:
    """For each seed an array of its scores; a single number stands for one record."""
    return [_numbers(part if np.iterable(part) else [part], name) for part in values]


def _numbers(values: Any, name: str) -> np.ndarray:
    try:
        data = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"Expected {name!r} as numbers (got {error}).") from error
    if data.ndim != 1 or not len(data) or not np.isfinite(data).all():
        raise InputError(f"Expected {name!r} as finite numbers in one row (got shape {data.shape}): look at bad runs.")
    return data


def _check(count: int, level: float, resamples: int) -> None:
    if count < 2:
        raise InputError(f"Expected two or more values to resample (got {count}): run more seeds.")
    if not 0 < level < 1 or resamples < 1:
        raise InputError(f"Expected 0 < 'level' < 1 and 'resamples' >= 1 (got {level} and {resamples}).")
