"""A run that takes half a second and has all that a run can have to lose, and a server whose forks make it.

`python tests/training/tiny.py` imports everything once, then makes a fork for each line it is sent: a fork starts in a
hundredth of a second, where a new interpreter takes seconds, so that many can be killed.
"""

import contextlib
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch

from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.loader import MemoryStore, TokenLoader
from tokred_sci.errors import FileError
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.training import loop
from tokred_sci.training.checkpoint import code_digests
from tokred_sci.training.config import TrainConfig
from tokred_sci.training.log import COLUMNS
from tokred_sci.training.loop import fit
from tokred_sci.training.tasks import Classify, Loss

CONFIG = TrainConfig(
    steps=40, batch=6, learning_rate=5e-3, warm_up=5, ema=0.9, budgets=(1.0, 0.5), evaluate_every=10,
    checkpoint_every=5, checkpoint_seconds=0.03, keep=3,
)  # fmt: skip
MODEL = ModelConfig(
    "dna", {"patch": 4}, dim=16, depth=2, heads=2, dropout=0.1,
    reduce=(Reduce(0, "random", 0.5), Reduce(1, "links", 0.5)),
)  # fmt: skip

PLAIN = replace(MODEL, dropout=0.0, reduce=(Reduce(0, "links", 0.5),))


def store(count: int = 26) -> MemoryStore:
    made, letters = Model(MODEL), Random(0)
    words = ["".join(letters.choices("AT" if label else "GC", k=16 + 4 * (label + 3))) for label in [0, 1] * count]
    return MemoryStore(Entry(made.tokenize(word), number % 2) for number, word in enumerate(words[:count]))


def loader(workers: int = 0, batch: int = 6) -> TokenLoader:
    return TokenLoader(store(), batch, block=12, blocks=1, workers=workers)


def make(folder: str | Path | None, config: TrainConfig = CONFIG, model: ModelConfig = MODEL, **more: Any) -> Any:
    """Train the tiny model; returns it and its history."""
    made = Model(model)
    more.setdefault("loader", loader(batch=config.batch))
    more.setdefault("loss", Classify().loss)
    more.setdefault("evaluate", lambda model: {"weight": float(model.head.out.weight.sum())})
    return made, fit(made, config=config, folder=folder, progress=False, device=torch.device("cpu"), **more)


def outcome(folder: str | Path) -> str:
    """A digest of what must be the same after any number of kills: weights, optimiser, random states, order, log."""
    last = sorted(Path(folder, "checkpoints").glob("batch-*"))[-1]
    told = json.loads((last / "state.json").read_text())
    with Path(folder, "log.csv").open(newline="") as stream:
        rows = [[row[name] for name in COLUMNS if name != "tokens_per_second"] for row in csv.DictReader(stream)]
    results = json.loads(Path(folder, "metrics.json").read_text())
    content = json.dumps([last.name, told["at"], told["loader"], rows, results], sort_keys=True)
    return hashlib.sha256((last / "state.safetensors").read_bytes() + content.encode()).hexdigest()


class Server:
    """Children that train, one at a time."""

    def __enter__(self) -> "Server":
        command = [sys.executable, str(Path(__file__).resolve())]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2]
        )
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def start(self, folder: str | Path, **changes: Any) -> int:
        """A child that makes the tiny run in this folder; its process id."""
        self._write({"folder": str(folder), **changes})
        return int(self._read())

    def wait(self) -> int:
        """The exit code of the child, or minus the signal that ended it."""
        return int(self._read())

    def run(
        self, folder: str | Path, seconds: float | None = None, number: int = signal.SIGKILL, **changes: Any
    ) -> int:
        """A child that gets a signal after so many seconds, if it is still there."""
        child = self.start(folder, **changes)
        if seconds is not None:
            time.sleep(seconds)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
        return self.wait()

    def _write(self, job: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def _read(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()


def kill_often(
    server: Server, folder: Path, kills: int, random: Random, span: float, **changes: Any
) -> list[tuple[int, int]]:
    """Runs killed at random instants and resumed, in one folder after another, until so many were killed.

    Returns: for each folder that came to its end the number of kills it took, and 1 if the outcome was that of a run
    that nobody touched.
    """
    assert server.run(folder / "untouched", **changes) == 0
    truth, told, done = outcome(folder / "untouched"), [], 0
    while done < kills:
        place, here = folder / f"killed-{len(told)}", 0
        while True:
            more = done + here < kills
            number = random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
            code = server.run(place, random.uniform(0, span) if more else None, number, **changes)
            if code == 0:
                break
            assert code in (-signal.SIGKILL, -signal.SIGTERM, 143), code
            here += 1
        done += here
        told.append((here, int(outcome(place) == truth)))
    return told


def serve() -> None:
    _import_all()
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            _be(job)
        print(child, flush=True)
        status = os.waitpid(child, 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)


def poisoned(model: Any, batch: Any, record: int | None) -> Loss:
    """The usual loss; of a batch with this record in it, NaN."""
    told = Classify().loss(model, batch)
    return Loss(told.total * (float("nan") if record in batch.records.tolist() else 1), told.number)


def _import_all() -> None:
    """What a run imports on its way: here once, not in every child."""
    from importlib import import_module

    for name in ("filelock", "tqdm", "torch._dynamo"):
        import_module(name)
    code_digests()  # of the code that was imported, whatever happens to the files


def share(folder: Path, **more: Any) -> list[list[int]]:
    """One of several processes, in float64; returns which records it saw, and leaves that in the folder.

    Each makes a model of its own, with other weights: the first one's is trained. The second is killed at the batch
    that the variable KILLED names.
    """
    rank = int(os.environ.get("RANK", "0"))
    seen: list[list[int]] = []

    def loss(model: Any, batch: Any) -> Loss:
        seen.append(batch.records.tolist())
        if rank == 1 and str(len(seen)) == os.environ.get("KILLED"):
            os.kill(os.getpid(), signal.SIGKILL)
        return Classify().loss(model, batch._replace(tokens=batch.tokens.to(torch.float64)))

    loop.draw_curves = lambda *drawn: b""
    model = Model(PLAIN).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += rank
    fit(
        model,
        loss,
        loader(),
        replace(CONFIG, steps=20),
        folder,
        progress=False,
        **more,
    )
    (folder / f"seen-{rank}.json").write_text(json.dumps(seen))
    return seen


def _be(job: dict[str, Any]) -> None:
    code = 1
    loop.draw_curves = lambda *drawn: b""  # takes longer than all the rest
    try:
        warnings.simplefilter("ignore" if {"poison", "limit"} & job.keys() else "error")
        folder, poison, limit = job.pop("folder"), job.pop("poison", None), job.pop("limit", None)
        if limit:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        make(folder, replace(CONFIG, **job), loss=partial(poisoned, record=poison))
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except FileError:
        code = 3
    except Exception as error:
        print(f"child: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


if __name__ == "__main__":
    torch.set_num_threads(1)
    share(Path(sys.argv[1])) if len(sys.argv) > 1 else serve()
