"""Checkpoints that survive: safetensors and JSON only, written beside and renamed, every file with its SHA-256."""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as as_bytes
from torch import Tensor

from tokred_sci.errors import FileError, InputError

STATE, TOLD, MANIFEST = "state.safetensors", "state.json", "manifest.json"
FORMAT = 1
MOST_JSON = 1 << 24  # bytes
Loaded = tuple[dict[str, Tensor], dict[str, Any]]


class CheckpointWarning(UserWarning):
    """A checkpoint could not be written, or was damaged; training went on with what there is."""


def save_checkpoint(folder: Path, name: str, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> Path:
    """Write a checkpoint into `folder`/`name`: whole, or not at all.

    Law: `load_checkpoint` gives back what was saved bit for bit, or an error; a kill at any instant, or a full disk,
    leaves earlier checkpoints as they were.

    Args:
        tensors: by name.
        told: whatever JSON can hold.

    Raises:
        OSError: the disk is full, or the folder may not be written to.
    """
    final, part = folder / name, folder / f".{name}.part"
    state = as_bytes(_apart(tensors))
    content = {STATE: state, TOLD: json.dumps(told).encode()}
    hashes = {key: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for key, data in content.items()}
    content[MANIFEST] = json.dumps({"format": FORMAT, "files": hashes}, indent=1).encode()
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for key, data in content.items():
            _write_through(part / key, data)
        _sync(part)
        shutil.rmtree(final, ignore_errors=True)  # one that was damaged, and is now written again
        part.rename(final)
        _sync(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return final


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors takes them: in one piece, and no two of them (tied weights) in the same memory."""
    found: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        found[name] = value.clone() if place in places else value
        places.add(place)
    return found


def load_checkpoint(path: Path, most: int) -> Loaded:
    """What `save_checkpoint` wrote; nothing in the folder is executed.

    Args:
        path: the checkpoint.
        most: bytes that its tensors can need: a larger file is refused before it is read.

    Raises:
        FileError: a file is gone, cut, changed, too large or not what it should be.
    """
    try:
        files = _json(path / MANIFEST)["files"]
        for name, bound in ((TOLD, MOST_JSON), (STATE, most)):
            _check(path / name, files[name], bound)
        with safe_open(path / STATE, "pt") as stored:
            tensors = {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118 (no mapping)
        told = _json(path / TOLD)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError, SafetensorError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"Expected a checkpoint in {path} (got {type(error).__name__}: {error}).") from error
    return tensors, told


def _check(path: Path, listed: Mapping[str, Any], bound: int) -> None:
    size = path.stat().st_size
    if size != listed["bytes"] or size > bound:
        raise FileError(
            f"Expected {listed['bytes']} bytes (at most {bound}) in {path} (got {size}): it was cut or changed."
        )
    with path.open("rb") as stream:
        got = hashlib.file_digest(stream, "sha256").hexdigest()
    if got != listed["sha256"]:
        raise FileError(f"Expected {path} as it was written (got SHA-256 {got[:12]}...): it was damaged.")


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MOST_JSON:
        raise FileError(f"Expected at most {MOST_JSON} bytes in {path}: this is no checkpoint of ours.")
    told = json.loads(path.read_bytes())
    if not isinstance(told, dict):
        raise FileError(f"Expected a JSON object in {path} (got {type(told).__name__}).")
    return told


def list_checkpoints(folder: Path) -> list[Path]:
    """All in the folder, the newest first."""
    return sorted((path for path in folder.glob("batch-*") if path.is_dir()), reverse=True)


def whole_checkpoints(folder: Path, most: int) -> Iterator[tuple[Path, Loaded]]:
    """Those that are as they were written, the newest first; of a damaged one it is said loudly that it is left out."""
    for path in list_checkpoints(folder):
        try:
            yield path, load_checkpoint(path, most)
        except FileError as error:
            warnings.warn(f"{error} The checkpoint before it is used.", CheckpointWarning, stacklevel=2)


def name_of(batches: int, regular: bool) -> str:
    """What a checkpoint is called; those of a step that training may roll back to are regular."""
    return f"batch-{batches:010d}" + ("" if regular else "-between")


def is_regular(name: str) -> bool:
    return not name.endswith("-between")


def prune(folder: Path, keep: int) -> None:
    """Leave the newest `keep`, and the newest regular one."""
    paths = list_checkpoints(folder)
    regular = next((path for path in paths if is_regular(path.name)), None)
    for path in paths[keep:]:
        if path != regular:
            shutil.rmtree(path, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written."""
    for path in folder.glob(".*.part"):
        shutil.rmtree(path, ignore_errors=True)


@cache
def code_digests() -> dict[str, str]:
    """SHA-256 of every source file of this package, cut to 12 digits."""
    root = Path(__file__).resolve().parents[1]
    files = sorted(root.rglob("*.py"))
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in files}


def require_same(saved: Mapping[str, Any], now: Mapping[str, Any], allow: tuple[str, ...]) -> None:
    """Refuse to go on with another config, code or data, and say what differs.

    Args:
        saved, now: nested plain values under "config", "code" and "data".
        allow: which of these may differ.

    Raises:
        InputError: one differs that may not.

    Example:
        >>> require_same({"config": {"train": {"steps": 10}}}, {"config": {"train": {"steps": 20}}}, ())
        Traceback (most recent call last):
        tokred_sci.errors.InputError: Expected the run that is resumed to have the same config (got
          train.steps: 10 -> 20
        ): use another folder, or allow it by name: allow=('config',), on the command line --allow config.
    """
    if unknown := set(allow) - {"config", "code", "data"}:
        raise InputError(f"Expected 'allow' out of 'config', 'code', 'data' (got {', '.join(map(repr, unknown))}).")
    for name in now:
        lines = list(_differences(saved.get(name), now[name], ""))
        if lines and name not in allow:
            more = [f"  and {len(lines) - 20} more"] if len(lines) > 20 else []
            told = "\n".join([*(f"  {line}" for line in lines[:20]), *more])
            raise InputError(
                f"Expected the run that is resumed to have the same {name} (got\n{told}\n): use another folder, or "
                f"allow it by name: allow=('{name}',), on the command line --allow {name}."
            )


def _differences(saved: Any, now: Any, where: str) -> Iterator[str]:
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*saved, *now]):
            yield from _differences(saved.get(key), now.get(key), f"{where}.{key}" if where else str(key))
    elif saved != now:
        yield f"{where}: {saved} -> {now}"


def write_file(path: Path, content: str | bytes) -> None:
    """Write beside and rename: after a kill or a full disk the old file stands, never half of a new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        _write_through(part, content.encode() if isinstance(content, str) else content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    if os.name == "posix":  # elsewhere folders cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
