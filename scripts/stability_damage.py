"""How answers bear damage at 1 and 16 times the training length, with and without merging.

    python scripts/stability_damage.py dna/order-mycoplasma series/order --arms "none,fit log-n,cover" --seeds 1
    python scripts/stability_damage.py points/strip --arms none,cover --seeds 1

Models are trained as `tokred stability` trains them, on records as they are, and asked of damaged ones. Series: noise,
gaps in bursts of 8 steps, other sampling rates. DNA: substitutions, insertions and deletions, reading that begins
later. Points: the seven corruptions of ModelNet-C at five levels, and its error relative to no reduction.
Each model's answers are one file under --out, so that a run that was stopped goes on. Some 10 minutes a task and seed.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from tokred_sci.experiment import Model
from tokred_sci.report import write
from tokred_sci.stability.arms import recipe_for
from tokred_sci.stability.benchmark import Cell, Material, score_records, train_cell
from tokred_sci.stability.clouds import POINTS, Accuracies, corrupt_points, corruption_error
from tokred_sci.stability.corruption import add_noise, cut_gaps, insert_delete, resample, shift, substitute
from tokred_sci.stability.tasks import TASKS, Task
from tokred_sci.tokens import stack

Damage = Callable[[Any, np.random.Generator], Any]
LENGTHS, RECORDS = (1, 16), 128


def damages(domain: str) -> dict[str, Damage]:
    """What is done to a record, by name; first nothing."""
    none: dict[str, Damage] = {"none": lambda record, _: record}
    if domain == "dna":
        changed = {f"{rate:.0%} substituted": partial(_changed, substitute, rate) for rate in (0.01, 0.05, 0.1, 0.2)}
        moved = {f"{rate:.0%} inserted or lost": partial(_changed, insert_delete, rate) for rate in (0.01, 0.05, 0.1)}
        later = {f"read {k} bases on": partial(lambda k, one, _: shift(one, k).record, k) for k in (1, 4, 8)}
        return none | changed | moved | later
    if domain == "series":
        loud = {f"noise, {snr} dB": partial(lambda snr, one, g: add_noise(one, snr, g), snr) for snr in (20, 10, 5, 0)}
        shares = (0.05, 0.1, 0.2, 0.4)
        gaps = {f"{share:.0%} missing": partial(lambda s, one, g: cut_gaps(one, s, 8, g), share) for share in shares}
        rates = {
            f"{f:g} x the rate": partial(lambda f, one, _: resample(one, f).record, f) for f in (0.5, 0.8, 1.25, 2)
        }
        return none | loud | gaps | rates
    return none | {f"{k} {level}": partial(_corrupted, k, level) for k in POINTS for level in range(1, 6)}


def _changed(how: Callable[..., Any], rate: float, record: str, generator: np.random.Generator) -> str:
    return how(record, rate, generator).record


def _corrupted(kind: str, level: int, record: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    normals = (3,) if record.shape[1] >= 6 else ()  # those of the sample
    return corrupt_points(record, kind, level, generator, normals).record


@torch.no_grad()
def answer(model: Model, task: Task, seed: int, multiple: int, damage: Damage) -> list[float]:
    """Right or wrong for each of 128 unseen records, damaged alike for every arm of a seed."""
    drawn = task.draw(RECORDS, seed, True, multiple)
    generator, scores = np.random.default_rng(seed), []
    for start in range(0, RECORDS, 8):
        tokens = [model.tokenize(damage(record, generator)) for record in drawn.records[start : start + 8]]
        truth = torch.as_tensor(np.asarray(drawn.labels[start : start + 8]))
        scores += score_records(model(stack(tokens)), truth).tolist()
    return scores


def run(name: str, arm: str, seed: int, material: Material, path: Path) -> dict[str, Any]:
    """Scores of one model by length and damage, from its file if it is there."""
    if path.exists():
        return json.loads(path.read_text())
    model, _ = train_cell(Cell(name, arm, seed, 1.0), material)
    asked = [(m, how, damage) for m in LENGTHS for how, damage in damages(material.task.domain).items()]
    scores: dict[str, dict[str, float]] = {str(m): {} for m in LENGTHS}
    for m, how, damage in tqdm(asked, desc=f"{name} {arm} {seed}", leave=False, disable=None):
        scores[str(m)][how] = float(np.mean(answer(model, material.task, seed, m, damage)))
    write(path, json.dumps(scores, indent=1) + "\n")
    return scores


def table(found: Mapping[str, list[dict[str, dict[str, float]]]]) -> str:
    """Mean over seeds: a row for each damage, a column for each length and arm."""
    heads = [f"{arm}, {m}x" for m in LENGTHS for arm in found]
    lines = ["| damage | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 1) + "|"]
    for how in next(iter(found.values()))[0][str(LENGTHS[0])]:
        means = [np.mean([one[str(m)][how] for one in found[arm]]) for m in LENGTHS for arm in found]
        lines.append(f"| {how} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return "\n".join(lines)


def errors(found: Mapping[str, list[dict[str, dict[str, float]]]]) -> str:
    """ModelNet-C's mean error for each arm and length, no reduction being 1, and what each corruption takes away."""
    lines = []
    for m in map(str, LENGTHS):
        told = {
            arm: {how: float(np.mean([one[m][how] for one in seeds])) for how in seeds[0][m]}
            for arm, seeds in found.items()
        }
        reached = {
            arm: Accuracies(
                one["none"], {k: float(np.mean([one[f"{k} {level}"] for level in range(1, 6)])) for k in POINTS}
            )
            for arm, one in told.items()
        }
        for arm, its in reached.items():
            whole = corruption_error(its, reached["none"])["mCE"]
            lost = ", ".join(f"{kind} {its.clean - share:.3f}" for kind, share in its.corrupted.items())
            lines.append(f"{arm}, {m}x: mCE {whole:.2f}; lost of {its.clean:.3f}: {lost}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--arms", default="none,fit log-n,cover")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/damage"))
    arguments = parser.parse_args()
    for name in arguments.tasks:
        task, arms = TASKS[name](), [arm.strip() for arm in arguments.arms.split(",")]
        found: dict[str, list[dict[str, dict[str, float]]]] = {arm: [] for arm in arms}
        for seed in range(arguments.seeds):
            material = Material(task, recipe_for(task), seed, lambda items, what: items)
            for arm in arms:
                path = arguments.out / f"{name}_{arm}_{seed}.json".replace("/", "-").replace(" ", "-")
                found[arm].append(run(name, arm, seed, material, path))
        print(f"{name}\n{table(found)}", flush=True)
        if task.domain == "points" and "none" in found:
            print(errors(found), flush=True)


if __name__ == "__main__":
    main()
