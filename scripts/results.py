"""The rows of docs/results.md from the folders of finished runs, and the curves of those that were scored at budgets.

    python scripts/results.py runs/gue/* runs/etth/*
    python scripts/results.py --curves docs/images/results_dna.png --metric mcc links=runs/links peaks=runs/peaks
    python scripts/results.py --classes runs/cinc/*

Runs that differ in nothing but the seed are one row: the mean and each seed, in order. Scores are of the test part
(of the validation part where there is no other). `--classes` asks the model once more, for the F1 of each class, which
some challenges score by.
"""

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from tokred_sci.datasets.loader import TokenLoader
from tokred_sci.experiment import Model
from tokred_sci.prepare import RunConfig, prepare
from tokred_sci.training.config import difference, read_config
from tokred_sci.training.costs import draw_budgets
from tokred_sci.training.metrics import collect

SHOWN = {"classify": ("mcc", "accuracy", "macro_f1"), "per-element": ("accuracy", "miou"), "forecast": ("mse", "mae")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders, as NAME=FOLDER with --curves")
    parser.add_argument("--curves", type=Path, help="draw a picture instead")
    parser.add_argument("--metric", default="mcc", help="of the picture")
    parser.add_argument("--classes", action="store_true", help="F1 of each class instead")
    arguments = parser.parse_args()
    if arguments.classes:
        print("\n".join(by_class(Path(run)) for run in arguments.runs))
        return
    if arguments.curves is None:
        print(table([Path(run) for run in arguments.runs]))
        return
    named = dict(run.split("=", 1) for run in arguments.runs)
    told = {name: read(Path(folder)) for name, folder in named.items()}
    numbers = {name: {**(one.get("test") or one["valid"]), **one["costs"]} for name, one in told.items()}
    draw_budgets(numbers, arguments.metric).savefig(arguments.curves)


def read(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return told


def by_class(folder: Path) -> str:
    """F1 of each class of the test part, and of the first three the mean, which is CinC 2017's score."""
    prepared = prepare(read_config(RunConfig, folder / "config.toml"))
    model = Model.from_pretrained(folder / "model").eval()
    loader = TokenLoader(prepared.stores["test"], prepared.config.train.batch, shuffle=False)
    truth, guess = (np.concatenate(part) for part in collect(model, loader, prepared.task.answer, 0))
    each = f1_score(truth, guess, average=None)
    return f"{folder}: {', '.join(f'{value:.3f}' for value in each)}; the first three {each[:3].mean():.3f}"


def table(folders: list[Path]) -> str:
    """Markdown: a row for each setting and budget, seeds together."""
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for folder in sorted(folders):
        if (folder / "metrics.json").exists() and read(folder).get("finished"):
            groups[setting(folder)].append(folder)
    rows = ["| task | what differs | parameters | budget | metric | mean | each |", "|---|---|---|---|---|---|---|"]
    for (told, _), runs in groups.items():
        rows += [f"| {told} | {row}" for row in scores(runs)]
    return "\n".join(rows)


def setting(folder: Path) -> tuple[str, str]:
    """Source and model of a run in a few words; and all of its config but the seeds."""
    config = read_config(RunConfig, folder / "config.toml")
    model, train = replace(config.model, seed=0), replace(config.train, seed=0)
    exact = repr(difference(replace(config, model=model, train=train)))
    merges = ", ".join(f"{step.method} after block {step.block}" for step in config.model.reduce)
    size = f"dim {config.model.dim}, depth {config.model.depth}"
    horizon = f", {config.model.outputs} steps" if config.model.head == "forecast" else ""
    kind = "plain" if model.plain else merges or "no merges"
    return f"{config.data.source}{horizon} | {kind}, {size}, {train.steps} training steps", exact


def scores(runs: list[Path]) -> list[str]:
    told = [read(run) for run in runs]
    numbers = [one.get("test") or one["valid"] for one in told]
    head = read_config(RunConfig, runs[0] / "config.toml").model.head
    rows = []
    for name in numbers[0]:
        metric, _, budget = name.partition("@")
        if metric in SHOWN[head]:
            each = [one[name] for one in numbers]
            mean = sum(each) / len(each)
            listed = ", ".join(f"{value:.4f}" for value in each)
            rows.append(f"{told[0]['parameters']:,} | {budget or 'all'} | {metric} | {mean:.4f} | {listed} |")
    return rows


if __name__ == "__main__":
    main()
