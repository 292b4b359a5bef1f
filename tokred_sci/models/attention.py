"""Attention that knows token sizes, real positions and windows. Tensors in, tensors out; no reduction here."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tokred_sci.errors import InputError
from tokred_sci.models.pieces import in_pieces


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions and size bias.

    The bias `size_exponent * log(size)` is proportional attention and padding mask in one: with exponent 1 a token
    of size s counts as s equal tokens, so merging exact duplicates changes nothing (Bolya et al., 2023,
    https://arxiv.org/abs/2210.09461); with 0 a merged token counts once; size 0 is never seen.

    Args:
        dim: width D of the features; divisible by `heads`, and each head's width by 2.
        heads: number of heads.
        size_exponent: tau, from sharpening (0) to fidelity (1).
        window: if given, a token sees only tokens at most this many places away in token order: linear cost.
        qk_norm: normalise queries and keys per head (Henry et al., 2020, https://arxiv.org/abs/2010.04245).
        log_scale: tokens of a training record; where attention sees all n tokens of a record, its logits are multiplied
            by log(n) / log(log_scale), which keeps the spread of attention at any length (Chiang & Cholak, 2022,
            https://arxiv.org/abs/2202.12172). None = never.

    Raises:
        InputError: a width the heads cannot share, a window below 1, or a `log_scale` below 2.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        size_exponent: float = 1.0,
        window: int | None = None,
        qk_norm: bool = False,
        log_scale: int | None = None,
    ):
        super().__init__()
        if dim % heads or dim // heads % 2:
            raise InputError(f"Expected 'dim' divisible by 2 * heads (got dim={dim}, heads={heads}).")
        if window is not None and window < 1:
            raise InputError(f"Expected 'window' >= 1 or None (got {window}).")
        if log_scale is not None and log_scale < 2:
            raise InputError(f"Expected 'log_scale' >= 2 or None (got {log_scale}).")
        self.heads, self.size_exponent, self.window, self.log_scale = heads, size_exponent, window, log_scale
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm_q = nn.RMSNorm(dim // heads) if qk_norm else nn.Identity()
        self.norm_k = nn.RMSNorm(dim // heads) if qk_norm else nn.Identity()

    def forward(
        self, x: Float[Tensor, "B N D"], places: Float[Tensor, "B N P"], sizes: Float[Tensor, "B N"]
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B N K"]]:
        """Return the attended features and the keys (mean over heads, before rotation): the metric for merging."""
        cos, sin = (turn[:, 0] for turn in rotary(places, self.out.in_features // self.heads, x.dtype))
        bias = size_bias(sizes, self.size_exponent, x.dtype)
        if self.window is None:
            return self._attend(x, cos, sin, bias, self.scale(sizes, x.dtype))
        y, keys = in_pieces(self._attend, x, cos, sin, bias, halo=self.window)
        return y, keys

    def _attend(
        self, x: Tensor, cos: Tensor, sin: Tensor, bias: Tensor, scale: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))  # (B, H, N, K)
        q, k = self.norm_q(q), self.norm_k(k)
        keys = k.mean(1)
        q, k = rotate(q, cos[:, None], sin[:, None]), rotate(k, cos[:, None], sin[:, None])
        if scale is not None:
            q = q * scale
        if self.window is None:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None, None])
        else:
            y = windowed(q, k, v, bias, self.window)
        return self.out(y.transpose(1, 2).flatten(2)), keys

    def scale(self, sizes: Float[Tensor, "B N"], dtype: torch.dtype) -> Float[Tensor, "B 1 1 1"] | None:
        """What the logits of each record are multiplied by where attention sees all of it; None = nothing."""
        if self.log_scale is None:
            return None
        real = (sizes > 0).sum(1).clamp(min=1).to(dtype)
        return (real.log() / math.log(self.log_scale))[:, None, None, None]


def size_bias(sizes: Float[Tensor, "B N"], exponent: float, dtype: torch.dtype) -> Float[Tensor, "B N"]:
    """`exponent * log(sizes)`, and the most negative usable number for padding.

    Not -inf: a record that is all padding then attends evenly to its zeros instead of becoming NaN.

    Example:
        >>> import torch
        >>> size_bias(torch.tensor([[1.0, 4.0]]), 0.5, torch.float32)
        tensor([[0.0000, 0.6931]])
    """
    wide = torch.promote_types(dtype, torch.float32)
    bias = exponent * sizes.to(wide).clamp(min=1).log()
    return bias.to(dtype).masked_fill(sizes <= 0, torch.finfo(dtype).min / 2)


def rotary(places: Float[Tensor, "B N P"], width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B, 1, N, width // 2) of the rotation of each pair of features at each place.

    The pairs are dealt out to the P axes in turn; on each axis wavelengths run geometrically from 2 pi to
    2 pi * 10,000 units. Only differences of places matter, so each record is first moved to its own first token: a
    genome coordinate or an epoch time keeps its digits in float32.

    Reference: RoFormer (Su et al., 2021), https://arxiv.org/abs/2104.09864.
    """
    axes, pairs = places.shape[-1], width // 2
    local = (places - places[:, :1]).to(torch.promote_types(dtype, torch.float32))
    axis = torch.arange(pairs, device=places.device) % axes
    step = torch.arange(pairs, device=places.device) // axes
    frequency = 10_000.0 ** (-step / max(1, -(-pairs // axes))).to(local.dtype)
    angle = local[..., axis] * frequency
    return angle.cos().to(dtype)[:, None], angle.sin().to(dtype)[:, None]


def rotate(x: Float[Tensor, "B H N K"], cos: Tensor, sin: Tensor) -> Float[Tensor, "B H N K"]:
    """Turn each pair (first half, second half) of features by its angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def windowed(q: Tensor, k: Tensor, v: Tensor, bias: Float[Tensor, "B N"], window: int) -> Float[Tensor, "B H N K"]:
    """Attention within `window` places to each side: blocks of queries against three blocks of keys, O(N window).

    Example:
        >>> import torch
        >>> q = k = torch.zeros(1, 1, 5, 2)
        >>> v = torch.arange(5.0).view(1, 1, 5, 1).expand(1, 1, 5, 2)
        >>> windowed(q, k, v, torch.zeros(1, 5), window=1)[0, 0, :, 0]
        tensor([0.5000, 1.0000, 2.0000, 3.0000, 3.5000])
    """
    batch, length = bias.shape
    count = -(-length // window)
    extra = count * window - length
    never = torch.finfo(q.dtype).min / 2
    q = F.pad(q, (0, 0, 0, extra)).unflatten(2, (count, window))  # B H C w K
    k, v = _Around.apply(k, window), _Around.apply(v, window)  # B H C 3w K
    seen = F.pad(bias, (window, extra + window), value=never).unfold(1, 3 * window, window)  # B C 3w
    row = torch.arange(window, device=q.device)[:, None]
    column = torch.arange(3 * window, device=q.device)
    band = (column >= row) & (column <= row + 2 * window)
    mask = torch.where(band, seen[:, :, None], never)  # B C w 3w
    q, k, v = (t.transpose(1, 2).flatten(0, 1) for t in (q, k, v))  # B*C H w K
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.flatten(0, 1)[:, None])
    return y.unflatten(0, (batch, count)).transpose(1, 2).flatten(2, 3)[:, :, :length]


class _Around(torch.autograd.Function):
    """Rows (B, H, N, K) as (B, H, C, 3w, K): each run of w with the runs beside it, zeros beyond the ends.

    The way back adds up whole runs; that of `unfold`, which goes number by number, takes as long as attention itself.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, window: int) -> Tensor:
        return F.pad(x, (0, 0, window, -x.shape[2] % window + window)).unfold(2, 3 * window, window).mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.length, ctx.window = inputs[0].shape[2], inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        before, own, after = grad.split(ctx.window, 3)
        own = own.clone()
        own[:, :, :-1] += before[:, :, 1:]
        own[:, :, 1:] += after[:, :, :-1]
        return own.flatten(2, 3)[:, :, : ctx.length], None
