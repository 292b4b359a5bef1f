"""Readers of series in arrays of NumPy (.npy, .npz) and MATLAB (.mat)."""

import io
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np

from tokred_sci.datasets.files import existing, guard, open_bytes, read_bytes, wrong
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError, InputError

_ORDERS = {b"IM": "<", b"MI": ">"}
_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = dict(enumerate(("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), 6))


def unknown_channels(count: int) -> tuple[str, ...]:
    """Names of channels where the format has neither names nor units."""
    return tuple(f"channel {index} (?)" for index in range(count))


def read_series_npy(
    path: str | os.PathLike, name: str | None = None, *, mmap: bool = False, time_axis: int = -1
) -> Records:
    """Series of an NPY array, or of one array of an NPZ: (time,), (channels, time) or (records, channels, time).

    Floats of 32 and 64 bits stay what they are, float16 becomes float32, whole numbers float64.

    Args:
        path: .npy or .npz, plain or compressed. It is only read, and no pickled object is ever opened.
        name: which array of an NPZ; may be left out where it holds only one.
        mmap: leave the values on disk until they are looked at (a plain NPY of float32 or float64).
        time_axis: the axis along which time runs, where it is not the last.

    Raises:
        FileError: a damaged file, objects or text in it, no such array, no values.
        InputError: `mmap` of what cannot be mapped, an axis that the array does not have.

    Reference:
        "A simple file format for NumPy arrays" (Kern, 2007) https://numpy.org/neps/nep-0001-npy-format.html

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "two.npy"
        ...     np.save(path, np.arange(6.0).reshape(3, 2))
        ...     read_series_npy(path, time_axis=0).records[0].shape
        (2, 3)
    """
    path = existing(path)
    with guard(path, "array", "a whole NPY or NPZ of numbers", "save the array again with numpy.save"):
        with path.open("rb") as plain:
            mapped = plain.read(6) == b"\x93NUMPY"
        array = np.load(path, mmap_mode="r", allow_pickle=False) if mapped else _npz_array(path, name)
    if mmap and not (mapped and array.dtype.isnative and array.dtype.char in "fd"):
        got = f"{array.dtype} in {path.name}"
        raise InputError(f"Expected 'mmap' of a plain NPY of float32 or float64 (got {got}): leave 'mmap' out.")
    if mapped and not mmap:
        array = np.array(array)  # header against file size was checked by mapping it
    return _array_records(path, array, time_axis)


def _npz_array(path: Path, name: str | None) -> np.ndarray:
    with open_bytes(path) as stream:
        loaded = np.load(io.BytesIO(stream.read()), allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        return loaded[_only(path, loaded.files, name)]


def _only(path: Path, names: Sequence[str], name: str | None) -> str:
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        there = ", ".join(map(repr, list(names)[:20])) or "none"
        got = f"{name!r}; there: {there}"
        raise wrong(path, "arrays", "the name of one that is there", got, "say which by 'name'")
    return str(name)


def read_mat(path: str | os.PathLike, name: str | None = None, *, time_axis: int = -1) -> Records:
    """Series of one array of a MATLAB file (versions 4 to 7): a vector, (channels, time) or (records, channels, time).

    Row and column vectors both are one channel. Values as `read_series_npy` has them.

    Args:
        path: a .mat file, plain or compressed. It is only read.
        name: which variable; may be left out where there is only one.
        time_axis: the axis along which time runs, where it is not the last.

    Raises:
        FileError: a damaged file, version 7.3 (HDF5), structs, cells or text, no such variable, no values.

    Reference:
        "MAT-File Format" (MathWorks, 2024) https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from scipy.io import savemat
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "bearing.mat"
        ...     savemat(path, {"X097_DE_time": np.ones((4, 1))})
        ...     read_mat(path).records[0].shape
        (1, 4)
    """
    path, data = existing(path), read_bytes(path)
    if data.startswith(b"\x89HDF\r\n\x1a\n") or data.startswith(b"MATLAB 7.3 MAT-file"):
        raise wrong(path, "start", "version 4 to 7", "version 7.3 (HDF5)", "save with -v7, or read it with h5py")
    found = dict(_mat5(path, data) if data[126:128] in _ORDERS else _mat4(path, data))
    array = found[_only(path, list(found), name)]
    if array is None:
        where = f"variable {name or next(iter(found))!r}"
        raise wrong(
            path, where, "full real numbers", "text, cells, structs, sparse or complex", "save the values alone"
        )
    return _array_records(path, array.reshape(-1) if array.ndim == 2 and 1 in array.shape else array, time_axis)


# MATLAB's bytes, taken apart here: SciPy 1.17 crashed (SIGSEGV) on 1 of 300 damaged files, and nothing can catch that.


def _cut(path: Path, place: int, needed: str, got: str) -> FileError:
    return wrong(path, f"byte {place}", needed, got, "the file is damaged: save or copy it again")


def _elements(path: Path, data: bytes, order: str, place: int, shift: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """Place, type and content of version 5's elements one after the other."""
    while place < len(data):
        if len(data) - place < 8:
            raise _cut(path, place + shift, "a tag of 8 bytes", f"{len(data) - place} left")
        kind, size = struct.unpack_from(order + "II", data, place)
        start = place + 8
        if kind >> 16:  # up to 4 bytes inside the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        if size > (4 if start == place + 4 else len(data) - start):
            raise _cut(path, place + shift, "an element inside the file", f"one of {size} bytes")
        yield place + shift, kind, data[start : start + size]
        place = place + 8 if start == place + 4 else start + size + (0 if kind == _COMPRESSED else -size % 8)


def _mat5(path: Path, data: bytes) -> Iterator[tuple[str, np.ndarray | None]]:
    order = _ORDERS[data[126:128]]
    for place, kind, content in _elements(path, data, order, 128):
        if kind == _COMPRESSED:
            try:
                content = zlib.decompress(content)  # compares its Adler-32
            except zlib.error as error:
                raise _cut(path, place, "a whole zlib stream", str(error)) from error
            inner = list(_elements(path, content, order, 0, place))
            kind, content = (inner[0][1], inner[0][2]) if len(inner) == 1 else (0, b"")
        if kind != _MATRIX:
            raise _cut(path, place, "a matrix", f"an element of type {kind}")
        name, array = _matrix(path, place, content, order)
        if name:  # those without a name belong to MATLAB's own objects
            yield name, array


def _matrix(path: Path, place: int, content: bytes, order: str) -> tuple[str, np.ndarray | None]:
    parts = [(kind, body) for _, kind, body in islice(_elements(path, content, order, 0, place), 4)]
    if len(parts) < 3 or [kind for kind, _ in parts[:3]] != [6, 5, 1] or len(parts[0][1]) != 8 or len(parts[1][1]) % 4:
        raise _cut(path, place, "flags, shape and name of a matrix", f"types {[kind for kind, _ in parts[:3]]}")
    flags = struct.unpack_from(order + "I", parts[0][1])[0]
    shape = struct.unpack(f"{order}{len(parts[1][1]) // 4}i", parts[1][1])
    name = parts[2][1].decode("latin-1").rstrip("\0")
    if flags & 0xFF not in _CLASSES or flags & 0x800:
        return name, None
    kind, body = parts[3] if len(parts) == 4 else (0, b"")
    stored = np.dtype(order + _STORED.get(kind, "V1"))
    sane = kind in _STORED and 0 < len(shape) <= 32 and min(shape) >= 0
    if not sane or len(body) != prod(shape) * stored.itemsize:
        raise _cut(path, place, f"{shape} values of {name!r}", f"{len(body)} bytes of type {kind}")
    return name, np.frombuffer(body, stored).astype(_CLASSES[flags & 0xFF]).reshape(shape, order="F")


def _mat4(path: Path, data: bytes) -> Iterator[tuple[str, np.ndarray | None]]:
    place = 0
    while place < len(data):
        if len(data) - place < 20:
            raise _cut(path, place, "a header of 20 bytes", f"{len(data) - place} left")
        order = "<" if 0 <= struct.unpack_from("<i", data, place)[0] <= 52 else ">"
        form, rows, columns, imaginary, length = struct.unpack_from(order + "5i", data, place)
        thousands, kind, sort = form // 1000, form // 10 % 100, form % 10
        if thousands != (order == ">") or kind not in range(6) or sort not in (0, 1, 2) or imaginary not in (0, 1):
            raise _cut(path, place, "a MATLAB file of version 4 to 7", f"a header of type {form}")
        stored = np.dtype(order + ("f8", "f4", "i4", "i2", "u2", "u1")[kind])
        start = place + 20 + length
        size = rows * columns * stored.itemsize * (1 + imaginary)
        if min(rows, columns, length - 1) < 0 or start + size > len(data):
            raise _cut(path, place, "a matrix inside the file", f"{rows} x {columns}, name of {length} bytes")
        name = data[place + 20 : start].decode("latin-1").rstrip("\0")
        plain = sort == 0 and not imaginary
        yield (
            name,
            np.frombuffer(data[start : start + size], stored).reshape(rows, columns, order="F") if plain else None,
        )
        place = start + size


# What both become


def _array_records(path: Path, array: np.ndarray, time_axis: int) -> Records:
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2, 3) or not array.size:
        needed = "numbers of shape (time,), (channels, time) or (records, channels, time)"
        raise wrong(path, "array", needed, f"{array.dtype} of shape {array.shape}", "save the values alone")
    if not -array.ndim <= time_axis < array.ndim or (array.ndim == 3 and time_axis in (0, -3)):
        raise InputError(f"Expected 'time_axis' of an array of shape {array.shape} (got {time_axis}): -1 is the last.")
    array = np.moveaxis(array, time_axis, -1)
    wanted = np.dtype(np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64)
    if array.dtype != wanted:
        array = array.astype(wanted)
    records = list(array) if array.ndim == 3 else [np.atleast_2d(array)]
    return Records("series", records, channels=unknown_channels(len(records[0])), unit="time steps", source=path.name)
