"""What the readers of point clouds share: columns of a file -> one record, rows of text -> numbers."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tokred_sci.datasets.files import AGAIN, wrong
from tokred_sci.datasets.records import Records
from tokred_sci.errors import InputError

Columns = Mapping[str, np.ndarray]  # name -> (n,), or (n, width) for a field of several numbers
Missing = Literal["drop", "error", "keep"]
_EXACT = 2**53  # whole numbers up to here are exact in float64


def one_cloud(
    path: str | PathLike,
    columns: Columns,
    channels: Sequence[str],
    label: str | None,
    missing: Missing = "error",
    place: Callable[[int], str] = "point {}".format,
    dtype: np.dtype | None = None,
) -> Records:
    """Columns of a file as one record: x, y, z, then the extra channels; one label per point.

    Law: coordinates are never rounded: float64 unless every picked column fits into float32.

    Raises:
        FileError: no x, y, z; no points; with missing="error" a number that is not finite; whole numbers above 2^53.
        InputError: a channel or label that the file does not have.
    """
    if missing not in ("drop", "error", "keep"):
        raise InputError(f"Expected 'missing' as 'drop', 'error' or 'keep' (got {missing!r}): choose one of them.")
    absent = [axis for axis in "xyz" if axis not in columns or columns[axis].ndim != 1]
    if absent:
        got = f"{', '.join(map(str, columns)) or 'nothing'}"
        raise wrong(path, "columns", f"{', '.join(absent)}: one number per point each", got, "name the columns x, y, z")
    for name in channels if label is None else (*channels, label):
        check_known(name, columns)
    cloud, names = _stack(path, columns, channels, dtype)
    labels = None if label is None else whole_labels(path, columns[label])
    keep = _finite(path, cloud, missing, place)
    if not keep.any():
        raise wrong(path, "whole file", "at least one finite point", f"{len(cloud)} points, none usable", AGAIN)
    dropped = len(keep) - int(keep.sum())
    if dropped:
        cloud, labels = cloud[keep], None if labels is None else labels[keep]
    told = f"{Path(path).name}, {dropped} of {len(keep)} points dropped: not finite" if dropped else Path(path).name
    return Records(
        "points",
        [cloud],
        None if labels is None else [labels],
        names=(Path(path).name,),
        channels=names,
        unit="file's unit",
        source=told,
    )


def check_known(name: str, columns: Columns) -> None:
    if not isinstance(name, str) or name not in columns or name in ("x", "y", "z"):
        others = ", ".join(str(n) for n in columns if n not in ("x", "y", "z")) or "none"
        raise InputError(
            f"Expected 'channels' and 'label' among what the file has besides x, y, z: {others} (got {name!r}). "
            "Use one of these names."
        )


def _stack(
    path: str | PathLike, columns: Columns, channels: Sequence[str], dtype: np.dtype | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    picked = [columns[axis] for axis in "xyz"]
    names = [f"{axis} (file's unit)" for axis in "xyz"]
    for name in channels:
        parts = columns[name].reshape(len(columns[name]), -1)  # (n, width)
        width = parts.shape[1]
        letters = "rgb" if name in ("rgb", "rgba") and width == 3 else [f"{name} {i}" for i in range(width)]
        picked.extend(parts.T)
        names += [f"{part} (as in the file)" for part in (letters if width > 1 else [name])]
    for column in picked:
        if (
            column.dtype.kind in "iu"
            and column.dtype.itemsize == 8
            and max(int(column.max(initial=0)), -int(column.min(initial=0))) > _EXACT
        ):
            raise wrong(path, "columns", "whole numbers up to 2^53", "larger ones", "use such a column as label only")
    wide = dtype or np.result_type(np.float32, *(column.dtype for column in picked))
    return np.stack(picked, axis=1).astype(wide, copy=False), tuple(names)


def _finite(path: str | PathLike, cloud: np.ndarray, missing: Missing, place: Callable[[int], str]) -> np.ndarray:
    """Which points to keep, (n,) bool."""
    finite = np.isfinite(cloud).all(axis=1)
    if missing == "keep":
        return np.ones(len(cloud), bool)
    if missing == "error" and not finite.all():
        row = int(np.argmin(finite))
        got = ", ".join(map(str, cloud[row].tolist()))
        raise wrong(path, place(row), "finite numbers", got, 'repair the file, or read it with missing="drop"')
    return finite


def whole_labels(path: str | PathLike, values: np.ndarray) -> np.ndarray:
    """Labels as int64, -1 where a float says "none" (NaN, or the largest number, as LAS does); fractions stay floats.

    Example:
        >>> whole_labels("a.las", np.array([3.0, np.nan, 1.7976931348623157e308]))
        array([ 3, -1, -1])
    """
    if values.dtype.kind not in "iufb" or values.ndim != 1:
        raise wrong(path, "labels", "one number per point", f"{values.ndim}-D {values.dtype}", "choose another label")
    if values.dtype.kind != "f":
        if values.dtype == np.uint64 and values.max(initial=0) > np.iinfo(np.int64).max:
            raise wrong(path, "labels", "numbers below 2^63", str(values.max()), "number the labels afresh")
        return values.astype(np.int64)
    none = np.isnan(values) | (np.abs(values) == np.finfo(values.dtype).max)
    filled = np.where(none, -1, values)
    if (np.abs(filled) <= _EXACT).all() and (filled == np.round(filled)).all():
        return filled.astype(np.int64)
    return values


def parse_rows(
    path: str | PathLike,
    lines: list[str],
    first: int,
    dtype: Any,
    delimiter: str | None = None,
    comments: str | None = None,
) -> np.ndarray:
    """Lines of numbers as a structured or plain array, blank lines left out; fast while every line is right.

    Args:
        lines: without their ends.
        first: number of the first of them in the file, from 1.
        dtype: structured: one field per column.

    Raises:
        FileError: the first line that is not as many numbers as there are fields.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns where nothing is there
        try:
            return np.atleast_1d(np.loadtxt(lines, dtype, comments=comments, delimiter=delimiter))
        except (ValueError, OverflowError) as error:
            _blame(path, lines, first, np.dtype(dtype), delimiter, comments)
            raise wrong(path, f"from line {first}", "rows of numbers", str(error), AGAIN) from error


def _blame(
    path: str | PathLike, lines: list[str], first: int, dtype: np.dtype, delimiter: str | None, comments: str | None
) -> None:
    """Raises at the first bad line, slowly."""
    fields: Mapping[str, Any] = dtype.fields or {}
    for number, line in enumerate(lines, first):
        cells = (line.split(comments)[0] if comments else line).strip().split(delimiter)
        if cells in ([], [""]):
            continue
        if len(cells) != len(fields):
            raise wrong(path, f"line {number}", f"{len(fields)} columns", f"{len(cells)}: {line[:60]!r}", AGAIN)
        for cell, (kind, *_) in zip(cells, fields.values(), strict=True):
            if kind.kind == "f" and not is_number(cell):
                raise wrong(path, f"line {number}", "a number", f"{cell[:40]!r} in {line[:60]!r}", AGAIN)


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def as_count(path: str | PathLike, where: str, what: str, text: str, most: int) -> int:
    """A number of things that a header promises, checked before anything is allocated for them."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise wrong(path, where, f"a number of {what}, 0 or more", repr(text[:40]), AGAIN)
    if int(text) > most:
        raise wrong(path, where, f"at most {most} {what}: more do not fit into this file", text, AGAIN)
    return int(text)


def line_of(lines: list[str], first: int, comments: str | None = None) -> Callable[[int], str]:
    """From the row of a table to where it stands in the file."""

    def place(row: int) -> str:
        full = (n for n, line in enumerate(lines, first) if (line.split(comments)[0] if comments else line).strip())
        return f"line {next(n for i, n in enumerate(full) if i == row)}"

    return place


def narrow(path: str | PathLike, table: np.ndarray, place: Callable[[int], str], kinds: Sequence[np.dtype]) -> list:
    """Columns of text as the types their header declares; what a type cannot hold is refused."""
    columns = []
    for name, kind in zip(table.dtype.names or (), kinds, strict=True):
        values = table[name]
        if kind.kind in "iu":
            least, most = max(np.iinfo(kind).min, -_EXACT), min(np.iinfo(kind).max, _EXACT)
            fits = (values >= least) & (values <= most) & (values == np.round(values))
            if not fits.all():
                row = int(np.argmin(fits))
                raise wrong(path, place(row), f"a whole number in [{least}, {most}]", str(values[row]), AGAIN)
        with np.errstate(over="ignore"):
            columns.append(values.astype(kind))
    return columns


def plain(width: int) -> np.dtype:
    return np.dtype([(f"f{i}", np.float64) for i in range(width)])


def newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
