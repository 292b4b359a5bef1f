"""Every error this library raises on purpose is one of these: what was needed, what came, the way out."""

import warnings
from importlib import import_module
from typing import Any


class TokredError(Exception):
    """Base of all errors raised by tokred_sci: `except TokredError` catches them and nothing else."""


class InputError(TokredError, ValueError):
    """A value the caller handed in cannot be used as it is."""


class MissingExtra(TokredError, ImportError):
    """An optional dependency is not installed; the message holds the exact pip line."""


class FileError(TokredError, ValueError):
    """A file does not hold what its format promises; the message names the file and the line or offset."""


class FetchError(TokredError, OSError):
    """A public file could not be fetched or is not what was promised; the message names URL, path and hash."""


class StoreError(TokredError, OSError):
    """A token store is damaged, in use, or written by another version; what was committed before is intact."""


def package(name: str, job: str, extra: str) -> Any:
    """An optional package, imported where it is needed.

    Args:
        name: of the module.
        job: what it is needed for, in words.
        extra: which of this library's extras brings it.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what packages say of each other is not for our users
            return import_module(name)
    except ImportError as error:
        raise MissingExtra(
            f"Expected the package {name.partition('.')[0]!r} for {job} (got: not installed). Install it with\n"
            f'pip install "tokred-sci[{extra}]"'
        ) from error
