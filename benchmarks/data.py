"""Speed and memory from files to a token store to batches, beside Biopython, pysam, h5py and plain Zarr.

    python benchmarks/data.py                     # everything: about ten minutes, 4 GB of disk for a while
    python benchmarks/data.py --quick             # small sizes: about a minute; its ratios say little
    python benchmarks/data.py --only store,loader # some parts; rows of the others stay in the csv
    python benchmarks/data.py --into docs/scale.md  # nothing is run: puts the table of the csv between its markers

How it is measured:

- Ours and the peer take turns in one process, A B A B, files in the page cache; the fastest run of each counts.
- What has a target in seconds or memory runs in a fresh process, once. Memory is the largest resident memory, as a
  whole and above what it was before (Python, torch and Zarr loaded). CPU seconds count all threads of the process.
- "limited by" is a breakdown of CPU seconds (FASTA and whole arrays: of seconds), from timing parts of the library.

Targets are printed with "yes" or "no", never asserted. Real data is taken from $TOKRED_DATA, else from shared/data
beside the repository; where there is none, a synthetic genome stands in. Peers not installed are named as such.
"""

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import sheet
import torch
from sheet import Row
from tqdm import tqdm

from tokred_sci import ingest
from tokred_sci.datasets import layout, loader
from tokred_sci.datasets.dna import stream_fasta
from tokred_sci.datasets.loader import TokenLoader
from tokred_sci.datasets.parts import Parts
from tokred_sci.datasets.reader import read as read_file
from tokred_sci.datasets.store import TokenStore, read_tokens, write_tokens
from tokred_sci.ingest import tokenize_files
from tokred_sci.stability.lengths import peak, reset_peak
from tokred_sci.tokenizers import DNATokenizer, PointTokenizer, SeriesTokenizer
from tokred_sci.tokens import Tokens

DATA = Path(os.environ.get("TOKRED_DATA") or Path(__file__).resolve().parents[1].parent / "shared" / "data")
PIECE = 1 << 20
DNA = DNATokenizer(16, compact=True)
FIELDS = (
    *("run", "load", "part", "name", "size", "seconds", "cpu", "peer", "peer_seconds", "mb", "total_mb"),
    *("value", "unit", "least", "most", "met", "limits", "input_mb", "stored_mb"),
)
NUMBERS = (
    "load",
    "seconds",
    "cpu",
    "peer_seconds",
    "mb",
    "total_mb",
    "value",
    "least",
    "most",
    "input_mb",
    "stored_mb",
)
Run = Callable[[], Any]


# ---- what is measured with --------------------------------------------------------------------------------------


def alternate(runs: list[Run], rounds: int) -> list[float]:
    """Fastest time of each in seconds, run in turn."""
    best = [math.inf] * len(runs)
    for _ in range(rounds):
        for which, run in enumerate(runs):
            begin = time.perf_counter()
            run()
            best[which] = min(best[which], time.perf_counter() - begin)
    return best


def alone(function: Callable[..., Any], *args: Any) -> Row:
    """Seconds, CPU seconds and memory of a call in a fresh process, and what it returns, a row."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measured, args=(sender, function, args))
    child.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        answer = {"limits": "failed: the process died (out of memory?)"}
    finally:
        child.join()
    return answer


def _measured(pipe: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    import icechunk  # noqa: F401 (loaded before the memory is looked at)
    import zarr  # noqa: F401

    torch.set_num_threads(1)
    before = peak() if reset_peak() else None
    begin, cpu = time.perf_counter(), time.process_time()
    try:
        row = function(*args) or {}
        row |= {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
        row |= {"total_mb": None if before is None else peak(), "mb": None if before is None else peak() - before}
    except Exception as error:
        row = {"limits": f"failed: {type(error).__name__}: {error}"}
    pipe.send(row)


@contextmanager
def clocks(*places: tuple[str, Any, str]) -> Iterator[dict[str, float]]:
    """CPU seconds spent in functions, given as what they do, where they are, their name. None may call another."""
    spent = {what: 0.0 for what, _, _ in places}

    def timed(function: Callable[..., Any], what: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            begin = time.process_time()
            try:
                return function(*args, **more)
            finally:
                spent[what] += time.process_time() - begin

        return call

    kept = [(owner, name, getattr(owner, name)) for _, owner, name in places]
    for (what, owner, name), (_, _, function) in zip(places, kept, strict=True):
        setattr(owner, name, timed(function, what))
    try:
        yield spent
    finally:
        for owner, name, function in kept:
            setattr(owner, name, function)


def shares(spent: dict[str, float], total: float) -> str:
    """{"read": 1, "write": 2} of 4 as "write 50 %, read 25 %, rest 25 %"."""
    order = sorted(spent.items(), key=lambda item: -item[1])
    return ", ".join(
        f"{what} {100 * cpu / total:.0f} %" for what, cpu in (*order, ("rest", total - sum(spent.values())))
    )


def tokenize(inputs: list[Path], out: Path, tokenizer: Any) -> Row:
    """`tokenize_files`, and where its CPU seconds go."""
    begin = time.process_time()
    with clocks(
        ("reading", ingest, "measure"),
        ("reading", Parts, "get"),
        ("tokenizing", type(tokenizer), "__call__"),
        ("check sums", layout, "_check"),
        ("compressing and writing", layout._Column, "_flush"),
    ) as spent:
        store = tokenize_files(inputs, out, tokenizer, progress=False)
    told = {"limits": shares(spent, time.process_time() - begin), "size": f"{store.table[:, 3].sum():,} elements"}
    return told | {"input_mb": sum(path.stat().st_size for path in inputs) / 1e6, "stored_mb": on_disk(out) / 1e6}


def tokenize_in_processes(inputs: list[Path], out: Path, tokenizer: Any, workers: int) -> Row:
    store = tokenize_files(inputs, out, tokenizer, workers=workers, progress=False)
    return {"size": f"{store.table[:, 3].sum():,} elements"}


def row(part: str, name: str, value: float | None, unit: str, **more: Any) -> Row:
    """One line of the table; `least` or `most` are its target."""
    return dict.fromkeys(FIELDS) | {"part": part, "name": name, "value": value, "unit": unit, **more}


def met(line: Row) -> str | None:
    """ "yes" or "no"; None where there is no target, or nothing was measured."""
    least, most, value = line["least"], line["most"], line["value"]
    if value is None or (least is None and most is None):
        return None
    return "yes" if (least is None or value >= least) and (most is None or value <= most) else "no"


def on_disk(folder: Path) -> int:
    """Bytes of all files of a store."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


# ---- what is measured on ----------------------------------------------------------------------------------------


def letters(count: int, seed: int = 0, masked: bool = False) -> bytes:
    """Random bases; `masked`: half of them in lower case, in stretches of 300, and a hundredth N, in runs of 10,000."""
    random = np.random.default_rng(seed)
    bases = np.frombuffer(b"ACGT", np.uint8)[random.integers(0, 4, count, np.uint8)]
    if masked:
        bases[np.arange(count) // 300 % 2 == 1] |= 32
        bases[np.arange(count) % 1_000_000 < 10_000] = ord("N")
    return bases.tobytes()


def make_fasta(path: Path, sequences: int, length: int, masked: bool = False) -> Path:
    """Sequences of one length in lines of 80."""
    with path.open("wb") as file:
        for number in range(sequences):
            bases = letters(length, number, masked)
            file.write(f">chr{number + 1} synthetic\n".encode())
            file.writelines(bases[at : at + 80] + b"\n" for at in range(0, length, 80))
    return path


def make_genbank(path: Path, length: int) -> Path:
    """A circular genome with a coding sequence in every thousand bases."""
    bases = letters(length).lower().decode()
    with path.open("w") as file:
        file.write(f"LOCUS       SYNTHETIC {length} bp    DNA     circular BCT 01-JAN-2000\nFEATURES\n")
        for start in range(1, length - 900, 1000):
            file.write(f"     CDS             {start}..{start + 899}\n")
        file.write("ORIGIN\n")
        for at in range(0, length, 60):
            groups = " ".join(bases[start : start + 10] for start in range(at, min(at + 60, length), 10))
            file.write(f"{at + 1:>9} {groups}\n")
        file.write("//\n")
    return path


def genome(folder: Path, quick: bool) -> Path:
    """The real E. coli genome with its genes where it is at hand, a synthetic one of its length elsewhere."""
    real = DATA / "genomics" / "genomes" / "NC_000913.gbk.gz"
    return (
        real if real.exists() and not quick else make_genbank(folder / "synthetic.gbk", 46_000 if quick else 4_641_652)
    )


def make_series(path: Path, count: int) -> Path:
    """A sensor's noisy walk, float32, one channel."""
    array = np.lib.format.open_memmap(path, "w+", np.float32, (1, count))
    for at in range(0, count, PIECE):
        random = np.random.default_rng(at)
        part = random.normal(size=min(PIECE, count - at))
        array[0, at : at + PIECE] = 0.01 * part.cumsum() + 0.1 * random.normal(size=len(part))
    array.flush()
    return path


def make_cloud(path: Path, count: int) -> Path:
    """Points of a rough terrain, float32."""
    random = np.random.default_rng(0)
    place = random.uniform(0, 1000, (count, 2)).astype(np.float32)
    height = 20 * np.sin(place[:, 0] / 60) * np.cos(place[:, 1] / 45) + random.normal(0, 0.2, count)
    np.save(path, np.column_stack([place, height]).astype(np.float32))
    return path


def make_store(path: Path, count: int, low: int, high: int, dim: int) -> TokenStore:
    """Records of `low` to `high` tokens: values of a 12-bit sensor that walks."""
    random = np.random.default_rng(0)
    lengths = random.integers(low, high + 1, count).tolist()

    def records() -> Iterator[Tokens]:
        for length in lengths:
            walk = (random.normal(size=(length, dim)).cumsum(0) * 64).round() / 2048
            source = torch.arange(length)
            place = source.double()[None, :, None]
            yield Tokens(torch.from_numpy(walk.astype(np.float32))[None], place, torch.ones(1, length), source[None])

    write_tokens(path, records(), "benchmark")
    return read_tokens(path)


# ---- the parts --------------------------------------------------------------------------------------------------


def fasta(folder: Path, quick: bool) -> Iterator[Row]:
    """FASTA to tokens, against parsing alone."""
    path = make_fasta(folder / "genome.fa", 10, 100_000 if quick else 10_000_000)
    size = f"{10 * (0.1 if quick else 10):g} Mb in 10 sequences, lines of 80"

    def reading() -> None:
        for _ in stream_fasta(path, PIECE):
            pass

    def ours() -> None:
        for _, _, piece in stream_fasta(path, PIECE):
            DNA(piece)

    def biopython() -> None:
        from Bio import SeqIO

        for record in SeqIO.parse(path, "fasta"):
            len(record.seq)

    def pysam() -> None:
        from pysam import FastaFile

        with FastaFile(str(path)) as file:
            for name in file.references:
                file.fetch(name)

    pysam()  # it makes its index, which is not counted
    mine, read, parse, fetch = alternate([ours, reading, biopython, pysam], 2 if quick else 5)
    limits = f"reading {100 * read / mine:.0f} %, tokenizing {100 - 100 * read / mine:.0f} %"
    same = dict(size=size, seconds=mine, limits=limits)
    yield row("fasta", "FASTA to tokens", parse / mine, "times as fast", peer="Biopython, parse alone",
              peer_seconds=parse, least=1, **same)  # fmt: skip
    yield row("fasta", "FASTA to tokens", fetch / mine, "times as fast", peer="pysam, fetch alone", peer_seconds=fetch,
              least=1 / 3, **same)  # fmt: skip


def rest(folder: Path, quick: bool) -> Iterator[Row]:
    """Bits a base, of everything in the store's folder."""
    path = make_fasta(folder / "masked.fa", 1, 1_000_000 if quick else 50_000_000, masked=True)
    size = alone(tokenize, [path], folder / "masked", DNA)["size"]
    bits = 8 * on_disk(folder / "masked") / read_tokens(folder / "masked").table[:, 3].sum()
    yield row("rest", "DNA at rest, random bases, 1 % N, half soft-masked", bits, "bits a base", size=size, most=2.1)
    source = genome(folder, quick)
    record = read_file(source).records[0]
    write_tokens(
        folder / "genome", (DNA(record[at : at + PIECE]) for at in range(0, len(record), PIECE)), DNA.fingerprint
    )
    exact = "".join(map(DNA.detokenize, read_tokens(folder / "genome"))) == record
    yield row("rest", f"DNA at rest, {source.stem}", 8 * on_disk(folder / "genome") / len(record), "bits a base",
              size=f"{len(record):,} bases, back bit for bit: {'yes' if exact else 'NO'}", most=2.1)  # fmt: skip


def store(folder: Path, quick: bool) -> Iterator[Row]:
    """Reading all features, and all records, in order."""
    import zarr

    dim, path = 64, folder / "store"
    made = make_store(path, 200 if quick else 1600, 1000, 1000, dim)
    features = made.arrays["features"][:]
    size, chunk = f"{features.nbytes / 1e6:,.0f} MB of features", layout.chunk_rows("float32", (dim,))
    level = next(codec.clevel for codec in made.arrays["features"].compressors if hasattr(codec, "clevel"))
    plain = zarr.create_array(str(folder / "plain.zarr"), data=features)

    def ours(store: TokenStore, **settings: int) -> None:
        with zarr.config.set({name.replace("_", ".", 1): value for name, value in settings.items()}):
            layout.read_flat(store.arrays["features"], 0, len(features), str(path))

    def fresh() -> TokenStore:
        return read_tokens(path)

    cores = os.cpu_count() or 1
    runs: dict[str, Run] = {
        "store": lambda: ours(fresh()),
        "one": lambda: ours(fresh(), async_concurrency=1),
        "cores": lambda: ours(fresh(), async_concurrency=cores),
        "zarr": lambda: plain[:],
        "records": lambda: [None for _ in fresh()],
    }
    try:
        runs["h5py"] = hdf5(folder / "store.h5", features, chunk, level)
    except ImportError:
        yield row("store", "h5py with the same codec", None, "", limits="hdf5plugin is not installed")
    times = dict(zip(runs, alternate(list(runs.values()), 2 if quick else 5), strict=True))
    speed = {name: features.nbytes / 1e6 / seconds for name, seconds in times.items()}
    limits = decoding(made, times["store"])
    if "h5py" in times:
        yield row("store", "whole array of features", times["h5py"] / times["store"], "times as fast", size=size,
                  seconds=times["store"], peer=f"h5py, same chunks, codec and level ({speed['h5py']:,.0f} MB/s)",
                  peer_seconds=times["h5py"], least=0.4, limits=limits)  # fmt: skip
        yield row("store", "plain Zarr, default settings", times["h5py"] / times["zarr"], "times as fast", size=size,
                  seconds=times["zarr"], peer="h5py, as above", peer_seconds=times["h5py"])  # fmt: skip
    yield row("store", "whole array of features", times["zarr"] / times["store"], "times as fast", size=size,
              seconds=times["store"], peer="plain Zarr, default settings", peer_seconds=times["zarr"])  # fmt: skip
    for name, told in (("one", "1"), ("cores", f"{cores}, the cores")):
        what = f"whole array, Zarr's async.concurrency = {told}"
        yield row("store", what, times["store"] / times[name], "times as fast", size=size, seconds=times[name],
                  peer="the store as it is", peer_seconds=times["store"])  # fmt: skip
    yield row("store", "records by iteration, all fields, check sums compared", speed["records"], "MB/s of features",
              size=size, seconds=times["records"])  # fmt: skip


def hdf5(path: Path, features: np.ndarray, chunk: int, level: int) -> Run:
    """A run that reads the same numbers from HDF5."""
    import h5py
    import hdf5plugin

    codec = hdf5plugin.Blosc(cname="zstd", clevel=level, shuffle=hdf5plugin.Blosc.BITSHUFFLE)
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=features, chunks=(chunk, features.shape[1]), **codec)

    def run() -> None:
        with h5py.File(path) as file:
            file["features"][:]

    return run


def decoding(store: TokenStore, seconds: float) -> str:
    """How much of the time the codec itself needs: each chunk of features decompressed once, by itself."""
    from numcodecs import Blosc

    array = store.arrays["features"]
    rows = layout.chunk_rows(array.dtype.name, array.shape[1:])
    blosc = next(codec for codec in array.compressors if hasattr(codec, "clevel"))
    codec = Blosc("zstd", clevel=blosc.clevel, shuffle=Blosc.BITSHUFFLE)
    values = array[: 32 * rows]
    chunks = [codec.encode(np.ascontiguousarray(values[at : at + rows])) for at in range(0, len(values), rows)]
    whole = alternate([lambda: [codec.decode(chunk) for chunk in chunks]], 3)[0] * array.shape[0] / len(values)
    return (
        f"decompressing by itself (Blosc, its own threads) {100 * whole / seconds:.0f} %, rest Zarr, Icechunk, CRC32C"
    )


def loading(folder: Path, quick: bool) -> Iterator[Row]:
    """Shuffled batches against records in order, and records one by one at random."""
    made = make_store(folder / "loader", 1_000 if quick else 20_000, 64, 192, 32)
    order = np.random.default_rng(1).permutation(len(made))[: 50 if quick else 300].tolist()
    runs: list[Run] = [
        lambda: [None for _ in made],
        lambda: [None for _ in TokenLoader(made, 32)],
        lambda: [made[number] for number in order],
    ]
    sequential, shuffled, some = alternate(runs, 1 if quick else 3)
    single = some * len(made) / len(order)
    begin = time.process_time()
    with clocks(("reading", TokenStore, "entries"), ("padding and stacking", loader, "_collate")) as spent:
        runs[1]()
    same = dict(
        size=f"{len(made):,} records of 64 to 192 tokens, D = 32", seconds=shuffled,
        limits=shares(spent, time.process_time() - begin),
    )  # fmt: skip
    yield row("loader", "shuffled batches of 32 (TokenLoader)", sequential / shuffled, "times as fast", least=0.5,
              peer="records in order (TokenStore)", peer_seconds=sequential, **same)  # fmt: skip
    yield row("loader", "shuffled batches of 32 (TokenLoader)", single / shuffled, "times as fast", least=20,
              peer=f"record by record at random ({len(order)}, scaled)", peer_seconds=single, **same)  # fmt: skip


def ecoli(folder: Path, quick: bool) -> Iterator[Row]:
    """A genome with a label for every base, to a committed store."""
    told = alone(tokenize, [source := genome(folder, quick)], folder / "ecoli", DNA)
    yield row("genome", f"GenBank to a committed store, {source.stem}", told.get("seconds"), "s", most=10, **told)


def chromosome(folder: Path, quick: bool) -> Iterator[Row]:
    """One long sequence, serially and in processes."""
    path = make_fasta(folder / "chromosome.fa", 1, 2_500_000 if quick else 250_000_000, masked=True)
    told = alone(tokenize, [path], folder / "chromosome", DNA)
    yield row(
        "chromosome", "FASTA to a committed store", told.get("total_mb"), "MB of memory at most", most=1024, **told
    )
    cores = os.cpu_count() or 1
    more = alone(tokenize_in_processes, [path], folder / "chromosome2", DNA, cores) | {"cpu": None}
    known = "seconds" in told and "seconds" in more
    yield row("chromosome", f"the same by {cores} processes", told["seconds"] / more["seconds"] if known else None,
              "times as fast", peer="one process", peer_seconds=told.get("seconds"), **more)  # fmt: skip


def tokenize_cloud(path: Path) -> Row:
    tokens = PointTokenizer(method="runs", ratio=1 / 16)(np.load(path))
    return {"size": f"{tokens.source.shape[1]:,} points, {tokens.features.shape[1]:,} tokens"}


def cloud(folder: Path, quick: bool) -> Iterator[Row]:
    """A large cloud along the curve, in memory, and to a store."""
    path = make_cloud(folder / "cloud.npy", 100_000 if quick else 10_000_000)
    told = alone(tokenize_cloud, path)
    yield row("cloud", "cloud to tokens by runs of 16 along the curve", told.get("seconds"), "s", most=30, **told)
    yield row("cloud", "the same", told.get("total_mb"), "MB of memory at most", most=4096, **told)
    told = alone(tokenize, [path], folder / "cloud", PointTokenizer(method="runs", ratio=1 / 16))
    yield row("cloud", "NPY of points to a committed store", told.get("seconds"), "s", **told)


def series(folder: Path, quick: bool) -> Iterator[Row]:
    """A long series, and one of a tenth of it: the same memory."""
    told = []
    for count in (100_000, 1_000_000) if quick else (10_000_000, 100_000_000):
        path = make_series(folder / f"{count}.npy", count)
        told.append(alone(tokenize, [path], folder / f"series{count}", SeriesTokenizer(64)))
        speed = count / 1e6 / told[-1].get("seconds", math.nan)
        yield row("series", "float32 NPY to a committed store", speed, "million samples a second", **told[-1])
    if all(one.get("total_mb") for one in told):
        yield row("series", "memory at most, against a tenth of the samples", told[1]["total_mb"] / told[0]["total_mb"],
                  "times", most=1.2, total_mb=told[1]["total_mb"])  # fmt: skip


PARTS: dict[str, Callable[[Path, bool], Iterator[Row]]] = {
    "fasta": fasta,
    "rest": rest,
    "store": store,
    "loader": loading,
    "genome": ecoli,
    "chromosome": chromosome,
    "cloud": cloud,
    "series": series,
}


# ---- the table --------------------------------------------------------------------------------------------------


def run_all(args: argparse.Namespace, path: Path) -> None:
    """Measure the parts asked for; rows of the others stay. The csv is written after every part."""
    lines = [line for line in sheet.read(path, NUMBERS) if line["part"] not in args.only] if path.exists() else []
    for part in (bar := tqdm(args.only, unit="part", disable=None)):
        bar.set_description(part)
        if args.scratch:
            Path(args.scratch).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
            for line in PARTS[part](Path(folder), args.quick):
                line |= {"run": args.run, "load": os.getloadavg()[0], "met": None if args.quick else met(line)}
                lines.append(line)
        lines.sort(key=lambda line: list(PARTS).index(line["part"]))
        sheet.write(lines, FIELDS, path)


PACKAGES = ("torch", "numpy", "zarr", "icechunk", "numcodecs", "h5py", "hdf5plugin", "biopython", "pysam")
HEAD = "| what | on | s | CPU s | peer | peer s | MB above start | result | target: met | limited by |"


def report(lines: list[Row]) -> str:
    """The machine, the table, and what it means for a terabyte, as Markdown."""
    runs = f"- {', '.join(dict.fromkeys(line['run'] for line in lines))}"
    whole = [line for line in lines if line["cpu"] and (line["input_mb"] or 0) >= LARGE]
    text = [*sheet.machine(PACKAGES), runs, sheet.load(lines), "", HEAD, "|---" * 10 + "|", *map(table_line, lines)]
    return "\n".join([*text, "", TERABYTE, "|---" * 6 + "|", *map(terabyte_line, whole)]) + "\n"


LARGE = 100  # MB of input, from which on fixed costs are small enough to multiply the rest
TERABYTE = (
    "| to a committed store, by one process | input | input a CPU second | a terabyte (extrapolated): CPU hours "
    "| stored | MB of memory at most |"
)


def terabyte_line(line: Row) -> str:
    """What a million times as many megabytes take, if all grows with them."""
    speed = line["input_mb"] / line["cpu"]
    cells = [line["name"].removesuffix(" to a committed store"), f"{sheet.number(line['input_mb'])} MB, {line['size']}"]
    cells += [f"{sheet.number(speed)} MB", sheet.number(1e6 / speed / 3600)]
    cells += [f"{sheet.number(1000 * line['stored_mb'] / line['input_mb'])} GB", sheet.number(line["total_mb"])]
    return f"| {' | '.join(cells)} |"


def table_line(line: Row) -> str:
    target = "" if line["least"] is None else f"{line['least']:.3g} at least"
    target = target if line["most"] is None else f"{line['most']:,.4g} at most"
    verdict = f"{target}: {line['met'] or 'not judged'}" if target else ""
    cells = [line["name"], line["size"], sheet.number(line["seconds"]), sheet.number(line["cpu"]), line["peer"]]
    cells += [
        sheet.number(line["peer_seconds"]),
        sheet.number(line["mb"]),
        f"{sheet.number(line['value'])} {line['unit'] or ''}",
    ]
    return f"| {' | '.join(cell or '' for cell in [*cells, verdict, line['limits']])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), help="parts, with commas")
    parser.add_argument("--scratch", type=Path, help="folder for files and stores while it runs")
    parser.add_argument("--markdown", action="store_true", help="print the table of the csv, run nothing")
    parser.add_argument("--into", type=Path, help="put the table of the csv into this page, run nothing")
    args = parser.parse_args()
    if unknown := set(args.only) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    args.run = f"{sheet.commit()}, {date.today()}" + ", quick" * args.quick
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "data.csv"
    torch.set_num_threads(1)
    if not (args.markdown or args.into):
        run_all(args, path)
        path.with_suffix(".md").write_text(report(sheet.read(path, NUMBERS)))
    text = report(sheet.read(path, NUMBERS))
    if args.into:
        sheet.put(text, args.into, "benchmarks/data.py")
    else:
        print(text)


if __name__ == "__main__":
    main()
