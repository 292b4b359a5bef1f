"""`read(path)`: any file of a field -> `Records`. The first bytes decide which reader it needs, not its name alone."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from tokred_sci.datasets.files import AGAIN, BOM, guard, open_bytes, read_bytes, wrong
from tokred_sci.datasets.records import Records
from tokred_sci.errors import InputError

READERS = {  # format -> module in this folder, function, domain
    "fasta": ("dna", "read_fasta", "dna"),
    "fastq": ("dna", "read_fastq", "dna"),
    "2bit": ("dna", "read_2bit", "dna"),
    "genbank": ("dna", "read_genbank", "dna"),
    "gff": ("dna", "read_gff", "dna"),
    "bed": ("dna", "read_bed", "dna"),
    "ply": ("points", "read_ply", "points"),
    "off": ("points", "read_mesh", "points"),
    "obj": ("points", "read_mesh", "points"),
    "stl": ("points", "read_mesh", "points"),
    "pcd": ("points", "read_pcd", "points"),
    "las": ("points", "read_las", "points"),
    "xyz": ("points", "read_xyz", "points"),
    "h5": ("points", "read_points_h5", "points"),
    "npy of points": ("points", "read_points_npy", "points"),
    "npy of series": ("series", "read_series_npy", "series"),
    "table": ("series", "read_table", "series"),
    "parquet": ("series", "read_table", "series"),
    "edf": ("series", "read_edf", "series"),
    "wfdb": ("series", "read_wfdb", "series"),
    "ts": ("series", "read_ts", "series"),
    "arff": ("series", "read_arff", "series"),
    "mat": ("series", "read_mat", "series"),
}
_NAMED = {  # suffix -> format whose reader says what is wrong, where the content is that of none
    **dict.fromkeys((".fa", ".fasta", ".fna", ".ffn", ".faa"), "fasta"),
    **dict.fromkeys((".fq", ".fastq"), "fastq"),
    **dict.fromkeys((".gb", ".gbk", ".gbff"), "genbank"),
    **dict.fromkeys((".gff", ".gff3"), "gff"),
    **dict.fromkeys((".las", ".laz"), "las"),
    **dict.fromkeys((".csv", ".tsv"), "table"),
    **{f".{name}": name for name in ("2bit", "bed", "ply", "off", "obj", "stl", "pcd", "xyz", "h5")},
    **{f".{name}": name for name in ("parquet", "edf", "ts", "arff")},
}
_HEAD = 4096  # bytes that decide
_NARROW = 9  # channels at most of a point, where nothing else tells points from series


def read(path: str | os.PathLike, domain: str | None = None, **options: Any) -> Records:
    """Records of a file of sequences, points or series; compressed by gzip, bgzip, bzip2 or xz or not.

    Law: the same as calling the format's own reader (`read_fasta`, `read_las`, ...), which `format_of` names.

    Args:
        path: the file; it is only read.
        domain: "dna", "points" or "series" where the content may be either (a table of numbers, an NPY array).
        options: of the format's reader.

    Raises:
        InputError: no format that is known, or one that does not tell points from series; an unknown option.
        FileError: the file is not there, or does not hold what its format promises.
        MissingExtra: the format needs a package that is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "two.txt"
        ...     _ = path.write_text(">one\\nACGT\\nAC\\n>two\\nTTnn\\n")
        ...     format_of(path), read(path), read(path).records
        ('fasta', Records(2 of dna), ['ACGTAC', 'TTnn'])
    """
    reader = reader_of(format_of(path, domain))
    try:
        return reader(path, **options)
    except TypeError as error:
        if str(error).startswith(f"{reader.__name__}()"):  # an option it does not have, or needs
            raise InputError(
                f"Expected options of {reader.__name__} (got {error}): see help({reader.__name__})."
            ) from error
        raise


def reader_of(name: str) -> Callable[..., Records]:
    """The function that reads a format."""
    module, function, _ = READERS[name]
    return getattr(import_module(f"tokred_sci.datasets.{module}"), function)


def format_of(path: str | os.PathLike, domain: str | None = None) -> str:
    """The format of a file, a key of `READERS`.

    Raises:
        InputError: none that is known.
        FileError: there is no such file, it is empty, or its compressed stream is damaged.
    """
    if domain not in (None, "dna", "points", "series"):
        raise InputError(f"Expected 'domain' as 'dna', 'points', 'series' or None (got {domain!r}).")
    head = read_bytes(path, _HEAD + len(BOM)).removeprefix(BOM)[:_HEAD]
    if not head:
        raise wrong(path, "byte 0", "a file that holds something", "an empty one", AGAIN)
    name = _detect(Path(path), head, domain) or _named(Path(path), domain)
    if name is None or (domain is not None and READERS[name][2] != domain):
        raise InputError(
            f"Expected a file of {domain or 'sequences, points or series'} in a known format (got {head[:24]!r} ... in "
            f"{path}): call the reader of its format by name, or say domain= where the content may be either."
        )
    return name


def _detect(path: Path, head: bytes, domain: str | None) -> str | None:
    from tokred_sci.datasets import dna, points, series

    suffix = _suffix(path)
    size = len(head) + (len(head) == _HEAD)
    if head.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        return _array(path, domain)
    if path.suffix == suffix and len(head) == _HEAD:
        size = path.stat().st_size
    letters = dna.detect(head) if domain in (None, "dna") else None
    if letters and letters != "bed":  # a table of whole numbers looks like intervals
        return letters
    cloud = points.detect(head, size, ".xyz" if domain == "points" else suffix) if domain in (None, "points") else None
    if cloud:
        return cloud
    told = series.detect(head, ".csv" if domain == "series" and not suffix else suffix) if domain != "dna" else None
    return told if told and domain in (None, "series") else letters


def _suffix(path: Path) -> str:
    """The end of a file's name, without that of its compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in (".gz", ".bgz", ".bz2", ".xz")]
    return suffixes[-1] if suffixes else ""


def _named(path: Path, domain: str | None) -> str | None:
    """What the name promises and the content does not keep: that format's reader names the line."""
    suffix = _suffix(path)
    return "xyz" if domain == "points" and suffix in (".csv", ".tsv") else _NAMED.get(suffix)


def _array(path: Path, domain: str | None) -> str | None:
    """Points where rows are few numbers, series where they are many; neither where that does not tell."""
    import numpy as np

    if domain in ("points", "series"):
        return f"npy of {domain}"
    with open_bytes(path) as stream, guard(path, "header", "that of an NPY file"):
        if stream.read(6) != b"\x93NUMPY":
            raise InputError(f"Expected domain='points' or 'series' for an archive of arrays (got {path}).")
        stream.seek(0)
        version = np.lib.format.read_magic(stream)
        shape = (np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0)(
            stream
        )[0]
    if len(shape) == 1 or (len(shape) in (2, 3) and shape[-1] > _NARROW):
        return "npy of series"
    return "npy of points" if len(shape) in (2, 3) and shape[-1] >= 3 and shape[-2] > _NARROW else None
