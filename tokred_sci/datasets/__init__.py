"""Disk and network -> records and labels; tokens -> disk, and back to batches."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokred_sci.datasets.layout import Entry
    from tokred_sci.datasets.loader import Batch, TokenLoader
    from tokred_sci.datasets.public import load
    from tokred_sci.datasets.reader import read
    from tokred_sci.datasets.records import Records
    from tokred_sci.datasets.sample import load_sample
    from tokred_sci.datasets.store import (
        TokenStore,
        append_tokens,
        compact_tokens,
        generations,
        read_tokens,
        update_tokens,
        verify_tokens,
        write_tokens,
    )

_HOMES = {
    "Records": "records",
    "read": "reader",
    "load": "public",
    "load_sample": "sample",
    "Entry": "layout",
    "write_tokens": "store",
    "append_tokens": "store",
    "update_tokens": "store",
    "read_tokens": "store",
    "generations": "store",
    "verify_tokens": "store",
    "compact_tokens": "store",
    "TokenStore": "store",
    "TokenLoader": "loader",
    "Batch": "loader",
}
__all__ = [
    "Batch",
    "Entry",
    "Records",
    "TokenLoader",
    "TokenStore",
    "append_tokens",
    "compact_tokens",
    "generations",
    "load",
    "load_sample",
    "read",
    "read_tokens",
    "update_tokens",
    "verify_tokens",
    "write_tokens",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: reading a sample does not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tokred_sci.datasets' has no attribute {name!r}")
    return getattr(import_module(f"tokred_sci.datasets.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
