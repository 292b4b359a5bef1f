"""Readers of collections of series in text: .ts, ARFF, the UCR archive's tables; and which reader a file needs.

Arrays of NumPy and MATLAB are read by `arrays.py`, recordings with a clock (tables, EDF, WFDB) by `recordings.py`.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tokred_sci.datasets.arrays import guard, unknown_channels
from tokred_sci.datasets.arrays import read_mat as read_mat  # a series may come from any of them
from tokred_sci.datasets.arrays import read_series_npy as read_series_npy
from tokred_sci.datasets.files import read_bytes, wrong
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError

NUMBER = re.compile(r"\s*(?:[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?nan)\s*", re.ASCII | re.IGNORECASE)
_TS_TAGS = (
    *("problemname", "timestamps", "missing", "univariate", "dimensions"),
    *("equallength", "serieslength", "classlabel", "targetlabel"),
)
_PAIR = re.compile(r"\(([^(),]*),([^(),]*)\)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)?", re.ASCII)
_FIELD = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,'"]*)\s*(,|$)""")
_ATTRIBUTE = re.compile(r"""@attribute\s+('[^']*'|"[^"]*"|[^\s{]+)\s*(.+)""", re.IGNORECASE)


# What all readers share


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


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _class_order(name: str) -> tuple[int, float, str]:
    return (0, float(name), name) if NUMBER.fullmatch(name) else (1, 0.0, name)


# .ts


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
                raise wrong(path, f"line {number}", "values, ':' and a label", _shown(label), "check for a cut line")
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
        if not tag.startswith("@") or name not in (*_TS_TAGS, "data"):
            remedy = "check the header: the series start after '@data'"
            raise wrong(path, f"line {number}", "one of the format's tags", _shown(line), remedy)
        if name == "data":
            return _ts_meaning(path, tags)
        value = value.strip()
        if name != "problemname" and tags.get(name, (0, value))[1] != value:
            where = f"lines {tags[name][0]} and {number}"
            raise wrong(
                path, where, f"{tag} once", f"{_shown(tags[name][1])} and {_shown(value)}", "keep the right one"
            )
        tags[name] = (number, value)
    raise wrong(path, "header", "a line '@data'", "the end of the file", "check for a cut file")


def _ts_meaning(path: str | os.PathLike, tags: dict[str, tuple[int, str]]) -> _Ts:
    def truth(name: str) -> bool | None:
        if name not in tags:
            return None
        number, value = tags[name]
        if value.lower() not in ("true", "false"):
            raise wrong(path, f"line {number}", f"true or false for '@{name}'", _shown(value), "correct the header")
        return value.lower() == "true"

    def count(name: str) -> int | None:
        if name not in tags:
            return None
        number, value = tags[name]
        if not re.fullmatch(r"[0-9]{1,12}", value) or not int(value):
            raise wrong(path, f"line {number}", f"a count for '@{name}'", _shown(value), "correct the header")
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
        raise wrong(path, f"line {number}", needed, _shown(value), "correct the header")
    return {name: index for index, name in enumerate(names)}


def _ts_label(path: str | os.PathLike, number: int, header: _Ts, label: str) -> int | float:
    where = f"line {number}"
    if header.classes is None:
        return float(floats([label], (), lambda _, text: wrong(path, where, "a target", _shown(text), "correct it"))[0])
    if label not in header.classes:
        known = ", ".join(list(header.classes)[:20])
        raise wrong(path, where, f"a class of the header ({known})", _shown(label), "correct it or '@classLabel'")
    return header.classes[label]


def _ts_record(path: str | os.PathLike, number: int, header: _Ts, line: str) -> tuple[np.ndarray, np.ndarray | None]:
    def fail(index: int, text: str) -> FileError:
        return wrong(path, f"line {number}, value {index}", "a number or '?'", _shown(text), "correct it")

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
        raise wrong(path, f"line {number}", "pairs '(time stamp,value)'", _shown(part), "check '@timeStamps'")
    return pairs


def _ts_seconds(path: str | os.PathLike, number: int, stamps: list[str]) -> np.ndarray:
    def fail(index: int, text: str) -> FileError:
        needed = "a number, or a date like 2007-01-31 23:59:59"
        return wrong(path, f"line {number}, time stamp {index}", needed, _shown(text), "rewrite the time stamps so")

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
        raise wrong(path, where, "time stamps that increase", _shown(stamps[index]), "sort them, drop repeats")
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


# ARFF


@dataclass(frozen=True, slots=True)
class _Arff:
    outer: tuple[tuple[str, dict[str, int] | None], ...]  # (name, classes; None = numbers), "relational" apart
    inner: int | None  # values in each dimension of the relational attribute
    relational: int | None  # its place among the outer ones


def read_arff(path: str | os.PathLike) -> Records:
    r"""Series in Weka's ARFF as the UCR and UEA archives use it: one value an attribute, or one relational attribute.

    The one nominal attribute holds the class. Beside a relational attribute a single number is a target; without any
    nominal attribute all numbers are the series, and there are no labels.

    Args:
        path: an .arff file, plain or compressed. It is only read.

    Raises:
        FileError: a line that disagrees with the header, an unknown class, sparse rows, strings, dates; it is named.

    Reference:
        "Attribute-Relation File Format" (University of Waikato, 2008) https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> text = '''@relation two
        ... @attribute both relational
        ...   @attribute t0 numeric
        ...   @attribute t1 numeric
        ... @end both
        ... @attribute class {rest,move}
        ... @data
        ... '1,2\\n3,?',move
        ... '''
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "two.arff"
        ...     _ = path.write_text(text)
        ...     found = read_arff(path)
        >>> found.records[0], found.labels, found.classes
        (array([[ 1.,  2.],
               [ 3., nan]]), [1], ('rest', 'move'))
    """
    lines = text_lines(path, (b"%",))
    header = _arff_header(path, lines)
    label = _arff_label(path, header)
    classes = header.outer[label][1] if label is not None else None
    records: list[np.ndarray] = []
    labels: list[Any] = []
    for number, line in lines:
        fields = _arff_fields(path, number, line, len(header.outer))
        if label is not None:
            labels.append(_arff_answer(path, number, classes, _unquoted(fields.pop(label))))
        record = _arff_record(path, number, header, fields)
        if records and len(record) != len(records[0]):
            got = f"{len(record)}, before it {len(records[0])}"
            raise wrong(path, f"line {number}", "dimensions as before", got, "correct the line")
        records.append(record)
    if not records:
        raise wrong(path, "after '@data'", "at least one series", "none", "check for a cut file")
    return Records(
        "series",
        records,
        labels or None,
        classes=tuple(classes or ()),
        channels=unknown_channels(len(records[0])),
        unit="time steps",
        source=Path(path).name,
    )


def _arff_header(path: str | os.PathLike, lines: Iterator[tuple[int, str]]) -> _Arff:
    outer: list[tuple[str, dict[str, int] | None]] = []
    inner, open_, relational = 0, False, None
    for number, line in lines:
        line, where = line.strip(), f"line {number}"
        word = line.split()[0].lower()
        match = _ATTRIBUTE.fullmatch(line)
        if word == "@data" and not open_ and outer:
            return _Arff(tuple(outer), None if relational is None else inner, relational)
        if word == "@end" and open_:
            open_ = False
        elif match and match[2].strip().lower() == "relational" and relational is None:
            open_, relational = True, len(outer)
            outer.append((_unquoted(match[1]), None))
        elif match:
            classes = _arff_kind(path, where, match[2].strip())
            if open_ and classes is not None:
                raise wrong(path, where, "a numeric attribute in the relation", _shown(match[2]), "code it as numbers")
            inner += open_
            outer += [] if open_ else [(_unquoted(match[1]), classes)]
        elif word != "@relation":
            raise wrong(path, where, "@relation, @attribute, @end or @data", _shown(line), "check the header")
    raise wrong(path, "header", "attributes and a line '@data'", "the end of the file", "check for a cut file")


def _arff_kind(path: str | os.PathLike, where: str, kind: str) -> dict[str, int] | None:
    if kind.lower() in ("numeric", "real", "integer"):
        return None
    names = _split(kind[1:-1]) if kind.startswith("{") and kind.endswith("}") else None
    if not names or "" in names or len(set(names)) < len(names):
        needed = "numeric, real, integer, relational or {classes}"
        raise wrong(path, where, needed, _shown(kind), "leave strings and dates out, name each class once")
    return {_unquoted(name): index for index, name in enumerate(names)}


def _arff_label(path: str | os.PathLike, header: _Arff) -> int | None:
    nominal = [index for index, (_, classes) in enumerate(header.outer) if classes is not None]
    if header.relational is not None:
        nominal = [index for index in range(len(header.outer)) if index != header.relational]
    if len(nominal) > 1:
        names = ", ".join(header.outer[index][0] for index in nominal[:8])
        raise wrong(path, "header", "one attribute for the class", names, "keep one of them")
    if len(header.outer) == len(nominal) or header.inner == 0:
        raise wrong(path, "header", "numeric attributes for the series", "none", "check the header")
    return nominal[0] if nominal else None


def _split(line: str) -> list[str] | None:
    if "'" not in line and '"' not in line:
        return [field.strip() for field in line.split(",")]
    fields, place = [], 0
    while match := _FIELD.match(line, place):
        fields.append(match[1].strip())
        place = match.end()
        if not match[2]:
            return fields if place == len(line) else None
    return None


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _arff_fields(path: str | os.PathLike, number: int, line: str, count: int) -> list[str]:
    where = f"line {number}"
    if line.lstrip().startswith("{"):
        raise wrong(path, where, "one value for each attribute", "a sparse row", "write the file without sparse rows")
    fields = _split(line.strip())
    if fields is None:
        raise wrong(path, where, "quotes that close before a comma", _shown(line), "check for a cut line")
    if len(fields) != count:
        raise wrong(path, where, f"{count} values, one for each attribute", str(len(fields)), "check for a cut line")
    return fields


def _arff_answer(path: str | os.PathLike, number: int, classes: dict[str, int] | None, text: str) -> int | float:
    where = f"line {number}"
    if classes is None:
        return float(floats([text], (), lambda _, got: wrong(path, where, "a target", _shown(got), "correct it"))[0])
    if text not in classes:
        known = ", ".join(list(classes)[:20])
        raise wrong(path, where, f"a class of the header ({known})", _shown(text), "correct it or the header")
    return classes[text]


def _arff_record(path: str | os.PathLike, number: int, header: _Arff, fields: list[str]) -> np.ndarray:
    def fail(index: int, text: str) -> FileError:
        return wrong(path, f"line {number}, value {index}", "a number or '?'", _shown(text), "correct it")

    if header.relational is None:
        return floats(fields, ("?",), fail)[None]
    rows = [[field.strip() for field in row.split(",")] for row in re.split(r"\\n", _unquoted(fields[0]))]
    for row in rows:
        if len(row) != header.inner:
            needed = f"{header.inner} values in each dimension, as in the header"
            raise wrong(path, f"line {number}", needed, str(len(row)), "check for a cut line, pad with '?'")
    return np.stack([floats(row, ("?",), fail) for row in rows])


# The UCR archive's tables


def read_ucr(path: str | os.PathLike, classes: Sequence[str] | None = None, trim: bool = False) -> Records:
    """Series of a table as in the UCR archive, *_TRAIN.tsv: label first, then the values, separated by tabs or commas.

    Args:
        path: the table, plain or compressed. It is only read.
        classes: what label 0, 1, ... means: hand the training file's on to the test file. None = those in the file, in
            the order of numbers, then of text.
        trim: cut the NaN off that the archive pads shorter series with, at their ends only.

    Raises:
        FileError: rows of another length, text among the values, a class that is not in `classes`; the line is named.

    Reference:
        "The UCR Time Series Archive" (Dau et al., 2019) https://arxiv.org/abs/1810.07758

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "Steps_TRAIN.tsv"
        ...     _ = path.write_text("2\\t1.5\\t2.5\\tNaN\\n1\\t0\\t1\\t2\\n")
        ...     found = read_ucr(path, trim=True)
        >>> found.records[0], found.labels, found.classes
        (array([[1.5, 2.5]]), [1, 0], ('1', '2'))
    """
    names: list[str] = []
    places: list[int] = []
    records: list[np.ndarray] = []
    width = 0
    for number, line in text_lines(path):
        fields = line.split("\t" if "\t" in line else ",")
        width = width or len(fields)
        if len(fields) != width or width < 2:
            needed = f"a label and {max(width - 1, 1)} values"
            raise wrong(path, f"line {number}", needed, f"{len(fields)} fields", "pad shorter series with NaN")
        records.append(_ucr_values(path, number, fields[1:], trim)[None])
        names.append(_ucr_class(path, number, fields[0]))
        places.append(number)
    if not records:
        raise wrong(path, "line 1", "at least one series", "an empty file", "check for a cut file")
    order = tuple(sorted(set(names), key=_class_order) if classes is None else classes)
    for name, number in zip(names, places, strict=True):
        if name not in order:
            raise wrong(
                path, f"line {number}", f"a class of {order}", _shown(name), "correct it, or hand in all classes"
            )
    index = {name: place for place, name in enumerate(order)}
    labels = [index[name] for name in names]
    return Records(
        "series",
        records,
        labels,
        classes=order,
        channels=unknown_channels(1),
        unit="time steps",
        source=Path(path).name,
    )


def _ucr_class(path: str | os.PathLike, number: int, text: str) -> str:
    text = text.strip()
    if not text or text.lower() == "nan":
        raise wrong(path, f"line {number}", "a class first", _shown(text), "check for a cut line")
    if NUMBER.fullmatch(text) and abs(float(text)) < 1e15 and float(text) == int(float(text)):
        return str(int(float(text)))  # old files write 1 as 1.0000000e+00
    return text


def _ucr_values(path: str | os.PathLike, number: int, fields: list[str], trim: bool) -> np.ndarray:
    def fail(index: int, text: str) -> FileError:
        return wrong(path, f"line {number}, column {index + 2}", "a number or NaN", _shown(text), "correct it")

    values = floats([field.strip() for field in fields], ("?", ""), fail)
    if not trim:
        return values
    there = np.flatnonzero(~np.isnan(values))
    if not len(there):
        raise wrong(path, f"line {number}", "at least one value", f"{len(values)} missing", "drop the line")
    return values[: there[-1] + 1]


# Which reader


def detect(head: bytes, suffix: str) -> str | None:
    """The name of the reader for a file of series: "ts", "arff", "edf", "wfdb", "table", "parquet", "mat", or None.

    NPY and NPZ are not told apart here: they may hold points as well.

    Args:
        head: about the first 4,096 bytes, decompressed.
        suffix: the end of the file's name, as ".csv" (without ".gz").

    Example:
        >>> detect(b"@problemName ArrowHead\\n@data\\n", ".ts"), detect(b"ACGT\\nACGG\\n", ".txt")
        ('ts', None)
    """
    suffix = suffix.lower()
    if suffix == ".tsf":  # Monash forecasting: as .ts in looks, not in meaning
        return None
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"MATLAB 5.0 MAT-file") or suffix == ".mat":
        return "mat"
    if head.startswith(b"0       ") and re.fullmatch(rb"\d+ *", head[184:192]):
        return "edf"
    if b"\x00" in head:
        return None
    lines = [line.strip() for line in head.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]
    tag = next((line.lower() for line in lines if not line.startswith((b"#", b"%"))), b"")
    if suffix in (".hea", ".arff", ".ts") and (suffix == ".hea" or tag[:1] in (b"@", b"")):
        return {".hea": "wfdb", ".arff": "arff", ".ts": "ts"}[suffix] if lines else None
    if tag.startswith(b"@"):
        known = tuple(f"@{name}".encode() for name in _TS_TAGS)
        return "arff" if tag.startswith(b"@relation") else "ts" if tag.startswith(known) else None
    return "table" if suffix in (".csv", ".tsv", ".txt") and _is_table(lines, len(head)) else None


def _is_table(lines: list[bytes], size: int) -> bool:
    whole = lines[:-1] if size >= 4096 and len(lines) > 1 else lines
    text = [line.decode(errors="replace") for line in whole[:20]]
    rows = [re.split(r"[\t;|,]", line) for line in text]
    if all(len(row) == 1 for row in rows):
        rows = [line.split() for line in text]
    if not rows or len({len(row) for row in rows}) > 1:
        return False
    fields = [field.strip() for field in rows[-1]]
    letters = any(len(field) >= 20 and field.isalpha() for field in fields)  # sequences of DNA come as tables, too
    return not letters and any(NUMBER.fullmatch(field) for field in fields)
