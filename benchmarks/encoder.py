"""Time and memory of the whole model at great lengths, with and without merging: bases, points and samples.

    python benchmarks/encoder.py                      # everything: about 20 minutes
    python benchmarks/encoder.py --quick              # small sizes: about a minute; its ratios say little
    python benchmarks/encoder.py --only dna,pairs     # some parts; rows of the others stay in the csv
    python benchmarks/encoder.py --into docs/long.md  # nothing is run: puts tables and figure of the csv into the page

What is measured: embedding, encoder and head, from tokens to an answer for every element (tokenizing is not in it), and
one step of training: forward, loss, backward, AdamW, with freed memory kept, as `fit` does for any model. The model is
the library's at its defaults (width 64, 4 blocks, 4 heads), with windows of 16 tokens to each side before block 1
merges to 256 tokens. Weights and inputs are random: cost does not depend on them.

- Lengths: every measurement in a process of its own, after a small run; the fastest of three runs counts. Memory is the
  largest resident memory of the first run, less what it was before: inputs and weights are not counted. A process may
  have 8 GB and 60 s a run; a model that needs more is not tried at greater lengths.
- Pairs: with and without merging in turns in one process, A B A B, the fastest run of each counts; for models of width
  64, 256 and 512 (64 for each head). FLOPs are those of matrix products, convolutions and attention in the same runs;
  what only adds, copies or sorts is not in them.
- The slope is that of least squares through log(time) against log(length) over the last three octaves.

On a busy machine, `--threads 1 --clock cpu` takes the process's own seconds, which others change little.
Targets are printed with "yes" or "no", never asserted.
"""

import argparse
import ctypes
import gc
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import date
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any

import numpy as np
import sheet
import torch
from sheet import Row
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from tqdm import tqdm

from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.plotting import COLOURS
from tokred_sci.stability.lengths import peak, reset_peak
from tokred_sci.tokens import Tokens
from tokred_sci.training.memory import keep_memory

FIELDS = ("run", "load", "part", "arm", "task", "width", "elements", "tokens", "seconds", "mb", "flops", "note")
NUMBERS = ("load", "width", "elements", "tokens", "seconds", "mb", "flops")
KEEP, OUTPUTS = 256, 2
WIDTHS = {64: 4, 256: 4, 512: 8}  # heads for each
LIMIT = 60.0  # seconds a run
MEMORY = 8 << 30  # bytes a process
OCTAVES = 3  # that the slope is taken over
SLOPE, SHARE = 1.1, 0.9  # targets: at most, at least
TASKS = ("answer", "training")
Run = Callable[[], Any]


@dataclass(frozen=True)
class Domain:
    """A domain at its full length.

    Args:
        full: elements of the longest record.
        elements: what they are called.
        config: of the model, without the merging step.
        merging: what merges, by the arm's name.
        make: a record of so many elements.
    """

    full: int
    elements: str
    config: ModelConfig
    merging: dict[str, Reduce]
    make: Callable[[np.random.Generator, int], Any]


def letters(random: np.random.Generator, count: int) -> str:
    return np.frombuffer(b"ACGT", np.uint8)[random.integers(0, 4, count)].tobytes().decode()


def sphere(random: np.random.Generator, count: int) -> np.ndarray:
    """Points on a sphere of radius 1."""
    points = random.standard_normal((count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def walk(random: np.random.Generator, count: int) -> np.ndarray:
    return random.standard_normal(count).cumsum()


LINKS = {"links": Reduce(block=1, method="links", keep=KEEP)}
PEAKS = {"peaks in windows": Reduce(block=1, method="peaks", keep=KEEP, window=64)}
PLAIN = {"domain": "", "head": "per-element", "outputs": OUTPUTS, "window": 16}
DOMAINS = {
    "dna": Domain(
        1 << 20,
        "bases",
        ModelConfig(**{**PLAIN, "domain": "dna"}, tokenizer={"patch": 16, "compact": True}, unit=16.0),
        LINKS | PEAKS,
        letters,
    ),
    "points": Domain(
        1_000_000,
        "points",
        ModelConfig(
            **{**PLAIN, "domain": "points"},
            tokenizer={"ratio": 1 / 16, "neighbours": 16, "method": "runs"},
            unit=0.01,
        ),
        PEAKS,
        sphere,
    ),
    "series": Domain(
        1 << 24,
        "samples",
        ModelConfig(**{**PLAIN, "domain": "series"}, tokenizer={"patch": 64}, unit=64.0),
        LINKS,
        walk,
    ),
}
NONE = "windows, then all"  # no reduction: the same windows in blocks 0 and 1, then every token sees every token
ALL = "all, everywhere"
ONLY_WINDOWS = "windows, everywhere"  # linear without merging, but no token ever sees beyond 64 others


def model(domain: Domain, arm: str, width: int) -> Model:
    config = replace(domain.config, dim=width, heads=WIDTHS[width])
    if arm in domain.merging:
        return Model(replace(config, reduce=(domain.merging[arm],)))
    if arm == NONE:
        return Model(replace(config, reduce=(Reduce(block=1, method="none", keep=1.0),)))
    return Model(replace(config, window=None) if arm == ALL else config)


def arms(name: str) -> list[str]:
    """Arms of a domain: no reduction in all its forms for DNA, elsewhere one."""
    rest = [ONLY_WINDOWS, NONE, ALL] if name == "dna" else [NONE]
    return [*DOMAINS[name].merging, *rest]


def lengths(domain: Domain, quick: bool) -> list[int]:
    """From a 64th of the full length, or in a hurry a 1024th, to the full length, by octaves."""
    last = 6 if quick else 0
    return [domain.full >> k for k in range(last + 4 if quick else 6, last - 1, -1)]


def tokenize(domain: Domain, count: int) -> Tokens:
    return Model(domain.config).tokenize(domain.make(np.random.default_rng(0), count))


def answering(network: Model, tokens: Tokens) -> Run:
    """The forward pass alone."""
    return torch.no_grad()(lambda: network(tokens))


def training(network: Model, tokens: Tokens) -> Run:
    """One step: forward, cross-entropy at every element, backward, AdamW."""
    optimiser = torch.optim.AdamW(network.parameters())
    targets = torch.randint(OUTPUTS, tokens.source.shape, generator=torch.Generator().manual_seed(0))

    def run() -> None:
        loss = torch.nn.functional.cross_entropy(network(tokens).flatten(0, 1), targets.flatten())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return run


def build(name: str, arm: str, task: str, count: int, width: int = 64) -> tuple[Run, int]:
    """What is timed, and the number of tokens."""
    tokens = tokenize(DOMAINS[name], count)
    network = model(DOMAINS[name], arm, width).train(task == "training")
    return (training if task == "training" else answering)(network, tokens), tokens.sizes.shape[1]


def timed(run: Run, clock: str) -> float:
    """Seconds of a run: on the wall, or of the processor, all threads together."""
    now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    start = now()
    run()
    return now() - start


def count_flops(run: Run) -> float:
    """FLOPs of one run, as torch counts them, and by its own formula for attention on a CPU, which it leaves out."""
    ops = torch.ops.aten
    attention = {
        ops._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        ops._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: (
            sdpa_backward_flop_count(grad, q, k, v)
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=attention) as counter:
        run()
    return float(counter.get_total_flops())


def limit_memory() -> None:
    """Let an allocation that is too large fail in this process, before the machine feels it."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def trim() -> None:
    """Give freed memory back to the system, so that the peak counts all that is taken."""
    gc.collect()
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


def measure(pipe: Any, args: argparse.Namespace, name: str, arm: str, task: str, count: int) -> None:
    """Tokens, memory and time of one arm, sent down a pipe; "ready" goes ahead when all is set up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops this process
    torch.set_num_threads(args.threads)
    limit_memory()
    try:
        build(name, arm, task, 4096)[0]()
        run, tokens = build(name, arm, task, count)
        trim()
        before = peak() if reset_peak() else None
        pipe.send("ready")
        with keep_memory() if task == "training" else nullcontext():
            seconds = [timed(run, args.clock)]
            row: Row = {"tokens": tokens, "mb": None if before is None else peak() - before}
            while len(seconds) < args.rounds and sum(seconds) < LIMIT / 4:
                seconds.append(timed(run, args.clock))
        pipe.send(row | {"seconds": min(seconds)})
    except (MemoryError, RuntimeError) as error:
        full = "memory" in str(error) or isinstance(error, MemoryError)
        pipe.send({"note": f"over {MEMORY >> 30} GB" if full else f"failed: {error}"})


def measured(*arguments: Any) -> Row:
    """`measure` in a fresh process, stopped when a run takes too long."""
    context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=measure, args=(sender, *arguments), daemon=True)
    child.start()
    sender.close()
    try:
        answer = receiver.recv()  # tokenizing has no limit
        if answer == "ready":
            first = receiver.poll(2 * LIMIT)
            answer = receiver.recv() if first else {"note": f"over {LIMIT:g} s"}
        return answer if answer.get("seconds", 0) <= LIMIT else {"note": f"over {LIMIT:g} s"}
    except EOFError:
        return {"note": "the process died (out of memory?)"}
    finally:
        child.kill()
        child.join()


def measure_lengths(name: str, args: argparse.Namespace) -> Iterator[Row]:
    """Every arm of a domain at every length, until one is too long for it."""
    tried = [(arm, task) for arm in arms(name) for task in TASKS if task == "answer" or arm != ONLY_WINDOWS]
    for arm, task in tried:
        ended = None
        for count in lengths(DOMAINS[name], args.quick):
            row = {"note": ended} if ended else measured(args, name, arm, task, count)
            ended = row.get("note")
            yield {"part": name, "arm": arm, "task": task, "elements": count, **row}


def measure_pairs(args: argparse.Namespace) -> Iterator[Row]:
    """With and without merging in turns, on DNA of 16,384 tokens."""
    for width in list(WIDTHS)[: 1 if args.quick else None]:
        for task in TASKS:
            yield from measure_pair(args, width, task, 1 << 13 if args.quick else 1 << 18)


def measure_pair(args: argparse.Namespace, width: int, task: str, count: int) -> Iterator[Row]:
    names = [*DOMAINS["dna"].merging, NONE, ALL]
    built = [build("dna", arm, task, count, width) for arm in names]
    best = [math.inf] * len(names)
    with keep_memory() if task == "training" else nullcontext():
        for _ in range(args.rounds):
            best = [min(fastest, timed(run, args.clock)) for fastest, (run, _) in zip(best, built, strict=True)]
    row = {"part": "pairs", "task": task, "width": width, "elements": count}
    for arm, seconds, (run, tokens) in zip(names, best, built, strict=True):
        yield {**row, "arm": arm, "tokens": tokens, "seconds": seconds, "flops": count_flops(run)}


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "pairs": measure_pairs,
    **{name: (lambda args, name=name: measure_lengths(name, args)) for name in DOMAINS},
}


def run_all(args: argparse.Namespace, path: Path) -> None:
    """Measure the parts asked for; rows of others stay, and each is written at once."""
    rows = [row for row in sheet.read(path, NUMBERS) if row["part"] not in args.only] if path.exists() else []
    for part in args.only:
        for row in (bar := tqdm(PARTS[part](args), desc=part, unit="row")):
            bar.set_postfix_str(f"{row['arm']}, {row['task']}, {row['elements']:,}")
            rows.append(row | {"run": args.run, "load": os.getloadavg()[0]})
            sheet.write(rows, FIELDS, path)


def slope(rows: list[Row], field: str = "seconds") -> float | None:
    """Of log(field) against log(elements) over the last octaves; None where there are too few lengths."""
    last = sorted((row for row in rows if row[field]), key=lambda row: row["elements"])[-OCTAVES - 1 :]
    if len(last) <= OCTAVES:
        return None
    x, y = (torch.tensor([row[key] for row in last], dtype=torch.float64).log() for key in ("elements", field))
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def verdict(good: bool, quick: bool) -> str:
    return "" if quick else "yes" if good else "no"


def length_table(rows: list[Row]) -> list[str]:
    """Seconds / MB for each arm and length of one domain, with the slope of what is linear."""
    name = rows[0]["part"]
    counts = sorted({int(row["elements"]) for row in rows})
    head = ["", *(f"{count:,}" for count in counts), f"slope of time, at most {SLOPE}", "of memory"]
    lines = [f"## {DOMAINS[name].elements.capitalize()}: seconds / MB", "", line(head), "|---" * len(head) + "|"]
    for arm, task in dict.fromkeys((row["arm"], row["task"]) for row in rows):
        mine = {int(row["elements"]): row for row in rows if (row["arm"], row["task"]) == (arm, task)}
        cells = [told(mine.get(count)) for count in counts]
        quick = any("quick" in row["run"] for row in mine.values())
        steep, wide = (slope(list(mine.values()), field) for field in ("seconds", "mb"))
        ours = arm in DOMAINS[name].merging and steep is not None
        met = f": {verdict(steep <= SLOPE, quick)}" if ours and steep is not None and not quick else ""
        lines.append(line([f"{arm}, {task}", *cells, f"{sheet.number(steep)}{met}", sheet.number(wide)]))
    return [*lines, ""]


def told(row: Row | None) -> str:
    if row is None:
        return ""
    return row["note"] or f"{sheet.number(row['seconds'])} / {sheet.number(row['mb'])}"


def pair_table(rows: list[Row]) -> list[str]:
    """How many times as fast as no reduction, beside what the FLOPs promise."""
    first = rows[0]
    head = [
        "width",
        "merging",
        "against",
        "task",
        "s",
        "s without",
        "times as fast",
        "FLOPs promise",
        f"share, {SHARE} at least",
    ]
    title = f"## Speed-up at {int(first['tokens']):,} tokens ({int(first['elements']):,} bases)"
    lines = [title, "", line(head), "|---" * len(head) + "|"]
    for width, task in dict.fromkeys((int(row["width"]), row["task"]) for row in rows):
        of = {row["arm"]: row for row in rows if (row["width"], row["task"]) == (width, task)}
        for arm in DOMAINS["dna"].merging:
            for other in (name for name in (NONE, ALL) if {name, arm} <= of.keys()):
                mine, peer = of[arm], of[other]
                fast, promised = (peer[key] / mine[key] for key in ("seconds", "flops"))
                share = f"{fast / promised:.2f}: {verdict(fast / promised >= SHARE, 'quick' in first['run'])}"
                times = map(sheet.number, (mine["seconds"], peer["seconds"], fast, promised))
                lines.append(line([str(width), arm, other, task, *times, share]))
    return [*lines, ""]


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def report(rows: list[Row]) -> str:
    """All tables as Markdown."""
    runs = [f"- {run}" for run in dict.fromkeys(row["run"] for row in rows)]
    lines = [*sheet.machine(["torch", "numpy"]), *runs, sheet.load(rows), ""]
    for part in PARTS:
        if mine := [row for row in rows if row["part"] == part]:
            lines += pair_table(mine) if part == "pairs" else length_table(mine)
    return "\n".join(lines)


def figure(rows: list[Row], path: Path) -> None:
    """Time above and memory below against length: merging in colour, no reduction in grey; training dashed."""
    from matplotlib.figure import Figure

    names = [name for name in DOMAINS if any(row["part"] == name for row in rows)]
    if not names:  # pairs only
        return
    drawing = Figure(figsize=(4.2 * max(1, len(names)), 7), layout="constrained", dpi=120)
    panels = drawing.subplots(2, len(names), squeeze=False, sharey="row")
    shown = dict(zip((*LINKS, *PEAKS), COLOURS, strict=False)) | {
        NONE: "#777777",
        ALL: "black",
        ONLY_WINDOWS: "#bbbbbb",
    }
    labels = {}
    for column, name in enumerate(names):
        for axes, field in zip(panels[:, column], ("seconds", "mb"), strict=True):
            for arm, task in dict.fromkeys((row["arm"], row["task"]) for row in rows if row["part"] == name):
                mine = [r for r in rows if (r["part"], r["arm"], r["task"]) == (name, arm, task) and r[field]]
                style = "-" if task == "answer" else "--"
                x, y = ([row[key] for row in mine] for key in ("elements", field))
                (labels[f"{arm}, {task}"],) = axes.plot(x, y, style, color=shown[arm], marker=".")
            axes.set(xscale="log", yscale="log", xlabel=DOMAINS[name].elements)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("seconds")
    panels[1, 0].set_ylabel("largest extra memory, MB")
    drawing.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    drawing.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), help="parts, with commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--into", type=Path, help="put tables and figure of the csv into this page, run nothing")
    args = parser.parse_args()
    if unknown := set(args.only) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    args.run = (
        f"{sheet.commit()}, {date.today()}, threads used: {args.threads}, {args.clock} time" + ", quick" * args.quick
    )
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "encoder.csv"
    torch.set_num_threads(args.threads)
    if args.into is None:
        run_all(args, path)
    rows = sheet.read(path, NUMBERS)
    if args.into:
        sheet.put(report(rows), args.into, "benchmarks/encoder.py")
        figure(rows, args.into.parent / "images" / "encoder.png")
    else:
        path.with_suffix(".md").write_text(report(rows))
        figure(rows, path.with_suffix(".png"))
        print(report(rows))


if __name__ == "__main__":
    main()
