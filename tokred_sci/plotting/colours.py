"""Colours: a palette for colour-blind readers, and one colour for each token so that neighbouring tokens differ."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#3B2A70", "#C9C36A")
"""Okabe & Ito's colours (2008), safe for colour-blind readers; indigo and straw in place of black and bright yellow."""

STYLES = {"none": ("#444444", "o", "--"), "random": ("#999999", "s", ":")}
"""Colour, marker and line of the arms that are controls; methods take `COLOURS` and `MARKERS` in turn."""

MARKERS = ("D", "^", "v", "P", "X", "<", ">", "*")
DROPPED = "#D0D0D0"
INK = "#333333"
MAGNITUDES = "cividis"
"""Perceptually uniform, and nearly the same for colour-blind readers (Nuñez et al., 2018)."""

PALETTE = np.array([to_rgb(colour) for colour in COLOURS])  # (8, 3)
ROUNDS = 60
MOST_REPAIRED = 20_000


def colour_tokens(holders: Sequence[np.ndarray], pairs: np.ndarray | None = None) -> list[np.ndarray]:
    """A colour for each token of each layer: neighbours differ in hue and, where possible, in lightness too.

    After the first layer, a token has the colour that most of its elements had before, unless a neighbour has it. The
    same input gives the same colours. Eight colours are enough for sequences and surfaces; where they are not, or for
    more than 20,000 tokens, some neighbours may be of one colour.

    Args:
        holders: for each layer the token of each element, (M,); -1 = none.
        pairs: elements that touch, (E, 2). None = a sequence: each run of a token is a neighbour of the next two, so
            that a token too narrow to be seen keeps the tokens around it apart.

    Returns:
        For each layer an index into `COLOURS` for each token number.

    Example:
        >>> import numpy as np
        >>> runs = np.array([0, 0, 1, 1, 2, 0])
        >>> (colours,) = colour_tokens([runs])
        >>> len(set(colours.tolist()))
        3
    """
    told: list[np.ndarray] = []
    for layer, holder in enumerate(holders):
        count = int(holder.max(initial=0)) + 1
        start = _by_members(holder, count, told[-1], holders[layer - 1]) if layer else _by_order(holder, count)
        a, b = _run_pairs(holder) if pairs is None else (holder[pairs[:, 0]], holder[pairs[:, 1]])
        apart = (a != b) & (a >= 0) & (b >= 0)
        told.append(_settle(start, a[apart], b[apart], layer == 0) if count <= MOST_REPAIRED else start)
    return told


def paint(holder: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """RGB of each element (M, 3): that of its token, or of `DROPPED`."""
    return np.where(holder[:, None] >= 0, PALETTE[colours[holder]], to_rgb(DROPPED))


def lighten(colours: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """RGB mixed with this share of white."""
    share = np.asarray(share)[..., None]
    return colours * (1 - share) + share


def _run_pairs(holder: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of each run and of the next, and of the one after that."""
    tokens = holder[np.flatnonzero(np.diff(holder, prepend=-2))]
    return np.concatenate([tokens[:-1], tokens[:-2]]), np.concatenate([tokens[1:], tokens[2:]])


def _by_order(holder: np.ndarray, count: int) -> np.ndarray:
    """Colours in turn, in the order in which tokens first appear."""
    first = np.full(count, len(holder))
    np.minimum.at(first, holder[holder >= 0], np.flatnonzero(holder >= 0))
    rank = np.empty(count, dtype=np.int64)
    rank[first.argsort(kind="stable")] = np.arange(count)
    return rank % len(COLOURS)


def _by_members(holder: np.ndarray, count: int, colours: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The colour that most elements of each token had in the layer before."""
    both = (holder >= 0) & (before >= 0)
    votes = np.bincount(holder[both] * len(COLOURS) + colours[before[both]], minlength=count * len(COLOURS))
    return votes.reshape(count, len(COLOURS)).argmax(1)


def _settle(colours: np.ndarray, a: np.ndarray, b: np.ndarray, polish: bool) -> np.ndarray:
    """Move tokens to the colour that clashes least with their neighbours', in turns, until nothing is gained.

    `polish`: at first move for lightness too; else, and at last, only those with a neighbour's very colour.
    """
    count, kinds = len(colours), len(COLOURS)
    generator = np.random.default_rng(0)
    taste = 1e-3 * generator.random((count, kinds))  # else all would go to the first free colour
    for turn in range(ROUNDS):
        least = 1e-9 if polish and turn < ROUNDS / 3 else 0.5
        seen = np.zeros((count, kinds))
        seen[a, colours[b]] = 1
        seen[b, colours[a]] = 1
        cost = seen @ CLASH + taste
        best = cost.argmin(1)
        gain = cost[np.arange(count), colours] - cost[np.arange(count), best]
        if not (gain > least).any():
            break
        colours = np.where((gain > least) & (generator.random(count) < 0.5), best, colours)
    return colours


def _clashes() -> np.ndarray:
    """(8, 8): 1 for one colour, a little for two of like lightness, which look alike in grey."""
    linear = np.where(PALETTE <= 0.04045, PALETTE / 12.92, ((PALETTE + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16  # CIE L*
    alike = 0.05 * np.clip(1 - np.abs(lightness[:, None] - lightness) / 20, 0, 1)
    np.fill_diagonal(alike, 1)
    return alike


CLASH = _clashes()
