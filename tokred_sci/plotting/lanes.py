"""Annotations as arrows with names, in as many lanes as they need."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from tokred_sci.errors import InputError
from tokred_sci.plotting.colours import COLOURS
from tokred_sci.plotting.picture import MOST_VECTORS, SMALL, WIDTH, bare, counted

MOST_LANES = 5
LETTER = 0.085  # width of a letter of a name, inches
STRANDS = {1: COLOURS[0], -1: COLOURS[1], 0: "#777777"}
SIGNS = {"+": 1, "-": -1, ".": 0, "": 0, None: 0}


class Annotation(NamedTuple):
    """A stretch of the record with a name.

    Attributes:
        name: drawn below the arrow where there is room.
        start, stop: elements, from 0; `stop` is not included.
        strand: 1 or "+", -1 or "-", 0 or "." where there is none.
    """

    name: str
    start: int
    stop: int
    strand: int | str | None = 0


class Placed(NamedTuple):
    """An annotation and where it is drawn: from `left` to `right` along x, in a lane, with its name or without."""

    annotation: Annotation
    left: float
    right: float
    lane: int
    named: bool
    whole: bool  # whether the end it points at is in the window


def read_annotations(annotations: Sequence[Any], start: int, stop: int, elements: int) -> list[Annotation]:
    """Those that reach into the window, by their start, with the strand as a number; a broken one is refused."""
    told = []
    for index, values in enumerate(annotations):
        try:
            name, first, last, strand = Annotation(*values)
            sign = SIGNS[strand] if strand in SIGNS else int(strand or 0)
            good = 0 <= int(first) < int(last) <= elements and sign in STRANDS
        except (TypeError, ValueError):
            good = False
        if not good:
            raise InputError(
                f"Expected annotations as (name, start, stop, strand) with 0 <= start < stop <= {elements} and a "
                f"strand of 1, -1 or 0 (number {index} is {values!r})."
            )
        if first < stop and last > start:
            told.append(Annotation(str(name), int(first), int(last), sign))
    return sorted(told, key=lambda a: (a.start, a.stop))


def place(annotations: Sequence[Annotation], edges: np.ndarray, start: int = 0) -> tuple[list[Placed], int]:
    """A lane for each, so that neither arrows nor names overlap, and how many found no room.

    Args:
        annotations: that reach into the window, by their start.
        edges: where the window's elements begin and end along x, (M + 1,).
        start: the window's first element.

    Example:
        >>> import numpy as np
        >>> genes = [Annotation("a", 0, 50), Annotation("b", 40, 90), Annotation("c", 60, 99)]
        >>> placed, left_out = place(genes, np.arange(101))
        >>> [p.lane for p in placed], left_out
        ([0, 1, 0], 0)
    """
    spans = [_span(annotation, edges, start) for annotation in annotations]
    extents = [_extent(a.name, left, right, edges) for a, (left, right) in zip(annotations, spans, strict=True)]
    lanes = _first_free(extents)
    named = [True] * len(lanes)
    if None in lanes:  # arrows come first, names where there is still room
        lanes = _first_free(spans)
        named = _fitting(lanes, extents)
    placed = [
        Placed(annotation, *span, lane, name, _points_inside(annotation, start, start + len(edges) - 1))
        for annotation, span, lane, name in zip(annotations, spans, lanes, named, strict=True)
        if lane is not None
    ]
    return placed, lanes.count(None)


def draw_lanes(axes: Axes, placed: Sequence[Placed], left_out: int, edges: np.ndarray) -> None:
    """One arrow for each annotation, its name below; the right side says how many had no room."""
    head = 0.012 * (edges[-1] - edges[0])
    shapes = [_arrow(p, head) for p in placed]
    colours = [STRANDS[int(p.annotation.strand or 0)] for p in placed]
    many = len(placed) > MOST_VECTORS
    style: dict[str, Any] = {"facecolors": colours, "edgecolors": colours, "linewidths": 0.4, "rasterized": many}
    axes.add_collection(PolyCollection(shapes, label="_annotations", **style))
    for p in placed:
        if p.named and p.annotation.name:
            at_end = _extent(p.annotation.name, p.left, p.right, edges)[0] < p.left
            x, side = (edges[-1], "right") if at_end else (p.left, "left")
            axes.text(x, p.lane + 0.42, p.annotation.name, ha=side, va="center", fontsize=SMALL)
    bare(axes)
    lanes = 1 + max((p.lane for p in placed), default=0)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(lanes - 0.3, -0.45), yticks=[])
    nameless = sum(not p.named and bool(p.annotation.name) for p in placed)
    said = [counted(nameless, "name") + " left out"] * bool(nameless) + [f"{left_out:,} not drawn"] * bool(left_out)
    axes.text(1.01, 0.5, "\n".join(said), va="center", fontsize=SMALL, transform=axes.transAxes)


def _span(annotation: Annotation, edges: np.ndarray, start: int) -> tuple[float, float]:
    """What is in the window, along x."""
    return edges[max(annotation.start - start, 0)], edges[min(annotation.stop - start, len(edges) - 1)]


def _points_inside(annotation: Annotation, start: int, stop: int) -> bool:
    return annotation.start >= start if annotation.strand == -1 else annotation.stop <= stop


def _extent(name: str, left: float, right: float, edges: np.ndarray) -> tuple[float, float]:
    """What arrow and name take along x; a name that would run over the end is moved back."""
    width = LETTER * (len(name) + 1) * (edges[-1] - edges[0]) / (WIDTH - 1.6)
    if left + width <= edges[-1]:
        return left, max(right, left + width)
    return min(left, edges[-1] - width), right


def _first_free(extents: Sequence[tuple[float, float]]) -> list[int | None]:
    """The first lane that is free from each low end on, None where all are taken."""
    free = [-np.inf] * MOST_LANES
    lanes: list[int | None] = []
    for low, high in extents:
        lane = next((lane for lane, end in enumerate(free) if end <= low), None)
        lanes.append(lane)
        if lane is not None:
            free[lane] = high
    return lanes


def _fitting(lanes: Sequence[int | None], extents: Sequence[tuple[float, float]]) -> list[bool]:
    """Which names overlap none before them in their lane."""
    free = [-np.inf] * MOST_LANES
    named = []
    for lane, (low, high) in zip(lanes, extents, strict=True):
        named.append(lane is not None and free[lane] <= low)
        if lane is not None and named[-1]:
            free[lane] = high
    return named


def _arrow(placed: Placed, head: float) -> np.ndarray:
    """Corners: a box with a point at the end of its strand, if that end is in the window."""
    (annotation, left, right, lane, _, whole), half = placed, 0.17
    point = min(head, right - left)
    top, bottom = lane - half, lane + half
    if annotation.strand == 1 and whole:
        corners = [(left, top), (right - point, top), (right, lane), (right - point, bottom), (left, bottom)]
    elif annotation.strand == -1 and whole:
        corners = [(right, top), (left + point, top), (left, lane), (left + point, bottom), (right, bottom)]
    else:
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return np.array(corners)
