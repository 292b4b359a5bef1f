"""ModelNet-C's seven corruptions of point clouds at five levels, and the error of a model under them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tokred_sci.errors import InputError
from tokred_sci.stability.corruption import Corrupted, tell

SCALE = (1.6, 1.7, 1.8, 1.9, 2.0)
JITTER = (0.01, 0.02, 0.03, 0.04, 0.05)
ROTATE = (math.pi / 30, math.pi / 15, math.pi / 10, math.pi / 7.5, math.pi / 6)
DROP_GLOBAL = (0.25, 0.375, 0.5, 0.625, 0.75)
LOCAL = tuple(count / 1024 for count in (100, 200, 300, 400, 500))
ADD_GLOBAL = tuple(count / 1024 for count in (10, 20, 30, 40, 50))
"""What the five levels of each corruption mean, in ModelNet-C's units: radius of the cloud, share of its points."""


def corrupt_points(
    cloud: np.ndarray, kind: str, level: int, generator: np.random.Generator, normals: Sequence[int] = ()
) -> Corrupted:
    """One of ModelNet-C's seven corruptions at one of its five levels.

    Lengths are measured in radii of the cloud, from its mean to the farthest point, and counts of points as shares of
    1,024: for the paper's own clouds (1,024 points in the unit sphere) these are its numbers, for others the same
    damage in proportion. By kind:

    - "scale": each axis by U(1 / S, S), S from 1.6 to 2; then back to the cloud's own radius and mean.
    - "jitter": Gaussian noise of 0.01 to 0.05 radii on every coordinate.
    - "rotate": about the x, y, z axes in turn, each angle U(-t, t), t from 6 to 30 degrees.
    - "drop-global": 25 to 75 % of the points, anywhere.
    - "drop-local": 100 to 500 of 1,024 points, in 1 to 8 places, each the nearest points to one that is left.
    - "add-global": 10 to 50 points to 1,024, uniform in the ball.
    - "add-local": 100 to 500 points to 1,024, Gaussian around 1 to 8 of the points with a width of 0.075 to 0.125
      radii; those that leave the ball are put back onto its surface.

    Args:
        cloud: (N, 3 + C) floats: x, y, z, then channels, which stay with their points. Added points have the channels
            of the nearest point of the cloud ("add-global"), or of the point they surround.
        kind: see above.
        level: 1 to 5; 0 = as it is.
        generator: to draw on.
        normals: first column of each three channels that are a normal: they turn and stretch with the surface.

    Raises:
        InputError: not a cloud of finite places, an unknown kind or level, or normals that are no three channels.

    Reference: Benchmarking and Analyzing Point Cloud Classification under Corruptions (Ren et al., 2022),
    https://arxiv.org/abs/2202.03377.

    Example:
        >>> cloud = np.random.default_rng(0).normal(size=(1024, 3)).astype(np.float32)
        >>> damaged = corrupt_points(cloud, "drop-local", 2, np.random.default_rng(1))
        >>> damaged.record.shape, damaged.record.dtype, bool((damaged.record == cloud[damaged.origin]).all())
        ((824, 3), dtype('float32'), True)
    """
    _check_cloud(cloud, normals)
    if kind not in POINTS:
        raise InputError(f"Expected 'kind' to be one of {', '.join(POINTS)} (got {kind!r}).")
    if isinstance(level, bool) or level not in range(6):
        raise InputError(f"Expected 'level' from 0 to 5 (got {level!r}).")
    if level == 0:
        return Corrupted(cloud.copy(), np.arange(len(cloud)))
    places = cloud[:, :3].astype(np.float64)
    centre = places.mean(0)
    radius = float(np.linalg.norm(places - centre, axis=1).max()) or 1.0
    moved, origin, like, turn = POINTS[kind]((places - centre) / radius, level - 1, generator)
    record = cloud[like].astype(np.float64)
    record[:, :3] = centre + radius * moved
    for first in normals:
        record[:, first : first + 3] = _turn_normals(record[:, first : first + 3], turn)
    record = record.astype(cloud.dtype)
    if kind.startswith(("drop", "add")):
        record[origin >= 0] = cloud[origin[origin >= 0]]  # points that stay, stay bit for bit
    return Corrupted(record, origin)


Moved = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]
"""Places, origin, the point whose channels each has, and the linear map of space if there was one."""


def _scale(places: np.ndarray, level: int, generator: np.random.Generator) -> Moved:
    stretch = generator.uniform(1 / SCALE[level], SCALE[level], 3)
    moved = places * stretch
    moved /= np.linalg.norm(moved, axis=1).max() or 1.0
    return moved, np.arange(len(places)), np.arange(len(places)), np.diag(stretch)


def _jitter(places: np.ndarray, level: int, generator: np.random.Generator) -> Moved:
    noise = JITTER[level] * generator.normal(size=places.shape)
    return places + noise, np.arange(len(places)), np.arange(len(places)), None


def _rotate(places: np.ndarray, level: int, generator: np.random.Generator) -> Moved:
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("xyz", generator.uniform(-ROTATE[level], ROTATE[level], 3)).as_matrix()
    return places @ turn.T, np.arange(len(places)), np.arange(len(places)), turn


def _drop_global(places: np.ndarray, level: int, generator: np.random.Generator) -> Moved:
    left = max(1, int(len(places) * (1 - DROP_GLOBAL[level])))
    kept = np.sort(generator.permutation(len(places))[:left])
    return places[kept], kept, kept, None


def _drop_local(places: np.ndarray, level: int, generator: np.random.Generator) -> Moved:
    kept = np.arange(len(places))
    for count in _shares_of(round(LOCAL[level] * len(places)), generator):
        distance = np.linalg.norm(places[kept] - places[generator.choice(kept)], axis=1)
        kept = kept[np.sort(distance.argsort(kind="stable")[count:])]
    return places[kept], kept, kept, None


def _add_global(places: np.ndarray, level: int, generator: np.random.Generator) -> Moved:
    from scipy.spatial import cKDTree

    count = round(ADD_GLOBAL[level] * len(places))
    new = generator.normal(size=(count, 3))
    new *= (generator.uniform(size=count) ** (1 / 3) / np.linalg.norm(new, axis=1))[:, None]
    return _with_added(places, new, cKDTree(places).query(new)[1])


def _add_local(places: np.ndarray, level: int, generator: np.random.Generator) -> Moved:
    counts = _shares_of(round(LOCAL[level] * len(places)), generator)
    centres = generator.choice(len(places), len(counts), replace=len(counts) > len(places))
    near = np.repeat(centres, counts)
    width = np.repeat(generator.uniform(0.075, 0.125, len(counts)), counts)
    new = places[near] + width[:, None] * generator.normal(size=(len(near), 3))
    return _with_added(places, new / np.linalg.norm(new, axis=1, keepdims=True).clip(1), near)


POINTS: dict[str, Callable[[np.ndarray, int, np.random.Generator], Moved]] = {
    "scale": _scale,
    "jitter": _jitter,
    "rotate": _rotate,
    "drop-global": _drop_global,
    "drop-local": _drop_local,
    "add-global": _add_global,
    "add-local": _add_local,
}


def _shares_of(total: int, generator: np.random.Generator) -> np.ndarray:
    """`total` points dealt out at random to 1 to 8 places."""
    places = int(generator.integers(1, 9))
    return np.bincount(generator.integers(places, size=total), minlength=places)


def _with_added(places: np.ndarray, new: np.ndarray, near: np.ndarray) -> Moved:
    own = np.arange(len(places))
    return (
        np.concatenate([places, new]),
        np.concatenate([own, np.full(len(new), -1)]),
        np.concatenate([own, near]),
        None,
    )


def _turn_normals(normals: np.ndarray, turn: np.ndarray | None) -> np.ndarray:
    """Normals of a surface after a linear map, of the length they had."""
    if turn is None:
        return normals
    turned = normals @ np.linalg.inv(turn)
    length = np.linalg.norm(turned, axis=1, keepdims=True)
    return turned * np.linalg.norm(normals, axis=1, keepdims=True) / np.where(length > 0, length, 1)


def _check_cloud(cloud: np.ndarray, normals: Sequence[int]) -> None:
    if not isinstance(cloud, np.ndarray) or cloud.ndim != 2 or cloud.shape[1] < 3 or cloud.dtype.kind != "f":
        raise InputError(f"Expected a cloud as floats of shape (N, 3 + C) (got {tell(cloud)}).")
    if not len(cloud) or not np.isfinite(cloud[:, :3]).all():
        raise InputError(f"Expected one or more points at finite places (got {tell(cloud)}): drop the others first.")
    if bad := [first for first in normals if not 3 <= first <= cloud.shape[1] - 3]:
        raise InputError(f"Expected 'normals' from column 3 to {cloud.shape[1] - 3} (got {bad}).")


class Accuracies(NamedTuple):
    """What a classifier reaches: on clean clouds, and for each corruption the mean over its levels."""

    clean: float
    corrupted: Mapping[str, float]


DGCNN = Accuracies(
    0.926,
    {
        "scale": 0.906,
        "jitter": 0.684,
        "rotate": 0.785,
        "drop-global": 0.752,
        "drop-local": 0.793,
        "add-global": 0.705,
        "add-local": 0.725,
    },
)
"""The reference of ModelNet-C: DGCNN's overall accuracy on it (Ren et al., 2022)."""


def corruption_error(model: Accuracies, reference: Accuracies = DGCNN) -> dict[str, float]:
    """Error under each corruption over the reference's, and their mean "mCE": below 1 is better than the reference.

    CE = sum over levels of (1 - accuracy) / sum over levels of (1 - reference accuracy).

    Args:
        model: of the arm to judge.
        reference: with the same corruptions; DGCNN's numbers hold for ModelNet-C only, for other data take those of
            the arm without reduction.

    Raises:
        InputError: other corruptions in one than in the other, shares outside [0, 1], or a reference without error.

    Reference: Benchmarking and Analyzing Point Cloud Classification under Corruptions (Ren et al., 2022),
    https://arxiv.org/abs/2202.03377, section 4.

    Example:
        >>> half = Accuracies(1.0, {kind: (1 + share) / 2 for kind, share in DGCNN.corrupted.items()})
        >>> round(corruption_error(half)["mCE"], 12)
        0.5
    """
    return _relative(
        {kind: 1 - share for kind, share in model.corrupted.items()},
        {kind: 1 - share for kind, share in reference.corrupted.items()},
        (model, reference),
        "mCE",
    )


def relative_corruption_error(model: Accuracies, reference: Accuracies = DGCNN) -> dict[str, float]:
    """Accuracy lost to each corruption over what the reference loses, and their mean "RmCE": 0 = nothing is lost.

    RCE = sum over levels of (clean - accuracy) / sum over levels of the reference's. Arguments, errors and reference
    as for `corruption_error`.

    Example:
        >>> round(relative_corruption_error(DGCNN)["RmCE"], 12)
        1.0
    """
    return _relative(
        {kind: model.clean - share for kind, share in model.corrupted.items()},
        {kind: reference.clean - share for kind, share in reference.corrupted.items()},
        (model, reference),
        "RmCE",
    )


def _relative(
    ours: dict[str, float], theirs: dict[str, float], both: tuple[Accuracies, Accuracies], mean: str
) -> dict[str, float]:
    if ours.keys() != theirs.keys() or not ours:
        raise InputError(f"Expected the same corruptions in both (got {sorted(ours)} and {sorted(theirs)}).")
    if not all(0 <= share <= 1 for one in both for share in (one.clean, *one.corrupted.values())):
        raise InputError("Expected accuracies as shares from 0 to 1 (got others): divide percentages by 100.")
    if not all(loss > 0 for loss in theirs.values()):
        raise InputError(f"Expected a reference that every corruption hurts (got losses {theirs}).")
    ratios = {kind: ours[kind] / theirs[kind] for kind in ours}
    return {**ratios, mean: sum(ratios.values()) / len(ratios)}
