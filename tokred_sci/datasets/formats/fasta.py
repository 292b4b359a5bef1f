"""FASTA, whole and in pieces. Letters come as they stand there."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np

from tokred_sci.datasets.files import AGAIN, BOM, open_bytes, wrong
from tokred_sci.datasets.formats.letters import (
    LETTERS,
    READ_WHOLE,
    cut_between_blocks,
    decode,
    gather,
    records_of,
    refuse_cut,
    unix,
)
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError, InputError

BLOCK = 1 << 20  # bytes read at once


PIECE = 1 << 22  # bases in a piece of a stream


LETTERS_AND_ENDS = LETTERS + b"\r\n"


_NOT_SEQUENCE = re.compile(rb"(?m)^;[^\n]*|[^A-Za-z*.\- \n]")


@dataclass(frozen=True, slots=True)
class Block:
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


def blocks(path: str | os.PathLike, raw: bool = False) -> Iterator[Block | str]:
    """The file in blocks; last, where its stream is cut short, the reason."""
    offset, fresh = 0, True
    with open_bytes(path) as stream:
        while True:
            data, cut = _block(path, stream, raw)
            if not offset and data.startswith(BOM):
                data, offset = data[len(BOM) :], len(BOM)
            if cut:
                data = data[: data.rfind(b"\n") + 1]  # a name may be half of one
            if data:
                yield Block(path, data, offset, fresh, raw)
                offset, fresh = offset + len(data), data[-1] == 10
            if cut or not data:
                break
    if cut := cut or cut_between_blocks(path):
        yield cut


def _block(path: str | os.PathLike, stream: BinaryIO, raw: bool) -> tuple[bytes, str]:
    data, cut = gather(stream, BLOCK)
    while data and not cut and _open_ended(data):
        if len(data) > 4 * BLOCK + (1 << 20):
            raise wrong(path, "some header", "a line end", f"{len(data)} letters without one", "is it a FASTA file?")
        more, cut = gather(stream, 1 << 16)
        data += more
        if not more:
            break
    if raw and data.count(b"\r") not in (0, data.count(b"\n")):
        raise wrong(path, "line ends", "one kind, with line feeds, as an index needs", "several", READ_WHOLE)
    return data if raw else unix(data), cut


def _line_at(path: str | os.PathLike, offset: int, raw: bool) -> int:
    line = 1
    for block in blocks(path, raw):
        if isinstance(block, Block):
            line += block.data.count(b"\n", 0, max(0, offset - block.offset))
    return line


def _open_ended(data: bytes) -> bool:
    """The last line is a header or comment that may go on, or half of a line end."""
    start = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    return data[start : start + 1] in (b">", b";") or data.endswith(b"\r")


class Names:
    """Names met so far, each with the offset of its header."""

    def __init__(self, path: str | os.PathLike, duplicates: str = "error", raw: bool = False) -> None:
        self.path, self.duplicates, self.raw = path, duplicates, raw
        self.offsets: dict[str, int] = {}
        self.copies: dict[str, int] = {}
        self.filled = False  # the latest has letters

    def enter(self, block: Block, at: int, end: int) -> str:
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


def bodies(blocks: Iterable[Block | str], names: Names) -> Iterator[tuple[str, Block, int, int]]:
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
        raise wrong(path, "line 1", "'>' and a name", "no record at all", AGAIN)
    if not names.filled:
        raise names.refuse_empty(name)


def _parts(blocks: Iterable[Block | str], names: Names) -> Iterator[tuple[str, str]]:
    """Names and letters, block by block."""
    for name, block, start, stop in bodies(blocks, names):
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
    return _collect(blocks(path), Names(path, duplicates))


def read_section(path: str | os.PathLike, data: bytes, offset: int) -> Records:
    """The sequences of a FASTA section inside another file; `offset` is where its bytes stand in `take`'s."""
    return _collect([Block(path, data[offset:], offset, fresh=True, raw=False)], Names(path))


def _collect(blocks: Iterable[Block | str], names: Names) -> Records:
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
    for name, letters in _parts(blocks(path), Names(path)):
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
