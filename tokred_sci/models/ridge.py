"""The linear map of a forecast in closed form: ridge regression, from sums that are added up batch by batch."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.models.heads import ForecastWindow
from tokred_sci.tokens import Tokens

STRENGTHS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
Windows = Iterable[tuple[Tokens, Tensor]]


class Sums(NamedTuple):
    """What ridge regression needs to know of pasts x (rows, M) and futures y (rows, H): x'x, x'y and the sum of y²."""

    gram: Tensor
    cross: Tensor
    square: Tensor

    def error(self, weight: Tensor) -> float:
        """Squared error of x @ weight, summed over rows and steps."""
        return float(self.square - 2 * (weight * self.cross).sum() + (weight * (self.gram @ weight)).sum())


def sums_of(head: ForecastWindow, windows: Windows) -> Sums:
    """Sums over all windows and channels, each less its last known value; futures with a gap are left out."""
    steps, horizon = head.line.in_features, head.line.out_features
    gram = torch.zeros(steps, steps, dtype=torch.float64)
    cross, square = gram.new_zeros(steps, horizon), gram.new_zeros(())
    for tokens, future in windows:
        location, scale = (part.double()[..., None] for part in head.tokenizer.scale(tokens))
        past = head.values(tokens).double() * scale
        last = past[..., -1:]
        x, y = (past - last).flatten(0, 1), (future.double() - location - last).flatten(0, 1)
        whole = ~y.isnan().any(1)
        x, y = x[whole], y[whole]
        gram += x.T @ x
        cross += x.T @ y
        square += y.square().sum()
    return Sums(gram, cross, square)


def solve_line(head: ForecastWindow, train: Windows, valid: Windows, strengths: tuple[float, ...] = STRENGTHS) -> float:
    """Set the head's linear map to the one of least squares, once and for all: it is no longer trained.

    Law: adding a constant to a window adds it to the forecast; with a strong penalty the forecast is the last value.

    Args:
        head: of a model, `ForecastWindow`.
        train, valid: batches of tokens as they were born, with futures (B, C, H) in the series' units.
        strengths: of the penalty on the squared weights; the one with the least error on `valid` is kept.

    Returns: that strength.

    Raises:
        InputError: no window to solve for, or none to choose with.

    References: ridge regression: Hoerl and Kennard (1970), https://doi.org/10.1080/00401706.1970.10488634; one linear
    map of windows less their last value: Zeng et al. (2022), https://arxiv.org/abs/2205.13504.

    Example:
        >>> from tokred_sci.tokenizers.series import SeriesTokenizer
        >>> tokenizer = SeriesTokenizer(patch=4)
        >>> wave = torch.arange(60).mul(0.5).sin()
        >>> tokens = [tokenizer(wave[start : start + 8]) for start in range(50)]
        >>> windows = [(t, wave[None, None, s + 8 : s + 10]) for s, t in enumerate(tokens)]
        >>> head = ForecastWindow(18, 2, tokenizer, steps=8)
        >>> solve_line(head, windows, windows, strengths=(1e-6, 1.0))
        1e-06
        >>> guess = tokenizer.restore(head.line(head.values(tokens[0])), tokens[0])
        >>> (guess - windows[0][1]).abs().max() < 1e-3
        tensor(True)
    """
    known, held = sums_of(head, train), sums_of(head, valid)
    if not known.gram.any() or not held.gram.any():
        raise InputError("Expected windows to solve the linear map for, and others to choose its penalty (got none).")
    identity = torch.eye(len(known.gram), dtype=torch.float64)
    found = {s: torch.linalg.solve(known.gram + s * identity, known.cross) for s in strengths}
    best = min(strengths, key=lambda s: held.error(found[s]))
    weight = found[best]
    weight[-1] += 1 - weight.sum(0)  # of values as they are: what is taken from all is given back by the last
    with torch.no_grad():
        head.line.weight.copy_(weight.T)
        head.line.bias.zero_()
    head.line.requires_grad_(False)
    return best
