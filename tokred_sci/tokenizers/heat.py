"""Heat signatures: numbers for each point of a cloud that stay as they are when the shape turns, grows or bends."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tokred_sci.errors import InputError, package
from tokred_sci.tokenizers import record

LEAST = 16  # points that a surface can be told from
_DENSE = 400  # points up to which all eigenvalues at once are cheaper
_SPHERE = np.arange(100)  # degrees of the sphere's harmonics


def heat_signatures(
    points: Any, times: int | Sequence[float] = 16, pairs: int = 100, neighbours: int = 30
) -> np.ndarray:
    """How much of a unit of heat, put on the surface at a point, is still there after some time; for each point.

    The cloud is taken for a surface of area 1. Law: the answer follows the points in any order, and does not change
    when the cloud is moved, turned, mirrored or scaled; it changes little when the surface is bent without stretch.
    Logarithms, less those of a sphere of the same area, which thus has zeros: above zero are tips, limbs and thin
    parts, which hold heat longer, below zero the flat middle of large parts.

    Args:
        points: (n, channels >= 3), at least 16; the first three are coordinates, the rest is not read.
        times: when to look, in the unit in which the area is 1; a number stands for so many between .003 and .3, evenly
            spaced in their logarithm. Heat has spread over about 4 pi t of the area at time t.
        pairs: eigenvalues and eigenvectors to compute. Times below about .3 / pairs come out too low.
        neighbours: of each point, between which triangles are laid.

    Returns:
        (n, number of times) float64.

    Raises:
        InputError: no such cloud, a setting out of range, or points that lie on a line or on one another.
        MissingExtra: the robust_laplacian package is not installed.

    Reference:
        A concise and provably informative multi-scale signature based on heat diffusion (Sun et al., 2009),
        https://doi.org/10.1111/j.1467-8659.2009.01515.x; its Laplacian of points: A Laplacian for nonmanifold triangle
        meshes (Sharp and Crane, 2020), https://doi.org/10.1111/cgf.14069.

    Example:
        >>> ball = np.random.default_rng(0).normal(size=(500, 3))
        >>> ball /= np.linalg.norm(ball, axis=1, keepdims=True)
        >>> bool(np.abs(heat_signatures(ball, times=[0.1])).max() < 0.1)
        True
        >>> long = heat_signatures(ball * [5, 1, 1], times=[0.1])[:, 0]
        >>> tip, middle = np.abs(ball[:, 0]).argmax(), np.abs(ball[:, 0]).argmin()
        >>> bool(long[tip] > long[middle] + 0.5)
        True
    """
    when = _times(times)
    values, vectors = eigenpairs(points, pairs, neighbours)
    kept = np.square(vectors) @ np.exp(-np.outer(values, when))
    return np.log(np.maximum(kept, 1)) - np.log(_on_sphere(when))  # 1 is left where it has spread over everything


def eigenpairs(points: Any, pairs: int = 100, neighbours: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """The lowest eigenvalues (pairs,) of a cloud's Laplacian, area 1, rising from 0, and its eigenvectors (n, pairs).

    Fewer where there are not so many points. The mean over the surface of each eigenvector's square is 1. The
    eigenvalues alone describe a shape, too.

    Args:
        points, pairs, neighbours: see `heat_signatures`, as what is raised.

    Reference: Laplace-Beltrami spectra as "Shape-DNA" (Reuter et al., 2006), https://doi.org/10.1016/j.cad.2005.10.011.

    Example:
        >>> ball = np.random.default_rng(0).normal(size=(800, 3))
        >>> ball /= np.linalg.norm(ball, axis=1, keepdims=True)
        >>> (eigenpairs(ball, 4)[0] / (4 * np.pi)).round() + 0  # of a sphere: 0, 2, 2, 2
        array([0., 2., 2., 2.])
    """
    from scipy.linalg import eigh
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import ArpackError, eigsh

    record.check_integer("pairs", pairs, 2)
    record.check_integer("neighbours", neighbours, 3)
    cloud, back = _cloud(points)
    laplacian, area = _laplacian(cloud, neighbours)
    pairs = min(pairs, len(cloud) - 1)
    scale = diags_array(1 / np.sqrt(area))
    even = scale @ laplacian @ scale  # symmetric, with the same eigenvalues
    if len(cloud) <= _DENSE or 3 * pairs > len(cloud):
        values, vectors = eigh(even.toarray(), subset_by_index=(0, pairs - 1))
    else:
        start = np.random.default_rng(0).random(len(cloud)) + 0.5  # the same at every call
        try:
            values, vectors = eigsh(even.tocsc(), pairs, sigma=-0.01, v0=start)
        except (ArpackError, RuntimeError) as error:
            raise _refused(cloud, str(error)) from error
    order = np.argsort(values, kind="stable")
    return values[order].clip(0), (vectors[:, order] / np.sqrt(area)[:, None])[back]


def _laplacian(cloud: np.ndarray, neighbours: int) -> tuple[Any, np.ndarray]:
    """The matrix (n, n) and the share of the area that each point stands for (n,)."""
    robust = package("robust_laplacian", "heat signatures", "points")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            laplacian, mass = robust.point_cloud_laplacian(cloud, n_neighbors=min(neighbours, len(cloud) - 1))
    except (RuntimeError, ValueError) as error:
        raise _refused(cloud, str(error)) from error
    area = mass.diagonal()
    if not (np.isfinite(area).all() and np.isfinite(laplacian.data).all() and area.sum() > 0):
        raise _refused(cloud, "triangles without area")
    return laplacian, np.maximum(area / area.sum(), 1e-9 / len(area))


def _refused(cloud: np.ndarray, why: str) -> InputError:
    return InputError(
        f"Expected points spread over a surface (got {len(cloud)} points, {len(np.unique(cloud, axis=0))} of them "
        f"distinct; {why}): drop duplicates, or draw points from the surface."
    )


def _cloud(points: Any) -> tuple[np.ndarray, np.ndarray]:
    """Distinct places (m, 3) float64, within about 1, in an order of their own, and for each point its row there."""
    cloud = record.to_numpy(points, "points")
    if cloud.ndim != 2 or cloud.shape[1] < 3 or len(cloud) < LEAST:
        raise InputError(f"Expected 'points' of shape (n >= {LEAST}, 3 or more) (got {cloud.shape}): one cloud a call.")
    places = cloud[:, :3].astype(np.float64)
    if not np.isfinite(places).all():
        raise InputError("Expected finite coordinates (got NaN or infinity): drop such points.")
    places = places - record.middle(places)
    reach = np.abs(places).max()
    distinct, back = np.unique(places / (reach or 1), axis=0, return_inverse=True)
    if len(distinct) < LEAST:
        raise _refused(places, f"at least {LEAST} are needed")
    turned = _upright(distinct)
    order = np.argsort(np.square(turned).sum(1), kind="stable")
    return np.ascontiguousarray(turned[order]), np.argsort(order)[back]


def _upright(places: np.ndarray) -> np.ndarray:
    """A cloud around its mean along its principal axes, its longer tails upwards: the same however it was turned."""
    places = places - places.mean(0)
    turned = places @ np.linalg.eigh(places.T @ places)[1]
    return turned * np.where((turned**3).sum(0) < 0, -1, 1)


def _times(times: int | Sequence[float]) -> np.ndarray:
    if isinstance(times, int):
        record.check_integer("times", times, 1)
        return np.geomspace(0.003, 0.3, times)
    when = record.to_numpy(times, "times").astype(np.float64)
    if when.ndim != 1 or len(when) == 0 or not (np.isfinite(when) & (when > 0)).all():
        raise InputError(f"Expected 'times' as a number, or as a list of times above 0 (got {times!r}).")
    return when


def _on_sphere(when: np.ndarray) -> np.ndarray:
    """What is left on a sphere of area 1: its eigenvalues are 4 pi l (l + 1), each 2 l + 1 times."""
    return (2 * _SPHERE + 1) @ np.exp(-4 * np.pi * np.outer(_SPHERE * (_SPHERE + 1), when))
