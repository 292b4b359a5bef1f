"""Figures. Every function returns a matplotlib `Figure` made without global state; saving is the caller's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from tokred_sci.tokens import Tokens

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D4A9C", "#8A8A00")
"""Okabe & Ito's colours (2008), safe for colour-blind readers; the faint yellow and black replaced."""

STYLES = {"none": ("#444444", "o", "--"), "random": ("#999999", "s", ":")}
"""Colour, marker and line of the arms that are controls; methods take `COLOURS` in turn."""


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


def tokens(views: Sequence[View]) -> Figure:
    """Domains (rows) x source and stages (columns): every element in the colour of the token that holds it."""
    columns = 1 + max(len(view.stages) for view in views)
    figure = Figure(figsize=(3.4 * columns, 2.7 * len(views)), layout="constrained", dpi=110)
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


def lengths(results: Mapping[str, Any]) -> Figure:
    """Accuracy (above) and seconds per record (below) against length, a column per domain of a demo's results."""
    domains = results["domains"]
    figure = Figure(figsize=(4.2 * len(domains), 5.6), layout="constrained", dpi=110)
    grid = figure.subplots(2, len(domains), sharex="col", squeeze=False)
    for column, (domain, told) in enumerate(domains.items()):
        top, bottom = grid[:, column]
        top.axhline(told["chance"], color="#BBBBBB", linewidth=1)
        top.text(
            0.02, told["chance"] + 0.01, "chance", color="#777777", fontsize=8, transform=top.get_yaxis_transform()
        )
        colours = iter(COLOURS)
        for arm in told["arms"]:
            colour, marker, line = STYLES.get(arm["method"]) or (next(colours), "D", "-")
            x = [point["multiple"] * told["length"] for point in arm["lengths"]]
            y = [point["accuracy"] for point in arm["lengths"]]
            error = [point["error"] for point in arm["lengths"]]
            style = {"color": colour, "marker": marker, "linestyle": line, "markersize": 5, "label": arm["name"]}
            top.errorbar(x, y, yerr=error, capsize=2, elinewidth=0.8, **style)
            bottom.plot(x, [point["seconds"] for point in arm["lengths"]], **style)
        top.set(title=f"{domain}: {told['question']}", ylim=(0, 1.04))
        top.title.set(fontsize=9, wrap=True)
        bottom.set(xlabel=f"{told['unit']} per record (trained at {told['length']:,})", yscale="log")
        bottom.set_xscale("log", base=2)
        bottom.set_xticks(x, [f"{value:,}" for value in x], fontsize=8)
        bottom.minorticks_off()
        for axes in (top, bottom):
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
    grid[0, 0].set_ylabel("accuracy on unseen data")
    grid[1, 0].set_ylabel("seconds per record")
    grid[0, -1].legend(fontsize=8, loc="best")
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
    axes.tick_params(labelsize=7)
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
