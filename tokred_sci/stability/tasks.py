"""Tasks in which the information stays and the length grows: a longer input adds distractors, nothing else.

Each is built from the real samples inside the package. `draw` makes records of `multiple` times the training length;
training and test draw from parts of the data (genome stretches, hemispheres, subjects) that do not overlap.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tokred_sci.datasets.sample import load_sample
from tokred_sci.errors import InputError

Make = Callable[[np.random.Generator, bool, int, int], tuple[Any, np.ndarray]]
"""`(generator, test, multiple, label) -> (record, hidden)`."""


class Draw(NamedTuple):
    """Records, their classes, and for each the elements that hold the answer (True; all others distract)."""

    records: list
    labels: np.ndarray
    hidden: list[np.ndarray]


@dataclass(frozen=True)
class Task:
    """A question whose answer does not depend on length.

    Args:
        domain: which tokenizer and sample it uses.
        question: in words, for people.
        growth: what grows with length, in words.
        classes: possible answers.
        length: elements of a training record.
        unit: what one element is, plural.
        make: one record for a given label, and where in it the answer is.
    """

    domain: str
    question: str
    growth: str
    classes: tuple[str, ...]
    length: int
    unit: str
    make: Make = field(repr=False)

    def draw(self, count: int, seed: int, test: bool = False, multiple: int = 1) -> Draw:
        """`count` records with the classes in equal shares. The same seed gives the same records.

        Args:
            test: draw from the part of the data that training never sees.
            multiple: length of the records, in training lengths.

        Raises:
            InputError: a count or multiple below 1.
        """
        if count < 1 or multiple < 1:
            raise InputError(f"Expected 'count' and 'multiple' >= 1 (got {count} and {multiple}).")
        generator = np.random.default_rng([seed, test, multiple])
        labels = generator.permutation(np.arange(count) % len(self.classes))
        pairs = [self.make(generator, test, multiple, int(label)) for label in labels]
        return Draw([record for record, _ in pairs], labels, [hidden for _, hidden in pairs])


def dna_task(length: int = 1024, fragment: int = 512) -> Task:
    """Which organism does the foreign fragment in a stretch of the E. coli genome come from?

    Args:
        length: bases of a training record.
        fragment: bases of the fragment, at every length.
    """
    sample = load_sample("dna")
    organisms = tuple(dict.fromkeys(sample.groups))
    host, guests = organisms[0], organisms[1:]
    parts = {}
    for organism in organisms:
        contigs = [record for record, group in zip(sample.records, sample.groups, strict=True) if group == organism]
        parts[organism] = _split_contigs(contigs, 0.8, (fragment, 20 * length)[organism == host])

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> tuple[str, np.ndarray]:
        total = length * multiple
        around = _cut(generator, parts[host][test], total)
        inside = _cut(generator, parts[guests[label]][test], fragment)
        at = int(generator.integers(0, total - fragment + 1))
        hidden = np.zeros(total, dtype=bool)
        hidden[at : at + fragment] = True
        return around[:at] + inside + around[at + fragment :], hidden

    return Task(
        "dna",
        f"Which organism does the {fragment}-base fragment come from?",
        "the stretch of E. coli MG1655 around it",
        guests,
        length,
        "bases",
        make,
    )


def points_task(length: int = 512, spot: int = 12) -> Task:
    """Is the marked spot on a brain's surface in a sulcus (fold) or on a gyrus (ridge)?

    The record is the `length` surface points nearest to a random one, turned at random; the spot is `spot`
    neighbouring points of one kind, marked in the last channel. Training: left hemisphere; test: right.

    Args:
        length: points of a training record.
        spot: marked points, at every length.
    """
    from scipy.spatial import cKDTree

    sample = load_sample("points")
    trees = [cKDTree(record[:, :3]) for record in sample.records]
    pure = [_pure_spots(tree, labels, spot) for tree, labels in zip(trees, sample.labels, strict=True)]

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> tuple[np.ndarray, np.ndarray]:
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
        return record, record[:, 6] > 0

    return Task(
        "points",
        f"Is the marked spot of {spot} points a gyrus or a sulcus?",
        "the cortex around it",
        sample.classes,
        length,
        "points",
        make,
    )


def series_task(length: int = 512, excerpt: int = 128) -> Task:
    """Which exercise was done for a moment in a recording of another one?

    A smartwatch recording of pendulum swings, in which `excerpt` steps of one of the other exercises are hidden.
    Long stretches of swings are stitched from several recordings. Test subjects are never seen in training.

    Args:
        length: time steps of a training record.
        excerpt: time steps of the hidden exercise, at every length.
    """
    sample = load_sample("series")
    subjects = sorted(set(sample.groups))
    held_out = set(subjects[::3])
    pools: dict[tuple[int, bool], list[np.ndarray]] = {}
    for record, label, subject in zip(sample.records, sample.labels, sample.groups, strict=True):
        pools.setdefault((int(label), subject in held_out), []).append(record)
    others = range(1, len(sample.classes))  # class 0 is the background

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> tuple[np.ndarray, np.ndarray]:
        around = _stitch(generator, pools[0, test], length * multiple)
        recordings = [r for r in pools[others[label], test] if r.shape[1] >= excerpt]
        recording = recordings[generator.integers(len(recordings))]
        start = generator.integers(0, recording.shape[1] - excerpt + 1)
        at = generator.integers(0, length * multiple - excerpt + 1)
        around[:, at : at + excerpt] = recording[:, start : start + excerpt]
        hidden = np.zeros(length * multiple, dtype=bool)
        hidden[at : at + excerpt] = True
        return around, hidden

    return Task(
        "series",
        f"Which exercise is hidden for {excerpt} time steps?",
        f"the recording of {sample.classes[0]} around it",
        tuple(sample.classes[i] for i in others),
        length,
        "time steps",
        make,
    )


TASKS = {"dna": dna_task, "points": points_task, "series": series_task}


def _split_contigs(contigs: list[str], share: float, least: int) -> tuple[list[str], list[str]]:
    """Front part of every contig for training, the rest for test; pieces shorter than `least` are left out."""
    cuts = [int(len(contig) * share) for contig in contigs]
    fronts = [contig[:cut] for contig, cut in zip(contigs, cuts, strict=True)]
    backs = [contig[cut:] for contig, cut in zip(contigs, cuts, strict=True)]
    return [c for c in fronts if len(c) >= least], [c for c in backs if len(c) >= least]


def _cut(generator: np.random.Generator, pieces: list[str], length: int) -> str:
    """A stretch of `length` letters, every possible one equally likely."""
    starts = np.array([len(piece) - length + 1 for piece in pieces]).clip(0)
    place = int(generator.integers(starts.sum()))
    piece = int(np.searchsorted(starts.cumsum(), place, side="right"))
    start = place - int(starts[:piece].sum())
    return pieces[piece][start : start + length]


def _stitch(generator: np.random.Generator, recordings: list[np.ndarray], length: int) -> np.ndarray:
    """Recordings in random order, joined end to end, `length` steps of them from a random start."""
    parts, total = [], 0
    while total < 2 * length:
        parts.append(recordings[generator.integers(len(recordings))])
        total += parts[-1].shape[1]
    start = generator.integers(0, total - length + 1)
    return np.concatenate(parts, axis=1)[:, start : start + length].copy()


def _pure_spots(tree: Any, labels: np.ndarray, spot: int) -> list[np.ndarray]:
    """For each class, the points whose `spot` nearest points are all of it."""
    _, near = tree.query(tree.data, k=spot)
    same = (labels[near] == labels[:, None]).all(1)
    return [np.flatnonzero(same & (labels == label)) for label in range(int(labels.max()) + 1)]


def _rotation(generator: np.random.Generator) -> np.ndarray:
    """A uniformly random turn (3, 3): Q of a Gaussian matrix, made proper (Stewart, 1980)."""
    q, r = np.linalg.qr(generator.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))
