"""PCD files of the Point Cloud Library, text, binary or compressed."""

import io
import struct
from collections.abc import Callable, Sequence
from os import PathLike

import numpy as np

from tokred_sci.datasets.files import AGAIN, read_bytes, wrong
from tokred_sci.datasets.formats.cloud import Missing, as_count, line_of, narrow, newlines, one_cloud, parse_rows, plain
from tokred_sci.datasets.records import Records


def read_pcd(
    path: str | PathLike, channels: Sequence[str] = (), label: str | None = None, missing: Missing = "drop"
) -> Records:
    """The points of a PCD file: ascii, binary or binary_compressed. The viewpoint is not applied.

    Law: what is left out is said: `source` tells how many points were dropped, and labels are dropped with them.

    Args:
        path: the file; gzip, bzip2 and xz are taken off.
        channels: fields to append to x, y, z; a field with COUNT > 1 gives as many channels, "rgb" and "rgba" (four
            packed bytes) give r, g, b in 0-255.
        label: field that becomes the labels: whole numbers as int64, NaN as -1, fractions as floats.
        missing: points with a number that is not finite, as organised clouds hold where nothing was measured.

    Returns:
        One record (n, 3 + channels), float64 where a picked field needs it, else float32.

    Raises:
        FileError: the file is not what its header says.
        InputError: a channel or label that the file does not have.

    Reference:
        The PCD file format (Point Cloud Library, 2011),
        https://pointclouds.org/documentation/tutorials/pcd_file_format.html

    Example:
        >>> import tempfile, pathlib
        >>> text = "VERSION .7\\nFIELDS x y z\\nSIZE 4 4 4\\nTYPE F F F\\nWIDTH 2\\nHEIGHT 1\\nDATA ascii\\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "two.pcd"
        ...     _ = path.write_text(text + "1 2 3\\nnan nan nan\\n")
        ...     cloud = read_pcd(path)
        >>> cloud.records, cloud.source
        ([array([[1., 2., 3.]], dtype=float32)], 'two.pcd, 1 of 2 points dropped: not finite')
    """
    data = read_bytes(path)
    stream = io.BytesIO(data)
    names, kinds, counts, points, encoding, lines = _pcd_header(path, stream, len(data))
    start = stream.tell()
    place: Callable[[int], str] = "point {}".format
    step = sum(kind.itemsize * count for kind, count in zip(kinds, counts, strict=True))
    if encoding == "ascii":
        rest = newlines(data[start:].decode("latin-1")).split("\n")
        parts, place = _pcd_ascii(path, rest, lines + 1, points, kinds, counts)
    elif encoding == "binary":
        _pcd_end(path, data, start, points * step)
        fields = [(f"f{i}", kind, (count,)) for i, (kind, count) in enumerate(zip(kinds, counts, strict=True))]
        table = np.frombuffer(data, np.dtype(fields), points, start)
        parts = [table[f"f{i}"] for i in range(len(names))]
    else:
        parts = _pcd_compressed(path, data, start, points, step, kinds, counts)
    columns = {
        name: _unpack(name, part) for name, part in zip(names, parts, strict=True) if name != "_"
    }  # "_" is padding
    return one_cloud(path, columns, channels, label, missing, place)


def _pcd_header(
    path: str | PathLike, stream: io.BytesIO, size: int
) -> tuple[list[str], list[np.dtype], list[int], int, str, int]:
    """Names, types and counts of the fields, the number of points, the encoding, the number of lines."""
    entries: dict[str, tuple[str, list[str]]] = {}
    number = 0
    for number, raw in enumerate(stream, 1):
        words, where = raw.decode("latin-1").split(), f"line {number}"
        if not words or words[0].startswith("#"):
            continue
        if words[0] not in _PCD_KEYS or words[0] in entries:
            raise wrong(path, where, f"one of {', '.join(_PCD_KEYS)}, each once", repr(raw[:60]), AGAIN)
        entries[words[0]] = where, words[1:]
        if words[0] == "DATA":
            break
    absent = [key for key in _PCD_KEYS if key not in entries and key not in ("VIEWPOINT", "COUNT", "POINTS")]
    if absent:
        raise wrong(path, "header", f"a line {absent[0]!r}", "none", AGAIN)
    names, kinds, counts = _pcd_fields(path, entries)
    points = _pcd_points(path, entries, size)
    where, encoding = entries["DATA"]
    if encoding not in (["ascii"], ["binary"], ["binary_compressed"]):
        raise wrong(path, where, "ascii, binary or binary_compressed", repr(" ".join(encoding)[:40]), AGAIN)
    return names, kinds, counts, points, encoding[0], number


_PCD_KEYS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")


def _pcd_fields(
    path: str | PathLike, entries: dict[str, tuple[str, list[str]]]
) -> tuple[list[str], list[np.dtype], list[int]]:
    names = entries["FIELDS"][1]
    where, letters = entries["TYPE"]
    sizes = entries["SIZE"][1]
    at, texts = entries.get("COUNT", ("", ["1"] * len(names)))
    if not len(names) == len(letters) == len(sizes) == len(texts):
        got = f"{len(names)} FIELDS, {len(sizes)} SIZE, {len(letters)} TYPE, {len(texts)} COUNT"
        raise wrong(path, where, "as many of each as there are fields", got, AGAIN)
    real = [name for name in names if name != "_"]
    if len(set(real)) != len(real):
        raise wrong(path, entries["FIELDS"][0], "each field once", " ".join(names)[:60], AGAIN)
    kinds = []
    for letter, size in zip(letters, sizes, strict=True):
        code = f"<{letter.lower()}{size}"
        if code not in ("<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f4", "<f8"):
            raise wrong(path, where, "TYPE I, U or F of SIZE 1, 2, 4 or 8", f"{letter} {size}"[:40], AGAIN)
        kinds.append(np.dtype(code))
    return names, kinds, [max(1, as_count(path, at, "values", text, 99_999)) for text in texts]


def _pcd_points(path: str | PathLike, entries: dict[str, tuple[str, list[str]]], size: int) -> int:
    numbers = {}
    for key in ("WIDTH", "HEIGHT", "POINTS"):
        where, words = entries.get(key, ("header", []))
        if key in entries:
            numbers[key] = as_count(path, where, "points", " ".join(words), 100 * size)  # LZF: 88 bytes for one
    points = numbers["WIDTH"] * numbers["HEIGHT"]
    if numbers.get("POINTS", points) != points:
        raise wrong(path, "header", f"POINTS = WIDTH x HEIGHT = {points}", str(numbers["POINTS"]), AGAIN)
    return points


def _pcd_end(path: str | PathLike, data: bytes, start: int, length: int) -> None:
    """Refuses data that are not as long as promised; PCL fills its files with zeros up to a page."""
    if start + length > len(data):
        raise wrong(path, f"byte {len(data)}", f"data up to byte {start + length}", "its end", AGAIN)
    if data[start + length :].strip(b"\0"):
        more = f"{len(data) - start - length} more bytes"
        raise wrong(path, f"byte {start + length}", "the end of the file or zeros", more, AGAIN)


def _pcd_ascii(
    path: str | PathLike, lines: list[str], first: int, points: int, kinds: list[np.dtype], counts: list[int]
) -> tuple[list[np.ndarray], Callable[[int], str]]:
    width = sum(counts)
    rows = sum(1 for line in lines if line and not line.isspace())
    if rows != points:
        raise wrong(path, f"from line {first}", f"{points} lines of data", str(rows), AGAIN)
    place = line_of(lines, first)
    longest = max(map(len, lines), default=0)
    if points and width > longest:  # before a table of that width is made
        raise wrong(path, f"from line {first}", f"{width} columns", f"at most {longest} letters a line", AGAIN)
    table = parse_rows(path, lines, first, plain(width)) if points else np.empty(0, plain(width))
    flat = narrow(path, table, place, np.repeat(np.array(kinds, object), counts).tolist())
    ends = np.cumsum(counts).tolist()
    return [np.stack(flat[end - count : end], axis=1) for end, count in zip(ends, counts, strict=True)], place


def _pcd_compressed(
    path: str | PathLike, data: bytes, start: int, points: int, step: int, kinds: list[np.dtype], counts: list[int]
) -> list[np.ndarray]:
    """Fields one after the other, each (points, count)."""
    if len(data) < start + 8:
        raise wrong(path, f"byte {len(data)}", "two lengths of 4 bytes", "the end of the file", AGAIN)
    packed, full = struct.unpack_from("<II", data, start)
    _pcd_end(path, data, start + 8, packed)
    if full != points * step or full > 88 * packed:
        needed = f"{points * step} bytes for {points} points, at most 88 from each of {packed}"
        raise wrong(path, f"byte {start + 4}", needed, str(full), AGAIN)
    raw = _unlzf(path, data[start + 8 : start + 8 + packed], full)
    parts, offset = [], 0
    for kind, count in zip(kinds, counts, strict=True):
        parts.append(np.frombuffer(raw, kind, points * count, offset).reshape(points, count))
        offset += points * count * kind.itemsize
    return parts


def _unlzf(path: str | PathLike, data: bytes, size: int) -> bytearray:
    """LZF taken apart: a byte below 32 starts a run of letters, any other says how far back to copy from, and how much.

    Reference:
        LibLZF (Lehmann, 2000), http://oldhome.schmorp.de/marc/liblzf.html
    """
    out, i = bytearray(), 0
    try:
        while i < len(data):
            control = data[i]
            i += 1
            if control < 32:
                if i + control >= len(data):
                    raise IndexError("a run of letters past the end")
                out += data[i : i + control + 1]
                i += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[i]
                i += 1
            start = len(out) - ((control & 31) << 8) - data[i] - 1
            i, length = i + 1, length + 2
            if start < 0:
                raise IndexError("a copy from before the start")
            piece = out[start : start + length]
            out += piece if len(piece) == length else (piece * (length // len(piece) + 1))[:length]
    except IndexError as error:
        raise wrong(path, f"byte {i} of the compressed data", "LZF", str(error), AGAIN) from error
    if len(out) != size:
        raise wrong(path, "compressed data", f"{size} bytes out of them", str(len(out)), AGAIN)
    return out


def _unpack(name: str, part: np.ndarray) -> np.ndarray:
    """(n, 1) -> (n,); packed colours -> (n, 3) uint8."""
    if part.shape[1] > 1:
        return part
    values = np.ascontiguousarray(part[:, 0])
    if name in ("rgb", "rgba") and values.dtype.itemsize == 4:
        packed = values.view("<u4")
        return np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)
    return values
