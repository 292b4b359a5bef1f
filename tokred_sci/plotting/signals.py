"""What lies above the tokens: letters, the share of G and C, or numbers, at any length and with what is missing."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from tokred_sci.errors import InputError
from tokred_sci.plotting.colours import INK
from tokred_sci.plotting.layers import runs
from tokred_sci.plotting.picture import SMALL, bare

BASES = {"A": "#007A5A", "C": "#0072B2", "G": "#8A5A00", "T": "#B34700", "U": "#B34700"}
MOST_LETTERS = 80
MOST_VERTICES = 3_000
BINS = 1_200


class Signal(NamedTuple):
    """One panel: a name and a number for each element, NaN where it is missing; or letters."""

    name: str
    values: np.ndarray
    letters: str = ""


def read_signals(values: Any, elements: int, start: int, stop: int, names: Sequence[str] = ()) -> list[Signal]:
    """The window of a DNA string, of one number for each element, or of several channels (C, M)."""
    if isinstance(values, str):
        return [_read_letters(values, start, stop)]
    rows = read_numbers(values, elements)
    if names and len(names) != len(rows):
        raise InputError(f"Expected {len(rows)} channel names (got {len(names)}).")
    named = names or ([f"channel {i}" for i in range(len(rows))] if len(rows) > 1 else [""])
    return [Signal(name, row[start:stop]) for name, row in zip(named, rows, strict=True)]


def read_numbers(values: Any, elements: int | None = None) -> np.ndarray:
    """Channels (C, M) as float64; infinities count as missing."""
    try:
        rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(f"Expected values as numbers of shape (M,) or (C, M) ({error}).") from error
    if rows.ndim != 2 or (elements is not None and rows.shape[1] != elements):
        raise InputError(
            f"Expected values of shape ({elements or 'M'},) or (C, {elements or 'M'}) (got {np.shape(values)}): one "
            "column for each element of the record."
        )
    return np.where(np.isfinite(rows), rows, np.nan)


def draw_signal(axes: Axes, x: np.ndarray, signal: Signal) -> None:
    """Letters where they can be read; a line, or range and mean of many elements; missing elements as dark boxes."""
    if signal.letters and len(x) <= MOST_LETTERS:
        _draw_letters(axes, x, signal.letters)
        return
    if len(x) <= MOST_VERTICES:
        axes.plot(x, signal.values, color=INK, linewidth=0.8, marker="." if len(x) <= 100 else "", markersize=3)
    else:
        _draw_range(axes, x, signal.values)
    _draw_missing(axes, x, np.isnan(signal.values))
    axes.set_ylabel(signal.name, fontsize=SMALL, rotation=0, ha="right", va="center")
    axes.locator_params(axis="y", nbins=3)
    bare(axes, "left")


def share_of_gc(letters: str, width: int) -> np.ndarray:
    """Share of G and C among the A, C, G, T in a window around each base; NaN where there are none.

    Example:
        >>> share_of_gc("GGCANNNN", 3).round(2).tolist()
        [1.0, 1.0, 0.67, 0.5, 0.0, nan, nan, nan]
    """
    codes = np.frombuffer(letters.upper().encode("ascii", "replace"), dtype=np.uint8)
    strong, known = np.isin(codes, list(b"GC")), np.isin(codes, list(b"ACGTU"))
    half = width // 2
    low = np.maximum(np.arange(len(codes)) - half, 0)
    high = np.minimum(np.arange(len(codes)) + half + 1, len(codes))
    sums = [np.concatenate([[0], np.cumsum(part)]) for part in (strong, known)]
    gc, all_known = (total[high] - total[low] for total in sums)
    return np.divide(gc, all_known, out=np.full(len(codes), np.nan), where=all_known > 0)


def _read_letters(letters: str, start: int, stop: int) -> Signal:
    width = 2 * max(5, (stop - start) // 100) + 1
    low, high = max(0, start - width), min(len(letters), stop + width)  # the window's edge sees beyond it
    share = share_of_gc(letters[low:high], width)[start - low : stop - low]
    return Signal(f"GC in\n{width:,} bases", share, letters[start:stop])


def _draw_letters(axes: Axes, x: np.ndarray, letters: str) -> None:
    style: dict[str, Any] = {"ha": "center", "va": "center", "family": "monospace", "weight": "bold"}
    for place, letter in zip(x, letters, strict=True):
        axes.text(place, 0.5, letter, color=BASES.get(letter.upper(), "#777777"), fontsize=SMALL, **style)
    axes.set(ylim=(0, 1), yticks=[])
    bare(axes)


def _draw_range(axes: Axes, x: np.ndarray, values: np.ndarray) -> None:
    """Smallest, largest and mean value of equal parts."""
    starts = np.unique(np.linspace(0, len(values), BINS, endpoint=False).astype(np.int64))
    known = ~np.isnan(values)
    count = np.add.reduceat(known.astype(float), starts)
    total = np.add.reduceat(np.where(known, values, 0), starts)
    mean = np.divide(total, count, out=np.full(len(starts), np.nan), where=count > 0)
    low, high = (reach.reduceat(values, starts) for reach in (np.fmin, np.fmax))
    axes.fill_between(x[starts], low, high, color="#BBBBBB", linewidth=0, rasterized=True)
    axes.plot(x[starts], mean, color=INK, linewidth=0.8)


def _draw_missing(axes: Axes, x: np.ndarray, missing: np.ndarray) -> None:
    """Boxes at the bottom, at least a pixel wide, where there is no value."""
    if not missing.any():
        return
    share = missing.mean()
    if len(x) > MOST_VERTICES:
        starts = np.unique(np.linspace(0, len(x), BINS, endpoint=False).astype(np.int64))
        x, missing = x[starts], np.logical_or.reduceat(missing, starts)
    borders = runs(missing.astype(np.int8))
    wide = (x[-1] - x[0]) / 700
    spans = [(x[a], max(x[b - 1] - x[a], wide)) for a, b in pairwise(borders) if missing[a]]
    axes.broken_barh(
        spans,
        (0, 0.07),
        facecolors="black",
        linewidth=0,
        transform=axes.get_xaxis_transform(),
        label="_missing",
    )
    axes.text(1.01, 0.035, f"missing: {share:.1%}", va="center", fontsize=SMALL, transform=axes.transAxes)
