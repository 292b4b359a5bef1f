"""The figure every function returns: matplotlib's, made without pyplot, and shown by a notebook as it is."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

WIDTH = 7.0  # inches: a notebook's column, a page's width
SMALL, NORMAL = 8, 9  # points
MOST_VECTORS = 2_000
"""Of more artists than these, SVG and PDF hold pixels."""


class Picture(Figure):
    """A matplotlib figure that no global state knows, and that is shown as a cell's last value.

    Example:
        >>> picture = Picture(2.0)
        >>> picture._repr_png_()[1:4]
        b'PNG'
    """

    def __init__(self, height: float, width: float = WIDTH):
        layout = ConstrainedLayoutEngine(h_pad=0.03, hspace=0.01)
        super().__init__(figsize=(width, height), layout=layout, dpi=110)

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


def bare(axes: Axes, *sides: str) -> None:
    """Axes without frame but for these sides, with small labels."""
    for name, spine in axes.spines.items():
        spine.set_visible(name in sides)
    axes.tick_params(labelsize=SMALL)


def counted(number: int, what: str) -> str:
    """`1 token`, `1,024 tokens`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
