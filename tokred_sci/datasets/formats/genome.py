"""FASTA at random: any stretch of any sequence of a file larger than memory, plain or bgzip."""

import os
import re
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tokred_sci.datasets.files import AGAIN, existing, wrong
from tokred_sci.datasets.formats.fasta import BLOCK, LETTERS_AND_ENDS, Block, Names, blocks, bodies
from tokred_sci.datasets.formats.letters import LETTERS, READ_WHOLE, decode, is_bgzip
from tokred_sci.errors import FileError, InputError


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
    names, layouts, size, end, checked = Names(path, raw=True), dict[str, _Layout](), 0, 0, None
    for name, block, start, stop in bodies(blocks(path, raw=True), names):
        body, place = block.data[start:stop], block.offset + start
        _check_body(block, start, body, name)
        if block is not checked and b"\n" in block.data:
            checked, kind = block, 2 if b"\r" in block.data else 1
            if kind != (size := size or kind):
                raise block.refuse(0, "line ends of one kind, as an index needs", "another", READ_WHOLE)
        if not name:
            continue
        odd, end = _enter_body(layouts, name, body, place, size), place + len(body)
        if odd >= 0:
            raise block.refuse(odd - block.offset, "lines of one length, as an index needs", "another", READ_WHOLE)
        names.filled = names.filled or layouts[name].length > 0 or bool(body.strip())
    last = layouts[next(reversed(layouts))]
    if last.line < end and last.add(np.array([end + size - 1]), size) >= 0:  # no final line end
        raise wrong(path, "last line", "lines of one length, as an index needs", "a longer one", READ_WHOLE)
    return layouts


def _check_body(block: Block, start: int, body: bytes, name: str) -> None:
    if body.translate(None, LETTERS_AND_ENDS) or (not name and body.strip()):
        found = re.search(rb"[^A-Za-z*.\-\r\n]", body)
        at = start + (found.start() if found else 0)
        raise block.refuse(at, "nothing but sequence, as an index needs", "other text", READ_WHOLE)


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
                raise wrong(self.path, f"byte {self.places[-1]}", "a block of bgzip", "something else", AGAIN)

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
                raise wrong(self.path, where, "a whole block of bgzip", str(error), AGAIN) from error
            got, block = got + len(parts[-1]), block + 1
        return b"".join(parts)[skip : skip + size]
