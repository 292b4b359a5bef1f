"""Meshes on disk (OBJ, OFF, STL) -> points sampled evenly from their surface, or their vertices."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from tokred_sci.datasets.files import AGAIN, read_bytes, wrong
from tokred_sci.datasets.formats.cloud import as_count, is_number, newlines, one_cloud, parse_rows, plain
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError, InputError

_PACKED = (".gz", ".bz2", ".xz")
_OBJ_IGNORED = frozenset(
    {"vt", "vn", "vp", "l", "p", "o", "g", "s", "mg", "usemtl", "mtllib", "usemap", "maplib", "bevel"}
    | {"c_interp", "d_interp", "lod", "shadow_obj", "trace_obj"}
)
_OFF = re.compile(rb"(\s*#[^\n]*\n)*\s*(ST)?C?N?OFF[\s\d]")


@dataclass(slots=True)
class _Mesh:
    """Vertices, and faces cut into triangles."""

    vertices: np.ndarray  # (v, 3)
    triangles: np.ndarray  # (t, 3) int64, rows of vertices
    faces: np.ndarray  # (t,) int64, the face each triangle was cut from


def read_mesh(
    path: str | PathLike,
    points: int | None = 1024,
    seed: int = 0,
    normals: bool = False,
    label: str | None = None,
) -> Records:
    """Points drawn from the surface of a mesh: OBJ, OFF (COFF, NOFF, STOFF) or STL, text or binary.

    Law: a part of the surface gets points in proportion to its area, and the same file, number and seed give the same
    points. Faces with more than three corners are cut into fans of triangles from their first corner.

    Args:
        path: the file; gzip, bzip2 and xz are taken off. Its suffix says the format, else its first bytes do.
        points: how many to draw, 1 or more; None gives the vertices (STL: every distinct corner once).
        seed: of the random numbers, 0 or more.
        normals: append unit normals: of the face a point is on (its corners run counter-clockwise seen from outside);
            for vertices the mean over their faces, weighted by area.
        label: "face" labels each point with the number of its face, from 0 in the file's order.

    Returns:
        One record (points, 3 or 6): float32 for binary STL, else float64.

    Raises:
        FileError: the file breaks off, a face names a vertex that is not there, or no face has an area.
        InputError: an argument out of range.

    Reference:
        Shape Distributions (Osada et al., 2002), https://doi.org/10.1145/571647.571648, for even sampling; Wavefront
        OBJ (http://paulbourke.net/dataformats/obj/), OFF (http://www.geomview.org/docs/html/OFF.html), STL
        (https://www.fabbers.com/tech/STL_Format)

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "square.obj"
        ...     _ = path.write_text("v 0 0 5\\nv 1 0 5\\nv 1 1 5\\nv 0 1 5\\nf 1 2 3 4\\n")
        ...     cloud = read_mesh(path, points=100, normals=True)
        >>> cloud.records[0].shape, cloud.records[0].min(axis=0)[2:].tolist()
        ((100, 6), [5.0, 0.0, 0.0, 1.0])
    """
    for name, value, least in (("points", 1 if points is None else points, 1), ("seed", seed, 0)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
            raise InputError(f"Expected '{name}' as a whole number, {least} or more (got {value!r}): change it.")
    if label not in (None, "face") or (label and points is None):
        raise InputError(f"Expected 'label' as None, or as 'face' with 'points' drawn (got {label!r}): leave it out.")
    mesh = _read(path, read_bytes(path))
    if not np.isfinite(mesh.vertices).all():
        row = int(np.argmin(np.isfinite(mesh.vertices).all(axis=1)))
        got = str(mesh.vertices[row].tolist())
        raise wrong(path, f"vertex {row + 1}", "finite coordinates", got, "repair the file")
    kind = mesh.vertices.dtype
    if points is None:
        xyz, across, faces = mesh.vertices, _vertex_normals(path, mesh) if normals else None, None
    else:
        xyz, across, faces = _sample(path, mesh, int(points), np.random.default_rng(seed))
    columns = dict(zip("xyz", xyz.astype(kind).T, strict=True))
    names = ["normal x", "normal y", "normal z"] if normals else []
    if normals and across is not None:
        columns |= dict(zip(names, across.astype(kind).T, strict=True))
    if faces is not None:
        columns["face"] = faces
    return one_cloud(path, columns, names, label, "error")


def mesh_format(head: bytes, size: int) -> str | None:
    """ "obj", "off" or "stl" for a file's first bytes and its size, or None.

    Example:
        >>> mesh_format(b"OFF\\n3 1 0\\n", 60), mesh_format(b"v 0 0 0\\nv 1 0 0\\n", 16), mesh_format(b"x,y\\n", 4)
        ('off', 'obj', None)
    """
    if len(head) >= 84 and size == 84 + 50 * int.from_bytes(head[80:84], "little") > 84:
        return "stl"
    if re.match(rb"\s*solid\b", head) and re.search(rb"\n\s*(facet\s+normal|endsolid)\b", head):
        return "stl"
    if _OFF.match(head):
        return "off"
    lines = newlines(head.decode("latin-1")).split("\n")
    rows = [line.split() for line in (lines if len(head) >= size else lines[:-1])]
    rows = [row for row in rows if row and not row[0].startswith("#")]
    known = all(row[0] in _OBJ_IGNORED or row[0] in ("v", "f") for row in rows)
    vertices = [row for row in rows if row[0] == "v"]
    return "obj" if known and vertices and all(len(r) > 3 and all(map(is_number, r[1:])) for r in vertices) else None


def _read(path: str | PathLike, data: bytes) -> _Mesh:
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    last = suffixes[-2:-1] if suffixes[-1:] and suffixes[-1] in _PACKED else suffixes[-1:]
    kind = last[0][1:] if last and last[0] in (".obj", ".off", ".stl") else mesh_format(data[:4096], len(data))
    if kind == "stl":
        text = re.match(rb"\s*solid\b", data) and len(data) != 84 + 50 * int.from_bytes(data[80:84], "little")
        return _stl_text(path, data) if text else _stl_binary(path, data)
    if kind is None:
        needed = "a mesh in OBJ, OFF or STL"
        raise wrong(path, "byte 0", needed, repr(data[:20]), "choose its reader; `read_ply` gives vertices of PLY")
    return _obj(path, data) if kind == "obj" else _off(path, data)


# ---------------------------------------------------------------- surface


def _cross(path: str | PathLike, mesh: _Mesh) -> np.ndarray:
    """Normals of the triangles, as long as twice their area in units of the mesh's size: (t, 3) float64."""
    vertices = mesh.vertices.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        vertices = vertices - vertices.mean(axis=0)
        vertices = vertices / (np.abs(vertices).max() or 1.0)
    if not np.isfinite(vertices).all():
        raise wrong(path, "vertices", "coordinates whose differences are finite", "too large ones", "rescale the mesh")
    a, b, c = (vertices[mesh.triangles[:, corner]] for corner in range(3))
    return np.cross(b - a, c - a)


def _sample(
    path: str | PathLike, mesh: _Mesh, points: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (points, 3), their unit normals, and the face each is on."""
    if not len(mesh.triangles):
        raise wrong(path, "faces", "at least one", "none", "read its vertices with points=None")
    cross = _cross(path, mesh)
    area = np.linalg.norm(cross, axis=1)
    if not area.sum() > 0:
        got = f"{len(mesh.triangles)} triangles of area 0"
        raise wrong(path, "faces", "a surface", got, "read its vertices with points=None")
    real = np.flatnonzero(area)  # those without an area get no points
    ends = np.cumsum(area[real])
    chosen = np.searchsorted(ends, generator.random(points) * ends[-1], side="right")
    chosen = real[np.minimum(chosen, len(real) - 1)]
    u, v = np.sqrt(generator.random(points))[:, None], generator.random(points)[:, None]
    a, b, c = (mesh.vertices.astype(np.float64)[mesh.triangles[chosen, corner]] for corner in range(3))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
        xyz = a + u * (1 - v) * (b - a) + u * v * (c - a)
    return xyz, cross[chosen] / area[chosen, None], mesh.faces[chosen]


def _vertex_normals(path: str | PathLike, mesh: _Mesh) -> np.ndarray:
    total = np.zeros((len(mesh.vertices), 3))
    if len(mesh.triangles):
        cross = _cross(path, mesh)
        for corner in range(3):
            np.add.at(total, mesh.triangles[:, corner], cross)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    if not length.all():
        row = int(np.argmin(length))
        raise wrong(path, f"vertex {row + 1}", "a face around it", "no normal", "read it without normals")
    return total / length


def _fans(path: str | PathLike, vertices: np.ndarray, polygons: list[list[int]], places: list[int]) -> _Mesh:
    """Faces of any number of corners as triangles; corners are rows of vertices, checked here."""
    lengths = np.array([len(polygon) for polygon in polygons], np.int64)
    flat = np.array([corner for polygon in polygons for corner in polygon], object)
    bad = np.array([not 0 <= corner < len(vertices) for corner in flat], bool)
    if bad.any():
        face = int(np.searchsorted(np.cumsum(lengths), int(np.argmax(bad)), side="right"))
        got = f"face {face} with one that is not there"
        raise wrong(path, f"line {places[face]}", f"corners among {len(vertices)} vertices", got, AGAIN)
    flat, starts = flat.astype(np.int64), np.cumsum(lengths) - lengths
    faces = np.repeat(np.arange(len(polygons)), lengths - 2)
    step = np.arange(len(faces)) - np.repeat(np.cumsum(lengths - 2) - (lengths - 2), lengths - 2)
    first = starts[faces]
    triangles = np.stack([flat[first], flat[first + step + 1], flat[first + step + 2]], axis=1)
    return _Mesh(vertices, triangles, faces)


def _xyz(path: str | PathLike, lines: list[tuple[int, str]], width: int) -> np.ndarray:
    """The first three of `width` columns, (n, 3); lines come with their numbers."""
    try:
        table = parse_rows(path, [line for _, line in lines], 1, plain(width))
    except FileError as error:
        for number, line in lines:
            if not all(map(is_number, line.split())):
                raise wrong(path, f"line {number}", f"{width} numbers", repr(line[:60]), AGAIN) from error
        raise
    return np.stack([table[f"f{axis}"] for axis in range(3)], axis=1)


# ---------------------------------------------------------------- formats


def _numbered(data: bytes) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their numbers, without comments; a backslash joins a line to the next."""
    held = ""
    number = 0
    for number, line in enumerate(newlines(data.decode("latin-1")).split("\n"), 1):
        line = held + line.partition("#")[0]
        held = line[:-1] + " " if line.endswith("\\") else ""
        if not held and line.strip():
            yield number, line
    if held.strip():
        yield number, held


def _obj(path: str | PathLike, data: bytes) -> _Mesh:
    rows: list[tuple[int, str]] = []
    polygons: list[list[int]] = []
    places: list[int] = []
    for number, line in _numbered(data):
        word, *cells = line.split()
        if word == "v":
            rows.append((number, line))
        elif word == "f":
            polygons.append(_corners(path, number, cells, len(rows)))
            places.append(number)
        elif word not in _OBJ_IGNORED:
            raise wrong(path, f"line {number}", "a keyword of polygonal OBJ", repr(line[:60]), AGAIN)
    if not rows:
        raise wrong(path, "whole file", "vertices: lines 'v x y z'", "none", AGAIN)
    return _fans(path, _obj_vertices(path, rows), polygons, places)


def _obj_vertices(path: str | PathLike, rows: list[tuple[int, str]]) -> np.ndarray:
    """x, y, z; a weight and a colour may follow, so lines may differ in length."""
    short = []
    for number, line in rows:
        cells = line.split()[1:]
        if len(cells) not in (3, 4, 6, 7) or not all(map(is_number, cells[3:])):
            raise wrong(path, f"line {number}", "'v x y z'", repr(line[:60]), AGAIN)
        short.append((number, " ".join(cells[:3])))
    return _xyz(path, short, 3)


def _corners(path: str | PathLike, number: int, cells: list[str], known: int) -> list[int]:
    """Rows of vertices from `f 1/2/3 ...`; negative numbers count back from the last vertex so far."""
    try:
        corners = [int(cell.partition("/")[0]) for cell in cells]
    except ValueError:
        corners = [0]
    if len(corners) < 3 or 0 in corners or any("_" in cell for cell in cells):
        needed = "a face of 3 or more vertices, numbered from 1 or from -1 back"
        raise wrong(path, f"line {number}", needed, repr(" ".join(cells)[:60]), AGAIN)
    return [corner - 1 if corner > 0 else known + corner for corner in corners]


def _off(path: str | PathLike, data: bytes) -> _Mesh:
    lines = list(_numbered(data))
    match = re.match(r"\s*((?:ST)?C?N?)OFF(?=[\s\d]|$)(.*)", lines[0][1] if lines else "")
    if not match:
        got = repr(lines[0][1][:40]) if lines else "nothing"
        raise wrong(path, "line 1", "OFF, COFF, NOFF or STOFF as text", got, "convert the file to OFF")
    row = 1
    number, counts = lines[0][0], match[2].split()
    if not counts and len(lines) > 1:
        number, counts, row = lines[1][0], lines[1][1].split(), 2
    if len(counts) not in (2, 3):
        got = repr(" ".join(counts)[:40])
        raise wrong(path, f"line {number}", "numbers of vertices, faces and edges", got, AGAIN)
    left = len(lines) - row
    points, faces = (
        as_count(path, f"line {number}", what, text, left)
        for what, text in zip(("vertices", "faces"), counts, strict=False)
    )
    if points + faces != left or not points:
        needed = f"{points} lines of vertices (1 or more) and {faces} of faces"
        raise wrong(path, f"from line {number + 1}", needed, f"{left} lines", AGAIN)
    vertices = _off_vertices(path, lines[row : row + points], match[1])
    polygons = [_off_face(path, number, line.split()) for number, line in lines[row + points :]]
    return _fans(path, vertices, polygons, [number for number, _ in lines[row + points :]])


def _off_vertices(path: str | PathLike, lines: list[tuple[int, str]], prefix: str) -> np.ndarray:
    """x, y, z; as the prefix says a normal (N), a colour of 3 or 4 numbers (C), a texture (ST) follow."""
    least = 3 + 3 * ("N" in prefix) + 3 * ("C" in prefix) + 2 * ("ST" in prefix)
    width = len(lines[0][1].split())
    for number, line in lines:
        if len(line.split()) != width or width not in (least, least + ("C" in prefix)):
            raise wrong(path, f"line {number}", f"a vertex of {least} numbers", repr(line[:60]), AGAIN)
    return _xyz(path, lines, width)


def _off_face(path: str | PathLike, number: int, cells: list[str]) -> list[int]:
    """Rows of vertices from `3 0 1 2`; up to four numbers of colour may follow."""
    whole = all(cell.isascii() and cell.isdigit() and len(cell) < 19 for cell in cells[:1])
    corners = int(cells[0]) if whole else 0
    texts = cells[1 : corners + 1] if corners < len(cells) else []
    if corners < 3 or len(texts) != corners or not all(re.fullmatch("[0-9]{1,18}", text) for text in texts):
        needed = "a face: the number of its corners, 3 or more, and their vertices from 0"
        raise wrong(path, f"line {number}", needed, repr(" ".join(cells)[:60]), AGAIN)
    colour = cells[corners + 1 :]
    if len(colour) > 4 or not all(map(is_number, colour)):
        raise wrong(path, f"line {number}", "a colour of up to 4 numbers", repr(" ".join(colour)[:60]), AGAIN)
    return [int(text) for text in texts]


def _stl_binary(path: str | PathLike, data: bytes) -> _Mesh:
    count = int.from_bytes(data[80:84], "little")
    if len(data) != 84 + 50 * count:
        needed = f"84 + 50 x {count} bytes for {count} triangles"
        raise wrong(path, "byte 80", needed, f"{len(data)} bytes", AGAIN)
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    return _joined(path, np.frombuffer(data, record, count, 84)["corners"].astype(np.float32).reshape(-1, 3))


_STL_FACET = ("facet", "outer", "vertex", "vertex", "vertex", "endloop", "endfacet")


def _stl_text(path: str | PathLike, data: bytes) -> _Mesh:
    corners: list[tuple[int, str]] = []
    step, inside = 0, False
    for number, line in enumerate(newlines(data.decode("latin-1")).split("\n"), 1):
        words = line.lower().split()
        if not words:
            continue
        if inside and words[0] == _STL_FACET[step]:
            if words[0] == "vertex":
                if len(words) != 4:
                    raise wrong(path, f"line {number}", "'vertex x y z'", repr(line[:60]), AGAIN)
                corners.append((number, " ".join(words[1:])))
            step = (step + 1) % len(_STL_FACET)
        elif step == 0 and words[0] == ("endsolid" if inside else "solid"):
            inside = not inside
        else:
            needed = repr(_STL_FACET[step]) if inside else "'solid'"
            raise wrong(path, f"line {number}", needed, repr(line[:60]), AGAIN)
    if inside or not corners:
        got = "the end of the file" if inside else "no facets"
        raise wrong(path, "last line", "'endsolid' after the facets", got, AGAIN)
    return _joined(path, _xyz(path, corners, 3))


def _joined(path: str | PathLike, corners: np.ndarray) -> _Mesh:
    """Corners that are equal become one vertex, in order of first appearance."""
    if not len(corners):
        raise wrong(path, "whole file", "at least one triangle", "none", AGAIN)
    _, first, which = np.unique(corners, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    triangles = rank[which.reshape(-1)].reshape(-1, 3)
    return _Mesh(corners[first[order]], triangles, np.arange(len(triangles)))
