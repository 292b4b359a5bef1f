"""`tokred data`: public datasets by name."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokred_sci.cli.runs import Domain
from tokred_sci.cli.say import Json, tell

if TYPE_CHECKING:
    from tokred_sci.datasets.public.card import Card

app = typer.Typer(help="Public datasets by name.", no_args_is_help=True)
DataFolder = Annotated[
    Path | None, typer.Option(help="Where files are kept; else $TOKRED_DATA_HOME, else the user's cache.")
]


@app.command("list")
def list_sets(
    domain: Annotated[Domain | None, typer.Argument(help="Only those of one domain.")] = None, as_json: Json = False
) -> None:
    """The public datasets that are known by name; as JSON every set, else one line for each family."""
    from tokred_sci.datasets.public import list_text
    from tokred_sci.datasets.public.catalog import cards

    chosen = [_facts(card) for card in cards().values() if domain in (None, card.domain)] if as_json else []
    tell(chosen, lambda: list_text(domain and domain.value), as_json)


@app.command()
def info(name: str, as_json: Json = False) -> None:
    """All that is known about a set: task, splits, licence, citation, published results, addresses."""
    from tokred_sci.datasets.public import info_text
    from tokred_sci.datasets.public.catalog import find

    tell(_facts(find(name)) if as_json else None, lambda: info_text(name), as_json)


@app.command()
def fetch(names: list[str], folder: DataFolder = None, as_json: Json = False) -> None:
    """Download sets; what is there already, and what was half there, is not fetched again."""
    from tokred_sci.datasets.public.catalog import fetch_set, find

    told = []
    for name in names:
        told.append({"name": name, "files": len(find(name).files), "folder": fetch_set(name, folder)})
        if not as_json:
            typer.echo(f"{name}: {told[-1]['files']} file(s), checked, in {told[-1]['folder']}")
    if as_json:
        tell(told, "", as_json)


@app.command("verify")
def verify_sets(names: list[str], folder: DataFolder = None, as_json: Json = False) -> None:
    """Compare the files of sets with their published, or first seen, SHA-256; exit code 1 if any differs or is gone."""
    from tokred_sci.datasets.public.catalog import find, verify

    told = [
        {"name": name, "file": f"{find(name).family}/{file}", "state": state}
        for name in names
        for file, state in verify(name, folder)
    ]
    tell(told, "\n".join(f"{one['state']:8} {one['file']}" for one in told), as_json)
    if any(one["state"].startswith(("changed", "absent")) for one in told):
        raise typer.Exit(1)


def _facts(card: "Card") -> dict[str, Any]:
    """A card as plain values, without its loader."""
    return {field.name: getattr(card, field.name) for field in fields(card) if field.name != "load"}
