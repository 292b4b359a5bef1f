"""Which token goes into which: layers as an icicle, elements ordered so that every token lies above its group."""

from collections.abc import Sequence

import numpy as np

from tokred_sci.errors import InputError
from tokred_sci.plotting.colours import colour_tokens, lighten, paint
from tokred_sci.plotting.layers import Layer, Layers, check_nested, check_window, read_layers, runs
from tokred_sci.plotting.picture import NORMAL, Picture, counted
from tokred_sci.plotting.strips import draw_strips, is_crowded


def tree(
    layers: Layers,
    *,
    record: int = 0,
    start: int = 0,
    stop: int | None = None,
    names: Sequence[str] | None = None,
    unit: str = "elements",
) -> Picture:
    """The merge tree: one row for each layer, a token as wide as its size, above the token it goes into.

    Law: every token is one box, and lies within the box of its group one row below. Colours are those of the last
    layer's tokens, members lighter and darker in turns. A row of more than 600 tokens is drawn by the boxes of the
    first row below that has fewer, and says so.

    Args:
        layers: a list of tokens or groupings from fine to coarse (`model.encoder.trace(...)`).
        record: which of the batch.
        start, stop: of the horizontal axis: elements in the tree's order.
        names: of the layers.
        unit: of the elements, plural.

    Raises:
        InputError: fewer than two layers, layers that split a token, or an empty window.

    Example:
        >>> import torch
        >>> from tokred_sci.tokens import Grouping
        >>> figure = tree([Grouping(torch.tensor([[0, 1, 0, 2]]), 3), Grouping(torch.tensor([[0, 1, 1]]), 2)])
        >>> [len(boxes.get_paths()) for boxes in figure.axes[0].collections[::2]]
        [3, 2]
    """
    told = read_layers(layers, record, names=names)
    if len(told) < 2:
        raise InputError("Expected two layers or more (got one): a tree is what happens between them.")
    check_nested(told)
    order = tree_order([layer.holder for layer in told])
    start, stop = check_window(start, stop, len(order))
    ordered = [Layer(layer.name, layer.holder[order[start:stop]]) for layer in told]
    return _draw(ordered, np.arange(start, stop + 1, dtype=float), unit)


def tree_order(holders: Sequence[np.ndarray]) -> np.ndarray:
    """Elements so that those of each token of each layer lie together; groups by their first element, dropped last.

    Example:
        >>> import numpy as np
        >>> tree_order([np.array([0, 1, 0, 1, -1, 2]), np.array([0, 1, 0, 1, -1, 0])]).tolist()
        [0, 2, 5, 1, 3, 4]
    """
    elements = len(holders[0])
    keys = [np.arange(elements)]
    for holder in holders:
        first = np.full(int(holder.max(initial=0)) + 1, elements)
        np.minimum.at(first, holder[holder >= 0], np.flatnonzero(holder >= 0))
        keys.append(np.where(holder >= 0, first[holder], elements))
    return np.lexsort(keys)


def drawn_by(holders: Sequence[np.ndarray], index: int) -> int:
    """The first row from `index` on whose boxes can be told apart; `index` itself if none can."""
    return next((i for i in range(index, len(holders)) if not is_crowded(holders[i])), index)


def _draw(layers: list[Layer], edges: np.ndarray, unit: str) -> Picture:
    (hues,) = colour_tokens([layers[-1].holder])
    base = paint(layers[-1].holder, hues)
    holders = [layer.holder for layer in layers]
    rows, faces, notes = [], [], []
    for index, layer in enumerate(layers):
        by = drawn_by(holders, index)
        rows.append(Layer(layer.name, holders[by]))
        faces.append(base if by == len(layers) - 1 else _shade(base, holders[by]))
        notes.append(counted(layer.count, "token") + ("" if by == index else f"\nin {layers[by].count:,} groups"))
    figure = Picture(0.75 + 0.42 * len(layers))
    axes = figure.subplots()
    shades = draw_strips(axes, rows, edges, faces, notes)
    axes.set_xlabel(f"{unit}, ordered by group", fontsize=NORMAL)
    if shades is not None:
        figure.colorbar(shades, ax=axes, location="bottom", shrink=0.4, aspect=30).set_label("elements per token")
    return figure


def _shade(base: np.ndarray, holder: np.ndarray) -> np.ndarray:
    """Members of a group lighter and darker in turns."""
    starts = runs(holder)
    turn = np.repeat(np.arange(len(starts) - 1) % 2, np.diff(starts))
    return lighten(base, np.where(turn == 1, 0.45, 0.15))
