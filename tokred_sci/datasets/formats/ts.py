"""The .ts files of aeon and sktime."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tokred_sci.datasets.files import guard, wrong
from tokred_sci.datasets.formats.arrays import unknown_channels
from tokred_sci.datasets.formats.numbers import floats, shown, text_lines
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError

TAGS = (
    *("problemname", "timestamps", "missing", "univariate", "dimensions"),
    *("equallength", "serieslength", "classlabel", "targetlabel"),
)


_PAIR = re.compile(r"\(([^(),]*),([^(),]*)\)")


_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Ts:
    stamps: bool
    classes: dict[str, int] | None
    target: bool
    channels: int | None
    length: int | None
    equal: bool | None
    missing: bool | None


def read_ts(path: str | os.PathLike) -> Records:
    """Series in the .ts format of aeon and sktime, with the classes in the order of the header.

    What the header says of dimensions, lengths, missing values and classes must hold in every line. Time stamps are
    numbers (seconds) or ISO dates without a zone (taken as UTC). The format has no count of its series, so that a file
    cut exactly between two lines cannot be told from a whole one.

    Args:
        path: a .ts file, plain or compressed. It is only read.

    Raises:
        FileError: a line that disagrees with the header or is no series; it is named.

    Reference:
        ".ts File Format" (aeon developers, 2022) https://www.aeon-toolkit.org/en/stable/api_reference/data_format.html

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> text = "@timeStamps false|@univariate true|@classLabel true up down|@data|1,2,?:up|3,2:down|"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "steps.ts"
        ...     _ = path.write_text(text.replace("|", "\\n"))
        ...     found = read_ts(path)
        >>> found
        Records(2 of series, classes: up, down)
        >>> found.records[0], found.labels
        (array([[ 1.,  2., nan]]), [0, 1])
    """
    lines = text_lines(path, (b"#", b"%"))
    header = _ts_header(path, lines)
    records: list[np.ndarray] = []
    labels: list[Any] = []
    times: list[np.ndarray] = []
    for number, line in lines:
        line = line.strip()
        if header.classes is not None or header.target:
            line, colon, label = line.rpartition(":")
            if not colon:
                raise wrong(path, f"line {number}", "values, ':' and a label", shown(label), "check for a cut line")
            labels.append(_ts_label(path, number, header, label.strip()))
        record, stamps = _ts_record(path, number, header, line)
        _ts_check(path, number, header, record, records)
        records.append(record)
        if stamps is not None:
            times.append(stamps)
    if not records:
        raise wrong(path, "after '@data'", "at least one series", "none", "check for a cut file")
    return Records(
        "series",
        records,
        labels or None,
        classes=tuple(header.classes or ()),
        channels=unknown_channels(len(records[0])),
        unit="seconds" if times else "time steps",
        source=Path(path).name,
        times=times or None,
    )


def _ts_header(path: str | os.PathLike, lines: Iterator[tuple[int, str]]) -> _Ts:
    tags: dict[str, tuple[int, str]] = {}
    for number, line in lines:
        tag, _, value = line.strip().partition(" ")
        name = tag.lower().removeprefix("@")
        name = "dimensions" if name == "dimension" else name
        if not tag.startswith("@") or name not in (*TAGS, "data"):
            remedy = "check the header: the series start after '@data'"
            raise wrong(path, f"line {number}", "one of the format's tags", shown(line), remedy)
        if name == "data":
            return _ts_meaning(path, tags)
        value = value.strip()
        if name != "problemname" and tags.get(name, (0, value))[1] != value:
            where = f"lines {tags[name][0]} and {number}"
            raise wrong(path, where, f"{tag} once", f"{shown(tags[name][1])} and {shown(value)}", "keep the right one")
        tags[name] = (number, value)
    raise wrong(path, "header", "a line '@data'", "the end of the file", "check for a cut file")


def _ts_meaning(path: str | os.PathLike, tags: dict[str, tuple[int, str]]) -> _Ts:
    def truth(name: str) -> bool | None:
        if name not in tags:
            return None
        number, value = tags[name]
        if value.lower() not in ("true", "false"):
            raise wrong(path, f"line {number}", f"true or false for '@{name}'", shown(value), "correct the header")
        return value.lower() == "true"

    def count(name: str) -> int | None:
        if name not in tags:
            return None
        number, value = tags[name]
        if not re.fullmatch(r"[0-9]{1,12}", value) or not int(value):
            raise wrong(path, f"line {number}", f"a count for '@{name}'", shown(value), "correct the header")
        return int(value)

    channels, alone = count("dimensions"), truth("univariate")
    if alone and channels not in (None, 1):
        where = f"line {tags['dimensions'][0]}"
        raise wrong(path, where, "1 dimension, as '@univariate' is true", str(channels), "correct the header")
    classes, target = _ts_classes(path, tags), bool(truth("targetlabel"))
    if target and classes is not None:
        where = f"line {tags['targetlabel'][0]}"
        raise wrong(path, where, "classes or a target", "both", "set one of '@classLabel', '@targetLabel' to false")
    equal = truth("equallength")
    length = None if equal is False else count("serieslength")
    channels = 1 if alone else channels
    return _Ts(bool(truth("timestamps")), classes, target, channels, length, equal, truth("missing"))


def _ts_classes(path: str | os.PathLike, tags: dict[str, tuple[int, str]]) -> dict[str, int] | None:
    number, value = tags.get("classlabel", (0, "false"))
    flag, *names = value.split() or [""]
    if flag.lower() == "false" and not names:
        return None
    if flag.lower() != "true" or not names or len(set(names)) < len(names):
        needed = "'@classLabel true' and each class once, or '@classLabel false'"
        raise wrong(path, f"line {number}", needed, shown(value), "correct the header")
    return {name: index for index, name in enumerate(names)}


def _ts_label(path: str | os.PathLike, number: int, header: _Ts, label: str) -> int | float:
    where = f"line {number}"
    if header.classes is None:
        return float(floats([label], (), lambda _, text: wrong(path, where, "a target", shown(text), "correct it"))[0])
    if label not in header.classes:
        known = ", ".join(list(header.classes)[:20])
        raise wrong(path, where, f"a class of the header ({known})", shown(label), "correct it or '@classLabel'")
    return header.classes[label]


def _ts_record(path: str | os.PathLike, number: int, header: _Ts, line: str) -> tuple[np.ndarray, np.ndarray | None]:
    def fail(index: int, text: str) -> FileError:
        return wrong(path, f"line {number}, value {index}", "a number or '?'", shown(text), "correct it")

    stamps = None
    rows: list[np.ndarray] = []
    for part in line.split("):(") if header.stamps else line.split(":"):
        fields = part.split(",")
        if header.stamps:
            pairs = _ts_pairs(path, number, part)
            fields, found = [value for _, value in pairs], _ts_seconds(path, number, [stamp for stamp, _ in pairs])
            if stamps is not None and not np.array_equal(stamps, found):
                remedy = "bring the dimensions to one clock"
                raise wrong(path, f"line {number}", "the same time stamps in every dimension", "others", remedy)
            stamps = found
        rows.append(floats([field.strip() for field in fields], ("?",), fail))
    if len({len(row) for row in rows}) > 1:
        got = ", ".join(str(len(row)) for row in rows)
        raise wrong(path, f"line {number}", "dimensions of one length", got, "pad them with '?'")
    return np.stack(rows), stamps


def _ts_pairs(path: str | os.PathLike, number: int, part: str) -> list[tuple[str, str]]:
    part = "(" + part.strip().removeprefix("(").removesuffix(")") + ")"
    pairs = _PAIR.findall(part)
    if not pairs or ",".join(f"({stamp},{value})" for stamp, value in pairs) != part.replace("), (", "),("):
        raise wrong(path, f"line {number}", "pairs '(time stamp,value)'", shown(part), "check '@timeStamps'")
    return pairs


def _ts_seconds(path: str | os.PathLike, number: int, stamps: list[str]) -> np.ndarray:
    def fail(index: int, text: str) -> FileError:
        needed = "a number, or a date like 2007-01-31 23:59:59"
        return wrong(path, f"line {number}, time stamp {index}", needed, shown(text), "rewrite the time stamps so")

    if _DATE.fullmatch(stamps[0]):
        for index, text in enumerate(stamps):
            if not _DATE.fullmatch(text):
                raise fail(index, text)
        with guard(path, f"line {number}", "dates that exist", "correct the time stamps"):
            seconds = np.array(stamps, "datetime64[us]").astype(np.int64) / 1e6
    else:
        seconds = floats(stamps, (), fail)
    if np.isnan(seconds).any() or (np.diff(seconds) <= 0).any():
        index = int(np.argmin(np.diff(seconds) > 0)) + 1 if len(seconds) > 1 else 0
        where = f"line {number}, time stamp {index}"
        raise wrong(path, where, "time stamps that increase", shown(stamps[index]), "sort them, drop repeats")
    return seconds


def _ts_check(path: str | os.PathLike, number: int, header: _Ts, record: np.ndarray, before: list[np.ndarray]) -> None:
    channels = header.channels or (len(before[0]) if before else len(record))
    if len(record) != channels:
        raise wrong(
            path, f"line {number}", f"{channels} dimensions", str(len(record)), "correct the line or the header"
        )
    length = header.length or (before[0].shape[1] if before and header.equal else record.shape[1])
    if record.shape[1] != length:
        remedy = "correct the line, or say '@equalLength false'"
        raise wrong(path, f"line {number}", f"{length} values in each dimension", str(record.shape[1]), remedy)
    if header.missing is False and np.isnan(record).any():
        got = f"{int(np.isnan(record).sum())} missing"
        raise wrong(path, f"line {number}", "no missing values", got, "say '@missing true' in the header")
