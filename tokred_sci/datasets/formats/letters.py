"""What readers of sequences share: bytes out of a file that may be cut short, and which bytes are letters."""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from tokred_sci.datasets.files import AGAIN, BOM, CUT, open_bytes, wrong
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError

LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz*.-"  # what may stand in a sequence


BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")  # the empty block that ends it


READ_WHOLE = "read it with read_fasta or stream_fasta, or write it anew in lines of one length"


def take(path: str | os.PathLike) -> tuple[bytes, str]:
    """The whole file, decompressed, and "" or why its compressed stream ends too early: then the bytes are a start.

    Line ends of all three kinds come as a line feed.
    """
    with open_bytes(path) as stream:
        data, cut = gather(stream, None)
    return unix(data.removeprefix(BOM)), cut or cut_between_blocks(path)


def gather(stream: BinaryIO, most: int | None) -> tuple[bytes, str]:
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
    except CUT as error:
        return b"".join(parts), f"{type(error).__name__}: {error}"
    return b"".join(parts), ""


def is_bgzip(head: bytes) -> bool:
    return head[:4] == b"\x1f\x8b\x08\x04" and head[12:16] == b"BC\x02\x00"


def cut_between_blocks(path: str | os.PathLike) -> str:
    """A bgzip file cut between two blocks is still good gzip: only its last, empty block tells."""
    with Path(path).open("rb") as stream:
        if not is_bgzip(stream.read(16)):
            return ""
        stream.seek(-min(28, stream.seek(0, os.SEEK_END)), os.SEEK_END)
        return "" if stream.read() == BGZIP_END else "no end-of-file block of bgzip"


def unix(data: bytes) -> bytes:
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
    return wrong(path, "cut short", "all of it", f"{cut}; {good}", AGAIN)


def records_of(path: str | os.PathLike, records: list[str], names: Iterable[str], **more: Any) -> Records:
    """Sequences as every reader of DNA returns them."""
    told = {"unit": "bases", "channels": ("letter (IUPAC)",), "source": Path(path).name}
    return Records("dna", records, names=tuple(names), **{**told, **more})
