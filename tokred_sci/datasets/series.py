"""Files of series: their readers by name, and which of them a file needs."""

import re

from tokred_sci.datasets.formats.arff import read_arff
from tokred_sci.datasets.formats.arrays import read_mat, read_series_npy
from tokred_sci.datasets.formats.edf import read_edf
from tokred_sci.datasets.formats.numbers import NUMBER
from tokred_sci.datasets.formats.table import read_table
from tokred_sci.datasets.formats.ts import TAGS, read_ts
from tokred_sci.datasets.formats.ucr import read_ucr
from tokred_sci.datasets.formats.wfdb import read_wfdb

__all__ = [
    "detect",
    "read_arff",
    "read_edf",
    "read_mat",
    "read_series_npy",
    "read_table",
    "read_ts",
    "read_ucr",
    "read_wfdb",
]


def detect(head: bytes, suffix: str) -> str | None:
    """The name of the reader for a file of series: "ts", "arff", "edf", "wfdb", "table", "parquet", "mat", or None.

    NPY and NPZ are not told apart here: they may hold points as well.

    Args:
        head: about the first 4,096 bytes, decompressed.
        suffix: the end of the file's name, as ".csv" (without ".gz").

    Example:
        >>> detect(b"@problemName ArrowHead\\n@data\\n", ".ts"), detect(b"ACGT\\nACGG\\n", ".txt")
        ('ts', None)
    """
    suffix = suffix.lower()
    if suffix == ".tsf":  # Monash forecasting: as .ts in looks, not in meaning
        return None
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"MATLAB 5.0 MAT-file") or suffix == ".mat":
        return "mat"
    if head.startswith(b"0       ") and re.fullmatch(rb"\d+ *", head[184:192]):
        return "edf"
    if b"\x00" in head:
        return None
    lines = [line.strip() for line in head.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]
    tag = next((line.lower() for line in lines if not line.startswith((b"#", b"%"))), b"")
    if suffix in (".hea", ".arff", ".ts") and (suffix == ".hea" or tag[:1] in (b"@", b"")):
        return {".hea": "wfdb", ".arff": "arff", ".ts": "ts"}[suffix] if lines else None
    if tag.startswith(b"@"):
        known = tuple(f"@{name}".encode() for name in TAGS)
        return "arff" if tag.startswith(b"@relation") else "ts" if tag.startswith(known) else None
    return "table" if suffix in (".csv", ".tsv", ".txt") and _is_table(lines, len(head)) else None


def _is_table(lines: list[bytes], size: int) -> bool:
    whole = lines[:-1] if size >= 4096 and len(lines) > 1 else lines
    text = [line.decode(errors="replace") for line in whole[:20]]
    rows = [re.split(r"[\t;|,]", line) for line in text]
    if all(len(row) == 1 for row in rows):
        rows = [line.split() for line in text]
    if not rows or len({len(row) for row in rows}) > 1:
        return False
    fields = [field.strip() for field in rows[-1]]
    letters = any(len(field) >= 20 and field.isalpha() for field in fields)  # sequences of DNA come as tables, too
    return not letters and any(NUMBER.fullmatch(field) for field in fields)
