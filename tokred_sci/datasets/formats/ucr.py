"""Tables of the UCR archive: a class, then values, in every line."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tokred_sci.datasets.files import wrong
from tokred_sci.datasets.formats.arrays import unknown_channels
from tokred_sci.datasets.formats.numbers import NUMBER, class_order, floats, shown, text_lines
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError


def read_ucr(path: str | os.PathLike, classes: Sequence[str] | None = None, trim: bool = False) -> Records:
    """Series of a table as in the UCR archive, *_TRAIN.tsv: label first, then the values, separated by tabs or commas.

    Args:
        path: the table, plain or compressed. It is only read.
        classes: what label 0, 1, ... means: hand the training file's on to the test file. None = those in the file, in
            the order of numbers, then of text.
        trim: cut the NaN off that the archive pads shorter series with, at their ends only.

    Raises:
        FileError: rows of another length, text among the values, a class that is not in `classes`; the line is named.

    Reference:
        "The UCR Time Series Archive" (Dau et al., 2019) https://arxiv.org/abs/1810.07758

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "Steps_TRAIN.tsv"
        ...     _ = path.write_text("2\\t1.5\\t2.5\\tNaN\\n1\\t0\\t1\\t2\\n")
        ...     found = read_ucr(path, trim=True)
        >>> found.records[0], found.labels, found.classes
        (array([[1.5, 2.5]]), [1, 0], ('1', '2'))
    """
    names: list[str] = []
    places: list[int] = []
    records: list[np.ndarray] = []
    width = 0
    for number, line in text_lines(path):
        fields = line.split("\t" if "\t" in line else ",")
        width = width or len(fields)
        if len(fields) != width or width < 2:
            needed = f"a label and {max(width - 1, 1)} values"
            raise wrong(path, f"line {number}", needed, f"{len(fields)} fields", "pad shorter series with NaN")
        records.append(_ucr_values(path, number, fields[1:], trim)[None])
        names.append(_ucr_class(path, number, fields[0]))
        places.append(number)
    if not records:
        raise wrong(path, "line 1", "at least one series", "an empty file", "check for a cut file")
    order = tuple(sorted(set(names), key=class_order) if classes is None else classes)
    for name, number in zip(names, places, strict=True):
        if name not in order:
            raise wrong(
                path, f"line {number}", f"a class of {order}", shown(name), "correct it, or hand in all classes"
            )
    index = {name: place for place, name in enumerate(order)}
    labels = [index[name] for name in names]
    return Records(
        "series",
        records,
        labels,
        classes=order,
        channels=unknown_channels(1),
        unit="time steps",
        source=Path(path).name,
    )


def _ucr_class(path: str | os.PathLike, number: int, text: str) -> str:
    text = text.strip()
    if not text or text.lower() == "nan":
        raise wrong(path, f"line {number}", "a class first", shown(text), "check for a cut line")
    if NUMBER.fullmatch(text) and abs(float(text)) < 1e15 and float(text) == int(float(text)):
        return str(int(float(text)))  # old files write 1 as 1.0000000e+00
    return text


def _ucr_values(path: str | os.PathLike, number: int, fields: list[str], trim: bool) -> np.ndarray:
    def fail(index: int, text: str) -> FileError:
        return wrong(path, f"line {number}, column {index + 2}", "a number or NaN", shown(text), "correct it")

    values = floats([field.strip() for field in fields], ("?", ""), fail)
    if not trim:
        return values
    there = np.flatnonzero(~np.isnan(values))
    if not len(there):
        raise wrong(path, f"line {number}", "at least one value", f"{len(values)} missing", "drop the line")
    return values[: there[-1] + 1]
