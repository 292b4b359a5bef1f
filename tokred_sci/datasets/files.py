"""Bytes of a user's file, plain or compressed, and the one way to say what is wrong with it. Files are only read."""

import bz2
import gzip
import lzma
import os
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tokred_sci.errors import FileError, InputError, TokredError

AGAIN = "copy or download it again"  # the remedy where nothing better is known
BOM = b"\xef\xbb\xbf"  # some editors begin UTF-8 with it; it is no content
_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
CUT = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


def wrong(path: str | os.PathLike, where: str, needed: str, got: str, remedy: str) -> FileError:
    """The error for a file that does not hold what its format promises.

    Example:
        >>> wrong("a.ply", "line 3", "a vertex count", "'-4'", "export the file again")
        FileError("a.ply, line 3: expected a vertex count (got '-4'): export the file again.")
    """
    return FileError(f"{os.fspath(path)}, {where}: expected {needed} (got {got}): {remedy}.")


def existing(path: str | os.PathLike) -> Path:
    """The path of a file that can be read.

    Raises:
        FileError: there is none, it is a folder, or it may not be read.
        InputError: it is no path.
    """
    try:
        path = Path(path)
    except TypeError as error:
        raise InputError(f"Expected a path as text or pathlib.Path (got {path!r}): hand in one file.") from error
    if not path.is_file():
        got = "a folder" if path.is_dir() else "nothing there"
        raise FileError(f"Expected a file (got {got} at {path}): check the path.")
    if not os.access(path, os.R_OK):
        raise FileError(f"Expected a file that can be read (got no permission for {path}): change its mode.")
    return path


def open_bytes(path: str | os.PathLike) -> BinaryIO:
    """The file as a stream of bytes, taken out of gzip (bgzip too), bzip2 or xz where its first bytes say so."""
    path = existing(path)
    stream = path.open("rb")
    start = stream.read(6)
    for magic, opener in _OPENERS.items():
        if start.startswith(magic):
            stream.close()
            return opener(path, "rb")
    stream.seek(0)
    return stream


def read_bytes(path: str | os.PathLike, most: int = -1) -> bytes:
    """The whole file, or its first `most` bytes, decompressed.

    Raises:
        FileError: there is no such file, or its compressed stream is damaged or cut short.
    """
    try:
        with open_bytes(path) as stream:
            return stream.read(most)
    except CUT as error:
        raise wrong(path, "compressed stream", "it whole", f"{type(error).__name__}: {error}", AGAIN) from error


@contextmanager
def guard(path: str | os.PathLike, where: str, needed: str, remedy: str = AGAIN) -> Iterator[None]:
    """Whatever another package raises on a damaged file becomes a FileError; Rust's panics, too."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    except (TokredError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise wrong(path, where, needed, got, remedy) from error
