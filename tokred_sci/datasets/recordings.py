"""Readers of one long recording with a clock of its own: tables with time stamps, EDF and WFDB."""

import csv
import importlib
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tokred_sci.datasets.arrays import guard
from tokred_sci.datasets.files import existing, read_bytes, wrong
from tokred_sci.datasets.records import Records, missing_extra
from tokred_sci.datasets.series import NUMBER, floats
from tokred_sci.errors import FileError, InputError

MISSING = ("", "?", "NaN", "nan", "NA", "null")
_CLOCK = re.compile(r"(?:date|time|timestamp|datetime|epoch|unix)(?:[ _]?[\[(]?(?:s|sec|seconds|ms|us|ns|utc)[\])]?)?")
_DATE = re.compile(r"\d{4}-\d\d?|\d{4}[-/]\d\d?[-/]\d\d?.*|\d{4}-?\d\d-?\d\dT.*", re.ASCII)
_OTHER_DATE = re.compile(r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}.*|\d{4}\.\d\d?\.\d\d?.*", re.ASCII)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_BEATS = "NLRBAaJSVrFejnE/fQ?"  # PhysioNet's codes of beats; all others are notes beside them
_BYTES = {"8": 1.0, "80": 1.0, "16": 2.0, "61": 2.0, "160": 2.0, "212": 1.5, "24": 3.0, "32": 4.0}
_BYTES |= {"310": 4 / 3, "311": 4 / 3}


def _package(name: str, job: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # wfdb 4.3 warns when it meets pandas 3
            return importlib.import_module(name)
    except ImportError as error:
        raise missing_extra(name.partition(".")[0], job, "series") from error


def _named(name: str, unit: str = "") -> str:
    return name if not unit and re.search(r"\(.+\)$", name) else f"{name} ({unit or '?'})"


# Tables


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
        time = _find(path, names, self.time) if isinstance(self.time, str) else time
        label = None if self.label is None else _find(path, names, self.label)
        rest = [index for index in range(len(names)) if index not in (time, label)]
        chosen = rest if self.channels is None else [_find(path, names, name) for name in self.channels]
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
        channels=tuple(_named(name) for name in table.names),
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


def _find(path: Path, names: list[str], name: str) -> int:
    if name not in names:
        near = get_close_matches(str(name), names, 1)
        remedy = f"did you mean {near[0]!r}?" if near else "name a column that is there"
        raise wrong(path, "header", "a column of that name", f"{name!r}; there: {', '.join(names[:20])}", remedy)
    return names.index(name)


# Tables of text


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


# Time stamps


def _seconds(path: Path, name: str, texts: list[str], place: Callable[[int], str], wish: _Wish) -> np.ndarray:
    def fail(index: int, text: str) -> FileError:
        return wrong(path, f"{place(index)}, column {name!r}", "a time stamp", repr(text[:40]), "correct it")

    if wish.form is None and (NUMBER.fullmatch(texts[0]) or not texts[0]):
        return _scaled(path, name, floats(texts, (), fail), place, wish)
    for index, text in enumerate(texts):
        if wish.form is None and not _DATE.fullmatch(text):
            needed, remedy = "dates with the year first", "say how they are written by 'date_format'"
            raise wrong(path, f"{place(index)}, column {name!r}", needed, repr(text[:40]), remedy)
    pandas = _package("pandas", "dates in tables")
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


# Parquet


def _parquet(path: Path, wish: _Wish) -> _Table:
    _package("pandas", "tables in Parquet")
    parquet = _package("pyarrow.parquet", "tables in Parquet")
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
        pandas = _package("pandas", "tables in Parquet")
        return _since_1970(pandas.to_datetime(pandas.DatetimeIndex(column), utc=True))
    return _seconds(path, name, [str(text) for text in column], place, wish)


# EDF


def read_edf(path: str | os.PathLike, channels: Sequence[str] | None = None, *, annotations: bool = False) -> Records:
    """One record from EDF or EDF+: the signals of one sampling rate, in their physical units.

    Args:
        path: an .edf file without gaps (EDF or EDF+C), plain or compressed. It is only read.
        channels: labels of the signals to take; None = all.
        annotations: label each step by the text of the annotation over it, 0 = none. An annotation without a duration
            marks one step; of two that overlap the later one wins. Parts outside of the recording do not count.

    Raises:
        FileError: a damaged or cut file, signals of different rates, gaps (EDF+D), no such signal.
        MissingExtra: without the extra "series".

    Reference:
        "A simple format for exchange of digitized polygraphic recordings" (Kemp et al., 1992)
        https://www.edfplus.info/specs/edf.html

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import edfio
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "night.edf"
        ...     signal = edfio.EdfSignal(np.arange(8.0), 4, label="Fpz-Cz", physical_dimension="uV")
        ...     edfio.Edf([signal]).write(path)
        ...     found = read_edf(path)
        >>> found.records[0].shape, found.channels, found.unit
        ((1, 8), ('Fpz-Cz (uV)',), 'time steps of 1/4 s')
    """
    edfio = _package("edfio", "EDF files")
    path, data = existing(path), read_bytes(path)
    _edf_whole(path, data)
    with guard(path, "EDF", "a whole EDF file", "export or copy it again"):
        edf = edfio.read_edf(io.BytesIO(data))
        signals = _edf_signals(path, edf.signals, channels)
        rate = _edf_rate(path, signals)
        for signal in signals:
            if signal.digital_min >= signal.digital_max or signal.physical_min == signal.physical_max:
                raise wrong(path, f"signal {signal.label!r}", "a range of values", "an empty one", "export it again")
        values = np.stack([np.asarray(signal.data, np.float64) for signal in signals])
        found = list(edf.annotations) if annotations else []
    if not np.isfinite(values).all() or not values.size:
        raise wrong(path, "EDF", "finite values", "none or infinite ones", "export it again")
    labels, classes = _spans(found, float(rate), values.shape[1])
    return Records(
        "series",
        [values],
        [labels] if classes else None,
        classes=classes,
        channels=tuple(_named(signal.label, signal.physical_dimension) for signal in signals),
        unit=_step(rate),
        source=path.name,
    )


def _step(rate: Fraction | float) -> str:
    rate = Fraction(rate).limit_denominator(1_000_000)
    return f"time steps of {Fraction(1) / rate} s" if rate else "time steps"


def _edf_whole(path: Path, data: bytes) -> None:
    def number(start: int, length: int, least: int) -> int:
        text = data[start : start + length].decode("ascii", "replace").strip()
        if not re.fullmatch(r"[0-9]{1,8}", text) or int(text) < least:
            raise wrong(path, f"byte {start}", f"a number from {least}", repr(text), "export or copy the file again")
        return int(text)

    if data[:8] != b"0       ":
        raise wrong(path, "byte 0", "the start of an EDF file", repr(data[:8]), "check the format")
    if data[192:197] == b"EDF+D":
        raise wrong(path, "byte 192", "a recording without gaps (EDF, EDF+C)", "EDF+D", "split it where it has gaps")
    length, records, signals = number(184, 8, 256), number(236, 8, 1), number(252, 4, 1)
    start = 256 + 216 * signals
    if length != 256 * (signals + 1) or len(data) < length:
        raise wrong(path, "byte 184", f"a header of {256 * (signals + 1)} bytes", f"{length}", "copy the file again")
    whole = length + 2 * records * sum(number(start + 8 * index, 8, 0) for index in range(signals))
    if len(data) != whole:
        got = f"{len(data)}: {'cut short' if len(data) < whole else 'more than the header says'}"
        raise wrong(path, "end", f"{whole} bytes, as the header says", got, "copy or export the file again")


def _edf_signals(path: Path, signals: Sequence[Any], channels: Sequence[str] | None) -> list[Any]:
    labels = [signal.label for signal in signals]
    if isinstance(channels, str):
        raise InputError(f"Expected 'channels' as a list of labels (got {channels!r}): put it into a list.")
    chosen = list(signals)
    if channels is not None:
        for name in channels:
            _find(path, labels, name)
        chosen = [signal for name in channels for signal in signals if signal.label == name]
    if not chosen:
        raise wrong(path, "header", "at least one signal", "annotations alone", "read the file with the signals")
    return chosen


def _edf_rate(path: Path, signals: Sequence[Any]) -> Fraction:
    rates: dict[float, list[str]] = {}
    for signal in signals:
        rates.setdefault(signal.sampling_frequency, []).append(signal.label)
    if len(rates) > 1:
        got = "; ".join(f"{rate:g} Hz: {', '.join(names[:8])}" for rate, names in rates.items())
        raise wrong(path, "header", "signals of one sampling rate", got, "pick those of one rate by 'channels'")
    return Fraction(next(iter(rates))).limit_denominator(1_000_000)


def _spans(found: Sequence[Any], rate: float, length: int) -> tuple[np.ndarray | None, tuple[str, ...]]:
    texts = sorted({note.text for note in found if note.text})
    if not texts:
        return None, ()
    labels = np.zeros(length, np.int8 if len(texts) < 128 else np.int16)
    for note in sorted((note for note in found if note.text), key=lambda note: note.onset):
        first = round(note.onset * rate)
        last = max(first + 1, round((note.onset + (note.duration or 0)) * rate))
        labels[max(first, 0) : max(last, 0)] = texts.index(note.text) + 1
    return labels, ("none", *texts)


# WFDB


def read_wfdb(path: str | os.PathLike, annotation: str | None = "atr") -> Records:
    """One record of PhysioNet's WFDB in its physical units, with its beats as labels of their steps.

    Label 0 is no annotation; the others are the symbols in the annotation file, beats before other notes. Where both
    stand at one step the beat counts.

    Args:
        path: the header (.hea), another file of the record, or its name without an ending. Files are only read.
        annotation: the ending of the annotation file, which may be absent; None = no labels.

    Raises:
        FileError: a missing, cut or damaged file (checksums are compared), several segments, different rates.
        MissingExtra: without the extra "series".

    Reference:
        "WFDB Applications Guide: header(5), signal(5), annot(5)" (Moody, 2022)
        https://www.physionet.org/physiotools/wag/header-5.htm

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a1.hea").write_text("a1 1 250 3\\na1.dat 16 200/mV 16 0 0 300 0 II\\n")
        ...     _ = Path(folder, "a1.dat").write_bytes(np.array([0, 100, 200], "<i2").tobytes())
        ...     found = read_wfdb(f"{folder}/a1.hea")
        >>> found.records[0], found.channels, found.unit
        (array([[0. , 0.5, 1. ]]), ('II (mV)',), 'time steps of 1/250 s')
    """
    wfdb = _package("wfdb", "WFDB records")
    head = Path(path)
    if head.suffix != ".hea":
        named = Path(f"{head}.hea")
        head = named if named.is_file() or not head.suffix else head.with_suffix(".hea")
    name = str(existing(head).absolute().with_suffix(""))  # absolute: wfdb takes "s3://" and the like for addresses
    with guard(head, "record", "a whole WFDB record", "download it again"):
        header = wfdb.rdheader(name)
        _wfdb_whole(head, header)
        record = wfdb.rdrecord(name, physical=False)
        _wfdb_sums(head, record)
        values = np.ascontiguousarray(record.dac().T, np.float64)
    if not values.size or np.isinf(values).any():
        raise wrong(head, "record", "finite values", "none or infinite ones", "check the gains in the header")
    beside = None if annotation is None else head.with_suffix(f".{annotation}")
    labels, classes = _beats(wfdb, beside, values.shape[1]) if beside and beside.is_file() else (None, ())
    return Records(
        "series",
        [values],
        None if labels is None else [labels],
        names=(head.stem,),
        classes=classes,
        channels=tuple(
            _named(str(label or f"channel {index}"), str(unit or "?"))
            for index, (label, unit) in enumerate(zip(record.sig_name, record.units, strict=True))
        ),
        unit=_step(record.fs),
        source=head.name,
    )


def _wfdb_whole(head: Path, header: Any) -> None:
    if not hasattr(header, "file_name") or not header.file_name or header.n_sig != len(header.file_name):
        raise wrong(head, "header", "one segment with signals", "none, or several segments", "read segments one by one")
    if not (header.fs and np.isfinite(header.fs) and header.fs > 0):
        raise wrong(head, "header", "a sampling rate", repr(header.fs), "correct the header")
    if set(header.samps_per_frame) != {1}:
        got = ", ".join(str(count) for count in header.samps_per_frame[:8])
        raise wrong(head, "header", "signals of one sampling rate", f"{got} samples in a frame", "resample them first")
    for name in dict.fromkeys(header.file_name):
        if Path(name).name != name or "\\" in name or ":" in name:
            raise wrong(head, "header", "signal files in the same folder", repr(name), "do not trust this header")
        places = [index for index, other in enumerate(header.file_name) if other == name]
        formats = {header.fmt[index] for index in places}
        if len(formats) > 1 or not formats <= set(_BYTES):
            got = f"{', '.join(sorted(map(str, formats)))} for {name}"
            raise wrong(head, "header", f"one of the formats {', '.join(_BYTES)}", got, "convert the record")
        size = existing(head.with_name(name)).stat().st_size - (header.byte_offset[places[0]] or 0)
        needed = ceil((header.sig_len or 0) * len(places) * _BYTES[formats.pop()])
        if size < needed:
            raise wrong(head.with_name(name), "end", f"{needed} bytes of samples", f"{size}", "download the file again")


def _wfdb_sums(head: Path, record: Any) -> None:
    for name, stated, found in zip(record.sig_name, record.checksum, record.calc_checksum(), strict=True):
        if stated is not None and (stated - found) % 65536:
            got = f"{found}, the header says {stated % 65536}"
            raise wrong(head, f"signal {name!r}", "samples that add up to their checksum", got, "download it again")


def _beats(wfdb: Any, path: Path, length: int) -> tuple[np.ndarray, tuple[str, ...]]:
    data = existing(path).read_bytes()
    if len(data) % 2 or not data.endswith(b"\0\0"):
        raise wrong(path, "end", "two bytes of zero", repr(data[-2:]), "the file is cut short: download it again")
    with guard(path, "annotations", "a whole annotation file", "download it again"):
        found = wfdb.rdann(str(path.absolute().with_suffix("")), path.suffix[1:])
        places, symbols = np.asarray(found.sample, np.int64), list(found.symbol)
    outside = np.flatnonzero((places < 0) | (places >= length))
    if len(outside):
        raise wrong(
            path, f"annotation {outside[0]}", f"a step below {length}", str(places[outside[0]]), "check the pair"
        )
    strange = [index for index, symbol in enumerate(symbols) if not isinstance(symbol, str)]
    if strange:
        raise wrong(path, f"annotation {strange[0]}", "a code of the format", "another one", "download the file again")
    present = set(symbols)
    order = [symbol for symbol in _BEATS if symbol in present] + sorted(present - set(_BEATS))
    labels = np.zeros(length, np.int16)
    for beats in (False, True):
        for place, symbol in zip(places, symbols, strict=True):
            if (symbol in _BEATS) == beats:
                labels[place] = order.index(symbol) + 1
    return labels, ("none", *order)
