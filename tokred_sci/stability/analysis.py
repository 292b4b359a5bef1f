"""From the cells of a benchmark to what may be said: means with intervals, what was kept, who lies above whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokred_sci.errors import InputError
from tokred_sci.stability.benchmark import TUNING
from tokred_sci.stability.lengths import break_even, effective_length, slope_per_octave
from tokred_sci.stability.statistics import Interval, above, hierarchical_interval, retained_share
from tokred_sci.stability.training import lr_sensitivity

Told = Mapping[str, Any]
"""One cell, as `benchmark.run_cell` tells it."""
BESIDE = ("reference", "rival", "control")
"""Kinds of arms that merging is measured against."""
ENOUGH = 5
"""Seeds below which nothing is said to be better."""


@dataclass(frozen=True)
class Summary:
    """One arm over its seeds.

    Attributes:
        arm, kind: its name, and what it is there for.
        seeds: how many.
        multiples: lengths, in training lengths.
        scores: at each length the mean over seeds and records, with a 95 % interval over both (with one seed: records).
        kept: share of the score at the training length that is left at the longest, with its interval; None
            where some seed learnt nothing.
        leads: score at the longest length minus that of the reference, and of each rival and control, on the same
            records, with intervals, for the seeds that both have.
        slope: change of the score per doubling of length.
        effective: longest length up to which 85.6 % of the score stays.
        tokens: at the longest length, before the first block and after each.
        seconds, flops, peak_mb: of one record at each length; medians over seeds.
        break_even: from which length on it is no slower than the reference, in training lengths; None if it is not, or
            where there is none.
        training: mean seconds, final loss, spike score, largest loss ratio (None if not measured), share of
            runs that failed.
        layers: at each length, for each block, the measures of `representation.AtLayer`, means over seeds.
    """

    arm: str
    kind: str
    seeds: int
    multiples: tuple[int, ...]
    scores: tuple[Interval, ...]
    kept: Interval | None
    leads: dict[str, Interval]
    slope: float
    effective: int
    tokens: list[int]
    seconds: tuple[float, ...]
    break_even: float | None
    flops: tuple[float, ...]
    peak_mb: tuple[float | None, ...]
    training: dict[str, float | None]
    layers: list[list[dict[str, float]]]

    @property
    def lead(self) -> Interval | None:
        """Over the reference; None for itself, and where it was not run."""
        return self.leads.get("none")


def summarise(cells: Sequence[Told], chosen: Mapping[str, float] | None = None) -> list[Summary]:
    """One summary for each arm, in the order in which arms first appear.

    Args:
        cells: of one task; those of the tuning seed are left out.
        chosen: learning rate (a factor) of each arm; 1 where none is said.

    Raises:
        InputError: no cells, or cells of several tasks or lengths.
    """
    rates = chosen or {}
    cells = [cell for cell in cells if cell["seed"] != TUNING and cell["rate"] == rates.get(cell["arm"], 1.0)]
    if len({cell["task"] for cell in cells}) != 1 or len({_multiples(cell) for cell in cells}) != 1:
        raise InputError("Expected cells of one task with the same lengths (got none, or several).")
    arms: dict[str, list[Told]] = {}
    for cell in sorted(cells, key=lambda cell: cell["seed"]):
        arms.setdefault(cell["arm"], []).append(cell)
    return [_summary(found, arms) for found in arms.values()]


def _multiples(cell: Told) -> tuple[int, ...]:
    return tuple(at["multiple"] for at in cell["lengths"])


def _summary(cells: list[Told], arms: Mapping[str, list[Told]]) -> Summary:
    multiples, first = _multiples(cells[0]), cells[0]
    scores = tuple(_over_seeds([cell["lengths"][place]["scores"] for cell in cells]) for place in range(len(multiples)))
    means = [score.estimate for score in scores]
    others = {arm: found for arm, found in arms.items() if arm != first["arm"] and found[0]["kind"] in BESIDE}
    leads = {arm: lead for arm, found in others.items() if (lead := _lead(cells, found)) is not None}
    seconds = _medians(cells, "seconds")
    reference = arms.get("none")
    return Summary(
        first["arm"],
        first["kind"],
        len(cells),
        multiples,
        scores,
        _kept(cells),
        leads,
        slope_per_octave(multiples, means) if len(multiples) > 1 else 0.0,
        effective_length(multiples, means),
        first["lengths"][-1]["tokens"],
        seconds,
        break_even(multiples, seconds, _medians(reference, "seconds")) if reference else None,
        _medians(cells, "flops"),
        _medians(cells, "peak_mb") if all(at["peak_mb"] for cell in cells for at in cell["lengths"]) else (),
        _training(cells),
        [_layers([cell["lengths"][place]["layers"] for cell in cells]) for place in range(len(multiples))],
    )


def _over_seeds(scores: list[list[float]]) -> Interval:
    return hierarchical_interval(scores, resamples=2000)


def _kept(cells: list[Told]) -> Interval | None:
    long, short = ([cell["lengths"][place]["scores"] for cell in cells] for place in (-1, 0))
    try:
        return retained_share(long, short, resamples=2000)
    except InputError:  # there is nothing to keep
        return None


def _lead(cells: list[Told], other: list[Told]) -> Interval | None:
    """Differences record by record, for the seeds that both have."""
    theirs = {cell["seed"]: np.asarray(cell["lengths"][-1]["scores"]) for cell in other}
    pairs = [(np.asarray(c["lengths"][-1]["scores"]), theirs[c["seed"]]) for c in cells if c["seed"] in theirs]
    if not pairs or any(len(a) != len(b) for a, b in pairs):
        return None
    return _over_seeds([(a - b).tolist() for a, b in pairs])


def _medians(cells: list[Told], name: str) -> tuple[float, ...]:
    return tuple(np.median([[at[name] for at in cell["lengths"]] for cell in cells], axis=0).tolist())


def _training(cells: list[Told]) -> dict[str, float | None]:
    told: dict[str, float | None] = {}
    for name in ("seconds", "final_loss", "spike_score", "loss_ratio"):
        values = [cell["training"][name] for cell in cells if cell["training"][name] is not None]
        told[name] = float(np.mean(values)) if values else None
    told["failed"] = float(np.mean([cell["training"]["failed"] is not None for cell in cells]))
    return told


def _layers(found: list[list[dict[str, Any]]]) -> list[dict[str, float]]:
    """Means over seeds, block by block; what some seed could not measure is left out."""
    return [
        {name: float(np.mean([layer[name] for layer in block])) for name in block[0] if _whole(block, name)}
        for block in zip(*found, strict=True)
    ]


def _whole(block: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(layer[name] is not None for layer in block)


def winners(summaries: Sequence[Summary], share: float = 0.95) -> list[str]:
    """Arms that merge by looking and meet the goal at the longest length.

    They keep at least `share` of their score, and their interval lies above those of the reference and of every rival
    and control; all of `ENOUGH` seeds or more, and a reference among them.
    """
    if min(s.seeds for s in summaries) < ENOUGH or not any(s.kind == "reference" for s in summaries):
        return []
    others = [s.scores[-1] for s in summaries if s.kind in BESIDE]
    return [
        s.arm
        for s in summaries
        if s.kind in ("graph", "density", "variant")
        and s.kept is not None
        and s.kept.estimate >= share
        and all(above(s.scores[-1], other) for other in others)
    ]


def sensitivity(cells: Sequence[Told], arm: str) -> tuple[list[float], list[float], float] | None:
    """How an arm's loss at the longest length depends on the learning rate.

    Returns:
        rates, loss at each (mean over the seeds that ran at all of them, NaN where training failed), and
        `lr_sensitivity`; None with fewer than three rates.
    """
    mine = [cell for cell in cells if cell["arm"] == arm]
    rates = sorted({cell["rate"] for cell in mine})
    seeds = [s for s in {cell["seed"] for cell in mine} if {c["rate"] for c in mine if c["seed"] == s} >= set(rates)]
    if len(rates) < 3 or not seeds:
        return None
    losses = []
    for rate in rates:
        found = [cell for cell in mine if cell["rate"] == rate and cell["seed"] in seeds]
        failed = any(cell["training"]["failed"] for cell in found)
        losses.append(float("nan") if failed else float(np.mean([cell["lengths"][-1]["loss"] for cell in found])))
    peak = mine[0]["recipe"]["train"]["learning_rate"]
    chance = float(np.log(max(2, mine[0]["config"]["outputs"])))
    return [rate * peak for rate in rates], losses, lr_sensitivity(rates, losses, chance)
