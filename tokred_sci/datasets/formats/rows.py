"""Rows of numbers as points: XYZ, PTS, CSV."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np

from tokred_sci.datasets.files import AGAIN, read_bytes, wrong
from tokred_sci.datasets.formats.cloud import Missing, is_number, line_of, newlines, one_cloud, parse_rows
from tokred_sci.datasets.records import Records
from tokred_sci.errors import InputError


@dataclass(slots=True)
class _Layout:
    """How a table of text is laid out."""

    names: list[str]
    text: list[bool]  # columns that hold words
    named: bool  # a header names x, y, z
    delimiter: str | None
    skip: int  # lines before the first row
    promised: int | None  # rows, as a first line of PTS says


def read_xyz(
    path: str | PathLike,
    channels: Sequence[str | int] | None = None,
    label: str | int | None = None,
    delimiter: str | None = None,
    missing: Missing = "error",
) -> Records:
    """Rows of numbers, one point each: XYZ, TXT, CSV and PTS, with or without a line that names the columns.

    Law: every line is a point, a comment (#), blank, or an error with its number.

    Args:
        path: the file; gzip, bzip2 and xz are taken off.
        channels: columns to append to x, y, z: names, or numbers from 0.
        label: column that becomes the labels: whole numbers as int64, NaN as -1, fractions as floats.
        delimiter: None finds it: semicolon, comma, else white space.
        missing: points with a number that is not finite: "error", "drop" or "keep".

    Returns:
        One record (n, 3 + channels) float64: columns named x, y, z (any case), else the first three.

    Raises:
        FileError: a line with other columns than the first, or with a word where a number stands above it.
        InputError: a channel or label that the file does not have.

    Reference:
        Points file format (Bourke, XYZ and PTS), https://paulbourke.net/dataformats/pts/

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "two.csv"
        ...     _ = path.write_text("tree,x,y,z\\n7,1,2,3\\n8,4,5,6\\n")
        ...     cloud = read_xyz(path, label="tree")
        >>> cloud.records[0].tolist(), cloud.labels
        ([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [array([7, 8])])
    """
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in "\r\n#."):
        raise InputError(f"Expected 'delimiter' as one character such as ',' (got {delimiter!r}): None finds it.")
    try:
        text = newlines(read_bytes(path).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise wrong(path, f"byte {error.start}", "text in UTF-8", f"{error.reason}", "choose its reader") from error
    lines = [line.rstrip() for line in text.split("\n")]
    layout = layout_of(path, lines, delimiter)
    rows, first = lines[layout.skip :], layout.skip + 1
    if "\0" in text or not any(rows):
        raise wrong(path, f"line {first}", "rows of numbers", "none" if not any(rows) else "zero bytes", AGAIN)
    kinds = [(f"f{i}", "U1" if text else "f8") for i, text in enumerate(layout.text)]
    table = parse_rows(path, rows, first, np.dtype(kinds), layout.delimiter, "#")
    if layout.promised not in (None, len(table)):
        raise wrong(path, "line 1", f"the number of points that follow, {len(table)}", str(layout.promised), AGAIN)
    columns = {name: table[f"f{i}"] for i, name in enumerate(layout.names) if not layout.text[i]}
    picked = [_by_number(name, layout.names) for name in channels or ()]
    named = None if label is None else _by_number(label, layout.names)
    return one_cloud(path, columns, picked, named, missing, line_of(rows, first, "#"))


def _by_number(name: str | int, names: list[str]) -> str:
    if isinstance(name, str) or not 0 <= name < len(names):
        return str(name)
    return names[name]


def layout_of(path: str | PathLike, lines: list[str], delimiter: str | None) -> _Layout:
    header, skip, promised = "", 0, None
    for skip, line in enumerate(lines):
        comment = re.match(r"\s*(#|//)\s*", line)
        cells = cells_of(line if comment else line.partition("#")[0], delimiter)
        if not cells:
            continue
        if comment or not any(map(is_number, cells)):
            header = line[comment.end() :] if comment else line
            if not comment and not _axes(cells_of(header, delimiter)):
                raise wrong(
                    path, f"line {skip + 1}", "columns named x, y and z, or numbers", repr(line[:60]), "name them"
                )
        elif len(cells) == 1 and cells[0].isascii() and cells[0].isdigit() and promised is None:
            promised = int(cells[0][:18])
        else:
            break
    else:
        raise wrong(path, "whole file", "rows of numbers", "none", AGAIN)
    row = lines[skip].partition("#")[0]
    mark = delimiter or next((mark for mark in ";," if mark in row), None)
    cells, names = cells_of(row, mark), cells_of(header, mark)
    named = _axes(names)
    if not named:
        names = [*"xyz", *(f"column {i}" for i in range(3, len(cells)))]
    text = [not is_number(cell) for cell in cells]
    if len(names) != len(cells):
        got = f"{len(cells)}: {lines[skip][:60]!r}"
        raise wrong(path, f"line {skip + 1}", f"{max(3, len(names))} columns, x, y and z first or named", got, AGAIN)
    axes = [name.lower() if name.lower() in ("x", "y", "z") else name for name in names]
    if len(set(axes)) != len(axes):
        raise wrong(path, f"line {skip}", "each column once", ", ".join(axes)[:60], "name them differently")
    return _Layout(axes, text, named, mark, skip, promised)


def cells_of(line: str, delimiter: str | None) -> list[str]:
    mark = delimiter or next((mark for mark in ";," if mark in line), None)
    return [cell.strip().strip('"') for cell in line.strip().split(mark)] if line.strip() else []


def _axes(names: list[str]) -> bool:
    return {"x", "y", "z"} <= {name.lower() for name in names}
