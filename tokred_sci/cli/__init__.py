"""The `tokred` command: thin; every command calls one function of the library, and nothing heavy before it runs."""

import os
import sys
import traceback
from dataclasses import dataclass
from typing import Annotated, Any

import typer

import tokred_sci
from tokred_sci.cli import data, files, library, runs, store
from tokred_sci.errors import TokredError

app = typer.Typer(
    help="Token reduction for DNA, point clouds and sensor series.",
    epilog="Every command but demo takes --json. Completion of your shell: tokred --install-completion",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for group in (files, runs, library):
    group.add_to(app)
app.add_typer(store.app, name="store", rich_help_panel="Stores and datasets")
app.add_typer(data.app, name="data", rich_help_panel="Stores and datasets")

BUG = 70  # exit code of what should not have happened, as sysexits.h has it


@dataclass
class Wishes:
    """What was said before the command's name."""

    debug: bool = False


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error: tokred --debug COMMAND.")] = False,
) -> None:
    if version:
        typer.echo(tokred_sci.__version__)
        raise typer.Exit
    context.ensure_object(Wishes).debug = debug


def main() -> None:
    """Run a command. An error is one line on stderr, and the exit code says whose it is.

    1: the input's, or what is on disk (ours, and the system's); 2: a call that is none; 70: a bug; 130: Ctrl-C.
    """
    wishes = Wishes()
    try:
        code = app(prog_name="tokred", obj=wishes, standalone_mode=False)  # 130 where Ctrl-C came
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:  # whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        if wishes.debug:
            traceback.print_exception(error)
        code = _say(error)
    if code == 130:
        typer.echo("\ntokred: interrupted; nothing half-written was left behind.", err=True)
    sys.exit(code)


def _say(error: Any) -> int:
    """Print an error in one line; returns its exit code."""
    if type(error).__name__ == "NoArgsIsHelpError":  # no command at all: its text is the help
        error.show()
        return 2
    text, code = _told(error)
    typer.echo(f"tokred: {text}", err=True)
    return code


def _told(error: Any) -> tuple[str, int]:
    if isinstance(error, TokredError | OSError):
        return _flat(error), 1
    if hasattr(error, "format_message"):  # of the command line's parser
        command = error.ctx.command_path if error.ctx else "tokred"
        text = _flat(error.format_message())
        return f"{text}{'' if text.endswith(('.', '?')) else '.'} See '{command} --help'.", 2
    return (
        f"{type(error).__name__}: {_flat(error)}. This is a bug: run again with 'tokred --debug ...' and report it.",
        BUG,
    )


def _flat(text: object) -> str:
    return " ".join(str(text).split())
