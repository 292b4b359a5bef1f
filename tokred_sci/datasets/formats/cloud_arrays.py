"""Points in arrays: NPY, NPZ, and HDF5 in the layout of ModelNet40."""

import io
import warnings
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tokred_sci.datasets.files import AGAIN, existing, guard, read_bytes, wrong
from tokred_sci.datasets.formats.cloud import Missing, one_cloud, whole_labels
from tokred_sci.datasets.records import Records
from tokred_sci.errors import InputError, package


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
    with guard(path, "archive", "an NPZ file"):
        archive = zipfile.ZipFile(io.BytesIO(data))
        names = [entry.removesuffix(".npy") for entry in archive.namelist()]
    name = names[0] if name is None and len(names) == 1 else name
    for wanted in (name,) if label is None else (name, label):
        if wanted not in names:
            raise InputError(f"Expected 'name' and 'label' among {', '.join(names)[:200]} (got {wanted!r}): choose.")
    arrays = []
    for wanted in (name,) if label is None else (name, label):
        with guard(path, f"array {wanted!r}", "it whole"):
            member = archive.read(archive.namelist()[names.index(str(wanted))])
        arrays.append(_npy(path, member))
    return _batch(path, arrays[0], arrays[1] if label is not None else None, missing)


def _npy(path: str | PathLike, data: bytes) -> np.ndarray:
    """One array, its size compared with the bytes before it is made."""
    stream, form = io.BytesIO(data), np.lib.format
    with guard(path, "byte 0", "an NPY header, version 1 or 2"), warnings.catch_warnings():
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
    h5py, size = package("h5py", "HDF5 files", "points"), existing(path).stat().st_size
    with guard(path, "HDF5", "a file that is whole"), h5py.File(path, "r") as file:
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
