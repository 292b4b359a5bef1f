"""Answers from encoded tokens: one per record, one per source element, a future, or the content itself."""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tokred_sci.errors import InputError
from tokred_sci.reduction.merge import to_source
from tokred_sci.tokenizers.series import SeriesTokenizer
from tokred_sci.tokens import Tokens, can_look

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


class Detailed(nn.Module):
    """One answer per base, point or time step, of all that is known of it: `PerElement` with the way back.

    Three things are read together: the token that holds the element in the end; the embedding of the one that held it
    in the beginning, so that what merging made equal is told apart again; and, of a cloud, the point itself, as its
    token's slots have it. So a budget bounds what attention costs, not how fine the answer is. Law: padding and the
    order of tokens count nothing.

    Args:
        dim: width of the features.
        outputs: numbers per element.
        slots: (neighbours, channels + 1) of the `PointTokenizer` that made the tokens; None = other tokens.
        unit: length, in the cloud's unit, that counts as 1 for the network.

    Returns: (B, M, outputs); zeros in padding. What pruning dropped is read as it was before. Memory: M x dim numbers.

    Reference: features carried back from coarse to fine and joined with those from before: PointNet++ (Qi et al.,
    2017), https://arxiv.org/abs/1706.02413.

    Example:
        >>> from tokred_sci import Grouping, merge
        >>> source = torch.arange(3)[None]
        >>> before = Tokens(torch.randn(1, 3, 8), torch.zeros(1, 3, 1), torch.ones(1, 3), source)
        >>> after = merge(before, Grouping(torch.zeros_like(source), 1))
        >>> Detailed(8, outputs=2)(after, before, before)[0].unique(dim=0).shape  # one token, three answers
        torch.Size([3, 2])
    """

    scale: Tensor

    def __init__(self, dim: int, outputs: int, slots: tuple[int, int] | None = None, unit: float = 1.0):
        super().__init__()
        self.slots = slots
        scale = torch.ones(slots[1] if slots else 0)
        scale[1:4] = 1 / unit
        self.register_buffer("scale", scale, persistent=False)
        self.after, self.before = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.point = nn.Sequential(nn.Linear(slots[1], dim), nn.GELU(), nn.Linear(dim, dim)) if slots else None
        self.out = nn.Sequential(nn.GELU(), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, outputs))

    def forward(self, tokens: Tokens, embedded: Tokens, born: Tokens) -> Float[Tensor, "B M K"]:
        """Tokens as the encoder left them, as it got them, and as the tokenizer made them."""
        read = to_source(replace(tokens, features=self.after(tokens.features)))
        read = read + to_source(replace(embedded, features=self.before(embedded.features)))
        if self.point is not None and self.slots is not None:
            read = read + self.point(_own_slots(born, self.slots) * self.scale.to(read.dtype))
        return self.out(read).masked_fill((born.source < 0)[..., None], 0)


def _own_slots(tokens: Tokens, slots: tuple[int, int]) -> Float[Tensor, "B M C"]:
    """What a `PointTokenizer` wrote of each point; zeros where its token owns more points than it has slots.

    Owned points are in a token's first slots, in input order.
    """
    source = tokens.source
    order = source.argsort(dim=1, stable=True)  # padding first, then by token, then by place
    sizes = tokens.sizes.long()
    first = (source < 0).sum(1, keepdim=True) + sizes.cumsum(1) - sizes
    held = source.clamp(min=0)
    slot = order.argsort(dim=1) - first.gather(1, held)
    there = (source >= 0) & (sizes.gather(1, held) <= slots[0])
    place = held * slots[0] + slot.clamp(0, slots[0] - 1)
    content = tokens.features.unflatten(2, slots).flatten(1, 2)  # B N*neighbours C
    return content.gather(1, place[..., None].expand(-1, -1, slots[1])).masked_fill(~there[..., None], 0)


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


class ForecastWindow(nn.Module):
    """The next `horizon` steps of each channel from a past of fixed length, whose patches are seen side by side.

    The sum of two answers: one linear map of the normalised values as they are, the same for every channel; and one of
    what the encoder says of each patch, narrowed to `width` numbers. After merging, a patch is told what the token says
    that holds it; where pruning dropped it, zeros. Laws: padding and the order of tokens count nothing; merging tokens
    that say the same changes nothing.

    Args:
        dim: width of the features.
        horizon: steps to foretell.
        tokenizer: it made the tokens, and knows where in them the values are.
        steps: length of every record.
        width: numbers for each patch.
        dropout: share of these numbers dropped in training.

    Returns: (B, channels, horizon), in the tokenizer's normalised units, as `Forecast`.

    Raises:
        InputError: (when called) records of another length, or `born` that were merged or pruned. On a GPU or in a
            traced graph, where a batch of padded records cannot be looked into, the answer to such a one is NaN.

    References: all patches into one linear map: PatchTST (Nie et al., 2023), https://arxiv.org/abs/2211.14730; one
    linear map of the values: Zeng et al. (2022), https://arxiv.org/abs/2205.13504.

    Example:
        >>> tokenizer = SeriesTokenizer(patch=8, stride=4)
        >>> tokens = tokenizer(torch.arange(24.0).sin())
        >>> head = ForecastWindow(18, 6, tokenizer, steps=24)
        >>> head(tokens, tokens).shape  # the first would be what an encoder made of the second
        torch.Size([1, 1, 6])
    """

    def __init__(
        self, dim: int, horizon: int, tokenizer: SeriesTokenizer, steps: int, width: int = 16, dropout: float = 0.0
    ):
        super().__init__()
        self.tokenizer, self.steps, self.stride = tokenizer, steps, tokenizer.stride or tokenizer.patch
        self.patches, self.channels = tokenizer.most_tokens(steps), tokenizer.dim // (2 * tokenizer.patch + 2)
        self.line = nn.Linear(steps, horizon)
        self.narrow, self.drop = nn.Linear(dim, width), nn.Dropout(dropout)
        self.out = nn.Linear(self.patches * width, self.channels * horizon)
        for layer in (self.line, self.out):  # training begins at the past's mean, and is soon done
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tokens, born: Tokens) -> Float[Tensor, "B C H"]:
        """`born`: the tokens as the tokenizer made them."""
        other = self._other(born)
        holders = tokens.source[:, :: self.stride][:, : self.patches]
        said = to_source(replace(tokens, features=self.narrow(tokens.features), source=holders))
        answer = self.out(self.drop(said.flatten(1))).unflatten(1, (self.channels, -1))
        return (answer + self.line(self.values(born))).masked_fill(other[:, None, None], torch.nan)

    def values(self, born: Tokens) -> Float[Tensor, "B C M"]:
        """The normalised value of every step, 0 where it is missing."""
        patch = self.tokenizer.patch
        slots = born.features[..., : self.channels * patch].unflatten(2, (self.channels, patch)).mT.flatten(1, 2)
        step = torch.arange(self.steps, device=born.source.device)
        offset = step - self.stride * (step // self.stride).clamp(max=self.patches - 1)
        place = born.source.clamp(min=0) * patch + offset
        return slots.gather(1, place[..., None].expand(-1, -1, self.channels)).mT

    def _other(self, born: Tokens) -> Bool[Tensor, " B"]:
        """Which records this head was not made for."""
        lengths, counts = (born.source >= 0).sum(1), born.counts
        other = (lengths != self.steps) | (counts != self.patches)
        if born.source.shape[1] != self.steps or (can_look(other) and bool(other.any())):
            first = int(other.int().argmax())
            raise InputError(
                f"Expected records of {self.steps} steps in {self.patches} patches, which this head was made for (got "
                f"{int(lengths[first])} in {int(counts[first])}): cut them to this length, or make a model without "
                "'context'."
            )
        return other


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
