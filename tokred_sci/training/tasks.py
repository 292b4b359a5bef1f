"""What a model is trained for: for each task the loss of a batch as a sum and a count, and its answers for metrics."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokred_sci.datasets.loader import IGNORE, Batch
from tokred_sci.errors import InputError
from tokred_sci.tokenizers.dna import DNATokenizer, spell_codes
from tokred_sci.tokenizers.points import PointTokenizer
from tokred_sci.tokenizers.series import SeriesTokenizer
from tokred_sci.tokens import Tokens
from tokred_sci.training.metrics import classification, regression

Tokenizer = DNATokenizer | PointTokenizer | SeriesTokenizer


class Loss(NamedTuple):
    """What a batch costs: the mean is total / number, however the batch is cut into parts.

    Args:
        total: sum over what was asked, with a gradient.
        number: how much was asked, () number without one.
    """

    total: Tensor
    number: Tensor


@runtime_checkable
class Task(Protocol):
    """Loss, answers and score; `score` takes what `answer` gave for all batches."""

    def loss(self, model: nn.Module, batch: Batch) -> Loss: ...
    def answer(self, model: nn.Module, batch: Batch) -> tuple[np.ndarray, np.ndarray]: ...
    def score(self, truth: list[np.ndarray], guess: list[np.ndarray]) -> dict[str, float]: ...


@dataclass(frozen=True)
class Classify:
    """One class for each record: `labels` (B,).

    Args:
        other: the same records read the other way, `tokenizer.reverse_complement` for DNA whose class is that of both
            strands: training reads every record from a random end, answers are the mean of both.
        vary: what makes of a record another of the same class, in training only: `turn_clouds`.
    """

    other: Callable[[Tokens], Tokens] | None = None
    vary: Callable[[Tokens], Tokens] | None = None

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        labels, tokens = _given(batch.labels, "labels").long(), _varied(batch.tokens, self.vary)
        if self.other is not None:
            turn = torch.rand(len(labels), 1, 1).to(labels.device) < 0.5
            tokens = replace(tokens, features=torch.where(turn, self.other(tokens).features, tokens.features))
        return Loss(F.cross_entropy(model(tokens), labels, reduction="sum"), torch.tensor(float(len(labels))))

    def answer(self, model: nn.Module, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        guess = model(batch.tokens).softmax(1)
        if self.other is not None:
            guess = guess + model(self.other(batch.tokens)).softmax(1)
        return _numpy(_given(batch.labels, "labels")), _numpy(guess.argmax(1))

    def score(self, truth: list[np.ndarray], guess: list[np.ndarray]) -> dict[str, float]:
        return classification(np.concatenate(truth), np.concatenate(guess))


@dataclass(frozen=True)
class LabelElements:
    """One class for each base, point or time step: `targets` (B, M), -100 where nothing is asked.

    Args:
        vary: as of `Classify`.
    """

    vary: Callable[[Tokens], Tokens] | None = None

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        targets = _given(batch.targets, "targets")
        guess = model(_varied(batch.tokens, self.vary)).flatten(0, 1)
        total = F.cross_entropy(guess, targets.flatten(), ignore_index=IGNORE, reduction="sum")
        return Loss(total, (targets != IGNORE).sum())

    def answer(self, model: nn.Module, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        targets = _given(batch.targets, "targets")
        asked = targets != IGNORE
        return _numpy(targets[asked]), _numpy(model(batch.tokens).argmax(2)[asked])

    def score(self, truth: list[np.ndarray], guess: list[np.ndarray]) -> dict[str, float]:
        return classification(np.concatenate(truth), np.concatenate(guess))


@dataclass(frozen=True)
class Forecast:
    """The next steps of each channel: `labels` (B, C, H) in the unit of the series, NaN where nothing is known.

    The model speaks in each record's own normalised units; its answer is put back before it is compared, so that the
    error is in the unit of the series that was tokenized.

    Args:
        tokenizer: of the series.
        spread: (C,) the unit of each channel of what was tokenized, in the source's unit: `mae_in_units` is in it.
    """

    tokenizer: SeriesTokenizer
    spread: np.ndarray

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        future = _given(batch.labels, "labels")
        known = ~future.isnan()
        error = (self._foretell(model, batch) - future.nan_to_num(0)).masked_fill(~known, 0)
        return Loss(error.square().sum(), known.sum())

    def answer(self, model: nn.Module, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        return _numpy(_given(batch.labels, "labels")), _numpy(self._foretell(model, batch))

    def score(self, truth: list[np.ndarray], guess: list[np.ndarray]) -> dict[str, float]:
        horizon = truth[0].shape[-1]
        truths, guesses = (np.concatenate(part).reshape(-1, len(self.spread), horizon) for part in (truth, guess))
        unit = self.spread[:, None]
        return {
            **regression(truths, guesses),
            "mae_in_units": regression(truths * unit, guesses * unit)["mae"],
        }

    def _foretell(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.tokenizer.restore(model(batch.tokens).float(), batch.tokens)


@dataclass(frozen=True)
class Reconstruct:
    """The raw content of tokens that were hidden, for every element in them, through whatever merging comes between.

    A share of each record's tokens is emptied, the model merges and encodes, and its head answers for each element
    from the merged token that holds it (as `unmerge` would). Only elements of hidden tokens count. DNA: which base,
    where it is a certain one; series: normalised values, where they are known; points: the channels behind xyz at
    the point's place. (Neighbours' slots of a point token repeat points of hidden ones: set `neighbours` to the
    points per token to hide them all.)

    Args:
        tokenizer: it made the tokens, and knows where in them the content is. Patches of a series
            may not overlap, else what is hidden in one is seen in the next.
        share: of the tokens that are hidden, in (0, 1].

    Reference: Masked Autoencoders (He et al., 2021), https://arxiv.org/abs/2111.06377.
    """

    tokenizer: Tokenizer
    share: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"Expected the share of hidden tokens in (0, 1] (got {self.share!r}).")
        if width_of(self.tokenizer) == 0:
            raise InputError("Expected points with channels beyond x, y, z to reconstruct (got 3 channels).")
        if isinstance(self.tokenizer, SeriesTokenizer) and self.tokenizer.stride not in (None, self.tokenizer.patch):
            raise InputError(
                f"Expected patches that do not overlap to reconstruct (got {self.tokenizer}): what is hidden in one is "
                "seen in the next. Leave 'stride' out."
            )

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        guess, content, asked = self._ask(model, batch)
        if isinstance(self.tokenizer, DNATokenizer):
            total = F.cross_entropy(guess[asked], content[asked].argmax(-1), reduction="sum")
        else:
            total = (guess - content).square().mean(-1)[asked].sum()
        return Loss(total, asked.sum())

    def answer(self, model: nn.Module, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        guess, content, asked = self._ask(model, batch)
        if isinstance(self.tokenizer, DNATokenizer):
            return _numpy(content.argmax(-1)[asked]), _numpy(guess.argmax(-1)[asked])
        return _numpy(content[asked]), _numpy(guess[asked])

    def score(self, truth: list[np.ndarray], guess: list[np.ndarray]) -> dict[str, float]:
        of = classification if isinstance(self.tokenizer, DNATokenizer) else regression
        return of(np.concatenate(truth), np.concatenate(guess))

    def _ask(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        places, content, known = content_of(batch.tokens, self.tokenizer)
        hidden = hide(batch.tokens, self.share)
        asked = known & hidden.gather(1, batch.tokens.source.clamp(min=0))
        return model(empty(batch.tokens, hidden, self.tokenizer), places).float(), content, asked


def turn_clouds(tokens: Tokens, slots: int, scales: tuple[float, float] = (0.8, 1.25), upright: bool = False) -> Tokens:
    """Every cloud turned to a side drawn at random, all alike likely, and made larger or smaller.

    Law: distances within a cloud all change by one factor, drawn within `scales` for each cloud; what else a token
    says stays. Drawn from the global generator.

    Args:
        tokens: of a `PointTokenizer`.
        slots: its `neighbours`.
        upright: turned about the third axis only.

    Reference: uniform rotations from the QR decomposition of normal numbers: Mezzadri (2007),
    https://arxiv.org/abs/math-ph/0609050.

    Example:
        >>> tokenizer = PointTokenizer(tokens=4, neighbours=2)
        >>> tokens = tokenizer(np.random.default_rng(0).normal(size=(8, 3)))
        >>> other = turn_clouds(tokens, 2, scales=(1.0, 1.0))
        >>> torch.allclose(torch.pdist(other.positions[0]), torch.pdist(tokens.positions[0]))
        True
    """
    batch, device = len(tokens), tokens.features.device
    q = _turns_upright(batch) if upright else _turns(batch)
    low, high = scales
    turn = (q * (low * (high / low) ** torch.rand(batch, 1, 1, dtype=torch.float64))).to(device)
    content = tokens.features.unflatten(2, (slots, -1))
    near = torch.einsum("bnsi,bij->bnsj", content[..., 1:4], turn.to(content))
    content = torch.cat([content[..., :1], near, content[..., 4:]], -1)
    return replace(tokens, features=content.flatten(2), positions=tokens.positions @ turn.to(tokens.positions))


def _turns(count: int) -> Tensor:
    """Rotations (count, 3, 3), uniform over all."""
    q, r = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64))
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
    return q * q.det().sign()[:, None, None]  # of an odd number of axes: no mirror images


def _turns_upright(count: int) -> Tensor:
    """Rotations (count, 3, 3) about the third axis."""
    angle = 2 * torch.pi * torch.rand(count, dtype=torch.float64)
    turns = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    turns[:, 0, 0] = turns[:, 1, 1] = angle.cos()
    turns[:, 0, 1], turns[:, 1, 0] = angle.sin(), -angle.sin()
    return turns


def width_of(tokenizer: Tokenizer) -> int:
    """Numbers of content for each element: what `Model(outputs=...)` must be for `Reconstruct`."""
    if isinstance(tokenizer, PointTokenizer):
        return tokenizer.channels - 3
    if isinstance(tokenizer, SeriesTokenizer):
        return tokenizer.in_channels if tokenizer.channels == "mix" else 1
    if tokenizer.scheme != "patch":
        raise InputError(f"Expected DNA in patches to reconstruct bases (got scheme {tokenizer.scheme!r}).")
    return 4


def hide(tokens: Tokens, share: float) -> Tensor:
    """Which tokens are hidden, (B, N): the share of each record's, rounded up, drawn from the global generator."""
    drawn = torch.rand(tokens.sizes.shape).to(tokens.sizes.device).masked_fill(~tokens.mask, torch.inf)
    rank = drawn.argsort(1).argsort(1)
    return (rank < (tokens.counts * share).ceil()[:, None]) & tokens.mask


def empty(tokens: Tokens, hidden: Tensor, tokenizer: Tokenizer) -> Tokens:
    """The content of hidden tokens set to nothing; where they are, and a series' level, stays."""
    content = torch.ones(tokens.features.shape[2], dtype=torch.bool, device=hidden.device)
    if isinstance(tokenizer, SeriesTokenizer):
        content[-2 * width_of(tokenizer) :] = False
    return replace(tokens, features=tokens.features.masked_fill(hidden[..., None] & content, 0))


def content_of(tokens: Tokens, tokenizer: Tokenizer) -> tuple[Tensor, Tensor, Tensor]:
    """For each element of tokens as they were born its place (B, M, P), content (B, M, K), and whether it is known."""
    rank, held = rank_in_token(tokens), tokens.source.clamp(min=0)
    positions = tokens.positions.gather(1, held[..., None].expand(-1, -1, tokens.positions.shape[2]))
    slots = _slots(tokens.features, tokenizer)
    at = (held * slots.shape[2] + rank.clamp(max=slots.shape[2] - 1))[..., None]
    found = slots.flatten(1, 2).gather(1, at.expand(-1, -1, slots.shape[3]))
    known = (tokens.source >= 0) & (rank < slots.shape[2])
    if isinstance(tokenizer, PointTokenizer):
        return positions + found[..., 1:4], found[..., 4:], known & (found[..., 0] > 0)
    middle = (tokens.sizes.gather(1, held) - 1) / 2
    places = positions + (rank - middle)[..., None]
    if isinstance(tokenizer, DNATokenizer):
        return places, found[..., :4], known & (found[..., :4].amax(-1) == 1)
    values, valid = found.chunk(2, dim=2)
    return places, values, known & (valid > 0).all(2)


def _slots(features: Tensor, tokenizer: Tokenizer) -> Tensor:
    """The content of each token, element by element: (B, N, slots, numbers)."""
    if isinstance(tokenizer, DNATokenizer):
        return features.unflatten(2, (-1, 5)) if features.is_floating_point() else spell_codes(features)
    if isinstance(tokenizer, PointTokenizer):
        return features.unflatten(2, (tokenizer.neighbours, tokenizer.channels + 1))
    width = width_of(tokenizer)
    return features[..., : -2 * width].unflatten(2, (2 * width, tokenizer.patch)).transpose(2, 3)


def rank_in_token(tokens: Tokens) -> Tensor:
    """For each element how many of its token's come before it, (B, M); 0 where it is in none.

    Example:
        >>> tokens = Tokens(torch.zeros(1, 2, 1), torch.zeros(1, 2, 1), torch.tensor([[2.0, 3.0]]),
        ...                 torch.tensor([[0, 1, 1, 0, 1, -1]]))
        >>> rank_in_token(tokens)
        tensor([[0, 0, 1, 1, 2, 0]])
    """
    order = tokens.source.argsort(stable=True, dim=1)  # elements in no token first
    sizes = tokens.sizes.long()
    starts = sizes.cumsum(1) - sizes + (tokens.source < 0).sum(1, keepdim=True)
    token = tokens.source.gather(1, order)
    places = torch.arange(order.shape[1], device=order.device)
    rank = (places - starts.gather(1, token.clamp(min=0))).masked_fill(token < 0, 0)
    return torch.empty_like(order).scatter_(1, order, rank)


def shorten(batch: Batch, share: float) -> Batch:
    """The first tokens of a batch, and only what they hold: elements of the others are in no token, and not asked."""
    count = max(1, -int(-batch.tokens.features.shape[1] * share // 1))
    tokens = batch.tokens
    gone = tokens.source >= count
    cut = Tokens(
        tokens.features[:, :count],
        tokens.positions[:, :count],
        tokens.sizes[:, :count],
        tokens.source.masked_fill(gone, -1),
    )
    targets = batch.targets
    if targets is not None:
        nothing = torch.nan if targets.is_floating_point() else IGNORE
        targets = targets.masked_fill(gone.reshape(gone.shape + (1,) * (targets.ndim - 2)), nothing)
    return batch._replace(tokens=cut, targets=targets)


def _varied(tokens: Tokens, vary: Callable[[Tokens], Tokens] | None) -> Tokens:
    return tokens if vary is None else vary(tokens)


def _given(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise InputError(f"Expected batches with {name} (got none): this task cannot do without.")
    return value


def _numpy(value: Tensor) -> np.ndarray:
    return value.float().numpy(force=True) if value.is_floating_point() else value.numpy(force=True)
