"""Rows of numbers to a file as they come: NPY, NPZ or Zarr, under its name when all of it is there."""

import os
import shutil
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tokred_sci.errors import FileError, InputError

KINDS = (".npz", ".npy", ".zarr")
CHUNK = 1 << 24  # bytes of a Zarr chunk, about
Write = Callable[[np.ndarray], None]


def check_out(out: Path, offsets: bool) -> None:
    """Refuse a place that rows cannot be written to, before the work.

    Raises:
        InputError: another ending than `KINDS`, something that exists, or NPY for what needs names or offsets.
    """
    if out.suffix not in KINDS:
        raise InputError(f"Expected '--out' to end in {', '.join(KINDS)} (got {out}): the ending says the format.")
    if os.path.lexists(out):
        raise InputError(f"Expected a path that does not exist (got {out}): choose another, or remove it yourself.")
    if offsets and out.suffix == ".npy":
        raise InputError(
            f"Expected .npz or .zarr for rows of several records (got {out}): NPY has no room for offsets."
        )


@contextmanager
def row_file(out: Path, rows: int, width: int, beside: dict[str, np.ndarray]) -> Iterator[Write]:
    """A function that takes the next rows, float32 of this width, until all are written.

    Law: memory holds what is handed over, not the file; the file appears whole or not at all.

    Args:
        out: the file, or folder for Zarr.
        rows, width: how many there will be.
        beside: further arrays, small; not in NPY.

    Raises:
        FileError: the disk is full, or the place may not be written to.
        InputError: fewer or more rows than were promised.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp()) / "two.npz"
        >>> with row_file(out, 2, 3, {"names": np.array(["a", "b"])}) as write:
        ...     write(np.zeros((1, 3), np.float32))
        ...     write(np.ones((1, 3), np.float32))
        >>> with np.load(out) as arrays:
        ...     arrays["features"].sum(1).tolist(), arrays["names"].tolist()
        ([0.0, 3.0], ['a', 'b'])
    """
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.part")
    written = 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            put = _OPENERS[out.suffix](stack, part, (rows, width), beside)

            def write(values: np.ndarray) -> None:
                nonlocal written
                put(np.ascontiguousarray(values, "<f4"), written)
                written += len(values)

            yield write
        if written != rows:
            raise InputError(f"Expected {rows} rows for {out} (got {written}).")
        part.rename(out)
    except OSError as error:
        raise FileError(f"Could not write {out} ({error}): free space, or choose another place.") from error
    finally:
        _remove(part)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    elif part.exists():
        part.unlink()


Put = Callable[[np.ndarray, int], Any]


def _open_npy(stack: ExitStack, part: Path, shape: tuple[int, int], beside: dict[str, np.ndarray]) -> Put:
    stream = stack.enter_context(part.open("wb"))
    _write_header(stream, shape)
    return lambda values, start: stream.write(values.tobytes())


def _open_npz(stack: ExitStack, part: Path, shape: tuple[int, int], beside: dict[str, np.ndarray]) -> Put:
    archive = stack.enter_context(zipfile.ZipFile(part, "w"))
    for name, values in beside.items():
        with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array(stream, values, allow_pickle=False)
    stream = stack.enter_context(archive.open("features.npy", "w", force_zip64=True))
    _write_header(stream, shape)
    return lambda values, start: stream.write(values.tobytes())


def _open_zarr(stack: ExitStack, part: Path, shape: tuple[int, int], beside: dict[str, np.ndarray]) -> Put:
    import zarr

    group = zarr.create_group(str(part))
    chunk = max(1, min(shape[0], CHUNK // (4 * shape[1])))
    array = group.create_array("features", shape=shape, chunks=(chunk, shape[1]), dtype="float32")
    for name, values in beside.items():
        if values.dtype.kind == "U":
            group.attrs[name] = values.tolist()  # strings are no settled type of Zarr's yet
        else:
            group.create_array(name, data=values)

    def put(values: np.ndarray, start: int) -> None:
        array[start : start + len(values)] = values

    return put


_OPENERS = {".npy": _open_npy, ".npz": _open_npz, ".zarr": _open_zarr}


def _write_header(stream: Any, shape: tuple[int, int]) -> None:
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
