"""What a benchmark found, to look at: tables, figures and one HTML page."""

import json
from collections.abc import Mapping, Sequence
from itertools import cycle
from math import isfinite
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tokred_sci import report
from tokred_sci.plotting.colours import COLOURS, MARKERS
from tokred_sci.stability.analysis import ENOUGH, Summary, sensitivity, winners
from tokred_sci.stability.tasks import Task

HEADER = ["arm", "kind", "seeds"]
LINES = {"reference": "--", "rival": "-.", "control": ":", "graph": "-", "density": "-", "variant": "-"}
HUES = {"reference": ["#333333"], "rival": [COLOURS[5], COLOURS[0], COLOURS[6], COLOURS[3]], "control": ["#999999"]}
MERGED = ("graph", "density", "variant")
MERGING = [COLOURS[1], COLOURS[2], COLOURS[4], COLOURS[7]]
LAYERS = {
    "entropy_share": "attention entropy / log(tokens)",
    "largest": "largest attention weight",
    "effective_rank": "effective rank of the states",
    "high_frequency_share": "share of states that is not their mean",
}


def table(summaries: Sequence[Summary]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: scores with intervals at every length, what was kept, and cost at the longest."""
    longest = summaries[0].multiples[-1]
    head = [*HEADER, *(f"{m}x" for m in summaries[0].multiples), f"kept at {longest}x", f"above none at {longest}x"]
    head += [f"tokens at {longest}x", f"ms at {longest}x", "no slower than none from", f"GFLOPs at {longest}x"]
    head += ["training s"]
    return head, [_row(summary) for summary in summaries]


def _row(summary: Summary) -> list[str]:
    return [
        summary.arm,
        summary.kind,
        str(summary.seeds),
        *(f"{at.estimate:.3f} [{at.low:.3f}, {at.high:.3f}]" for at in summary.scores),
        ""
        if summary.kept is None
        else f"{summary.kept.estimate:.2f} [{summary.kept.low:.2f}, {summary.kept.high:.2f}]",
        ""
        if summary.lead is None
        else f"{summary.lead.estimate:+.3f} [{summary.lead.low:+.3f}, {summary.lead.high:+.3f}]",
        " > ".join(map(str, dict.fromkeys(summary.tokens))),
        f"{1000 * summary.seconds[-1]:.1f}",
        "" if summary.break_even is None or summary.kind in ("reference", "rival") else f"{summary.break_even:.1f}x",
        f"{summary.flops[-1] / 1e9:.2f}",
        f"{summary.training['seconds']:.0f}",
    ]


def as_markdown(summaries: Sequence[Summary]) -> str:
    """The table for a page of text: intervals at the longest length only, the figure has the others."""
    head, rows = table(summaries)
    middle = range(len(HEADER), len(HEADER) + len(summaries[0].multiples) - 1)
    for row, summary in zip(rows, summaries, strict=True):
        for column, at in zip(middle, summary.scores, strict=False):
            row[column] = f"{at.estimate:.3f}"
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def as_text(summaries: Sequence[Summary]) -> str:
    """Means at every length and what was kept, for a terminal."""
    head = ["arm", *(f"{m}x" for m in summaries[0].multiples), "kept", "tokens", "ms"]
    rows = [
        [
            s.arm,
            *(f"{at.estimate:.3f}" for at in s.scores),
            "" if s.kept is None else f"{s.kept.estimate:.2f}",
            str(s.tokens[-1]),
            f"{1000 * s.seconds[-1]:.1f}",
        ]
        for s in summaries
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    )


def styles(summaries: Sequence[Summary]) -> dict[str, dict[str, Any]]:
    """Colour, line and marker of each arm: line and family of colours say what kind it is."""
    families = {kind: cycle(HUES.get(kind, MERGING)) for kind in LINES} | dict.fromkeys(MERGED, cycle(MERGING))
    markers = cycle(MARKERS)
    return {
        summary.arm: {
            "color": next(families[summary.kind]),
            "linestyle": LINES[summary.kind],
            "marker": next(markers),
            "markersize": 4,
        }
        for summary in summaries
    }


def curves(task: Task, summaries: Sequence[Summary]) -> Figure:
    """Score and cost against length, with 95 % intervals."""
    figure = Figure(figsize=(10.5, 4.4), layout="constrained", dpi=110)
    left, right = figure.subplots(1, 2)
    look = styles(summaries)
    _draw_scores(left, task, summaries, look)
    for summary, x in zip(summaries, _lengths(task, summaries), strict=True):
        cost = [1e6 * seconds / at for seconds, at in zip(summary.seconds, x, strict=True)]
        right.plot(x, cost, linewidth=1.3, **look[summary.arm])
    right.set(title="cost of an element", ylabel=f"microseconds per {task.unit.removesuffix('s')}", ylim=(0, None))
    _mark_lengths(right, task, summaries)
    figure.legend(loc="outside lower center", ncols=6, fontsize=8)
    return figure


def overview(found: Mapping[str, tuple[Task, Sequence[Summary]]]) -> Figure:
    """Score against length, one panel for each task; arms look alike in all of them."""
    figure = Figure(figsize=(4.4 * len(found), 4.2), layout="constrained", dpi=110)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    look = styles(list({summary.arm: summary for _, summaries in found.values() for summary in summaries}.values()))
    drawn: dict[str, Any] = {}
    for axes, (task, summaries) in zip(panels, found.values(), strict=True):
        _draw_scores(axes, task, summaries, look)
        axes.title.set_fontsize(10)
        drawn |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(list(drawn.values()), list(drawn), loc="outside lower center", ncols=9, fontsize=8)
    return figure


def _draw_scores(axes: Any, task: Task, summaries: Sequence[Summary], look: Mapping[str, dict[str, Any]]) -> None:
    for summary, x in zip(summaries, _lengths(task, summaries), strict=True):
        y = [at.estimate for at in summary.scores]
        error = [[at.estimate - at.low for at in summary.scores], [at.high - at.estimate for at in summary.scores]]
        style = look[summary.arm]
        axes.errorbar(x, y, yerr=error, capsize=2, elinewidth=0.7, linewidth=1.3, label=summary.arm, **style)
    if task.classes and task.answer == "classify":
        axes.axhline(1 / len(task.classes), color="#BBBBBB", linewidth=1)
    axes.set(title=task.question, ylabel="score on unseen data", ylim=(None, 1.02))
    _mark_lengths(axes, task, summaries)


def _lengths(task: Task, summaries: Sequence[Summary]) -> list[list[float]]:
    """Where each arm's points are drawn: at its lengths, a little apart from those of the others."""
    middle = len(summaries) / 2
    return [[m * task.length * 1.015 ** (at - middle) for m in one.multiples] for at, one in enumerate(summaries)]


def _mark_lengths(axes: Any, task: Task, summaries: Sequence[Summary]) -> None:
    axes.set_xscale("log", base=2)
    ticks = [multiple * task.length for multiple in summaries[0].multiples]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8)
    axes.set_xlabel(f"{task.unit} per record (trained at {task.length:,})")
    _bare(axes)


def trade(summaries: Sequence[Summary]) -> Figure:
    """Score at the longest length against what a record costs there."""
    figure = Figure(figsize=(7, 4.2), layout="constrained", dpi=110)
    axes = figure.subplots()
    look = styles(summaries)
    for summary in summaries:
        at, style = summary.scores[-1], look[summary.arm]
        error = [[at.estimate - at.low], [at.high - at.estimate]]
        point = {"fmt": style["marker"], "color": style["color"], "markersize": 6}
        axes.errorbar([summary.flops[-1] / 1e9], [at.estimate], yerr=error, capsize=2, elinewidth=0.7, **point)
    axes.set(
        xlabel=f"GFLOPs a record at {summaries[0].multiples[-1]} times the length", ylabel="score there", xlim=(0, None)
    )
    _bare(axes)
    _name_points(axes, summaries)
    return figure


def inside(summaries: Sequence[Summary]) -> Figure:
    """What becomes of attention and of the states in the last block as records grow."""
    figure = Figure(figsize=(10.5, 5.6), layout="constrained", dpi=110)
    panels = figure.subplots(2, 2).ravel()
    look = styles(summaries)
    for summary in summaries:
        for axes, name in zip(panels, LAYERS, strict=True):
            values = [at[-1].get(name, float("nan")) for at in summary.layers]
            axes.plot(summary.multiples, values, linewidth=1.3, label=summary.arm, **look[summary.arm])
    for axes, title in zip(panels, LAYERS.values(), strict=True):
        axes.set(title=title, ylim=(0, None))
        axes.set_xscale("log", base=2)
        axes.set_xticks(summaries[0].multiples, [f"{m}x" for m in summaries[0].multiples])
        _bare(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)
    return figure


def rates(cells: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Loss at the longest length against the learning rate; None where no arm ran at three or more rates."""
    found = _sensitive(cells)
    if not found:
        return None
    figure = Figure(figsize=(7, 4.2), layout="constrained", dpi=110)
    axes = figure.subplots()
    for place, (arm, (tried, losses, value)) in enumerate(found.items()):
        style: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        axes.plot(tried, losses, label=f"{arm}: sensitivity {value:.2f}", **style)
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss at the longest length")
    axes.legend(fontsize=8)
    _bare(axes)
    return figure


def _bare(axes: Any) -> None:
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _name_points(axes: Any, summaries: Sequence[Summary], line: float = 10.0) -> None:
    """The name of every arm beside its point; names that would lie on one another go down a line each."""
    points = {s.arm: (s.flops[-1] / 1e9, s.scores[-1].estimate) for s in summaries}
    scale = 72 / axes.figure.dpi
    taken: list[tuple[float, float]] = []
    for arm, point in sorted(points.items(), key=lambda item: -item[1][1]):
        x, y = axes.transData.transform(point) * scale
        low = min((above - line for left, above in taken if abs(left - x) < 60), default=y)
        taken.append((x, min(y, low)))
        axes.annotate(arm, point, (7, taken[-1][1] - y - 3), textcoords="offset points", fontsize=8)


def verdict(summaries: Sequence[Summary]) -> str:
    """In a sentence or two, whether the goal was met here."""
    found, longest = winners(summaries), summaries[0].multiples[-1]
    least, most = min(summary.seeds for summary in summaries), max(summary.seeds for summary in summaries)
    seeds = f"{least}" if least == most else f"{least} to {most}"
    if least < ENOUGH:
        return f"No verdict: of some arm there are {least} seeds, and {ENOUGH} are needed."
    if not found:
        return (
            f"No way of merging keeps 95 % of its score at {longest} times the training length with an interval above "
            f"those of no reduction, of every rival and of every control here ({seeds} seeds)."
        )
    told = [
        f"At {longest} times the training length at least 95 % of its score is kept by {', '.join(found)}, with an "
        f"interval above those of no reduction, of every rival and of every control here ({seeds} seeds)."
    ]
    for summary in summaries:
        if summary.arm in found and summary.leads:
            nearest, lead = min(summary.leads.items(), key=lambda item: item[1].estimate)
            told.append(f"On the same records {summary.arm} is ahead of the next, {nearest}, by {lead}.")
    return " ".join(told)


def save(
    folder: str | Path, found: Mapping[str, tuple[Task, Sequence[Summary], Sequence[Mapping[str, Any]]]], command: str
) -> list[Path]:
    """`results.json`, `table.md`, figures for each task (and one for all) and `report.html`, each whole or not at all.

    Args:
        folder: where to.
        found: task name -> the task, its summaries and its cells.
        command: that made it.
    """
    folder = Path(folder)
    page = report.Page("Stability against length")
    page.text(f"Made by: {command}. Intervals: 95 %, bootstrap over seeds and test records.")
    files: dict[str, str | bytes] = {}
    text = []
    if len(found) > 1:
        together = overview({name: (task, summaries) for name, (task, summaries, _) in found.items()})
        page.figure(together, "score against length, all tasks")
        files["overview.png"] = report.png(together)
    for name, (task, summaries, cells) in found.items():
        stem = name.replace("/", "-")
        page.heading(f"{name}: {task.question}")
        page.text(f"What grows is {task.growth}. Trained at {task.length:,} {task.unit}. {verdict(summaries)}")
        figures = {"curves": curves(task, summaries), "trade": trade(summaries), "inside": inside(summaries)}
        if (sensitive := rates(cells)) is not None:
            figures["rates"] = sensitive
        for kind, figure in figures.items():
            page.figure(figure, f"{name}: {kind}")
            files[f"{stem}-{kind}.png"] = report.png(figure)
        page.table(*table(summaries))
        text.append(f"## {name}\n\n{verdict(summaries)}\n\n{as_markdown(summaries)}")
    told = {name: [plain(summary) for summary in summaries] for name, (_, summaries, _) in found.items()}
    tried = {name: sensitivities(cells) for name, (_, _, cells) in found.items()}
    results = {"command": command, "tasks": told, "learning_rates": tried}
    files["results.json"] = json.dumps(results, indent=1, allow_nan=False) + "\n"
    files["table.md"] = "\n".join(text)
    files["report.html"] = page.html()
    for name, content in files.items():
        report.write(folder / name, content)
    return [folder / name for name in files]


def plain(summary: Summary) -> dict[str, Any]:
    """As JSON has it."""
    told = {name: getattr(summary, name) for name in summary.__dataclass_fields__}
    told["scores"] = [at._asdict() for at in summary.scores]
    told["kept"] = summary.kept._asdict() if summary.kept else None
    told["leads"] = {arm: lead._asdict() for arm, lead in summary.leads.items()}
    return told


def sensitivities(cells: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each arm that ran at three or more learning rates these, its losses (None: failed) and the sensitivity."""
    return {
        arm: {"rates": tried, "losses": [loss if isfinite(loss) else None for loss in losses], "sensitivity": value}
        for arm, (tried, losses, value) in _sensitive(cells).items()
    }


def _sensitive(cells: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[float], list[float], float]]:
    return {arm: told for arm in dict.fromkeys(cell["arm"] for cell in cells) if (told := sensitivity(cells, arm))}
