"""What figures draw: for each layer the token of each element of one record, read from tokens or groupings."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tokred_sci.errors import InputError
from tokred_sci.tokens import Grouping, Tokens

Layers = Tokens | Grouping | Sequence[Tokens] | Sequence[Grouping]
"""One layer, or several from the finest to the coarsest: what `Encoder.trace` returns, or groupings in a chain."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One record after one step.

    Args:
        name: in words.
        holder: for each element the number of its token, (M,) int64; -1 = dropped.
    """

    name: str
    holder: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Elements of each token number; 0 for numbers nobody has."""
        return np.bincount(self.holder[self.holder >= 0], minlength=1)

    @property
    def count(self) -> int:
        return int((self.sizes > 0).sum())


def read_layers(
    layers: Layers, record: int = 0, elements: int | None = None, names: Sequence[str] | None = None
) -> list[Layer]:
    """Layers of one record of a batch, on the CPU and without its padding.

    Args:
        layers: one or several; the elements of a chain of groupings are the tokens that its first one groups.
        record: which of the batch.
        elements: how many the record has, where known. Else of a batch of one all, of more up to the last one held.
        names: of the layers; None = "layer 0", "layer 1" ... ("tokens" if there is one).

    Raises:
        InputError: nothing, tokens and groupings mixed, a record that is not there, layers of different records,
            other elements than the tokens', or not a name for each layer.
    """
    chain: list[Tokens | Grouping] = [layers] if isinstance(layers, Tokens | Grouping) else list(layers)
    kinds = {type(layer) for layer in chain}
    if kinds != {Tokens} and kinds != {Grouping}:
        got = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
        raise InputError(f"Expected Tokens or Groupings, or a list of one of them (got {got}).")
    holders = [_holder(layer, record) for layer in chain]
    if kinds == {Grouping}:
        holders = _compose(holders)
    if len({len(holder) for holder in holders}) > 1:
        lengths = [len(holder) for holder in holders]
        raise InputError(f"Expected layers of one record (got {lengths} elements): take them from one trace.")
    batch = len(chain[0].sizes if isinstance(chain[0], Tokens) else chain[0].labels)
    end = _end(holders, batch, elements)
    return [Layer(name, holder[:end]) for name, holder in zip(_names(chain, names), holders, strict=True)]


def check_window(start: int, stop: int | None, elements: int) -> tuple[int, int]:
    """Refuse a window that is empty or outside the record."""
    stop = elements if stop is None else stop
    if not 0 <= start < stop <= elements:
        raise InputError(f"Expected 0 <= start < stop <= {elements} (got {start} and {stop}).")
    return start, stop


def check_nested(layers: Sequence[Layer]) -> None:
    """Refuse layers that split a token: there is no tree of these."""
    for fine, coarse in pairwise(layers):
        held = fine.holder >= 0
        low, high = np.full(len(fine.sizes), len(held)), np.full(len(fine.sizes), -1)
        np.minimum.at(low, fine.holder[held], coarse.holder[held])
        np.maximum.at(high, fine.holder[held], coarse.holder[held])
        if (split := np.flatnonzero((high > low) & (fine.sizes > 0))).size or (coarse.holder[~held] >= 0).any():
            where = f"token {split[0]} of {fine.name!r}" if split.size else f"what {fine.name!r} dropped"
            raise InputError(f"Expected layers from fine to coarse (got {where} in parts in {coarse.name!r}).")


def runs(holder: np.ndarray) -> np.ndarray:
    """Where each run of one token starts, and (last) the end."""
    return np.concatenate([[0], np.flatnonzero(np.diff(holder)) + 1, [len(holder)]])


def _holder(layer: Tokens | Grouping, record: int) -> np.ndarray:
    table = layer.source if isinstance(layer, Tokens) else layer.labels
    if not -len(table) <= record < len(table):
        raise InputError(f"Expected 'record' in [0, {len(table)}) (got {record}).")
    return table[record].detach().cpu().numpy()


def _compose(holders: list[np.ndarray]) -> list[np.ndarray]:
    """Groups of groups, down to what the first grouping groups."""
    told = holders[:1]
    for labels in holders[1:]:
        if told[-1].max(initial=-1) >= len(labels):
            raise InputError(
                f"Expected each grouping to be of the groups before it (got {int(told[-1].max()) + 1} groups, "
                f"then labels for {len(labels)})."
            )
        told.append(np.where(told[-1] >= 0, labels[told[-1]], -1))
    return told


def _end(holders: Sequence[np.ndarray], batch: int, elements: int | None) -> int:
    """Where the record ends: behind it is padding."""
    total = len(holders[0])
    held = np.flatnonzero(holders[0] >= 0)
    last = int(held[-1]) + 1 if held.size else 0
    if last == 0:
        raise InputError("Expected a record that tokens hold (got padding alone): choose another 'record'.")
    least, most = (total, total) if batch == 1 else (last, total)
    if elements is None:
        return total if batch == 1 else last
    if not least <= elements <= most:
        raise InputError(f"Expected values for {last} elements (got {elements}): are they of the same record?")
    return elements


def _names(chain: Sequence[Tokens | Grouping], names: Sequence[str] | None) -> Sequence[str]:
    if names is not None and len(names) != len(chain):
        raise InputError(f"Expected {len(chain)} names, one for each layer (got {len(names)}).")
    if names is not None:
        return names
    if len(chain) == 1:
        return ["tokens"]
    return [f"layer {i}" for i in range(len(chain))]
