"""Files of DNA: their readers by name, and which of them a file needs."""

import re

from tokred_sci.datasets.formats.annotation import read_bed, read_genbank, read_gff
from tokred_sci.datasets.formats.fasta import read_fasta, stream_fasta
from tokred_sci.datasets.formats.fastq import read_fastq
from tokred_sci.datasets.formats.genome import Fasta
from tokred_sci.datasets.formats.letters import unix
from tokred_sci.datasets.formats.twobit import TWO_BIT, read_2bit

__all__ = [
    "Fasta",
    "detect",
    "read_2bit",
    "read_bed",
    "read_fasta",
    "read_fastq",
    "read_genbank",
    "read_gff",
    "stream_fasta",
]


def detect(head: bytes) -> str | None:
    """The format of a file from its first few thousand bytes, decompressed: what to put after `read_`, or None.

    Example:
        >>> detect(b">chr1\\nACGT\\n"), detect(b"chr1\\t0\\t100\\n"), detect(b"%PDF-1.7")
        ('fasta', 'bed', None)
    """
    if head[:4] in (TWO_BIT, TWO_BIT[::-1]):
        return "2bit"
    text = unix(head).lstrip()
    if text[:1] in (b">", b";"):
        return "fasta"
    if re.match(rb"@[^\n]*\n[A-Za-z.*\-\n]+(\n\+|\Z)", text):
        return "fastq"
    if re.search(rb"(?m)^LOCUS  ", text):
        return "genbank"
    return "gff" if text.startswith(b"##gff-version") else _table(text)


def _table(text: bytes) -> str | None:
    lines = text.split(b"\n")
    for line in lines[:-1] or lines:  # the last may be cut
        row = line.split(b"\t")
        if not line.strip() or line.startswith((b"#", b"track", b"browser")):
            continue
        for kind, columns in (("gff", (3, 4)), ("bed", (1, 2))):
            if len(row) > columns[1] and all(row[column].strip().isdigit() for column in columns):
                return kind if kind == "bed" or len(row) == 9 else None
        return None
    return None
