"""Archives from elsewhere, unpacked whole or not at all; what could harm is refused before the first byte lands."""

import lzma
import os
import shutil
import stat
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tokred_sci.datasets.files import existing, open_bytes, wrong
from tokred_sci.errors import FileError

_REMEDY = "do not use it; ask its publisher, or unpack by hand what you trust"
_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, NotImplementedError)
_FREE = 1 << 20  # bytes that an archive may always hold, whatever its own size
_ENTRY = 1 << 20  # bytes read at once: the description of one member takes no more
_SLACK = 1 << 24  # bytes of a tar's headers and padding, beside twice its members
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "a link"}


@dataclass(frozen=True, slots=True)
class _Member:
    """One regular file of an archive; `name` is checked."""

    name: str
    size: int
    open: Callable[[], BinaryIO | Any]


def unpack(
    archive: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    most_bytes: int = 100 << 30,
    most_members: int = 1_000_000,
    most_ratio: float = 200.0,
) -> Path:
    """All regular files of a zip or tar (plain, gzip, bzip2, xz) below a new folder.

    Law: the folder is whole or absent. Everything is written beside it and renamed at the end; no member lands
    outside, and permissions, owners, links and devices of the archive are never made. Only a kill leaves something:
    a folder ".NAME.*.part" beside, which nothing ever reads.

    Args:
        archive: path; its first bytes say what it is, not its name.
        folder: a folder that is not there yet; its parents are made.
        most_bytes: most bytes of all members together.
        most_members: most files and folders.
        most_ratio: most bytes unpacked for one byte of the archive (above the first MiB).

    Returns:
        the folder.

    Raises:
        FileError: the folder exists; the archive is none, damaged, encrypted, has an absolute name, '..', a link, a
            device, one name twice, or more than the limits allow; or the disk is full.

    Reference: ZIP File Format Specification 6.3.10 (PKWARE, 2022),
        https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT; pax Interchange Format (IEEE Std 1003.1, 2018),
        https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html

    Example:
        >>> import tempfile, pathlib
        >>> home = pathlib.Path(tempfile.mkdtemp())
        >>> with zipfile.ZipFile(home / "set.zip", "w") as made:
        ...     made.writestr("set/train.csv", "sequence,label")
        >>> (unpack(home / "set.zip", home / "set") / "set" / "train.csv").read_text()
        'sequence,label'
    """
    archive, folder = existing(archive), Path(folder)
    if folder.exists() or folder.is_symlink():
        raise wrong(archive, "target", "a folder that is not there yet", str(folder), "name another, or move it away")
    with _members(archive, most_bytes, most_members, most_ratio) as members:
        beside = _beside(folder, archive, sum(member.size for member in members))
        try:
            for member in members:
                _write(member, beside, archive)
            _settle(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def differing(archive: str | os.PathLike, folder: str | os.PathLike) -> list[str]:
    """Names of the archive's files that are absent from the folder or not equal there, byte for byte; [] = all good.

    Example:
        >>> import tempfile, pathlib
        >>> home = pathlib.Path(tempfile.mkdtemp())
        >>> with zipfile.ZipFile(home / "set.zip", "w") as made:
        ...     made.writestr("train.csv", "ACGT")
        >>> _ = (unpack(home / "set.zip", home / "set") / "train.csv").write_text("ACGA")
        >>> differing(home / "set.zip", home / "set")
        ['train.csv']
    """
    archive = existing(archive)
    with _members(archive, 100 << 30, 1_000_000, 200.0) as members:
        return [member.name for member in members if not _equal(member, Path(folder) / member.name, archive)]


# What the archive says it holds, checked before anything is written

_Entry = tuple[str, str, int, Callable[[], Any]]  # name, kind, size, what opens it


@contextmanager
def _members(path: Path, most_bytes: int, most_members: int, most_ratio: float) -> Iterator[list[_Member]]:
    most = int(min(most_bytes, max(_FREE, most_ratio * path.stat().st_size)))
    with path.open("rb") as stream:
        entries = _zip_entries if stream.read(2) == b"PK" else _tar_entries
    with ExitStack() as opened:
        try:
            members = list(_Limits(path, most, most_members).checked(entries(path, most, opened)))
        except _DAMAGE as error:
            raise _damaged(path, error) from error
        yield members


@dataclass(slots=True)
class _Limits:
    """Holds each member against the limits as it comes, so that a hostile list is not read to its end."""

    path: Path
    most_bytes: int
    most_members: int

    def checked(self, listed: Iterator[tuple[str, str, int, Callable[[], Any]]]) -> Iterator[_Member]:
        total, seen, files = 0, set[str](), set[str]()
        for count, (name, kind, size, opener) in enumerate(listed, 1):
            total += size
            if count > self.most_members:
                raise self.refused(name, f"at most {self.most_members:,} members", "more")
            if total > self.most_bytes:
                raise self.refused(name, f"at most {self.most_bytes:,} bytes unpacked", f"{total:,} up to here")
            clean = self.name(name)
            if kind == "folder" and size == 0:
                continue
            if kind != "file":
                raise self.refused(name, "files and empty entries for folders", kind)
            if clean in seen or clean in files:
                raise self.refused(name, "every name once", "it again")
            files.add(clean)
            seen.update(str(parent) for parent in PurePosixPath(clean).parents)
            if seen & {clean} or files & {str(parent) for parent in PurePosixPath(clean).parents}:
                raise self.refused(name, "a file or a folder", "both under one name")
            yield _Member(clean, size, opener)

    def name(self, name: str) -> str:
        """The name as a path below the folder, or refusal."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or any(":" in p for p in parts[:1]):
            raise self.refused(name, "names below the folder", "one that leads elsewhere")
        if any(len(part.encode(errors="replace")) > 255 for part in parts):
            raise self.refused(name[:40], "names of at most 255 bytes", "a longer one")
        return "/".join(parts)

    def refused(self, name: str, needed: str, got: str) -> FileError:
        return wrong(self.path, f"member {name!r}", needed, got, _REMEDY)


def _zip_entries(path: Path, most: int, opened: ExitStack) -> Iterator[_Entry]:
    archive = opened.enter_context(zipfile.ZipFile(path))
    _same_number(path, len(archive.infolist()))
    for entry in archive.infolist():
        if entry.flag_bits & 1:
            raise wrong(path, f"member {entry.filename!r}", "no password", "an encrypted file", _REMEDY)
        mode = entry.external_attr >> 16 if entry.create_system == 3 else 0
        kind = _KINDS.get(stat.S_IFMT(mode), "a device") if stat.S_IFMT(mode) else None
        kind = kind or ("folder" if entry.is_dir() else "file")
        yield entry.orig_filename, kind, entry.file_size, partial(archive.open, entry)


def _same_number(path: Path, found: int) -> None:
    """The end record counts the members; zipfile does not look, and a damaged entry can swallow the next ones."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 65_557))  # record and longest comment
        tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    promised = int.from_bytes(tail[at + 10 : at + 12], "little")
    if promised != 0xFFFF and promised != found:  # 0xFFFF: the number is in the zip64 record
        raise zipfile.BadZipFile(f"{promised} members promised, {found} found")


def _tar_entries(path: Path, most: int, opened: ExitStack) -> Iterator[_Entry]:
    stream = _Capped(opened.enter_context(open_bytes(path)), path, 2 * most + _SLACK)
    archive = opened.enter_context(tarfile.open(fileobj=stream, mode="r:"))  # type: ignore[call-overload]  # noqa: SIM115
    for entry in archive:
        plain = entry.isreg() and not entry.issparse()
        kind = "a link" if entry.issym() or entry.islnk() else "folder" if entry.isdir() else "a device"
        yield entry.name, "file" if plain else kind, entry.size, partial(archive.extractfile, entry)
    stream.seek(archive.offset)
    if stream.read(512) != bytes(512):  # tarfile takes a cut or damaged header for the end
        raise tarfile.ReadError(f"no end mark at byte {archive.offset}")
    while stream.read(_ENTRY):  # to the checksum of the compressed stream
        pass


class _Capped:
    """A stream that refuses to be read further than the archive may reach, or much of it at once."""

    def __init__(self, stream: BinaryIO, path: Path, most: int) -> None:
        self.stream, self.path, self.most = stream, path, most

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _ENTRY:
            raise self.refused()
        self.seek(self.tell())
        return self.stream.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        if place > self.most:
            raise self.refused()
        return self.stream.seek(place, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def refused(self) -> FileError:
        return wrong(self.path, f"byte {self.tell()} unpacked", "members within the limits", "more", _REMEDY)


# Writing


def _write(member: _Member, beside: Path, archive: Path) -> None:
    """One file, of exactly its promised size."""
    try:
        target = beside / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, target.open("xb") as out:
            shutil.copyfileobj(source, out, 1 << 18)
            written = out.tell()
    except (*_DAMAGE, RuntimeError) as error:
        raise _damaged(archive, error, member.name) from error
    if written != member.size:
        raise wrong(archive, f"member {member.name!r}", f"{member.size:,} bytes", f"{written:,}", _REMEDY)


def _equal(member: _Member, there: Path, archive: Path) -> bool:
    if not there.is_file() or there.stat().st_size != member.size:
        return False
    try:
        with member.open() as source, there.open("rb") as copy:
            while chunk := source.read(1 << 18):
                if chunk != copy.read(len(chunk)):
                    return False
    except (*_DAMAGE, RuntimeError) as error:
        raise _damaged(archive, error, member.name) from error
    return True


def _beside(folder: Path, archive: Path, needed: int) -> Path:
    """A new folder beside the one to come, on a disk with room for all of it."""
    beside = folder.parent / f".{folder.name}.{os.getpid()}.{threading.get_ident()}.part"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if needed <= free:
            beside.mkdir()
            return beside
    except OSError as error:
        got = f"{error.strerror}: {folder}"
        raise wrong(archive, "target", "a folder to write to", got, "choose another folder") from error
    raise wrong(archive, "target", f"{needed:,} bytes free", f"{free:,} at {folder.parent}", "free space")


def _settle(beside: Path, folder: Path) -> None:
    """The finished folder gets its name; if another process was faster, its folder stays."""
    try:
        os.rename(beside, folder)
    except OSError as error:
        if not folder.is_dir():
            raise wrong(folder, "target", "a folder to write to", f"{error.strerror}", "choose another") from error


def _damaged(path: Path, error: Exception, name: str = "") -> FileError:
    where = f"member {name!r}" if name else "table of contents"
    if isinstance(error, OSError) and error.errno is not None:
        return wrong(
            path, where, "room and permission to unpack it", f"{error.strerror}", "free space, or choose another folder"
        )
    got = f"{type(error).__name__}: {error}"
    return wrong(path, where, "a whole zip or tar archive", got, "download it again")
