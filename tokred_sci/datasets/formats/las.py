"""LAS and LAZ files as point clouds, their sizes compared with the file before laspy decodes them."""

import io
import struct
from collections.abc import Sequence
from os import PathLike

import numpy as np

from tokred_sci.datasets.files import AGAIN, guard, read_bytes, wrong
from tokred_sci.datasets.formats.cloud import Columns, Missing, check_known, one_cloud
from tokred_sci.datasets.records import Records
from tokred_sci.errors import package


def read_las(
    path: str | PathLike,
    channels: Sequence[str] = (),
    label: str | None = "classification",
    bounds: bool = True,
    missing: Missing = "error",
) -> Records:
    """The points of a LAS or LAZ file, in scaled coordinates; needs laspy and lazrs (extra "points").

    Law: as many points as the header counts, all inside the box it gives: LAZ has no checksum, and damage shows there.

    Args:
        path: the file.
        channels: dimensions to append to x, y, z, such as "intensity" or "gps_time", extra ones too.
        label: dimension that becomes the labels, by default the class code (2 = ground); for floats NaN and the
            largest number, which writers use for "none", become -1. None = no labels.
        bounds: False reads a file whose box is wrong.
        missing: points with a number that is not finite: "error", "drop" or "keep".

    Returns:
        One record (n, 3 + channels) float64.

    Raises:
        FileError: the file is cut short or damaged.
        InputError: a channel or label that the file does not have.
        MissingExtra: laspy is not installed.

    Reference:
        LAS Specification 1.4 R15 (ASPRS, 2019),
        https://www.asprs.org/wp-content/uploads/2019/07/LAS_1_4_r15.pdf

    Example:
        >>> import laspy, tempfile, pathlib
        >>> las = laspy.create()
        >>> las.x, las.y, las.z, las.classification = [1.5, 2], [0, 1], [7, 8], [2, 5]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "two.las"
        ...     las.write(path)
        ...     cloud = read_las(path)
        >>> cloud.records, cloud.labels
        ([array([[1.5, 0. , 7. ],
               [2. , 1. , 8. ]])], [array([2, 5])])
    """
    laspy = package("laspy", "LAS and LAZ files", "points")
    data = read_bytes(path)
    count = _las_header(path, data)
    wanted = [*channels, *([] if label is None else [label])]
    with guard(path, "points", f"{count} points"), np.errstate(all="ignore"):
        backend = laspy.LazBackend.Lazrs
        with laspy.open(io.BytesIO(data), laz_backend=backend, read_evlrs=False) as reader:
            names = [name for name in reader.header.point_format.dimension_names if name not in ("X", "Y", "Z")]
            parts: dict[str, list] = {
                name: [] for name in ("x", "y", "z", *dict.fromkeys(wanted)) if name in ("x", "y", "z", *names)
            }
            for chunk in reader.chunk_iterator(1 << 18):
                for name, values in parts.items():
                    values.append(np.array(chunk[name]))
            box = np.array([reader.header.mins, reader.header.maxs, reader.header.scales])
    columns = {name: np.concatenate(values) if values else np.empty(0) for name, values in parts.items()}
    for name in wanted:
        check_known(name, {**dict.fromkeys(names, np.empty(0)), **columns})
    if len(columns["x"]) != count:
        raise wrong(path, "header", f"{count} points", str(len(columns["x"])), AGAIN)
    if bounds and count:
        _in_box(path, columns, box)
    return one_cloud(path, columns, channels, label, missing, dtype=np.dtype(np.float64))


def _las_header(path: str | PathLike, data: bytes) -> int:
    """The number of points, after the sizes have been compared with the file's."""
    if not data.startswith(b"LASF") or len(data) < 227:
        raise wrong(path, "byte 0", "a LAS header: 'LASF' and 227 bytes", repr(data[:8]), "choose its reader")
    size, start, notes, kind, step, count = struct.unpack_from("<HIIBHI", data, 94)
    if data[25] >= 4 and len(data) >= 255:
        count = struct.unpack_from("<Q", data, 247)[0]
    if not 227 <= size <= start <= len(data) or notes * 54 > start - size or step < 20:
        got = f"header {size}, points at {start}, {notes} notes, {step} bytes a point"
        raise wrong(path, "byte 94", f"sizes that fit into {len(data)} bytes", got, AGAIN)
    if not kind & 0x80 and start + count * step > len(data):
        raise wrong(path, "byte 107", f"{count} points of {step} bytes", f"{len(data) - start} bytes", AGAIN)
    if kind & 0x80 and count:
        _laz_chunks(path, data, start, step)
    return count


_LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}  # of a LAZ item; extra bytes (14) have one each


def _laz_chunks(path: str | PathLike, data: bytes, start: int, step: int) -> None:
    """Refuses chunks whose lengths do not add up: a decoder would allocate what a damaged length asks for."""
    table = struct.unpack_from("<q", data, start)[0] if start + 8 <= len(data) else 0
    if table == -1:
        table = struct.unpack_from("<q", data, len(data) - 8)[0]
    chunks = struct.unpack_from("<I", data, table + 4)[0] if start < table <= len(data) - 8 else None
    if chunks is None or chunks * step > len(data):  # each chunk holds its first point as it is
        got = f"{chunks} chunks, table at byte {table}"
        raise wrong(path, f"byte {start}", f"a table of chunks within {len(data)} bytes", got, AGAIN)
    note, lazrs = _laz_note(path, data), package("lazrs", "LAZ files", "points")
    with guard(path, f"byte {table}", "a table of chunks"):
        stream = io.BytesIO(data)
        stream.seek(start)
        lengths = [length for _, length in lazrs.read_chunk_table(stream, lazrs.LazVlr(note))]
    if sum(lengths) != table - start - 8:
        got = f"{sum(lengths)} in {len(lengths)} chunks"
        raise wrong(path, f"byte {table}", f"lengths of chunks that add up to {table - start - 8}", got, AGAIN)
    if note[:2] == b"\3\0":
        _laz_layers(path, data, start + 8, step, lengths, note)


def _laz_note(path: str | PathLike, data: bytes) -> bytes:
    """The header's note on how the points are packed."""
    (place,), (notes,) = struct.unpack_from("<H", data, 94), struct.unpack_from("<I", data, 100)
    for _ in range(notes):
        user, length = (
            data[place + 2 : place + 18].rstrip(b"\0"),
            int.from_bytes(data[place + 20 : place + 22], "little"),
        )
        note = data[place + 54 : place + 54 + length]
        if user == b"laszip encoded" and len(note) >= 34 and len(note) >= 34 + 6 * note[32]:
            return note
        place += 54 + length
    raise wrong(path, "header", "a note 'laszip encoded'", f"none in {notes}", AGAIN)


def _laz_layers(path: str | PathLike, data: bytes, place: int, step: int, lengths: list[int], note: bytes) -> None:
    """Compares the lengths of a chunk's layers with its own: its first point, how many points, lengths, layers."""
    items = [struct.unpack_from("<HH", note, 34 + 6 * i) for i in range(note[32])]
    layers = sum(size if kind == 14 else _LAYERS.get(kind, 0) for kind, size in items)
    for length in lengths:
        head = step + 4 + 4 * layers
        if length < head or place + head > len(data):
            raise wrong(path, f"byte {place}", f"a chunk of at least {head} bytes", str(length), AGAIN)
        told = head + sum(struct.unpack_from(f"<{layers}I", data, place + step + 4))
        if told != length:
            raise wrong(path, f"byte {place + step + 4}", f"layers of a chunk of {length} bytes", str(told), AGAIN)
        place += length


def _in_box(path: str | PathLike, columns: Columns, box: np.ndarray) -> None:
    for axis, least, most, scale in zip("xyz", *box, strict=True):
        with np.errstate(all="ignore"):
            values, slack = columns[axis], abs(scale) + 1e-9 * max(abs(least), abs(most))
            inside = values.min() >= least - slack and values.max() <= most + slack
        if not inside:
            raise wrong(
                path,
                "points",
                f"{axis} within [{least}, {most}] as the header says",
                f"[{values.min()}, {values.max()}]",
                "copy the file again, or read it with bounds=False where its header is known to be wrong",
            )
