"""FASTQ: reads with their qualities."""

import os
from collections.abc import Iterator

import numpy as np

from tokred_sci.datasets.files import AGAIN, wrong
from tokred_sci.datasets.formats.letters import LETTERS, decode, records_of, refuse_cut, take
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError

_QUALITIES = bytes(range(33, 127))


def read_fastq(path: str | os.PathLike) -> Records:
    """All reads of a FASTQ file, plain or compressed, with the Phred quality of each base as labels.

    Law: one label per base, 0 to 93 (int8; offset 33 in the file); sequence and quality may run over several lines.
    Names may come twice, as pairs of reads do. A file that ends inside a record is refused.

    Args:
        path: the file.

    Raises:
        FileError: cut short, empty, or a record that is none: its number and line.

    Reference: The Sanger FASTQ file format for sequences with quality scores (Cock et al., 2010)
    https://doi.org/10.1093/nar/gkp1137

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "one.fq"
        >>> _ = path.write_text("@read1\\nACGT\\n+\\n!I5~\\n")
        >>> records, qualities = read_fastq(path)
        >>> records, qualities[0].tolist()
        (['ACGT'], [0, 40, 20, 93])
    """
    data, cut = take(path)
    read: list[tuple[str, str, np.ndarray]] = []
    try:
        for entry in _reads(path, data):
            read.append(entry)
    except FileError:
        if not cut:
            raise
    if cut:
        raise refuse_cut(path, cut, read[-1][0] if read else None)
    if not read:
        raise wrong(path, "line 1", "'@' and a name", "no record at all", AGAIN)
    names, records, labels = zip(*read, strict=True)
    return records_of(path, list(records), names, labels=list(labels))


def _reads(path: str | os.PathLike, data: bytes) -> Iterator[tuple[str, str, np.ndarray]]:
    lines, at, number = data.rstrip().split(b"\n"), 0, 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        first, number = at, number + 1
        try:
            at, sequence, quality = _one_read(lines, at)
        except ValueError as error:
            needed, got, line = error.args
            raise wrong(path, f"record {number}, line {line + 1}", needed, got, "correct it or copy it again") from None
        name = decode(lines[first][1:]).split(None, 1)
        yield name[0] if name else "", sequence.decode(), np.frombuffer(quality, np.int8) - np.int8(33)


def _one_read(lines: list[bytes], first: int) -> tuple[int, bytes, bytes]:
    """The line after a record, its sequence and its quality."""
    title, at = lines[first], first + 1
    if title[:1] != b"@":
        raise ValueError("'@' and a name", repr(title[:20])[1:], first)
    while at < len(lines) and lines[at][:1] != b"+":
        at += 1
    if at == len(lines):
        raise ValueError("a line with '+' after the sequence", "the end of the file", first)
    sequence, plus = b"".join(line.rstrip() for line in lines[first + 1 : at]), lines[at]
    if sequence.translate(None, LETTERS):
        raise ValueError("letters of a sequence", repr(sequence.translate(None, LETTERS)[:1])[1:], first + 1)
    if plus[1:].strip() and plus[1:].rstrip() != title[1:].rstrip():
        raise ValueError("the name of the record or nothing after '+'", repr(plus[1:21])[1:], at)
    at += 1
    quality, size = [], 0
    while at < len(lines) and (size < len(sequence) or not lines[at].strip()):
        quality.append(lines[at].rstrip())
        size, at = size + len(quality[-1]), at + 1
    if size != len(sequence):
        raise ValueError(f"{len(sequence)} qualities, one for each base", str(size), at - 1)
    if b"".join(quality).translate(None, _QUALITIES):
        raise ValueError("qualities from '!' to '~'", "another character", at - 1)
    return at, sequence, b"".join(quality)
