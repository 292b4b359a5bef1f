"""One row for each layer: tokens as coloured segments, or, where they are too many to tell apart, as shades of size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm

from tokred_sci.plotting.colours import DROPPED, MAGNITUDES
from tokred_sci.plotting.layers import Layer, runs
from tokred_sci.plotting.picture import SMALL, bare, counted

MOST_SEGMENTS = 600
"""More are narrower than a pixel of a notebook's picture."""

BINS = 300
HIGH = 0.76  # of a row
NARROW = 0.008
"""Share of the row; boxes narrower than this would be covered by white borders, and have none."""


def draw_strips(
    axes: Axes, layers: Sequence[Layer], edges: np.ndarray, faces: Sequence[np.ndarray], notes: Sequence[str] = ()
) -> ScalarMappable | None:
    """Rows from top to bottom, named on the left and counted on the right.

    Args:
        axes: to draw into.
        layers: of the elements shown.
        edges: where elements begin and end along x, (M + 1,).
        faces: for each layer the RGB of each element, (M, 3).
        notes: what the right side says, for each layer; () = how many tokens.

    Returns:
        What a colour bar needs, if rows are drawn as shades.
    """
    shaded = [layer for layer in layers if is_crowded(layer.holder)]
    norm = size_norm(shaded)
    for row, (layer, rgb) in enumerate(zip(layers, faces, strict=True)):
        if layer in shaded:
            _draw_shades(axes, row, layer, edges, norm)
        else:
            draw_segments(axes, row, layer.holder, edges, rgb, layer.name)
        note = notes[row] if notes else counted(layer.count, "token")
        axes.text(1.01, row, note, va="center", fontsize=SMALL, transform=axes.get_yaxis_transform())
    bare(axes, "bottom")
    axes.set(xlim=(edges[0], edges[-1]), ylim=(len(layers) - 0.5, -0.5))
    axes.set_yticks(range(len(layers)), [layer.name for layer in layers], fontsize=SMALL)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter("{x:,.10g}")
    return ScalarMappable(norm, MAGNITUDES) if shaded else None


def draw_segments(axes: Axes, row: float, holder: np.ndarray, edges: np.ndarray, rgb: np.ndarray, name: str) -> None:
    """A box for each run of a token, white lines between wide ones; what was dropped is hatched."""
    borders = runs(holder)
    first = holder[borders[:-1]]
    boxes, kept = _boxes(edges[borders[:-1]], edges[borders[1:]], row), first >= 0
    colours = rgb[borders[:-1]]
    style: dict[str, Any] = {"facecolors": colours[kept], "edgecolors": colours[kept], "linewidths": 0.2}
    axes.add_collection(PolyCollection(boxes[kept], label=f"_{name}", **style))
    if not kept.all():
        style = {"facecolors": DROPPED, "edgecolors": "#808080", "linewidths": 0, "hatch": "//////"}
        axes.add_collection(PolyCollection(boxes[~kept], label=f"_dropped {name}", **style))
    wide = np.diff(edges[borders]) > NARROW * (edges[-1] - edges[0])
    between = edges[borders[1:-1]][wide[:-1] & wide[1:]]
    axes.vlines(between, row - HIGH / 2, row + HIGH / 2, colors="white", linewidths=1.0, label="_borders")


def size_norm(layers: Sequence[Layer]) -> LogNorm:
    """One scale of sizes for all layers, from the smallest token to the largest."""
    sizes = [layer.sizes[layer.sizes > 0] for layer in layers if layer.count]
    low = min((size.min() for size in sizes), default=1)
    high = max((size.max() for size in sizes), default=1)
    return LogNorm(low, max(high, 2 * low))


def is_crowded(holder: np.ndarray) -> bool:
    return len(runs(holder)) - 1 > MOST_SEGMENTS


def binned_sizes(layer: Layer, bins: int = BINS) -> np.ndarray:
    """Mean elements per token in equal parts of the record: elements over tokens, a token counted by its share.

    Example:
        >>> import numpy as np
        >>> binned_sizes(Layer("", np.array([0, 0, 0, 0, 1, 1, 2, 3])), 2).round(2).tolist()
        [4.0, 1.33]
    """
    starts = np.unique(np.linspace(0, len(layer.holder), bins, endpoint=False).astype(np.int64))
    held = layer.holder >= 0
    share = np.where(held, 1 / np.maximum(layer.sizes, 1)[layer.holder], 0)
    elements, tokens = np.add.reduceat(held.astype(float), starts), np.add.reduceat(share, starts)
    return np.divide(elements, tokens, out=np.full(len(starts), np.nan), where=tokens > 0)


def _draw_shades(axes: Axes, row: int, layer: Layer, edges: np.ndarray, norm: LogNorm) -> None:
    shades = binned_sizes(layer)
    starts = np.unique(np.linspace(0, len(layer.holder), BINS, endpoint=False).astype(np.int64))
    x = edges[np.append(starts, len(layer.holder))]
    y = [row - HIGH / 2, row + HIGH / 2]
    axes.pcolormesh(x, y, shades[None], norm=norm, cmap=MAGNITUDES, rasterized=True, label=f"_{layer.name}")


def _boxes(left: np.ndarray, right: np.ndarray, row: float) -> np.ndarray:
    """Corners (K, 4, 2) of boxes in a row."""
    low, high = np.full(len(left), row - HIGH / 2), np.full(len(left), row + HIGH / 2)
    return np.stack([np.stack(pair, 1) for pair in ((left, low), (left, high), (right, high), (right, low))], 1)
