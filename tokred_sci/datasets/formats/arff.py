"""ARFF, as the UCR and UEA archives use it."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tokred_sci.datasets.files import wrong
from tokred_sci.datasets.formats.arrays import unknown_channels
from tokred_sci.datasets.formats.numbers import floats, shown, text_lines
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError

_FIELD = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,'"]*)\s*(,|$)""")


_ATTRIBUTE = re.compile(r"""@attribute\s+('[^']*'|"[^"]*"|[^\s{]+)\s*(.+)""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Arff:
    outer: tuple[tuple[str, dict[str, int] | None], ...]  # (name, classes; None = numbers), "relational" apart
    inner: int | None  # values in each dimension of the relational attribute
    relational: int | None  # its place among the outer ones


def read_arff(path: str | os.PathLike) -> Records:
    r"""Series in Weka's ARFF as the UCR and UEA archives use it: one value an attribute, or one relational attribute.

    The one nominal attribute holds the class. Beside a relational attribute a single number is a target; without any
    nominal attribute all numbers are the series, and there are no labels.

    Args:
        path: an .arff file, plain or compressed. It is only read.

    Raises:
        FileError: a line that disagrees with the header, an unknown class, sparse rows, strings, dates; it is named.

    Reference:
        "Attribute-Relation File Format" (University of Waikato, 2008) https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> text = '''@relation two
        ... @attribute both relational
        ...   @attribute t0 numeric
        ...   @attribute t1 numeric
        ... @end both
        ... @attribute class {rest,move}
        ... @data
        ... '1,2\\n3,?',move
        ... '''
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "two.arff"
        ...     _ = path.write_text(text)
        ...     found = read_arff(path)
        >>> found.records[0], found.labels, found.classes
        (array([[ 1.,  2.],
               [ 3., nan]]), [1], ('rest', 'move'))
    """
    lines = text_lines(path, (b"%",))
    header = _arff_header(path, lines)
    label = _arff_label(path, header)
    classes = header.outer[label][1] if label is not None else None
    records: list[np.ndarray] = []
    labels: list[Any] = []
    for number, line in lines:
        fields = _arff_fields(path, number, line, len(header.outer))
        if label is not None:
            labels.append(_arff_answer(path, number, classes, _unquoted(fields.pop(label))))
        record = _arff_record(path, number, header, fields)
        if records and len(record) != len(records[0]):
            got = f"{len(record)}, before it {len(records[0])}"
            raise wrong(path, f"line {number}", "dimensions as before", got, "correct the line")
        records.append(record)
    if not records:
        raise wrong(path, "after '@data'", "at least one series", "none", "check for a cut file")
    return Records(
        "series",
        records,
        labels or None,
        classes=tuple(classes or ()),
        channels=unknown_channels(len(records[0])),
        unit="time steps",
        source=Path(path).name,
    )


def _arff_header(path: str | os.PathLike, lines: Iterator[tuple[int, str]]) -> _Arff:
    outer: list[tuple[str, dict[str, int] | None]] = []
    inner, open_, relational = 0, False, None
    for number, line in lines:
        line, where = line.strip(), f"line {number}"
        word = line.split()[0].lower()
        match = _ATTRIBUTE.fullmatch(line)
        if word == "@data" and not open_ and outer:
            return _Arff(tuple(outer), None if relational is None else inner, relational)
        if word == "@end" and open_:
            open_ = False
        elif match and match[2].strip().lower() == "relational" and relational is None:
            open_, relational = True, len(outer)
            outer.append((_unquoted(match[1]), None))
        elif match:
            classes = _arff_kind(path, where, match[2].strip())
            if open_ and classes is not None:
                raise wrong(path, where, "a numeric attribute in the relation", shown(match[2]), "code it as numbers")
            inner += open_
            outer += [] if open_ else [(_unquoted(match[1]), classes)]
        elif word != "@relation":
            raise wrong(path, where, "@relation, @attribute, @end or @data", shown(line), "check the header")
    raise wrong(path, "header", "attributes and a line '@data'", "the end of the file", "check for a cut file")


def _arff_kind(path: str | os.PathLike, where: str, kind: str) -> dict[str, int] | None:
    if kind.lower() in ("numeric", "real", "integer"):
        return None
    names = _split(kind[1:-1]) if kind.startswith("{") and kind.endswith("}") else None
    if not names or "" in names or len(set(names)) < len(names):
        needed = "numeric, real, integer, relational or {classes}"
        raise wrong(path, where, needed, shown(kind), "leave strings and dates out, name each class once")
    return {_unquoted(name): index for index, name in enumerate(names)}


def _arff_label(path: str | os.PathLike, header: _Arff) -> int | None:
    nominal = [index for index, (_, classes) in enumerate(header.outer) if classes is not None]
    if header.relational is not None:
        nominal = [index for index in range(len(header.outer)) if index != header.relational]
    if len(nominal) > 1:
        names = ", ".join(header.outer[index][0] for index in nominal[:8])
        raise wrong(path, "header", "one attribute for the class", names, "keep one of them")
    if len(header.outer) == len(nominal) or header.inner == 0:
        raise wrong(path, "header", "numeric attributes for the series", "none", "check the header")
    return nominal[0] if nominal else None


def _split(line: str) -> list[str] | None:
    if "'" not in line and '"' not in line:
        return [field.strip() for field in line.split(",")]
    fields, place = [], 0
    while match := _FIELD.match(line, place):
        fields.append(match[1].strip())
        place = match.end()
        if not match[2]:
            return fields if place == len(line) else None
    return None


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _arff_fields(path: str | os.PathLike, number: int, line: str, count: int) -> list[str]:
    where = f"line {number}"
    if line.lstrip().startswith("{"):
        raise wrong(path, where, "one value for each attribute", "a sparse row", "write the file without sparse rows")
    fields = _split(line.strip())
    if fields is None:
        raise wrong(path, where, "quotes that close before a comma", shown(line), "check for a cut line")
    if len(fields) != count:
        raise wrong(path, where, f"{count} values, one for each attribute", str(len(fields)), "check for a cut line")
    return fields


def _arff_answer(path: str | os.PathLike, number: int, classes: dict[str, int] | None, text: str) -> int | float:
    where = f"line {number}"
    if classes is None:
        return float(floats([text], (), lambda _, got: wrong(path, where, "a target", shown(got), "correct it"))[0])
    if text not in classes:
        known = ", ".join(list(classes)[:20])
        raise wrong(path, where, f"a class of the header ({known})", shown(text), "correct it or the header")
    return classes[text]


def _arff_record(path: str | os.PathLike, number: int, header: _Arff, fields: list[str]) -> np.ndarray:
    def fail(index: int, text: str) -> FileError:
        return wrong(path, f"line {number}, value {index}", "a number or '?'", shown(text), "correct it")

    if header.relational is None:
        return floats(fields, ("?",), fail)[None]
    rows = [[field.strip() for field in row.split(",")] for row in re.split(r"\\n", _unquoted(fields[0]))]
    for row in rows:
        if len(row) != header.inner:
            needed = f"{header.inner} values in each dimension, as in the header"
            raise wrong(path, f"line {number}", needed, str(len(row)), "check for a cut line, pad with '?'")
    return np.stack([floats(row, ("?",), fail) for row in rows])
