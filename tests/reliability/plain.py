"""The same trials for plain Zarr v3 in a folder, with its default codecs and its groups rewritten in place: what the
token store is compared with. It is not a straw man: this is how arrays are commonly kept.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from trials import (
    State,
    _fill_disk,
    call,
    damage_files,
    damages,
    entry,
    fork,
    kill_later,
    may_mount,
    small_disk,
)

CHUNK = 128  # rows


def flat(state: Sequence[int]) -> dict[str, np.ndarray]:
    """Records end to end, with offsets, labels, targets and names beside them."""
    made = [entry(seed) for seed in state]
    arrays = {
        name: np.concatenate([getattr(one.tokens, name)[0].numpy() for one in made])
        for name in ("features", "positions", "sizes", "source")
    }
    arrays["offsets"] = np.cumsum([one.tokens.features.shape[1] for one in made])
    arrays["labels"] = np.array([one.label for one in made])
    arrays["targets"] = np.concatenate([one.targets for one in made])
    arrays["name"] = np.frombuffer("\n".join(one.name for one in made).encode(), np.uint8)
    return arrays


def write(path: Path, state: Sequence[int]) -> None:
    """Make or rewrite the arrays of a group, one after the other."""
    group: Any = zarr.open_group(str(path), mode="a")
    for name, values in flat(state).items():
        if name not in group:
            group.create_array(name, shape=values.shape, chunks=(CHUNK, *values.shape[1:]), dtype=values.dtype)
        group[name].resize(values.shape)
        group[name][:] = values


def holds(path: Path, state: Sequence[int]) -> bool:
    group: Any = zarr.open_group(str(path), mode="r")
    return all(
        group[name].dtype == values.dtype and group[name][:].tobytes() == values.tobytes()
        for name, values in flat(state).items()
    )


def look(path: Path, state: State) -> Iterator[bool]:
    yield holds(path, state)


def _judge(path: Path, states: Sequence[State]) -> str:
    try:
        return "good" if any(holds(path, state) for state in states) else "wrong"
    except Exception:
        return "detected"  # somebody else's error: told at least


def _generation(number: int) -> State:
    return [number * 100 + i for i in range(20)]


def _rewrite_often(say: Callable[[bytes], int], path: Path, number: int) -> None:
    while True:
        write(path, _generation(number))
        say(b".")
        number += 1


def kill_writers(folder: Path, n: int, seed: int = 0) -> Iterator[str]:
    """Kill -9 at random instants while a group is rewritten."""
    draw, path, number = np.random.default_rng(seed), folder / "plain", 1
    for _ in range(n):
        number += kill_later(_rewrite_often, (path, number), float(draw.uniform(0, 0.25)))
        yield call(_judge, path, [_generation(number - 1), _generation(number)])
        number += 1


def damage(folder: Path, flips: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """As for the store; errors of whatever kind count as detected."""
    path, state = folder / "damaged", list(range(1, 20))
    call(write, path, state)
    for what, _, outcome, _ in damage_files(look, path, state, damages(path, flips, seed)):
        yield what, "detected" if outcome == "foreign" else outcome


def _full_disk(folder: Path, leave: int) -> str:
    path, before, after = folder / "a", _generation(1), _generation(2)
    write(path, before)
    _fill_disk(folder, leave)
    try:
        write(path, after)
    except OSError:
        return _judge(path, [before])
    return _judge(path, [after])


def _short_files(folder: Path, most: int) -> str:
    import resource

    path, before, after = folder / "a", _generation(1), _generation(2)
    write(path, before)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        write(path, after)
    except OSError:
        return _judge(path, [before])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return _judge(path, [after])


def fill_disks(folder: Path, n: int) -> Iterator[str]:
    """No room, a little more, ... for a rewrite: whether the group is then as before (or, with room, as after)."""
    for trial in range(n):
        if trial % 2 and may_mount():
            with small_disk(2) as disk:
                yield call(_full_disk, disk, 4096 * (trial * 48 // n))
        else:
            path = Path(tempfile.mkdtemp(dir=folder))
            yield call(_short_files, path, int(2 ** (trial * 13 / n)))
            shutil.rmtree(path)


def _append_often(say: Callable[[bytes], int], path: Path, writer: int, times: int) -> None:
    for turn in range(times):
        labels: Any = zarr.open_group(str(path), mode="a")["labels"]
        labels.append(np.array([writer * 100 + turn]))
        say(b".")


def _rows(path: Path) -> list[int]:
    labels: Any = zarr.open_group(str(path), mode="r")["labels"]
    return [int(label) for label in labels[:]]


def race(folder: Path, writers: int = 8, times: int = 5) -> list[str]:
    """Several processes append one row at a time to one array: how many rows are there afterwards."""
    path = folder / "race"
    call(write, path, [1])
    children = [fork(_append_often, path, writer, times) for writer in range(1, writers + 1)]
    for child, out in children:
        os.waitpid(child, 0)
        os.close(out)
    want = {writer * 100 + turn for writer in range(1, writers + 1) for turn in range(times)}
    there = set(call(_rows, path))
    return ["good" if row in there else "wrong" for row in want]
