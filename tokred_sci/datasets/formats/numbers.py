"""What readers of series in text share: lines and numbers, with the line to blame."""

import os
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tokred_sci.datasets.files import read_bytes, wrong
from tokred_sci.errors import FileError

NUMBER = re.compile(r"\s*(?:[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?nan)\s*", re.ASCII | re.IGNORECASE)


def floats(fields: Sequence[str], missing: Sequence[str], fail: Callable[[int, str], FileError]) -> np.ndarray:
    """Text to float64, NaN for what stands in `missing`; raises `fail(index, text)` for what is no finite number."""
    text = "".join(fields)
    if text.isascii() and "_" not in text:  # float() takes both more digits than ours and 1_000
        try:
            values = np.array([np.nan if field in missing else float(field) for field in fields], np.float64)
            if not np.isinf(values).any():
                return values
        except ValueError:
            pass
    for index, field in enumerate(fields):
        if field not in missing and not (NUMBER.fullmatch(field) and not np.isinf(float(field))):
            raise fail(index, field)
    return np.array([np.nan if field in missing else float(field) for field in fields], np.float64)


def text_lines(path: str | os.PathLike, comments: tuple[bytes, ...] = ()) -> Iterator[tuple[int, str]]:
    """Lines that hold something, numbered from 1. Comments are not decoded: real archives have stray bytes there."""
    for number, raw in enumerate(read_bytes(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        raw = raw.strip(b" \r")
        if not raw.strip() or raw.lstrip().startswith(comments):
            continue
        try:
            yield number, raw.decode()
        except UnicodeDecodeError as error:
            got = f"byte {raw[error.start]:#04x} at character {error.start}"
            raise wrong(path, f"line {number}", "UTF-8 text", got, "save the file as UTF-8") from error


def shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def class_order(name: str) -> tuple[int, float, str]:
    return (0, float(name), name) if NUMBER.fullmatch(name) else (1, 0.0, name)


def named(name: str, unit: str = "") -> str:
    return name if not unit and re.search(r"\(.+\)$", name) else f"{name} ({unit or '?'})"
