"""Maps: who attends to whom, with sizes on the margins, and how large tokens are where."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.models.attention import rotary, rotate, size_bias
from tokred_sci.models.encoder import place
from tokred_sci.plotting.colours import COLOURS, INK, MAGNITUDES
from tokred_sci.plotting.layers import Layers, read_layers
from tokred_sci.plotting.picture import NORMAL, SMALL, Picture, bare, counted
from tokred_sci.plotting.strips import BINS, HIGH, binned_sizes, size_norm
from tokred_sci.tokens import Tokens

MOST_CELLS = 400
MOST_ATTENDED = 8_192


class Attended(NamedTuple):
    """What one block's attention does with one record.

    Attributes:
        weights: share of each head's query (row) that goes to each key (column), (H, N, N); rows sum to 1.
        tokens: those that attend, a batch of one.
    """

    weights: Tensor
    tokens: Tokens


def attend(model: Any, tokens: Tokens, block: int, record: int = 0) -> Attended:
    """The attention of one block for one record, computed again from its queries, keys, places and sizes.

    Law: `weights @ values`, through the output projection, is what the block's attention returns.

    Args:
        model: an `experiment.Model`, or any module with `embed` and `encoder`.
        tokens: as `model.tokenize` returns them.
        block: number of the encoder block, from 0.
        record: which of the batch.

    Raises:
        InputError: a block or record that is not there, or more than 8,192 tokens in the block.
    """
    blocks = model.encoder.blocks
    if not 0 <= block < len(blocks) or not -len(tokens) <= record < len(tokens):
        raise InputError(
            f"Expected 'block' in [0, {len(blocks)}) and 'record' in [0, {len(tokens)}) (got {block} and {record})."
        )
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            entered = model.encoder.trace(model.embed(tokens[record]))[block]
            if entered.features.shape[1] > MOST_ATTENDED:
                raise InputError(
                    f"Expected at most {MOST_ATTENDED:,} tokens in block {block} (got {entered.features.shape[1]:,}): "
                    "look at a block behind a merge, or at a shorter record."
                )
            return Attended(_weights(blocks[block], entered, model.encoder.unit), entered)
    finally:
        model.train(training)


def attention(
    weights: Tensor | np.ndarray | Attended,
    tokens: Tokens | None = None,
    *,
    head: int | None = None,
    record: int = 0,
    log: bool = False,
) -> Picture:
    """Map of attention, queries in rows and keys in columns, with the sizes of the tokens on both margins.

    More than 400 tokens are averaged in blocks, and the title says so.

    Args:
        weights: (H, N, N) or (N, N), rows sum to 1; or what `attend` returns, which brings its tokens.
        tokens: whose sizes the margins show; None = no margins.
        head: which head; None = their mean.
        record: of `tokens`.
        log: colours by the logarithm, for attention that is nearly all in few places.

    Raises:
        InputError: weights that are not square, negative or not finite, a head that is not there, or other tokens.

    Example:
        >>> import torch
        >>> figure = attention(torch.eye(5).expand(2, 5, 5), head=1)
        >>> figure.axes[0].get_xlabel()
        'key (attended to)'
    """
    if isinstance(weights, Attended):
        tokens, record, weights = weights.tokens, 0, weights.weights
    table, told = _read_weights(weights, head)
    sizes = None if tokens is None else _sizes_of(tokens, record, len(table))
    figure = Picture(5.4, 6.2)
    if sizes is None:
        axes = figure.subplots()
    else:
        grid = figure.subplots(2, 2, width_ratios=(8, 1), height_ratios=(1, 8))
        axes = grid[1, 0]
        grid[0, 1].set_axis_off()
        _draw_margins(grid[0, 0], grid[1, 1], sizes)
    _draw_map(figure, axes, table, log)
    if len(table) > MOST_CELLS:
        told += f", mean of blocks of {-(-len(table) // MOST_CELLS)} tokens"
    figure.suptitle(f"attention of {counted(len(table), 'token')}, {told}", fontsize=NORMAL)
    return figure


def sizes(layers: Layers, *, record: int = 0, names: Sequence[str] | None = None, unit: str = "elements") -> Picture:
    """How large tokens are where (left) and how sizes are spread (right), a row for each layer.

    Left: mean elements per token in 300 equal parts of the record. Right: smallest to largest token, the middle half as
    a box, the median as a line.

    Args:
        layers: tokens, a grouping, or a list of either from fine to coarse.
        record: which of the batch.
        names: of the layers.
        unit: of the elements, plural.

    Raises:
        InputError: layers that do not fit together.

    Example:
        >>> import torch
        >>> from tokred_sci.tokens import Grouping
        >>> figure = sizes(Grouping(torch.tensor([[0, 0, 0, 1]]), 2))
        >>> [axes.get_xlabel() for axes in figure.axes[:2]]
        ['elements', 'elements per token']
    """
    told = read_layers(layers, record, names=names)
    elements, norm = len(told[0].holder), size_norm(told)
    figure = Picture(1.5 + 0.32 * len(told))
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1), sharey=True)
    starts = np.unique(np.linspace(0, elements, BINS, endpoint=False).astype(np.int64))
    edges = np.append(starts, elements)
    for row, layer in enumerate(told):
        y = [row - HIGH / 2, row + HIGH / 2]
        left.pcolormesh(edges, y, binned_sizes(layer)[None], norm=norm, cmap=MAGNITUDES, rasterized=True)
        _draw_box(right, row, layer.sizes[layer.sizes > 0])
        note = counted(layer.count, "token")
        right.text(1.02, row, note, va="center", fontsize=SMALL, transform=right.get_yaxis_transform())
    for axes in (left, right):
        bare(axes, "bottom")
        axes.tick_params(axis="y", length=0)
    left.set(xlim=(0, elements), ylim=(len(told) - 0.5, -0.5))
    left.set_yticks(range(len(told)), [layer.name for layer in told])
    left.set_xlabel(unit, fontsize=NORMAL)
    left.xaxis.set_major_formatter("{x:,.10g}")
    bar = figure.colorbar(ScalarMappable(norm, MAGNITUDES), ax=left, location="bottom", shrink=0.7, aspect=30)
    bar.set_label(f"mean {unit} per token", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    right.set_xscale("log", base=2)
    right.margins(x=0.08)
    right.xaxis.set_major_formatter("{x:,g}")
    right.set_xlabel(f"{unit} per token", fontsize=NORMAL)
    right.grid(axis="x", alpha=0.25)
    return figure


def _weights(block: Any, tokens: Tokens, unit: float) -> Tensor:
    """softmax(q k / sqrt(K) + bias) within the block's window, (H, N, N)."""
    attention, x = block.attention, block.norm_attention(tokens.features)
    q, k, _ = attention.qkv(x).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)  # 3 x (1, H, N, K)
    cos, sin = rotary(place(tokens, unit, block.places), q.shape[-1], x.dtype)
    q, k = (rotate(part, cos, sin) for part in (attention.norm_q(q), attention.norm_k(k)))
    scores = q @ k.mT / q.shape[-1] ** 0.5 + size_bias(tokens.sizes, attention.size_exponent, x.dtype)[:, None, None]
    if attention.window is not None:
        places = torch.arange(x.shape[1], device=x.device)
        far = (places[:, None] - places).abs() > attention.window
        scores = scores.masked_fill(far, -torch.inf)
    return scores.softmax(-1)[0]


def _read_weights(weights: Tensor | np.ndarray, head: int | None) -> tuple[np.ndarray, str]:
    """One (N, N) table, and in words what it is of."""
    table = weights.detach().cpu().double().numpy() if isinstance(weights, Tensor) else np.asarray(weights, float)
    if table.ndim == 2:
        table = table[None]
    if table.ndim != 3 or table.shape[1] != table.shape[2] or not table.size:
        raise InputError(f"Expected attention of shape (H, N, N) or (N, N) (got {tuple(np.shape(weights))}).")
    if not np.isfinite(table).all() or (table < 0).any():
        raise InputError("Expected attention as shares from 0 to 1 (got negative or not finite ones): after softmax.")
    if head is not None and not 0 <= head < len(table):
        raise InputError(f"Expected 'head' in [0, {len(table)}) or None for the mean (got {head}).")
    if head is None:
        return table.mean(0), f"mean of {counted(len(table), 'head')}"
    return table[head], f"head {head}"


def _sizes_of(tokens: Tokens, record: int, count: int) -> np.ndarray:
    if not -len(tokens) <= record < len(tokens):
        raise InputError(f"Expected 'record' in [0, {len(tokens)}) (got {record}).")
    told = tokens.sizes[record].detach().cpu().numpy()
    told = told[told > 0] if len(told) != count else told
    if len(told) != count:
        raise InputError(f"Expected the {count} tokens that attend (got {len(told)}): those that enter the block.")
    return told


def _draw_map(figure: Picture, axes: Axes, table: np.ndarray, log: bool) -> None:
    step = -(-len(table) // MOST_CELLS)
    drawn = _averaged(_averaged(table, step).T, step).T
    positive = drawn[drawn > 0]
    high = float(np.quantile(drawn, 0.999)) or float(drawn.max()) or 1.0
    low = max(float(positive.min()), high / 1e4) if positive.size else high / 10
    norm = LogNorm(min(low, high / 2), high) if log else Normalize(0, high)
    image = axes.imshow(
        drawn, norm=norm, cmap=MAGNITUDES, aspect="auto", interpolation="nearest", extent=_extent(len(table))
    )
    axes.set_xlabel("key (attended to)", fontsize=NORMAL)
    axes.set_ylabel("query", fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    more = "max" if drawn.max() > high else "neither"
    bar = figure.colorbar(image, ax=figure.axes, location="bottom", shrink=0.6, aspect=35, pad=0.02, extend=more)
    bar.set_label("share of the query's attention", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)


def _extent(count: int) -> tuple[float, float, float, float]:
    return -0.5, count - 0.5, count - 0.5, -0.5


def _averaged(table: np.ndarray, step: int) -> np.ndarray:
    """Mean of every `step` rows."""
    starts = np.arange(0, len(table), step)
    width = np.diff(np.append(starts, len(table)))
    return np.add.reduceat(table, starts) / width[:, None]


def _draw_margins(top: Axes, right: Axes, sizes: np.ndarray) -> None:
    """Sizes as steps, above the keys and beside the queries."""
    edges = np.arange(len(sizes) + 1) - 0.5
    wide = sizes.max() > 20 * sizes.min()
    low = sizes.min() / 2 if wide else 0
    top.stairs(sizes, edges, fill=True, baseline=low, color=COLOURS[5])
    right.stairs(sizes, edges, fill=True, baseline=low, color=COLOURS[5], orientation="horizontal")
    top.set(xlim=(-0.5, len(sizes) - 0.5), xticks=[], yscale="log" if wide else "linear")
    right.set(ylim=(len(sizes) - 0.5, -0.5), yticks=[], xscale="log" if wide else "linear")
    top.set_ylabel("size", fontsize=SMALL)
    right.set_xlabel("size", fontsize=SMALL)
    bare(top, "left")
    bare(right, "bottom")


def _draw_box(axes: Axes, row: int, sizes: np.ndarray) -> None:
    low, quarter, median, three, high = np.quantile(sizes, [0, 0.25, 0.5, 0.75, 1])
    axes.plot([low, high], [row, row], color=INK, linewidth=1)
    axes.plot([low, high], [row, row], color=INK, linestyle="none", marker="|", markersize=7)
    axes.barh(row, three - quarter, left=quarter, height=0.42, color=COLOURS[5], edgecolor=INK, linewidth=0.7)
    axes.plot([median, median], [row - 0.26, row + 0.26], color="black", linewidth=2, label="_median")
