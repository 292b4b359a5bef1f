"""Answers from encoded tokens: one per record, one per source element, a future, or the content itself."""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokred_sci.errors import InputError
from tokred_sci.reduction.merge import to_source
from tokred_sci.tokens import Tokens

Pool = Literal["mean", "max", "attention"]


class Classify(nn.Module):
    """One answer per record: tokens pooled, then a linear layer.

    Args:
        dim: width of the features.
        classes: number of outputs.
        pool: "mean" weighs each token by size ** size_exponent (the same dial as in attention); "max" takes the
            strongest of each feature; "attention" learns which tokens to weigh (Ilse et al., 2018,
            https://arxiv.org/abs/1802.04712).
        size_exponent: tau, see `Attention`.

    Returns: (B, classes). A record that is all padding is pooled to zeros.
    """

    def __init__(self, dim: int, classes: int, pool: Pool = "mean", size_exponent: float = 1.0):
        super().__init__()
        if pool not in ("mean", "max", "attention"):
            raise InputError(f"Expected 'pool' to be 'mean', 'max' or 'attention' (got {pool!r}).")
        self.pool, self.size_exponent = pool, size_exponent
        self.weigh = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1)) if pool == "attention" else None
        self.out = nn.Linear(dim, classes)

    def forward(self, tokens: Tokens) -> Float[Tensor, "B K"]:
        mask = tokens.mask[..., None]
        x = tokens.features.masked_fill(~mask, 0)
        if self.pool == "max":
            top = x.masked_fill(~mask, -torch.inf).amax(1)
            return self.out(top.masked_fill(top.isinf(), 0))
        score = self.size_exponent * tokens.sizes.to(x.dtype).clamp(min=1).log()[..., None]
        if self.weigh is not None:
            score = score + self.weigh(x)
        weight = score.masked_fill(~mask, torch.finfo(x.dtype).min / 2).softmax(1).masked_fill(~mask, 0)
        return self.out((x * weight).sum(1))


class PerElement(nn.Module):
    """One answer per base, point or time step: each element gets the answer of the token that holds it.

    Args:
        dim: width of the features.
        outputs: numbers per element.

    Returns: (B, M, outputs); zeros where `source` is -1.
    """

    def __init__(self, dim: int, outputs: int):
        super().__init__()
        self.out = nn.Linear(dim, outputs)

    def forward(self, tokens: Tokens) -> Float[Tensor, "B M K"]:
        return to_source(replace(tokens, features=self.out(tokens.features)))


class Forecast(nn.Module):
    """The next `horizon` steps of each channel, in the tokenizer's normalised units.

    `SeriesTokenizer.restore` puts them back into the record's own.

    Args:
        dim: width of the features.
        horizon: steps to foretell.
        channels: channels of the series.

    Returns: (B, channels, horizon), read from the size-weighted mean and the token that ends last.
    """

    def __init__(self, dim: int, horizon: int, channels: int = 1):
        super().__init__()
        self.shape = (channels, horizon)
        self.out = nn.Linear(2 * dim, channels * horizon)

    def forward(self, tokens: Tokens) -> Float[Tensor, "B C H"]:
        sizes = tokens.sizes.to(tokens.features.dtype)
        weight = sizes / sizes.sum(1, keepdim=True).clamp(min=1)
        mean = (tokens.features * weight[..., None]).sum(1)
        place = tokens.positions[..., 0].masked_fill(~tokens.mask, -torch.inf)
        last = tokens.features[torch.arange(len(tokens), device=place.device), place.argmax(1)]
        return self.out(torch.cat([mean, last], -1)).unflatten(1, self.shape)


class Reconstruct(nn.Module):
    """The content of every source element, from the token that holds it and the element's place within.

    Args:
        dim: width of the features.
        outputs: numbers per element (4 for bases, 3 for coordinates, channels for a series).
        axes: 1 for sequences, 3 for points.
        octaves: wavelengths (2 pi, 4 pi, 8 pi ... units) in which the decoder is told the element's offset.

    Returns: (B, M, outputs), for masked or merged-token reconstruction.
    """

    def __init__(self, dim: int, outputs: int, axes: int = 1, octaves: int = 8):
        super().__init__()
        self.octaves = octaves
        self.token = nn.Linear(dim, dim)
        self.place = nn.Linear(2 * axes * octaves, dim)
        self.out = nn.Sequential(nn.GELU(), nn.Linear(dim, outputs))

    def forward(self, tokens: Tokens, places: Float[Tensor, "B M P"]) -> Float[Tensor, "B M K"]:
        """`places`: where each source element is, in the unit of `tokens.positions`."""
        held = to_source(replace(tokens, features=self.token(tokens.features)))
        centres = to_source(replace(tokens, features=tokens.positions))
        octaves = 2.0 ** -torch.arange(self.octaves, device=places.device).to(places.dtype)
        angle = ((places - centres)[..., None] * octaves).flatten(2).to(held.dtype)
        return self.out(held + self.place(torch.cat([angle.sin(), angle.cos()], -1)))
