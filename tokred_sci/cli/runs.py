"""Commands that train and measure: train, evaluate, sweep, demo."""

import sys
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from tokred_sci.cli.say import Json, tell
from tokred_sci.errors import InputError

Number = TypeVar("Number", int, float)

PANEL = "Training"


class Domain(StrEnum):
    dna = "dna"
    points = "points"
    series = "series"


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    for command in (train, evaluate, sweep, stability, demo):
        app.command(rich_help_panel=PANEL)(command)


def train(
    config: Annotated[Path, typer.Argument(help="A TOML file: what differs from the defaults of `RunConfig`.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Changes to it, as train.steps=100 model.dim=32.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/NAME-OF-CONFIG.")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="What may differ from the run that is resumed: config, code, data.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train and measure what a config says. Called again after it was stopped or killed, it goes on where it was."""
    from tokred_sci.prepare import RunConfig
    from tokred_sci.run import run
    from tokred_sci.training.config import read_config

    folder = out or Path("runs") / config.stem
    told = run(read_config(RunConfig, config, settings or []), folder, tuple(allow or ()))
    if told:  # the first process tells
        tell({**told, "folder": folder}, f"{_scores(told)}\n{folder}", as_json)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="What to do otherwise, as data.test=genome/NC_000932.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure the model of a run once more, on every record of its validation and test parts."""
    from tokred_sci.run import evaluate as measure
    from tokred_sci.training.processes import Processes

    told = measure(run, settings or [])
    if Processes.here().first:
        tell(told, _scores(told), as_json)


def sweep(
    config: Annotated[Path, typer.Argument(help="The config that all runs share.")],
    settings: Annotated[list[str], typer.Argument(help="What differs, as model.dim=16,32 seed=0,1,2.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the runs; by default runs/NAME-OF-CONFIG-sweep.")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="What may differ from runs that are there: config, code, data.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run all combinations of some settings, go on with those begun, and write one table; exit code 1 if one failed."""
    from tokred_sci.run import sweep as run_all
    from tokred_sci.training.processes import Processes

    folder = out or Path("runs") / f"{config.stem}-sweep"
    rows = run_all(config, settings, folder, allow=tuple(allow or ()))
    if Processes.here().first:
        tell(rows, lambda: (folder / "sweep.csv").read_text().rstrip(), as_json)
    if any("error" in row for row in rows):
        raise typer.Exit(1)


def stability(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Names of tasks, as series/order; by default one for each domain.")
    ] = None,
    arms: Annotated[str, typer.Option(help="Names of arms between commas; 'all' is every one.")] = "",
    seeds: Annotated[int, typer.Option(help="Models of each arm; five or more for intervals.", min=1)] = 5,
    rates: Annotated[str, typer.Option(help="Factors of the learning rate, between commas: its sensitivity.")] = "1",
    tune: Annotated[bool, typer.Option("--tune", help="Choose each arm's rate out of 0.5, 1 and 2 first.")] = False,
    out: Annotated[Path, typer.Option(help="Folder: one file for each model, results.json, figures, a page.")] = Path(
        "runs/stability"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Under 3 minutes; numbers say little.")] = False,
    steps: Annotated[int | None, typer.Option(help="Of training, for every arm.", min=1, show_default="800")] = None,
    pool: Annotated[int | None, typer.Option(help="Records to train on.", min=1, show_default="3072")] = None,
    lengths: Annotated[str, typer.Option(help="Of test records, in training lengths, between commas.")] = "1,2,4,8,16",
    as_json: Json = False,
) -> None:
    """Train arms on short records, measure them at up to 16 times the length; called again, it goes on."""
    from tqdm import tqdm

    from tokred_sci.report import can_write
    from tokred_sci.stability import study
    from tokred_sci.stability.pages import as_text

    def bar(items: Iterable[Any], name: str) -> Iterable[Any]:
        return tqdm(items, desc=f"{name:36}", leave=False, disable=None, file=sys.stderr)

    if not can_write(out):
        raise InputError(f"Expected '--out' as a folder that can be written to (got {out}): choose another.")
    chosen = study.Study(
        study.choose_tasks(tasks, quick),
        study.choose_arms(arms, quick),
        1 if quick else seeds,
        _numbers(rates, float, "--rates"),
        tune,
        quick,
        steps,
        pool,
        _numbers(lengths, int, "--lengths"),
    )
    found = study.run(chosen, out, bar)
    files = study.save(chosen, found, out)
    text = "\n\n".join(f"{name}: {one.task.question}\n{as_text(one.summaries)}" for name, one in found.items())
    tell({"files": files, "tasks": study.plain(found)}, f"{text}\n\n{files[-1]}", as_json)


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


def _numbers(text: str, kind: type[Number], name: str) -> tuple[Number, ...]:
    try:
        return tuple(kind(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"Expected '{name}' as numbers between commas (got {text!r}).") from None


def _scores(told: Mapping[str, Any]) -> str:
    rows = [(part, name, value) for part in ("valid", "test") for name, value in told.get(part, {}).items()]
    return "\n".join(f"{part:6} {name:20} {value:.4f}" for part, name, value in rows)
