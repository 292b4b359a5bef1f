"""Files of points: their readers by name, and which of them a file needs."""

import re

from tokred_sci.datasets.formats.cloud import is_number, newlines
from tokred_sci.datasets.formats.cloud_arrays import read_points_h5, read_points_npy
from tokred_sci.datasets.formats.las import read_las
from tokred_sci.datasets.formats.meshes import mesh_format, read_mesh
from tokred_sci.datasets.formats.pcd import read_pcd
from tokred_sci.datasets.formats.ply import read_ply
from tokred_sci.datasets.formats.rows import cells_of, layout_of, read_xyz
from tokred_sci.errors import FileError

__all__ = ["detect", "read_las", "read_mesh", "read_pcd", "read_ply", "read_points_h5", "read_points_npy", "read_xyz"]


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
        layout = layout_of("head", lines, None)
    except FileError:
        return False
    if not layout.named and suffix not in (".xyz", ".pts"):
        return False
    axes = [layout.names.index(axis) for axis in "xyz"]
    table = [cells_of(line, layout.delimiter) for line in lines[layout.skip :] if line and line[0] != "#"]
    whole = all(len(row) == len(layout.names) and all(is_number(row[i]) for i in axes) for row in table)
    return whole and _TIMES.isdisjoint(name.lower() for name in layout.names)


_TIMES = frozenset(("t", "time", "times", "timestamp", "timestamps", "date", "datetime", "seconds"))
