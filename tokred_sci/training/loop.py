"""The one training loop: seeded, interruptible at any instant, for one process or several. It knows no domain.

Choices: every batch starts from a random state that is a function of (seed, number of the batch, process), so there is
none to lose. Each process reads the whole batch and takes every n-th record of it; gradients are added up once per
step, in one message: parts of any size, and processes with nothing to do, average right. After `patience` bad batches
in a row training goes back to the last regular checkpoint at half the learning rate, and on with the batches that
follow: the bad ones are not tried again.
"""

import json
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

from tokred_sci.datasets.loader import Batch
from tokred_sci.errors import FileError, InputError
from tokred_sci.training import checkpoint, guard, hooks, state
from tokred_sci.training.checkpoint import CheckpointWarning, Loaded
from tokred_sci.training.config import TrainConfig, write_config
from tokred_sci.training.gradients import NOTHING, RECENT, Gradients
from tokred_sci.training.log import Log, Row, draw_curves
from tokred_sci.training.memory import keep_memory
from tokred_sci.training.processes import Processes
from tokred_sci.training.tasks import Loss, shorten

__all__ = ["History", "Stopped", "TrainConfig", "fit", "schedule"]

IDLE = 1000  # batches in a row that ask nothing, after which no other is waited for
Evaluate = Callable[[nn.Module], Mapping[str, float]]


@runtime_checkable
class Loader(Protocol):
    """What `TokenLoader` is: batches of an epoch, and where it is."""

    def __iter__(self) -> Iterator[Batch]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Stopped(SystemExit):
    """Training was asked to stop, and has saved a checkpoint: exit code 143 after SIGTERM, 130 after Ctrl-C."""


@dataclass
class History:
    """What happened.

    Args:
        rows: one for each batch, as in `log.csv`.
        evaluations: what `evaluate` said, with step and batch.
        skipped: batches that were bad, or asked nothing.
        rollbacks: how often training went back.
    """

    rows: list[Row]
    evaluations: list[dict[str, Any]]
    skipped: int
    rollbacks: int

    @property
    def losses(self) -> list[float]:
        """Of every step that was made, in order."""
        return [row["loss"] for row in self.rows if not row["reason"]]


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, Batch], Loss],
    loader: Loader,
    config: TrainConfig,
    folder: str | Path | None = None,
    evaluate: Evaluate | None = None,
    allow: tuple[str, ...] = (),
    progress: bool = True,
    about: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
    on_step: Callable[[Row], object] | None = None,
    data: Mapping[str, str] | None = None,
) -> History:
    """Train a model in place; called again with the same folder after it was stopped or killed, it goes on.

    Laws: on a CPU with the same number of processes a run that was killed at any instant and resumed ends with the
    same parameters, optimiser state and order of samples, bit for bit, as one that was not; a step sees the same
    records whatever the number of processes, loader workers or parts they are cut into; no checkpoint holds a NaN; the
    global random state is not touched.

    Args:
        model: on its way out it holds the running mean of its weights if `config.ema` is set. Of several processes all
            begin with the weights of the first.
        loss: `(model, batch) -> Loss`, a sum and a number of terms: see `tasks`.
        loader: batches of `config.batch` records, such as a `TokenLoader`.
        config: how.
        folder: for checkpoints, log and results; shared by all processes. None = nothing is written, and nothing
            survives. A finished run leaves `metrics.json`, `config.toml`, `log.csv`, `curves.png` and, of a model that
            has `save_pretrained`, `model`.
        evaluate: `(model) -> numbers`, called every `evaluate_every` steps and at the end, by the first process.
        allow: what may differ from the run that is resumed: "config", "code", "data".
        progress: show a bar.
        about: more of the config, to be compared and kept.
        device: train here, in this process alone; None = where accelerate says.
        on_step: told about each batch.
        data: digests of more data than the loader's, such as the test part's, to be compared and kept.

    Raises:
        InputError: a folder that another process trains in; another config, code or data than before; training that
            does not recover; batches that ask nothing; one record that needs more memory than there is.
        FileError: no checkpoint in the folder is whole, or the results cannot be written.
        Stopped: SIGTERM or Ctrl-C came, and the step at hand was finished and saved.

    Example:
        >>> from tokred_sci.datasets.layout import Entry
        >>> from tokred_sci.datasets.loader import MemoryStore, TokenLoader
        >>> from tokred_sci.experiment import Model, ModelConfig
        >>> from tokred_sci.training.tasks import Classify
        >>> model = Model(ModelConfig("dna", {"patch": 4}, dim=8, depth=1, heads=2))
        >>> entries = [Entry(model.tokenize(text), label) for label, text in enumerate(["AATT" * 4, "GGCC" * 4])]
        >>> loader = TokenLoader(MemoryStore(entries), batch_size=2)
        >>> config = TrainConfig(steps=30, learning_rate=0.02, warm_up=3)
        >>> history = fit(model, Classify().loss, loader, config, progress=False)
        >>> history.losses[-1] < 0.1 < history.losses[0]
        True
    """
    processes = Processes.here(device)
    with ExitStack() as held:
        held.enter_context(torch.random.fork_rng([processes.device] if processes.device.type == "cuda" else []))
        if processes.device.type == "cpu":
            held.enter_context(keep_memory())
        if folder is not None and processes.first:
            held.enter_context(guard.alone_in(Path(folder)))
        merges = held.enter_context(hooks.watch_merges(model))
        run = _Run(
            model,
            Gradients(model.to(processes.device), loss, config, processes, merges),
            loader,
            config,
            processes,
            Path(folder) if folder is not None else None,
            evaluate,
            allow,
            about or {},
            data or {},
        )
        held.callback(run.log.close)
        run.log.progress = progress and processes.first
        with guard.heed_signals(run.ask) if folder is not None else nullcontext():
            run.begin()
            run.go(on_step)
        return run.finish()


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        model: nn.Module,
        gradients: Gradients,
        loader: Loader,
        config: TrainConfig,
        processes: Processes,
        folder: Path | None,
        evaluate: Evaluate | None,
        allow: tuple[str, ...],
        about: Mapping[str, Any],
        data: Mapping[str, str],
    ):
        if config.budgets and not hooks.merging(model):
            raise InputError(f"Expected a model that merges, for budgets {config.budgets} (got one that does not).")
        self.model, self.gradients = model, gradients
        self.loader, self.config, self.processes = loader, config, processes
        self.folder, self.evaluate, self.allow, self.about, self.data = folder, evaluate, allow, about, data
        self.generators = gradients.generators
        self.optimiser = torch.optim.AdamW(
            gradients.parameters, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        processes.share([*model.parameters(), *model.buffers()])
        averaged = config.ema is not None
        self.mean = {name: value.clone() for name, value in model.state_dict().items()} if averaged else {}
        self.at = state.Progress(scale=2.0**16 if config.precision == "fp16" else 1.0)
        self.log = Log(folder if processes.first else None, list(gradients.merges), config.steps, False)
        self.stop = 0  # the exit code, once a signal came
        self.idle = 0  # batches in a row that asked nothing
        self.saved = time.monotonic()

    def ask(self, code: int) -> None:
        """Stop after the step at hand."""
        self.stop = code

    # Steps

    def go(self, on_step: Callable[[Row], object] | None) -> None:
        """Step after step, to the end or until somebody asks to stop."""
        config = self.config
        batches = _endless(self.loader)
        self.model.train()
        while self.at.step < config.steps:
            batch = next(batches)
            row, stop, due = self._step(batch)
            self.at.batches += 1
            self._judge(row)
            self.log.say(row, batch.records.tolist())
            if on_step is not None:
                on_step(row)
            if self.at.in_row >= config.patience:
                self._roll_back(row)
            if self.idle >= IDLE:
                raise InputError(
                    f"Expected batches that ask something (got {IDLE} in a row that do not): look at the labels or "
                    "targets of the records in bad_batches.jsonl."
                )
            regular = not row["reason"] and self.at.in_row == 0 and self.at.step % config.checkpoint_every == 0
            if not row["reason"] and config.evaluate_every and self.at.step % config.evaluate_every == 0:
                self._evaluate()
            if regular or stop or due or self.at.step == config.steps:
                self.save(regular)
            if stop:
                raise Stopped(stop)

    def _step(self, batch: Batch) -> tuple[Row, int, bool]:
        """One batch: gradients, the step if they are good, and what there is to tell; exit code and "save now"."""
        config, at, start = self.config, self.at, time.perf_counter()
        share = self._draw_budget()
        if at.batches < config.length_warm_up:
            batch = shorten(batch, 1 / 8 + 7 / 8 * at.batches / config.length_warm_up)
        rate = config.learning_rate * at.factor * schedule(at.step, config.steps, config.warm_up)
        with hooks.at_budget(self.model, share):
            sums = self.gradients.add_up(batch, at)
        merges = [torch.stack(seen).sum().item() if seen else 0 for seen in self.gradients.merges.values()]
        due = 0 < config.checkpoint_seconds < time.monotonic() - self.saved and self.processes.first
        asked = self.stop
        told = torch.tensor([*sums, *merges, asked, due], dtype=torch.float64)
        total, count, *merges, stop, due = self.processes.sum(told).tolist()
        mean, norm = self.gradients.average(total, count, len(batch.records), at)
        reason = self.gradients.fault(mean, count, norm, at)
        if not reason:
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.optimiser.step()
            self._follow()
        tokens, seconds = int(batch.tokens.mask.sum()), time.perf_counter() - start
        row: Row = dict(batch=at.batches, step=at.step, loss=mean, learning_rate=rate, grad_norm=norm)
        row |= dict(records=len(batch.records), tokens=tokens, tokens_per_second=tokens / seconds, budget=share)
        row |= {name: value / len(batch.records) for name, value in zip(self.gradients.merges, merges, strict=True)}
        return row | {"reason": reason}, (asked or 128 + signal.SIGTERM) if stop else 0, bool(due)

    def _draw_budget(self) -> float | None:
        budgets = self.config.budgets
        return budgets[guard.number_of(self.config.seed, self.at.batches, 0) % len(budgets)] if budgets else None

    def _follow(self) -> None:
        """The running mean of the weights; at first over few steps, so that it forgets where it began."""
        if self.config.ema is not None:
            decay = min(self.config.ema, (1 + self.at.step) / (10 + self.at.step))
            for name, value in self.model.state_dict().items():
                if value.is_floating_point():
                    self.mean[name].lerp_(value, 1 - decay)
                else:
                    self.mean[name].copy_(value)

    def _judge(self, row: Row) -> None:
        """Count the batch as a step, or as skipped."""
        at = self.at
        if row["reason"] == "scale":  # a gradient too large for fp16: the next try has a smaller factor
            at.scale, at.since, at.skipped = at.scale / 2, 0, at.skipped + 1
        elif row["reason"] == NOTHING:  # no fault of the weights: going back would not help
            at.skipped += 1
        elif row["reason"]:
            at.skipped, at.in_row = at.skipped + 1, at.in_row + 1
        else:
            at.step, at.in_row, at.since = at.step + 1, 0, at.since + 1
            at.recent = [*at.recent[1 - RECENT :], row["loss"]]
            if self.config.precision == "fp16" and at.since == 1000:
                at.scale, at.since = at.scale * 2, 0
        self.idle = self.idle + 1 if row["reason"] == NOTHING else 0
        row["skipped"] = at.skipped

    def _roll_back(self, row: Row) -> None:
        """Parameters, optimiser and step of the last regular checkpoint; batches go on."""
        at, patience = self.at, self.config.patience
        told = f"{patience} bad batches in a row, the last at step {row['step']}: {row['reason']}"
        found = (loaded for path, loaded in self._checkpoints() if checkpoint.is_regular(path.name))
        loaded = next(found, None) if at.rollbacks < self.config.rollbacks else None
        if loaded is None:
            raise InputError(
                f"Expected training to recover (got {told}; {at.rollbacks} rollbacks before): lower 'learning_rate' or "
                "'clip', or look at the records in bad_batches.jsonl."
            )
        self._apply(loaded, loader=False)
        after = replace(self.at, batches=at.batches, skipped=at.skipped, rollbacks=at.rollbacks + 1, in_row=0)
        self.at = at = replace(after, factor=at.factor / 2)
        if self.processes.first:
            warnings.warn(f"{told}. Back to step {at.step}, at {at.factor} times the learning rate.", stacklevel=2)

    # Evaluation

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with the running mean of its weights, if there is one, in the block."""
        if not self.mean:
            yield self.model
            return
        raw = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.mean)
        try:
            yield self.model
        finally:
            self.model.load_state_dict(raw)

    def _evaluate(self) -> None:
        if self.evaluate is None:
            return
        told: Mapping[str, float] = {}
        if self.processes.first:
            before = hooks.states(self.generators)
            with self.averaged() as model, torch.no_grad():
                told = {name: float(value) for name, value in self.evaluate(model).items()}
            hooks.restore(self.generators, before)
            self.model.train()
        told = self.processes.gather(dict(told))[0]
        self.at.evaluations = [*self.at.evaluations, {"batch": self.at.batches, "step": self.at.step, **told}]

    # Checkpoints

    def begin(self) -> None:
        """Go on from the newest whole checkpoint, or write the first."""
        self.signature = {
            "config": json.loads(json.dumps(self._configs(), default=str)),
            "code": checkpoint.code_digests(),
            "data": {"content": self.loader.state_dict().get("store"), **self.data},
        }
        if self.folder is not None:
            found = next(self._checkpoints(), None)
            if found is not None:
                saved = found[1][1].get("signature")
                checkpoint.require_same(saved if isinstance(saved, dict) else {}, self.signature, self.allow)
                self._apply(found[1], loader=True)
            elif checkpoint.list_checkpoints(self.folder / "checkpoints"):
                raise FileError(
                    f"Expected a whole checkpoint in {self.folder} (got damaged ones only): put back a copy, or remove "
                    "the folder to begin anew."
                )
        self.processes.gather(None)  # nobody writes before all have read
        if self.processes.first:
            self.log.start(self.at.batches, self.at.step)
        else:
            self.log.start(0, 0)
        if self.folder is not None and self.at.batches == 0:
            self.save(regular=True)

    def _configs(self) -> dict[str, Any]:
        config = getattr(self.model, "config", None)
        own = {"model": asdict(config)} if is_dataclass(config) and not isinstance(config, type) else {}
        return {"train": asdict(self.config), **own, **self.about}

    def _checkpoints(self) -> Iterator[tuple[Path, Loaded]]:
        if self.folder is None:
            return iter(())
        size = sum(value.nbytes for value in self.model.state_dict().values())
        size += sum(generator.get_state().nbytes for generator in self.generators) * 1024
        return checkpoint.whole_checkpoints(self.folder / "checkpoints", (1 << 24) + 5 * size)

    def save(self, regular: bool) -> None:
        """Write a checkpoint; where that fails, say so and go on."""
        if self.folder is None:
            return
        states = self.processes.gather(hooks.states(self.generators))
        self.saved = time.monotonic()
        if not self.processes.first:
            return
        tensors = state.tensors_of(self.model, self.mean, self.optimiser, states)
        if not all(bool(value.isfinite().all()) for value in tensors.values() if value.is_floating_point()):
            warnings.warn("No checkpoint: the weights are not finite.", CheckpointWarning, stacklevel=2)
            return
        told = {"at": asdict(self.at), "loader": self.loader.state_dict(), "signature": self.signature}
        folder = self.folder / "checkpoints"
        try:
            self.log.flush()
            checkpoint.save_checkpoint(folder, checkpoint.name_of(self.at.batches, regular), tensors, told)
            checkpoint.prune(folder, self.config.keep)
        except OSError as error:
            warnings.warn(
                f"Could not save a checkpoint at step {self.at.step} in {folder} ({error}). Training goes on; what is "
                "lost if it stops grows until there is room again.",
                CheckpointWarning,
                stacklevel=2,
            )

    def _apply(self, loaded: Loaded, loader: bool) -> None:
        """Take over a checkpoint, all of it or (with an error) nothing."""
        tensors, told = loaded
        model = state.weights_in(tensors, self.model, "model.")
        mean = state.weights_in(tensors, self.model, "mean.") if self.mean else {}
        optimiser = state.optimiser_in(tensors, self.optimiser)
        names = [f"random.{self.processes.index}.{place}" for place in range(len(self.generators))]
        states = [tensors[name] for name in names if name in tensors]
        state.check_generators(states)
        at = state.progress_in(told.get("at"))
        if loader:
            self._load_loader(told)
        self.model.load_state_dict(model)
        self.mean = mean
        self.optimiser.load_state_dict(optimiser)
        if len(states) == len(names):
            hooks.restore(self.generators, states)
        self.at = at

    def _load_loader(self, told: Mapping[str, Any]) -> None:
        try:
            self.loader.load_state_dict(told["loader"])
        except (InputError, KeyError, TypeError) as error:
            if not self.allow:
                raise FileError(f"Expected the checkpoint to say where the data was (got {error}).") from error
            warnings.warn(f"The data begin a new epoch: {error}", CheckpointWarning, stacklevel=2)

    # The end

    def finish(self) -> History:
        """Results on disk, the mean of the weights in the model."""
        at = self.at
        if self.evaluate is not None and (not at.evaluations or at.evaluations[-1]["step"] != at.step):
            self._evaluate()
        if self.mean:
            self.model.load_state_dict(self.mean)
        self.model.eval()
        self.log.rows = [row for row in self.log.rows if row["batch"] < at.batches]
        if self.folder is not None and self.processes.first:
            try:
                self._write_results(self.folder)
            except (OSError, SafetensorError) as error:
                raise FileError(
                    f"Could not write the results to {self.folder} ({error}): the checkpoints are there; free space "
                    "and call again."
                ) from error
        self.processes.gather(None)
        return History(self.log.rows, at.evaluations, at.skipped, at.rollbacks)

    def _write_results(self, folder: Path) -> None:
        at = self.at
        self.log.flush()
        last = {name: value for name, value in (at.evaluations or [{}])[-1].items() if name not in ("batch", "step")}
        told = {
            "steps": at.step,
            "batches": at.batches,
            "skipped": at.skipped,
            "rollbacks": at.rollbacks,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "final_loss": float(np.mean(at.recent)) if at.recent else None,
            "metrics": last,
            "evaluations": at.evaluations,
        }
        checkpoint.write_file(folder / "curves.png", draw_curves(self.log.rows, at.evaluations, self.log.merges))
        if not (folder / "config.toml").exists():
            write_config(self.config, folder / "config.toml")
        save: Any = getattr(self.model, "save_pretrained", None)
        if save is not None:
            save(folder / "model")
        checkpoint.write_file(folder / "metrics.json", json.dumps(told, indent=1) + "\n")


def schedule(step: int, steps: int, warm_up: int) -> float:
    """Share of the peak learning rate: linear warm-up, then cosine to zero.

    Example:
        >>> [round(schedule(s, 100, 10), 2) for s in (0, 9, 50, 99)]
        [0.1, 0.98, 0.5, 0.0]
    """
    return min(1.0, (step + 1) / max(1, warm_up)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _endless(loader: Loader) -> Iterator[Batch]:
    """Epoch after epoch; a loader that was resumed at an epoch's end may be empty once."""
    empty = 0
    while empty < 2:
        empty += 1
        for batch in loader:
            empty = 0
            yield batch
    raise InputError("Expected at least one batch to train on (got none).")
