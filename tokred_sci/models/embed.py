"""From what a tokenizer says (raw content) to what the encoder reads (features of width `dim`): one per domain.

Each takes `Tokens` and returns `Tokens`; positions, sizes and source pass through untouched.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokred_sci.errors import InputError
from tokred_sci.models.pieces import ROWS, in_pieces, with_features
from tokred_sci.tokenizers.dna import spell_codes
from tokred_sci.tokens import Tokens


class EmbedDNA(nn.Module):
    """Patches of bases to features: a convolution over the bases, averaged (and peaked) over each patch.

    The convolution sees across patch borders, so k-mers that straddle them are not lost. Zeros beyond the ends and
    in padding, so a record reads the same in any batch.

    Args:
        dim: width of the features.
        patch: bases per token, as in `DNATokenizer(patch, scheme="patch")`, compact or not.
        kernel: bases each filter sees (odd).
        hidden: number of filters.
    """

    spelled: Tensor

    def __init__(self, dim: int, patch: int = 16, kernel: int = 9, hidden: int = 64):
        super().__init__()
        self.patch = patch
        self.register_buffer("spelled", spell_codes(torch.arange(64)), persistent=False)  # a graph takes it along
        self.filters = nn.Conv1d(5, hidden, kernel, padding=kernel // 2)
        self.project = nn.Linear(2 * hidden, dim)

    def forward(self, tokens: Tokens) -> Tokens:
        if tokens.features.dtype == torch.uint8:
            bases = self.spelled[_content(tokens, self.patch, "DNATokenizer(patch=..., compact=True)").long()]
        else:
            bases = _content(tokens, self.patch * 5, "DNATokenizer(patch=...)").unflatten(2, (self.patch, 5))
        halo = -(-(self.filters.kernel_size[0] // 2) // self.patch)
        return with_features(tokens, *in_pieces(self._read, bases, rows=ROWS // self.patch, halo=halo))

    def _read(self, bases: Tensor) -> tuple[Tensor]:
        bases = bases.to(self.project.weight.dtype)
        there = bases[..., :4].sum(-1)  # B N patch: 1 for a base, 0 beyond the end of a partial patch
        hits = F.gelu(self.filters(bases.flatten(1, 2).mT)).unflatten(2, (-1, self.patch)) * there[:, None]
        mean = hits.sum(3) / there.sum(2).clamp(min=1)[:, None]  # B hidden N, as are the peaks
        return (self.project(torch.cat([mean, hits.max(3).values], 1).mT),)


class EmbedVocabulary(nn.Module):
    """Token ids (k-mers, BPE) to features: a learned row per id, plus the lower-case share.

    Args:
        dim: width of the features.
        vocabulary: number of ids, `DNATokenizer.vocabulary_size`.
    """

    def __init__(self, dim: int, vocabulary: int):
        super().__init__()
        self.rows = nn.Embedding(vocabulary, dim)
        self.lower = nn.Linear(1, dim, bias=False)

    def forward(self, tokens: Tokens) -> Tokens:
        content = _content(tokens, 2, "DNATokenizer(scheme='kmer' or 'bpe')")
        return with_features(tokens, self.rows(content[..., 0].long()) + self.lower(content[..., 1:]))


class EmbedPoints(nn.Module):
    """Groups of points to features: a small network on every point, the maximum over the group (order-free).

    Args:
        dim: width of the features.
        neighbours: slots per token, as in `PointTokenizer(neighbours=...)`.
        channels: 3 coordinates + extra channels per point.
        unit: length, in the cloud's unit, that counts as 1 for the network (about the spacing of tokens).
        hidden: width inside.

    Reference: PointNet (Qi et al., 2017), https://arxiv.org/abs/1612.00593.
    """

    scale: Tensor

    def __init__(self, dim: int, neighbours: int = 32, channels: int = 3, unit: float = 1.0, hidden: int = 64):
        super().__init__()
        self.slots = (neighbours, channels + 1)
        scale = torch.ones(channels + 1)
        scale[1:4] = 1 / unit
        self.register_buffer("scale", scale, persistent=False)
        self.points = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU())
        self.project = nn.Linear(hidden, dim)

    def forward(self, tokens: Tokens) -> Tokens:
        slots = _content(tokens, self.slots[0] * self.slots[1], "PointTokenizer").unflatten(2, self.slots)
        return with_features(tokens, *in_pieces(self._read, slots, rows=ROWS // self.slots[0]))

    def _read(self, slots: Tensor) -> tuple[Tensor]:
        slots = slots * self.scale.to(slots)
        values = self.points(slots[..., 1:]).masked_fill(slots[..., :1] == 0, -torch.inf).amax(2)
        return (self.project(values.masked_fill(values.isinf(), 0)),)


class EmbedSeries(nn.Module):
    """Patches of a series to features: values and their valid-marks, plus where the record lies and how wide.

    Args:
        dim: width of the features.
        patch: steps per token, as in `SeriesTokenizer(patch)`.
        channels: channels mixed in each token (1 for independent channels).
        hidden: width inside.
    """

    def __init__(self, dim: int, patch: int = 16, channels: int = 1, hidden: int = 64):
        super().__init__()
        self.width, self.channels = 2 * channels * patch, channels
        self.mix = nn.Sequential(nn.Linear(self.width + 2 * channels, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, tokens: Tokens) -> Tokens:
        content = _content(tokens, self.width + 2 * self.channels, "SeriesTokenizer")
        return with_features(tokens, *in_pieces(self._read, content))

    def _read(self, content: Tensor) -> tuple[Tensor]:
        patch, units = content.split([self.width, 2 * self.channels], dim=2)
        return (self.mix(torch.cat([patch, units.asinh()], 2)),)  # any unit, tame numbers


def _content(tokens: Tokens, width: int, tokenizer: str) -> Tensor:
    """The raw content, zero in padding."""
    if tokens.features.shape[2] != width:
        raise InputError(
            f"Expected tokens with {width} features, as {tokenizer} with these settings makes them "
            f"(got {tokens.features.shape[2]}): give tokenizer and embedding the same settings."
        )
    return tokens.features.masked_fill(~tokens.mask[..., None], 0)
