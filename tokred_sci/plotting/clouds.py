"""Point clouds, every point in the colour of its token: flat views for paper, a page to turn for the browser."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokred_sci.errors import InputError, package
from tokred_sci.plotting.colours import COLOURS, DROPPED, colour_tokens, paint
from tokred_sci.plotting.layers import Layer, Layers, read_layers
from tokred_sci.plotting.picture import MOST_VECTORS, NORMAL, SMALL, Picture, counted
from tokred_sci.training.checkpoint import write_file

VIEWS = ((20.0, -60.0), (20.0, 30.0), (90.0, -90.0))
"""Elevation and azimuth in degrees, as matplotlib counts them: two from the side, one from above."""

NEIGHBOURS = 6
TOP = 0.32  # inches above a view


def cloud(
    layers: Layers,
    points: Any,
    *,
    record: int = 0,
    views: Sequence[tuple[float, float]] = VIEWS,
    names: Sequence[str] | None = None,
    unit: str = "",
    limit: int = 40_000,
) -> Picture:
    """Points in the colour of their token: a row for each layer, a column for each view.

    Law: points of one token have one colour, touching tokens two. Dropped points are grey crosses.

    Args:
        layers: tokens, a grouping, or a list of either from fine to coarse.
        points: coordinates, (M, 3); further columns are not looked at.
        record: which of the batch.
        views: elevation and azimuth of each, in degrees.
        names: of the layers.
        unit: of the coordinates, for the scale bar.
        limit: points drawn at most, chosen evenly at random; the title says so.

    Raises:
        InputError: points that are not those of the record, or no view.

    Example:
        >>> import torch
        >>> from tokred_sci.tokens import Grouping
        >>> groups = Grouping(torch.tensor([[0, 0, 1, 1]]), 2)
        >>> figure = cloud(groups, [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]], views=[(0, 0), (90, 0)])
        >>> len(figure.axes)
        2
    """
    scene = read_cloud(layers, points, record, views, names, unit, limit)
    figure = Picture(scene.height(len(scene.layers)))
    scene.draw(figure, range(len(scene.layers)))
    return figure


def cloud_html(
    layers: Layers,
    points: Any,
    path: str | Path,
    *,
    record: int = 0,
    names: Sequence[str] | None = None,
    limit: int = 50_000,
    include_plotlyjs: bool | str = True,
) -> Path:
    """A page in which the cloud can be turned, with a slider over layers; the mouse tells token and size.

    Args:
        layers, points, record, names, limit: as in `cloud`.
        path: of the page, whole or not at all.
        include_plotlyjs: True = the page holds all it needs (4.8 MB); "cdn" or "directory" = small, see plotly.

    Returns:
        The path.

    Raises:
        InputError: points that are not those of the record, or a path that does not end in .html.
        MissingExtra: plotly is not installed.
    """
    path = Path(path)
    if path.suffix not in (".html", ".htm"):
        raise InputError(f"Expected a path that ends in .html (got {path.name!r}).")
    go = package("plotly.graph_objects", "clouds that can be turned", "plots")
    scene = read_cloud(layers, points, record, VIEWS, names, "", limit)
    traces = [_trace(go, scene, i) for i in range(len(scene.layers))]
    figure = go.Figure(traces)
    plain = {"visible": False}
    figure.update_layout(
        scene={"aspectmode": "data", "xaxis": plain, "yaxis": plain, "zaxis": plain},
        margin={"l": 0, "r": 0, "t": 30, "b": 0},
        showlegend=False,
        sliders=[
            {
                "steps": [_step(i, scene) for i in range(len(traces))],
                "active": len(traces) - 1,
                "x": 0.1,
                "pad": {"b": 30},
                "len": 0.8,
            }
        ],
    )
    page = figure.to_html(include_plotlyjs=include_plotlyjs, div_id="cloud")
    write_file(path, page)
    return path


@dataclass(frozen=True, slots=True, eq=False)
class Cloud:
    """Everything a cloud shows, read, checked and coloured.

    Args:
        layers: of the points drawn.
        counts: tokens of each layer, of the whole record.
        colours: for each layer a colour of each token number.
        points: (K, 3), those drawn.
        spacing: from a point to its third nearest, the median: 1 on a square grid.
        total: of the record.
        views: elevation and azimuth of each.
        unit: of the coordinates.
    """

    layers: list[Layer]
    counts: list[int]
    colours: list[np.ndarray]
    points: np.ndarray
    spacing: float
    total: int
    views: Sequence[tuple[float, float]]
    unit: str

    @property
    def reach(self) -> tuple[float, float]:
        """Half the width and half the height of the largest view, with a margin."""
        seen = [project(self.points, *view)[:2] for view in self.views]
        wide, high = (max(float(np.ptp(part[axis])) for part in seen) for axis in (0, 1))
        least = max(wide, high, 1e-12) / 10
        return 0.53 * max(wide, least), 0.53 * max(high, least)

    @property
    def panel(self) -> float:
        """Width of a view in inches."""
        return 6.8 / max(2, len(self.views))

    def height(self, rows: int) -> float:
        """Of the figure, in inches."""
        wide, high = self.reach
        return rows * (min(self.panel * high / wide, 4.0) + TOP) + 0.25

    def draw(self, figure: Figure, shown: Sequence[int], labelled: bool = True) -> None:
        """Draw the layers `shown` into an empty figure."""
        grid = figure.subplots(len(shown), len(self.views), squeeze=False)
        for row, index in zip(grid, shown, strict=True):
            rgb = paint(self.layers[index].holder, self.colours[index])
            for axes, view in zip(row, self.views, strict=True):
                self._draw_view(axes, self.layers[index].holder >= 0, rgb, view)
            told = f"{self.layers[index].name}: {counted(self.counts[index], 'token')}"
            row[0].set_title(told if labelled else "", fontsize=NORMAL, loc="left")
        self._draw_scale(grid[-1, 0])
        if self.total > len(self.points):
            told = f"{len(self.points):,} of {self.total:,} points drawn"
            grid[0, -1].set_title(told, fontsize=SMALL, loc="right", color="#555555")

    def _draw_view(self, axes: Axes, kept: np.ndarray, rgb: np.ndarray, view: tuple[float, float]) -> None:
        """Far points first, so that near ones cover them; as large as points are apart."""
        x, y, depth = project(self.points, *view)
        x, y = x - (x.min() + x.max()) / 2, y - (y.min() + y.max()) / 2
        wide, high = self.reach
        area = float(np.clip((1.5 * self.spacing / (2 * wide) * 72 * self.panel) ** 2, 0.6, 60))
        order = depth.argsort(kind="stable")
        near, far = order[kept[order]], order[~kept[order]]
        many = len(x) > MOST_VECTORS
        axes.scatter(
            x[far], y[far], s=min(area, 9), c="#808080", marker="x", linewidths=0.5, label="_dropped", rasterized=many
        )
        axes.scatter(x[near], y[near], s=area, c=rgb[near], linewidths=0, label="_tokens", rasterized=many)
        axes.set(xlim=(-wide, wide), ylim=(-high, high), aspect="equal")
        axes.set_axis_off()

    def _draw_scale(self, axes: Axes) -> None:
        """A bar of a round length, about a third of the view."""
        wide, high = self.reach
        rough = 0.7 * wide
        power = 10.0 ** math.floor(math.log10(rough))
        length = power * max(step for step in (1, 2, 5) if step * power <= rough)
        axes.plot([-wide, length - wide], [-high, -high], color="black", linewidth=1.5, clip_on=False)
        told = f"{length:g} {self.unit}".strip()
        axes.annotate(
            told, (length / 2 - wide, -high), (0, -3), textcoords="offset points", ha="center", va="top", fontsize=SMALL
        )


def read_cloud(
    layers: Layers,
    points: Any,
    record: int,
    views: Sequence[tuple[float, float]],
    names: Sequence[str] | None,
    unit: str,
    limit: int,
) -> Cloud:
    """What `cloud` shows."""
    try:
        places = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"Expected 'points' as numbers of shape (M, 3) ({error}).") from error
    if places.ndim != 2 or places.shape[1] < 3 or len(places) == 0 or not np.isfinite(places[:, :3]).all():
        raise InputError(f"Expected 'points' as finite numbers of shape (M, 3) (got shape {places.shape}).")
    if limit < 1 or not len(views):
        raise InputError(f"Expected 'limit' >= 1 and at least one view (got {limit} and {len(views)}).")
    told = read_layers(layers, record, len(places), names)
    chosen = np.arange(len(places))
    if len(places) > limit:
        chosen = np.sort(np.random.default_rng(0).choice(len(places), limit, replace=False))
    drawn = [Layer(layer.name, layer.holder[chosen]) for layer in told]
    xyz = places[chosen, :3]
    pairs, spacing = _neighbours(xyz)
    colours = colour_tokens([layer.holder for layer in drawn], pairs)
    return Cloud(drawn, [layer.count for layer in told], colours, xyz, spacing, len(places), views, unit)


def project(points: np.ndarray, elevation: float, azimuth: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right, up and towards the reader, of points around their mean, without perspective.

    Example:
        >>> import numpy as np
        >>> x, y, depth = project(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]), 0, 0)
        >>> y.tolist()
        [1.0, -1.0]
    """
    e, a = math.radians(elevation), math.radians(azimuth)
    right = [-math.sin(a), math.cos(a), 0]
    up = [-math.sin(e) * math.cos(a), -math.sin(e) * math.sin(a), math.cos(e)]
    near = [math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)]
    x, y, depth = np.array([right, up, near]) @ (points - points.mean(0)).T
    return x, y, depth


def _neighbours(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Pairs of points that touch, each and its six nearest, and the median distance to the third nearest."""
    from scipy.spatial import cKDTree

    count = min(NEIGHBOURS + 1, len(points))
    distance, near = cKDTree(points).query(points, k=range(1, count + 1))
    pairs = np.column_stack([near[:, 1:].ravel(), np.repeat(np.arange(len(points)), count - 1)])
    return pairs, float(np.median(distance[:, min(3, count - 1)])) if count > 1 else 1.0


def _trace(go: Any, scene: Cloud, index: int) -> Any:
    """One layer as plotly's points: colours as numbers on a scale of nine steps, dropped points first."""
    layer, steps = scene.layers[index], [DROPPED, *COLOURS]
    number = np.where(layer.holder >= 0, scene.colours[index][layer.holder] + 1, 0)
    ends = [i / len(steps) for i in range(len(steps) + 1)]
    scale = [(end, colour) for i, colour in enumerate(steps) for end in ends[i : i + 2]]
    marker = {"size": 2.5, "color": number, "cmin": -0.5, "cmax": len(steps) - 0.5, "colorscale": scale}
    sizes = np.where(layer.holder >= 0, layer.sizes[layer.holder], 0)
    x, y, z = scene.points.T.astype(np.float32)
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="markers",
        marker=marker,
        customdata=np.column_stack([layer.holder, sizes]),
        hovertemplate="token %{customdata[0]}: %{customdata[1]} points drawn<extra></extra>",
        visible=index == len(scene.layers) - 1,
    )


def _step(index: int, scene: Cloud) -> dict[str, Any]:
    shown = [i == index for i in range(len(scene.layers))]
    label = f"{scene.layers[index].name}: {counted(scene.counts[index], 'token')}"
    return {"method": "update", "args": [{"visible": shown}], "label": label}
