"""Sensor series as tokens: normalised patches of values with a mask, level and spread beside them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.tokenizers import record
from tokred_sci.tokens import Tokens, stack

_LIMIT = float(np.finfo(np.float32).max) / 4
_TINY = float(np.finfo(np.float32).tiny) * 4


@dataclass(frozen=True)
class SeriesTokenizer:
    """One series of shape (channels, time) -> `Tokens`; NaN means missing.

    Law: every step is owned by exactly one token, tails included; `detokenize(tokens)` gives the series back
    to float32 precision of its spread, NaN where a value was missing.

    Layout of a token's features: [values (C * patch, channel by channel) | valid (C * patch) | location (C) |
    scale (C)]. A missing value and the filling of a last partial patch are value 0 and valid 0.

    Args:
        patch: steps per token.
        stride: steps between the starts of two tokens, in [1, patch]; None = patch. A token owns its first
            `stride` steps, the last token the rest.
        normalise: "record" (mean and standard deviation), "robust" (median and interquartile range, or the
            standard deviation where that range is 0) or "none" (0 and 1), per channel over its valid values.
            Constant up to rounding, or empty: scale 1.
        channels: "mix", one record whose tokens hold all channels; "independent", each channel a record, B =
            C.
        in_channels: C of "mix"; not used by "independent", whose tokens hold one channel.

    Raises:
        InputError: settings out of range.

    Reference:
        A Time Series is Worth 64 Words (Nie et al., 2023), https://arxiv.org/abs/2211.14730.

    Example:
        >>> tokenizer = SeriesTokenizer(patch=2)
        >>> tokens = tokenizer([1.0, 3.0, float("nan"), 1.0, 3.0])
        >>> tokens
        Tokens(B=1 N=3 D=6 P=1 M=5, torch.float32 on cpu, 1.667 elements per token)
        >>> tokenizer.detokenize(tokens)
        tensor([[1., 3., nan, 1., 3.]], dtype=torch.float64)
    """

    patch: int = 16
    stride: int | None = None
    normalise: str = "record"
    channels: str = "mix"
    in_channels: int = 1

    def __post_init__(self) -> None:
        record.check_integer("patch", self.patch, 1)
        if self.stride is not None:
            record.check_integer("stride", self.stride, 1, self.patch)
        record.check_choice("normalise", self.normalise, ("record", "none", "robust"))
        record.check_choice("channels", self.channels, ("mix", "independent"))
        record.check_integer("in_channels", self.in_channels, 1)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name the settings: tokens of different fingerprints do not mix."""
        return record.fingerprint(self)

    @property
    def dim(self) -> int:
        """Width D of the features: per channel 2 * patch + 2."""
        return self._held * (2 * self.patch + 2)

    @property
    def _held(self) -> int:
        return self.in_channels if self.channels == "mix" else 1

    @property
    def _step(self) -> int:
        return self.patch if self.stride is None else self.stride

    def most_tokens(self, length: int) -> int:
        """Tokens that a series of so many steps becomes; of each channel, if they are independent."""
        return record.window_count(length, self.patch, self._step)

    def __call__(self, series: Any, times: Any = None) -> Tokens:
        """Tokenize one series.

        Args:
            series: (channels, time) numbers, or (time,) for one channel.
            times: (time,) strictly increasing time stamps, for instance seconds since 1970 in float64: they
                become the positions. None = step indices.

        Raises:
            InputError: no steps, infinite values, nothing but NaN, another number of channels, time stamps
                that are not finite and strictly increasing, or values outside the range of float32.
        """
        values = self._values(series)
        assemble = self._assembler(values.shape[1], times)
        location, scale = _level(values, self.normalise)
        valid = ~np.isnan(values)
        with np.errstate(all="ignore"):
            scaled = np.where(valid, (values - location[:, None]) / scale[:, None], 0)
        for name, got in (("location", location), ("scale", scale), ("values", scaled)):
            if not (np.abs(got) <= _LIMIT).all():
                raise InputError(
                    f"Expected {name} within float32 (got {np.abs(got).max():.3g}): change the series' unit."
                )
        step = len(values) if self.channels == "mix" else 1
        parts = [slice(first, first + step) for first in range(0, len(values), step)]
        return stack([assemble(self._layout(scaled[part], valid[part], location[part], scale[part])) for part in parts])

    def scale(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Location and scale of each record and channel, two of (B, C); not changed by merging tokens."""
        record.check_dim(tokens, self.dim)
        first = tokens.mask.int().argmax(1)  # a merge may leave token 0 empty
        last = tokens.features[torch.arange(len(tokens), device=first.device), first, -2 * self._held :]
        return last[:, : self._held], last[:, self._held :]

    def restore(self, forecast: Tensor, tokens: Tokens) -> Tensor:
        """A forecast of normalised values, (B, C, H), back in the series' units, in its own dtype."""
        location, scale = self.scale(tokens)
        if forecast.ndim != 3 or forecast.shape[:2] != location.shape:
            raise InputError(
                f"Expected 'forecast' of shape ({len(tokens)}, {self._held}, H) (got "
                f"{tuple(forecast.shape)}): "
                "one row per record and channel of the tokens."
            )
        return forecast * scale[..., None].to(forecast) + location[..., None].to(forecast)

    def detokenize(self, tokens: Tokens) -> Tensor:
        """The series behind one record's tokens, (C, time) float64 in its own units, NaN where missing.

        Raises:
            InputError: several records (for "independent": of different lengths), merged tokens, or another
                tokenizer's.
        """
        if self.channels == "mix":
            record.check_single(tokens)
        record.check_born(tokens, self.dim, self.patch, self._step)
        if bool((tokens.source < 0).any()):
            raise InputError("Expected channels of one length (got padding): take them one by one with tokens[i].")
        source = tokens.source[0]
        offset = torch.arange(len(source), device=source.device) - source * self._step
        batch, count, _ = tokens.features.shape
        content = tokens.features[..., : -2 * self._held].double()
        content = content.reshape(batch, count, 2, self._held, self.patch)
        content = content[:, source, :, :, offset]  # (time, B, 2, C)
        location, scale = (part.double() for part in self.scale(tokens))
        values = (content[:, :, 0] * scale + location).where(content[:, :, 1] > 0.5, torch.nan)
        return values.permute(1, 2, 0).reshape(batch * self._held, len(source))

    def spans(self, tokens: Tokens) -> Tensor:
        """First and one past the last step that each token owns, (N, 2) int64; the same for all channels."""
        if self.channels == "independent" and bool((tokens.source == tokens.source[:1]).all()):
            tokens = Tokens(tokens.features[:1], tokens.positions[:1], tokens.sizes[:1], tokens.source[:1])
        return record.spans(tokens)

    def _values(self, series: Any) -> np.ndarray:
        values = record.to_numpy(series, "series").astype(np.float64)
        values = values[None] if values.ndim == 1 else values
        if values.ndim != 2 or values.shape[0] == 0:
            raise InputError(f"Expected 'series' of shape (channels, time) (got {values.shape}): one record a call.")
        if self.channels == "mix" and values.shape[0] != self.in_channels:
            raise InputError(
                f"Expected {self.in_channels} channels (got shape {values.shape}, channels first): set "
                f"in_channels={values.shape[0]}, transpose the series, or use channels='independent'."
            )
        if values.shape[1] == 0:
            raise InputError("Expected at least one step (got 0): leave empty records out.")
        if np.isinf(values).any():
            channel, step = np.argwhere(np.isinf(values))[0]
            raise InputError(
                f"Expected finite values or NaN for missing (got {values[channel, step]} at channel "
                f"{channel}, "
                f"step {step}): mark such steps as NaN."
            )
        if np.isnan(values).all():
            raise InputError(f"Expected at least one value (got {values.size} NaN): leave such records out.")
        return values

    def _assembler(self, length: int, times: Any) -> Callable[[np.ndarray], Tokens]:
        """From features to tokens; where places are step indices, nothing needs to be summed up."""
        if times is None:
            return partial(record.assemble_runs, sizes=record.window_sizes(length, self.patch, self._step))
        source = record.window_source(length, self.patch, self._step)
        return partial(record.assemble, source=source, places=_places(times, length)[:, None])

    def _layout(self, scaled: np.ndarray, valid: np.ndarray, location: np.ndarray, scale: np.ndarray) -> np.ndarray:
        held, length = scaled.shape
        count = record.window_count(length, self.patch, self._step)
        padded = np.zeros((2, held, (count - 1) * self._step + self.patch), np.float32)
        padded[0, :, :length], padded[1, :, :length] = scaled, valid
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.patch, axis=2)[:, :, :: self._step]
        windows = windows.transpose(2, 0, 1, 3).reshape(count, -1)  # (N, 2 * C * patch)
        level = np.concatenate([location, scale]).astype(np.float32)
        return np.concatenate([windows, np.broadcast_to(level, (count, len(level)))], 1)


def _places(times: Any, length: int) -> np.ndarray:
    stamps = record.to_numpy(times, "times").astype(np.float64)
    if stamps.shape != (length,):
        raise InputError(f"Expected 'times' of shape ({length},), one per step (got {stamps.shape}): align the two.")
    wrong = ~np.isfinite(stamps)
    wrong[1:] |= ~(stamps[1:] > stamps[:-1])
    if wrong.any():
        index = int(wrong.argmax())
        before = f" after {float(stamps[index - 1])}" if index else ""
        raise InputError(
            f"Expected finite and strictly increasing 'times' (got {float(stamps[index])} at index "
            f"{index}{before}): "
            "sort the steps, join those with one stamp, drop those without."
        )
    return stamps


def _level(values: np.ndarray, normalise: str) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale of each channel, (C,): float32 numbers held as float64, so undoing is exact."""
    location, scale = np.zeros(len(values)), np.ones(len(values))
    if normalise == "none":
        return location, scale
    some = ~np.isnan(values).all(1)
    held = values[some]
    with np.errstate(all="ignore"):
        centre, spread = np.nanmean(held, 1), np.nanstd(held, 1)
        if normalise == "robust":
            low, centre, high = np.nanquantile(held, [0.25, 0.5, 0.75], axis=1)
            spread = np.where(high - low > 0, high - low, spread)
        bound = np.nanmax(np.abs(held), 1)
        flat = np.nanmax(held, 1) - np.nanmin(held, 1) <= 4 * np.finfo(np.float64).eps * bound
        if (small := ~flat & (spread < _TINY)).any():
            raise InputError(
                f"Expected a spread within float32 (got {spread[small][0]:.3g} in channel "
                f"{np.flatnonzero(some)[small][0]}): change the series' unit."
            )
        location[some] = centre.astype(np.float32)
        scale[some] = np.where(flat, 1, spread).astype(np.float32)
    return location, scale
