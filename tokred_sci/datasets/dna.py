"""Files of DNA sequences: FASTA (whole, in pieces, at random), FASTQ and 2bit. Letters come as they stand there."""

import io
import os
import re
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from tokred_sci.datasets.files import _CUT, existing, open_bytes, read_bytes, wrong
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError, InputError

BLOCK = 1 << 20  # bytes read at once
PIECE = 1 << 22  # bases in a piece of a stream
LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz*.-"  # what may stand in a sequence
_TWO_BIT = bytes.fromhex("4327411a")  # little-endian
_FOUR_BASES = np.frombuffer(b"TCAG", np.uint8)[np.arange(256)[:, None] >> np.array([6, 4, 2, 0]) & 3]  # (256, 4)
_LETTERS_AND_ENDS = LETTERS + b"\r\n"
_QUALITIES = bytes(range(33, 127))
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")  # the empty block that ends it
_NOT_SEQUENCE = re.compile(rb"(?m)^;[^\n]*|[^A-Za-z*.\- \n]")
_COPY_AGAIN = "copy or download it again"
_READ_WHOLE = "read it with read_fasta or stream_fasta, or write it anew in lines of one length"


# ---- bytes ------------------------------------------------------------------------------------------------------


def take(path: str | os.PathLike) -> tuple[bytes, str]:
    """The whole file, decompressed, and "" or why its compressed stream ends too early: then the bytes are a start.

    Line ends of all three kinds come as a line feed.
    """
    with open_bytes(path) as stream:
        data, cut = _gather(stream, None)
    return _unix(data), cut or _cut_between_blocks(path)


def _gather(stream: BinaryIO, most: int | None) -> tuple[bytes, str]:
    """At least `most` bytes if there are so many (None = all); "" or why the stream cannot be read further."""
    if isinstance(stream, io.BufferedReader):
        return stream.read(most), ""
    parts, size = [], 0
    try:
        while most is None or size < most:  # read1, not read: what came before the damage is not lost
            part = stream.read1(1 << 17 if most is None else min(most, 1 << 17))  # type: ignore[attr-defined]
            if not part:
                break
            parts.append(part)
            size += len(part)
    except _CUT as error:
        return b"".join(parts), f"{type(error).__name__}: {error}"
    return b"".join(parts), ""


def is_bgzip(head: bytes) -> bool:
    return head[:4] == b"\x1f\x8b\x08\x04" and head[12:16] == b"BC\x02\x00"


def _cut_between_blocks(path: str | os.PathLike) -> str:
    """A bgzip file cut between two blocks is still good gzip: only its last, empty block tells."""
    with Path(path).open("rb") as stream:
        if not is_bgzip(stream.read(16)):
            return ""
        stream.seek(-min(28, stream.seek(0, os.SEEK_END)), os.SEEK_END)
        return "" if stream.read() == _BGZIP_END else "no end-of-file block of bgzip"


def _unix(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def decode(text: bytes) -> str:
    """A header as text: UTF-8, or Latin-1 where it is not."""
    try:
        return str(text, "utf-8")
    except UnicodeDecodeError:
        return str(text, "latin-1")


def refuse_cut(path: str | os.PathLike, cut: str, last: str | None) -> FileError:
    """The error for a file that ends too early, with the last record that is whole."""
    good = f"record {last!r} is the last good one" if last is not None else "no record is whole"
    return wrong(path, "cut short", "all of it", f"{cut}; {good}", _COPY_AGAIN)


# ---- FASTA, whole and in pieces ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    """Part of a FASTA file that ends in no header."""

    path: str | os.PathLike
    data: bytes
    offset: int  # of its first byte
    fresh: bool  # it starts at the start of a line
    raw: bool  # line ends and offsets are those of the file

    def refuse(self, at: int, needed: str, got: str, remedy: str) -> FileError:
        return wrong(self.path, f"line {_line_at(self.path, self.offset + at, self.raw)}", needed, got, remedy)

    def in_comment(self, at: int) -> bool:
        start = self.data.rfind(b"\n", 0, at) + 1
        return (start > 0 or self.fresh) and self.data[start] == ord(";")

    def headers(self) -> Iterator[tuple[int, int]]:
        """Start and end of every header line."""
        data, at = self.data, self.data.find(b">")
        while at >= 0:
            end = data.find(b"\n", at)
            end = len(data) if end < 0 else end
            if data[at - 1] == 10 if at else self.fresh:
                yield at, end
            elif not self.in_comment(at):
                raise self.refuse(
                    at, "'>' at the start of a line only", "one inside a line", "put a line end before it"
                )
            at = data.find(b">", end)

    def letters(self, start: int, stop: int) -> str:
        """The sequence between two headers, without line ends, spaces and comments."""
        if stop - start < 4096:
            text = self.data[start : stop - 1]
            if text.isalpha() and self.data[stop - 1] == 10:
                return text.decode()
            return self._careful(start, stop)
        values = _unwrap(np.frombuffer(self.data, np.uint8)[start:stop], self.data.find(b"\n", start, stop) - start)
        return str(values.data, "ascii") if _only_letters(values) else self._careful(start, stop)

    def _careful(self, start: int, stop: int) -> str:
        body = self.data[start:stop]
        text = body.replace(b"\n", b"").replace(b" ", b"")
        if text.translate(None, LETTERS):
            for found in _NOT_SEQUENCE.finditer(body):
                at = start + found.start()
                if found[0][:1] != b";" or not self.in_comment(at):
                    raise self.refuse(at, "letters of a sequence", repr(found[0][:1])[1:], "correct or remove it")
            text = _NOT_SEQUENCE.sub(b"", body).replace(b"\n", b"").replace(b" ", b"")
        return text.decode()


def _unwrap(values: np.ndarray, width: int) -> np.ndarray:
    """Lines of one width without their ends; a line end where none belongs stays in, for the check that follows."""
    if width <= 0:
        return values
    rows = len(values) // (width + 1)
    table = values[: rows * (width + 1)].reshape(rows, width + 1)
    rest = values[rows * (width + 1) :]
    rest = rest[:-1] if len(rest) and rest[-1] == 10 else rest
    if not (table[:, width] == 10).all():
        return values
    letters = np.empty(rows * width + len(rest), np.uint8)
    letters[: rows * width].reshape(rows, width)[:] = table[:, :width]
    letters[rows * width :] = rest
    return letters


def _only_letters(values: np.ndarray, step: int = 1 << 17) -> bool:
    """Nothing but A-Z and a-z; in parts that stay in the processor's cache."""
    parts = (values[at : at + step] for at in range(0, len(values), step))
    return all(((part | 32) - 97).max() < 26 for part in parts)


def _blocks(path: str | os.PathLike, raw: bool = False) -> Iterator[_Block | str]:
    """The file in blocks; last, where its stream is cut short, the reason."""
    offset, fresh = 0, True
    with open_bytes(path) as stream:
        while True:
            data, cut = _block(path, stream, raw)
            if cut:
                data = data[: data.rfind(b"\n") + 1]  # a name may be half of one
            if data:
                yield _Block(path, data, offset, fresh, raw)
                offset, fresh = offset + len(data), data[-1] == 10
            if cut or not data:
                break
    if cut := cut or _cut_between_blocks(path):
        yield cut


def _block(path: str | os.PathLike, stream: BinaryIO, raw: bool) -> tuple[bytes, str]:
    data, cut = _gather(stream, BLOCK)
    while data and not cut and _open_ended(data):
        if len(data) > 4 * BLOCK + (1 << 20):
            raise wrong(path, "some header", "a line end", f"{len(data)} letters without one", "is it a FASTA file?")
        more, cut = _gather(stream, 1 << 16)
        data += more
        if not more:
            break
    if raw and data.count(b"\r") not in (0, data.count(b"\n")):
        raise wrong(path, "line ends", "one kind, with line feeds, as an index needs", "several", _READ_WHOLE)
    return data if raw else _unix(data), cut


def _line_at(path: str | os.PathLike, offset: int, raw: bool) -> int:
    line = 1
    for block in _blocks(path, raw):
        if isinstance(block, _Block):
            line += block.data.count(b"\n", 0, max(0, offset - block.offset))
    return line


def _open_ended(data: bytes) -> bool:
    """The last line is a header or comment that may go on, or half of a line end."""
    start = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    return data[start : start + 1] in (b">", b";") or data.endswith(b"\r")


class _Names:
    """Names met so far, each with the offset of its header."""

    def __init__(self, path: str | os.PathLike, duplicates: str = "error", raw: bool = False) -> None:
        self.path, self.duplicates, self.raw = path, duplicates, raw
        self.offsets: dict[str, int] = {}
        self.copies: dict[str, int] = {}
        self.filled = False  # the latest has letters

    def enter(self, block: _Block, at: int, end: int) -> str:
        words = block.data[at + 1 : end].split(None, 1)
        if not words:
            raise block.refuse(at, "a name after '>'", "none", "name the record")
        name = decode(words[0])
        if name in self.offsets:
            if self.duplicates == "error":
                got = f"{name!r} as in line {_line_at(self.path, self.offsets[name], self.raw)}"
                remedy = "name them apart, or read with duplicates='rename'"
                raise block.refuse(at, "a name of its own", got, remedy)
            name = self._another(name)
        self.offsets[name] = block.offset + at
        return name

    def _another(self, name: str) -> str:
        number = self.copies.get(name, 1) + 1
        while f"{name}.{number}" in self.offsets:
            number += 1
        self.copies[name] = number
        return f"{name}.{number}"

    def refuse_empty(self, name: str) -> FileError:
        where = f"line {_line_at(self.path, self.offsets[name], self.raw)}"
        return wrong(self.path, where, f"a sequence after '>{name}'", "none", "add it or remove the header")


def _bodies(blocks: Iterable[_Block | str], names: _Names) -> Iterator[tuple[str, _Block, int, int]]:
    """What stands between headers, block by block: the name before it ("" = none yet), its block, start and stop."""
    path, name = names.path, ""
    for block in blocks:
        if isinstance(block, str):
            raise refuse_cut(path, block, [None, None, *names.offsets][-2])
        start = 0
        for at, end in (*block.headers(), (len(block.data), -1)):
            if at > start:
                yield name, block, start, at
            if end < 0:
                break
            if name and not names.filled:
                raise names.refuse_empty(name)
            name, start, names.filled = names.enter(block, at, end), end + 1, False
    if not name:
        raise wrong(path, "line 1", "'>' and a name", "no record at all", _COPY_AGAIN)
    if not names.filled:
        raise names.refuse_empty(name)


def _parts(blocks: Iterable[_Block | str], names: _Names) -> Iterator[tuple[str, str]]:
    """Names and letters, block by block."""
    for name, block, start, stop in _bodies(blocks, names):
        letters = block.letters(start, stop)
        if letters and not name:
            raise block.refuse(start, "'>' and a name first", repr(letters[:20]), "is it a FASTA file?")
        if letters:
            names.filled = True
            yield name, letters


def read_fasta(path: str | os.PathLike, duplicates: Literal["error", "rename"] | str = "error") -> Records:
    """All sequences of a FASTA file, plain or compressed (gzip, bgzip, bzip2, xz).

    Law: every letter of the file is in one record, in its order and case; line ends, spaces, blank lines and comments
    (lines that start with ';') are not letters. A compressed file cut short anywhere is refused. A plain one that ends
    in a sequence cannot be told from a whole one: only a header without a sequence can.

    Args:
        path: the file.
        duplicates: "error", or "rename" to call the second and third "chr1" chr1.2 and chr1.3.

    Raises:
        FileError: cut short, empty, a record without name or sequence, a name twice, characters that are no letters.
        InputError: another word for `duplicates`.

    Reference: Improved tools for biological sequence comparison (Pearson & Lipman, 1988)
    https://doi.org/10.1073/pnas.85.8.2444; https://www.ncbi.nlm.nih.gov/genbank/fastaformat/

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.fa"
        >>> _ = path.write_text(">chr1 first\\nACGT\\nac\\n>chr2\\nNNN\\n")
        >>> read_fasta(path).records, read_fasta(path).names
        (['ACGTac', 'NNN'], ('chr1', 'chr2'))
    """
    if duplicates not in ("error", "rename"):
        raise InputError(f"Expected 'duplicates' as 'error' or 'rename' (got {duplicates!r}): choose one.")
    return _collect(_blocks(path), _Names(path, duplicates))


def read_section(path: str | os.PathLike, data: bytes, offset: int) -> Records:
    """The sequences of a FASTA section inside another file; `offset` is where its bytes stand in `take`'s."""
    return _collect([_Block(path, data[offset:], offset, fresh=True, raw=False)], _Names(path))


def _collect(blocks: Iterable[_Block | str], names: _Names) -> Records:
    records: list[str] = []
    read, longer = [""], dict[int, list[str]]()
    for name, letters in _parts(blocks, names):
        if name == read[-1]:
            longer.setdefault(len(records) - 1, [records[-1]]).append(letters)
        else:
            records.append(letters)
            read.append(name)
    for at, pieces in longer.items():
        records[at] = "".join(pieces)
    return records_of(names.path, records, read[1:])


def records_of(path: str | os.PathLike, records: list[str], names: Iterable[str], **more: Any) -> Records:
    """Sequences as every reader of DNA returns them."""
    told = {"unit": "bases", "channels": ("letter (IUPAC)",), "source": Path(path).name}
    return Records("dna", records, names=tuple(names), **{**told, **more})


def stream_fasta(path: str | os.PathLike, piece: int | None = None) -> Iterator[tuple[str, int, str]]:
    """Pieces of each sequence of a FASTA file in constant memory: name, position of the first base, letters.

    Law: the pieces of a sequence, joined, are its record in `read_fasta`; all but its last are `piece` long. What is
    wrong with the file raises the same errors, after the pieces before that place were handed out.

    Args:
        path: the file, plain or compressed.
        piece: bases in a piece, at least 1; None = 4,194,304.

    Raises:
        FileError: as `read_fasta`.
        InputError: a piece below 1.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.fa"
        >>> _ = path.write_text(">chr1\\nACGTA\\n>chr2\\nNN\\n")
        >>> list(stream_fasta(path, piece=3))
        [('chr1', 0, 'ACG'), ('chr1', 3, 'TA'), ('chr2', 0, 'NN')]
    """
    piece = PIECE if piece is None else piece
    if isinstance(piece, bool) or not isinstance(piece, int) or piece < 1:
        raise InputError(f"Expected 'piece' as a whole number of bases from 1 (got {piece!r}): try 1_000_000.")
    return _pieces(path, piece)


def _pieces(path: str | os.PathLike, piece: int) -> Iterator[tuple[str, int, str]]:
    now, start, held = "", 0, ""
    for name, letters in _parts(_blocks(path), _Names(path)):
        if name != now:
            if held:
                yield now, start, held
            now, start, held = name, 0, ""
        held += letters
        full = len(held) - len(held) % piece
        for at in range(0, full, piece):
            yield now, start + at, held[at : at + piece]
        start, held = start + full, held[full:]
    if held:
        yield now, start, held


# ---- FASTA at random --------------------------------------------------------------------------------------------


class Fasta:
    """Any stretch of any sequence of a FASTA file larger than memory, plain or compressed with bgzip.

    Law: `fetch(name, a, b)` is `read_fasta`'s record [a:b], or an error: a file changed since it was opened is refused.
    The index is made in memory on opening; one beside the file (.fai) is used where it is newer and agrees with every
    header. Nothing is written.

    Args:
        path: the file; all lines of a sequence but its last equally long.

    Raises:
        FileError: as `read_fasta`; ragged lines, comments or blank lines, which no index can describe; plain gzip.

    Reference: faidx(5), an index enabling random access to FASTA and FASTQ files (samtools)
    http://www.htslib.org/doc/faidx.html; SAM specification 4.1, the BGZF compression format
    https://samtools.github.io/hts-specs/SAMv1.pdf

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.fa"
        >>> _ = path.write_text(">chr1\\nACGT\\nac\\n>chr2\\nNNN\\n")
        >>> genome = Fasta(path)
        >>> genome.names, genome.lengths, genome.fetch("chr1", 2, 5)
        (('chr1', 'chr2'), (6, 3), 'GTa')
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = existing(path)
        with self.path.open("rb") as stream:
            self._stamp = _stamp(stream)
            self._bgzip = _Bgzip(self.path, stream)
            self._index = self._beside(stream) or _layouts(self.path)
            if _stamp(stream) != self._stamp:
                raise self._changed()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._index)

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(layout.length for layout in self._index.values())

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        return f"Fasta({len(self)} sequences, {sum(self.lengths)} bases)"

    def fetch(self, name: str, start: int = 0, stop: int | None = None) -> str:
        """The letters of a sequence from `start` up to, not including, `stop` (None = its end), counted from 0.

        Raises:
            InputError: no such sequence, or a stretch that is not in it.
            FileError: the file changed since it was opened, or the stretch is damaged.
        """
        if name not in self._index:
            few = ", ".join(list(self._index)[:5])
            raise InputError(f"Expected 'name' of a sequence in {self.path} (got {name!r}): it has {few}.")
        layout = self._index[name]
        stop = layout.length if stop is None else stop
        if not 0 <= start <= stop <= layout.length:
            raise InputError(f"Expected 0 <= start <= stop <= {layout.length} in {name!r} (got {start}, {stop}).")
        first, last = layout.at(start), layout.at(stop - 1) + 1
        with existing(self.path).open("rb") as stream:
            raw = self._bgzip.read(stream, first, last - first) if stop > start else b""
            if _stamp(stream) != self._stamp:
                raise self._changed()
        text = raw.translate(None, b"\r\n")
        if len(text) != stop - start or text.translate(None, LETTERS):
            where = f"{name}:{start}-{stop}"
            raise wrong(self.path, where, "letters where the index says", repr(raw[:20])[1:], "remove the .fai file")
        return text.decode()

    def _changed(self) -> FileError:
        return FileError(f"{self.path}: expected the file as it was opened (got another size or time): open it again.")

    def _beside(self, stream: BinaryIO) -> dict[str, "_Layout"]:
        """The index beside the file; {} where there is none, it is older, or it disagrees with the file."""
        beside = Path(f"{self.path}.fai")
        try:
            if beside.stat().st_mtime_ns < self._stamp[1]:
                return {}
            rows = [row.split("\t") for row in beside.read_text().splitlines()]
            index = {row[0]: _Layout(int(row[1]), int(row[2]), int(row[3]), int(row[4])) for row in rows}
            agrees = bool(rows) and len(index) == len(rows) and self._agrees(stream, index)
        except (OSError, ValueError, IndexError, OverflowError):  # FileError is a ValueError
            return {}
        return index if agrees else {}

    def _agrees(self, stream: BinaryIO, index: dict[str, "_Layout"]) -> bool:
        """Between two sequences stands the header of the second and nothing else; after the last, nothing."""
        end = 0
        for name, layout in index.items():
            if not 0 <= layout.offset - end <= BLOCK or not 0 < layout.bases < layout.width or layout.length < 1:
                return False
            between = self._bgzip.read(stream, end, layout.offset - end)
            header = re.fullmatch(rb"\s*>[^\S\n]*(\S+)[^\n]*\n", between)
            if header is None or decode(header[1]) != name:
                return False
            end = layout.at(layout.length - 1) + 1
        last = self._bgzip.read(stream, end - 1, BLOCK)
        return bool(last) and not last[1:].strip()


def _stamp(stream: BinaryIO) -> tuple[int, int, int, int]:
    state = os.fstat(stream.fileno())
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


@dataclass(slots=True)
class _Layout:
    """Where the letters of one sequence are: the columns of a .fai file."""

    length: int
    offset: int  # of its first base
    bases: int = 0  # in a line
    width: int = 0  # bytes in a line, with its end
    line: int = 0  # where the line being read starts
    ended: bool = False  # a shorter line was met: the last

    def at(self, position: int) -> int:
        return self.offset + position // self.bases * self.width + position % self.bases

    def add(self, ends: np.ndarray, size: int) -> int:
        """Enter lines by the offsets of their line feeds, line ends of `size` bytes; start of an odd one, or -1."""
        starts = np.concatenate([[self.line], ends[:-1] + 1])
        widths = ends + 1 - starts
        if not self.width:
            self.width, self.bases = int(widths[0]), int(widths[0]) - size
        short = np.flatnonzero(widths != self.width)
        first = 0 if self.ended else int(short[0]) + 1 if len(short) else len(widths)
        odd = np.flatnonzero((widths > self.width) | ((np.arange(len(widths)) >= first) & (widths > size)))
        self.length += int((widths - size).sum())
        self.line, self.ended = int(ends[-1]) + 1, first < len(widths) or bool(len(short)) or self.ended
        return int(starts[0 if self.bases < 1 else odd[0]]) if self.bases < 1 or len(odd) else -1


def _layouts(path: Path) -> dict[str, _Layout]:
    """Where each sequence is, from one pass over the file."""
    names, layouts, size, end, checked = _Names(path, raw=True), dict[str, _Layout](), 0, 0, None
    for name, block, start, stop in _bodies(_blocks(path, raw=True), names):
        body, place = block.data[start:stop], block.offset + start
        _check_body(block, start, body, name)
        if block is not checked and b"\n" in block.data:
            checked, kind = block, 2 if b"\r" in block.data else 1
            if kind != (size := size or kind):
                raise block.refuse(0, "line ends of one kind, as an index needs", "another", _READ_WHOLE)
        if not name:
            continue
        odd, end = _enter_body(layouts, name, body, place, size), place + len(body)
        if odd >= 0:
            raise block.refuse(odd - block.offset, "lines of one length, as an index needs", "another", _READ_WHOLE)
        names.filled = names.filled or layouts[name].length > 0 or bool(body.strip())
    last = layouts[next(reversed(layouts))]
    if last.line < end and last.add(np.array([end + size - 1]), size) >= 0:  # no final line end
        raise wrong(path, "last line", "lines of one length, as an index needs", "a longer one", _READ_WHOLE)
    return layouts


def _check_body(block: _Block, start: int, body: bytes, name: str) -> None:
    if body.translate(None, _LETTERS_AND_ENDS) or (not name and body.strip()):
        found = re.search(rb"[^A-Za-z*.\-\r\n]", body)
        at = start + (found.start() if found else 0)
        raise block.refuse(at, "nothing but sequence, as an index needs", "other text", _READ_WHOLE)


def _enter_body(layouts: dict[str, _Layout], name: str, body: bytes, place: int, size: int) -> int:
    """Enter part of a sequence; the offset of a line that fits no index, or -1."""
    if name not in layouts:
        if size < len(body) == body.find(b"\n") + 1:  # all of it one line, as in most files of many sequences
            layouts[name] = _Layout(len(body) - size, place, len(body) - size, len(body), place + len(body))
            return -1
        layouts[name] = _Layout(0, place, line=place)
    ends = np.flatnonzero(np.frombuffer(body, np.uint8) == 10) + place
    return layouts[name].add(ends, size) if len(ends) else -1


class _Bgzip:
    """Bytes of a file by their place in it, decompressed where it is bgzip; any other compression is refused."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self.places: list[int] = []  # of each block in the file
        self.starts: list[int] = []  # of its first byte, decompressed
        head = stream.read(16)
        if is_bgzip(head):
            self._walk(stream)
        elif head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
            remedy = "decompress it and compress it again with bgzip, or read it whole with read_fasta"
            raise wrong(path, "compression", "none or bgzip, which can be read from the middle", "another", remedy)

    def _walk(self, stream: BinaryIO) -> None:
        place, start, size = 0, 0, stream.seek(0, os.SEEK_END)
        while place < size:
            stream.seek(place)
            head = stream.read(18)
            self.places.append(place)
            self.starts.append(start)
            place += int.from_bytes(head[16:18], "little") + 1
            stream.seek(max(0, place - 4))
            start += int.from_bytes(stream.read(4), "little")
            if not is_bgzip(head) or place > size:
                raise wrong(self.path, f"byte {self.places[-1]}", "a block of bgzip", "something else", _COPY_AGAIN)

    def read(self, stream: BinaryIO, start: int, size: int) -> bytes:
        if not self.places:
            stream.seek(start)
            return stream.read(size)
        block = max(0, bisect_right(self.starts, start) - 1)
        skip, parts, got = start - self.starts[block], [], 0
        while got < skip + size and block < len(self.places):
            stream.seek(self.places[block])
            stop = self.places[block + 1] if block + 1 < len(self.places) else None
            try:
                parts.append(zlib.decompress(stream.read(stop - self.places[block] if stop else -1), wbits=31))
            except zlib.error as error:
                where = f"byte {self.places[block]}"
                raise wrong(self.path, where, "a whole block of bgzip", str(error), _COPY_AGAIN) from error
            got, block = got + len(parts[-1]), block + 1
        return b"".join(parts)[skip : skip + size]


# ---- FASTQ ------------------------------------------------------------------------------------------------------


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
        raise wrong(path, "line 1", "'@' and a name", "no record at all", _COPY_AGAIN)
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


# ---- 2bit -------------------------------------------------------------------------------------------------------


def read_2bit(path: str | os.PathLike) -> Records:
    """All sequences of a .2bit file: runs of N as N, masked stretches in lower case.

    Args:
        path: the file; versions 0 and 1 (64-bit offsets), either byte order.

    Raises:
        FileError: not 2bit, cut short, or a count or stretch that lies: the byte where it stands.

    Reference: .2bit format (UCSC Genome Browser) https://genome.ucsc.edu/FAQ/FAQformat.html#format7

    Example:
        >>> import tempfile, pathlib, struct
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "one.2bit"
        >>> head = struct.pack("<4IB1sI", 0x1A412743, 0, 1, 0, 1, b"a", 22)
        >>> _ = path.write_bytes(head + struct.pack("<6IB", 4, 1, 1, 1, 0, 0, 0b10_00_01_11))
        >>> read_2bit(path).records
        ['ANCG']
    """
    data = _TwoBit(path, read_bytes(path))
    index = data.index()
    return records_of(path, [data.sequence(at) for at in index.values()], index)


class _TwoBit:
    """Numbers of a .2bit file, none read beyond its end."""

    def __init__(self, path: str | os.PathLike, data: bytes) -> None:
        self.path, self.data = path, data
        if data[:4] not in (_TWO_BIT, _TWO_BIT[::-1]):
            raise self.refuse(0, "the mark of 2bit, 1A412743", data[:4].hex())
        self.order: Literal["<", ">"] = "<" if data[:4] == _TWO_BIT else ">"

    def refuse(self, at: int, needed: str, got: object) -> FileError:
        return wrong(self.path, f"byte {at}", needed, str(got), _COPY_AGAIN)

    def take(self, at: int, kind: str, count: int) -> np.ndarray:
        size = np.dtype(kind).itemsize
        if at < 0 or at + count * size > len(self.data):
            raise self.refuse(at, f"{count * size} bytes", f"{max(0, len(self.data) - at)}: cut short")
        return np.frombuffer(self.data, np.dtype(kind).newbyteorder(self.order), count, at).astype(np.int64)

    def index(self) -> dict[str, int]:
        version, count, _ = self.take(4, "u4", 3).tolist()
        if version not in (0, 1):
            raise self.refuse(4, "version 0 or 1", version)
        at, places = 16, dict[str, int]()
        for _ in range(count):
            size = int(self.take(at, "u1", 1)[0])
            name = decode(self.take(at + 1, "u1", size).astype(np.uint8).tobytes())
            if name in places or not name:
                raise self.refuse(at, "a name of its own", repr(name))
            places[name] = int(self.take(at + 1 + size, "u8" if version else "u4", 1)[0])
            at += 1 + size + (8 if version else 4)
        if not places:
            raise self.refuse(8, "at least one sequence", 0)
        return places

    def stretches(self, at: int, length: int) -> tuple[np.ndarray, int]:
        """Starts and stops, and the byte after them."""
        count = int(self.take(at, "u4", 1)[0])
        starts, sizes = self.take(at + 4, "u4", 2 * count).reshape(2, count)
        if count and ((starts + sizes).max() > length or (starts[1:] < starts[:-1] + sizes[:-1]).any()):
            raise self.refuse(at, f"stretches in order, within {length} bases", "others")
        return np.stack([starts, starts + sizes], 1), at + 4 + 8 * count

    def sequence(self, at: int) -> str:
        length = int(self.take(at, "u4", 1)[0])
        unknown, at = self.stretches(at + 4, length)
        masked, at = self.stretches(at, length)
        packed = self.take(at + 4, "u1", (length + 3) // 4)
        letters = _FOUR_BASES[packed].reshape(-1)[:length].copy()
        for start, stop in unknown.tolist():
            letters[start:stop] = ord("N")
        for start, stop in masked.tolist():
            letters[start:stop] |= 32
        return letters.tobytes().decode()


# ---- which of them ----------------------------------------------------------------------------------------------


def detect(head: bytes) -> str | None:
    """The format of a file from its first few thousand bytes, decompressed: what to put after `read_`, or None.

    Example:
        >>> detect(b">chr1\\nACGT\\n"), detect(b"chr1\\t0\\t100\\n"), detect(b"%PDF-1.7")
        ('fasta', 'bed', None)
    """
    if head[:4] in (_TWO_BIT, _TWO_BIT[::-1]):
        return "2bit"
    text = _unix(head).lstrip()
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
