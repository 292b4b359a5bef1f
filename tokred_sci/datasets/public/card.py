"""What is known about a public dataset (a card), where its files lie once fetched, and how records are picked."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from tokred_sci.datasets.archive import unpack
from tokred_sci.datasets.fetch import hash_of
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError, InputError

PARTS = ("train", "dev", "test")  # of our own splits


@dataclass(frozen=True, slots=True)
class File:
    """One public file: its name here, its addresses ("" = none: it is put there by hand), its published hash."""

    name: str
    url: str
    mirrors: tuple[str, ...] = ()
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Citation:
    """The paper or page to cite."""

    authors: str
    year: int
    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """A published number; `verified` = read in the authors' own file, else from memory: check before printing it."""

    model: str
    metric: str
    value: str
    source: str
    verified: bool = True


@dataclass(frozen=True, slots=True)
class Home:
    """The fetched files of one set on this disk."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def unpacked(self, name: str) -> Path:
        """The folder of an archive's content, made at the first call; named by the hash, so never of another file."""
        target = self.place(name)
        try:
            return target if target.is_dir() else unpack(self.path(name), target)
        except FileError:
            if target.is_dir():  # another process was faster
                return target
            raise

    def place(self, name: str) -> Path:
        """Where the archive is, or would be, unpacked."""
        return self.folder / f"{name.split('.')[0]}.{hash_of(self.path(name))[:12]}"


@dataclass(frozen=True, slots=True)
class Card:
    """All that is known about one public dataset; `load` reads its fetched files.

    Args:
        name: "family/variant", or the family alone.
        domain: "dna", "points" or "series".
        task: what is to be predicted, in one line.
        files: what to fetch, into <data folder>/<family>.
        splits: names of its parts, in order; () = there is one whole.
        split_rule: who made the split, and how.
        by_hand: what to do where no address can be fetched by a program.
        checked: the addresses were found in public code or documents of others; they were never tried by us.
        tested: what its loader was run on.
        load: (Home, split or None = all parts) -> Records.
    """

    name: str
    domain: str
    title: str
    task: str
    files: tuple[File, ...]
    licence: str
    citation: Citation
    load: Callable[[Home, str | None], Records] = field(repr=False)
    homepage: str = ""
    splits: tuple[str, ...] = ()
    split_rule: str = "none: one whole"
    baselines: tuple[Baseline, ...] = ()
    by_hand: str = ""
    checked: bool = True
    tested: str = "made-up files in the documented layout"

    @property
    def family(self) -> str:
        return self.name.partition("/")[0]


def file(family: str, name: str, url: str, *mirrors: str) -> File:
    """A file with its hash and size, where the same file was at hand (SHA256SUMS beside this module)."""
    sha256, size = known_files().get(f"{family}/{name}", (None, None))
    return File(name, url, mirrors, sha256, size)


@cache
def known_files() -> dict[str, tuple[str, int | None]]:
    """Family and file name -> SHA-256 and size of the files that were at hand."""
    lines = (resources("tokred_sci.datasets.public") / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return {name: (sha256, None if size == "-" else int(size)) for sha256, size, name in rows}


# Records


def pick(records: Records, chosen: Iterable[int]) -> Records:
    """These records, in this order.

    Example:
        >>> pick(Records("dna", ["A", "C", "G"], labels=[0, 1, 2]), [2, 0]).records
        ['G', 'A']
    """
    rows = list(chosen)

    def of(values: Any) -> Any:
        return None if values is None else [values[i] for i in rows]

    return replace(
        records,
        records=of(records.records),
        labels=of(records.labels),
        names=tuple(of(records.names or None) or ()),
        groups=tuple(of(records.groups or None) or ()),
        times=of(records.times),
    )


def join(parts: Sequence[Records], **more: Any) -> Records:
    """All records of the parts, one after the other; what is said of the whole is taken from the first.

    Example:
        >>> join([Records("dna", ["A"], labels=[0]), Records("dna", ["C"], labels=[1])], source="both").labels
        [0, 1]
    """

    def of(name: str) -> list[Any] | None:
        columns = [getattr(part, name) for part in parts]
        known = all(c is not None and (len(c) or name in ("records", "labels", "times")) for c in columns)
        return [value for column in columns for value in column] if known else None

    return replace(
        parts[0],
        records=of("records") or [],
        labels=of("labels"),
        names=tuple(of("names") or ()),
        groups=tuple(of("groups") or ()),
        times=of("times"),
        **more,
    )


def seeded_split(classes: Sequence[Any], groups: Sequence[str]) -> dict[str, list[int]]:
    """Our published split: seed 0, 80 % train, 10 % dev, 10 % test of every class, and no group in two parts.

    Law: it depends on the classes and groups alone, not on a library's random numbers: the groups of a class (that
    of most of their records) are ordered by SHA-256 of "0:group" and cut at the record nearest to each share.

    Args:
        classes: for each record what to stratify by.
        groups: for each record what must stay together; a record that stands alone has a group of its own.

    Example:
        >>> parts = seeded_split([0] * 10 + [1] * 10, [str(i) for i in range(20)])
        >>> {name: len(rows) for name, rows in parts.items()}
        {'train': 16, 'dev': 2, 'test': 2}
    """
    members: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    by_class: dict[Any, list[str]] = defaultdict(list)
    for group, rows in members.items():
        counts = Counter(classes[row] for row in rows)
        by_class[min(counts, key=lambda c: (-counts[c], str(c)))].append(group)
    parts: dict[str, list[int]] = {name: [] for name in PARTS}
    for ordered in by_class.values():
        ordered.sort(key=lambda group: hashlib.sha256(f"0:{group}".encode()).digest())
        total, done = sum(len(members[group]) for group in ordered), 0
        for group in ordered:
            middle = (done + len(members[group]) / 2) / total
            done += len(members[group])
            parts["train" if middle < 0.8 else "dev" if middle < 0.9 else "test"].extend(members[group])
    return {name: sorted(rows) for name, rows in parts.items()}


def ours(records: Records, split: str | None) -> Records:
    """The part of our seeded split; equal sequences stay together where no groups are known."""
    if split is None:
        return records
    if records.groups:
        groups: Sequence[str] = records.groups
    elif records.domain == "dna":
        groups = [sequence.upper() for sequence in records.records]
    else:
        groups = [str(row) for row in range(len(records.records))]
    return pick(records, seeded_split(records.labels, groups)[split])


def in_order(records: Records, split: str | None, shares: Mapping[str, tuple[int, int]]) -> Records:
    """One long series, cut in time: `shares` says from which to which step each part goes."""
    if split is None:
        return records
    start, stop = shares[split]
    if stop > records.records[0].shape[-1]:
        raise InputError(f"Expected a series of {stop:,} steps (got {records.records[0].shape[-1]:,}): fetch it again.")
    times = None if records.times is None else [records.times[0][start:stop]]
    labels = None if records.labels is None else [records.labels[0][start:stop]]
    return replace(records, records=[records.records[0][..., start:stop]], labels=labels, times=times)


OURS = "ours: stratified by class, 80/10/10, seed 0, no group in two parts (`seeded_split`)"


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder, by name."""
    if not folder.is_dir():
        raise FileError(f"Expected a folder (got nothing at {folder}): the archive has another layout; fetch it again.")
    return sorted(path for path in folder.iterdir() if path.is_dir())
