"""DNA: a foreign fragment or a promoter in a growing stretch of a genome; coding or not in growing windows."""

from collections import Counter
from dataclasses import replace

import numpy as np

from tokred_sci.datasets.public import Card
from tokred_sci.datasets.records import Records
from tokred_sci.datasets.sample import ORGANISMS, load_sample
from tokred_sci.errors import InputError
from tokred_sci.stability.tasks.source import name_of, parts_of, whole_of
from tokred_sci.stability.tasks.task import IGNORE, Made, Task, ask, span

HOST = "E. coli MG1655"
PATCH = {"patch": 16}
REACH = 20  # training lengths that a stretch of the host must have

Region = tuple[str, np.ndarray]
"""Letters, and for each its class."""
Parts = tuple[list[Region], list[Region]]
"""For training, and for test."""


def fragment_task(length: int = 1024, fragment: int = 512) -> Task:
    """Which organism does the foreign fragment in a stretch of the E. coli genome come from?

    Args:
        length: bases of a training record.
        fragment: bases of the fragment, at every length.

    Example:
        >>> task = fragment_task()
        >>> records, labels, hidden = task.draw(4, seed=0, multiple=16)
        >>> len(records[0]), hidden[0].sum(), sorted(labels.tolist())
        (16384, np.int64(512), [0, 0, 1, 1])
    """
    _check(length, fragment)
    host = regions(genome(ORGANISMS[0]), REACH * length)
    guests = [regions(genome(organism), fragment) for organism in ORGANISMS[1:]]

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        around = cut(generator, host[test], length * multiple)
        return _hide(generator, around, cut(generator, guests[label][test], fragment))

    return Task(
        "dna",
        f"Which organism does the {fragment}-base fragment come from?",
        f"the stretch of {HOST} around it",
        ORGANISMS[1:],
        length,
        "bases",
        make,
        sources=("sample:dna",),
        tokenizer=PATCH,
        spacing=16.0,
        longest=longest(host),
    )


def fragment_place_task(length: int = 1024, fragment: int = 512) -> Task:
    """Which organism is each base from? Asked of the fragment and of as many bases of the host, wherever they are.

    Args:
        length: bases of a training record, at least twice the fragment.
        fragment: bases of the fragment, at every length.
    """
    if 2 * fragment > length:
        raise InputError(f"Expected 'length' >= 2 x 'fragment' (got {length} and {fragment}): ask of a shorter one.")
    whole = fragment_task(length, fragment)

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        record, hidden, _ = whole.make(generator, test, multiple, label)
        return Made(record, hidden, ask(generator, hidden * (label + 1), hidden, fragment))

    return replace(
        whole,
        question=f"Which organism is each base from, in and around a {fragment}-base fragment?",
        classes=ORGANISMS,
        make=make,
        answer="per-element",
        kinds=len(ORGANISMS) - 1,
    )


def promoter_task(length: int = 512, source: str | Card = "cnnprom/mouse_tata") -> Task:
    """Is the piece of another genome, hidden in a stretch of the E. coli genome, a promoter?

    Both classes are hidden alike. Pieces that hold anything but A, C, G, T, and test pieces that stand in the
    training part too (GUE has some), are left out.

    Args:
        length: bases of a training record.
        source: a public set of pieces of one length, with a train and a test part, whose class 1 is the promoter.
    """
    pieces = [_by_class(part) for part in parts_of(source, "dna")]
    seen = {piece for of_class in pieces[0] for piece in of_class}
    pieces[1] = [[piece for piece in of_class if piece not in seen] for of_class in pieces[1]]
    if not all(of_class for part in pieces for of_class in part):
        raise InputError(f"Expected pieces of one length of classes 0 and 1 in both parts of {name_of(source)}.")
    size = len(pieces[0][0][0])
    _check(length, size)
    host = regions(genome(ORGANISMS[0]), REACH * length)

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        around = cut(generator, host[test], length * multiple)
        those = pieces[test][label]
        return _hide(generator, around, those[generator.integers(len(those))])

    return Task(
        "dna",
        f"Is the hidden piece of {size} bases a promoter?",
        f"the stretch of {HOST} around it",
        ("not a promoter", "promoter"),
        length,
        "bases",
        make,
        sources=(name_of(source), "sample:dna"),
        tokenizer=PATCH,
        spacing=16.0,
        longest=longest(host),
    )


def coding_task(length: int = 1024) -> Task:
    """Does each base of a window of E. coli code, and on which strand? Asked of `length` bases; what is around grows.

    Training: front 80 % of the sample's stretch; test: the rest.

    Args:
        length: bases of a training record, and bases asked about at every length.
    """
    return _coding(length, regions(genome(ORGANISMS[0]), REACH * length), "of E. coli", ("sample:dna",))


def coding_unseen_task(length: int = 1024, unseen: tuple[str, ...] = ORGANISMS[1:]) -> Task:
    """As `coding_task`, tested on organisms that training never saw.

    Args:
        length: bases of a training record, and bases asked about at every length.
        unseen: organisms of the sample, or public genomes such as "genome/NZ_CP001668". Contigs shorter than 20 x
            `length` are left out. (Mycoplasma reads UGA as tryptophan: other organisms' stop is no stop there.)
    """
    train, _ = regions(genome(ORGANISMS[0]), REACH * length)
    contigs = [contig for name in unseen for contig in zip(*genome(name), strict=True)]
    test = [(letters, np.asarray(labels)) for letters, labels in contigs if len(letters) >= REACH * length]
    if not test:
        raise InputError(f"Expected a contig of {REACH * length:,} bases in {unseen} (got none): lower 'length'.")
    public = tuple(name for name in unseen if name not in ORGANISMS)
    return _coding(length, (train, test), "of organisms not trained on", ("sample:dna", *public))


def _coding(length: int, parts: Parts, of: str, sources: tuple[str, ...]) -> Task:
    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        total = length * multiple
        region, start = _place(generator, parts[test], total)
        letters, targets = parts[test][region]
        asked = span(total, int(generator.integers(total - length + 1)), length)
        answer = np.where(asked, targets[start : start + total], IGNORE).astype(np.int64)
        return Made(letters[start : start + total], asked, answer)

    return Task(
        "dna",
        f"Does each of {length:,} bases {of} code, and on which strand?",
        "the genome around them",
        ("not coding", "coding +", "coding -"),
        length,
        "bases",
        make,
        answer="per-element",
        sources=sources,
        tokenizer=PATCH,
        spacing=16.0,
        kinds=1,
        longest=longest(parts),
    )


def _check(length: int, size: int) -> None:
    if not 1 <= size <= length:
        raise InputError(f"Expected 'length' >= {size}, the bases to hide (got {length}): make records longer.")


def _hide(generator: np.random.Generator, around: str, inside: str) -> Made:
    """The piece in place of as many bases of what is around it, every place equally likely."""
    at = int(generator.integers(0, len(around) - len(inside) + 1))
    return Made(around[:at] + inside + around[at + len(inside) :], span(len(around), at, len(inside)))


def genome(name: str | Card) -> Records:
    """Contigs of an organism of the sample, or of a public genome, with their labels.

    Raises:
        InputError: the public set is not DNA, or there is none of that name.
        FetchError: it could not be fetched; the message has the address, and what to do by hand.
    """
    if name not in ORGANISMS:
        return whole_of(name, "dna")
    sample = load_sample("dna")
    rows = [row for row, group in enumerate(sample.groups) if group == name]
    return Records("dna", [sample.records[row] for row in rows], [sample.labels[row] for row in rows])


def regions(records: Records, least: int) -> Parts:
    """Front 80 % of every contig, and the rest, with their labels; what is shorter than `least` is left out."""
    fronts, backs = [], []
    for letters, labels in zip(records.records, records.labels, strict=True):
        cut = int(len(letters) * 0.8)
        fronts.append((letters[:cut], labels[:cut]))
        backs.append((letters[cut:], labels[cut:]))
    parts = tuple([region for region in part if len(region[0]) >= least] for part in (fronts, backs))
    if not parts[0] or not parts[1]:
        raise InputError(f"Expected stretches of {least:,} bases for training and test (got none): lower 'length'.")
    return parts[0], parts[1]


def _by_class(records: Records) -> list[list[str]]:
    """Pieces of either class, in capitals, of the commonest length, without unknown letters."""
    letters = [piece.upper() for piece in records.records]
    size = Counter(map(len, letters)).most_common(1)[0][0]
    good = [len(piece) == size and set(piece) <= set("ACGT") for piece in letters]
    rows = list(zip(letters, records.labels, good, strict=True))
    return [[piece for piece, label, fits in rows if fits and label == kind] for kind in (0, 1)]


def longest(parts: Parts) -> int:
    """Most bases that a record of either part can have."""
    return min(max(len(letters) for letters, _ in part) for part in parts)


def _place(generator: np.random.Generator, regions: list[Region], length: int) -> tuple[int, int]:
    """Which region, and from where in it: every stretch of `length` equally likely."""
    starts = np.array([len(letters) - length + 1 for letters, _ in regions]).clip(0)
    place = int(generator.integers(starts.sum()))
    region = int(np.searchsorted(starts.cumsum(), place, side="right"))
    return region, place - int(starts[:region].sum())


def cut(generator: np.random.Generator, regions: list[Region], length: int) -> str:
    """A stretch of `length` letters, every possible one equally likely."""
    region, start = _place(generator, regions, length)
    return regions[region][0][start : start + length]
