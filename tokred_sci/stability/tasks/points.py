"""Points: a marked spot on a growing surface, an object in growing terrain, parts of a shape in ever more points."""

from typing import Any

import numpy as np

from tokred_sci.datasets.public import Card
from tokred_sci.datasets.records import Records
from tokred_sci.datasets.sample import load_sample
from tokred_sci.errors import InputError
from tokred_sci.stability.tasks.source import name_of, parts_of, whole_of
from tokred_sci.stability.tasks.task import IGNORE, Made, Task

REACH = 16  # training lengths that a terrain must have points for
SPACING = 0.25  # between neighbouring points of the terrain, in units of an object's spread
OBJECTS = ("ants", "glasses", "laptop", "snake", "two_balls")  # of SHREC'11, as unlike as they come
CATEGORIES = ("Airplane", "Chair", "Octopus", "Table")


def folding_task(length: int = 512, spot: int = 12) -> Task:
    """Is the marked spot on a brain's surface in a sulcus (fold) or on a gyrus (ridge)?

    The record is the `length` surface points nearest to a random one, turned at random; the spot is `spot`
    neighbouring points of one kind, marked in the last channel. Training: left hemisphere; test: right.

    Args:
        length: points of a training record.
        spot: marked points, at every length.

    Example:
        >>> task = folding_task()
        >>> records, labels, hidden = task.draw(2, seed=0, multiple=4)
        >>> records[0].shape, hidden[0].sum()
        ((2048, 7), np.int64(12))
    """
    from scipy.spatial import cKDTree

    sample = load_sample("points")
    trees = [cKDTree(record[:, :3]) for record in sample.records]
    pure = [pure_spots(tree, labels, spot) for tree, labels in zip(trees, sample.labels, strict=True)]

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        cloud, tree = sample.records[test], trees[test]
        seed = generator.choice(pure[test][label])
        _, near = tree.query(cloud[seed, :3], k=length)  # the spot is somewhere inside the smallest window
        centre = near[generator.integers(0, length // 2)]
        _, chosen = tree.query(cloud[centre, :3], k=length * multiple)
        _, marked = tree.query(cloud[seed, :3], k=spot)
        if not np.isin(marked, chosen).all():
            _, chosen = tree.query(cloud[seed, :3], k=length * multiple)
        turn = _rotation(generator)
        record = np.concatenate(
            [cloud[chosen, :3] @ turn, cloud[chosen, 3:6] @ turn, np.isin(chosen, marked)[:, None]], axis=1
        )
        record = generator.permutation(record).astype(np.float32)
        return Made(record, record[:, 6] > 0)

    return Task(
        "points",
        f"Is the marked spot of {spot} points a gyrus or a sulcus?",
        "the cortex around it",
        sample.classes,
        length,
        "points",
        make,
        sources=("sample:points",),
        tokenizer=settings(7),
        spacing=8.0,
        longest=min(map(len, sample.records)),
    )


def object_task(
    length: int = 512,
    size: int = 256,
    classes: tuple[str, ...] = OBJECTS,
    source: str | Card = "shrec11",
    ground: str | Card = "isprs",
) -> Task:
    """What is the object that stands somewhere in a terrain scanned from the air?

    The object is `size` points of a shape, turned at random and scaled to unit spread; the terrain is turned about the
    vertical and scaled to one density, so what grows is its extent. Test: other shapes, other sites.

    Args:
        length: points of a training record.
        size: points of the object, at every length; at most half the training length.
        classes: those of the source's classes that are asked about.
        source: a public set of shapes with a train and a test part, and record names "class/number".
        ground: a public set of clouds in which z is up, with groups; every third group is kept for the test.
    """
    if not 1 <= size <= length // 2:
        raise InputError(f"Expected 'size' from 1 to half the 'length' (got {size} and {length}).")
    shapes = parts_of(source, "points")
    members = [[_of_category(part, name) for name in classes] for part in shapes]
    if not all(len(those) for part in members for those in part):
        raise InputError(f"Expected shapes of each class for training and test (got {classes}): see {name_of(source)}.")
    if (least := min(len(shape) for part in shapes for shape in part.records)) < size:
        raise InputError(f"Expected 'size' of at most the {least:,} points of a shape (got {size:,}).")
    sites = _sites(whole_of(ground, "points"), REACH * length)

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        shape = shapes[test].records[generator.choice(members[test][label])]
        body = _unit_spread(generator.permutation(shape[:, :3])[:size]) @ _rotation(generator)
        around = _terrain(generator, sites[test], length * multiple - size)
        foot = around[generator.integers(len(around))]
        body += foot - (0, 0, body[:, 2].min())
        order = generator.permutation(length * multiple)
        record = np.concatenate([body, around])[order].astype(np.float32)
        return Made(record, order < size)

    return Task(
        "points",
        f"What is the object of {size} points?",
        "the terrain around it",
        classes,
        length,
        "points",
        make,
        sources=(name_of(source), name_of(ground)),
        tokenizer=settings(3),
        spacing=2 * SPACING,
        longest=REACH * length,
    )


def parts_task(
    length: int = 1024, categories: tuple[str, ...] = CATEGORIES, source: str | Card = "labeled_psb/sampled"
) -> Task:
    """Which part of the shape is each point on, while ever more points are drawn from the same surface?

    Asked of `length` points at every length: the others only say more about where the surface is. Shapes are turned
    at random and scaled to unit spread. Test: other shapes.

    Args:
        length: points of a training record, and points asked about at every length.
        categories: of shapes, drawn in equal shares.
        source: a public set with a label for each point, a train and a test part, record names "category/number" and
            class names "category: part".
    """
    loaded = parts_of(source, "points")
    classes = tuple(name for name in loaded[0].classes if name.split(":")[0] in categories)
    number = np.array([classes.index(name) if name in classes else IGNORE for name in loaded[0].classes])
    rows = [[_of_category(part, category) for category in categories] for part in loaded]
    by_point = all(np.ndim(labels) == 1 for part in loaded for labels in part.labels)
    if not by_point or not all(len(those) for part in rows for those in part):
        raise InputError(
            f"Expected shapes of {categories} in both parts of {name_of(source)}, with a label for each point."
        )

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        row, total = generator.choice(rows[test][label]), length * multiple
        cloud, parts = loaded[test].records[row], loaded[test].labels[row]
        chosen = generator.choice(len(cloud), total, replace=False)  # the first of them are a record of the base length
        order = generator.permutation(total)
        asked = order < length
        record = (_unit_spread(cloud[chosen]) @ _rotation(generator))[order].astype(np.float32)
        return Made(record, asked, np.where(asked, number[parts[chosen][order]], IGNORE))

    return Task(
        "points",
        f"Which part is each of {length:,} points on?",
        "the number of points drawn from the same surface",
        classes,
        length,
        "points",
        make,
        answer="per-element",
        sources=(name_of(source),),
        tokenizer=settings(3),
        spacing=SPACING,
        kinds=len(categories),
        longest=min(len(cloud) for part in loaded for cloud in part.records),
    )


def settings(channels: int) -> dict[str, Any]:
    """Of the tokenizer: neighbourhoods along a curve, so that a cloud of any size is cut alike."""
    return {"ratio": 0.125, "neighbours": 16, "method": "curve", "channels": channels}


def _sites(ground: Records, least: int) -> tuple[list[Any], list[Any]]:
    """For training and for test: a tree of the ground plan, and the points, of every large enough cloud."""
    from scipy.spatial import cKDTree

    groups = ground.groups or tuple(map(str, range(len(ground.records))))
    held_out = sorted(set(groups))[::3]
    parts: tuple[list[Any], list[Any]] = ([], [])
    for cloud, group in zip(ground.records, groups, strict=True):
        if len(cloud) >= least:
            parts[group in held_out].append((cKDTree(cloud[:, :2]), cloud[:, :3]))
    if not parts[0] or not parts[1]:
        raise InputError(f"Expected terrain of {least:,} points for training and test (got none): lower 'length'.")
    return parts


def _terrain(generator: np.random.Generator, sites: list[Any], count: int) -> np.ndarray:
    """The `count` points nearest in plan to a random one, turned about the vertical, at one density."""
    tree, cloud = sites[generator.integers(len(sites))]
    middle = cloud[generator.integers(len(cloud))]
    far, near = tree.query(middle[:2], k=count)
    angle = generator.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    spacing = np.max(far) * np.sqrt(np.pi / count)
    return (cloud[near].reshape(-1, 3) - middle) @ turn * (SPACING / spacing)


def _unit_spread(cloud: np.ndarray) -> np.ndarray:
    """Moved to the mean, and scaled to a root mean square distance of 1 from it."""
    centred = np.asarray(cloud, np.float64) - cloud.mean(0)
    return centred / np.sqrt((centred**2).sum(1).mean())


def _of_category(records: Records, category: str) -> np.ndarray:
    """Records whose name is "category/...", as those of SHREC'11, ModelNet10 and Labeled PSB are."""
    return np.flatnonzero([name.split("/")[0] == category for name in records.names])


def pure_spots(tree: Any, labels: np.ndarray, spot: int) -> list[np.ndarray]:
    """For each class, the points whose `spot` nearest points are all of it."""
    _, near = tree.query(tree.data, k=spot)
    same = (labels[near] == labels[:, None]).all(1)
    return [np.flatnonzero(same & (labels == label)) for label in range(int(labels.max()) + 1)]


def _rotation(generator: np.random.Generator) -> np.ndarray:
    """A uniformly random turn (3, 3): Q of a Gaussian matrix, made proper (Stewart, 1980)."""
    q, r = np.linalg.qr(generator.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))
