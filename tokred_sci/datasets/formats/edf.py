"""EDF and EDF+ recordings."""

import io
import os
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tokred_sci.datasets.files import existing, guard, read_bytes, wrong
from tokred_sci.datasets.formats.numbers import named
from tokred_sci.datasets.formats.table import find_column
from tokred_sci.datasets.records import Records
from tokred_sci.errors import InputError, package


def read_edf(path: str | os.PathLike, channels: Sequence[str] | None = None, *, annotations: bool = False) -> Records:
    """One record from EDF or EDF+: the signals of one sampling rate, in their physical units.

    Args:
        path: an .edf file without gaps (EDF or EDF+C), plain or compressed. It is only read.
        channels: labels of the signals to take; None = all.
        annotations: label each step by the text of the annotation over it, 0 = none. An annotation without a duration
            marks one step; of two that overlap the later one wins. Parts outside of the recording do not count.

    Raises:
        FileError: a damaged or cut file, signals of different rates, gaps (EDF+D), no such signal.
        MissingExtra: without the extra "series".

    Reference:
        "A simple format for exchange of digitized polygraphic recordings" (Kemp et al., 1992)
        https://www.edfplus.info/specs/edf.html

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import edfio
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "night.edf"
        ...     signal = edfio.EdfSignal(np.arange(8.0), 4, label="Fpz-Cz", physical_dimension="uV")
        ...     edfio.Edf([signal]).write(path)
        ...     found = read_edf(path)
        >>> found.records[0].shape, found.channels, found.unit
        ((1, 8), ('Fpz-Cz (uV)',), 'time steps of 1/4 s')
    """
    edfio = package("edfio", "EDF files", "series")
    path, data = existing(path), read_bytes(path)
    _edf_whole(path, data)
    with guard(path, "EDF", "a whole EDF file", "export or copy it again"):
        edf = edfio.read_edf(io.BytesIO(data))
        signals = _edf_signals(path, edf.signals, channels)
        rate = _edf_rate(path, signals)
        for signal in signals:
            if signal.digital_min >= signal.digital_max or signal.physical_min == signal.physical_max:
                raise wrong(path, f"signal {signal.label!r}", "a range of values", "an empty one", "export it again")
        values = np.stack([np.asarray(signal.data, np.float64) for signal in signals])
        found = list(edf.annotations) if annotations else []
    if not np.isfinite(values).all() or not values.size:
        raise wrong(path, "EDF", "finite values", "none or infinite ones", "export it again")
    labels, classes = _spans(found, float(rate), values.shape[1])
    return Records(
        "series",
        [values],
        [labels] if classes else None,
        classes=classes,
        channels=tuple(named(signal.label, signal.physical_dimension) for signal in signals),
        unit=step_of(rate),
        source=path.name,
    )


def step_of(rate: Fraction | float) -> str:
    rate = Fraction(rate).limit_denominator(1_000_000)
    return f"time steps of {Fraction(1) / rate} s" if rate else "time steps"


def _edf_whole(path: Path, data: bytes) -> None:
    def number(start: int, length: int, least: int) -> int:
        text = data[start : start + length].decode("ascii", "replace").strip()
        if not re.fullmatch(r"[0-9]{1,8}", text) or int(text) < least:
            raise wrong(path, f"byte {start}", f"a number from {least}", repr(text), "export or copy the file again")
        return int(text)

    if data[:8] != b"0       ":
        raise wrong(path, "byte 0", "the start of an EDF file", repr(data[:8]), "check the format")
    if data[192:197] == b"EDF+D":
        raise wrong(path, "byte 192", "a recording without gaps (EDF, EDF+C)", "EDF+D", "split it where it has gaps")
    length, records, signals = number(184, 8, 256), number(236, 8, 1), number(252, 4, 1)
    start = 256 + 216 * signals
    if length != 256 * (signals + 1) or len(data) < length:
        raise wrong(path, "byte 184", f"a header of {256 * (signals + 1)} bytes", f"{length}", "copy the file again")
    whole = length + 2 * records * sum(number(start + 8 * index, 8, 0) for index in range(signals))
    if len(data) != whole:
        got = f"{len(data)}: {'cut short' if len(data) < whole else 'more than the header says'}"
        raise wrong(path, "end", f"{whole} bytes, as the header says", got, "copy or export the file again")


def _edf_signals(path: Path, signals: Sequence[Any], channels: Sequence[str] | None) -> list[Any]:
    labels = [signal.label for signal in signals]
    if isinstance(channels, str):
        raise InputError(f"Expected 'channels' as a list of labels (got {channels!r}): put it into a list.")
    chosen = list(signals)
    if channels is not None:
        for name in channels:
            find_column(path, labels, name)
        chosen = [signal for name in channels for signal in signals if signal.label == name]
    if not chosen:
        raise wrong(path, "header", "at least one signal", "annotations alone", "read the file with the signals")
    return chosen


def _edf_rate(path: Path, signals: Sequence[Any]) -> Fraction:
    rates: dict[float, list[str]] = {}
    for signal in signals:
        rates.setdefault(signal.sampling_frequency, []).append(signal.label)
    if len(rates) > 1:
        got = "; ".join(f"{rate:g} Hz: {', '.join(names[:8])}" for rate, names in rates.items())
        raise wrong(path, "header", "signals of one sampling rate", got, "pick those of one rate by 'channels'")
    return Fraction(next(iter(rates))).limit_denominator(1_000_000)


def _spans(found: Sequence[Any], rate: float, length: int) -> tuple[np.ndarray | None, tuple[str, ...]]:
    texts = sorted({note.text for note in found if note.text})
    if not texts:
        return None, ()
    labels = np.zeros(length, np.int8 if len(texts) < 128 else np.int16)
    for note in sorted((note for note in found if note.text), key=lambda note: note.onset):
        first = round(note.onset * rate)
        last = max(first + 1, round((note.onset + (note.duration or 0)) * rate))
        labels[max(first, 0) : max(last, 0)] = texts.index(note.text) + 1
    return labels, ("none", *texts)
