"""Commands that tell of the library itself: methods, versions."""

import platform
from typing import Annotated

import typer

from tokred_sci.cli.say import Json, tell

PANEL = "The library"
NEEDED = (
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


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    for command in (methods, versions):
        app.command(rich_help_panel=PANEL)(command)


def methods(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As the table of README.md, with costs and links.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The table of reduction methods."""
    from tokred_sci.methods import as_markdown, as_text
    from tokred_sci.methods import methods as rows

    table = rows()
    tell(table, lambda: as_markdown(table) if markdown else as_text(table), as_json)


def versions(as_json: Json = False) -> None:
    """Versions of everything a result depends on: paste this into a bug report."""
    from importlib.metadata import version

    told = {"python": platform.python_version(), "system": platform.platform(), **{n: version(n) for n in NEEDED}}
    tell(told, "\n".join(f"{name:16} {value}" for name, value in told.items()), as_json)
