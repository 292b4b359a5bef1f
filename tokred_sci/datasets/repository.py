"""Where a store is kept, and who may write to it: Icechunk repositories, one writer at a time, errors as ours."""

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokred_sci.datasets.layout import LAYOUT, brief, is_fault
from tokred_sci.errors import InputError, StoreError, TokredError

if TYPE_CHECKING:
    import icechunk

Place = str | os.PathLike
Options = Mapping[str, Any]
WAIT = 600.0  # seconds for another writer to finish
_opened: set[int] = set()  # processes in which Icechunk's threads run: a fork of such a process cannot use them


def is_url(path: Place) -> bool:
    return "://" in os.fspath(path)


def storage_of(path: Place, options: Options | None = None) -> "icechunk.Storage":
    """Where a store is kept: a folder, or a bucket with a prefix."""
    import icechunk

    if not is_url(path):
        return icechunk.local_filesystem_storage(str(Path(path).absolute()))
    kind, _, rest = os.fspath(path).partition("://")
    bucket, _, prefix = rest.partition("/")
    makers: dict[str, Any] = {"s3": icechunk.s3_storage, "gs": icechunk.gcs_storage}
    if kind not in makers or not bucket or not prefix:
        raise InputError(f"Expected a folder, s3://bucket/prefix or gs://bucket/prefix (got {path}).")
    given = dict(options or {})
    try:
        return makers[kind](bucket=bucket, prefix=prefix, **(given or {"from_env": True}))
    except TypeError as error:
        raise InputError(f"Expected 'options' for {makers[kind].__name__} of icechunk (got: {error}).") from error


def create_repository(path: Place, options: Options | None = None) -> "icechunk.Repository":
    """A repository without a generation: a new one, or what a first writer left that never finished."""
    import icechunk

    _enter()
    with told(path):
        storage = storage_of(path, options)
        if not icechunk.Repository.exists(storage):
            return icechunk.Repository.create(storage)
        repository = icechunk.Repository.open(storage)
        if "tokred_sci" in repository.lookup_snapshot(repository.lookup_branch("main")).metadata:
            raise InputError(f"Expected a place without a store (got {path}): choose another, or append to it.")
        return repository


def open_repository(path: Place, options: Options | None = None) -> "icechunk.Repository":
    """The repository of a store that exists."""
    import icechunk

    if not is_url(path) and not (Path(path) / "refs").is_dir():
        if (Path(path) / "zarr.json").is_file():
            raise StoreError(
                f"Expected a store of layout {LAYOUT} (got the folder of an earlier one at {path}): read it "
                "with the version that wrote it, and write it anew."
            )
        raise StoreError(f"Expected a store written by write_tokens (nothing like it at {path}): check the path.")
    _enter()
    with told(path):
        return icechunk.Repository.open(storage_of(path, options))


@contextmanager
def writing(path: Place, options: Options | None, wait: float) -> Iterator["icechunk.Repository"]:
    """The repository, with nobody else writing to it. Object stores refuse the second of two commits by themselves."""
    repository = open_repository(path, options)
    if is_url(path):
        yield repository
        return
    with lock(Path(path), wait):
        yield repository


@contextmanager
def lock(folder: Path, wait: float = WAIT) -> Iterator[None]:
    """Be the only writer. The system lets go of the lock of a process that dies, so nobody waits for the dead."""
    import filelock

    held = filelock.FileLock(folder / "writer.lock")
    try:
        held.acquire(timeout=wait)
    except filelock.Timeout as error:
        raise StoreError(
            f"Expected to be the only writer of {folder} (another process writes, for more than {wait:g} s): try later."
        ) from error
    except OSError as error:
        raise StoreError(
            f"Expected a folder that may be written to (got {error}): change its mode, or copy it."
        ) from error
    try:
        yield
    finally:
        held.release()


def sweep_parts(final: Path) -> None:
    """Remove what killed writers of this store left beside it: parts that nobody has locked, and that are not new."""
    import filelock

    for part in final.parent.glob(f".{final.name}.*.part"):
        try:
            if not (part / "writer.lock").exists() and time.time() - part.stat().st_mtime < WAIT:
                continue
            with filelock.FileLock(part / "writer.lock", timeout=0):
                shutil.rmtree(part, ignore_errors=True)
        except (filelock.Timeout, OSError):
            continue


def sweep_staged(folder: Path) -> int:
    """Remove files that killed writers had not given their names yet ("...#1"); how many bytes. Needs the lock."""
    staged = [file for file in folder.rglob("*#*") if file.name.rpartition("#")[2].isdigit()]
    sizes = [file.stat().st_size for file in staged]
    for file in staged:
        file.unlink()
    return sum(sizes)


def _enter() -> None:
    """Note that this process runs Icechunk's threads."""
    require_process()
    if not _opened and "ICECHUNK_LOG" not in os.environ:
        import icechunk

        icechunk.set_logs_filter(
            "off"
        )  # it writes to stdout: that commits need a lock (see `lock`), and errors it raises
    _opened.add(os.getpid())


def require_process() -> None:
    if _opened and os.getpid() not in _opened:
        raise StoreError(
            "Expected a process of its own (got a fork of one that had a store open, in which its threads are gone): "
            "start workers with multiprocessing_context='forkserver' or 'spawn', as TokenLoader does."
        )


class _Theirs(Exception):
    """Carries an error of the caller's records past `told`."""


def theirs(records: Iterable[Any]) -> Iterator[Any]:
    """Records of the caller, whose errors `told` hands on as they are: they are the caller's own."""
    try:
        yield from records
    except Exception as error:
        raise _Theirs from error


@contextmanager
def told(path: Place) -> Iterator[None]:
    """Errors of the libraries below as ours."""
    import icechunk

    own: BaseException | None = None
    try:
        yield
    except (TokredError, MemoryError):
        raise
    except _Theirs as carrier:
        own = carrier.__cause__
    except icechunk.ConflictError as error:
        raise StoreError(
            f"Expected to be the only writer of {path} (another one committed meanwhile): nothing was done, try again."
        ) from error
    except BaseException as error:  # of icechunk, zarr, json, the system: whatever it is, the store cannot be used
        if not is_fault(error):
            raise
        raise StoreError(
            f"Could not work on the store {path} ({brief(error)}): what was committed before is "
            "intact; check the disk's space and permissions, or restore the store from a copy."
        ) from error
    if own is not None:
        raise own
