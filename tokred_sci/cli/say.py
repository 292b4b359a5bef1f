"""What commands share: facts as text or as JSON, and values as they come from a shell."""

import json
import math
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any

import typer

from tokred_sci.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Of the tokenizer, as patch=16 (repeat for more).", metavar="NAME=VALUE"),
]
Reading = Annotated[
    list[str] | None,
    typer.Option("--read", help="Of the files' reader, as label=classification (repeat).", metavar="NAME=VALUE"),
]


def tell(facts: Any, text: str | Callable[[], str], as_json: bool) -> None:
    """Print facts as JSON, or what people read."""
    if as_json:
        typer.echo(json.dumps(plain(facts), indent=1, allow_nan=False))
    else:
        typer.echo(text if isinstance(text, str) else text())


def plain(value: Any) -> Any:
    """Anything as values that JSON has; a number that is none, and what has no form of its own, become null or text.

    Example:
        >>> plain({"a": (1, float("nan")), 2: "x"})
        {'a': [1, None], '2': 'x'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def pairs(texts: list[str] | None) -> dict[str, Any]:
    """Settings as a dictionary; values as TOML would read them, else as text.

    Example:
        >>> pairs(["patch=16", "scheme=kmer"])
        {'patch': 16, 'scheme': 'kmer'}
    """
    found = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"Expected name=value (got {text!r}).")
        found[name] = scalar(value)
    return found


def scalar(text: str) -> Any:
    """A value as TOML would read it, else the text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def bar(what: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """A bar on stderr, where that is a terminal."""
    from tqdm import tqdm

    return lambda items: tqdm(items, desc=what, leave=False, disable=None, file=sys.stderr)
