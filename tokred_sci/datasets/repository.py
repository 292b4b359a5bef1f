"""Where a store is kept, and who may write to it: Icechunk repositories, one writer at a time, errors as ours."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokred_sci.datasets.layout import LAYOUT
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
    return makers[kind](bucket=bucket, prefix=prefix, **(given or {"from_env": True}))


def create_repository(path: Place, options: Options | None = None) -> "icechunk.Repository":
    """A new, empty repository."""
    import icechunk

    _enter()
    with told(path):
        storage = storage_of(path, options)
        if icechunk.Repository.exists(storage):
            raise InputError(f"Expected a place without a store (got {path}): choose another, or append to it.")
        return icechunk.Repository.create(storage)


def open_repository(path: Place, options: Options | None = None) -> "icechunk.Repository":
    """The repository of a store that exists."""
    import icechunk

    if not is_url(path) and not (Path(path) / "refs").is_dir():
        if (Path(path) / "zarr.json").is_file():
            raise StoreError(
                f"Expected a store of layout {LAYOUT} (got the folder of an earlier one at {path}): read it "
                "with the version that wrote it, and write it anew."
            )
        raise StoreError(f"Expected a store written by write_tokens (nothing like it at {path}).")
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

    try:
        with filelock.FileLock(folder / "writer.lock", timeout=wait):
            yield
    except filelock.Timeout as error:
        raise StoreError(
            f"Expected to be the only writer of {folder} (another process writes, for more than {wait:g} s): try later."
        ) from error
    except PermissionError as error:
        raise StoreError(
            f"Expected a folder that may be written to (got {error}): change its mode, or copy it."
        ) from error


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


def _enter() -> None:
    """Note that this process runs Icechunk's threads."""
    require_process()
    if not _opened and "ICECHUNK_LOG" not in os.environ:
        import icechunk

        icechunk.set_logs_filter("error")  # it warns that local commits need a lock: `lock` is that
    _opened.add(os.getpid())


def require_process() -> None:
    if _opened and os.getpid() not in _opened:
        raise StoreError(
            "Expected a process of its own (got a fork of one that had a store open, in which its threads are gone): "
            "start workers with multiprocessing_context='forkserver' or 'spawn', as TokenLoader does."
        )


@contextmanager
def told(path: Place) -> Iterator[None]:
    """Errors of the libraries below as ours."""
    import icechunk

    try:
        yield
    except TokredError:
        raise
    except (icechunk.IcechunkError, OSError) as error:
        raise StoreError(
            f"Could not work on the store {path} ({' '.join(str(error).split())}): what was committed before is "
            "intact; check the disk's space and permissions, or restore the store from a copy."
        ) from error
