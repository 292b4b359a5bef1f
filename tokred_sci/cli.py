"""The `tokred` command: thin; every command calls one function of the library."""

import json
import platform
import sys
import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import tokred_sci
from tokred_sci.errors import InputError, TokredError

app = typer.Typer(
    help="Token reduction for DNA, point clouds and sensor series.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


data_app = typer.Typer(help="Public datasets by name.", no_args_is_help=True)
app.add_typer(data_app, name="data")
DataFolder = Annotated[
    Path | None, typer.Option(help="Where files are kept; else $TOKRED_DATA_HOME, else the user's cache.")
]
store_app = typer.Typer(help="Look after a token store.", no_args_is_help=True)
app.add_typer(store_app, name="store")


class Domain(StrEnum):
    dna = "dna"
    points = "points"
    series = "series"


@app.command()
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Under 90 seconds; numbers say little.")] = False,
    seed: Annotated[int, typer.Option(help="Of data, weights and order: two runs agree.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Folder for results.json, two pictures and report.html.")] = Path("demo"),
    domain: Annotated[list[Domain] | None, typer.Option(help="One domain (repeat for more); all by default.")] = None,
) -> None:
    """Train on short inputs, test on inputs up to 16 times as long: with and without reduction, on real data."""
    from tqdm import tqdm

    from tokred_sci.demo import run, save
    from tokred_sci.report import can_write

    def bar(steps: Iterable[int], name: str) -> Iterable[int]:
        return tqdm(steps, desc=f"{name:32}", leave=False, disable=None, file=sys.stderr)

    if not can_write(out):  # now, not after the work
        raise InputError(f"Expected '--out' as a folder that can be written to (got {out}): choose another.")
    results, views = run([d.value for d in domain or list(Domain)], seed, quick, tqdm.write, bar)
    try:
        save(out, results, views)
    except OSError as error:
        raise InputError(
            f"Could not write to {out} ({error}): the tables above stand; free space and run again."
        ) from error
    typer.echo(f"\nWrote {out / 'results.json'}, {out / 'lengths.png'}, {out / 'tokens.png'}, {out / 'report.html'}.")


@app.command()
def methods(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As the table of README.md, with costs and links.")
    ] = False,
) -> None:
    """The table of reduction methods."""
    from tokred_sci.methods import as_markdown, as_text
    from tokred_sci.methods import methods as rows

    typer.echo(as_markdown(rows()) if markdown else as_text(rows()))


@app.command()
def tokenize(
    inputs: Annotated[list[Path], typer.Argument(help="Files of one domain: FASTA, GenBank, LAZ, PLY, CSV, EDF, ...")],
    out: Annotated[str, typer.Option(help="The store: a folder, or s3://bucket/prefix. Records are added to it.")],
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Of the tokenizer, as patch=16 (repeat for more).")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--read", help="Of the files' reader, as label=classification (repeat for more)."),
    ] = None,
    piece: Annotated[int, typer.Option(help="Cut longer sequences and series into records of this length; 0 = no.")] = 1
    << 20,
    workers: Annotated[int, typer.Option(help="Local processes; 0 = this one.", min=0)] = 0,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, in place of --workers.")] = None,
) -> None:
    """Tokenize files into a store. Called again after it was interrupted, it goes on where it was."""
    from tokred_sci.ingest import tokenize_files, tokenizer_for

    settings, options = _pairs(setting), _pairs(option)
    tokenizer = tokenizer_for(inputs[0], settings, options)
    store = tokenize_files(inputs, out, tokenizer, piece or None, workers, dask, options)
    typer.echo(f"{tokenizer}\n{store} in {out}")


def _pairs(texts: list[str] | None) -> dict[str, Any]:
    """["patch=16", "scheme=kmer"] as a dictionary; values as TOML would read them, else as text."""
    pairs = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"Expected name=value (got {text!r}).")
        try:
            pairs[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            pairs[name] = value
    return pairs


Settings = Annotated[list[str] | None, typer.Argument(help="Changes to it, as train.steps=100 model.dim=32.")]


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A TOML file: what differs from the defaults of `RunConfig`.")],
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/NAME-OF-CONFIG.")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="What may differ from the run that is resumed: config, code, data.")
    ] = None,
) -> None:
    """Train and measure what a config says. Called again after it was stopped or killed, it goes on where it was."""
    from tokred_sci.prepare import RunConfig
    from tokred_sci.run import run
    from tokred_sci.training.config import read_config

    folder = out or Path("runs") / config.stem
    told = run(read_config(RunConfig, config, settings or []), folder, tuple(allow or ()))
    if told:  # the first process tells
        typer.echo(_scores(told) + f"\n{folder}")


@app.command()
def evaluate(run: Annotated[Path, typer.Argument(help="Folder of a finished run.")]) -> None:
    """Measure the model of a run once more, on every record of its validation and test parts."""
    from tokred_sci.run import evaluate as measure

    typer.echo(_scores(measure(run)))


@app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="The config that all runs share.")],
    settings: Annotated[list[str], typer.Argument(help="What differs, as model.dim=16,32 seed=0,1,2.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the runs; by default runs/NAME-OF-CONFIG-sweep.")] = None,
) -> None:
    """Run all combinations of some settings, go on with those begun, and write one table; exit code 1 if one failed."""
    from tokred_sci.run import sweep as run_all

    folder = out or Path("runs") / f"{config.stem}-sweep"
    rows = run_all(config, settings, folder)
    typer.echo((folder / "sweep.csv").read_text(), nl=False)
    if any("error" in row for row in rows):
        raise typer.Exit(1)


def _scores(told: Mapping[str, Any]) -> str:
    rows = [(part, name, value) for part in ("valid", "test") for name, value in told.get(part, {}).items()]
    return "\n".join(f"{part:6} {name:20} {value:.4f}" for part, name, value in rows)


@data_app.command("list")
def list_sets(domain: Annotated[Domain | None, typer.Argument(help="Only those of one domain.")] = None) -> None:
    """The public datasets that are known by name."""
    from tokred_sci.datasets.public import list_text

    typer.echo(list_text(domain and domain.value))


@data_app.command()
def info(name: str) -> None:
    """All that is known about a set: task, splits, licence, citation, published results, addresses."""
    from tokred_sci.datasets.public import info_text

    typer.echo(info_text(name))


@data_app.command()
def fetch(names: list[str], folder: DataFolder = None) -> None:
    """Download sets; what is there already, and what was half there, is not fetched again."""
    from tokred_sci.datasets.public import fetch_text

    for name in names:
        typer.echo(fetch_text(name, folder))


@data_app.command("verify")
def verify_sets(names: list[str], folder: DataFolder = None) -> None:
    """Compare the files of sets with their published, or first seen, SHA-256; exit code 1 if any differs or is gone."""
    from tokred_sci.datasets.public import verify_text

    told = [verify_text(name, folder) for name in names]
    typer.echo("\n".join(told))
    if any(line.startswith(("changed", "absent")) for text in told for line in text.splitlines()):
        raise typer.Exit(1)


@store_app.command()
def generations(store: str) -> None:
    """The states of a store that were committed whole: number, time, what was done, records."""
    from tokred_sci.datasets.store import generations as history

    for number, one in enumerate(history(store)):
        typer.echo(f"{number:4}  {one.when:%Y-%m-%d %H:%M:%S}  {one.what:9} {one.records:10} records  {one.name}")


@store_app.command()
def verify(store: str) -> None:
    """Read everything in the last generation; exit code 1 and one line for each fault if there is any."""
    from tokred_sci.datasets.store import read_tokens, verify_tokens

    faults = verify_tokens(store)
    typer.echo("\n".join(faults) or f"{read_tokens(store)}: all as written")
    if faults:
        raise typer.Exit(1)


@store_app.command()
def compact(
    store: str,
    forget: Annotated[bool, typer.Option("--forget", help="Drop all earlier generations.")] = False,
) -> None:
    """Lay records end to end again and give back the room of what no generation holds."""
    from tokred_sci.datasets.store import compact_tokens

    typer.echo(f"{compact_tokens(store, forget):,} bytes given back")


@app.command()
def versions(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Versions of everything a result depends on: paste this into a bug report."""
    from importlib.metadata import version

    names = (
        "tokred-sci",
        "torch",
        "torch-geometric",
        "scikit-learn",
        "scipy",
        "numpy",
        "accelerate",
        "zarr",
        "icechunk",
        "safetensors",
    )
    told = {"python": platform.python_version(), "system": platform.platform(), **{n: version(n) for n in names}}
    typer.echo(json.dumps(told, indent=1) if as_json else "\n".join(f"{k:16} {v}" for k, v in told.items()))


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(tokred_sci.__version__)
        raise typer.Exit


def main() -> None:
    """Run a command: an error of ours is one line and exit code 1, Ctrl-C is exit code 130."""
    try:
        code = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except TokredError as error:
        typer.echo(f"tokred: {error}", err=True)
        code = 1
    except Exception as error:
        if not hasattr(error, "show"):  # a usage error knows how to tell itself; anything else is a bug of ours
            raise
        error.show()
        code = getattr(error, "exit_code", 2)
    if code == 130:
        typer.echo("\nInterrupted; nothing half-written was left behind.", err=True)
    sys.exit(code)
