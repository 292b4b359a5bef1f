"""The baseline that every table needs: a plain network without attention in the encoder's place, about as large."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokred_sci.errors import InputError
from tokred_sci.tokens import Tokens


class Plain(nn.Module):
    """Residual layers without attention: convolutions along a chain of tokens, a PointNet on a cloud of them.

    `Tokens -> Tokens`, nothing is merged. On a chain each layer is two convolutions over the order of tokens. In a
    cloud order says nothing: each layer is a small network on every token's features beside their maximum over the
    cloud, and the first is also told where the token is. Laws: padding is inert; in a cloud the order of tokens does
    not matter.

    Args:
        dim: width of the features.
        depth: number of layers.
        axes: of the positions; 1 = a chain, else a cloud.
        kernel: tokens that a convolution sees, odd.
        unit: length, in the domain's unit, that counts as 1 for the network: clouds only.
        dropout: share of features dropped on each residual branch in training.

    Raises:
        InputError: a kernel that is even or too small.

    Reference: PointNet (Qi et al., 2017), https://arxiv.org/abs/1612.00593; residual layers: He et al. (2016),
    https://arxiv.org/abs/1603.05027.

    Example:
        >>> places = torch.arange(6.0).view(1, 6, 1)
        >>> tokens = Tokens(torch.randn(1, 6, 8), places, torch.ones(1, 6), torch.arange(6)[None])
        >>> Plain(dim=8, depth=2)(tokens)
        Tokens(B=1 N=6 D=8 P=1 M=6, torch.float32 on cpu, 1 elements per token)
    """

    def __init__(self, dim: int, depth: int, axes: int = 1, kernel: int = 5, unit: float = 1.0, dropout: float = 0.0):
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"Expected 'kernel' odd and >= 1 (got {kernel}).")
        self.unit = unit
        self.place = nn.Linear(axes, dim) if axes > 1 else None
        self.blocks = nn.ModuleList(_Chain(dim, kernel) if axes == 1 else _Cloud(dim) for _ in range(depth))
        self.drop = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tokens) -> Tokens:
        return self.trace(tokens)[-1]

    def trace(self, tokens: Tokens) -> list[Tokens]:
        """The tokens that enter, those after each layer, and (last) those that leave, as `Encoder.trace`."""
        mask = tokens.mask[..., None]
        x = tokens.features.masked_fill(~mask, 0)
        if self.place is not None:
            x = x + self.place(_centred(tokens, mask).to(x.dtype) / self.unit)
        found = [x]
        for block in self.blocks:
            found.append(found[-1] + self.drop(block(found[-1], mask)))
        return [replace(tokens, features=features) for features in [*found[:-1], self.norm(found[-1])]]


class _Chain(nn.Module):
    def __init__(self, dim: int, kernel: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.first = nn.Conv1d(dim, dim, kernel, padding=kernel // 2)
        self.second = nn.Conv1d(dim, dim, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        inside = self.first(self.norm(x).masked_fill(~mask, 0).mT)
        return self.second(F.gelu(inside).masked_fill(~mask.mT, 0)).mT


class _Cloud(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.inner, self.outer = nn.Linear(2 * dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norm(x)
        top = x.masked_fill(~mask, torch.finfo(x.dtype).min).amax(1, keepdim=True).expand_as(x)
        return self.outer(F.gelu(self.inner(torch.cat([x, top.masked_fill(~mask, 0)], -1))))


def _centred(tokens: Tokens, mask: Tensor) -> Tensor:
    """Positions from the middle of each record's real tokens."""
    places = tokens.positions.masked_fill(~mask, 0)
    middle = places.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    return (places - middle).masked_fill(~mask, 0)
