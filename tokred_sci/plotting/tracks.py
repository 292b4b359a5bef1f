"""Sequences and series: values on top, annotations, and below a row of segments for each layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokred_sci.errors import InputError
from tokred_sci.plotting.colours import COLOURS, colour_tokens, paint
from tokred_sci.plotting.lanes import Placed, draw_lanes, place, read_annotations
from tokred_sci.plotting.layers import Layer, Layers, check_window, read_layers, runs
from tokred_sci.plotting.picture import NORMAL, SMALL, Picture
from tokred_sci.plotting.signals import MOST_LETTERS, Signal, draw_signal, read_numbers, read_signals
from tokred_sci.plotting.strips import draw_strips

MOST_CHANNELS = 12
MOST_BORDERS = 200


def sequence(
    layers: Layers,
    values: str | Any = None,
    *,
    record: int = 0,
    annotations: Sequence[Any] = (),
    start: int = 0,
    stop: int | None = None,
    names: Sequence[str] | None = None,
    unit: str = "bases",
) -> Picture:
    """Merged tokens over a sequence track: one row of segments for each layer, annotations as arrows.

    Law: a row has one segment for each run of one token, and all segments of a token one colour; what was dropped is
    hatched. A row of more than 600 segments shows elements per token as a shade instead: choose a narrower window.

    Args:
        layers: tokens, a grouping, or a list of either from fine to coarse (`model.encoder.trace(...)`).
        values: the DNA, drawn as letters (80 at most) or the share of G and C; or one number for each element.
        record: which of the batch.
        annotations: (name, start, stop, strand) in elements; `Annotation`s or plain tuples.
        start, stop: the window drawn, in elements.
        names: of the layers.
        unit: of the elements, plural.

    Raises:
        InputError: layers, values, window or annotations that do not fit the record.

    Example:
        >>> import torch
        >>> from tokred_sci.tokens import Grouping
        >>> groups = Grouping(torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2]]), 3)
        >>> figure = sequence(groups, "ACGTACGT", annotations=[("gene", 2, 7, "+")])
        >>> len(figure.axes)
        3
    """
    return show(read_sequence(layers, values, record, annotations, start, stop, names, unit))


def series(
    layers: Layers,
    values: Any,
    times: Any = None,
    *,
    record: int = 0,
    channels: Sequence[str] = (),
    annotations: Sequence[Any] = (),
    start: int = 0,
    stop: int | None = None,
    names: Sequence[str] | None = None,
    unit: str | None = None,
) -> Picture:
    """Channels of a series with the segments of the last layer as bands, and a row for each layer below.

    Missing values are gaps in the line and black boxes below it. Up to 200 segments have borders in the panels.

    Args:
        layers: tokens, a grouping, or a list of either from fine to coarse.
        values: (C, M) or (M,), NaN where a value is missing.
        times: of the elements, (M,), increasing; None = their numbers.
        record, annotations, start, stop, names: as in `sequence`; `start` and `stop` count elements, not time.
        channels: names of the rows of `values`.
        unit: of the horizontal axis; None = "seconds" with `times`, else "time steps".

    Raises:
        InputError: values, times or names that do not fit the record; more than 12 channels.

    Example:
        >>> import torch
        >>> from tokred_sci.tokens import Grouping
        >>> groups = Grouping(torch.tensor([[0, 0, 1, 1]]), 2)
        >>> figure = series(groups, [[1.0, 2.0, float("nan"), 4.0]], times=[0.0, 0.5, 1.0, 2.0])
        >>> figure.axes[-1].get_xlabel()
        'seconds'
    """
    return show(read_series(layers, values, times, record, channels, annotations, start, stop, names, unit))


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Everything a track shows, read, checked and coloured.

    Args:
        layers: of the elements in the window.
        colours: for each layer a colour of each token number.
        edges: where elements begin and end along x, (M + 1,).
        signals: panels above.
        placed, left_out: annotations with their lanes, and how many found no room.
        unit: of x.
        bands: whether panels show the segments of the last row.
    """

    layers: list[Layer]
    colours: list[np.ndarray]
    edges: np.ndarray
    signals: list[Signal]
    placed: list[Placed]
    left_out: int
    unit: str
    bands: bool

    def heights(self, rows: int) -> list[float]:
        """Of the panels, in inches."""
        signal = 0.75 if len(self.signals) > 1 else 1.1
        if self.signals and 0 < len(self.signals[0].letters) <= MOST_LETTERS:
            signal = 0.25
        lanes = 1 + max((p.lane for p in self.placed), default=-1)
        return [signal] * len(self.signals) + [0.34 * lanes] * bool(lanes) + [0.12 + 0.26 * rows]

    def draw(self, figure: Figure, shown: Sequence[int], labelled: bool = True) -> None:
        """Draw the layers `shown` into an empty figure; without labels all layers take the same place."""
        heights = self.heights(len(shown))
        panels: list[Axes] = list(
            figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        )
        x = (self.edges[:-1] + self.edges[1:]) / 2
        for axes, signal in zip(panels, self.signals, strict=False):
            draw_signal(axes, x, signal)
            if self.bands:
                self._draw_bands(axes, shown[-1])
        if self.placed:
            draw_lanes(panels[-2], self.placed, self.left_out, self.edges)
        layers = [self.layers[i] if labelled else Layer("tokens", self.layers[i].holder) for i in shown]
        faces = [paint(self.layers[i].holder, self.colours[i]) for i in shown]
        shades = draw_strips(panels[-1], layers, self.edges, faces, () if labelled else [""] * len(shown))
        for axes in panels[:-1]:
            axes.tick_params(axis="x", length=0)
        panels[-1].set_xlabel(self.unit, fontsize=NORMAL)
        if shades is not None:
            bar = figure.colorbar(shades, ax=panels, location="bottom", shrink=0.4, aspect=30, pad=0.02)
            bar.set_label("elements per token, where tokens are too many to draw", fontsize=SMALL)
            bar.ax.tick_params(labelsize=SMALL)

    def _draw_bands(self, axes: Axes, index: int) -> None:
        holder, colours = self.layers[index].holder, self.colours[index]
        borders = runs(holder)
        if len(borders) - 1 > MOST_BORDERS:
            return
        for a, b in pairwise(borders):
            colour = COLOURS[colours[holder[a]]] if holder[a] >= 0 else "white"
            axes.axvspan(self.edges[a], self.edges[b], color=colour, alpha=0.22, linewidth=0, zorder=0)
        for border in borders[1:-1]:
            axes.axvline(self.edges[border], color="#888888", linewidth=0.5)


def show(track: Track) -> Picture:
    """A picture of all layers of a track."""
    rows = range(len(track.layers))
    figure = Picture(sum(track.heights(len(rows))) + 0.75)
    track.draw(figure, rows)
    return figure


def read_sequence(
    layers: Layers,
    values: Any,
    record: int,
    annotations: Sequence[Any],
    start: int,
    stop: int | None,
    names: Sequence[str] | None,
    unit: str,
) -> Track:
    """What `sequence` shows."""
    known = None if values is None else len(values) if isinstance(values, str) else read_numbers(values).shape[1]
    told = read_layers(layers, record, known, names)
    elements = len(told[0].holder)
    start, stop = check_window(start, stop, elements)
    signals = [] if values is None else read_signals(values, elements, start, stop)
    edges = np.arange(start, stop + 1) - 0.5
    return _track(told, edges, signals, annotations, (start, stop), unit, False)


def read_series(
    layers: Layers,
    values: Any,
    times: Any,
    record: int,
    channels: Sequence[str],
    annotations: Sequence[Any],
    start: int,
    stop: int | None,
    names: Sequence[str] | None,
    unit: str | None,
) -> Track:
    """What `series` shows."""
    rows = read_numbers(values)
    if len(rows) > MOST_CHANNELS:
        raise InputError(f"Expected at most {MOST_CHANNELS} channels (got {len(rows)}): draw values[:{MOST_CHANNELS}].")
    told = read_layers(layers, record, rows.shape[1], names)
    elements = len(told[0].holder)
    start, stop = check_window(start, stop, elements)
    signals = read_signals(rows, elements, start, stop, channels)
    edges = _edges_of(times, elements)[start : stop + 1]
    unit = unit or ("time steps" if times is None else "seconds")
    return _track(told, edges, signals, annotations, (start, stop), unit, True)


def _track(
    layers: list[Layer],
    edges: np.ndarray,
    signals: list[Signal],
    annotations: Sequence[Any],
    window: tuple[int, int],
    unit: str,
    bands: bool,
) -> Track:
    start, stop = window
    known = read_annotations(annotations, start, stop, len(layers[0].holder))
    cut = [Layer(layer.name, layer.holder[start:stop]) for layer in layers]
    colours = colour_tokens([layer.holder for layer in cut])
    return Track(cut, colours, edges, signals, *place(known, edges, start), unit, bands)


def _edges_of(times: Any, elements: int) -> np.ndarray:
    """Half-way between neighbouring times; the outermost as far out as their neighbours are in."""
    if times is None:
        return np.arange(elements + 1) - 0.5
    try:
        places = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"Expected 'times' as numbers, e.g. seconds ({error}).") from error
    if places.shape != (elements,) or not np.isfinite(places).all() or (np.diff(places) <= 0).any():
        raise InputError(f"Expected 'times' as {elements} finite, increasing numbers (got shape {places.shape}).")
    if elements == 1:
        return places[0] + np.array([-0.5, 0.5])
    inner = (places[:-1] + places[1:]) / 2
    return np.concatenate([[2 * places[0] - inner[0]], inner, [2 * places[-1] - inner[-1]]])
