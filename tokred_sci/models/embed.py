"""From what a tokenizer says (raw content) to what the encoder reads (features of width `dim`): one per domain.

Each takes `Tokens` and returns `Tokens`; positions, sizes and source pass through untouched.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokred_sci.errors import InputError
from tokred_sci.models.pieces import ROWS, in_pieces, with_features
from tokred_sci.tokenizers.dna import spell_codes
from tokred_sci.tokenizers.record import check_integer
from tokred_sci.tokens import Tokens


class EmbedDNA(nn.Module):
    """Patches of bases to features: a convolution over the bases, averaged (and peaked) over each patch; and words.

    Both see across patch borders, so k-mers that straddle them are not lost. Zeros beyond the ends and in padding, so a
    record reads the same in any batch. Law: what words add to the features, averaged over the tokens by size, is a
    linear function of the record's word counts per base.

    Args:
        dim: width of the features.
        patch: bases per token, as in `DNATokenizer(patch, scheme="patch")`, compact or not.
        kernel: bases each filter sees (odd).
        hidden: number of filters.
        words: letters of a word, at most 8: each of the 4**words has a learned row, which is added where the word's
            middle is. A word with another letter than A, C, G or T in it, or cut off by an end, has none. 0 = no words.
        both_strands: a word and its reverse complement share a row: for answers that are the same for both strands.

    Raises:
        InputError: a setting out of range.

    Example:
        >>> from tokred_sci.tokenizers.dna import DNATokenizer
        >>> EmbedDNA(8, patch=4, words=6)(DNATokenizer(patch=4)("ACGTTGCAGTNA"))
        Tokens(B=1 N=3 D=8 P=1 M=12, torch.float32 on cpu, 4 elements per token)
    """

    spelled: Tensor

    def __init__(
        self,
        dim: int,
        patch: int = 16,
        kernel: int = 9,
        hidden: int = 64,
        words: int = 0,
        both_strands: bool = False,
    ):
        super().__init__()
        check_integer("kernel", kernel, 1)
        check_integer("hidden", hidden, 1)
        check_integer("words", words, 0, 8)
        if kernel % 2 == 0:
            raise InputError(f"Expected 'kernel' odd (got {kernel}): {kernel + 1} has a middle.")
        if not isinstance(both_strands, bool) or (both_strands and not words):
            raise InputError(f"Expected 'both_strands' true or false, and with 'words' only (got {both_strands!r}).")
        self.patch = patch
        self.halo = -(-max(kernel // 2, words // 2) // patch)
        self.register_buffer("spelled", spell_codes(torch.arange(64)), persistent=False)  # a graph takes it along
        self.filters = nn.Conv1d(5, hidden, kernel, padding=kernel // 2)
        self.project = nn.Linear(2 * hidden, dim)
        self.words = _Words(words, dim, both_strands) if words else None

    def forward(self, tokens: Tokens) -> Tokens:
        if tokens.features.dtype == torch.uint8:
            bases = self.spelled[_content(tokens, self.patch, "DNATokenizer(patch=..., compact=True)").long()]
        else:
            bases = _content(tokens, self.patch * 5, "DNATokenizer(patch=...)").unflatten(2, (self.patch, 5))
        return with_features(tokens, *in_pieces(self._read, bases, rows=ROWS // self.patch, halo=self.halo))

    def _read(self, bases: Tensor) -> tuple[Tensor]:
        bases = bases.to(self.project.weight.dtype)
        there = bases[..., :4].sum(-1)  # B N patch: 1 for a base, 0 beyond the end of a partial patch
        number = there.sum(2).clamp(min=1)
        hits = F.gelu(self.filters(bases.flatten(1, 2).mT)).unflatten(2, (-1, self.patch)) * there[:, None]
        mean = hits.sum(3) / number[:, None]  # B hidden N, as are the peaks
        features = self.project(torch.cat([mean, hits.max(3).values], 1).mT)
        return (features if self.words is None else features + self.words(bases) / number[..., None],)


class _Words(nn.Module):
    """The sum of the rows of all words that have their middle in a patch: bases (B, N, patch, 5) to (B, N, dim)."""

    def __init__(self, letters: int, dim: int, both_strands: bool):
        super().__init__()
        self.letters, self.none, self.both_strands = letters, 4**letters, both_strands
        self.rows = nn.Embedding(self.none + 1, dim, padding_idx=self.none)
        nn.init.zeros_(self.rows.weight)

    def forward(self, bases: Tensor) -> Tensor:
        single = bases[..., :4].flatten(1, 2)
        digits = single.argmax(2).masked_fill(single.amax(2) != 1, self.none)  # such a digit makes any number too large
        before = self.letters // 2
        digits = F.pad(digits, (before, self.letters - 1 - before), value=self.none)
        ids = turned = torch.zeros_like(digits[:, : single.shape[1]])
        for place in range(self.letters):
            digit = digits[:, place : place + single.shape[1]]
            ids, turned = ids * 4 + digit, turned + (3 - digit) * 4**place
        known = ids < self.none
        ids = (torch.minimum(ids, turned) if self.both_strands else ids).masked_fill(~known, self.none)
        found: Tensor = self.rows(ids)
        return found.unflatten(1, (-1, bases.shape[2])).sum(2)


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

    Zeros beyond the ends, in padding and where values are missing, so a record reads the same in any batch.

    Args:
        dim: width of the features.
        patch: steps per token, as in `SeriesTokenizer(patch)`.
        channels: channels mixed in each token (1 for independent channels).
        hidden: width inside.
        filters: filters of convolutions over the steps, across patch borders: the mean and the peak of their answers in
            each patch are added to what the patch says by itself. 0 = none. Patches must not overlap.
        kernel: answers of the layer before that each filter sees (odd); in layer i, from 0, they lie 2**i apart.
        stride: steps from one answer of the first layer to the next; divides `patch`.
        layers: of convolutions.

    Raises:
        InputError: a setting out of range.

    Example:
        >>> from tokred_sci.tokenizers.series import SeriesTokenizer
        >>> embed = EmbedSeries(8, patch=16, filters=4, stride=2)
        >>> embed(SeriesTokenizer(patch=16)(torch.arange(100.0).sin())).features.shape
        torch.Size([1, 7, 8])
    """

    def __init__(
        self,
        dim: int,
        patch: int = 16,
        channels: int = 1,
        hidden: int = 64,
        filters: int = 0,
        kernel: int = 9,
        stride: int = 1,
        layers: int = 3,
    ):
        super().__init__()
        for name, value, low in (("filters", filters, 0), ("kernel", kernel, 1), ("layers", layers, 1)):
            check_integer(name, value, low)
        check_integer("stride", stride, 1, patch)
        if kernel % 2 == 0 or patch % stride:
            raise InputError(f"Expected 'kernel' odd and 'stride' a divisor of {patch} (got {kernel} and {stride}).")
        if not filters and (kernel, stride, layers) != (9, 1, 3):
            raise InputError(f"Expected 'filters' >= 1 with 'kernel', 'stride' or 'layers' (got {filters}): how many?")
        self.width, self.channels = 2 * channels * patch, channels
        self.mix = nn.Sequential(nn.Linear(self.width + 2 * channels, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.steps = _Steps(dim, patch, channels, filters, kernel, stride, layers) if filters else None
        self.halo = 0 if self.steps is None else self.steps.halo

    def forward(self, tokens: Tokens) -> Tokens:
        content = _content(tokens, self.width + 2 * self.channels, "SeriesTokenizer")
        return with_features(tokens, *in_pieces(self._read, content, halo=self.halo))

    def _read(self, content: Tensor) -> tuple[Tensor]:
        patch, units = content.split([self.width, 2 * self.channels], dim=2)
        features = self.mix(torch.cat([patch, units.asinh()], 2))  # any unit, tame numbers
        return (features if self.steps is None else features + self.steps(patch),)


class _Steps(nn.Module):
    """Convolutions over the steps of a series, mean and peak in each patch: (B, N, 2 * C * patch) to (B, N, dim).

    What is missing, filling and padding are zero in every layer.
    """

    def __init__(self, dim: int, patch: int, channels: int, filters: int, kernel: int, stride: int, layers: int):
        super().__init__()
        self.shape, self.answers = (2, channels, patch), (-1, patch // stride, stride)
        reach = kernel // 2 + sum((kernel // 2) * stride * 2**i for i in range(1, layers))
        self.halo = -(-reach // patch)
        self.first = nn.Conv1d(2 * channels, filters, kernel, padding=kernel // 2)
        self.more = nn.ModuleList(
            nn.Conv1d(filters, filters, kernel, padding=kernel // 2 * 2**i, dilation=2**i) for i in range(1, layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(filters) for _ in self.more)
        self.project = nn.Linear(2 * filters, dim)

    def forward(self, patches: Tensor) -> Tensor:
        content = patches.unflatten(2, self.shape).permute(0, 2, 3, 1, 4).flatten(3)  # B 2 C steps
        known = content[:, 1].amax(1, keepdim=True).unflatten(2, self.answers)
        there = known.amax(4).flatten(2)  # B 1 answers: whether anything is known in its `stride` steps
        # the first of every `stride` answers, and no convolution with steps: its length a traced graph cannot follow
        x = self.first(content.flatten(1, 2)).unflatten(2, self.answers)[..., 0].flatten(2)
        x = F.gelu(x) * there
        for norm, layer in zip(self.norms, self.more, strict=True):
            x = x + F.gelu(layer(norm(x.mT).mT * there)) * there
        x, there = (value.unflatten(2, self.answers[:2]) for value in (x, there))
        mean = x.sum(3) / there.sum(3).clamp(min=1)
        return self.project(torch.cat([mean, x.amax(3)], 1).mT)


class HideLevel(nn.Module):
    """Tokens of a `SeriesTokenizer` without their record's location and scale: an embedding then sees its shape alone.

    Where levels drift, as from training to test parts, a network that was told them learns what will not hold.

    Args:
        channels: channels in each token.

    Reference: reversible instance normalisation (Kim et al., 2022), https://openreview.net/forum?id=cGDAkQo1C0p.

    Example:
        >>> from tokred_sci.tokenizers.series import SeriesTokenizer
        >>> tokens = SeriesTokenizer(patch=2)([5.0, 7.0, 5.0, 7.0])
        >>> tokens.features[0, 0].tolist(), HideLevel(1)(tokens).features[0, 0].tolist()
        ([-1.0, 1.0, 1.0, 1.0, 6.0, 1.0], [-1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    """

    def __init__(self, channels: int = 1):
        super().__init__()
        self.columns = 2 * channels

    def forward(self, tokens: Tokens) -> Tokens:
        return with_features(tokens, F.pad(tokens.features[..., : -self.columns], (0, self.columns)))


def _content(tokens: Tokens, width: int, tokenizer: str) -> Tensor:
    """The raw content, zero in padding."""
    if tokens.features.shape[2] != width:
        raise InputError(
            f"Expected tokens with {width} features, as {tokenizer} with these settings makes them "
            f"(got {tokens.features.shape[2]}): give tokenizer and embedding the same settings."
        )
    return tokens.features.masked_fill(~tokens.mask[..., None], 0)
