"""Damage done on purpose to series and sequences, in steps; what is known of their elements follows. Clouds: `clouds`.

Every function returns a new record; strength 0 returns the input bit for bit, without a draw. The same generator state
gives the same damage.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from tokred_sci.errors import InputError
from tokred_sci.tokenizers.dna import reverse_complement


class Corrupted(NamedTuple):
    """A damaged record, and where its elements come from.

    Attributes:
        record: of the same type as the one handed in.
        origin: for each element of it the element of the input that it was, int64; -1 for one that was added.
    """

    record: Any
    origin: np.ndarray


def follow(truth: np.ndarray, origin: np.ndarray, added: float | None = None) -> np.ndarray:
    """Labels or targets of a damaged record, from those of the input.

    Args:
        truth: one row for each element of the input.
        origin: as in `Corrupted`.
        added: for elements that were added; None = -100 for whole numbers (ignored by losses), NaN for floats.

    Raises:
        InputError: a truth for another record, or no such value in its type.

    Example:
        >>> follow(np.array([5, 6, 7]), np.array([2, -1, 0]))
        array([   7, -100,    5])
    """
    truth = np.asarray(truth)
    if truth.ndim < 1 or (len(origin) and origin.max() >= len(truth)):
        raise InputError(f"Expected a truth for each element of the input (got shape {truth.shape}).")
    if (origin >= 0).all():
        return truth[origin]
    if added is None:
        added = math.nan if truth.dtype.kind == "f" else -100
    if truth.dtype.kind in "iu" and not (
        float(added).is_integer() and np.iinfo(truth.dtype).min <= added <= np.iinfo(truth.dtype).max
    ):
        raise InputError(f"Expected 'added' as a value of {truth.dtype} (got {added}): choose one, or widen the truth.")
    rows = truth[origin.clip(0)] if len(truth) else np.zeros((len(origin), *truth.shape[1:]), truth.dtype)
    rows[origin < 0] = added
    return rows


def add_noise(series: np.ndarray, snr: float, generator: np.random.Generator) -> np.ndarray:
    """White Gaussian noise at a signal-to-noise ratio, for each channel by its own power; NaN (missing) stays.

    Power is the variance, so that an offset is no signal: a constant channel stays as it is.

    Args:
        series: (channels, time) floats.
        snr: in dB, 10 log10(power of the signal / power of the noise); infinity = as it is.
        generator: to draw on.

    Raises:
        InputError: not a series of floats, an infinite value in it, or no such ratio.

    Example:
        >>> wave = np.sin(np.arange(100_000.0))[None]
        >>> noise = add_noise(wave, 10.0, np.random.default_rng(0)) - wave
        >>> round(float(10 * np.log10(wave.var() / noise.var())), 1)
        10.0
    """
    _check_series(series)
    if math.isnan(snr) or snr == -math.inf:
        raise InputError(f"Expected 'snr' in dB, above -infinity (got {snr}).")
    if snr == math.inf:
        return series.copy()
    power = [np.var(row[~np.isnan(row)], dtype=np.float64) if (~np.isnan(row)).any() else 0.0 for row in series]
    noise = generator.normal(size=series.shape) * np.sqrt(np.array(power) / 10 ** (snr / 10))[:, None]
    return (series + noise).astype(series.dtype)


def cut_gaps(series: np.ndarray, share: float, length: int, generator: np.random.Generator) -> np.ndarray:
    """A share of the steps missing (NaN), in bursts of `length` that may touch, all channels at once.

    Law: exactly `round(share * time)` steps are taken away, whatever was missing before; the last burst may be shorter.

    Args:
        series: (channels, time) floats.
        share: from 0 (as it is) to 1.
        length: steps of a burst.
        generator: to draw on.

    Raises:
        InputError: not a series of floats, or no such share or length.

    Example:
        >>> cut_gaps(np.zeros((1, 8)), 0.5, 2, np.random.default_rng(0))
        array([[ 0.,  0.,  0.,  0., nan, nan, nan, nan]])
    """
    _check_series(series)
    if not 0 <= share <= 1 or length < 1:
        raise InputError(f"Expected 'share' in [0, 1] and 'length' >= 1 (got {share} and {length}).")
    total = round(share * series.shape[1])
    if not total:
        return series.copy()
    bursts = [length] * (total // length) + [total % length] * (total % length > 0)
    order = generator.permutation(np.repeat([True, False], [len(bursts), series.shape[1] - total]))
    sizes = np.ones(len(order), dtype=int)
    sizes[order] = generator.permutation(bursts)
    return np.where(np.repeat(order, sizes), np.nan, series).astype(series.dtype)


class Resampled(NamedTuple):
    """A series at another rate.

    Attributes:
        record: (channels, new steps).
        times: when each new step is, in the unit of the times handed in (steps, if none were).
        nearest: the old step nearest to each new one; `truth[nearest]` are labels per step.
    """

    record: np.ndarray
    times: np.ndarray
    nearest: np.ndarray


def resample(series: np.ndarray, factor: float, times: np.ndarray | None = None) -> Resampled:
    """The series at `factor` times its rate, by linear interpolation between its steps; nothing is filtered.

    Law: factor 1 gives the series back; the first and (where the new steps meet it) last step stay; a new step beside
    a missing one (NaN) is missing, one exactly on a step has its value.

    Args:
        series: (channels, time) floats.
        factor: 2 = twice as many steps; 0.5 = every other.
        times: of the steps, rising, (time,); None = 0, 1, 2, ...

    Raises:
        InputError: not a series of floats, a factor that is not above 0, or times that do not rise.

    Example:
        >>> twice = resample(np.array([[0.0, 2.0, 4.0]]), 2.0)
        >>> twice.record, twice.times
        (array([[0., 1., 2., 3., 4.]]), array([0. , 0.5, 1. , 1.5, 2. ]))
    """
    _check_series(series)
    count = series.shape[1]
    own = np.arange(count, dtype=np.float64) if times is None else np.asarray(times, dtype=np.float64)
    if not 0 < factor < math.inf:
        raise InputError(f"Expected 'factor' as a number > 0 (got {factor}).")
    if own.shape != (count,) or not np.isfinite(own).all() or not (np.diff(own) > 0).all():
        raise InputError(f"Expected 'times' as {count} rising numbers (got shape {own.shape}).")
    places = np.arange(math.floor((count - 1) * factor + 1e-9) + 1) / factor if count else np.empty(0)
    places = np.where(abs(places - places.round()) < 1e-9, places.round(), places)
    left = np.minimum(places.astype(int), max(0, count - 1))
    right = np.minimum(left + 1, max(0, count - 1))
    weight = places - left

    def between(rows: np.ndarray) -> np.ndarray:
        mixed = rows[..., left] * (1 - weight) + rows[..., right] * weight
        return np.where(weight == 0, rows[..., left], mixed)

    record = between(series.astype(np.float64)).astype(series.dtype)
    return Resampled(record, between(own), np.where(weight < 0.5, left, right))


def _check_series(series: np.ndarray) -> None:
    if not isinstance(series, np.ndarray) or series.ndim != 2 or series.dtype.kind != "f":
        raise InputError(f"Expected a series as floats of shape (channels, time) (got {tell(series)}).")
    if np.isinf(series).any():
        raise InputError("Expected finite values, or NaN where one is missing (got an infinite one).")


def substitute(sequence: str, rate: float, generator: np.random.Generator) -> Corrupted:
    """Single-nucleotide variants: each base A, C, G, T becomes one of the three others with probability `rate`.

    Case is kept; other letters (N, ambiguity codes) stay. Origin: every base its own.

    Args:
        sequence: bases.
        rate: from 0 (as it is) to 1.
        generator: to draw on.

    Raises:
        InputError: not a string of ASCII letters, or no such rate.

    Example:
        >>> substitute("AAAAAAAA", 0.5, np.random.default_rng(0)).record
        'AAAAAAAC'
    """
    letters = _letters(sequence)
    _check_rate(rate)
    if rate == 0:
        return Corrupted(sequence, np.arange(len(letters)))
    number = _NUMBER[letters]
    other = (number + generator.integers(1, 4, size=len(letters))) % 4
    hit = (generator.uniform(size=len(letters)) < rate) & (number < 4)
    changed = np.where(hit, _BASES[other] | (letters & 0x20), letters).astype(np.uint8)
    return Corrupted(changed.tobytes().decode("ascii"), np.arange(len(letters)))


def insert_delete(sequence: str, rate: float, generator: np.random.Generator) -> Corrupted:
    """Indels of one base: each base is lost, or followed by a random new one, each with probability `rate` / 2.

    Args:
        sequence: bases.
        rate: from 0 (as it is) to 1.
        generator: to draw on.

    Returns:
        The sequence, and for each of its bases the one it was; -1 for an inserted one.

    Raises:
        InputError: not a string of ASCII letters, or no such rate.

    Example:
        >>> insert_delete("ACGTACGT", 0.5, np.random.default_rng(0))
        Corrupted(record='ACGACGT', origin=array([ 0,  1, -1,  4,  5,  6,  7]))
    """
    letters = _letters(sequence)
    _check_rate(rate)
    if rate == 0:
        return Corrupted(sequence, np.arange(len(letters)))
    draw = generator.uniform(size=len(letters))
    copies = np.where(draw < rate / 2, 0, np.where(draw < rate, 2, 1))
    origin = np.repeat(np.arange(len(letters)), copies)
    new = np.zeros(len(origin), dtype=bool)
    new[1:] = origin[1:] == origin[:-1]
    changed = np.where(new, _BASES[generator.integers(4, size=len(origin))], letters[origin]).astype(np.uint8)
    return Corrupted(changed.tobytes().decode("ascii"), np.where(new, -1, origin))


def shift(sequence: str, places: int) -> Corrupted:
    """The sequence read from `places` bases later on: what a window that starts elsewhere, or a patch, would see.

    Args:
        sequence: bases.
        places: bases left out at the start, at least 0 and fewer than there are.

    Raises:
        InputError: not a string of ASCII letters, or no such place.

    Example:
        >>> shift("ACGTA", 2)
        Corrupted(record='GTA', origin=array([2, 3, 4]))
    """
    letters = _letters(sequence)
    if places < 0 or places >= max(1, len(letters)):
        raise InputError(f"Expected 'places' from 0 to {len(letters) - 1} (got {places}).")
    return Corrupted(sequence[places:], np.arange(places, len(letters)))


def other_strand(sequence: str) -> Corrupted:
    """The reverse complement, with origin reversed, so that per-base truth follows.

    Law: the other strand of the other strand is the sequence (U is read as T).

    Raises:
        InputError: a letter outside the IUPAC alphabet.

    Example:
        >>> other_strand("AACG")
        Corrupted(record='CGTT', origin=array([3, 2, 1, 0]))
    """
    return Corrupted(reverse_complement(sequence) if sequence else "", np.arange(len(sequence))[::-1].copy())


_BASES = np.frombuffer(b"ACGT", dtype=np.uint8)
_NUMBER = np.full(256, 4)
_NUMBER[np.frombuffer(b"ACGTacgt", dtype=np.uint8)] = [0, 1, 2, 3] * 2


def _letters(sequence: str) -> np.ndarray:
    if not isinstance(sequence, str) or not sequence.isascii():
        raise InputError(f"Expected a sequence as a string of ASCII letters (got {type(sequence).__name__}).")
    return np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)


def _check_rate(rate: float) -> None:
    if not 0 <= rate <= 1:
        raise InputError(f"Expected 'rate' in [0, 1] (got {rate}).")


def tell(value: Any) -> str:
    """What came, for an error."""
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
