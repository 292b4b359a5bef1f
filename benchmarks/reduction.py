"""Time, memory and error of every grouping method, beside plain published forms and other libraries, on a CPU.

    python benchmarks/reduction.py            # everything: about half an hour
    python benchmarks/reduction.py --quick    # small sizes: about two minutes; its ratios say little

Half of the tokens are kept throughout. How it is measured:

- Pairs (at 16,384 tokens of width 256): ours and the peer take turns in one process, A B A B, so that whatever else the
  machine does hits both; the fastest run of each counts. The allocator is told to reuse freed blocks of up to 32 MB:
  by itself it does so or not, depending on what ran before, and a copy of the input takes 1 or 4 ms (page faults).
- Lengths (width 64): every method at every length in a process of its own; the fastest run counts.
- Memory: each contestant in a fresh process: largest resident memory during its first run at full size, less the memory
  before it (a small run has loaded what there is to load). Inputs are not counted.
- Error: ||x - unmerge(merge(x))|| / ||x|| on random / clustered / smooth tokens.

Targets are printed with "yes" or "no", never asserted. Peers that are not installed are named as such (pip: tomesd).
"""

import argparse
import csv
import ctypes
import gc
import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import reference
import sheet
import torch
import torch.nn.functional as F
from sheet import Row
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from tokred_sci.errors import InputError
from tokred_sci.experiment import REDUCTIONS
from tokred_sci.methods import methods
from tokred_sci.plotting import COLOURS
from tokred_sci.reduction.merge import merge, unmerge
from tokred_sci.reduction.where import windows, within
from tokred_sci.stability.lengths import peak, reset_peak
from tokred_sci.tokens import Grouping, Tokens

PACKAGES = ("torch", "numpy", "scikit-learn", "torch-geometric", "tomesd")
KINDS = ("random", "clusters", "smooth")
GLOBAL = {method.name for method in methods() if method.reach == "global"} - {"topk"}  # these get a form in windows
WINDOW = 64
SHOWN = dict(
    zip(("links", "bipartite", "peaks", "agglomerative", "voxel", "knn"), COLOURS, strict=False)
)  # in the figure
SLOW = 8.0  # seconds: a method that took longer is not tried at larger lengths
LIMIT = 60.0  # seconds: a process that takes longer, its start included, is stopped
FIELDS = (
    *("run", "part", "name", "peer", "tokens", "width", "ms", "peer_ms", "speed", "mb", "peer_mb"),
    *("error", "peer_error", "target", "met", "note"),
)
NUMBERS = ("tokens", "ms", "peer_ms", "speed", "mb", "peer_mb")
Build = Callable[[Tensor], Callable[[], Any]]
"""From tokens (N, D) to what is timed; where that returns labels (N,), their error is measured too."""


class UnavailableError(Exception):
    """This version, or this environment, has no such thing."""


def library(name: str, **options: Any) -> Callable[..., Grouping]:
    """A grouping function of the library with its options filled in."""
    return partial(REDUCTIONS[name], **options)


def tokens_of(x: Tensor) -> Tokens:
    """One record of tokens of size 1, each at its place."""
    place = torch.arange(len(x))
    return Tokens(x[None], place.double()[None, :, None], torch.ones(1, len(x)), place[None])


def kept(x: Tensor) -> int:
    return (len(x) + 1) // 2


def ours(name: str, windowed: bool = False, **options: Any) -> Build:
    """A grouping function of the library, in consecutive windows of 64 tokens if asked."""

    def build(x: Tensor) -> Callable[[], Tensor]:
        function = library(name, **options)
        if windowed:
            function = within(function, windows(WINDOW))
        tokens = tokens_of(x)
        return lambda: function(tokens.features, tokens, kept(x)).labels[0]

    return build


def plain(function: Callable[[Tensor, int], Tensor]) -> Build:
    """A function of `reference.py`."""
    return lambda x: lambda: function(x, kept(x))


def copy(x: Tensor) -> Callable[[], Tensor]:
    """A copy of the input: the floor."""
    return x.clone


def tomesd(x: Tensor) -> Callable[[], Tensor]:
    """Tokens as rows of 32; sx=2, sy=1 without randomness: of each pair the first stays, all others leave."""
    try:
        from tomesd.merge import bipartite_soft_matching_random2d as match
    except ImportError as error:
        raise UnavailableError("not installed") from error
    index = torch.arange(kept(x), dtype=torch.float32)[None, :, None]

    def run() -> Tensor:
        _, spread = match(x[None], w=32, h=len(x) // 32, sx=2, sy=1, r=len(x) - kept(x), no_rand=True)
        return spread(index).long().flatten()

    return run


def edge_pooling(x: Tensor) -> Callable[[], Tensor]:
    """PyG's EdgePooling on the chain of tokens, edges scored by cosine; it chooses how many groups there are."""
    from torch_geometric.nn import EdgePooling

    place = torch.arange(len(x))
    edges, batch = torch.stack([place[:-1], place[1:]]), torch.zeros_like(place)
    pool = EdgePooling(x.shape[1], edge_score_method=lambda raw, e, n: F.cosine_similarity(x[e[0]], x[e[1]]))
    return torch.no_grad()(lambda: pool(x, edges, batch)[3].cluster)


def merging(x: Tensor, backward: bool = False) -> Callable[[], Any]:
    """`merge` of features, positions, sizes and source, by the groups of Token Merging."""
    grouping = Grouping(reference.bipartite(x, kept(x))[None], kept(x))
    tokens, gradient = tokens_of(x.requires_grad_(backward)), torch.ones(1, kept(x), x.shape[1])
    if not backward:
        return lambda: merge(tokens, grouping)
    return lambda: torch.autograd.grad(merge(tokens, grouping).features, tokens.features, gradient)


def scattering(x: Tensor, backward: bool = False) -> Callable[[], Any]:
    """PyG's scatter mean of the features alone, by the same groups."""
    from torch_geometric.utils import scatter

    labels, gradient = reference.bipartite(x, kept(x)), torch.ones(kept(x), x.shape[1])
    x.requires_grad_(backward)
    pool = partial(scatter, x, labels, 0, kept(x), "mean")
    return (lambda: torch.autograd.grad(pool(), x, gradient)) if backward else pool


def unmerging(x: Tensor) -> Callable[[], Tensor]:
    """`unmerge` back to all tokens."""
    grouping = Grouping(reference.bipartite(x, kept(x))[None], kept(x))
    features = merge(tokens_of(x), grouping).features
    return lambda: unmerge(features, grouping)


CONTESTANTS: dict[str, Build] = {
    **{name: ours(name) for name in REDUCTIONS},
    **{f"{name} in windows": ours(name, windowed=True) for name in REDUCTIONS if name in GLOBAL},
    **{f"{name} half": ours(name, half=True) for name in ("bipartite", "energy", "peaks")},
    **{f"local width {width}": ours("local", width=width) for width in (1, 8, 32)},
    "energy": ours("energy"),
    "agglomerative ward chain": ours("agglomerative", linkage="ward", chain=True),
    "merge": merging,
    "merge forward + backward": partial(merging, backward=True),
    "unmerge": unmerging,
    "copy": copy,
    "plain bipartite": plain(reference.bipartite),
    "plain energy": plain(reference.energy),
    "plain peaks": plain(reference.peaks),
    "scikit-learn Ward, chain": plain(reference.ward_chain),
    "tomesd": tomesd,
    "PyG EdgePooling, chain": edge_pooling,
    "PyG scatter": scattering,
    "PyG scatter forward + backward": partial(scattering, backward=True),
}


@dataclass(frozen=True)
class Pair:
    """Ours, the peer, and the targets: how many times as fast as the peer, MB at most, ms at most."""

    name: str
    peer: str
    speed: float | None = None
    mb: float | None = None
    ms: float | None = None

    def target(self) -> str:
        speed = self.speed and (f"{self.speed:g}x faster" if self.speed > 1 else f"{1 / self.speed:g}x the time")
        return ", ".join(filter(None, [speed, self.mb and f"{self.mb:g} MB", self.ms and f"{self.ms:g} ms"]))

    def met(self, row: Row) -> str | None:
        """ "yes", "no", or None where there is no target or the memory is unknown."""
        if self.target() == "" or (self.mb and row["mb"] is None):
            return None
        fast = not self.speed or row["speed"] >= self.speed
        small = not self.mb or row["mb"] <= self.mb
        soon = not self.ms or row["ms"] <= self.ms
        return "yes" if fast and small and soon else "no"


PAIRS = (
    Pair("bipartite", "plain bipartite", speed=1.7, mb=64),
    Pair("bipartite", "tomesd"),
    Pair("bipartite half", "plain bipartite", speed=4, mb=64),
    Pair("local width 1", "copy", speed=1 / 4),
    Pair("local width 8", "copy"),
    Pair("local width 32", "copy"),
    Pair("local width 32", "local width 1", speed=1 / 2.5),
    Pair("local width 1", "PyG EdgePooling, chain"),
    Pair("links", "copy", speed=1 / 4),
    Pair("links", "PyG EdgePooling, chain"),
    Pair("energy", "plain energy", speed=4, mb=128),
    Pair("energy half", "plain energy", speed=8, mb=128),
    Pair("peaks", "plain peaks", speed=6, mb=400),
    Pair("peaks half", "plain peaks", speed=6, mb=400),
    Pair("peaks in windows", "copy", ms=60),
    Pair("agglomerative ward chain", "scikit-learn Ward, chain", speed=3),
    Pair("merge", "PyG scatter", speed=1 / 1.5),
    Pair("merge forward + backward", "PyG scatter forward + backward", speed=1 / 1.5),
    Pair("unmerge", "copy"),
)


def alternate(runs: list[Callable[[], Any]], seconds: float) -> list[float]:
    """Fastest time of each in ms, run in turn: three rounds, and up to 50 while `seconds` last."""
    best, start, rounds = [math.inf] * len(runs), time.perf_counter(), 0
    while rounds < 3 or (rounds < 50 and time.perf_counter() - start < seconds):
        for which, run in enumerate(runs):
            begin = time.perf_counter()
            run()
            best[which] = min(best[which], 1000 * (time.perf_counter() - begin))
        rounds += 1
    return best


def use_threads(threads: int) -> None:
    """As many threads in torch and in what scikit-learn computes with."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def glibc(function: str, *arguments: int) -> None:
    """Call a function of the GNU allocator, where there is one."""
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), function):
        getattr(ctypes.CDLL(None), function)(*arguments)


def measure(name: str, count: int, dim: int, with_errors: bool) -> Row:
    """Memory and time of one contestant on random tokens, and its errors on all kinds."""
    CONTESTANTS[name](reference.example("random", 256, dim))()
    run = CONTESTANTS[name](reference.example("random", count, dim))
    gc.collect()
    glibc("malloc_trim", 0)  # freed memory goes back to the system, so that the peak counts all that is allocated
    before = peak() if reset_peak() else None
    begin = time.perf_counter()
    answer = run()
    seconds = time.perf_counter() - begin
    row: Row = {"mb": None if before is None else peak() - before}
    row["ms"] = 1000 * seconds if seconds > SLOW / 4 else alternate([run], seconds=1)[0]
    if with_errors and isinstance(answer, Tensor) and answer.dtype == torch.int64:
        inputs = [reference.example(kind, count, dim) for kind in KINDS]
        row["error"] = " ".join(f"{reference.reconstruction_error(x, CONTESTANTS[name](x)()):.2g}" for x in inputs)
    return row


def probe(pipe: Any, threads: int, name: str, *size: Any) -> None:
    """`measure`, sent down a pipe; a contestant that fails becomes a note, not the end of the benchmark."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops this process
    use_threads(threads)
    try:
        pipe.send(measure(name, *size))
    except UnavailableError as error:
        pipe.send({"note": str(error)})
    except InputError as error:
        pipe.send({"note": f"refused: {error}"})
    except Exception as error:
        pipe.send({"note": f"failed: {type(error).__name__}: {error}"})


@cache
def probed(limit: float, *arguments: Any) -> Row:
    """`probe` in a fresh process, stopped after `limit` seconds."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=probe, args=(sender, *arguments), daemon=True)
    child.start()
    sender.close()
    try:
        answer = receiver.recv() if receiver.poll(limit) else {"note": f"stopped after {limit:g} s"}
    except EOFError:
        answer = {"note": "failed: the process died (out of memory?)"}
    finally:
        child.kill()
        child.join()
    return dict.fromkeys(FIELDS) | answer


def measure_pair(pair: Pair, count: int, width: int, args: argparse.Namespace) -> Row:
    """Memory and errors of both from processes of their own, times in turn in this one."""
    mine, other = (probed(10 * LIMIT, args.threads, name, count, width, True) for name in (pair.name, pair.peer))
    row = mine | {"peer_mb": other["mb"], "peer_error": other["error"], "target": pair.target()}
    row["note"] = mine["note"] or (other["note"] and f"{pair.peer}: {other['note']}")
    if not row["note"]:
        runs = [CONTESTANTS[name](reference.example("random", count, width)) for name in (pair.name, pair.peer)]
        row["ms"], row["peer_ms"] = alternate(runs, seconds=0.5 if args.quick else 6)
        row["speed"] = row["peer_ms"] / row["ms"]
        row["met"] = None if args.quick else pair.met(row)
    return row


def measure_length(name: str, count: int, width: int, args: argparse.Namespace, rows: list[Row]) -> Row:
    """Time and memory, unless the method was too slow or failed at a smaller length."""
    for row in (row for row in rows if (row["part"], row["name"]) == ("lengths", name) and row["tokens"] < count):
        why = row["note"] or (row["ms"] > 1000 * SLOW and f"took {row['ms'] / 1000:.0f} s")
        if why and not why.startswith("refused"):
            return dict.fromkeys(FIELDS) | {"note": f"skipped: at {row['tokens']:,.0f} tokens {why}"}
    return probed(LIMIT, args.threads, name, count, width, False)


def run_all(args: argparse.Namespace, path: Path) -> list[Row]:
    """Measure what is asked for and not yet in the csv; every row is written at once, so that Ctrl-C loses nothing."""
    names = ["copy", *REDUCTIONS, *(f"{name} in windows" for name in REDUCTIONS if name in GLOBAL)]
    tasks = [("pairs", pair.name, pair.peer, 2048 if args.quick else 16384, 256, pair) for pair in PAIRS]
    tasks += [("lengths", name, None, count, 64, None) for name in names for count in sorted(args.lengths)]
    tasks = [task for task in tasks if not args.methods or task[1].split()[0] in (*args.methods, "copy")]
    rows = [row for row in sheet.read(path, NUMBERS) if row["run"] == args.run] if args.resume and path.exists() else []
    done = {(row["part"], row["name"], row["peer"], row["tokens"]) for row in rows}
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, FIELDS)
        table.writeheader()
        table.writerows(rows)
        for part, name, peer, count, width, pair in (bar := tqdm(tasks, unit="row")):
            bar.set_description(f"{name}, {count:,} tokens")
            if (part, name, peer, count) in done:
                continue
            row = measure_pair(pair, count, width, args) if pair else measure_length(name, count, width, args, rows)
            row |= {"run": args.run, "part": part, "name": name, "peer": peer, "tokens": count, "width": width}
            rows.append(row)
            table.writerow(row)
            file.flush()
    return rows


def report(rows: list[Row], args: argparse.Namespace) -> str:
    """Both tables as Markdown."""
    pairs, lengths = ([row for row in rows if row["part"] == part] for part in ("pairs", "lengths"))
    lines = ["# Reduction: time, memory, error", "", *sheet.machine(PACKAGES), f"- {date.today()}, {args.run}", ""]
    if pairs:
        size = f"{pairs[0]['tokens']:,.0f} tokens of width {pairs[0]['width']}"
        lines += [f"## Pairs: {size}, half kept", "", PAIR_HEAD, "|---" * 10 + "|", *map(pair_line, pairs), ""]
    counts = sorted({row["tokens"] for row in lengths})
    if lengths:
        lines += ["## Lengths: ms / extra MB at width 64, half kept", ""]
        lines += ["| method | " + " | ".join(f"{n:,.0f}" for n in counts) + " |", "|---" * (1 + len(counts)) + "|"]
    for name in dict.fromkeys(row["name"] for row in lengths):
        mine = [row for row in lengths if row["name"] == name]
        cells = {row["tokens"]: row["note"] or f"{sheet.number(row['ms'])} / {sheet.number(row['mb'])}" for row in mine}
        lines.append(f"| {name} | " + " | ".join(cells.get(n, "") for n in counts) + " |")
    return "\n".join(lines) + "\n"


PAIR_HEAD = "| ours | peer | ms | peer ms | times as fast | MB | peer MB | error | peer error | target: met |"


def pair_line(row: Row) -> str:
    verdict = row["note"] or f"{row['target']}: {row['met']}" * bool(row["met"]) or row["target"]
    cells = [row["name"], row["peer"], *(sheet.number(row[key]) for key in ("ms", "peer_ms", "speed", "mb", "peer_mb"))]
    return f"| {' | '.join([*cells, row['error'] or '', row['peer_error'] or '', verdict or ''])} |"


def figure(rows: list[Row], path: Path) -> None:
    """Time and memory against length: some methods in colour (dashed: in windows), the others thin and grey."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(12, 5.5), layout="constrained", dpi=120)
    panels = drawing.subplots(1, 2)
    measured = [row for row in rows if row["part"] == "lengths" and row["ms"] is not None]
    for name in dict.fromkeys(row["name"] for row in measured):
        mine = [row for row in measured if row["name"] == name]
        colour = "black" if name == "copy" else SHOWN.get(name.removesuffix(" in windows"), "#cccccc")
        style = {"color": colour, "linestyle": "--" if "windows" in name else "-"}
        style |= {"linewidth": 0.8, "zorder": 1} if colour == "#cccccc" else {"marker": "o", "markersize": 4}
        for axes, key in zip(panels, ("ms", "mb"), strict=True):
            points = [(row["tokens"], row[key]) for row in mine if row[key]]
            if not points:
                continue
            axes.plot(*zip(*points, strict=True), label=None if colour == "#cccccc" else name, **style)
    for axes, title in zip(panels, ("time in ms, one thread", "peak extra memory in MB"), strict=True):
        axes.set(xscale="log", yscale="log", xlabel="tokens (width 64, half kept)", title=title)
        ticks = sorted({row["tokens"] for row in measured})
        axes.set_xticks(ticks, [f"{n:,}" for n in ticks], fontsize=8)
        axes.minorticks_off()
        axes.grid(alpha=0.25)
    panels[0].plot([], [], color="#cccccc", linewidth=0.8, label="all other methods")
    drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=9, frameon=False)
    drawing.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--methods", type=lambda text: text.split(","), help="first words of names, e.g. peaks,local")
    parser.add_argument("--lengths", type=lambda text: [int(n) for n in text.split(",")], help="e.g. 1024,4096")
    parser.add_argument("--resume", action="store_true", help="keep the rows of this commit and these threads")
    args = parser.parse_args()
    args.lengths = args.lengths or ([1024, 4096] if args.quick else [4**k for k in range(5, 11)])
    args.run = f"{sheet.commit()}, threads used: {args.threads}"
    args.out.mkdir(parents=True, exist_ok=True)
    use_threads(args.threads)
    glibc("mallopt", -3, 32 << 20)  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD: see "Pairs" at the top
    glibc("mallopt", -1, 2**31 - 1)
    path = args.out / "reduction.csv"
    try:
        run_all(args, path)
    except KeyboardInterrupt:
        print(f"Stopped. What was measured is in {path}; --resume goes on from there.")
    rows = sheet.read(path, NUMBERS)
    text = report(rows, args)
    path.with_suffix(".md").write_text(text)
    figure(rows, path.with_suffix(".png"))
    print(text)


if __name__ == "__main__":
    main()
