"""Token reduction for scientific domains: names only; see ARCHITECTURE.md for the way in."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokred_sci.datasets.sample import load_sample
    from tokred_sci.errors import InputError, TokredError
    from tokred_sci.experiment import REDUCTIONS, Model, ModelConfig, Reduce
    from tokred_sci.models.encoder import Encoder
    from tokred_sci.reduction.merge import extent, merge, to_source, unmerge
    from tokred_sci.reduction.where import cells, protect, windows, within
    from tokred_sci.tokenizers import DNATokenizer, PointTokenizer, SeriesTokenizer
    from tokred_sci.tokens import Grouping, Tokens, stack

__version__ = "0.1.0"

_HOMES = {
    "Tokens": "tokens",
    "Grouping": "tokens",
    "stack": "tokens",
    "merge": "reduction.merge",
    "unmerge": "reduction.merge",
    "to_source": "reduction.merge",
    "extent": "reduction.merge",
    "within": "reduction.where",
    "windows": "reduction.where",
    "cells": "reduction.where",
    "protect": "reduction.where",
    "DNATokenizer": "tokenizers.dna",
    "PointTokenizer": "tokenizers.points",
    "SeriesTokenizer": "tokenizers.series",
    "load_sample": "datasets.sample",
    "Encoder": "models.encoder",
    "Model": "experiment",
    "ModelConfig": "experiment",
    "Reduce": "experiment",
    "REDUCTIONS": "experiment",
    "TokredError": "errors",
    "InputError": "errors",
}
__all__ = [
    "REDUCTIONS",
    "DNATokenizer",
    "Encoder",
    "Grouping",
    "InputError",
    "Model",
    "ModelConfig",
    "PointTokenizer",
    "Reduce",
    "SeriesTokenizer",
    "Tokens",
    "TokredError",
    "cells",
    "extent",
    "load_sample",
    "merge",
    "protect",
    "stack",
    "to_source",
    "unmerge",
    "windows",
    "within",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import tokred_sci` itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tokred_sci' has no attribute {name!r}")
    return getattr(import_module(f"tokred_sci.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
