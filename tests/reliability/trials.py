"""Trials of the token store: killed writers, damaged files, full disks, races. `scripts/reliability.py` runs them.

This process imports everything and opens no store, so that each trial can run in a fork of it (a hundredth of a second,
where a new interpreter takes a second). What a store must hold is known without the store: records are made from seeds.
"""

import contextlib
import hashlib
import os
import pickle
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import filelock  # noqa: F401 (imported before the forks, as the next two)
import icechunk
import numpy as np
import torch
import zarr  # noqa: F401

from tokred_sci.datasets import layout
from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.store import (
    TokenStore,
    append_tokens,
    compact_tokens,
    generations,
    read_tokens,
    update_tokens,
    write_tokens,
)
from tokred_sci.errors import StoreError, TokredError
from tokred_sci.tokens import Tokens

FINGERPRINT = "trial"
SECONDS = 120  # a trial that takes longer hangs
State = list[int]  # the seed of each record


def set_up() -> None:
    """Many chunks and shards for few records; one thread."""
    torch.set_num_threads(1)
    layout.CHUNK_BYTES, layout.CHUNKS, layout._ROWS = 1024, 2, 16
    icechunk.set_logs_filter("off")


class Crash(Exception):
    """A child died or hung."""


def fork(act: Callable[..., Any], *arguments: Any) -> tuple[int, int]:
    """Run `act(say, ...)` in a child; `say(bytes)` comes out of the returned end of a pipe."""
    out, into = os.pipe()
    child = os.fork()
    if child:
        os.close(into)
        return child, out
    code = 1
    try:
        os.close(out)
        act(lambda text: os.write(into, text), *arguments)
        code = 0
    except Exception as error:
        os.write(2, f"child: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def listen(out: int, seconds: float = SECONDS) -> bytes:
    """What the child says next; empty = it is gone."""
    if not select.select([out], [], [], seconds)[0]:
        raise Crash("silence")
    return os.read(out, 1 << 16)


def call(act: Callable[..., Any], *arguments: Any) -> Any:
    """The value of `act(...)`, computed in a child."""
    child, out = fork(lambda say: _say_whole(say, act(*arguments)))
    heard = b""
    try:
        while more := listen(out):
            heard += more
    finally:
        os.close(out)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if not heard:
        raise Crash(f"status {status}")
    return pickle.loads(heard)


def _say_whole(say: Callable[[bytes], int], value: Any) -> None:
    text = pickle.dumps(value)
    while text:
        text = text[say(text) :]


@cache
def entry(seed: int) -> Entry:
    """A record that no other seed makes, with label, targets and name."""
    draw = np.random.default_rng(seed)
    count = int(draw.integers(1, 60))
    sizes = draw.integers(1, 4, count)
    source = np.repeat(np.arange(count), sizes)
    if seed % 5 == 0:
        source = source[::-1].copy()
    tokens = Tokens(
        torch.from_numpy(draw.standard_normal((1, count, 4), np.float32)),
        torch.from_numpy(draw.standard_normal((1, count, 1)) * 1e6),
        torch.from_numpy(sizes[None].astype(np.float32)),
        torch.from_numpy(source[None]),
    )
    return Entry(tokens, seed, draw.integers(0, 9, len(source)).astype(np.int16), f"record {seed}")


def digest(one: Entry) -> str:
    """Of everything that belongs to a record."""
    tokens, made = one.tokens, hashlib.sha256()
    for values in (tokens.features, tokens.positions, tokens.sizes, tokens.source, one.label, one.targets):
        array = np.ascontiguousarray(values)
        made.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    made.update(one.name.encode())
    return made.hexdigest()


@cache
def expected(seed: int) -> str:
    one = entry(seed)
    return digest(Entry(one.tokens, np.int64(seed), one.targets, one.name))


def holds(store: TokenStore, state: Sequence[int]) -> bool:
    """Whether a store holds exactly these records."""
    if len(store) != len(state) or store.names != [f"record {seed}" for seed in state]:
        return False
    return [digest(one) for one in store.entries(range(len(store)))] == [expected(seed) for seed in state]


def entries(seeds: Sequence[int]) -> list[Entry]:
    return [entry(seed) for seed in seeds]


class Step(NamedTuple):
    """One change of a store, told by its number alone, so that parent and child agree on it."""

    what: str
    after: State
    act: Callable[[Path], Any]


def step(state: State, number: int) -> Step:
    """The change with this number of a store in this state."""
    draw = np.random.default_rng([7, number])
    what = str(draw.choice(["append", "update", "rewrite", "compact", "forget"], p=[0.4, 0.2, 0.2, 0.1, 0.1]))
    fresh = [number * 100 + i for i in range(50)]
    if what == "append" and len(state) < 40:
        new = fresh[: int(draw.integers(1, 8))]
        return Step(what, state + new, lambda path: append_tokens(path, entries(new), FINGERPRINT))
    if what in ("append", "update", "rewrite"):
        places = range(len(state)) if what == "rewrite" else draw.permutation(len(state))[:3].tolist()
        changed = dict(zip(places, fresh, strict=False))
        after = [changed.get(place, seed) for place, seed in enumerate(state)]
        new_ones = {place: entry(seed) for place, seed in changed.items()}
        return Step(what, after, lambda path: update_tokens(path, new_ones, FINGERPRINT))
    return Step(what, state, lambda path: compact_tokens(path, forget=what == "forget"))


# ---- kills


def _work(say: Callable[[bytes], int], path: Path, state: State, number: int) -> None:
    while True:
        made = step(state, number)
        made.act(path)
        say(b".")
        state, number = made.after, number + 1


def kill_later(act: Callable[..., Any], arguments: Sequence[Any], delay: float) -> int:
    """Start a child, kill it `delay` seconds after its first change is done; how many changes it finished."""
    child, out = fork(act, *arguments)
    try:
        done = len(listen(out))
        time.sleep(delay)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with contextlib.suppress(Crash):
        while more := listen(out):
            done += len(more)
    os.close(out)
    return done


def _judge_kill(path: Path, before: State, after: State) -> tuple[str, bool]:
    """What a reader sees, and whether the change that was under way is in it."""
    try:
        store = read_tokens(path, FINGERPRINT)
        history = generations(path)
        for one in [*history[:2], *history[-2:]]:
            if len(list(read_tokens(path, generation=one.name))) != one.records:
                return "wrong", False
        if holds(store, after):
            return "good", after != before
        return ("good" if holds(store, before) else "wrong"), False
    except TokredError as error:
        os.write(2, f"{error}\n".encode())
        return "detected", False
    except Exception as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        return "foreign", False


def files_of(path: Path) -> dict[str, list[int]]:
    """Sizes of the files in each folder of a store."""
    folders = ("chunks", "manifests", "snapshots", "transactions", "refs")
    return {name: sorted(at.stat().st_size for at in (path / name).rglob("*") if at.is_file()) for name in folders}


def _clean_up(path: Path, state: State) -> tuple[int, bool]:
    """Bytes of orphans found, and whether the store is then as one that nobody ever killed."""
    orphans = compact_tokens(path)
    orphans = orphans if len(generations(path)) > 1 else 0
    compact_tokens(path, forget=True)
    fresh = path.with_name(path.name + ".fresh")
    write_tokens(fresh, entries(state), FINGERPRINT)
    compact_tokens(fresh, forget=True)
    ours, theirs = files_of(path), files_of(fresh)
    same = ours["chunks"] == theirs["chunks"] and all(len(ours[name]) <= len(theirs[name]) for name in ours)
    same = same and not list(path.parent.glob(".*.part")) and holds(read_tokens(path), state)
    if not same:
        os.write(2, f"left over: {ours} beside {theirs}, {os.listdir(path.parent)}\n".encode())
    shutil.rmtree(fresh)
    return orphans, same


def kill_writers(folder: Path, n: int, seed: int = 0, per_store: int = 10) -> Iterator[tuple[str, Any]]:
    """Kill -9 at random instants; the next writer goes on where the last one stopped."""
    draw, path, state, number = np.random.default_rng(seed), folder / "0", [1, 2, 3], seed * 100_000
    for trial in range(n):
        if trial % per_store == 0:
            path, state = folder / f"{trial}", [1, 2, 3]
            call(write_tokens, path, entries(state), FINGERPRINT)
        done = kill_later(_work, (path, state, number), float(draw.uniform(0, 0.25)))
        for _ in range(done):
            state, number = step(state, number).after, number + 1
        under_way = step(state, number)
        outcome, committed = call(_judge_kill, path, state, under_way.after)
        yield outcome, under_way.what
        state, number = (under_way.after if committed else state), number + 1
        if trial % per_store == per_store - 1 or trial == n - 1:
            yield "clean-up", call(_clean_up, path, state)
            shutil.rmtree(path)


def _write_many(say: Callable[[bytes], int], folder: Path, number: int) -> None:
    while True:
        write_tokens(folder / f"{number}", entries(range(number, number + 30)), FINGERPRINT)
        say(b".")
        number += 1


def _judge_first(folder: Path, number: int) -> str:
    """A store whose first writer was killed is there whole, or not at all and can be written."""
    path, want = folder / f"{number}", range(number, number + 30)
    if path.exists():
        outcome = "good" if holds(read_tokens(path), want) else "wrong"
        compact_tokens(path)
    else:
        write_tokens(path, entries(want), FINGERPRINT)
        outcome = "good" if holds(read_tokens(path), want) else "wrong"
    left = [at.name for at in folder.iterdir() if at.name.startswith(".") and (at / "writer.lock").exists()]
    return outcome if not left else "left over"


def kill_first_writers(folder: Path, n: int, seed: int = 0) -> Iterator[tuple[str, Any]]:
    """Kill -9 while a store is written for the first time."""
    draw, number = np.random.default_rng(seed), 1
    for _ in range(n):
        number += kill_later(_write_many, (folder, number), float(draw.uniform(0, 0.15)))
        yield call(_judge_first, folder, number), "write"
        number += 1


# ---- damage


def build(path: Path, few: bool = False) -> list[tuple[str, State]]:
    """A store of four generations, or of two; the name and the records of each."""
    if few:
        write_tokens(path, entries([1, 2, 3]), FINGERPRINT)
        append_tokens(path, entries([5]), FINGERPRINT)
        return list(zip([one.name for one in generations(path)], [[1, 2, 3], [1, 2, 3, 5]], strict=True))
    states = [list(range(1, 14)), list(range(1, 20))]
    write_tokens(path, entries(states[0]), FINGERPRINT)
    append_tokens(path, entries(states[1][13:]), FINGERPRINT)
    states.append([100, *states[1][1:10], 101, *states[1][11:]])
    update_tokens(path, {0: entry(100), 10: entry(101)}, FINGERPRINT)
    compact_tokens(path)
    states.append(states[-1])
    return list(zip([one.name for one in generations(path)], states, strict=True))


def look(path: Path, truth: list[tuple[str, State]]) -> Iterator[bool]:
    """Everything there is to see in a store: whether it is as written, part by part."""
    yield holds(read_tokens(path, FINGERPRINT), truth[-1][1])
    history = generations(path)
    yield [(one.name, one.records) for one in history] == [(name, len(state)) for name, state in truth]
    for name, state in truth[:-1]:
        yield holds(read_tokens(path, generation=name), state)


def judge(look: Callable[..., Iterator[bool]], path: Path, truth: Any) -> tuple[str, str]:
    """The worst that a reader meets: wrong > foreign > detected > good; and what the error said."""
    try:
        return ("good" if all(look(path, truth)) else "wrong"), ""
    except TokredError as error:
        return "detected", str(error)
    except Exception as error:
        return "foreign", f"{type(error).__name__}: {error}"


def damages(path: Path, flips: int, seed: int = 0, few: bool = False) -> list[tuple[str, Path, int]]:
    """Every file deleted, every file cut at three places (`few`: at one), bits flipped: half by file, half by byte."""
    files = sorted(at for at in path.rglob("*") if at.is_file() and at.stat().st_size)
    sizes = np.array([at.stat().st_size for at in files])
    plan = [("deleted file", at, 0) for at in files]
    plan += [
        ("truncated file", at, cut)
        for at, size in zip(files, sizes.tolist(), strict=True)
        for cut in sorted({size // 2} if few else {0, size // 2, size - 1})
    ]
    draw = np.random.default_rng(seed)
    for trial in range(flips):
        chosen = int(draw.choice(len(files), p=None if trial % 2 else sizes / sizes.sum()))
        plan.append(("flipped bit", files[chosen], int(draw.integers(8 * sizes[chosen]))))
    return plan


def _damage(what: str, at: Path, where: int) -> None:
    if what == "deleted file":
        at.unlink()
        return
    whole = bytearray(at.read_bytes())
    if what == "flipped bit":
        whole[where // 8] ^= 1 << where % 8
    at.write_bytes(whole if what == "flipped bit" else whole[:where])


def _judge_all(say: Callable[[bytes], int], look: Any, path: Path, truth: Any, plan: Sequence[Any]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # asyncio tells of errors nobody waited for
    for what, at, where in plan:
        whole = at.read_bytes()
        _damage(what, at, where)
        outcome = judge(look, path, truth)
        at.write_bytes(whole)
        say(pickle.dumps((what, at.relative_to(path).parts[0], *outcome))[:60000].ljust(60000, b"\0"))


def damage_files(look: Any, path: Path, truth: Any, plan: Sequence[Any]) -> Iterator[tuple[str, str, str, str]]:
    """Kind of damage, folder, outcome and message of each trial; a child that dies is one, and the next goes on."""
    copy = path.with_name(path.name + ".copy")
    shutil.copytree(path, copy)
    done = 0
    while done < len(plan):
        child, out = fork(_judge_all, look, path, truth, plan[done:])
        with contextlib.suppress(Crash), os.fdopen(out, "rb", closefd=False) as stream:
            while select.select([out], [], [], SECONDS)[0] and len(told := stream.read(60000)) == 60000:
                yield pickle.loads(told)
                done += 1
        os.close(out)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if done < len(plan):
            what, at, _ = plan[done]
            yield what, at.relative_to(path).parts[0], "foreign", "crash or hang"
            done += 1
            shutil.rmtree(path)
            shutil.copytree(copy, path)


# ---- full disk


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of its own, in memory; needs the right to mount (root, or `unshare --user --map-root --mount`)."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]
        subprocess.run(command, check=True, capture_output=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


@cache
def may_mount() -> bool:
    """Whether `small_disk` works here."""
    try:
        with small_disk(1):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _fill_disk(folder: Path, leave: int) -> Path:
    """A file that takes all room but `leave` bytes."""
    ballast, free = folder / "ballast", os.statvfs(folder)
    with ballast.open("wb") as file:
        file.write(b"\1" * max(0, free.f_bavail * free.f_bsize - leave))
    return ballast


def _attempt(path: Path, before: State, change: Step, limit: Callable[[], Callable[[], Any]]) -> str:
    """A change where there is no room for it, and again where there is."""
    release, outcome = limit(), "good"
    try:
        change.act(path)
        state = change.after
    except StoreError:
        state, outcome = before, "detected"
        if not holds(read_tokens(path), before):
            return "wrong"
    except Exception as error:
        os.write(2, f"full disk: {type(error).__name__}: {error}\n".encode())
        return "foreign"
    finally:
        release()
    if not holds(read_tokens(path), state):
        return "wrong"
    if outcome == "detected":
        change.act(path)
    return outcome if holds(read_tokens(path), change.after) else "wrong"


def _three_changes(state: State) -> list[Step]:
    new, other = list(range(1000, 1020)), list(range(2000, 2000 + len(state)))
    return [
        Step("append", state + new, lambda path: append_tokens(path, entries(new), FINGERPRINT)),
        Step("update", other, lambda path: update_tokens(path, dict(enumerate(entries(other))), FINGERPRINT)),
        Step("compact", state, lambda path: compact_tokens(path, forget=True)),
    ]


def _full_disk(folder: Path, which: int, leave: int) -> str:
    path, state = folder / "a", list(range(1, 20))
    write_tokens(path, entries(state[:9]), FINGERPRINT)
    append_tokens(path, entries(state[9:]), FINGERPRINT)

    def limit() -> Callable[[], Any]:
        return _fill_disk(folder, leave).unlink

    return _attempt(path, state, _three_changes(state)[which], limit)


def _short_files(folder: Path, which: int, most: int) -> str:
    import resource

    path, state = folder / "a", list(range(1, 20))
    write_tokens(path, entries(state[:9]), FINGERPRINT)
    append_tokens(path, entries(state[9:]), FINGERPRINT)

    def limit() -> Callable[[], Any]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return _attempt(path, state, _three_changes(state)[which], limit)


def fill_disks(folder: Path, n: int) -> Iterator[str]:
    """Each change with room for nothing, a little more, ... up to enough; then as files that may not grow."""
    for trial in range(n):
        if trial % 2 and may_mount():
            with small_disk(2) as disk:
                yield call(_full_disk, disk, trial // 2 % 3, 4096 * (trial * 48 // n))
        else:
            path = Path(tempfile.mkdtemp(dir=folder))
            yield call(_short_files, path, trial // 2 % 3, int(2 ** (trial * 13 / n)))
            shutil.rmtree(path)


# ---- races


def _append_often(say: Callable[[bytes], int], path: Path, writer: int, times: int) -> None:
    for turn in range(times):
        append_tokens(path, entries(_of_turn(writer, turn)), FINGERPRINT)
        say(b".")


def _of_turn(writer: int, turn: int) -> State:
    return [10_000 * writer + 10 * turn + i for i in range(1 + turn % 3)]


def _read_often(say: Callable[[bytes], int], path: Path, end: Path) -> None:
    """Each look must show whole appends, and all of those that the look before showed."""
    seen: State = []
    while not end.exists():
        store = read_tokens(path)
        state = [int(label) for label in store.labels]
        assert holds(store, state), "records are not what their labels say"
        assert state[: len(seen)] == seen, "a generation went back"
        assert _turns(state[1:]) is not None, "half an append"
        seen = state
        say(b".")


def _turns(state: State) -> list[State] | None:
    found = []
    while state:
        writer, turn = state[0] // 10_000, state[0] % 10_000 // 10
        want = _of_turn(writer, turn)
        if state[: len(want)] != want:
            return None
        found.append(want)
        state = state[len(want) :]
    return found


def _judge_race(path: Path, writers: int, times: int) -> bool:
    store = read_tokens(path)
    state = [int(label) for label in store.labels]
    found = _turns(state[1:])
    want = sorted(_of_turn(writer, turn) for writer in range(1, writers + 1) for turn in range(times))
    return holds(store, state) and sorted(found or []) == want and len(generations(path)) == 1 + writers * times


def race(folder: Path, writers: int = 8, times: int = 5, readers: int = 2) -> tuple[bool, int, int]:
    """Several processes append while others read: whether all is there, how many appends, and how many looks."""
    path, end = folder / "race", folder / "end"
    call(write_tokens, path, entries([0]), FINGERPRINT)
    looking = [fork(_read_often, path, end) for _ in range(readers)]
    writing = [fork(_append_often, path, writer, times) for writer in range(1, writers + 1)]
    fine = [os.waitpid(child, 0)[1] == 0 for child, _ in writing]
    end.touch()
    fine += [os.waitpid(child, 0)[1] == 0 for child, _ in looking]
    looks = sum(len(os.read(out, 1 << 16)) for _, out in looking)
    for _, out in looking + writing:
        os.close(out)
    return all(fine) and call(_judge_race, path, writers, times), writers * times, looks


def _hold(say: Callable[[bytes], int], path: Path) -> None:
    def slow() -> Iterator[Entry]:
        yield entry(1)
        say(b".")
        time.sleep(SECONDS)

    append_tokens(path, slow(), FINGERPRINT)


def _take_over(path: Path, want: State) -> tuple[str, float]:
    begin = time.perf_counter()
    append_tokens(path, entries(want[-1:]), FINGERPRINT, wait=10)
    return ("good" if holds(read_tokens(path), want) else "wrong"), time.perf_counter() - begin


def kill_holders(folder: Path, n: int) -> Iterator[tuple[str, float]]:
    """The holder of the lock is killed in the midst of an append while another waits; that one takes over."""
    path = folder / "held"
    call(write_tokens, path, entries([0]), FINGERPRINT)
    for trial in range(n):
        child, out = fork(_hold, path)
        listen(out)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(out)
        yield call(_take_over, path, list(range(trial + 2)))
