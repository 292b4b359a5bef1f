"""Records on their way to tokens: cut, split, chosen, and clouds with the points and channels that were asked for."""

import hashlib
import io
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tokred_sci.datasets.fetch import data_folder
from tokred_sci.datasets.public.card import pick, seeded_split
from tokred_sci.datasets.records import Records
from tokred_sci.errors import InputError
from tokred_sci.tokenizers.heat import heat_signatures
from tokred_sci.tokenizers.heights import heights
from tokred_sci.training.checkpoint import write_file

PARTS = ("train", "valid", "test")
HEAT = 2  # raise it when `heat_signatures` of a cloud change: those that were kept are no longer read


class Piece(NamedTuple):
    """A record, what there is to know about it, and what it must not be parted from by a split."""

    record: Any
    label: Any
    group: str


def cut(records: Records, length: int | None) -> list[Piece]:
    """Records as pieces of at most this length."""
    labels = records.labels if records.labels is not None else [None] * len(records.records)
    groups = records.groups or tuple(map(str, range(len(records.records))))
    pieces = []
    for record, label, group in zip(records.records, labels, groups, strict=True):
        if length is None:
            pieces.append(Piece(record, label, group))
            continue
        for rows in _rows(records.domain, record, length):
            part = record[:, rows] if records.domain == "series" else record[rows]
            own = label if np.ndim(label) == 0 else label[rows]
            pieces.append(Piece(part, own, group))
    return pieces


def _rows(domain: str, record: Any, length: int) -> list[Any]:
    """Which elements make which piece: neighbours in a sequence, in space for a cloud."""
    if domain != "points":
        total = len(record) if domain == "dna" else record.shape[-1]
        return [slice(start, min(start + length, total)) for start in range(0, total, length)]
    pieces, rest = [], [np.arange(len(record))]
    while rest:
        rows = rest.pop()
        if len(rows) <= length:
            pieces.append(np.sort(rows))
            continue
        places = record[rows, :3]
        order = rows[np.argsort(places[:, np.ptp(places, 0).argmax()], kind="stable")]
        rest += [order[len(order) // 2 :], order[: len(order) // 2]]
    return pieces


def split(pieces: list[Piece], in_order: bool, test: bool = True) -> dict[str, list[Piece]]:
    """80 % to train on, 10 % to validate, 10 % to test (or 90 and 10): by group, or each group cut in this order."""
    groups = [piece.group for piece in pieces]
    if not in_order and len(set(groups)) >= 5:
        classes = [piece.label if np.ndim(piece.label) == 0 else 0 for piece in pieces]
        found = seeded_split(classes, groups)
        parts = {"train": found["train"], "valid": found["dev"], "test": found["test"]}
    else:
        parts = {name: [] for name in PARTS}
        for group in dict.fromkeys(groups):
            rows = [row for row, name in enumerate(groups) if name == group]
            for place, row in enumerate(rows):
                share = (place + 0.5) / len(rows)
                parts["train" if share < 0.8 else "valid" if share < 0.9 else "test"].append(row)
    if not test:
        parts = {"train": sorted(parts["train"] + parts["test"]), "valid": parts["valid"]}
    return {name: [pieces[row] for row in rows] for name, rows in parts.items()}


def only(records: Records, start: str) -> Records:
    """Records whose name begins so.

    Raises:
        InputError: there is none.
    """
    rows = [row for row, name in enumerate(records.names) if name.startswith(start)]
    if not rows:
        names = ", ".join(dict.fromkeys(name[: name.find("/") + 1] or name for name in records.names[:999]))
        raise InputError(
            f"Expected 'data.only' as the start of records' names (got {start!r}): {names[:300] or 'none'}."
        )
    return pick(records, rows)


def with_classes(records: Records, train: Records, source: str) -> Records:
    """Records whose labels are numbers of the training part's classes, by name; label -1 stays.

    Raises:
        InputError: a class that the training part does not have, or names in only one of both.
    """
    if records.classes == train.classes or records.labels is None or train.labels is None:
        return records
    if not (records.classes and train.classes):
        raise InputError(
            f"Expected names of classes both in the training part and in {source}, or in none (got "
            f"{', '.join(train.classes[:9]) or 'numbers'} and {', '.join(records.classes[:9]) or 'numbers'}): one "
            "number may mean two classes. Take data of one format."
        )
    used = {records.classes[place] for label in records.labels for place in np.unique(label) if place >= 0}
    if strange := sorted(used - set(train.classes)):
        raise InputError(
            f"Expected classes of the training part in {source}: {', '.join(train.classes[:20])} (got "
            f"{', '.join(strange[:20])}): leave such records out, or train on data that have them."
        )
    number = {name: place for place, name in enumerate(train.classes)}
    numbers = np.array([*(number.get(name, -1) for name in records.classes), -1])  # the last is that of label -1
    return replace(records, labels=[numbers[label] for label in records.labels], classes=train.classes)


def hold(parts: dict[str, list[Piece]], group: str) -> dict[str, list[Piece]]:
    """One group is the test part, all other records can be trained on.

    Raises:
        InputError: no such group, or no other.
    """
    pieces = [piece for some in parts.values() for piece in some]
    found = {"train": [p for p in pieces if p.group != group], "test": [p for p in pieces if p.group == group]}
    if not all(found.values()):
        names = ", ".join(sorted({piece.group for piece in pieces})[:9])
        raise InputError(f"Expected 'data.hold' as one of several groups of the records (got {group!r}): {names}.")
    return found


def limit(pieces: list[Piece], most: int | None, seed: int) -> list[Piece]:
    """At most so many, drawn by a seed, in their order."""
    if most is None or len(pieces) <= most:
        return pieces
    chosen = np.random.default_rng(seed).permutation(len(pieces))[:most]
    return [pieces[place] for place in sorted(chosen.tolist())]


def with_places(cloud: np.ndarray) -> np.ndarray:
    """A cloud (n, channels) with its coordinates, from their mean, as three more channels."""
    return np.concatenate([cloud, cloud[:, :3] - cloud[:, :3].mean(0)], 1)


def with_heights(records: Records, widths: tuple[float, ...]) -> Records:
    """Clouds (n, channels) with the arcsinh of `heights` as more channels: a kerb counts beside a church."""
    clouds = [np.concatenate([cloud, np.arcsinh(heights(cloud, widths))], 1) for cloud in records.records]
    return replace(records, records=clouds)


def with_heat(cloud: np.ndarray, count: int) -> np.ndarray:
    """A cloud (n, channels) with its heat signatures at so many times as more channels.

    Raises:
        InputError: as of `tokred_sci.tokenizers.heat.heat_signatures`.
    """
    return np.concatenate([cloud, heat_signatures(cloud, count).astype(np.float32)], 1)


def mapped(pieces: list[Piece], clouds: Iterable[np.ndarray]) -> list[Piece]:
    """Pieces with other records in their place."""
    return [piece._replace(record=cloud) for piece, cloud in zip(pieces, clouds, strict=True)]


def heated(pieces: list[Piece], count: int) -> list[Piece]:
    """Pieces with heat signatures: those of the same clouds from before, or computed and kept."""
    from tqdm import tqdm

    clouds = [piece.record for piece in pieces]
    digest = hashlib.sha256(f"{HEAT} {count}".encode())
    for cloud in clouds:
        digest.update(cloud[:, :3].astype(np.float64).tobytes())
        digest.update(str(len(cloud)).encode())
    path = data_folder() / "heat" / f"{digest.hexdigest()[:32]}.npy"
    try:
        kept = np.load(path, allow_pickle=False)
    except (OSError, ValueError):  # not there, or damaged
        kept = np.concatenate([heat_signatures(c, count) for c in tqdm(clouds, "heat signatures", disable=None)])
        content = io.BytesIO()
        np.save(content, kept.astype(np.float32))
        with suppress(OSError):  # where they cannot be kept, they are computed each time
            write_file(path, content.getvalue())
    channels = np.split(kept.astype(np.float32), np.cumsum([len(cloud) for cloud in clouds])[:-1])
    return mapped(pieces, (np.concatenate(pair, 1) for pair in zip(clouds, channels, strict=True)))


def thin(pieces: list[Piece], points: int, draws: int, seed: int) -> list[Piece]:
    """Of each cloud so many of its points, in their order, drawn anew so many times."""
    random, found = np.random.default_rng(seed), []
    for piece in pieces:
        total = len(piece.record)
        for _ in range(draws):
            rows = np.sort(random.permutation(total)[:points])
            label = piece.label if piece.label is None or np.ndim(piece.label) == 0 else piece.label[rows]
            found.append(piece._replace(record=piece.record[rows], label=label))
    return found
