"""Kill, damage and starve training runs, count what happens, and print a section for docs/reliability.md.

    python scripts/reliability_training.py                 # in full: 50 kills, 60 damaged checkpoints
    python scripts/reliability_training.py --kills 6       # a share of it

A run that was killed must end as one that nobody touched, bit for bit; anything else makes the exit code 1.
"""

import argparse
import contextlib
import platform
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "training"))
import tiny

from tokred_sci.training import loop
from tokred_sci.training.tasks import Classify, Loss

CONFIG = replace(tiny.CONFIG, steps=20, evaluate_every=0, checkpoint_seconds=0.0, checkpoint_every=4)


def kills(folder: Path, count: int, random: Random) -> Iterator[str]:
    """Cases 34 and 35: two of three by kill -9, one by SIGTERM, at any instant from the start to the last file."""
    with tiny.Server() as server:
        server.run(folder / "warm")
        start = time.perf_counter()
        server.run(folder / "timed")
        span = time.perf_counter() - start
        done = 0
        while done < count:
            place = Path(tempfile.mkdtemp(dir=folder))
            few = min(random.randint(1, 6), count - done)
            for number, same in tiny.kill_often(server, place, few, random, span):
                yield from ["good" if same else "wrong"] * number
                done += number
            shutil.rmtree(place)


def damage(folder: Path, count: int, random: Random) -> Iterator[str]:
    """Case 39: a bit flipped, a file cut or gone, anywhere in the checkpoints of a run that was stopped."""

    def stop(row: loop.Row) -> None:
        if row["batch"] == 14:
            raise KeyboardInterrupt

    tiny.make(folder / "truth", CONFIG)
    truth = tiny.outcome(folder / "truth")
    with contextlib.suppress(KeyboardInterrupt):
        tiny.make(folder / "stopped", CONFIG, on_step=stop)
    newest = sorted((folder / "stopped" / "checkpoints").iterdir())[-1].name
    for place in range(count):
        here = folder / f"damaged-{place}"
        shutil.copytree(folder / "stopped", here)
        path = random.choice(sorted((here / "checkpoints").glob("*/*")))
        _damage(path, random)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            tiny.make(here, CONFIG)
        said, same = bool(told), tiny.outcome(here) == truth
        yield "wrong" if not same else "detected" if said else "good" if path.parent.name != newest else "harmless"
        shutil.rmtree(here)


def _damage(path: Path, random: Random) -> None:
    content, how = bytearray(path.read_bytes()), random.choice(["flip", "flip", "cut", "remove"])
    if how == "flip":
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(bytes(content[: random.randrange(len(content))] if how == "cut" else content))
    if how == "remove":
        path.unlink()


def nonsense(folder: Path, count: int, random: Random) -> Iterator[str]:
    """Case 37: NaN, infinity or a spike at random batches, some of them in a row."""
    for place in range(count):
        first, by = random.randrange(1, 14), random.choice([float("nan"), float("inf")])
        bad = set(range(first, first + random.choice([1, 2, 6])))
        here, calls = folder / f"nan-{place}", iter(range(10_000))

        def loss(model, batch, bad=bad, by=by, calls=calls) -> Loss:  # type: ignore[no-untyped-def]
            told = Classify().loss(model, batch)
            return Loss(told.total * (by if next(calls) in bad else 1), told.number)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, history = tiny.make(here, CONFIG, loss=loss)
        states = [load_file(path) for path in here.glob("checkpoints/*/*.safetensors")]
        finite = all(bool(v.isfinite().all()) for state in states for v in state.values() if v.is_floating_point())
        told = (here / "bad_batches.jsonl").read_text().count("\n")
        yield "good" if finite and history.skipped == told == len(bad) else "wrong"
        shutil.rmtree(here)


def hunger(folder: Path, count: int, random: Random) -> Iterator[str]:
    """Case 38: no more than so many records at a time fit."""
    straight, _ = tiny.make(None, CONFIG, tiny.PLAIN)
    for _ in range(count):
        most = random.randint(1, 5)

        def loss(model, batch, most=most) -> Loss:  # type: ignore[no-untyped-def]
            if len(batch.records) > most:
                raise torch.OutOfMemoryError("out of memory, as asked for")
            return Classify().loss(model, batch)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, _ = tiny.make(None, CONFIG, tiny.PLAIN, loss=loss)
        pairs = zip(model.parameters(), straight.parameters(), strict=True)
        yield "good" if all(torch.allclose(a, b, atol=1e-4, rtol=0) for a, b in pairs) else "wrong"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--damage", type=int, help="checkpoints damaged (kills + 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, help="page whose section on training is written anew")
    args = parser.parse_args()
    args.damage = args.kills + 10 if args.damage is None else args.damage
    torch.set_num_threads(1)
    loop.draw_curves = lambda *drawn: b""  # takes longer than a run
    parts = {
        "killed (2 of 3 by kill -9, 1 by SIGTERM) and resumed": (kills, args.kills),
        "checkpoint flipped, cut or removed": (damage, args.damage),
        "NaN or infinity injected, up to 6 in a row": (nonsense, max(2, args.kills // 5)),
        "memory for 1 to 5 of 6 records": (hunger, max(2, args.kills // 5)),
    }
    begin, rows, wrong = time.perf_counter(), [], 0
    with tempfile.TemporaryDirectory() as folder:
        for name, (act, count) in parts.items():
            place = Path(tempfile.mkdtemp(dir=folder))
            bar = tqdm(act(place, count, Random(args.seed)), total=count, desc=act.__name__, disable=None)
            found = Counter(bar)
            wrong += found["wrong"]
            cells = [name, sum(found.values()), found["good"] + found["harmless"], found["detected"]]
            rows.append(f"| {' | '.join(map(str, cells))} | **{found['wrong']}** |")
    section = _section(rows, args, time.perf_counter() - begin)
    print(section)
    if args.into:
        page = args.into.read_text().partition("## What happens to training")[0].rstrip()
        args.into.write_text(f"{page}\n\n{section}\n")
    return 1 if wrong else 0


def _section(rows: list[str], args: argparse.Namespace, seconds: float) -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "accelerate", "safetensors", "numpy"))
    return "\n".join(
        [
            "## What happens to training",
            "",
            f"Printed by `python scripts/reliability_training.py --kills {args.kills}` on "
            f"{time.strftime('%Y-%m-%d')} in {seconds / 60:.0f} minutes (CPU, Python {platform.python_version()}; "
            f"{libraries}). The tests run a share of it (`tests/training/test_survival.py`).",
            "",
            "| training: what was done | n | as if nothing had happened | said, and the one before used | wrong |",
            "|---|--:|--:|--:|--:|",
            *rows,
            "",
            "As if nothing had happened = at the end the same weights, running mean, optimiser state, random states,",
            "position in the data, log and results, bit for bit, as a run that nobody touched (for memory: weights",
            "to 1e-4; for NaN: every bad batch skipped and listed, no checkpoint with a NaN). The model has dropout, a",
            "random method of merging, random budgets and a running mean: all that a run can lose. CPU, one process.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
