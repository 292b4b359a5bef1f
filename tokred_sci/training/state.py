"""The state of a run: where it is, and its tensors by name, taken back only if they are of this model and optimiser."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tokred_sci.errors import FileError


@dataclass
class Progress:
    """Where a run is: plain values, in every checkpoint."""

    step: int = 0
    batches: int = 0
    skipped: int = 0
    in_row: int = 0
    rollbacks: int = 0
    factor: float = 1.0
    micro: int = 0
    scale: float = 1.0
    since: int = 0
    recent: list[float] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)


def progress_in(told: Any) -> Progress:
    """Where a run was, from parsed JSON."""
    known = Progress()
    good = isinstance(told, dict) and told.keys() == asdict(known).keys()
    if not good or any(type(told[name]) is not type(value) for name, value in asdict(known).items()):
        raise FileError("Expected a checkpoint that says where the run was (got none, or another version's).")
    if not all(isinstance(loss, float) for loss in told["recent"]):
        raise FileError("Expected recent losses as numbers in the checkpoint (got something else).")
    return Progress(**told)


def tensors_of(
    model: nn.Module, mean: Mapping[str, Tensor], optimiser: torch.optim.Optimizer, states: list[list[Tensor]]
) -> dict[str, Tensor]:
    """Everything of a run that is a tensor, by name: weights, their mean, optimiser, generators of each process."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"mean.{name}": value for name, value in mean.items()}
    for place, kept in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{place}.{name}": value for name, value in kept.items()}
    for process, saved in enumerate(states):
        tensors |= {f"random.{process}.{place}": state for place, state in enumerate(saved)}
    return tensors


def weights_in(tensors: Mapping[str, Tensor], model: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Weights for a model, each of the shape and type it has there; a mean that is absent starts from the weights.

    Raises:
        FileError: one is absent, or of another shape or type.
    """
    found = {}
    for name, value in model.state_dict().items():
        got = tensors.get(prefix + name, tensors.get(f"model.{name}"))
        if got is None or got.shape != value.shape or got.dtype != value.dtype:
            raise FileError(
                f"Expected '{name}' of shape {tuple(value.shape)} in the checkpoint (got "
                f"{'none' if got is None else tuple(got.shape)}): it is of another model."
            )
        found[name] = got.to(value.device)
    return found


def optimiser_in(tensors: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """The state for an AdamW, as its `load_state_dict` takes it.

    Raises:
        FileError: it is incomplete, or of another optimiser.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if not key.startswith("optimiser."):
            continue
        place, _, name = key.removeprefix("optimiser.").partition(".")
        if not (place.isdecimal() and int(place) < len(parameters) and _fits(name, value, parameters[int(place)])):
            raise FileError(f"Expected the state of this optimiser in the checkpoint (got {key!r} of another).")
        state.setdefault(int(place), {})[name] = value
    if any(len(kept) != 3 for kept in state.values()):
        raise FileError("Expected the whole state of the optimiser in the checkpoint (got part of it).")
    return {**optimiser.state_dict(), "state": state}


def _fits(name: str, value: Tensor, parameter: Tensor) -> bool:
    if name == "step":
        return value.shape == () and value.is_floating_point()
    return name in ("exp_avg", "exp_avg_sq") and (value.shape, value.dtype) == (parameter.shape, parameter.dtype)


def check_generators(states: Sequence[Tensor]) -> None:
    """Refuse what is no state of a random generator."""
    try:
        for value in states:
            torch.Generator().set_state(value)
    except (RuntimeError, TypeError, ValueError) as error:
        raise FileError(f"Expected states of random generators in the checkpoint (got: {error}).") from error
