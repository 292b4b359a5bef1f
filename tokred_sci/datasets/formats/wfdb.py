"""WFDB records with annotations (PhysioNet)."""

import os
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from tokred_sci.datasets.files import existing, guard, wrong
from tokred_sci.datasets.formats.edf import step_of
from tokred_sci.datasets.formats.numbers import named
from tokred_sci.datasets.records import Records
from tokred_sci.errors import package

_BEATS = "NLRBAaJSVrFejnE/fQ?"  # PhysioNet's codes of beats; all others are notes beside them


_BYTES = {"8": 1.0, "80": 1.0, "16": 2.0, "61": 2.0, "160": 2.0, "212": 1.5, "24": 3.0, "32": 4.0}


def read_wfdb(path: str | os.PathLike, annotation: str | None = "atr") -> Records:
    """One record of PhysioNet's WFDB in its physical units, with its beats as labels of their steps.

    Label 0 is no annotation; the others are the symbols in the annotation file, beats before other notes. Where both
    stand at one step the beat counts.

    Args:
        path: the header (.hea), another file of the record, or its name without an ending. Files are only read.
        annotation: the ending of the annotation file, which may be absent; None = no labels.

    Raises:
        FileError: a missing, cut or damaged file (checksums are compared), several segments, different rates.
        MissingExtra: without the extra "series".

    Reference:
        "WFDB Applications Guide: header(5), signal(5), annot(5)" (Moody, 2022)
        https://www.physionet.org/physiotools/wag/header-5.htm

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a1.hea").write_text("a1 1 250 3\\na1.dat 16 200/mV 16 0 0 300 0 II\\n")
        ...     _ = Path(folder, "a1.dat").write_bytes(np.array([0, 100, 200], "<i2").tobytes())
        ...     found = read_wfdb(f"{folder}/a1.hea")
        >>> found.records[0], found.channels, found.unit
        (array([[0. , 0.5, 1. ]]), ('II (mV)',), 'time steps of 1/250 s')
    """
    wfdb = package("wfdb", "WFDB records", "series")
    wfdb = package("wfdb", "WFDB records", "series")
    head = Path(path)
    if head.suffix != ".hea":
        beside = Path(f"{head}.hea")
        head = beside if beside.is_file() or not head.suffix else head.with_suffix(".hea")
    name = str(existing(head).absolute().with_suffix(""))  # absolute: wfdb takes "s3://" and the like for addresses
    with guard(head, "record", "a whole WFDB record", "download it again"):
        header = wfdb.rdheader(name)
        _wfdb_whole(head, header)
        record = wfdb.rdrecord(name, physical=False)
        _wfdb_sums(head, record)
        values = np.ascontiguousarray(record.dac().T, np.float64)
    if not values.size or np.isinf(values).any():
        raise wrong(head, "record", "finite values", "none or infinite ones", "check the gains in the header")
    notes = None if annotation is None else head.with_suffix(f".{annotation}")
    labels, classes = _beats(wfdb, notes, values.shape[1]) if notes and notes.is_file() else (None, ())
    return Records(
        "series",
        [values],
        None if labels is None else [labels],
        names=(head.stem,),
        classes=classes,
        channels=tuple(
            named(str(label or f"channel {index}"), str(unit or "?"))
            for index, (label, unit) in enumerate(zip(record.sig_name, record.units, strict=True))
        ),
        unit=step_of(record.fs),
        source=head.name,
    )


def _wfdb_whole(head: Path, header: Any) -> None:
    if not hasattr(header, "file_name") or not header.file_name or header.n_sig != len(header.file_name):
        raise wrong(head, "header", "one segment with signals", "none, or several segments", "read segments one by one")
    if not (header.fs and np.isfinite(header.fs) and header.fs > 0):
        raise wrong(head, "header", "a sampling rate", repr(header.fs), "correct the header")
    if set(header.samps_per_frame) != {1}:
        got = ", ".join(str(count) for count in header.samps_per_frame[:8])
        raise wrong(head, "header", "signals of one sampling rate", f"{got} samples in a frame", "resample them first")
    for name in dict.fromkeys(header.file_name):
        if Path(name).name != name or "\\" in name or ":" in name:
            raise wrong(head, "header", "signal files in the same folder", repr(name), "do not trust this header")
        places = [index for index, other in enumerate(header.file_name) if other == name]
        formats = {header.fmt[index] for index in places}
        if len(formats) > 1 or not formats <= set(_BYTES):
            got = f"{', '.join(sorted(map(str, formats)))} for {name}"
            raise wrong(head, "header", f"one of the formats {', '.join(_BYTES)}", got, "convert the record")
        size = existing(head.with_name(name)).stat().st_size - (header.byte_offset[places[0]] or 0)
        needed = ceil((header.sig_len or 0) * len(places) * _BYTES[formats.pop()])
        if size < needed:
            raise wrong(head.with_name(name), "end", f"{needed} bytes of samples", f"{size}", "download the file again")


def _wfdb_sums(head: Path, record: Any) -> None:
    for name, stated, found in zip(record.sig_name, record.checksum, record.calc_checksum(), strict=True):
        if stated is not None and (stated - found) % 65536:
            got = f"{found}, the header says {stated % 65536}"
            raise wrong(head, f"signal {name!r}", "samples that add up to their checksum", got, "download it again")


def _beats(wfdb: Any, path: Path, length: int) -> tuple[np.ndarray, tuple[str, ...]]:
    data = existing(path).read_bytes()
    if len(data) % 2 or not data.endswith(b"\0\0"):
        raise wrong(path, "end", "two bytes of zero", repr(data[-2:]), "the file is cut short: download it again")
    with guard(path, "annotations", "a whole annotation file", "download it again"):
        found = wfdb.rdann(str(path.absolute().with_suffix("")), path.suffix[1:])
        places, symbols = np.asarray(found.sample, np.int64), list(found.symbol)
    outside = np.flatnonzero((places < 0) | (places >= length))
    if len(outside):
        raise wrong(
            path, f"annotation {outside[0]}", f"a step below {length}", str(places[outside[0]]), "check the pair"
        )
    strange = [index for index, symbol in enumerate(symbols) if not isinstance(symbol, str)]
    if strange:
        raise wrong(path, f"annotation {strange[0]}", "a code of the format", "another one", "download the file again")
    present = set(symbols)
    order = [symbol for symbol in _BEATS if symbol in present] + sorted(present - set(_BEATS))
    labels = np.zeros(length, np.int16)
    for beats in (False, True):
        for place, symbol in zip(places, symbols, strict=True):
            if (symbol in _BEATS) == beats:
                labels[place] = order.index(symbol) + 1
    return labels, ("none", *order)
