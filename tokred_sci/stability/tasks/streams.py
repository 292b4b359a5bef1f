"""One long series: anomalies in growing context, forecasts from growing look-back. Nothing is put together here."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tokred_sci.datasets.public import Card
from tokred_sci.datasets.records import Records
from tokred_sci.errors import InputError
from tokred_sci.stability.tasks.source import name_of, parts_of, whole_of
from tokred_sci.stability.tasks.task import IGNORE, Made, Task, ask, span

REACH = 16  # training lengths that a series must have


class _Marked(NamedTuple):
    """A series (channels, steps), whether each step is in a window (steps,), and where cores of either label start."""

    values: np.ndarray
    labels: np.ndarray
    cores: np.ndarray


def anomaly_task(length: int = 240, asked: int = 48, source: str | Card = "nab") -> Task:
    """Is each step inside an anomaly window? Asked of as many steps inside one as outside, all near each other.

    A core of `length` steps that holds both is drawn, and what is around it in the same series grows: no joints.
    Series are centred by median, scaled by quartiles of the whole series and squashed by arcsinh, the same at every
    length; every third series of each group is kept for the test. Series shorter than 16 x `length` are left out.

    Args:
        length: time steps of a training record, and of the core at every length.
        asked: steps inside a window, and steps outside, that are asked about.
        source: a public set with a label for each step, 0 where nothing is wrong.
    """
    whole = whole_of(source, "series")
    parts: tuple[list[_Marked], list[_Marked]] = ([], [])
    for place, series, labels in _of_groups(whole, REACH * length):
        cores = _mixed(labels, length, asked)
        if asked > 0 and len(cores):
            parts[place % 3 == 0].append(_Marked(_squashed(series), labels, cores))
    if not parts[0] or not parts[1]:
        raise InputError(f"Expected series of {REACH * length:,} steps with windows for training and test (got none).")

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        series = parts[test][generator.integers(len(parts[test]))]
        core, total, steps = int(generator.choice(series.cores)), length * multiple, series.values.shape[1]
        start = int(generator.integers(max(0, core + length - total), min(core, steps - total) + 1))
        inside = series.labels[core : core + length]
        answer = np.full(total, IGNORE, np.int64)
        answer[core - start : core - start + length] = ask(generator, inside, inside, asked)
        return Made(series.values[:, start : start + total], span(total, core - start, length), answer)

    return Task(
        "series",
        f"Is each of {2 * asked} time steps inside an anomaly window?",
        "the series around them",
        ("normal", "anomaly"),
        length,
        "time steps",
        make,
        answer="per-element",
        sources=(name_of(source),),
        tokenizer={"patch": 4, "normalise": "none", "in_channels": len(parts[0][0].values)},
        spacing=4.0,
        kinds=1,
        longest=min(series.values.shape[1] for part in parts for series in part),
    )


def lookback_task(length: int = 96, horizon: int = 96, source: str | Card = "ett/ETTh1") -> Task:
    """What comes next, from ever more of the past?

    Forecasts start at the same times at every length, so what is asked does not change; unlike elsewhere more length
    may help. Each channel is standardised by its training part, as published errors are.

    Args:
        length: steps of look-back in training.
        horizon: steps to forecast.
        source: a public set of one long series, with a train and a test part.
    """
    found = parts_of(source, "series")
    if not all(len(part.records) == 1 for part in found):
        raise InputError(f"Expected one long series in {name_of(source)} (got several): name another set.")
    loaded = [np.asarray(part.records[0], np.float64) for part in found]
    mean, spread = np.nanmean(loaded[0], 1, keepdims=True), np.nanstd(loaded[0], 1, keepdims=True)
    parts = [((values - mean) / np.where(spread > 0, spread, 1)).astype(np.float32) for values in loaded]
    first, least = REACH * length, min(values.shape[1] for values in parts)
    if least < first + horizon:
        raise InputError(
            f"Expected parts of {REACH} x 'length' + 'horizon' = {first + horizon:,} steps in {name_of(source)} (got "
            f"{least:,}): lower them."
        )

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        values, total = parts[test], length * multiple
        now = int(generator.integers(first, values.shape[1] - horizon + 1))
        return Made(values[:, now - total : now], span(total, total - length, length), values[:, now : now + horizon])

    return Task(
        "series",
        f"What are the next {horizon} steps?",
        "the look-back",
        (),
        length,
        "time steps",
        make,
        answer="forecast",
        sources=(name_of(source),),
        tokenizer={"patch": 8, "in_channels": len(parts[0])},
        spacing=8.0,
        kinds=1,
        longest=first,
        horizon=horizon,
    )


def _of_groups(whole: Records, least: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Every long enough series with a label for each step, and its place among those of its group."""
    seen: Counter[str] = Counter()
    known = [None] * len(whole.records) if whole.labels is None else whole.labels
    groups = whole.groups or ("",) * len(whole.records)
    for series, labels, group in zip(whole.records, known, groups, strict=True):
        if series.shape[1] >= least and np.shape(labels) == series.shape[1:]:
            yield seen[group], series, np.asarray(labels) > 0
            seen[group] += 1


def _mixed(labels: np.ndarray, length: int, asked: int) -> np.ndarray:
    """Starts of the stretches of `length` that hold at least `asked` of either label."""
    sums = np.cumsum([0, *labels])
    ones = sums[length:] - sums[:-length]
    return np.flatnonzero((ones >= asked) & (length - ones >= asked))


def _squashed(series: np.ndarray) -> np.ndarray:
    """In units of the distance between the quartiles, from the median, large values by their logarithm."""
    low, middle, high = np.nanpercentile(series, (25, 50, 75), axis=1, keepdims=True)
    width = np.where(high > low, high - low, np.nanstd(series, axis=1, keepdims=True))
    return np.arcsinh((series - middle) / np.where(width > 0, width, 1)).astype(np.float32)
