"""The table of reduction methods, read from their docstrings: what `tokred methods` prints and README shows."""

import inspect
import re
from dataclasses import dataclass

from tokred_sci.experiment import LEARNED, REDUCTIONS


@dataclass(frozen=True)
class Method:
    """One row. Every method's docstring has a first line, a line of facts, and (but for controls) a reference."""

    name: str
    what: str
    reach: str
    order: str
    count: str
    cost: str
    reference: str
    url: str
    file: str


def methods() -> list[Method]:
    """All methods, in the order of `REDUCTIONS`, learned ones last.

    Example:
        >>> row = {method.name: method for method in methods()}["links"]
        >>> row.reach, row.order, row.count, row.reference
        ('local', 'kept', 'exact', 'Gower & Ross, 1969')
    """
    return [_row(name, entry) for name, entry in {**REDUCTIONS, **LEARNED}.items()]


def as_text(rows: list[Method]) -> str:
    """One line per method, for a terminal."""
    cells = [(row.name, row.reach, row.order, row.count, row.reference, row.what) for row in rows]
    cells.insert(0, ("name", "reach", "order", "groups", "reference", "what it does"))
    widths = [max(len(cell[i]) for cell in cells) for i in range(5)]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(cell, widths, strict=False)), cell[5]]).rstrip() for cell in cells]
    return "\n".join(lines)


def as_markdown(rows: list[Method]) -> str:
    """The table of README.md."""
    lines = ["| name | what it does | reach | order | groups | cost | reference | file |", "|" + "---|" * 8]
    for row in rows:
        reference = f"[{row.reference}]({row.url})" if row.url else row.reference
        cells = (f"`{row.name}`", row.what, row.reach, row.order, row.count, row.cost, reference, f"`{row.file}`")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _row(name: str, entry: object) -> Method:
    text = inspect.cleandoc(entry.__doc__ or "")
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n|\n(?=[A-Z][a-z]+: )", text)]
    facts = _after("Facts: ", paragraphs).rstrip(".").split("; ")
    reference = _after("Reference: ", paragraphs) or _after("References: ", paragraphs)
    cited = re.search(r"\(([^()]*, \d{4})\)|(\w[\w. &-]*, \d{4})", reference)
    url = re.search(r"https?://[^\s,;]+", reference)
    return Method(
        name,
        paragraphs[0].rstrip("."),
        facts[0],
        facts[1].removeprefix("order "),
        facts[2].removeprefix("count "),
        "; ".join(facts[3:]).replace("^2", "²"),
        next(filter(None, cited.groups())) if cited else "control",
        url[0].rstrip(".").replace("(", "%28").replace(")", "%29") if url else "",
        inspect.getmodule(entry).__name__.removeprefix("tokred_sci.").replace(".", "/") + ".py",  # type: ignore[union-attr]
    )


def _after(start: str, paragraphs: list[str]) -> str:
    return next((part.removeprefix(start) for part in paragraphs if part.startswith(start)), "")
