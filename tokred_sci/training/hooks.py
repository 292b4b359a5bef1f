"""What training does to a model from outside: watches merging steps, sets budgets, finds random generators."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tokred_sci.errors import InputError
from tokred_sci.reduction.budget import ratio
from tokred_sci.tokens import Tokens


def merging(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Name and module of every block that merges, in order: those whose `reduce` is a pair of grouping and budget."""
    return [(name, module) for name, module in model.named_modules() if _is_pair(getattr(module, "reduce", None))]


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and callable(value[0]) and callable(value[1])


@contextmanager
def watch_merges(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """What leaves each merging step: a number for each forward pass in the block, summed over its records.

    "kept_BLOCK" are tokens; "largest_BLOCK" is the share of its record's elements that the largest token holds: near 1,
    and all has gone into one.

    Example:
        >>> from tokred_sci.models.encoder import Encoder
        >>> from tokred_sci.reduction.control import stride
        >>> from tokred_sci.tokens import Tokens
        >>> encoder = Encoder(dim=8, depth=2, heads=2, reduce={0: (stride, 2)})
        >>> places = torch.arange(8.0).view(1, 8, 1)
        >>> with watch_merges(encoder) as seen:
        ...     _ = encoder(Tokens(torch.randn(1, 8, 8), places, torch.ones(1, 8), torch.arange(8)[None]))
        >>> {name: [number.item() for number in numbers] for name, numbers in seen.items()}
        {'kept_0': [2], 'largest_0': [0.5]}
    """
    steps = [(name.rpartition(".")[2], module) for name, module in merging(model)]
    seen: dict[str, list[Tensor]] = {f"{what}_{name}": [] for what in ("kept", "largest") for name, _ in steps}

    def note(name: str, module: nn.Module, inputs: Any, output: Tokens) -> None:
        sizes = output.sizes.detach()
        seen[f"kept_{name}"].append(output.mask.sum())
        seen[f"largest_{name}"].append((sizes.amax(1) / sizes.sum(1).clamp(min=1)).sum())

    handles = [module.register_forward_hook(partial(note, name)) for name, module in steps]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def at_budget(model: nn.Module, share: float | None) -> Iterator[None]:
    """The model with another budget in the block: this share of the tokens left in the end, by equal steps.

    Args:
        share: of a record's tokens, in (0, 1]; None = the model's own budget.

    Raises:
        InputError: a model that does not merge.

    Example:
        >>> from tokred_sci.models.encoder import Encoder
        >>> from tokred_sci.reduction.chain import links
        >>> from tokred_sci.tokens import Tokens
        >>> encoder = Encoder(dim=8, depth=2, heads=2, reduce={0: (links, 3)})
        >>> places = torch.arange(8.0).view(1, 8, 1)
        >>> tokens = Tokens(torch.randn(1, 8, 8), places, torch.ones(1, 8), torch.arange(8)[None])
        >>> with at_budget(encoder, 0.5):
        ...     encoder(tokens).counts
        tensor([4])
        >>> encoder(tokens).counts
        tensor([3])
    """
    blocks: list[Any] = [module for _, module in merging(model)] if share is not None else []
    if share is not None and not blocks:
        raise InputError(f"Expected a model that merges, for a budget of {share} (got one without merging steps).")
    before = [block.reduce for block in blocks]
    for block in blocks:
        block.reduce = (block.reduce[0], ratio((share or 1.0) ** (1 / len(blocks))))
    try:
        yield
    finally:
        for block, pair in zip(blocks, before, strict=True):
            block.reduce = pair


def generators(model: nn.Module) -> list[torch.Generator]:
    """Random generators that the grouping functions hold ("random" has one): part of the state of a run."""
    return [found for _, module in merging(model) for found in _generators_in(module.reduce[0])]  # type: ignore[index]


def _generators_in(value: Any) -> Iterator[torch.Generator]:
    if isinstance(value, torch.Generator):
        yield value
    elif isinstance(value, partial):
        yield from (
            found for item in (value.func, *value.args, *value.keywords.values()) for found in _generators_in(item)
        )
    else:
        for cell in getattr(value, "__closure__", None) or ():
            yield from _generators_in(cell.cell_contents)


def states(of: Sequence[torch.Generator]) -> list[Tensor]:
    """The states of generators; `restore` puts them back."""
    return [generator.get_state() for generator in of]


def restore(of: Sequence[torch.Generator], saved: Sequence[Tensor]) -> None:
    for generator, state in zip(of, saved, strict=True):
        generator.set_state(state)
