"""From a name to records: find the card, fetch and check its files, load them."""

import difflib
import os
from functools import cache
from pathlib import Path
from types import MappingProxyType

from tokred_sci.datasets.archive import differing
from tokred_sci.datasets.fetch import LOCK, data_folder, fetch
from tokred_sci.datasets.fetch import verify as state_of
from tokred_sci.datasets.public import dna, scenes, series, shapes
from tokred_sci.datasets.public.card import Card, File, Home
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FetchError, InputError

OPEN = {"ucr": (series.is_ucr, series.ucr), "genome": (dna.is_accession, dna.genome)}  # families with more names


@cache
def _all() -> MappingProxyType[str, Card]:
    return MappingProxyType({card.name: card for room in (dna, shapes, scenes, series) for card in room.cards()})


def cards() -> dict[str, Card]:
    """All cards by name; any "ucr/NAME" and "genome/ACCESSION" beyond these is found too.

    Example:
        >>> cards()["gue/tf0"].splits
        ('train', 'dev', 'test')
    """
    return dict(_all())


def find(name: str) -> Card:
    """The card of this name.

    Raises:
        InputError: there is none; the nearest name is given, or those of the family.

    Example:
        >>> find("genome/NC_012920").files[0].name
        'NC_012920.gb'
        >>> find("gue/tf9")
        Traceback (most recent call last):
        tokred_sci.errors.InputError: Expected a public dataset (got 'gue/tf9'): did you mean 'gue/tf4'? ...
    """
    if isinstance(name, str) and name in _all():
        return _all()[name]
    family, _, variant = str(name).partition("/")
    if family in OPEN and OPEN[family][0](variant):
        return OPEN[family][1](variant)
    those = [known for known in _all() if known.startswith(f"{family}/")]
    if those and not variant:
        hint = f"'{family}' is a family; name one of {', '.join(those[:6])}{', ...' if those[6:] else ''}."
    else:
        near = difflib.get_close_matches(str(name), [*_all()], 1, 0)
        hint = f"did you mean {near[0]!r}?"
    raise InputError(f"Expected a public dataset (got {name!r}): {hint} All names: `tokred data list`.")


def fetch_set(name: str | Card, folder: str | os.PathLike | None = None, progress: bool = True) -> Path:
    """All files of a set, fetched if they are not there, and checked; files that are there are never changed.

    Args:
        name: as in `cards`, or a card.
        folder: the data folder; None = `$TOKRED_DATA_HOME`, else the user's cache.

    Returns:
        the folder of the set's family.

    Raises:
        FetchError: a file could not be fetched, or must be put there by hand; how is said.
        InputError: no such set.
    """
    card, home = _card(name), data_folder(folder)
    for file in card.files:
        path = home / card.family / file.name
        urls = _addresses(card, file)
        if not urls and not path.exists():
            raise _by_hand_only(card, file, path)
        fetch(urls, path, file.sha256, file.size, lock=home / LOCK, by_hand=_by_hand(card, file), progress=progress)
    return home / card.family


def load(name: str | Card, split: str | None = None, folder: str | os.PathLike | None = None) -> Records:
    """A public dataset as records, fetched first if it is not on this disk.

    Law: the same files and split give the same records, in the same order, on every machine. Nothing is left out or
    repaired in silence.

    Args:
        name: "gue/tf0", "ucr/FordA", "genome/NC_000913", ...: see `cards`; or a card.
        split: one of the card's splits; None = the whole, parts in order.
        folder: the data folder; None = `$TOKRED_DATA_HOME`, else the user's cache.

    Raises:
        InputError: no such set or split.
        FetchError: a file could not be fetched or is not what was promised.
        FileError: a file does not hold what its format promises.
        MissingExtra: a reader needs a package that is not installed.
    """
    card = _card(name)
    if split is not None and split not in card.splits:
        known = ", ".join(repr(part) for part in card.splits) or "no parts: leave 'split' out"
        raise InputError(f"Expected a split of {card.name!r} (got {split!r}): it has {known}.")
    return card.load(Home(fetch_set(card, folder)), split)


def verify(name: str | Card, folder: str | os.PathLike | None = None) -> list[tuple[str, str]]:
    """State of each file of a set, without a download: "good", "changed", "absent", or "unknown" (no hash yet).

    What was unpacked from an archive is compared with the archive, byte for byte, and listed as "NAME/" .
    """
    card, home = _card(name), data_folder(folder)
    found = []
    for file in card.files:
        path = home / card.family / file.name
        found.append((file.name, state_of(path, file.sha256, lock=home / LOCK)))
        if found[-1][1] != "absent" and (there := Home(path.parent).place(file.name)).is_dir():
            found.append((f"{there.name}/", "changed" if differing(path, there) else "good"))
    return found


def _card(name: str | Card) -> Card:
    return name if isinstance(name, Card) else find(name)


def _addresses(card: Card, file: File) -> tuple[str, ...]:
    mirror = os.environ.get("TOKRED_DATA_MIRROR", "").rstrip("/")
    if mirror:
        return (f"{mirror}/{card.family}/{file.name}",)
    return (file.url, *file.mirrors) if file.url else ()


def _by_hand_only(card: Card, file: File, path: Path) -> FetchError:
    known = f"SHA-256 {file.sha256}" if file.sha256 else "no hash is published"
    return FetchError(
        f"Expected {file.name} of {card.name!r} (got nothing at {path}): it is fetched by people only, from "
        f"{card.homepage} ({known}).\nBy hand: {card.by_hand}\n  and put it at {path}\n"
        "  or set TOKRED_DATA_MIRROR to a server or folder that has it; then call again."
    )


def _by_hand(card: Card, file: File) -> str:
    near = ""
    if card.family in OPEN and card.name not in _all():
        near = f" ({card.name!r} is not among the names known here; the nearest is {_nearest(card.name)!r})"
    return (card.by_hand or f"download {file.url}") + near


def _nearest(name: str) -> str:
    return difflib.get_close_matches(name, [*_all()], 1, 0)[0]
