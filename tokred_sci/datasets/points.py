"""Point clouds on disk -> `Records`: which format a file is in, rows of numbers, NPY, HDF5; the others by name."""

import io
import re
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tokred_sci.datasets.cloud import (
    AGAIN,
    Missing,
    is_number,
    line_of,
    newlines,
    one_cloud,
    ours,
    package,
    parse_rows,
    whole_labels,
)
from tokred_sci.datasets.files import existing, read_bytes, wrong
from tokred_sci.datasets.las import read_las
from tokred_sci.datasets.meshes import mesh_format, read_mesh
from tokred_sci.datasets.pcd import read_pcd
from tokred_sci.datasets.ply import read_ply
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError, InputError

__all__ = [
    "detect",
    "read_las",
    "read_mesh",
    "read_pcd",
    "read_ply",
    "read_points_h5",
    "read_points_npy",
    "read_xyz",
]


def detect(head: bytes, size: int, suffix: str = "") -> str | None:
    """The name of the reader for a file's first bytes, or None; strict, so that a table of something else is no cloud.

    Rows of numbers are points where a header names x, y and z and no column of time, or where the suffix says so.

    Args:
        head: the first 4,096 bytes or so, decompressed.
        size: bytes of the whole file, decompressed; a binary STL is known by it.
        suffix: ".xyz" and ".pts" say that rows of numbers without a header are points.

    Returns:
        "ply", "off", "obj", "stl", "pcd", "las", "xyz", "h5" or None.

    Example:
        >>> detect(b"x,y,z\\n1,2,3\\n", 12), detect(b"time,value\\n1,2\\n", 15), detect(b"1 2 3\\n", 6, ".xyz")
        ('xyz', None, 'xyz')
    """
    for name, magic in (("las", b"LASF"), ("h5", b"\x89HDF\r\n\x1a\n")):
        if head.startswith(magic):
            return name
    if re.match(rb"ply\r?\n", head):
        return "ply"
    if re.match(rb"(\s*#[^\n]*\n)*\s*VERSION\s+0?\.\d+\s+FIELDS\s", head):
        return "pcd"
    return mesh_format(head, size) or ("xyz" if _is_table(head, size, suffix.lower()) else None)


def _is_table(head: bytes, size: int, suffix: str) -> bool:
    if b"\0" in head:
        return False
    lines = newlines(head.decode("latin-1")).split("\n")
    lines = [line.strip() for line in (lines if len(head) >= size else lines[:-1])]
    try:
        layout = _layout("head", lines, None)
    except FileError:
        return False
    if not layout.named and suffix not in (".xyz", ".pts"):
        return False
    axes = [layout.names.index(axis) for axis in "xyz"]
    table = [_cells(line, layout.delimiter) for line in lines[layout.skip :] if line and line[0] != "#"]
    whole = all(len(row) == len(layout.names) and all(is_number(row[i]) for i in axes) for row in table)
    return whole and _TIMES.isdisjoint(name.lower() for name in layout.names)


_TIMES = frozenset(("t", "time", "times", "timestamp", "timestamps", "date", "datetime", "seconds"))


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
    layout = _layout(path, lines, delimiter)
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


def _layout(path: str | PathLike, lines: list[str], delimiter: str | None) -> _Layout:
    header, skip, promised = "", 0, None
    for skip, line in enumerate(lines):
        comment = re.match(r"\s*(#|//)\s*", line)
        cells = _cells(line if comment else line.partition("#")[0], delimiter)
        if not cells:
            continue
        if comment or not any(map(is_number, cells)):
            header = line[comment.end() :] if comment else line
            if not comment and not _axes(_cells(header, delimiter)):
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
    cells, names = _cells(row, mark), _cells(header, mark)
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


def _cells(line: str, delimiter: str | None) -> list[str]:
    mark = delimiter or next((mark for mark in ";," if mark in line), None)
    return [cell.strip().strip('"') for cell in line.strip().split(mark)] if line.strip() else []


def _axes(names: list[str]) -> bool:
    return {"x", "y", "z"} <= {name.lower() for name in names}


def read_points_npy(
    path: str | PathLike, name: str | None = None, label: str | None = None, missing: Missing = "error"
) -> Records:
    """Clouds in an NPY file, or in one array of an NPZ file; pickled objects are never loaded.

    Args:
        path: array (n, c) = one record, or (records, n, c); c >= 3, x, y, z first.
        name: NPZ: the array of points; may be left out where there is one array.
        label: NPZ: the array of labels, (records,), or one per point.
        missing: points with a number that is not finite: "error", "drop" or "keep".

    Returns:
        Records (n, c): float64 for float64 and wide integers, else float32.

    Raises:
        FileError: the file is not what its header says, or holds something else than numbers.
        InputError: an array that the file does not have.

    Reference:
        numpy.lib.format (NumPy Enhancement Proposal 1, 2007), https://numpy.org/neps/nep-0001-npy-format.html

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "clouds.npz"
        ...     np.savez(path, data=np.zeros((2, 5, 3)), kind=[1, 0])
        ...     clouds = read_points_npy(path, name="data", label="kind")
        >>> clouds, clouds.labels
        (Records(2 of points), [1, 0])
    """
    data = read_bytes(path)
    if not data.startswith(b"PK"):
        if name is not None or label is not None:
            raise InputError(f"Expected no 'name' and no 'label' (got {name or label!r}): an NPY file is one array.")
        return _batch(path, _npy(path, data), None, missing)
    with ours(path, "archive", "an NPZ file"):
        archive = zipfile.ZipFile(io.BytesIO(data))
        names = [entry.removesuffix(".npy") for entry in archive.namelist()]
    name = names[0] if name is None and len(names) == 1 else name
    for wanted in (name,) if label is None else (name, label):
        if wanted not in names:
            raise InputError(f"Expected 'name' and 'label' among {', '.join(names)[:200]} (got {wanted!r}): choose.")
    arrays = []
    for wanted in (name,) if label is None else (name, label):
        with ours(path, f"array {wanted!r}", "it whole"):
            member = archive.read(archive.namelist()[names.index(str(wanted))])
        arrays.append(_npy(path, member))
    return _batch(path, arrays[0], arrays[1] if label is not None else None, missing)


def _npy(path: str | PathLike, data: bytes) -> np.ndarray:
    """One array, its size compared with the bytes before it is made."""
    stream, form = io.BytesIO(data), np.lib.format
    with ours(path, "byte 0", "an NPY header, version 1 or 2"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        version = form.read_magic(stream)
        read_header = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        shape, by_column, dtype = read_header(stream)
        numbers = dtype.kind in "iuf" and all(isinstance(side, int) and side >= 0 for side in shape)
    if not numbers:
        raise wrong(path, "header", "plain numbers", f"{dtype} of shape {shape}"[:80], "save the array of points alone")
    start, total = stream.tell(), int(np.prod([int(side) for side in shape], dtype=object))
    if total * dtype.itemsize != len(data) - start:
        needed = f"{total * dtype.itemsize} bytes for shape {shape}"
        raise wrong(path, "header", needed, f"{len(data) - start}", AGAIN)
    return np.frombuffer(data, dtype, total, start).reshape(shape, order="F" if by_column else "C")


def _batch(path: str | PathLike, array: np.ndarray, labels: np.ndarray | None, missing: Missing) -> Records:
    """(n, c) or (records, n, c) as records, with one label per record or per point."""
    if array.ndim not in (2, 3) or array.shape[-1] < 3 or not array.size or array.dtype.kind not in "iuf":
        needed = "points as (n, c) or (records, n, c), c >= 3, not empty"
        raise wrong(path, "array", needed, f"{array.dtype} {array.shape}", "choose the array of points")
    clouds = array if array.ndim == 3 else array[None]
    count, n, width = clouds.shape
    if labels is not None:
        labels = np.asarray(labels)
        fits = labels.shape in ((count,), (count, 1), (count, n)) or (array.ndim == 2 and labels.shape in ((n,), ()))
        if not fits or labels.dtype.kind not in "iufb":
            needed = f"numbers of shape ({count},), ({count}, 1) or ({count}, {n})"
            raise wrong(path, "labels", needed, f"{labels.dtype} {labels.shape}", "choose the array of labels")
        labels = whole_labels(path, labels.reshape(-1)).reshape(count, -1)
    told: list[Records] = []
    each = labels is not None and labels.shape[1] == n and (n > 1 or array.ndim == 2)
    for i, cloud in enumerate(clouds):
        columns = {name: cloud[:, j] for j, name in enumerate([*"xyz", *(f"column {j}" for j in range(3, width))])}
        if each and labels is not None:
            columns["label"] = labels[i]
        extra = [name for name in columns if name.startswith("column")]
        place = f"record {i}, point {{}}".format
        told.append(one_cloud(path, columns, extra, "label" if each else None, missing, place))
    dropped = count * n - sum(len(part.records[0]) for part in told)
    name = Path(path).name
    given: list | None = [part.labels[0] for part in told] if each else None
    if labels is not None and not each:
        given = labels[:, 0].tolist()
    return Records(
        "points",
        [part.records[0] for part in told],
        given,
        channels=told[0].channels,
        unit="file's unit",
        source=f"{name}, {dropped} of {count * n} points dropped: not finite" if dropped else name,
    )


def read_points_h5(
    path: str | PathLike, normals: bool = False, label: str | None = "label", missing: Missing = "error"
) -> Records:
    """Clouds in an HDF5 file laid out as ModelNet40's and ScanObjectNN's; needs h5py (extra "points").

    Args:
        path: a file with `data` (records, n, 3).
        normals: append `normal` (records, n, 3).
        label: dataset with the labels: "label" (records, 1) is one per record, "pid", "seg" or "mask" (records, n)
            one per point. None = no labels.
        missing: points with a number that is not finite: "error", "drop" or "keep".

    Raises:
        FileError: there are no such datasets, they lead to other files, or they are damaged.
        MissingExtra: h5py is not installed.

    Reference:
        PointNet (Qi et al., 2017), https://arxiv.org/abs/1612.00593; Revisiting Point Cloud Classification (Uy et al.,
        2019), https://arxiv.org/abs/1908.04616

    Example:
        >>> import h5py, tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "two.h5"
        ...     with h5py.File(path, "w") as file:
        ...         file["data"], file["label"] = np.zeros((2, 4, 3), "f4"), [[1], [0]]
        ...     clouds = read_points_h5(path)
        >>> clouds.records[0].shape, clouds.labels
        ((4, 3), [1, 0])
    """
    h5py, size = package("h5py", "HDF5 files"), existing(path).stat().st_size
    with ours(path, "HDF5", "a file that is whole"), h5py.File(path, "r") as file:
        data = _dataset(path, h5py, file, "data", size)
        beside = _dataset(path, h5py, file, "normal", size) if normals else None
        labels = None if label is None else _dataset(path, h5py, file, label, size)
    if data.ndim != 3:
        raise wrong(path, "data", "shape (records, n, 3)", str(data.shape), "choose a file of this layout")
    if beside is not None and beside.shape != data.shape:
        raise wrong(path, "normal", f"shape {data.shape}", str(beside.shape), "read it without normals")
    if beside is not None:
        data = np.concatenate([data, beside], axis=2)
    return _batch(path, data, labels, missing)


def _dataset(path: str | PathLike, h5py: Any, file: Any, name: str, size: int) -> np.ndarray:
    """A dataset of numbers that lies in this file, its claimed size compared with what is stored."""
    link = file.get(name, getlink=True) if isinstance(name, str) and name in file else None
    found = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual or found.dtype.kind not in "iufb":
        got = ", ".join(map(str, list(file)[:20])) or "nothing"
        raise wrong(path, name, f"a dataset {name!r} of numbers in this file", got, "choose a file of this layout")
    stored, claimed = found.id.get_storage_size(), found.size * found.dtype.itemsize
    if claimed > 1100 * stored or stored > size:  # deflate: 1,032 to 1
        raise wrong(path, name, f"{claimed} bytes for shape {found.shape}", f"{stored} stored", AGAIN)
    return found[()]
