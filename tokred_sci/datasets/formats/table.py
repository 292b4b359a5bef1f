"""CSV, TSV and Parquet with time stamps."""

import csv
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tokred_sci.datasets.files import existing, guard, read_bytes, wrong
from tokred_sci.datasets.formats.numbers import NUMBER, floats, named
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError, InputError, package

MISSING = ("", "?", "NaN", "nan", "NA", "null")


_CLOCK = re.compile(r"(?:date|time|timestamp|datetime|epoch|unix)(?:[ _]?[\[(]?(?:s|sec|seconds|ms|us|ns|utc)[\])]?)?")


_DATE = re.compile(r"\d{4}-\d\d?|\d{4}[-/]\d\d?[-/]\d\d?.*|\d{4}-?\d\d-?\d\dT.*", re.ASCII)


_OTHER_DATE = re.compile(r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}.*|\d{4}\.\d\d?\.\d\d?.*", re.ASCII)


_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class _Table:
    names: list[str]
    values: np.ndarray  # (channels, time)
    stamps: np.ndarray | None  # (time,) float64 seconds
    labels: list[str] | None
    place: Callable[[int], str]  # of a row


@dataclass(frozen=True, slots=True)
class _Wish:
    time: str | Literal[False] | None
    channels: Sequence[str] | None
    label: str | None
    missing: tuple[str, ...]
    unit: str | None
    form: str | None
    header: bool | None

    def columns(self, path: Path, names: list[str], time: int | None) -> tuple[int | None, int | None, list[int]]:
        """Places of the time stamps, the label and the channels."""
        time = find_column(path, names, self.time) if isinstance(self.time, str) else time
        label = None if self.label is None else find_column(path, names, self.label)
        rest = [index for index in range(len(names)) if index not in (time, label)]
        chosen = rest if self.channels is None else [find_column(path, names, name) for name in self.channels]
        if not chosen or not set(chosen) <= set(rest) or len(set(chosen)) < len(chosen):
            needed = "at least one column of values beside time and label, each once"
            raise wrong(path, "header", needed, ", ".join(names[index] for index in chosen) or "none", "set 'channels'")
        return time, label, chosen


def read_table(
    path: str | os.PathLike,
    time: str | Literal[False] | None = None,
    channels: Sequence[str] | None = None,
    label: str | None = None,
    missing: Sequence[str] = MISSING,
    *,
    header: bool | None = None,
    order: Literal["error", "sort"] = "error",
    repeats: Literal["error", "first"] = "error",
    empty: Literal["error", "keep"] = "error",
    time_unit: Literal["s", "ms", "us", "ns"] | None = None,
    date_format: str | None = None,
) -> Records:
    """One series from a table, CSV, TSV or Parquet: a row is a time step, a column a channel.

    The delimiter (tab, ';', '|', ',', blanks) and whether there is a header are found. So is the column of time stamps:
    the only one of dates, or else the only one of numbers that is called time, date, timestamp, epoch or unix.
    Steps may be irregular: `times` holds where they really are, in seconds since 1970 (dates without a zone: UTC).

    Args:
        path: the table, plain or compressed. It is only read.
        time: the column of time stamps; None finds it, False says that there is none.
        channels: the columns to take, in this order; None = all that are left.
        label: a column with a class for each step; label -1 where it is missing.
        missing: what stands for a missing value.
        header: whether the first row names the columns; None = it does where it holds a text. Not asked of Parquet.
        order: "sort" brings unsorted rows in order of time.
        repeats: "first" keeps the first row of each time stamp.
        empty: "keep" keeps a channel without any value, all NaN.
        time_unit: what time stamps that are numbers count; None = as the column's name ends, "time (ms)"; or seconds.
        date_format: how dates are written, as "%d.%m.%Y %H:%M"; None = year first (ISO 8601).

    Raises:
        FileError: rows of another length, text in a numeric column, dates that can be read in two ways, time stamps
            that repeat or run backwards, a channel without values; line and column are named.
        InputError: arguments that are none of these.
        MissingExtra: dates or Parquet without the extra "series".

    Reference:
        "Common Format and MIME Type for CSV Files" (Shafranovich, 2005) https://www.rfc-editor.org/rfc/rfc4180
        "Apache Parquet" (Apache Software Foundation, 2013) https://parquet.apache.org/docs/file-format/

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "pump.csv"
        ...     _ = path.write_text("time;flow (l/s);state\\n0;1.5;on\\n0.1;;on\\n0.5;0;off\\n")
        ...     found = read_table(path, label="state")
        >>> found.records[0], found.times[0], found.channels
        (array([[1.5, nan, 0. ]]), array([0. , 0.1, 0.5]), ('flow (l/s)',))
        >>> found.labels[0], found.classes
        (array([1, 1, 0]), ('off', 'on'))
    """
    for name, value, known in (
        ("header", header, (None, True, False)),
        ("order", order, ("error", "sort")),
        ("repeats", repeats, ("error", "first")),
        ("empty", empty, ("error", "keep")),
        ("time_unit", time_unit, (None, *_PER_SECOND)),
    ):
        if value not in known:
            raise InputError(f"Expected {name!r} as one of {known} (got {value!r}): choose one of them.")
    if isinstance(channels, str) or isinstance(missing, str):
        raise InputError("Expected 'channels' and 'missing' as lists of text (got one text): put it into a list.")
    if not (time is None or time is False or isinstance(time, str)):
        raise InputError(f"Expected 'time' as a column's name, None or False (got {time!r}): name the column.")
    path, wish = existing(path), _Wish(time, channels, label, tuple(missing), time_unit, date_format, header)
    table = (_parquet if read_bytes(path, 4) == b"PAR1" else _text_table)(path, wish)
    return _table_records(path, _in_order(path, table, order, repeats), empty)


def _table_records(path: Path, table: _Table, empty: str) -> Records:
    bare = [name for name, row in zip(table.names, table.values, strict=True) if np.isnan(row).all()]
    if bare and empty == "error":
        needed, remedy = "at least one value in each channel", "leave it out by 'channels', or say empty='keep'"
        raise wrong(path, f"column {bare[0]!r}", needed, "only missing ones", remedy)
    labels, classes = _classes(table.labels)
    return Records(
        "series",
        [table.values],
        None if labels is None else [labels],
        classes=classes,
        channels=tuple(named(name) for name in table.names),
        unit="time steps" if table.stamps is None else "seconds",
        source=path.name,
        times=None if table.stamps is None else [table.stamps],
    )


def _classes(texts: list[str] | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if texts is None:
        return None, ()
    names = set(texts) - {""}
    numbers = all(NUMBER.fullmatch(name) for name in names)
    classes = tuple(sorted(names, key=(lambda name: (float(name), name)) if numbers else None))
    index = {name: place for place, name in enumerate(classes)} | {"": -1}
    return np.array([index[text] for text in texts], np.int64), classes


def _in_order(path: Path, table: _Table, order: str, repeats: str) -> _Table:
    if table.stamps is None or (np.diff(table.stamps) > 0).all():
        return table
    back = np.flatnonzero(np.diff(table.stamps) < 0)
    if len(back) and order == "error":
        where = f"{table.place(back[0])} and {table.place(back[0] + 1)}"
        got = f"{table.stamps[back[0]]} s, then {table.stamps[back[0] + 1]} s"
        raise wrong(path, where, "time stamps that increase", got, "sort the rows, or say order='sort'")
    rows = np.argsort(table.stamps, kind="stable")
    again = np.flatnonzero(np.diff(table.stamps[rows]) == 0)
    if len(again) and repeats == "error":
        where = f"{table.place(rows[again[0]])} and {table.place(rows[again[0] + 1])}"
        got, remedy = f"{table.stamps[rows[again[0]]]} s twice", "join such rows, or say repeats='first'"
        raise wrong(path, where, "each time stamp once", got, remedy)
    rows = np.delete(rows, again + 1)
    labels = None if table.labels is None else [table.labels[row] for row in rows]
    return _Table(table.names, table.values[:, rows], table.stamps[rows], labels, table.place)


def find_column(path: Path, names: list[str], name: str) -> int:
    if name not in names:
        near = get_close_matches(str(name), names, 1)
        remedy = f"did you mean {near[0]!r}?" if near else "name a column that is there"
        raise wrong(path, "header", "a column of that name", f"{name!r}; there: {', '.join(names[:20])}", remedy)
    return names.index(name)


def _text_table(path: Path, wish: _Wish) -> _Table:
    rows = _rows(path)
    first, header = next(rows, (0, [])), list[str]()
    if first[1] and (wish.header if wish.header is not None else _is_header(path, first[1], wish.missing)):
        header, first = first[1], next(rows, (0, []))
    if not first[1]:
        raise wrong(
            path, "start", "rows of values", "an empty table" if not header else "a header alone", "check the file"
        )
    names = _column_names(path, header, len(first[1]))
    time, label, chosen = wish.columns(path, names, _clock(path, names, first[1], wish))
    parts, lines, stamps, labels = list[np.ndarray](), list[int](), list[str](), list[str]()
    for block in _blocks(path, rows, first, names):
        numbers = [number for number, _ in block]
        columns = list(zip(*(row for _, row in block), strict=True))
        parts.append(np.stack([_numbers(path, numbers, names[i], columns[i], wish.missing) for i in chosen]))
        lines += numbers
        stamps += columns[time] if time is not None else ()
        labels += ["" if text in wish.missing else text for text in columns[label]] if label is not None else []

    def place(row: int) -> str:
        return f"line {lines[row]}"

    seconds = None if time is None else _seconds(path, names[time], stamps, place, wish)
    values = np.concatenate(parts, axis=1)
    return _Table([names[index] for index in chosen], values, seconds, labels if label is not None else None, place)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    data = read_bytes(path)
    try:
        delimiter = _delimiter(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        got = f"byte {data[error.start]:#04x}"
        raise wrong(path, f"byte {error.start}", "UTF-8 text", got, "save the file as UTF-8") from error
    lines: Any = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")
    lines = (line.strip(" \r\n") + "\n" for line in lines) if delimiter == " " else lines
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):
                yield reader.line_num, [field.strip() for field in row]
    except csv.Error as error:
        raise wrong(path, f"line {reader.line_num}", "quotes that close", str(error), "correct the line") from error


def _delimiter(text: str) -> str:
    lines = [line.strip(" ") for line in text[:100_000].splitlines()[:20] if line.strip()]
    for delimiter, share in (("\t", 0.5), (";", 0.5), ("|", 0.5), (",", 0.5), (" ", 1)):
        there = [delimiter in line for line in lines]
        if there and there[0] and sum(there) >= share * len(there):
            return delimiter
    return ","


def _is_header(path: Path, row: list[str], missing: tuple[str, ...]) -> bool:
    count = [str(index) for index in range(len(row))]
    if len(row) > 1 and row == count:
        remedy = "say header=True or header=False"
        raise wrong(path, "line 1", "names, or values", f"{','.join(row[:8])}: either one", remedy)
    if len(row) > 1 and row == ["", *count[:-1]]:  # pandas' names of columns without a name
        return True
    known = (NUMBER, _DATE, _OTHER_DATE)
    return not all(field in missing or any(form.fullmatch(field) for form in known) for field in row)


def _column_names(path: Path, header: list[str], count: int) -> list[str]:
    names = [name or f"column {index}" for index, name in enumerate(header or [""] * count)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise wrong(path, "header", "each column's name once", repr(twice[0]), "rename the columns")
    return names


def _clock(path: Path, names: list[str], row: list[str], wish: _Wish) -> int | None:
    if wish.time is not None or len(row) != len(names):
        return None
    dates = [index for index, text in enumerate(row) if _DATE.fullmatch(text) or _OTHER_DATE.fullmatch(text)]
    dates = dates or [index for index, name in enumerate(names) if _CLOCK.fullmatch(name.lower())]
    if len(dates) > 1:
        there = ", ".join(names[index] for index in dates)
        raise wrong(path, "header", "one column of time stamps", there, "say which by 'time', or time=False")
    return dates[0] if dates else None


def _blocks(
    path: Path, rows: Iterator[tuple[int, list[str]]], first: tuple[int, list[str]], names: list[str]
) -> Iterator[list[tuple[int, list[str]]]]:
    block: list[tuple[int, list[str]]] = []
    for number, row in chain([first], rows):  # the first row was looked at before
        if len(row) != len(names):
            needed, remedy = f"{len(names)} fields", "check for a cut or a joined line"
            raise wrong(path, f"line {number}", needed, str(len(row)), remedy)
        block.append((number, row))
        if len(block) == 4096:
            yield block
            block = []
    if block:
        yield block


def _numbers(path: Path, lines: list[int], name: str, fields: Sequence[str], missing: tuple[str, ...]) -> np.ndarray:
    def fail(index: int, text: str) -> FileError:
        remedy = "correct it, add it to 'missing', or leave the column out by 'channels'"
        return wrong(path, f"line {lines[index]}, column {name!r}", "a finite number", repr(text[:40]), remedy)

    return floats(fields, missing, fail)


def _seconds(path: Path, name: str, texts: list[str], place: Callable[[int], str], wish: _Wish) -> np.ndarray:
    def fail(index: int, text: str) -> FileError:
        return wrong(path, f"{place(index)}, column {name!r}", "a time stamp", repr(text[:40]), "correct it")

    if wish.form is None and (NUMBER.fullmatch(texts[0]) or not texts[0]):
        return _scaled(path, name, floats(texts, (), fail), place, wish)
    for index, text in enumerate(texts):
        if wish.form is None and not _DATE.fullmatch(text):
            needed, remedy = "dates with the year first", "say how they are written by 'date_format'"
            raise wrong(path, f"{place(index)}, column {name!r}", needed, repr(text[:40]), remedy)
    pandas = package("pandas", "dates in tables", "series")
    with guard(path, f"column {name!r}", "dates", "say how they are written by 'date_format'"):
        stamps = pandas.to_datetime(texts, utc=True, format=wish.form or "ISO8601", errors="coerce")
        bad = np.flatnonzero(stamps.isna())
        if len(bad):
            raise fail(int(bad[0]), texts[bad[0]])
        return _since_1970(stamps)


def _since_1970(stamps: Any) -> np.ndarray:
    counts, parts = stamps.asi8, _PER_SECOND[stamps.unit]
    return (counts // parts) + (counts % parts) / parts  # whole seconds apart: no digit is lost before the sum


def _scaled(path: Path, name: str, stamps: np.ndarray, place: Callable[[int], str], wish: _Wish) -> np.ndarray:
    if np.isnan(stamps).any():
        index = int(np.flatnonzero(np.isnan(stamps))[0])
        raise wrong(path, f"{place(index)}, column {name!r}", "a time stamp", "none", "drop such rows")
    ending = re.search(r"(?:^|[^a-z])(ms|us|ns|s|sec|seconds)[\])]?$", name.lower())
    unit = wish.unit or (ending[1] if ending and ending[1] in _PER_SECOND else "s")
    days = stamps[(stamps > 18_000_000) & (stamps < 22_000_000)]
    if wish.unit is None and "date" in name.lower() and len(days) == len(stamps) and (days == days.round()).all():
        remedy = "say date_format='%Y%m%d', or time_unit='s'"
        raise wrong(path, f"column {name!r}", "dates or seconds", f"{days[0]:.0f}, either one", remedy)
    seconds = stamps / _PER_SECOND[unit]
    if wish.unit is None and np.abs(seconds).max() > 1e11:
        index = int(np.abs(seconds).argmax())
        got = f"{stamps[index]:.0f}, after the year 5000"
        raise wrong(path, f"{place(index)}, column {name!r}", "seconds", got, "say time_unit='ms', 'us' or 'ns'")
    return seconds


def _parquet(path: Path, wish: _Wish) -> _Table:
    package("pandas", "tables in Parquet", "series")
    parquet = package("pyarrow.parquet", "tables in Parquet", "series")
    data = read_bytes(path)
    with guard(path, "Parquet", "a whole file of flat columns", "write or copy it again"):
        frame = (
            parquet.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read(use_threads=False).to_pandas()
        )
        frame = frame.reset_index(drop=frame.index.dtype.kind != "M")
        frame.columns = [str(name) for name in frame.columns]
        return _frame_table(path, frame, wish)


def _frame_table(path: Path, frame: Any, wish: _Wish) -> _Table:
    def place(row: int) -> str:
        return f"row {row}"

    names = _column_names(path, list(frame.columns), frame.shape[1])
    if not len(frame):
        raise wrong(path, "start", "rows of values", "an empty table", "check the file")
    marks = ["1970-01-01" if kind.kind == "M" else "" for kind in frame.dtypes]
    time, label, chosen = wish.columns(path, names, _clock(path, names, marks, wish))
    for index in chosen:
        if frame.dtypes.iloc[index].kind not in "iuf":
            got, remedy = str(frame.dtypes.iloc[index]), "leave the column out by 'channels'"
            raise wrong(path, f"column {names[index]!r}", "numbers", got, remedy)
    small = all(frame.dtypes.iloc[index] == np.float32 for index in chosen)
    rows = [frame.iloc[:, index].to_numpy(np.float64, na_value=np.nan) for index in chosen]
    for index, row in zip(chosen, rows, strict=True):
        if np.isinf(row).any():
            where = f"{place(int(np.isinf(row).argmax()))}, column {names[index]!r}"
            raise wrong(path, where, "a finite number", "infinity", "write missing values as null")
    seconds = None if time is None else _frame_seconds(path, names[time], frame.iloc[:, time], place, wish)
    labels = None
    if label is not None:
        labels = ["" if text in wish.missing else text for text in frame.iloc[:, label].astype(object).map(str)]
        labels = ["" if gone else text for text, gone in zip(labels, frame.iloc[:, label].isna(), strict=True)]
    values = np.stack(rows).astype(np.float32 if small else np.float64)
    return _Table([names[index] for index in chosen], values, seconds, labels, place)


def _frame_seconds(path: Path, name: str, column: Any, place: Callable[[int], str], wish: _Wish) -> np.ndarray:
    if column.isna().any():
        row = int(np.flatnonzero(column.isna())[0])
        raise wrong(path, f"{place(row)}, column {name!r}", "a time stamp", "none", "drop such rows")
    if column.dtype.kind in "iuf":
        return _scaled(path, name, column.to_numpy(np.float64), place, wish)
    if column.dtype.kind == "M":
        pandas = package("pandas", "tables in Parquet", "series")
        return _since_1970(pandas.to_datetime(pandas.DatetimeIndex(column), utc=True))
    return _seconds(path, name, [str(text) for text in column], place, wish)
