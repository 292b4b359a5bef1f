"""Order: two things are hidden in a growing record, and the question is which comes first.

Finding them is not enough, whatever is pooled: they must be set in relation across all that lies between.
"""

from dataclasses import replace

import numpy as np

from tokred_sci.datasets.public import Card
from tokred_sci.datasets.sample import ORGANISMS, load_sample
from tokred_sci.errors import InputError
from tokred_sci.stability.tasks import dna, points, series
from tokred_sci.stability.tasks.mosaic import cut_from
from tokred_sci.stability.tasks.source import name_of, whole_of
from tokred_sci.stability.tasks.task import Made, Make, Task, span


def fragment_order_task(
    length: int = 1024, fragment: int = 256, host: str = ORGANISMS[2], guests: tuple[str, str] = ORGANISMS[:2]
) -> Task:
    """Which of two fragments of other organisms comes first in a stretch of a host's genome?

    How far fragments stand out is the host's doing: windows of 256 bases are told from 64 of the host by their words
    of four letters in .90 to .95 of cases in *S. aureus* (the default), in all in *Mycoplasma mycoides*
    ("genome/NZ_CP001668"), which is poor in G and C throughout (scripts/dna_evidence.py).

    Args:
        length: bases of a training record, at least four fragments.
        fragment: bases of each fragment, at every length.
        host: whose genome grows around them: an organism of the sample, or a public genome.
        guests: whose the fragments are: two others, likewise.

    Example:
        >>> records, labels, hidden = fragment_order_task().draw(2, seed=0, multiple=2)
        >>> len(records[0]), hidden[0].sum(), sorted(labels.tolist())
        (2048, np.int64(512), [0, 1])
    """
    _check(length, fragment)
    if len(guests) != 2 or len({host, *guests}) != 3:
        raise InputError(f"Expected a host and two other genomes as guests (got {host} and {guests}): name three.")
    whole = dna.fragment_task(length, fragment)
    around = dna.regions(dna.genome(host), dna.REACH * length)
    inside = [dna.regions(dna.genome(guest), fragment) for guest in guests]

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        total = length * multiple
        record, hidden = dna.cut(generator, around[test], total), np.zeros(total, dtype=bool)
        for start, guest in zip(_two_places(generator, total, fragment), (label, 1 - label), strict=True):
            piece = dna.cut(generator, inside[guest][test], fragment)
            record = record[:start] + piece + record[start + fragment :]
            hidden |= span(total, start, fragment)
        return Made(record, hidden)

    whole = replace(
        whole,
        growth=f"the stretch of {host} around them",
        sources=("sample:dna", *(name for name in (host, *guests) if name not in ORGANISMS)),
        longest=dna.longest(around),
    )
    return _asked(whole, make, guests, f"Which of two fragments of {fragment} bases comes first?")


def exercise_order_task(length: int = 512, excerpt: int = 64, fade: int = 8) -> Task:
    """Which of two exercises is done first in a recording of pendulum swings?

    Args:
        length: time steps of a training record, at least four excerpts.
        excerpt: time steps of each exercise, and of each piece of the background.
        fade: steps over which one piece goes over into the next.
    """
    _check(length, excerpt)
    whole = series.exercise_task(length, excerpt)
    sample = load_sample("series")
    pair = tuple(sample.classes.index(name) for name in ("abduction", "external rotation"))
    cuts = {key: cut_from(pool, excerpt + fade, level=False) for key, pool in series.exercises(sample).items()}
    ramp = (np.arange(fade) + 0.5) / fade
    weight = np.concatenate([ramp, np.ones(excerpt - fade), ramp[::-1]])

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        total, pieces = length * multiple, length * multiple // excerpt + 1
        shown = dict(zip(_apart(generator, pieces - 2), (pair[label], pair[1 - label]), strict=True))
        canvas = np.zeros((6, pieces * excerpt + fade), np.float32)
        hidden = np.zeros(pieces * excerpt, dtype=bool)
        for place in range(pieces):
            values = cuts[shown.get(place - 1, 0), test](
                generator
            )  # neither the first piece nor the last, which are cut
            canvas[:, place * excerpt : (place + 1) * excerpt + fade] += values * weight
            hidden[place * excerpt : (place + 1) * excerpt] = place - 1 in shown
        start = int(generator.integers(excerpt))
        return Made(canvas[:, start + fade // 2 :][:, :total], hidden[start:][:total])

    names = (sample.classes[pair[0]], sample.classes[pair[1]])
    return _asked(whole, make, names, f"Which of two exercises of {excerpt} time steps is done first?")


def spot_order_task(length: int = 512, spot: int = 12, apart: float = 8.0) -> Task:
    """Which of two marked spots on a brain's surface lies further to the front?

    One is marked 1 in the last channel, the other -1; records are not turned. Training: left hemisphere; test: right.

    Args:
        length: points of a training record.
        spot: points of each spot, at every length.
        apart: least distance from back to front, in mm.
    """
    from scipy.spatial import cKDTree

    whole = points.folding_task(length, spot)
    clouds = load_sample("points").records
    trees = [cKDTree(cloud[:, :3]) for cloud in clouds]

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        cloud, tree = clouds[test], trees[test]
        _, chosen = tree.query(cloud[generator.integers(len(cloud)), :3], k=length * multiple)
        return _mark_two(generator, cloud[chosen, :6], spot, 1, apart, label)

    return _asked(whole, make, ("marked 1", "marked -1"), "Which of two marked spots lies further to the front?")


def strip_order_task(
    length: int = 512,
    spot: int = 12,
    width: float = 60.0,
    apart: float = 8.0,
    source: str | Card = "lidar/autzen_trim",
) -> Task:
    """Which of two marked spots in a strip of terrain, scanned from the air, lies further to the east?

    A strip has one width, so that its length grows as the number of points does (an area that grows to all sides
    is only four times as wide with 16 times the points). Training: strips of the south half; test: of the north half.

    Args:
        length: points of a training record.
        spot: points of each spot, at every length.
        width: of a strip, from south to north, in the cloud's unit (feet for the default).
        apart: least distance of the spots from west to east, in that unit.
        source: a public set of one or more clouds, of which the first is used.

    Raises:
        InputError: no strip of either half has the points of a record of 16 times the length.
    """
    whole = points.folding_task(length, spot)
    cloud = np.asarray(whole_of(source, "points").records[0][:, :3], np.float64)
    halves = [_strips(half, width, 16 * length) for half in _halves(cloud)]
    if not all(halves):
        raise InputError(
            f"Expected strips of {16 * length:,} points in both halves of {name_of(source)} (got none): lower 'length' "
            f"or raise 'width' ({width:g})."
        )

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        strip, total = halves[test][generator.integers(len(halves[test]))], length * multiple
        start = int(generator.integers(len(strip) - total + 1))
        here = strip[start : start + total]
        return _mark_two(generator, here - here.mean(0), spot, 0, apart, label)

    whole = replace(
        whole,
        growth="the strip of terrain around them",
        sources=(name_of(source),),
        tokenizer=points.settings(4),
        spacing=10.0,
        longest=16 * length,
    )
    return _asked(whole, make, ("marked 1", "marked -1"), "Which of two marked spots lies further to the east?")


def _halves(cloud: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """South and north of the middle, each from west to east."""
    cloud = cloud[np.argsort(cloud[:, 0], kind="stable")]
    south = cloud[:, 1] < (cloud[:, 1].min() + cloud[:, 1].max()) / 2
    return cloud[south], cloud[~south]


def _strips(cloud: np.ndarray, width: float, least: int) -> list[np.ndarray]:
    """Overlapping strips from west to east, an eighth of their width apart, with `least` points or more."""
    low, high = cloud[:, 1].min(), cloud[:, 1].max()
    edges = np.arange(low, max(low, high - width) + 1e-9, width / 8)
    strips = [cloud[(cloud[:, 1] >= edge) & (cloud[:, 1] < edge + width)] for edge in edges]
    return [strip for strip in strips if len(strip) >= least]


def _mark_two(generator: np.random.Generator, here: np.ndarray, spot: int, axis: int, apart: float, label: int) -> Made:
    """Two spots `apart` on an axis, marked 1 and -1 in one more channel; with label 0, what is marked 1 is ahead."""
    from scipy.spatial import cKDTree

    while True:  # most pairs are far enough apart
        pair = generator.choice(len(here), 2, replace=False)
        ahead = here[pair[0], axis] - here[pair[1], axis]
        if abs(ahead) >= apart:
            break
    _, spots = cKDTree(here[:, :3]).query(here[pair, :3], k=spot)
    mark, sign = np.zeros((len(here), 1)), 1 if (ahead > 0) == (label == 0) else -1
    mark[spots[0]], mark[spots[1]] = sign, -sign
    record = generator.permutation(np.concatenate([here, mark], axis=1)).astype(np.float32)
    return Made(record, record[:, -1] != 0)


def _check(length: int, hidden: int) -> None:
    if not 1 <= 4 * hidden <= length:
        raise InputError(f"Expected a length of at least four times what is hidden (got {length} and {hidden}).")


def _apart(generator: np.random.Generator, count: int) -> tuple[int, int]:
    """Two of `count` places in order, with at least one between them; every such pair is equally likely."""
    first, second = np.sort(generator.choice(count - 1, 2, replace=False))
    return int(first), int(second) + 1


def _two_places(generator: np.random.Generator, total: int, size: int) -> tuple[int, int]:
    """Starts of two pieces that do not overlap, with at least half a piece between them."""
    room = total - 2 * size - size // 2
    first, second = np.sort(generator.integers(room + 1, size=2))
    return int(first), int(second) + size + size // 2


def _asked(whole: Task, make: Make, classes: tuple[str, ...], question: str) -> Task:
    """The task that hides one thing, asked about two."""
    return replace(whole, question=question, classes=classes, make=make)
