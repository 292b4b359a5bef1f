"""Heights: how far each point of a scanned terrain lies above the lowest of what is around it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tokred_sci.errors import InputError

_REACH = 2  # cells to each side of a point's own: a width is five cells, of which four are sure to be covered


def heights(points: Any, widths: Sequence[float] = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)) -> np.ndarray:
    """Height of each point over the lowest, over the mean, and under the highest of the points around it.

    Around it means in a square of about the width given, on a grid of a quarter of it. Law: the answer follows the
    points in any order, and does not change when the cloud is raised or lowered. Cost grows with the points and with
    the cells of the smallest grid.

    Args:
        points: (n, channels >= 3); the first three are coordinates, z up; the rest is not read.
        widths: of the squares, in the cloud's unit.

    Returns:
        (n, 3 * number of widths) float64, in the cloud's unit, not negative but for the heights over the mean.

    Raises:
        InputError: no such cloud, a width that is not above 0, or so small a width that the grid has over 10^8 cells.

    Reference: filters of airborne laser scans by height over the lowest nearby, compared by Sithole and Vosselman
    (2004), https://doi.org/10.1016/j.isprsjprs.2004.05.004.

    Example:
        >>> rows = [[x, y, 5.0 * (x == y == 3)] for x in range(7) for y in range(7)]  # flat, with a pole
        >>> over_lowest = heights(rows, widths=[4.0])[:, 0]
        >>> over_lowest.max(), int((over_lowest > 0).sum())
        (np.float64(5.0), 1)
    """
    cloud = np.asarray(points, np.float64)
    if cloud.ndim != 2 or not len(cloud) or cloud.shape[1] < 3 or not np.isfinite(cloud[:, :3]).all():
        raise InputError(f"Expected (n, 3 or more) finite numbers (got shape {cloud.shape}): drop what is missing.")
    if not all(width > 0 and np.isfinite(width) for width in widths):
        raise InputError(f"Expected widths above 0 (got {list(widths)}): in the cloud's unit.")
    return np.concatenate([_over(cloud, width) for width in widths], 1)


def _over(cloud: np.ndarray, width: float) -> np.ndarray:
    from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

    flat, z = cloud[:, :2] - cloud[:, :2].min(0), cloud[:, 2]
    if (cells := float(np.prod(flat.max(0) * 4 / width + 1))) > 1e8:
        raise InputError(f"Expected widths that make a grid of at most 10^8 cells (got {width:g}: {cells:.1g}).")
    corner = np.floor(flat / (width / 4)).astype(np.int64)
    shape, cell, size = tuple(corner.max(0) + 1), tuple(corner.T), 2 * _REACH + 1
    low, high, total, count = np.full(shape, np.inf), np.full(shape, -np.inf), np.zeros(shape), np.zeros(shape)
    np.minimum.at(low, cell, z)
    np.maximum.at(high, cell, z)
    np.add.at(total, cell, z - z.min())
    np.add.at(count, cell, 1)
    sums = [uniform_filter(grid, size, mode="constant")[cell] for grid in (total, count)]
    lowest, highest = minimum_filter(low, size)[cell], maximum_filter(high, size)[cell]
    return np.stack([z - lowest, z - z.min() - sums[0] / sums[1], highest - z], 1)
