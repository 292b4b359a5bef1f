"""One record per domain on its way through a model, stage by stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from tokred_sci.plotting.colours import COLOURS
from tokred_sci.plotting.picture import Picture
from tokred_sci.tokens import Tokens


@dataclass(frozen=True)
class View:
    """One record on its way through a model, ready to be drawn.

    Args:
        title: the domain, in words.
        values: what to draw, per element: (M,) for sequences, (M, 3) for clouds.
        unit: of the elements, plural.
        hidden: (M,) True where the answer is.
        stages: name -> tokens after that stage (B = 1).
    """

    title: str
    values: np.ndarray
    unit: str
    hidden: np.ndarray
    stages: Mapping[str, Tokens]


def tokens(views: Sequence[View]) -> Picture:
    """Domains (rows) x source and stages (columns): every element in the colour of the token that holds it."""
    columns = 1 + max(len(view.stages) for view in views)
    figure = Picture(2.7 * len(views), 3.4 * columns)
    for row, view in enumerate(views):
        flat = view.values.ndim == 1
        panels = [("source", None), *view.stages.items()]
        for column, (name, stage) in enumerate(panels):
            place = (len(views), columns, row * columns + column + 1)
            axes: Any = figure.add_subplot(*place) if flat else figure.add_subplot(*place, projection="3d")
            groups = None if stage is None else stage.source[0].numpy()
            (_draw_sequence if flat else _draw_cloud)(axes, view, groups)
            count = f"{len(view.values):,} {view.unit}" if stage is None else f"{int(stage.counts[0])} tokens"
            axes.set_title(f"{name}\n{count}", fontsize=9)
            if column == 0 and flat:
                axes.set_ylabel(view.title, fontsize=10)
            elif column == 0:
                axes.text2D(-0.09, 0.5, view.title, rotation=90, va="center", fontsize=10, transform=axes.transAxes)
    return figure


def _draw_sequence(axes: Axes, view: View, groups: np.ndarray | None) -> None:
    """The values as a line, coloured by group, with a strip of the groups below."""
    x, y = np.arange(len(view.values)), view.values
    low, high = float(y.min()), float(y.max())
    reach = (high - low) or 1.0
    start, stop = np.flatnonzero(view.hidden)[[0, -1]]
    axes.axvspan(start, stop, color="#F0E442", alpha=0.35, linewidth=0)
    if groups is None:
        axes.plot(x, y, color="#444444", linewidth=0.7)
    else:
        segments = np.stack([np.column_stack([x[:-1], y[:-1]]), np.column_stack([x[1:], y[1:]])], 1)
        colours = [COLOURS[group % len(COLOURS)] for group in groups]
        axes.add_collection(LineCollection(list(segments), colors=colours[:-1], linewidths=0.8))
        borders = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1, append=-9))
        axes.broken_barh(
            [(a, b - a) for a, b in pairwise(borders.tolist())],
            (low - 0.28 * reach, 0.2 * reach),
            facecolors=[colours[a] for a in borders[:-1]],
        )
    axes.set(xlim=(0, len(y)), ylim=(low - 0.34 * reach, high + 0.08 * reach), yticks=[])
    axes.tick_params(labelsize=8)
    axes.set_xlabel(view.unit, fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_cloud(axes: Any, view: View, groups: np.ndarray | None) -> None:
    """The points, coloured by group; the marked ones ringed."""
    x, y, z = view.values.T
    colours = "#9A9A9A" if groups is None else [COLOURS[group % len(COLOURS)] for group in groups]
    axes.scatter(x, y, z, c=colours, s=5, linewidths=0, depthshade=False)
    marked = view.values[view.hidden].T
    axes.scatter(*marked, facecolors="none", edgecolors="black", s=26, linewidths=0.9, depthshade=False)
    axes.set_axis_off()
    axes.set_box_aspect(np.ptp(view.values, axis=0), zoom=1.45)
