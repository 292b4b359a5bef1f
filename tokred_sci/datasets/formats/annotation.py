"""Files that say what is where on a DNA sequence (GenBank, GFF3, BED), read as one label per base."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np

from tokred_sci.datasets.files import wrong
from tokred_sci.datasets.formats.fasta import read_fasta, read_section
from tokred_sci.datasets.formats.letters import LETTERS, decode, records_of, refuse_cut, take
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError, InputError

_CORRECT = "correct the line, or leave it out"
_POSITION = r"(?:[<>]?(\d+)|\((\d+)\.(\d+)\))"
_SPAN = re.compile(rf"(?:([\w.]+):)?{_POSITION}(?:(\.\.|\^|\.){_POSITION})?")
_BED_TITLE = re.compile(rb"(track|browser)\b")
_OPERATOR = re.compile(r"(complement|join|order)\(")


class Span(NamedTuple):
    """Bases from `start` up to, not including, `stop`, with a label."""

    start: int
    stop: int
    label: int


# ---- labels -----------------------------------------------------------------------------------------------------


def paint(length: int, spans: Iterable[Span]) -> np.ndarray:
    """One label per base (int8), 0 where no span is.

    Law: where spans overlap, the one that starts later wins, of two with one start the longer, of two with one start
    and stop the one that comes later.

    Example:
        >>> paint(6, [Span(3, 6, 2), Span(0, 4, 1)]).tolist()
        [1, 1, 1, 2, 2, 2]
    """
    labels = np.zeros(length, np.int8)
    for start, stop, label in sorted(spans, key=lambda span: span[:2]):
        labels[start:stop] = label
    return labels


def _classes(features: tuple[str, ...] | str) -> tuple[str, ...]:
    """("none", "CDS +", "CDS -", ...): the label of a feature's + strand is 1 + 2 times its place in `features`."""
    wanted = (features,) if isinstance(features, str) else tuple(features)
    if not wanted or len(set(wanted)) != len(wanted) or len(wanted) > 63 or not all(isinstance(x, str) for x in wanted):
        raise InputError(f"Expected 'features' as 1 to 63 different names (got {features!r}): e.g. ('CDS', 'tRNA').")
    return ("none", *(f"{name} {strand}" for name in wanted for strand in "+-"))


def _label_of(classes: tuple[str, ...]) -> dict[str, int]:
    """Label of each feature on the + strand."""
    return {name[:-2]: label for label, name in enumerate(classes) if label % 2}


def _check_met(path: str | os.PathLike, wanted: dict[str, int], met: Counter[str]) -> None:
    if met and not any(name in met for name in wanted):
        got = ", ".join(f"{name} {count} times" for name, count in met.most_common(6))
        raise wrong(path, "features", " or ".join(map(repr, wanted)), got, "name one that is there in 'features'")


# ---- GenBank ----------------------------------------------------------------------------------------------------


def read_genbank(path: str | os.PathLike, features: tuple[str, ...] | str = ("CDS",)) -> Records:
    """All sequences of a GenBank file, plain or compressed, with one label per base from its feature table.

    Law: a base is labelled where the location of a feature says so, part by part (join, order, complement; across the
    origin of a circular sequence; '<' and '>' count up to the position given; parts on other records not). Where parts
    overlap, the one that starts later wins, of two with one start the longer. A file cut short is refused.

    Args:
        path: the file, of one record or of many.
        features: keys of the feature table; label 0 is none of them, 1 and 2 the first on the + and - strand, 3 and 4
            the second, ...

    Raises:
        FileError: cut short, no sequence, a length that is not the one promised, a location that is none; none of
            `features` in a file that has others.
        InputError: no features, or one twice.

    Reference: The DDBJ/ENA/GenBank Feature Table Definition (INSDC, version 11.3)
    https://www.insdc.org/submitting-standards/feature-table/; GenBank flat file format https://www.ncbi.nlm.nih.gov/genbank/release/current/

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "one.gb"
        >>> _ = path.write_text('''LOCUS       A1   8 bp    DNA     circular
        ... FEATURES             Location/Qualifiers
        ...      CDS             complement(join(7..8,1..2))
        ... ORIGIN
        ...         1 acgtacgt
        ... //
        ... ''')
        >>> records, labels = read_genbank(path)
        >>> records, labels[0].tolist()
        (['acgtacgt'], [2, 2, 0, 0, 0, 0, 2, 2])
    """
    classes, met = _classes(features), Counter[str]()
    data, cut = take(path)
    read: list[tuple[str, str, np.ndarray]] = []
    try:
        for record in _genbank(path, data.split(b"\n"), _label_of(classes), met):
            read.append(record)
    except FileError:
        if not cut:
            raise
    if cut:
        raise refuse_cut(path, cut, read[-1][0] if read else None)
    if not read:
        raise wrong(path, "line 1", "a line that starts with LOCUS", "none", "is it a GenBank file?")
    _check_met(path, _label_of(classes), met)
    names, records, labels = zip(*read, strict=True)
    return records_of(path, list(records), names, labels=list(labels), classes=classes)


def _genbank(
    path: str | os.PathLike, lines: list[bytes], wanted: dict[str, int], met: Counter[str]
) -> Iterator[tuple[str, str, np.ndarray]]:
    at, last = 0, None
    while at < len(lines):
        if not lines[at].startswith(b"LOCUS "):  # releases have a title before the first record
            if last is not None and lines[at].strip():
                raise wrong(path, f"line {at + 1}", "LOCUS or the end", repr(decode(lines[at][:20])), _CORRECT)
            at += 1
            continue
        end = next((line for line in range(at, len(lines)) if lines[line].startswith(b"//")), -1)
        if end < 0:
            raise refuse_cut(path, f"no '//' after the record of line {at + 1}", last)
        record = _Entry(path, lines, at, end)
        yield record.name, record.letters, record.labels(wanted, met)
        last, at = record.name, end + 1


class _Entry:
    """One record: its name, letters, and the lines of its feature table."""

    def __init__(self, path: str | os.PathLike, lines: list[bytes], start: int, end: int) -> None:
        self.path, self.lines = path, lines
        sections: dict[bytes, int] = {}  # first word -> its line; lines inside a section start with a space
        for line in range(start, end):
            if lines[line][:1].isalpha():
                sections.setdefault(lines[line].split(None, 1)[0], line)
        locus = re.match(r"LOCUS\s+(\S+)\s+(\d{1,15}) bp\b(.*)", decode(lines[start]))
        if locus is None:
            raise self.refuse(start, "LOCUS, a name and a length in bp", decode(lines[start][:60]))
        self.circular = " circular" in locus[3]
        version = lines[sections[b"VERSION"]].split() if b"VERSION" in sections else []
        self.name = decode(version[1]) if len(version) > 1 else locus[1]
        self.letters = self._letters(sections.get(b"ORIGIN", end), end, start)
        if len(self.letters) != int(locus[2]):
            raise self.refuse(start, f"{int(locus[2])} bases, as LOCUS says", f"{len(self.letters)} under ORIGIN")
        self.table = sections.get(b"FEATURES", end)
        self.end = end

    def refuse(self, line: int, needed: str, got: str) -> FileError:
        return wrong(self.path, f"line {line + 1}", needed, got, "correct it, or download the record again")

    def _letters(self, origin: int, end: int, start: int) -> str:
        if origin == end:
            raise self.refuse(start, "a sequence under ORIGIN", "none: the record names other records or is cut")
        letters = b"".join(self.lines[origin + 1 : end]).translate(None, b" 0123456789\t")
        if letters.translate(None, LETTERS):
            stray = letters.translate(None, LETTERS)[:1]
            line = next(line for line in range(origin + 1, end) if stray in self.lines[line])
            raise self.refuse(line, "letters of a sequence", repr(stray)[1:])
        return letters.decode()

    def labels(self, wanted: dict[str, int], met: Counter[str]) -> np.ndarray:
        spans: list[Span] = []
        for key, line, location in self._features():
            met[key] += 1
            if key in wanted:
                spans.extend(Span(a, b, wanted[key] + minus) for a, b, minus in self._parts(line, location))
        return paint(len(self.letters), spans)

    def _features(self) -> Iterator[tuple[str, int, str]]:
        """Key, line and location of each feature: a key stands in column 6, a location ends before the first '/'."""
        line = self.table + 1
        while line < self.end and self.lines[line][:1] in (b" ", b""):
            text, first = decode(self.lines[line]), line
            line += 1
            if text[:5].strip() or not text[5:6].strip():
                continue
            key, _, location = text.strip().partition(" ")
            while line < self.end and re.match(rb" {20}\s*[^\s/]", self.lines[line]):
                location += decode(self.lines[line])
                line += 1
            if location.startswith("/") or not location.strip():
                raise self.refuse(first, f"a location after {key!r}", "none")
            yield key, first, re.sub(r"\s", "", location)

    def _parts(self, line: int, location: str) -> list[tuple[int, int, bool]]:
        parts: list[tuple[int, int, bool]] = []
        try:
            if _location(location, 0, False, len(self.letters) * (1 if self.circular else -1), parts) != len(location):
                raise ValueError("the end of the location")
        except ValueError as error:
            raise self.refuse(
                line, f"{error} in a location of {len(self.letters)} bases", repr(location[:60])
            ) from None
        return parts


def _location(text: str, at: int, minus: bool, length: int, parts: list[tuple[int, int, bool]], depth: int = 0) -> int:
    """Enter start, stop and strand of every part; where the location ends. A negative length = a linear sequence."""
    operator = _OPERATOR.match(text, at)
    if operator is None:
        return _part(text, at, minus, length, parts)
    if depth > 8:
        raise ValueError("at most 8 brackets in brackets")
    flipped = minus ^ (operator[1] == "complement")
    at = _location(text, operator.end(), flipped, length, parts, depth + 1)
    while operator[1] != "complement" and text[at : at + 1] == ",":
        at = _location(text, at + 1, flipped, length, parts, depth + 1)
    if text[at : at + 1] != ")":
        raise ValueError("a closing bracket")
    return at + 1


def _part(text: str, at: int, minus: bool, length: int, parts: list[tuple[int, int, bool]]) -> int:
    span = _SPAN.match(text, at)
    if span is None:
        raise ValueError("a position")
    start = int(span[2] or span[3])
    stop = int(span[6] or span[8]) if span[5] else int(span[2] or span[4])
    if span[1]:  # on another record
        return span.end()
    if start < 1 or stop < 1 or max(start, stop) > abs(length):
        raise ValueError("positions within it")
    if span[5] == "^":
        if stop - start != 1 and (start, stop) != (length, 1):
            raise ValueError("neighbours around '^'")
    elif stop >= start:
        parts.append((start - 1, stop, minus))
    elif length > 0:
        parts += [(start - 1, length, minus), (0, stop, minus)]
    else:
        raise ValueError("an end that is not before its start")
    return span.end()


# ---- GFF3 and BED -----------------------------------------------------------------------------------------------


def read_gff(
    path: str | os.PathLike,
    sequences: Records | str | os.PathLike | None = None,
    features: tuple[str, ...] | str = ("CDS",),
) -> Records:
    """Sequences with one label per base from a GFF3 file, plain or compressed.

    Law: a row from start to end (counted from 1, both inside) labels its bases; strand '.' or '?' counts as '+'.
    Overlaps, classes and labels as in `read_genbank`; ends beyond a sequence that is marked Is_circular=true go on at
    its start. Every row is checked, whatever its type.

    Args:
        path: the file.
        sequences: what it annotates: Records with names, or a FASTA file; None = the file's own ##FASTA section.
        features: types (column 3).

    Raises:
        FileError: a row with other than 9 columns, an unknown sequence, positions that are none or not on it, no
            sequences, none of `features` in a file that has others; file and line.
        InputError: no features, or sequences without names.

    Reference: Generic Feature Format Version 3 (Stein, 2020)
    https://github.com/The-Sequence-Ontology/Specifications/blob/master/gff3.md

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "one.gff"
        >>> _ = path.write_text("chr1\\t.\\tCDS\\t2\\t3\\t.\\t-\\t0\\tID=a\\n##FASTA\\n>chr1\\nACGT\\n")
        >>> read_gff(path).labels[0].tolist()
        [0, 2, 2, 0]
    """
    classes, met = _classes(features), Counter[str]()
    wanted = _label_of(classes)
    table, own = _table(path)
    sequences = own if sequences is None else sequences
    if sequences is None:
        raise wrong(path, "its end", "a ##FASTA section", "none", "hand in 'sequences', Records or a FASTA file")
    records = _named(sequences)
    spans: dict[str, list[Span]] = {name: [] for name in records}
    rows = [(line, row.split(b"\t")) for line, row in table]
    circular = {_name(row) for _, row in rows if b"Is_circular=true" in row[-1]}
    for line, row in rows:
        name, start, stop = _gff_row(path, line, row, records, circular)
        kind, length = decode(row[2]), len(records[name])
        met[kind] += 1
        if kind in wanted:
            label = wanted[kind] + (row[6] == b"-")
            spans[name] += [Span(start, min(stop, length), label), Span(0, max(0, stop - length), label)]
    _check_met(path, wanted, met)
    return _labelled(path, records, spans, classes)


def _table(path: str | os.PathLike) -> tuple[list[tuple[int, bytes]], Records | None]:
    """Rows that hold data, each with its line number from 1, and the sequences that follow ##FASTA."""
    data, cut = take(path)
    if cut:
        raise wrong(path, "cut short", "all of it", cut, "copy or download it again")
    if not data.strip():
        raise wrong(path, "line 1", "rows", "an empty file", "copy or download it again")
    mark = re.search(rb"(?m)^##FASTA.*\n?", data)
    rows = enumerate(data[: mark.start() if mark else None].split(b"\n"), 1)
    kept = [(line, row) for line, row in rows if row.strip() and not row.startswith(b"#")]
    return kept, read_section(path, data, mark.end()) if mark else None


def _named(sequences: Records | str | os.PathLike) -> dict[str, str]:
    """Records by name."""
    if not isinstance(sequences, Records | str | os.PathLike):
        raise InputError(f"Expected 'sequences' as Records or a path (got {type(sequences).__name__}): see read_fasta.")
    records = sequences if isinstance(sequences, Records) else read_fasta(sequences)
    names = len(set(records.names))
    if records.domain != "dna" or names != len(records.records):
        got = f"{len(records.records)} of {records.domain} with {names} names"
        raise InputError(f"Expected 'sequences' of dna with a name for each (got {got}): use read_fasta.")
    return dict(zip(records.names, records.records, strict=True))


def _labelled(
    path: str | os.PathLike, records: dict[str, str], spans: dict[str, list[Span]], classes: tuple[str, ...]
) -> Records:
    labels = [paint(len(letters), spans[name]) for name, letters in records.items()]
    return records_of(path, list(records.values()), records, labels=labels, classes=classes)


def _name(row: list[bytes]) -> str:
    return unquote(decode(row[0]))


def _gff_row(
    path: str | os.PathLike, line: int, row: list[bytes], records: dict[str, str], circular: set[str]
) -> tuple[str, int, int]:
    """Sequence, start (from 0) and stop of a row."""

    def refuse(needed: str, got: object) -> FileError:
        return wrong(path, f"line {line}", needed, str(got), _CORRECT)

    if len(row) != 9:
        raise refuse("9 columns with tabs between", len(row))
    if (name := _name(row)) not in records:
        raise refuse("the name of one of the sequences", repr(name[:60]))
    if row[6] not in (b"+", b"-", b".", b"?"):
        raise refuse("strand '+', '-', '.' or '?'", repr(decode(row[6][:20])))
    start, stop, length = _number(row[3]), _number(row[4]), len(records[name])
    if not 1 <= start <= stop:
        raise refuse("1 <= start <= end", repr(decode(b" ".join(row[3:5])[:60])))
    if stop > (2 * length if name in circular else length) or start > length:
        raise refuse(f"positions within the {length} bases of {name!r}", f"{start} to {stop}")
    return name, start - 1, stop


def _number(text: bytes) -> int:
    """A whole number, or -1 for what is none."""
    return int(text) if text.isdigit() and len(text) < 19 else -1


def read_bed(path: str | os.PathLike, sequences: Records | str | os.PathLike, cut: bool = False) -> Records:
    """Intervals of a BED file (3 to 12 columns), plain or compressed, as labels of the sequences or as their pieces.

    Law: an interval holds bases start <= i < end (counted from 0), of 12 columns those in its blocks. Labels: 0 none, 1
    and 2 in an interval on the + and - strand; without a strand, '+'; overlaps as in `read_genbank`. With `cut`, each
    interval (whole, not by blocks) is a record, named "chr1:10-20(-)"; its letters stay those of the + strand, so that
    labels of a base never move: reverse-complement where a model needs it.

    Args:
        path: the file; lines that start with '#', 'track' or 'browser' say nothing here.
        sequences: what it annotates: Records with names, or a FASTA file.
        cut: each interval as a record of its own, with its sequence's name as its group, in place of labels.

    Raises:
        FileError: fewer than 3 or more than 12 columns, an unknown sequence, positions that are none or not on it,
            blocks outside their interval, with `cut` an empty interval; file and line.
        InputError: sequences without names.

    Reference: The Browser Extensible Data (BED) format (GA4GH, 2022) https://samtools.github.io/hts-specs/BEDv1.pdf

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "one.fa").write_text(">chr1\\nACGTAC\\n")
        >>> _ = (folder / "one.bed").write_text("chr1\\t1\\t3\\tsite\\t0\\t-\\n")
        >>> read_bed(folder / "one.bed", folder / "one.fa").labels[0].tolist()
        [0, 2, 2, 0, 0, 0]
        >>> pieces = read_bed(folder / "one.bed", folder / "one.fa", cut=True)
        >>> pieces.records, pieces.names, pieces.groups
        (['CG'], ('chr1:1-3(-)',), ('chr1',))
    """
    records = _named(sequences)
    rows = [_bed_row(path, line, row, records) for line, row in _table(path)[0] if not _BED_TITLE.match(row)]
    if not rows:
        raise wrong(path, "line 1", "at least one interval", "none", "is it a BED file?")
    if not cut:
        spans: dict[str, list[Span]] = {name: [] for name in records}
        for row in rows:
            spans[row.name] += [Span(start, stop, 2 if row.strand == "-" else 1) for start, stop in row.blocks]
        return _labelled(path, records, spans, ("none", "interval +", "interval -"))
    if empty := next((row for row in rows if row.start == row.stop), None):
        raise wrong(path, f"line {empty.line}", "an interval of at least one base", "none", _CORRECT)
    pieces = [records[row.name][row.start : row.stop] for row in rows]
    names = [f"{row.name}:{row.start}-{row.stop}" + (f"({row.strand})" if row.strand else "") for row in rows]
    return records_of(path, pieces, names, groups=tuple(row.name for row in rows))


class _Interval(NamedTuple):
    """A row of a BED file."""

    line: int
    name: str
    start: int
    stop: int
    strand: str  # "" where there is none
    blocks: list[tuple[int, int]]


def _bed_row(path: str | os.PathLike, line: int, text: bytes, records: dict[str, str]) -> _Interval:
    def refuse(needed: str, got: object) -> FileError:
        return wrong(path, f"line {line}", needed, str(got), _CORRECT)

    row = text.rstrip().split(b"\t") if b"\t" in text else text.split()
    if not 3 <= len(row) <= 12:
        raise refuse("3 to 12 columns", len(row))
    if (name := decode(row[0])) not in records:
        raise refuse("the name of one of the sequences", repr(name[:60]))
    start, stop, strand = _number(row[1]), _number(row[2]), row[5] if len(row) > 5 else b"."
    if not 0 <= start <= stop <= len(records[name]):
        got = repr(decode(b" ".join(row[1:3])[:60]))
        raise refuse(f"0 <= start <= end <= {len(records[name])}, the bases of {name!r}", got)
    if strand not in (b"+", b"-", b"."):
        raise refuse("strand '+', '-' or '.'", repr(decode(strand[:20])))
    blocks = _blocks(row, start, stop) if len(row) == 12 else [(start, stop)]
    if not blocks:
        raise refuse("blocks, as many as said, within their interval", repr(decode(b" ".join(row[9:])[:60])))
    return _Interval(line, name, start, stop, decode(strand).strip("."), blocks)


def _blocks(row: list[bytes], start: int, stop: int) -> list[tuple[int, int]]:
    """Start and stop of each block; [] where they make no sense."""
    count, sizes, starts = _number(row[9]), *([_number(x) for x in row[i].strip(b",").split(b",")] for i in (10, 11))
    if not count == len(sizes) == len(starts) or min(sizes) < 0 or min(starts) < 0:
        return []
    blocks = [(start + first, start + first + size) for first, size in zip(starts, sizes, strict=True)]
    return blocks if max(end for _, end in blocks) <= stop else []
