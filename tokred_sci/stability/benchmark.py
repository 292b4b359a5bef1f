"""The benchmark: every arm of a task trained on short records, with several seeds, and asked at every length.

One trained model is one file, so a run that was stopped goes on, and several may share the work.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.loader import IGNORE, MemoryStore, TokenLoader
from tokred_sci.errors import InputError
from tokred_sci.experiment import Model
from tokred_sci.report import write
from tokred_sci.stability.arms import Arm, Recipe, coarsened, find_arm
from tokred_sci.stability.lengths import peak, reset_peak
from tokred_sci.stability.representation import measure_layers
from tokred_sci.stability.tasks import Task
from tokred_sci.stability.training import loss_ratio, spike_score
from tokred_sci.tokens import Tokens
from tokred_sci.training.costs import measure
from tokred_sci.training.loop import fit
from tokred_sci.training.tasks import Classify, LabelElements

MULTIPLES = (1, 2, 4, 8, 16)
TUNING = 1000
"""Seed of the runs that choose learning rates; no result is reported of it."""

Bar = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Cell:
    """One model: what it is, and where its results lie."""

    task: str
    arm: str
    seed: int
    rate: float

    def path(self, folder: Path) -> Path:
        name = f"{self.arm}_x{self.rate:g}_{self.seed}".replace(" ", "-").replace("/", "of")
        return folder / "cells" / self.task.replace("/", "-") / f"{name}.json"


class Material:
    """Records of a task as tokens, made once for all arms of a seed that cut them alike."""

    def __init__(self, task: Task, recipe: Recipe, seed: int, bar: Bar):
        self.task, self.recipe, self.seed, self.bar = task, recipe, seed, bar
        self.held: dict[tuple, list[Entry]] = {}

    def training(self, arm: Arm) -> list[Entry]:
        """The pool of training records, of all the lengths that this arm trains on."""
        share = self.recipe.pool // len(arm.lengths)
        return [entry for multiple in arm.lengths for entry in self._draw(arm, multiple, share, False)]

    def test(self, arm: Arm, multiple: int) -> list[Entry]:
        """Records of one length that no arm has seen; on the tuning seed new ones of the training part."""
        if self.seed == TUNING:
            return self._draw(arm, multiple, self.recipe.test, False, TUNING + 1)
        return self._draw(arm, multiple, self.recipe.test, True)

    def _draw(self, arm: Arm, multiple: int, count: int, test: bool, seed: int | None = None) -> list[Entry]:
        seed = self.seed if seed is None else seed
        key = (arm.coarse, multiple, count, test, seed)
        if key not in self.held:
            tokenize = Model(coarsened(self.recipe.model, arm.coarse)).tokenize
            drawn = self.task.draw(count, seed, test, multiple)
            what = f"tokenize {'test' if test else 'training'} records, {multiple}x"
            self.held[key] = [
                _entry(self.task, tokenize(drawn.records[i]), drawn.labels[i]) for i in self.bar(range(count), what)
            ]
        return self.held[key]


def _entry(task: Task, tokens: Tokens, truth: Any) -> Entry:
    if task.answer == "classify":
        return Entry(tokens, int(truth))
    return Entry(tokens, targets=np.asarray(truth, np.int64))


def run(
    cells: Iterable[Cell],
    task: Task,
    recipe: Recipe,
    folder: str | Path,
    bar: Bar,
    multiples: tuple[int, ...] = MULTIPLES,
) -> list[dict[str, Any]]:
    """Train and measure the cells that are not there yet, and return what is told of all.

    Law: a cell has the same scores whatever was run before, and in whatever order.

    Args:
        cells: of one task; arms share the records of a seed, so that their differences are paired.
        task: what is asked.
        recipe: how models are made and trained.
        folder: one JSON file for each cell.
        bar: wraps an iterable and a description, for progress.
        multiples: lengths of the test records, in training lengths.

    Raises:
        InputError: a task without classes; an arm that does not exist; a file of another recipe in the folder.
    """
    folder = Path(folder)
    if task.answer == "forecast":
        raise InputError("Expected a task with classes (got a forecast): see `lengths.look_back_curve`.")
    material: Material | None = None
    found = []
    for cell in bar(sorted(cells, key=lambda cell: cell.seed), "models"):
        find_arm(cell.arm)
        told = read_cell(cell.path(folder))
        if told is None:
            if material is None or material.seed != cell.seed:
                material = Material(task, recipe, cell.seed, bar)
            told = {**asdict(cell), **run_cell(cell, material, multiples)}
            write(cell.path(folder), json.dumps(told, indent=1) + "\n")
        elif any(told.get(name) != value for name, value in made_of(cell, task, recipe, multiples).items()):
            raise InputError(
                f"Expected {cell.path(folder)} to be of this task, arm, recipe and these lengths (it is of others): "
                "choose another folder, or delete that file."
            )
        found.append(told)
    return found


def made_of(cell: Cell, task: Task, recipe: Recipe, multiples: tuple[int, ...]) -> dict[str, Any]:
    """What a cell's scores hang on, as JSON gives it back: an old file of something else is not taken for it."""
    told = {
        "recipe": asdict(recipe),
        "setting": asdict(find_arm(cell.arm)),
        "question": task.question,
        "length": task.length,
        "multiples": multiples,
    }
    return json.loads(json.dumps(told))


def read_cell(path: Path) -> dict[str, Any] | None:
    """What a cell's file says; None if there is none (half a file cannot be: they are renamed into place)."""
    return json.loads(path.read_text()) if path.exists() else None


def run_cell(cell: Cell, material: Material, multiples: tuple[int, ...]) -> dict[str, Any]:
    """Train one model and measure it at every length."""
    arm, task = find_arm(cell.arm), material.task
    model, told = train_cell(cell, material)
    return {
        **made_of(cell, task, material.recipe, multiples),
        "kind": arm.kind,
        **told,
        "lengths": [
            {"multiple": m} | examine(model, task, material.test(arm, m))
            for m in material.bar(multiples, f"measure {cell.arm}")
        ],
    }


def train_cell(cell: Cell, material: Material) -> tuple[Model, dict[str, Any]]:
    """The model of one arm, seed and learning rate, trained, and what is told of its training."""
    arm, recipe = find_arm(cell.arm), material.recipe
    entries = material.training(arm)
    seeded = replace(
        recipe,
        model=replace(recipe.model, seed=cell.seed),
        train=replace(recipe.train, seed=cell.seed, learning_rate=recipe.train.learning_rate * cell.rate),
    )
    model_config, train_config = arm.build(seeded, int(entries[0].tokens.counts[0]))
    model = Model(model_config)
    loader = TokenLoader(MemoryStore(entries), train_config.batch, True, bucket=len(arm.lengths) > 1, seed=cell.seed)
    loss, start = objective(material.task).loss, time.perf_counter()
    try:
        history = fit(model, loss, loader, train_config, progress=False, device=torch.device("cpu"))
        losses, skipped, failed = history.losses, history.skipped, None
    except InputError as error:  # training that does not recover is a result
        losses, skipped, failed = [], 0, str(error)
    seconds = time.perf_counter() - start
    return model.eval(), {
        "config": asdict(model_config),
        "parameters": sum(p.numel() for p in model.parameters()),
        "training": told_of(losses) | {"seconds": seconds, "skipped": skipped, "failed": failed},
        "threads": torch.get_num_threads(),
    }


def told_of(losses: list[float]) -> dict[str, Any]:
    """Where training began and ended, and how smooth the way was."""
    if not losses:
        return dict.fromkeys(("first_loss", "final_loss", "spike_score", "loss_ratio"))
    return {
        "first_loss": float(np.mean(losses[:5])),
        "final_loss": float(np.mean(losses[-20:])),
        "spike_score": spike_score(losses) if len(losses) > 64 else None,  # it needs half a window to look back on
        "loss_ratio": float(np.max(loss_ratio(np.maximum(losses, 1e-12)))),  # a loss of 0 is one, in float32
    }


@torch.no_grad()
def examine(model: Model, task: Task, entries: list[Entry], batch: int = 8) -> dict[str, Any]:
    """Scores of every record, mean loss, tokens per layer, cost; of the first batch attention and states."""
    model.eval()
    watched = reset_peak()
    scores: list[float] = []
    losses: list[float] = []
    parts = list(TokenLoader(MemoryStore(entries), batch, shuffle=False))
    for part in parts:
        outputs = model(part.tokens)
        truth = part.labels if task.answer == "classify" else part.targets
        assert truth is not None
        losses.append(float(F.cross_entropy(outputs.flatten(0, -2), truth.flatten(), ignore_index=IGNORE)))
        scores += score_records(outputs, truth).tolist()
    memory = peak() if watched else None
    cost = measure(model, parts[:1], objective(task).answer)
    first = entries[0].tokens
    layers = model.encoder.trace(model.embed(first))
    return {
        "scores": scores,
        "loss": float(np.mean(losses)),
        "tokens": [int(layer.counts[0]) for layer in layers],
        "seconds": cost.seconds,
        "flops": cost.flops,
        "peak_mb": memory,
        "layers": [layer._asdict() for layer in measure_layers(model, parts[0].tokens, most=256)],
    }


def objective(task: Task) -> Classify | LabelElements:
    """Loss and answers of a task."""
    return Classify() if task.answer == "classify" else LabelElements()


def score_records(outputs: Tensor, truth: Tensor) -> Tensor:
    """For each record 1 or 0 where one class is asked for, else the share of right answers among its elements.

    Tasks ask about as many elements at every length, half of them in the hidden part, so that chance stays the same.

    Example:
        >>> outputs = torch.tensor([[[2.0, 1.0], [1.0, 2.0], [2.0, 1.0], [2.0, 1.0]]])
        >>> score_records(outputs, torch.tensor([[0, 1, 1, -100]]))
        tensor([0.6667])
    """
    guess = outputs.argmax(-1)
    if truth.ndim == 1:
        return (guess == truth).float()
    asked = truth != IGNORE
    return ((guess == truth) & asked).sum(1) / asked.sum(1).clamp(min=1)


def tuned(cells: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """For each arm the rate whose loss at the training length is least on the tuning seed.

    The loss, not the score: several rates answer every record of the training length rightly, and would tie.
    """
    best: dict[str, tuple[float, float]] = {}
    for cell in cells:
        loss = cell["lengths"][0]["loss"]
        if cell["seed"] == TUNING and loss < best.get(cell["arm"], (math.inf, 0.0))[0]:
            best[cell["arm"]] = (loss, cell["rate"])
    return {arm: rate for arm, (_, rate) in best.items()}
