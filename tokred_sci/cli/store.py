"""`tokred store`: look after a token store."""

from typing import Annotated

import typer

from tokred_sci.cli.say import Json, tell

app = typer.Typer(help="Look after a token store.", no_args_is_help=True)


@app.command()
def generations(store: str, as_json: Json = False) -> None:
    """The states of a store that were committed whole: number, time, what was done, records."""
    from tokred_sci.datasets.store import generations as history

    told = history(store)
    lines = (
        f"{number:4}  {one.when:%Y-%m-%d %H:%M:%S}  {one.what:9} {one.records:10} records  {one.name}"
        for number, one in enumerate(told)
    )
    tell(told, lambda: "\n".join(lines), as_json)


@app.command()
def verify(store: str, as_json: Json = False) -> None:
    """Read everything in the last generation; exit code 1 and one line for each fault if there is any."""
    from tokred_sci.datasets.store import read_tokens, verify_tokens

    faults = verify_tokens(store)
    tell(
        {"store": store, "faults": faults},
        lambda: "\n".join(faults) or f"{read_tokens(store)}: all as written",
        as_json,
    )
    if faults:
        raise typer.Exit(1)


@app.command()
def compact(
    store: str,
    forget: Annotated[bool, typer.Option("--forget", help="Drop all earlier generations.")] = False,
    as_json: Json = False,
) -> None:
    """Lay records end to end again and give back the room of what no generation holds."""
    from tokred_sci.datasets.store import compact_tokens

    freed = compact_tokens(store, forget)
    tell({"store": store, "bytes_given_back": freed}, f"{freed:,} bytes given back", as_json)
