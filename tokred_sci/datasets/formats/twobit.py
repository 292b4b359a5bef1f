"""2bit: genomes with N runs and soft mask, four bases a byte."""

import os
from typing import Literal

import numpy as np

from tokred_sci.datasets.files import AGAIN, read_bytes, wrong
from tokred_sci.datasets.formats.letters import decode, records_of
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError

TWO_BIT = bytes.fromhex("4327411a")  # little-endian


_FOUR_BASES = np.frombuffer(b"TCAG", np.uint8)[np.arange(256)[:, None] >> np.array([6, 4, 2, 0]) & 3]  # (256, 4)


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
        if data[:4] not in (TWO_BIT, TWO_BIT[::-1]):
            raise self.refuse(0, "the mark of 2bit, 1A412743", data[:4].hex())
        self.order: Literal["<", ">"] = "<" if data[:4] == TWO_BIT else ">"

    def refuse(self, at: int, needed: str, got: object) -> FileError:
        return wrong(self.path, f"byte {at}", needed, str(got), AGAIN)

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
