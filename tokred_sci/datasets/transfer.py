"""Bytes of one URL into a part file: gone on with where they were cut, and looked at before they are written."""

import errno
import json
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

_CHUNK = 1 << 18  # bytes a read
_TIMEOUT = 30.0  # seconds without a byte
_STARTS = {  # what a file of this name begins with
    ".zip": (b"PK\x03\x04", b"PK\x05\x06"),
    ".npz": (b"PK\x03\x04",),
    ".gz": (b"\x1f\x8b",),
    ".xz": (b"\xfd7zXZ\x00",),
    ".bz2": (b"BZh",),
    ".mat": (b"MATLAB", b"\x89HDF"),
    ".h5": (b"\x89HDF",),
    ".gb": (b"LOCUS",),
    ".parquet": (b"PAR1",),
    ".laz": (b"LASF",),
}


class Failed(Exception):
    """This URL does not give the file; another may."""


class Cut(Exception):
    """The transfer broke off; going on may help."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file as promised, and where it is written down."""

    path: Path
    lock: Path
    sha256: str | None
    size: int | None
    published: bool  # False: the hash is from the lock file, or there is none yet
    by_hand: str

    @property
    def key(self) -> str:
        return Path(os.path.relpath(self.path, self.lock.parent)).as_posix()

    @property
    def part(self) -> Path:
        return self.path.with_name(self.path.name + ".part")


def transfer(url: str, part: BinaryIO, wanted: Wanted, tries: int, wait: float, progress: bool) -> None:
    """The whole file into `part`; a broken transfer is taken up again until `tries` in a row gained nothing."""
    longest, left = length_of(part), tries
    while True:
        try:
            return _receive(url, part, wanted, progress)
        except Cut as error:
            left = tries - 1 if length_of(part) > longest else left - 1
            longest = max(longest, length_of(part))
            if left <= 0:
                raise Failed(f"{error}; {longest:,} bytes are kept in {wanted.part.name}") from error
            time.sleep(wait * 2 ** (tries - 1 - left))


def _receive(url: str, part: BinaryIO, wanted: Wanted, progress: bool) -> None:
    start, mark = _resumable(url, part, wanted)
    if start and start == _kept(wanted.part).get("total"):
        return  # all of it came in an earlier call
    with _open(url, start, mark) as answer:
        if start and not _goes_on(answer, start, mark):
            start = forget(part, wanted)
            if answer.status in (206, 416):
                raise Cut("the file changed since the download began")
        total = _promised(answer, start, wanted)
        _room(total, start, wanted.path)
        _remember(url, _validator(answer), total, wanted.part)
        first = start == 0
        with tqdm(
            total=total, initial=start, unit="B", unit_scale=True, desc=wanted.path.name, delay=1, disable=not progress
        ) as bar:
            for chunk in _chunks(answer):
                if first:
                    _look(chunk, answer, wanted.path)
                    first = False
                part.write(chunk)
                bar.update(len(chunk))
    part.flush()
    _complete(length_of(part), total, wanted)


def _open(url: str, start: int, mark: str | None) -> HTTPResponse:
    headers = {"User-Agent": "tokred_sci", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if mark:
            headers["If-Range"] = mark
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # the part is longer than the file is now
            return error  # type: ignore[return-value]
        error.close()
        kind = Cut if error.code in (408, 425, 429) or error.code >= 500 else Failed
        raise kind(f"HTTP {error.code} {error.reason}") from error
    except (TimeoutError, ConnectionResetError, HTTPException) as error:
        raise Cut(f"{type(error).__name__}: {error}") from error
    except OSError as error:  # URLError among them
        reason = getattr(error, "reason", error)
        lost = isinstance(reason, TimeoutError | ConnectionResetError | ssl.SSLEOFError)
        raise (Cut if lost else Failed)(f"no connection ({reason})") from error
    except ValueError as error:
        raise Failed(f"not an address ({error})") from error


def _chunks(answer: HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = answer.read(_CHUNK)
        except (OSError, HTTPException) as error:
            raise Cut(f"the transfer broke off ({type(error).__name__})") from error
        if not chunk:
            return
        yield chunk


def _resumable(url: str, part: BinaryIO, wanted: Wanted) -> tuple[int, str | None]:
    """Bytes to go on from, and the server's mark of them; none where neither mark nor hash can show that they fit."""
    kept = _kept(wanted.part)
    mark = kept.get("mark") if kept.get("url") == url else None
    if mark or (wanted.sha256 and kept):
        return length_of(part), mark
    return forget(part, wanted), None


def _goes_on(answer: HTTPResponse, start: int, mark: str | None) -> bool:
    same = mark is None or _validator(answer) in (None, mark)
    return answer.status == 206 and same and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _promised(answer: HTTPResponse, start: int, wanted: Wanted) -> int | None:
    """Bytes of the whole file; None where the transfer itself says when it ends."""
    length = answer.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    if None not in (total, wanted.size) and total != wanted.size:
        raise Failed(f"{total:,} bytes offered, not {wanted.size:,}{_page(answer)}")
    chunked = answer.headers.get("Transfer-Encoding", "").lower() == "chunked"
    if total is None and not chunked and wanted.size is None and wanted.sha256 is None:
        raise Failed("the server does not say how long the file is, so a cut would pass unseen")
    return total


def _complete(length: int, total: int | None, wanted: Wanted) -> None:
    needed = wanted.size if total is None else total
    if length == 0 and wanted.size != 0:
        raise (Cut if needed else Failed)("nothing came")
    if needed is not None and length < needed:
        raise Cut(f"the transfer ended after {length:,} of {needed:,} bytes")
    if needed is not None and length > needed:
        wanted.part.write_bytes(b"")
        raise Failed(f"{length:,} bytes came, not {needed:,}")


def _look(chunk: bytes, answer: HTTPResponse, path: Path) -> None:
    """A page instead of data, or another format: refused before a byte is written."""
    coding = answer.headers.get("Content-Encoding", "identity").lower()
    if coding != "identity" and path.suffix.lower() not in (".gz", ".tgz"):
        raise Failed(f"the server compressed it on the way ({coding}), so its size and hash cannot be known")
    if chunk[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<head")):
        raise Failed("a web page came in place of data (a login, a quota, or a confirmation)")
    if _page(answer):
        raise Failed(f"data expected{_page(answer)}")
    starts = _STARTS.get(path.suffix.lower())
    if starts and not chunk.startswith(starts):
        raise Failed(f"a {path.suffix} file expected, but what came begins with {chunk[:16]!r}")


def _page(answer: HTTPResponse) -> str:
    return ", and it is a web page" if answer.headers.get_content_type() == "text/html" else ""


def _room(total: int | None, start: int, path: Path) -> None:
    free = shutil.disk_usage(path.parent).free
    if total is not None and total - start > free:
        raise OSError(errno.ENOSPC, f"{total - start:,} bytes needed, {free:,} free")


# What is known about a part


def beside(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _kept(part: Path) -> dict[str, Any]:
    try:
        kept = json.loads(beside(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _validator(answer: HTTPResponse) -> str | None:
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _remember(url: str, mark: str | None, total: int | None, part: Path) -> None:
    beside(part).write_text(json.dumps({"url": url, "mark": mark, "total": total}), encoding="utf-8")


def length_of(part: BinaryIO) -> int:
    part.flush()
    return os.fstat(part.fileno()).st_size


def forget(part: BinaryIO, wanted: Wanted) -> int:
    part.truncate(0)
    beside(wanted.part).unlink(missing_ok=True)
    return 0
