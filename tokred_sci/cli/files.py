"""Commands on your own files: inspect, suggest, reduce, tokenize, embed."""

from pathlib import Path
from typing import Annotated

import typer

from tokred_sci.cli.say import Json, Reading, Settings, bar, pairs, scalar, tell
from tokred_sci.errors import InputError

PANEL = "Your files"
File = Annotated[Path, typer.Argument(help="FASTA, GenBank, LAZ, PLY, CSV, EDF, ...", metavar="FILE")]


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    for command in (inspect, suggest, reduce, tokenize, embed):
        app.command(rich_help_panel=PANEL)(command)


def inspect(
    path: Annotated[
        str, typer.Argument(help="A file of records, a token store, a saved model or a run.", metavar="PATH")
    ],
    setting: Settings = None,
    option: Reading = None,
    as_json: Json = False,
) -> None:
    """What a file, store or model is: records, tokens, share unknown, memory and FLOPs before running."""
    from tokred_sci.explore.about import about

    told = about(path, pairs(setting), pairs(option))
    tell(told, told.text, as_json)


def suggest(
    path: File,
    tolerance: Annotated[float, typer.Option(help="Share of variance that may be lost.")] = 0.05,
    setting: Settings = None,
    option: Reading = None,
    as_json: Json = False,
) -> None:
    """Measure how alike a file's tokens are, and propose method and budget with the expected saving."""
    from tokred_sci.explore.suggest import suggest as measure

    told = measure(path, tolerance, pairs(setting), pairs(option), bar("measure"))
    tell(told, told.text, as_json)


def reduce(
    path: File,
    method: Annotated[str, typer.Option(help="A name from 'tokred methods'.")] = "peaks",
    keep: Annotated[str, typer.Option(help="Share of a record's tokens (0.25), or their number (64).")] = "0.25",
    window: Annotated[int, typer.Option(help="Merge within windows of so many tokens; 0 = no windows.", min=0)] = 64,
    out: Annotated[Path | None, typer.Option(help="New token store; without it, only measure.")] = None,
    piece: Annotated[int, typer.Option(help="Cut longer sequences and series at this length; 0 = no.", min=0)] = 65_536,
    setting: Settings = None,
    option: Reading = None,
    as_json: Json = False,
) -> None:
    """Merge a file's raw tokens, before any model: what it saves, what it loses, and a store of what is left."""
    from tokred_sci.explore.reduce import reduce_file

    share = scalar(keep)
    if isinstance(share, bool) or not isinstance(share, int | float):
        raise InputError(f"Expected '--keep' as a share like 0.25 or a number like 64 (got {keep!r}).")
    told = reduce_file(
        path, out, method, share, window or None, pairs(setting), pairs(option), piece or None, bar("reduce")
    )
    tell(told, told.text, as_json)


def tokenize(
    inputs: Annotated[list[Path], typer.Argument(help="Files of one domain: FASTA, GenBank, LAZ, PLY, CSV, EDF, ...")],
    out: Annotated[str, typer.Option(help="The store: a folder, or s3://bucket/prefix. Records are added to it.")],
    setting: Settings = None,
    option: Reading = None,
    piece: Annotated[int, typer.Option(help="Cut longer sequences and series into records of this length; 0 = no.")] = 1
    << 20,
    workers: Annotated[int, typer.Option(help="Local processes; 0 = this one.", min=0)] = 0,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, in place of --workers.")] = None,
    as_json: Json = False,
) -> None:
    """Tokenize files into a store. Called again after it was interrupted, it goes on where it was."""
    from tokred_sci.explore.about import about_store
    from tokred_sci.ingest import tokenize_files, tokenizer_for

    settings, options = pairs(setting), pairs(option)
    tokenizer = tokenizer_for(inputs[0], settings, options)
    store = tokenize_files(inputs, out, tokenizer, piece or None, workers, dask, options)
    tell(about_store(out) if as_json else None, f"{tokenizer}\n{store} in {out}", as_json)


def embed(
    path: Annotated[Path, typer.Argument(help="A file of records, or a token store.", metavar="FILE")],
    model: Annotated[Path, typer.Argument(help="Folder of save_pretrained, or of a run.")],
    out: Annotated[Path, typer.Option(help="New file: .npz, .npy or .zarr.")],
    per_element: Annotated[
        bool, typer.Option("--per-element", help="A row for each base, point or step; else one for each record.")
    ] = False,
    batch: Annotated[int, typer.Option(help="Records that go through the model together.", min=1)] = 8,
    piece: Annotated[int, typer.Option(help="Cut longer sequences and series at this length; 0 = no.", min=0)] = 65_536,
    option: Reading = None,
    as_json: Json = False,
) -> None:
    """A trained model's features for every record, or for every base, point or time step."""
    from tokred_sci.explore.embed import embed_file

    told = embed_file(path, model, out, per_element, batch, piece or None, pairs(option), bar("embed"))
    tell(told, told.text, as_json)
