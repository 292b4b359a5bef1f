"""The records of one file, whole or a stretch at a time: what a program needs that must not hold the file in memory."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokred_sci.datasets.dna import Fasta
from tokred_sci.datasets.files import existing
from tokred_sci.datasets.reader import READERS, format_of, read
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError, InputError


class Parts:
    """Names and lengths of a file's records, and any stretch of each. Made by `open_parts`.

    Law: `get(i, a, b)` is what `read(path)` says of elements [a, b) of record i.

    Attributes:
        path: the file.
        format: its format, a key of `READERS`.
        domain: "dna", "points" or "series".
        names: of the records.
        lengths: elements of each: bases, points or time steps.
    """

    def __init__(self, path: Path, form: str, records: Records | Fasta) -> None:
        self.path, self.format, self.domain = path, form, READERS[form][2]
        self._records = records
        whole: Sequence[Any] = () if isinstance(records, Fasta) else records.records
        self.names = tuple(records.names) or tuple(str(number) for number in range(len(whole)))
        if isinstance(records, Fasta):
            self.lengths = records.lengths
        else:
            self.lengths = tuple(record.shape[1] if self.domain == "series" else len(record) for record in whole)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def channels(self) -> int:
        """Numbers per point, channels of a series; 1 for DNA."""
        if isinstance(self._records, Fasta) or self.domain == "dna":
            return 1
        return self._records.records[0].shape[1 if self.domain == "points" else 0]

    def get(self, record: int, start: int = 0, stop: int | None = None) -> tuple[Any, Any]:
        """Elements [start, stop) of a record as its tokenizer takes them, and their time stamps or None."""
        stop = self.lengths[record] if stop is None else stop
        if isinstance(self._records, Fasta):
            return self._records.fetch(self.names[record], start, stop), None
        values, times = self._records.records[record], self._records.times
        part = values[:, start:stop] if self.domain == "series" else values[start:stop]
        return part, None if times is None else times[record][start:stop]

    def labels(self, record: int, start: int = 0, stop: int | None = None) -> tuple[Any, Any]:
        """The label of a record, and the labels of its elements [start, stop); None where the file has none."""
        if isinstance(self._records, Fasta) or self._records.labels is None:
            return None, None
        label = self._records.labels[record]
        if np.shape(label)[:1] == (self.lengths[record],):
            return None, label[start:stop]
        return label, None

    @property
    def mapped(self) -> bool:
        """The values lie on disk until looked at; what was looked at counts as memory until the last use is gone."""
        return not isinstance(self._records, Fasta) and any(isinstance(one, np.memmap) for one in self._records.records)

    def __repr__(self) -> str:
        return f"Parts({len(self)} records of {self.domain}, {sum(self.lengths)} elements, {self.format})"


def open_parts(path: str | os.PathLike, domain: str | None = None, **options: Any) -> Parts:
    """Open a file of sequences, points or series; FASTA (plain, bgzip) and NPY of series are not read before asked for.

    Args:
        path: the file; it is only read.
        domain: "dna", "points" or "series" where the content may be either.
        options: of the format's reader; a FASTA with options is read whole.

    Raises:
        InputError: no format that is known, or an unknown option.
        FileError: the file is not there, holds no record, or not what its format promises.
        MissingExtra: the format needs a package that is not installed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "two.fa"
        >>> _ = path.write_text(">one\\nACGTAC\\n>two\\nTTnn\\n")
        >>> parts = open_parts(path)
        >>> parts, parts.names, parts.get(0, 2, 5)
        (Parts(2 records of dna, 10 elements, fasta), ('one', 'two'), ('GTA', None))
    """
    form = format_of(path, domain)
    parts = Parts(existing(path), form, _open(existing(path), form, domain, options))
    if not len(parts):
        raise FileError(f"Expected at least one record in {path} (got none): check the file.")
    return parts


def _open(path: Path, form: str, domain: str | None, options: dict[str, Any]) -> Records | Fasta:
    if form == "fasta" and not options:
        try:
            return Fasta(path)
        except FileError:  # lines that no index can describe, or plain gzip: read whole; or refused there, too
            pass
    if form == "npy of series" and path.suffix == ".npy" and "mmap" not in options:
        try:
            return read(path, "series", mmap=True, **options)
        except InputError:  # whole numbers, or another byte order: those are converted, so read whole
            pass
    return read(path, domain, **options)
