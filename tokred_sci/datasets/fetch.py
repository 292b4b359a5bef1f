"""Public files to this disk: resumed where they were cut, checked before they get their name, never half there.

pooch was weighed and left out: it starts a cut download again from zero, and what is needed beyond urllib is below.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from tokred_sci.datasets.files import wrong
from tokred_sci.datasets.transfer import Failed, Wanted, beside, forget, length_of, transfer
from tokred_sci.errors import FetchError, InputError

LOCK = "tokred.lock.json"  # what was trusted on first use: URL, SHA-256, size, date


def data_folder(folder: str | os.PathLike | None = None) -> Path:
    """Where public files are kept: `folder`, else `$TOKRED_DATA_HOME`, else the user's cache (XDG on Unix).

    Example:
        >>> data_folder("here").as_posix()
        'here'
    """
    if folder is not None:
        return Path(folder).expanduser()
    if home := os.environ.get("TOKRED_DATA_HOME"):
        return Path(home).expanduser()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "tokred_sci"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokred_sci"


def fetch(
    urls: str | Sequence[str],
    path: str | os.PathLike,
    sha256: str | None = None,
    size: int | None = None,
    *,
    lock: str | os.PathLike | None = None,
    by_hand: str = "",
    tries: int = 4,
    wait: float = 1.0,
    progress: bool = True,
) -> Path:
    """The file at `path`, downloaded if it is not there; what is not the promised file never gets that name.

    Law: `path` holds the whole, checked file or nothing. A transfer that breaks off leaves `path` + ".part", and the
    next call goes on where it ended. Where no hash is published, the first copy is trusted and written into the
    lock file; any later copy must equal it.

    Args:
        urls: http(s) or file URL, or the same file's URLs in the order to try them.
        path: final name; a file that is already there is checked, not fetched.
        sha256: published hash, 64 hexadecimal digits; None = not published: trust on first use.
        size: published size in bytes; None = not known.
        lock: the lock file; None = "tokred.lock.json" beside the file.
        by_hand: one sentence on how to get the file by hand, for the message.
        tries: how often a broken transfer is taken up again before it has gained a byte.
        wait: seconds before the second try, doubled each time.
        progress: show a bar once a second has passed.

    Returns:
        the path.

    Raises:
        FetchError: no URL gave the promised file, the disk is full or not writable, or the file that is there is
            another one; names each URL with its reason, path, hash, and what to do by hand.
        FileError: the lock file is damaged.
        InputError: no URL, or one of another scheme; a hash that is none.

    Reference: HTTP Semantics, range requests (RFC 9110, 2022), https://www.rfc-editor.org/rfc/rfc9110#section-14

    Example:
        >>> import tempfile, pathlib
        >>> home = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (home / "public.txt").write_text("ACGT")
        >>> fetch((home / "public.txt").as_uri(), home / "mine" / "dna.txt").read_text()
        'ACGT'
        >>> list(json.loads((home / "mine" / LOCK).read_text())["files"])
        ['dna.txt']
    """
    addresses = (urls,) if isinstance(urls, str) else tuple(urls)
    wanted = _wanted(addresses, Path(path), sha256, size, lock, by_hand)
    if wanted.path.exists():
        return _accept(wanted, addresses)
    reasons: list[str] = []
    try:
        wanted.path.parent.mkdir(parents=True, exist_ok=True)
        with _held(wanted.part) as part:
            if wanted.path.exists():  # another process was faster
                return _accept(wanted, addresses)
            for url in addresses:
                try:
                    return _attempt(url, part, wanted, tries, wait, progress)
                except Failed as error:
                    reasons.append(f"{url}: {error}")
    except OSError as error:
        if isinstance(error, FetchError):
            raise
        raise _refusal(wanted, addresses, [f"this disk: {error.strerror or error}"]) from error
    raise _refusal(wanted, addresses, reasons or ["no address is known"])


def verify(path: str | os.PathLike, sha256: str | None = None, *, lock: str | os.PathLike | None = None) -> str:
    """State of a fetched file: "good", "changed", "absent", or "unknown" where no hash is published or recorded.

    Example:
        >>> verify("nowhere.zip")
        'absent'
    """
    wanted = _wanted((), Path(path), sha256, None, lock, "")
    if not wanted.path.is_file():
        return "absent"
    if wanted.sha256 is None:
        return "unknown"
    return "good" if hash_of(wanted.path) == wanted.sha256 else "changed"


def hash_of(path: str | os.PathLike) -> str:
    """SHA-256 of a file, 64 hexadecimal digits; constant memory."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _wanted(
    urls: tuple[str, ...],
    path: Path,
    sha256: str | None,
    size: int | None,
    lock: str | os.PathLike | None,
    by_hand: str,
) -> Wanted:
    for url in urls:
        if not url.startswith(("https://", "http://", "file://")):
            raise InputError(f"Expected an http, https or file URL (got {url!r}): give the file's full address.")
    if sha256 is not None and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise InputError(f"Expected 'sha256' as 64 hexadecimal digits (got {sha256!r}): leave it out if not known.")
    home = Path(lock) if lock is not None else path.parent / LOCK
    wanted = Wanted(path, home, sha256.lower() if sha256 else None, size, sha256 is not None, by_hand)
    recorded = read_lock(home).get(wanted.key)
    if sha256 is not None or recorded is None:
        return wanted
    return Wanted(path, home, recorded["sha256"], recorded["size"], False, by_hand)


# What is already there


def _accept(wanted: Wanted, urls: tuple[str, ...]) -> Path:
    if not wanted.path.is_file():
        raise _refusal(wanted, urls, [f"{wanted.path}: is a folder"])
    try:
        found = hash_of(wanted.path)
        if wanted.sha256 is None:
            _record("put there by hand", wanted.path, found, wanted)
    except OSError as error:
        raise _refusal(wanted, urls, [f"{wanted.path}: {error.strerror}"]) from error
    if wanted.sha256 not in (None, found):
        there = f"{wanted.path}: is there already, with SHA-256 {found}; move it away"
        raise _refusal(wanted, urls, [there + (", then call again" if urls else "")])
    return wanted.path


def _name(url: str, part: BinaryIO, wanted: Wanted) -> Path:
    """The checked part gets its final name; first written down, so that a crash between leaves no unknown file."""
    part.flush()
    os.fsync(part.fileno())
    found = hash_of(wanted.part)
    if wanted.sha256 not in (None, found):
        forget(part, wanted)
        what = "published" if wanted.published else f"trusted on first use, in {wanted.lock}"
        raise Failed(f"SHA-256 is {found}, not the one {what}")
    if not wanted.published:
        _record(url, wanted.part, found, wanted)
    if os.name == "nt":
        part.close()  # Windows renames no open file
    os.replace(wanted.part, wanted.path)
    beside(wanted.part).unlink(missing_ok=True)
    return wanted.path


# The lock file


def read_lock(lock: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """What was trusted on first use: file name -> URL, sha256, size, date; {} where there is no lock file.

    Raises:
        FileError: it is there but is not ours.
    """
    try:
        entries = json.loads(Path(lock).read_text(encoding="utf-8"))["files"]
        return {name: {"url": e["url"], "sha256": e["sha256"], "size": e["size"], **e} for name, e in entries.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        remedy = "restore it, or delete it to trust the files that are there"
        raise wrong(lock, "whole file", "the hashes of fetched files", f"{type(error).__name__}", remedy) from error


def _record(url: str, path: Path, sha256: str, wanted: Wanted) -> None:
    """One more entry, written beside and renamed; processes take turns."""
    entry = {"url": url, "sha256": sha256, "size": path.stat().st_size, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    wanted.lock.parent.mkdir(parents=True, exist_ok=True)
    with _turn(wanted.lock.parent):
        if read_lock(wanted.lock).get(wanted.key, entry)["sha256"] == sha256:
            entries = dict(sorted({**read_lock(wanted.lock), wanted.key: entry}.items()))
            new = wanted.lock.with_name(f"{wanted.lock.name}.{os.getpid()}.part")
            new.write_text(json.dumps({"version": 1, "files": entries}, indent=1) + "\n", encoding="utf-8")
            os.replace(new, wanted.lock)
            return
    raise _refusal(wanted, (url,), [f"{url}: SHA-256 {sha256} is not the one another process trusted"])


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Alone with this folder among our processes."""
    if os.name == "nt":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _wait_for(handle)
        yield
    finally:
        os.close(handle)


def _wait_for(handle: int) -> None:
    """Lock it; without effect where the system or the file system has no flock."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)


@contextmanager
def _held(part: Path) -> Iterator[BinaryIO]:
    """The part file, open for writing at its end, for one process at a time; an empty one is not left behind."""
    while True:
        with part.open("ab") as stream:
            _wait_for(stream.fileno())
            if not _same(stream, part):
                continue  # it was renamed or removed while we waited
            try:
                yield stream
            finally:
                _sweep(stream, part)
            return


def _same(stream: BinaryIO, part: Path) -> bool:
    try:
        return os.path.samestat(part.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


def _sweep(stream: BinaryIO, part: Path) -> None:
    """Remove an empty part, while it is still ours."""
    if os.name == "nt":
        stream.close()  # Windows removes no open file
    with suppress(OSError):
        if not stream.closed:
            stream.flush()
        if part.stat().st_size == 0 and (stream.closed or _same(stream, part)):
            part.unlink()
            beside(part).unlink(missing_ok=True)


# One address after the other


def _attempt(url: str, part: BinaryIO, wanted: Wanted, tries: int, wait: float, progress: bool) -> Path:
    """The file from this address. If an earlier call left a part of other bytes, once more from zero."""
    earlier = length_of(part) > 0
    transfer(url, part, wanted, tries, wait, progress)
    try:
        return _name(url, part, wanted)
    except Failed:
        if not earlier:
            raise
    transfer(url, part, wanted, tries, wait, progress)
    return _name(url, part, wanted)


# What is said


def _refusal(wanted: Wanted, urls: tuple[str, ...], reasons: list[str]) -> FetchError:
    if wanted.sha256 is None:
        promise = f"no hash is published; the first copy is trusted and recorded in {wanted.lock}"
    else:
        known = "published" if wanted.published else f"trusted on first use, in {wanted.lock}"
        promise = f"SHA-256 {wanted.sha256} ({known})"
    tried = "\n".join(f"  {reason}" for reason in reasons)
    url = urls[0] if urls else "its public home"
    return FetchError(
        f"Expected to fetch {wanted.path.name} (got:\n{tried}\n). {promise[0].upper()}{promise[1:]}.\n"
        f"By hand: {wanted.by_hand or f'download {url}'}\n  and put it at {wanted.path}\n"
        "  or set TOKRED_DATA_MIRROR to a server or folder that has it; then call again."
    )
