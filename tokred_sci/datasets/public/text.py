"""What the command line and the documents say of the public datasets."""

import os
import textwrap
from collections.abc import Iterator

from tokred_sci.datasets.public.card import Baseline, Card, File
from tokred_sci.datasets.public.catalog import OPEN, cards, fetch_set, find, verify


def list_text(domain: str | None = None) -> str:
    """The families, or those of one domain, one line each, with what they are and how many sets they have."""
    lines = []
    for family, those in _families():
        if domain in (None, those[0].domain):
            more = f" ({len(those)} sets{', and any other' if family in OPEN else ''})" if len(those) > 1 else ""
            lines.append(f"{those[0].domain:7} {those[0].name:50} {those[0].title}{more}")
    return "\n".join(lines)


def info_text(name: str) -> str:
    """A card in words."""
    card = find(name)
    rows = [
        ("task", card.task),
        ("domain", card.domain),
        ("splits", f"{', '.join(card.splits) or 'none'} ({card.split_rule})"),
        ("licence", card.licence),
        ("cite", f"{card.citation.authors} {card.citation.year}, {card.citation.title}, {card.citation.url}"),
        ("homepage", card.homepage),
        ("addresses", "found in public code, not tried by us" if card.checked else "from memory, not checked"),
        ("loader", f"tested on {card.tested}"),
        ("by hand", card.by_hand),
        *(("published", _baseline(baseline)) for baseline in card.baselines),
        *(("file", _file(file)) for file in card.files[:6]),
        *([("", f"and {len(card.files) - 6} more files")] if card.files[6:] else []),
    ]
    body = (textwrap.indent(f"{key:11}{value}", "  ") for key, value in rows if value)
    return "\n".join([f"{card.name}: {card.title}", *body])


def fetch_text(name: str, folder: str | os.PathLike | None = None) -> str:
    """Fetch a set, and say where it is."""
    return f"{name}: {len(find(name).files)} file(s), checked, in {fetch_set(name, folder)}"


def verify_text(name: str, folder: str | os.PathLike | None = None) -> str:
    """The state of a set's files, one line each."""
    return "\n".join(f"{state:8} {find(name).family}/{file}" for file, state in verify(name, folder))


def cards_markdown() -> str:
    """docs/datasets.md, whole."""
    return "\n".join([_HEAD, *(_family_markdown(family, those) for family, those in _families())])


_HEAD = """# Public datasets by name

<!-- Made by `python -c "from tokred_sci.datasets.public import cards_markdown as m; print(m(), end='')"`. -->

`tokred data list`, `tokred data info NAME`, `tokred data fetch NAME`, `tokred data verify NAME`; in Python
`load("gue/tf0", split="train")` from `tokred_sci.datasets.public`. Files go to `$TOKRED_DATA_HOME`, else to the
user's cache, as `<family>/<file>`. A file with a published hash is checked against it; any other is trusted on first
use, and its hash recorded in `tokred.lock.json`. Behind a firewall, set `TOKRED_DATA_MIRROR` to a server or a `file://`
folder: every file is then asked for as `MIRROR/<family>/<file>`. None of the addresses was tried from where this was
written; those "from memory" were not seen in anyone's code either. Numbers marked "unverified" are from memory.
"""


def _families() -> Iterator[tuple[str, list[Card]]]:
    by_family: dict[str, list[Card]] = {}
    for card in cards().values():
        by_family.setdefault(card.family, []).append(card)
    yield from by_family.items()


def _family_markdown(family: str, those: list[Card]) -> str:
    one = those[0]
    lines = [
        f"## {family}",
        "",
        f"{one.title} ({one.domain}). {one.citation.authors} {one.citation.year}, "
        f"[{one.citation.title}]({one.citation.url}).",
        "",
        f"- Home: {one.homepage}",
        f"- Licence: {_each(those, [card.licence for card in those])}",
        f"- Splits: {_each(those, [', '.join(c.splits) + ': ' * bool(c.splits) + c.split_rule for c in those])}",
        f"- Addresses: {'found in public code' if one.checked else 'from memory'}; "
        f"hashes published here for {sum(bool(f.sha256) for f in _files(those))} of {len(_files(those))} files",
        f"- Loader tested on: {_each(those, [card.tested for card in those])}",
        *([f"- By hand: {_each(those, [card.by_hand for card in those])}"] if one.by_hand else []),
        "",
        *_variants(family, those),
    ]
    return "\n".join(lines)


def _files(those: list[Card]) -> list[File]:
    return list({file.name: file for card in those for file in card.files}.values())


def _each(those: list[Card], texts: list[str]) -> str:
    """One text for all, or each text with the sets it is for."""
    groups: dict[str, list[str]] = {}
    for card, text in zip(those, texts, strict=True):
        groups.setdefault(text, []).append(card.name.partition("/")[2])
    if len(groups) == 1:
        return texts[0]
    if len(groups) > 4:
        return f"{texts[0]} (and so on, by name)"
    return "; ".join(f"{text} ({_few(names)})" for text, names in groups.items())


def _few(names: list[str]) -> str:
    named = [name or "all" for name in names]
    return ", ".join(named) if len(named) < 8 else f"{named[0]}, {named[1]}, ... {named[-1]}: {len(named)} of them"


def _variants(family: str, those: list[Card]) -> list[str]:
    same = len({card.task for card in those}) == 1 and len(those) > 1
    if same:
        names = ", ".join(card.name.partition("/")[2] or "(all)" for card in those)
        numbers = [f"- {c.name}: {_baseline(b)}" for c in those for b in c.baselines]
        task = those[0].task[:1].upper() + those[0].task[1:]
        return [
            *textwrap.wrap(f"{task}. Sets: {names}.", 118, break_on_hyphens=False),
            "",
            *numbers,
            *([""] if numbers else []),
        ]
    rows = [f"| `{c.name}` | {c.task} | {'; '.join(map(_baseline, c.baselines))} |" for c in those]
    return ["| name | task | published |", "|---|---|---|", *rows, ""]


def _baseline(baseline: Baseline) -> str:
    return f"{baseline.model} {baseline.value} ({baseline.metric}{'' if baseline.verified else ', unverified'})"


def _file(file: File) -> str:
    size = f", {file.size:,} bytes" if file.size else ""
    known = f"SHA-256 {file.sha256}" if file.sha256 else "no published hash: trusted on first use"
    return f"{file.name}{size}, {known}; {' or '.join([file.url or 'by hand', *file.mirrors])}"
