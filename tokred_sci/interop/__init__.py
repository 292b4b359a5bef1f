"""The outside world's shapes: each library in a file of its own, imported when a name of it is used."""

from importlib import import_module
from typing import Any

_WHERE = {
    "reduce": "tokred_sci.interop.huggingface.merging",
    "restore": "tokred_sci.interop.huggingface.merging",
    "TokenCollator": "tokred_sci.interop.huggingface.collator",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
