"""The main job: what reduction does to long inputs, shown on real DNA, a real surface and a real sensor series.

For each domain the same encoder is trained on short records, once per arm, and asked the same question of records
1 to 16 times as long. Only distractors grow; a stable model keeps its answers.
"""

import json
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tokred_sci
from tokred_sci import plotting, report
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.stability.arms import Recipe
from tokred_sci.stability.lengths import effective_length, measure, slope_per_octave
from tokred_sci.stability.tasks import TASKS, Task
from tokred_sci.tokens import Tokens
from tokred_sci.training.config import TrainConfig
from tokred_sci.training.records import train

MULTIPLES = (1, 2, 4, 8, 16)
KINDS = {"none": "no reduction", "links": "graph", "peaks": "density", "random": "control"}

Show = Callable[[str], None]
Bar = Callable[[Iterable[int], str], Iterable[int]]
Drawn = tuple[list[Tokens], torch.Tensor]


RECIPES = {  # size_exponent 0: a merged token speaks once (with 1, what is merged dilutes the answer: docs/LOG.md)
    "dna": Recipe(ModelConfig("dna", window=16, unit=16.0, size_exponent=0.0), TrainConfig(steps=400)),
    "points": Recipe(
        ModelConfig(
            "points",
            {"ratio": 0.125, "neighbours": 16, "method": "curve", "channels": 7},
            window=16,
            unit=8.0,
            size_exponent=0.0,
        ),
        TrainConfig(steps=300),
    ),
    "series": Recipe(
        ModelConfig(
            "series", {"patch": 8, "normalise": "none", "in_channels": 6}, window=16, unit=8.0, size_exponent=0.0
        ),
        TrainConfig(steps=400),
    ),
}


def run(domains: Iterable[str], seed: int, quick: bool, show: Show, bar: Bar) -> tuple[dict, list[plotting.View]]:
    """Train and measure every arm of every domain.

    Returns:
        The results (plain values, for JSON) and one view per domain for the picture.
    """
    results: dict[str, Any] = {
        "command": "tokred demo" + (" --quick" if quick else "") + f" --seed {seed}",
        "seed": seed,
        "quick": quick,
        "versions": {
            "tokred_sci": tokred_sci.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
        "domains": {},
    }
    views = []
    for domain in domains:
        recipe = RECIPES[domain].quick() if quick else RECIPES[domain]
        told, view = run_domain(TASKS[domain](), recipe, seed, show, bar)
        results["domains"][domain] = told
        views.append(view)
    return results, views


def run_domain(task: Task, recipe: Recipe, seed: int, show: Show, bar: Bar) -> tuple[dict, plotting.View]:
    """All arms of one domain on the same records, and its part of the results."""
    chance = 1 / len(task.classes)
    show(f"\n{task.domain.upper()}. {task.question} One of: {', '.join(task.classes)}; chance is {chance:.2f}.")
    show(f"What grows is {task.growth}, which says nothing about the answer: a longer record only distracts.")
    recipe = replace(
        recipe,
        model=replace(recipe.model, outputs=len(task.classes), seed=seed),
        train=replace(recipe.train, seed=seed),
    )
    short = draw(task, recipe, recipe.pool, bar, 1)
    tests = {multiple: draw(task, recipe, recipe.test, bar, multiple, test=True) for multiple in MULTIPLES}
    told: dict[str, Any] = {
        "question": task.question,
        "growth": task.growth,
        "classes": list(task.classes),
        "chance": chance,
        "length": task.length,
        "unit": task.unit,
        "arms": [],
    }
    models = {}
    for method in KINDS:
        arm, models[method] = run_arm(method, recipe, short, tests, bar)
        told["arms"].append({**arm, "effective_length": arm["effective_length"] * task.length})
    show(table(told))
    return told, look(task, models, seed)


def run_arm(method: str, recipe: Recipe, short: Drawn, tests: dict[int, Drawn], bar: Bar) -> tuple[dict, Model]:
    """Train one arm on the short records and measure it at every length."""
    kind, seed = KINDS[method], recipe.train.seed
    name = kind if method == "none" else f"{kind}: {method}"
    step = Reduce(recipe.block, method, recipe.keep, options={"seed": seed} if method == "random" else {})
    model = Model(replace(recipe.model, reduce=(step,)))
    start = time.perf_counter()
    losses = train(model, *short, recipe.train, lambda steps: bar(steps, f"train {name}"))
    seconds = time.perf_counter() - start
    points = [measure(model, *tests[m], m, batch=8)._asdict() for m in bar(MULTIPLES, f"measure {name}")]
    scores = [point["accuracy"] for point in points]
    arm = {
        "name": name,
        "method": method,
        "config": asdict(model.config),
        "train_seconds": seconds,
        "final_loss": float(np.mean(losses[-20:])),
        "slope_per_octave": slope_per_octave(MULTIPLES, scores),
        "effective_length": effective_length(MULTIPLES, scores),
        "lengths": points,
    }
    return arm, model


def draw(task: Task, recipe: Recipe, count: int, bar: Bar, multiple: int, test: bool = False) -> Drawn:
    """Records of a task as tokens, and their labels."""
    records, labels, _ = task.draw(count, recipe.train.seed, test, multiple)
    tokenize = Model(recipe.model).tokenize
    what = f"tokenize {'test' if test else 'training'} records, {multiple}x"
    return [tokenize(records[i]) for i in bar(range(count), what)], torch.as_tensor(labels)


def table(told: dict) -> str:
    """The results of one domain as text: accuracy per length, tokens per layer, cost at the longest."""
    head, rows = table_cells(told)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])

    return "\n".join(map(line, [head, ["-" * width for width in widths], *rows]))


def table_cells(told: dict) -> tuple[list[str], list[list[str]]]:
    """Header and rows of `table`."""
    head = ["arm", *(f"{m}x" for m in MULTIPLES), "tokens per layer at 16x", "ms/record", "peak MB", "training s"]
    rows = []
    for arm in told["arms"]:
        last = arm["lengths"][-1]
        peak = "-" if last["peak_mb"] is None else f"{last['peak_mb']:.0f}"
        rows.append(
            [
                arm["name"],
                *(f"{point['accuracy']:.2f}" for point in arm["lengths"]),
                " > ".join(map(str, last["tokens"])),
                f"{1000 * last['seconds']:.1f}",
                peak,
                f"{arm['train_seconds']:.0f}",
            ]
        )
    return head, rows


def look(task: Task, models: dict[str, Model], seed: int) -> plotting.View:
    """One test record of twice the training length on its way through the graph and the density arm."""
    drawn = task.draw(1, seed, test=True, multiple=2)
    record = drawn.records[0]
    stages: dict[str, Tokens] = {}
    for method in ("links", "peaks"):
        tokens = models[method].tokenize(record)
        with torch.no_grad():
            layers = models[method].encoder.trace(models[method].embed(tokens))
        stages.setdefault("tokens", tokens)
        stages[f"{KINDS[method]}-merged ({method})"] = layers[-1]
    return plotting.View(task.domain, _drawable(task.domain, record), task.unit, drawn.hidden[0], stages)


def save(out: Path, results: dict, views: list[plotting.View]) -> None:
    """`results.json`, `lengths.png`, `tokens.png` and `report.html`, each whole or not at all."""
    curves, pictures = plotting.lengths(results), plotting.tokens(views)
    page = report.Page("tokred demo: what reduction does to long inputs")
    mode = "Quick mode: too little training and too few records to conclude from. " if results["quick"] else ""
    page.text(f"{mode}Made by {results['command']} with torch {results['versions']['torch']}.")
    page.heading("Accuracy and cost against length")
    page.figure(curves, "accuracy and seconds per record against length, one panel per domain")
    for told in results["domains"].values():
        page.heading(told["question"])
        page.text(
            f"What grows is {told['growth']}. Trained at {told['length']:,} {told['unit']}; "
            f"chance {told['chance']:.2f}."
        )
        page.table(*table_cells(told))
    page.heading("Which token holds what")
    page.text("Every element in the colour of its token; yellow bands and ringed points hold the answer.")
    page.figure(pictures, "source, tokens, graph-merged and density-merged tokens of one record per domain")
    report.write(out / "results.json", json.dumps(results, indent=1) + "\n")
    report.write(out / "lengths.png", report.png(curves))
    report.write(out / "tokens.png", report.png(pictures))
    report.write(out / "report.html", page.html())


def _drawable(domain: str, record: Any) -> np.ndarray:
    """One number per element for sequences (share of G and C nearby; total acceleration), coordinates for clouds."""
    if domain == "points":
        return record[:, :3]
    if domain == "series":
        return np.linalg.norm(record[:3], axis=0)
    strong = np.isin(np.frombuffer(record.upper().encode(), dtype=np.uint8), list(b"GC")).astype(float)
    return np.convolve(np.pad(strong, 32, mode="reflect"), np.full(65, 1 / 65), mode="valid")
