"""Accuracy and cost against length, from the results of a demo or from its file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from tokred_sci.errors import FileError, InputError
from tokred_sci.plotting.colours import COLOURS, MARKERS, STYLES
from tokred_sci.plotting.picture import NORMAL, SMALL, Picture

Results = Mapping[str, Any] | str | Path


class Curve(NamedTuple):
    """One measure of one arm: values and intervals around them, each (K,)."""

    x: np.ndarray
    y: np.ndarray
    below: np.ndarray
    above: np.ndarray


def lengths(results: Results) -> Picture:
    """Accuracy (above) and seconds per record (below) against length, a column for each domain.

    Intervals are drawn where the results have them: "low" and "high" of accuracy, "seconds_low" and "seconds_high",
    or the standard "error" of accuracy.

    Args:
        results: of a demo, or the path of its `results.json` (or of the folder that holds it).

    Raises:
        FileError: a file that is not there or is not JSON.
        InputError: results without what a curve needs; the message names what is missing.
    """
    domains = _domains(results)
    figure = Picture(5.6, 4.2 * len(domains))
    grid = figure.subplots(2, len(domains), sharex="col", squeeze=False)
    for column, (domain, told) in enumerate(domains.items()):
        try:
            _draw_domain(grid[0, column], grid[1, column], domain, told)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"Expected 'arms' with 'lengths' of 'multiple', 'accuracy' and 'seconds' for {domain!r} "
                f"({type(error).__name__}: {error}): are these the results of a demo?"
            ) from error
    grid[0, 0].set_ylabel("accuracy on unseen data")
    grid[1, 0].set_ylabel("seconds per record")
    grid[0, -1].legend(fontsize=SMALL, loc="best")
    return figure


def styles(methods: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Colour, marker and line of each method: different ones also without colour."""
    turn = 0
    for method in methods:
        if method in STYLES:
            colour, marker, line = STYLES[method]
        else:
            colour, marker = COLOURS[turn % len(COLOURS)], MARKERS[turn % len(MARKERS)]
            line = "-" if turn < len(COLOURS) else "-."
            turn += 1
        yield {"color": colour, "marker": marker, "linestyle": line, "markersize": 5}


def _domains(results: Results) -> Mapping[str, Any]:
    if isinstance(results, str | Path):
        results = _read(Path(results))
    domains = results.get("domains") if isinstance(results, Mapping) else None
    if not isinstance(domains, Mapping) or not domains:
        raise InputError("Expected results with 'domains', one or more (got none): are these the results of a demo?")
    return domains


def _read(path: Path) -> Any:
    path = path / "results.json" if path.is_dir() else path
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"Expected results as JSON in {path} ({error}).") from error


def _draw_domain(top: Axes, bottom: Axes, domain: str, told: Mapping[str, Any]) -> None:
    top.axhline(told["chance"], color="#BBBBBB", linewidth=1)
    transform = top.get_yaxis_transform()
    top.text(0.02, told["chance"] + 0.01, "chance", color="#777777", fontsize=SMALL, transform=transform)
    ticks: list[float] = []
    for arm, style in zip(told["arms"], styles([arm["method"] for arm in told["arms"]]), strict=True):
        x = np.array([point["multiple"] * told["length"] for point in arm["lengths"]], dtype=float)
        ticks = sorted({*ticks, *x.tolist()})
        for axes, measure in ((top, "accuracy"), (bottom, "seconds")):
            _draw_curve(axes, _read_curve(x, arm["lengths"], measure), {**style, "label": arm["name"]})
    top.set(title=f"{domain}: {told['question']}", ylim=(0, 1.04))
    top.title.set(fontsize=NORMAL, wrap=True)
    bottom.set(xlabel=f"{told['unit']} per record (trained at {told['length']:,})", yscale="log")
    bottom.set_xscale("log", base=2)
    bottom.set_xticks(ticks, [f"{value:,.0f}" for value in ticks], fontsize=SMALL)
    bottom.minorticks_off()
    for axes in (top, bottom):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)


def _read_curve(x: np.ndarray, points: Sequence[Mapping[str, Any]], measure: str) -> Curve:
    y = np.array([point[measure] for point in points], dtype=float)
    prefix = "" if measure == "accuracy" else f"{measure}_"
    low, high = (_column(points, prefix + side) for side in ("low", "high"))
    error = _column(points, "error") if measure == "accuracy" else np.full(len(y), np.nan)
    below = np.where(np.isnan(low), error, y - low)
    above = np.where(np.isnan(high), error, high - y)
    if (below < 0).any() or (above < 0).any():
        raise ValueError(f"an interval of {measure} that does not hold its value")
    return Curve(x, y, below, above)


def _column(points: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([np.nan if point.get(name) is None else point[name] for point in points], dtype=float)


def _draw_curve(axes: Axes, curve: Curve, style: Mapping[str, Any]) -> None:
    """A line, with whiskers where an interval is known."""
    if np.isnan(curve.below).all() and np.isnan(curve.above).all():
        axes.plot(curve.x, curve.y, **style)
        return
    whiskers = np.nan_to_num(np.stack([curve.below, curve.above]))
    axes.errorbar(curve.x, curve.y, yerr=whiskers, capsize=2, elinewidth=0.8, **style)
