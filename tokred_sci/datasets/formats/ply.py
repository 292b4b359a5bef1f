"""PLY files, text or binary, as point clouds."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np

from tokred_sci.datasets.files import AGAIN, read_bytes, wrong
from tokred_sci.datasets.formats.cloud import Missing, as_count, line_of, narrow, newlines, one_cloud, parse_rows, plain
from tokred_sci.datasets.records import Records

_PLY_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
_PLY_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(slots=True)
class _Element:
    """One element of a PLY header; a property is (name, type of its list's length or "", type)."""

    name: str
    count: int
    properties: list[tuple[str, str, str]]

    @property
    def scalar(self) -> bool:
        return not any(length for _, length, _ in self.properties)

    def least(self) -> int:
        """Bytes that one of them takes at least."""
        return sum(np.dtype(length or kind).itemsize for _, length, kind in self.properties)

    def dtype(self, order: str) -> np.dtype:
        return np.dtype([(name, order + kind) for name, _, kind in self.properties])


def read_ply(
    path: str | PathLike, channels: Sequence[str] = (), label: str | None = None, missing: Missing = "error"
) -> Records:
    """The vertices of a PLY file, ascii or binary of either byte order; faces and other elements are walked over.

    Law: the same vertices in any of the three encodings give equal arrays, and a file that is longer or shorter than
    its header says is refused before anything is allocated.

    Args:
        path: the file; gzip, bzip2 and xz are taken off.
        channels: vertex properties to append to x, y, z, such as "nx" or "red".
        label: vertex property that becomes the labels: whole numbers as int64, NaN as -1, fractions as floats.
        missing: points with a number that is not finite: "error", "drop" or "keep".

    Returns:
        One record (n, 3 + channels), float64 where a picked property needs it, else float32.

    Raises:
        FileError: the file is not what its header says.
        InputError: a channel or label that the file does not have.

    Reference:
        The PLY Polygon File Format (Turk, 1994), https://gamma.cs.unc.edu/POWERPLANT/papers/ply.pdf

    Example:
        >>> import tempfile, pathlib
        >>> header = "ply\\nformat ascii 1.0\\nelement vertex 1\\n"
        >>> axes = "".join(f"property float {axis}\\n" for axis in "xyz")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "one.ply"
        ...     _ = path.write_text(header + axes + "end_header\\n1 2 3\\n")
        ...     read_ply(path).records
        [array([[1., 2., 3.]], dtype=float32)]
    """
    data = read_bytes(path)
    stream = io.BytesIO(data)
    order, elements, lines = _ply_header(path, stream, len(data))
    vertex = next((element for element in elements if element.name == "vertex"), None)
    if vertex is None or not vertex.scalar:
        got = "none" if vertex is None else "a list property in it"
        raise wrong(path, "header", "an element 'vertex' with one number per property", got, AGAIN)
    if order:
        table = _ply_binary(path, data, stream.tell(), order, elements)
        columns = {name: table[name].astype(table.dtype[name].newbyteorder("=")) for name in table.dtype.names or ()}
        return one_cloud(path, columns, channels, label, missing)
    rest = newlines(data[stream.tell() :].decode("latin-1")).split("\n")
    columns, place = _ply_ascii(path, rest, lines + 1, elements)
    return one_cloud(path, columns, channels, label, missing, place)


def _ply_header(path: str | PathLike, stream: io.BytesIO, size: int) -> tuple[str, list[_Element], int]:
    """The byte order ("" = text), the elements, and the number of lines."""
    if stream.readline().rstrip() != b"ply":
        raise wrong(path, "line 1", "'ply'", repr(stream.getvalue()[:20]), "choose the reader of its format")
    order: str | None = None
    elements: list[_Element] = []
    for number, raw in enumerate(stream, 2):
        words, where = raw.decode("latin-1").split(), f"line {number}"
        if words == ["end_header"] and order is not None:
            _ply_fits(path, elements, order, size - stream.tell())
            return order, elements, number
        match words:
            case ["comment" | "obj_info", *_]:
                pass
            case ["format", name, "1.0"] if name in _PLY_ORDERS and order is None:
                order = _PLY_ORDERS[name]
            case ["element", name, count] if all(name != element.name for element in elements):
                elements.append(_Element(name, as_count(path, where, name, count, size), []))
            case ["property", *kinds, name] if elements:
                elements[-1].properties.append(_ply_property(path, where, elements[-1], kinds, name))
            case _:
                needed = "a line of a PLY 1.0 header, each element and its format once"
                raise wrong(path, where, needed, repr(raw[:60]), AGAIN)
    raise wrong(path, "header", "'end_header' after a line 'format'", "the end of the file", AGAIN)


def _ply_property(
    path: str | PathLike, where: str, element: _Element, kinds: list[str], name: str
) -> tuple[str, str, str]:
    types = [_PLY_TYPES.get(kind, "") for kind in (kinds[1:] if kinds[:1] == ["list"] else kinds)]
    whole = len(types) == 2 and len(kinds) == 3 and types[0][:1] in ("i", "u")
    if not all(types) or not (len(types) == len(kinds) == 1 or whole):
        got = " ".join(["property", *kinds, name])
        raise wrong(path, where, f"a property of type {', '.join(_PLY_TYPES)} or a list", repr(got[:60]), AGAIN)
    if any(name == other for other, _, _ in element.properties):
        raise wrong(path, where, "each property once", f"{name!r} again", AGAIN)
    return name, types[0] if len(types) == 2 else "", types[-1]


def _ply_fits(path: str | PathLike, elements: list[_Element], order: str, left: int) -> None:
    """Refuses a header that promises more than the file holds; text takes two bytes per number at least."""
    for element in elements:
        if not element.properties and (element.count or element.name == "vertex"):
            raise wrong(path, "header", f"properties of {element.name!r}", "none", AGAIN)
    least = sum(e.count * (e.least() if order else 2 * len(e.properties)) for e in elements)
    if least > left + (not order):  # the last line may lack its end
        counts = ", ".join(f"{element.count} {element.name}" for element in elements)
        raise wrong(path, "header", f"at least {least} bytes of data for {counts}", f"{left} bytes", AGAIN)


def _ply_binary(path: str | PathLike, data: bytes, offset: int, order: str, elements: list[_Element]) -> np.ndarray:
    """The table of vertices; the other elements only say where it is and where the data end."""
    table = np.empty(0)
    for element in elements:
        dtype = element.dtype(order)
        end = offset + element.count * dtype.itemsize
        if not element.scalar:
            end = _skip_lists(path, data, offset, order, element)
        if end > len(data):
            raise wrong(path, f"byte {len(data)}", f"data of {element.name!r} up to byte {end}", "its end", AGAIN)
        if element.name == "vertex":
            table = np.frombuffer(data, dtype, element.count, offset)
        offset = end
    if offset != len(data):
        raise wrong(path, f"byte {offset}", "the end of the file", f"{len(data) - offset} more bytes", AGAIN)
    return table


def _skip_lists(path: str | PathLike, data: bytes, offset: int, order: str, element: _Element) -> int:
    """Where an element with lists ends: at once where all are as long as the first, else row by row."""
    sizes = [(np.dtype(length or kind), np.dtype(kind).itemsize, length) for _, length, kind in element.properties]

    def walk(start: int) -> int:
        for first, item, length in sizes:
            end = start + first.itemsize
            if length:
                number = int.from_bytes(data[start:end], "little" if order == "<" else "big", signed=first.kind == "i")
                if number < 0:
                    raise wrong(path, f"byte {start}", "a list's length, 0 or more", str(number), AGAIN)
                end += number * item
            start = end
        if start > len(data):
            raise wrong(path, f"byte {len(data)}", f"data of {element.name!r}", "the end of the file", AGAIN)
        return start

    if len(sizes) == 1 and element.count:  # the usual list of faces
        step, first = walk(offset) - offset, sizes[0][0].itemsize
        if offset + element.count * step <= len(data):
            rows = np.frombuffer(data, np.uint8, element.count * step, offset).reshape(element.count, step)
            if (rows[:, :first] == rows[0, :first]).all():
                return offset + element.count * step
    for _ in range(element.count):
        offset = walk(offset)
    return offset


def _ply_ascii(
    path: str | PathLike, lines: list[str], first: int, elements: list[_Element]
) -> tuple[dict[str, np.ndarray], Callable[[int], str]]:
    full = [number for number, line in enumerate(lines) if line and not line.isspace()]
    total = sum(element.count for element in elements)
    if len(full) != total:
        raise wrong(path, f"from line {first}", f"{total} lines of data", str(len(full)), AGAIN)
    row, columns, place = 0, {}, line_of([], 0)
    for element in elements:
        numbers = full[row : row + element.count]
        row += element.count
        if element.name == "vertex" and numbers:
            part = lines[numbers[0] : numbers[-1] + 1]
            place = line_of(part, first + numbers[0])
            table = parse_rows(path, part, first + numbers[0], plain(len(element.properties)))
            kinds = [np.dtype(kind) for _, _, kind in element.properties]
            values = narrow(path, table, place, kinds)
            columns = {name: column for (name, _, _), column in zip(element.properties, values, strict=True)}
        elif element.name == "vertex":
            columns = {name: np.empty(0, kind) for name, _, kind in element.properties}
        else:
            _check_lists(path, lines, numbers, first, element)
    return columns, place


def _check_lists(path: str | PathLike, lines: list[str], numbers: list[int], first: int, element: _Element) -> None:
    """Refuses a row with fewer or more numbers than its lists say: the sign of a file cut short."""
    for number in numbers:
        cells, at = lines[number].split(), 0
        for _, length, _ in element.properties:
            known = cells[at].isascii() and cells[at].isdigit() and len(cells[at]) < 19 if at < len(cells) else False
            at += 1 + (int(cells[at]) if length and known else 0)
            if length and not known:
                at = -1
                break
        if at != len(cells):
            needed = f"a row of {element.name!r} as long as its lists say"
            raise wrong(path, f"line {first + number}", needed, repr(lines[number][:60]), AGAIN)
