"""A saved model from a folder that somebody else may have made: read, checked, never executed."""

import json
import os
from pathlib import Path

from tokred_sci.errors import InputError
from tokred_sci.experiment import TOKENIZERS, Model, ModelConfig

FOREIGN = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


def model_folder(folder: Path) -> Path:
    """Where the model of this folder is: a run keeps it in `model`."""
    inside = folder / "model"
    return inside if inside.is_dir() else folder


def is_model(folder: Path) -> bool:
    """Whether a folder looks like a saved model or a run."""
    place = model_folder(folder)
    return (place / "model.safetensors").exists() or (place / "config.json").exists()


def load_model(folder: str | os.PathLike) -> Model:
    """The model that `save_pretrained` or a run left in a folder, ready to answer (`eval`).

    Law: nothing in the folder is executed, and no more memory is asked for than the weights on disk account for.

    Raises:
        InputError: no model there, damaged or foreign weights, or a config that does not describe them.
    """
    place = model_folder(Path(folder))
    if not is_model(place):
        raise InputError(
            f"Expected a folder with 'config.json' and 'model.safetensors' (got {folder} without): name what "
            "'save_pretrained' or 'tokred train' wrote."
        )
    try:
        _require_accounted(place)
        return Model.from_pretrained(place).eval()
    except InputError:
        raise
    except FOREIGN as error:
        raise InputError(
            f"Expected a config that describes a model in {place / 'config.json'} (got {type(error).__name__}: "
            f"{error}): fetch it again."
        ) from error


def _require_accounted(place: Path) -> None:
    """A config may claim any size; a model of that size has a file to match: at least a byte for each parameter."""
    try:
        told = json.loads((place / "config.json").read_text())
        size = (place / "model.safetensors").stat().st_size
    except (OSError, ValueError):
        return  # `from_pretrained` tells
    told.pop("sha256", None)
    config = ModelConfig.from_dict(told)
    if config.domain in TOKENIZERS and (least := _fewest_parameters(config)) > size:
        raise InputError(
            f"Expected weights for {least:,} parameters or more, as {place / 'config.json'} says (got {size:,} "
            "bytes): config and weights are not of one model, fetch both again."
        )


def _fewest_parameters(config: ModelConfig) -> int:
    """Those of attention, MLP, vocabulary and head, without building any; a model has some more."""
    tokenizer = TOKENIZERS[config.domain](**config.tokenizer)
    rows = 0 if getattr(tokenizer, "scheme", "patch") == "patch" else tokenizer.vocabulary_size
    block = config.dim * (1 if config.plain else 12 * config.dim)
    return config.depth * block + (rows + config.outputs) * config.dim
