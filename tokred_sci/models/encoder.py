"""The one encoder every domain shares: pre-norm Transformer blocks that may merge tokens half-way through."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokred_sci.errors import InputError
from tokred_sci.models.attention import Attention
from tokred_sci.models.pieces import in_pieces, with_features
from tokred_sci.reduction.budget import Budget, as_budget
from tokred_sci.reduction.merge import Combine, merge
from tokred_sci.reduction.where import Group
from tokred_sci.tokens import Tokens

Metric = Literal["keys", "features"]
Places = Literal["real", "rank"] | float


class Block(nn.Module):
    """Attention, then (optionally) merging, then MLP: merged tokens skip the MLP's cost in the same block.

    Args:
        dim, heads, size_exponent, window, qk_norm, log_scale: see `Attention`.
        reduce: a grouping function (of `tokred_sci.reduction`, or your own) and its budget, or None. A function that is
            a module, as `SoftGroups`, becomes part of the block: it trains, moves and is saved with it.
        metric: what grouping compares: the attention "keys" (mean over heads), or the layer-normalised "features".
        dropout: share of features dropped on both residual branches in training.
        combine: what becomes of a group's features: "mean", "norm" or "loudest", see `merge`.
        places: where tokens are for attention that sees all of them, see `place`; in a window they are where they are.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        reduce: tuple[Group, Budget] | None = None,
        size_exponent: float = 1.0,
        window: int | None = None,
        qk_norm: bool = False,
        metric: Metric = "keys",
        dropout: float = 0.0,
        combine: Combine = "mean",
        log_scale: int | None = None,
        places: Places = "real",
    ):
        super().__init__()
        self.places = places if window is None else "real"
        self.reduce, self.metric, self.combine = reduce, metric, combine
        self.learned = reduce[0] if reduce is not None and isinstance(reduce[0], nn.Module) else None
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, size_exponent, window, qk_norm, log_scale)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tokens, unit: float = 1.0) -> Tokens:
        where = place(tokens, unit, self.places)
        y, keys = self.attention(self.norm_attention(tokens.features), where, tokens.sizes)
        x = tokens.features + self.drop(y)
        tokens = with_features(tokens, x)
        if self.reduce is not None:
            group, budget = self.reduce
            metric = keys if self.metric == "keys" else F.layer_norm(x, x.shape[-1:])
            tokens = merge(tokens, group(metric, tokens, budget(metric, tokens)), self.combine)
        return with_features(tokens, *in_pieces(self._transform, tokens.features))

    def _transform(self, x: Tensor) -> tuple[Tensor]:
        return (x + self.drop(self.mlp(self.norm_mlp(x))),)


def place(tokens: Tokens, unit: float, places: Places = "real") -> Tensor:
    """Where attention takes tokens to be, (B, N, P) float64.

    Args:
        tokens: a batch; padding may lie anywhere.
        unit: length that counts as one step.
        places: "real": the positions, in units. "rank": on each axis how many of the record's tokens lie before; a
            record merged to so many tokens is then a sequence of that length, however long it was. A number: positions
            stretched so that every record spans so many units (position interpolation, Chen et al., 2023,
            https://arxiv.org/abs/2306.15595).

    Example:
        >>> x, sizes = torch.zeros(1, 3, 1), torch.ones(1, 3)
        >>> tokens = Tokens(x, torch.tensor([[[40.0], [0.0], [10.0]]]), sizes, torch.arange(3)[None])
        >>> [place(tokens, 10.0, how)[0, :, 0].tolist() for how in ("real", "rank", 8.0)]
        [[4.0, 0.0, 1.0], [2.0, 0.0, 1.0], [8.0, 0.0, 2.0]]
    """
    real = tokens.positions / unit
    if places == "real":
        return real
    mask = tokens.mask[..., None]
    after = real.masked_fill(~mask, torch.inf)
    if places == "rank":
        return after.argsort(dim=1, stable=True).argsort(dim=1).to(real.dtype)
    start = after.amin(1, keepdim=True)
    reach = real.masked_fill(~mask, -torch.inf).amax(1, keepdim=True) - start
    return (real - start).masked_fill(~mask, 0) / reach.clamp(min=1e-9) * float(places)


class Encoder(nn.Module):
    """Transformer encoder with token merging: `Tokens -> Tokens`, the same for DNA, points and series.

    Laws: padding is inert (a record gives the same answer alone and in any batch); every source element is still
    held by exactly one token on the way out; without `reduce` this is a plain pre-norm encoder. With a constant
    budget and windows before the first merge, cost is linear in length.

    Args:
        dim: width of the features.
        depth: number of blocks.
        heads: attention heads per block.
        reduce: {block number from 0: (grouping function, budget)}. A budget is a whole number (kept tokens), a
            fraction (share of the record's real tokens), or a function from `reduction.budget`.
        size_exponent: tau in the attention bias tau * log(size); 1 keeps what full attention would say of exact
            duplicates, 0 lets a merged token speak once.
        window: tokens each token sees to either side in the blocks up to and including the first that merges;
            None = all. Later blocks always see all: the first merge has bounded their number.
        unit: length, in the domain's unit, that counts as one step of the rotary encoding (16 bases, 2 mm).
        qk_norm, metric, dropout, combine, log_scale, places: see `Block`.

    Raises:
        InputError: a block to reduce that does not exist, an impossible budget or width.

    Reference: merging between attention and MLP on the keys: Token Merging (Bolya et al., 2023),
    https://arxiv.org/abs/2210.09461.

    Example:
        >>> import torch
        >>> from tokred_sci.reduction.chain import links
        >>> x = torch.randn(1, 12, 8, generator=torch.Generator().manual_seed(0))
        >>> tokens = Tokens(x, torch.arange(12.0).view(1, 12, 1), torch.ones(1, 12), torch.arange(12)[None])
        >>> Encoder(dim=8, depth=2, heads=2, reduce={0: (links, 4)})(tokens)
        Tokens(B=1 N=4 D=8 P=1 M=12, torch.float32 on cpu, 3 elements per token)
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        reduce: Mapping[int, tuple[Group, int | float | Budget]] | None = None,
        size_exponent: float = 1.0,
        window: int | None = None,
        unit: float = 1.0,
        qk_norm: bool = False,
        metric: Metric = "keys",
        dropout: float = 0.0,
        combine: Combine = "mean",
        log_scale: int | None = None,
        places: Places = "real",
    ):
        super().__init__()
        steps = {block: (group, as_budget(budget)) for block, (group, budget) in (reduce or {}).items()}
        if outside := [block for block in steps if not 0 <= block < depth]:
            raise InputError(f"Expected blocks to reduce in [0, {depth}) (got {outside}): blocks count from 0.")
        if not unit > 0:
            raise InputError(f"Expected 'unit' > 0 (got {unit}).")
        if metric not in ("keys", "features"):
            raise InputError(f"Expected 'metric' to be 'keys' or 'features' (got {metric!r}).")
        if places not in ("real", "rank") and not (isinstance(places, int | float) and places > 0):
            raise InputError(f"Expected 'places' to be 'real', 'rank' or a number above 0 (got {places!r}).")
        self.unit = unit
        first = min(steps, default=depth)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                heads,
                steps.get(i),
                size_exponent,
                window if i <= first else None,
                qk_norm,
                metric,
                dropout,
                combine,
                log_scale,
                places,
            )
            for i in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tokens) -> Tokens:
        for seen in self._steps(tokens):  # what is not asked for is let go of
            tokens = seen
        return tokens

    def trace(self, tokens: Tokens) -> list[Tokens]:
        """The tokens that enter, those after each block, and (last) those that leave: what reduction did, and where."""
        seen = list(self._steps(tokens))
        return [*seen[:-2], seen[-1]]  # of the last block, what the norm makes of it

    def _steps(self, tokens: Tokens) -> Iterator[Tokens]:
        """Tokens that enter, then after each block, then normalised."""
        mask = tokens.mask[..., None]
        first = tokens.mask.to(torch.uint8).argmax(1)
        home = tokens.positions[torch.arange(len(tokens), device=first.device), first].nan_to_num(0, 0, 0)[:, None]
        clean, places = tokens.features.masked_fill(~mask, 0), torch.where(mask, tokens.positions, home)
        tokens = replace(tokens, features=clean, positions=places)  # whatever padding held, even NaN, is gone
        yield tokens
        for block in self.blocks:
            tokens = block(tokens, self.unit)
            yield tokens
        yield with_features(tokens, self.norm(tokens.features))
