"""How records lie in a Zarr group: flat arrays, end to end, and a table that says where in them each record is.

Every chunk has a CRC32C, every record a check sum over all its arrays, and the group a seal over its metadata: what
comes back is what was written, or an error. Nothing here knows where the group is kept.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokred_sci.errors import InputError, StoreError
from tokred_sci.tokens import Tokens, unchecked

LAYOUT = 2  # a reader refuses any other
CHUNK_BYTES = 1 << 20
CHUNKS = 32  # of one shard
LEVEL = 3  # of zstd: half the time of 5 on floats, 5 % more room; the same on DNA
TABLE = ("token", "tokens", "source", "elements", "target", "name", "letters", "check")
"""Columns of the array `records`, int64: first row and number of rows of the record in the flat arrays. `source` is -1
where each token owns the elements that follow the token's before it, so that sizes say it all; `target` is -1 where
there are no labels per element."""
_ROWS = 8192  # of the table and of labels in a chunk
_AXES = {"features": "token", "positions": "token", "sizes": "token", "records": "record", "labels": "record"}
_TURNS = {"features": 1, "positions": 3, "sizes": 5, "source": 7, "targets": 11, "name": 13}  # in a record's check sum


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A record with what belongs to it, to be written or as it was read.

    Args:
        tokens: a batch of one record.
        label: one number, or a row of numbers, for the record.
        targets: (M,) numbers, one for each source element.
        name: what its source calls it.

    Example:
        >>> Entry(Tokens(torch.ones(1, 2, 4), torch.zeros(1, 2, 1), torch.ones(1, 2), torch.tensor([[0, 1]])), label=1)
        Entry(Tokens(B=1 N=2 D=4 P=1 M=2, torch.float32 on cpu, 1 elements per token), label=1)
    """

    tokens: Tokens
    label: Any = None
    targets: Any = None
    name: str = ""

    def __repr__(self) -> str:
        told = [f"label={self.label!r}"] * (self.label is not None) + [f"name={self.name!r}"] * bool(self.name)
        told += [f"targets={np.asarray(self.targets).dtype}"] * (self.targets is not None)
        return f"Entry({', '.join([repr(self.tokens), *told])})"


@dataclass(frozen=True, slots=True)
class Kind:
    """What all records of a store have in common: types and widths, by their numpy names."""

    features: str
    dim: int
    positions: str
    places: int
    targets: str | None
    label: str | None
    row: tuple[int, ...] = ()

    @classmethod
    def of(cls, fields: dict[str, np.ndarray]) -> "Kind":
        features, positions = fields["features"], fields["positions"]
        targets, label = fields.get("targets"), fields.get("label")
        return cls(
            features.dtype.name,
            features.shape[1],
            positions.dtype.name,
            positions.shape[1],
            None if targets is None else targets.dtype.name,
            None if label is None else label.dtype.name,
            () if label is None else label.shape,
        )

    def __str__(self) -> str:
        targets = f", {self.targets} targets" if self.targets else ""
        label = f", {self.label} labels" + (f" of shape {self.row}" if self.row else "") if self.label else ""
        return f"D = {self.dim} in {self.features} and P = {self.places} in {self.positions}{targets}{label}"


def fields_of(place: int, entry: Entry) -> dict[str, np.ndarray]:
    """The arrays of one record, by name; `source` is left out where sizes say it all."""
    tokens = entry.tokens
    if not isinstance(tokens, Tokens) or len(tokens) != 1:
        raise InputError(f"Expected record {place} as Tokens with B = 1 (got {tokens!r}): take one out with tokens[i].")
    try:
        fields = {name: getattr(tokens, name)[0].numpy(force=True) for name in ("features", "positions", "sizes")}
    except TypeError as error:
        raise InputError(
            f"Expected record {place} in a type numpy knows "
            f"(got {tokens.features.dtype}): use tokens.to(torch.float32)."
        ) from error
    source, sizes = tokens.source[0].numpy(force=True), fields["sizes"]
    if sizes.sum(dtype=np.float64) != len(source) or not np.array_equal(source, _in_runs(sizes)):
        fields["source"] = source
    fields["name"] = np.frombuffer(str(entry.name).encode(errors="replace"), np.uint8)
    if entry.label is not None:
        fields["label"] = label = _numbers(f"label of record {place}", entry.label)
        if (label == lost(label.dtype.name)).any():
            raise InputError(f"Expected no label {label} (record {place}): the store marks lost values so.")
    if entry.targets is not None:
        fields["targets"] = targets = _numbers(f"targets of record {place}", entry.targets)
        if targets.shape != source.shape:
            raise InputError(
                f"Expected targets of record {place} of shape {source.shape} (got {targets.shape}): one an element."
            )
    return fields


def create_arrays(group: Any, kind: Kind) -> None:
    """Empty arrays for records of one kind."""
    import zarr.codecs

    flat = {
        "features": (kind.features, (kind.dim,)),
        "positions": (kind.positions, (kind.places,)),
        "sizes": ("float32", ()),
        "source": ("int64", ()),
        "name": ("uint8", ()),
    }
    if kind.targets:
        flat["targets"] = (kind.targets, ())
    beside: dict[str, tuple[str, tuple[int, ...]]] = {"records": ("int64", (len(TABLE),))}
    if kind.label:
        beside["labels"] = (kind.label, kind.row)
    codecs = [zarr.codecs.BloscCodec(cname="zstd", clevel=LEVEL, shuffle="bitshuffle"), zarr.codecs.Crc32cCodec()]
    of_tokens = chunk_rows(kind.features, (kind.dim,)) * CHUNKS
    for name, (dtype, trailing) in (flat | beside).items():
        width, rows = tuple(max(1, length) for length in trailing), chunk_rows(dtype, trailing)
        shard = rows * (1 if name == "name" else CHUNKS)
        shard = of_tokens if name in ("positions", "sizes") else shard  # tokens begin at one row in all three
        group.create_array(
            name,
            shape=(0, *trailing),
            chunks=(min(rows, shard) if name in flat else _ROWS, *width),
            shards=(shard, *width) if name in flat else None,
            dtype=dtype,
            dimension_names=[_AXES.get(name, name), *(f"{name}_{axis}" for axis in range(len(trailing)))],
            compressors=codecs,
            fill_value=lost(dtype) if name in beside or name == "name" else 0,  # no UTF-8 has the byte 255
            config={"write_empty_chunks": True},  # a chunk of zeros is written too: a missing one is damage
        )


def chunk_rows(dtype: str, trailing: tuple[int, ...]) -> int:
    """Rows of a flat array in one chunk: a power of two."""
    most = max(1, CHUNK_BYTES // max(1, np.dtype(dtype).itemsize * int(np.prod(trailing))))
    return 1 << (most.bit_length() - 1)


def lost(dtype: str) -> Any:
    """What Zarr hands out where a chunk of the table or of labels is gone: a value that is never written there."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return np.finfo(kind).min
    return np.iinfo(kind).max if kind.kind == "u" else np.iinfo(kind).min


class Writer:
    """Fills the flat arrays of a group, one record at a time, by whole shards; only `close` writes a part of one.

    Args:
        group: with arrays made by `create_arrays`.
        starts: row of each flat array to start at, a multiple of its shard's rows.
        grow: lengthen arrays on the way; False where that was done before, as several processes fill them.
    """

    def __init__(self, group: Any, starts: dict[str, int], grow: bool = True) -> None:
        self.columns = {name: _Column(group[name], start, grow) for name, start in starts.items()}
        self.rows: list[list[int]] = []
        self.labels: list[np.ndarray] = []

    def add(self, fields: dict[str, np.ndarray]) -> None:
        """Take the arrays of one record, as `fields_of` made them."""
        at = {name: self.columns[name].add(values) for name, values in fields.items() if name != "label"}
        elements = len(fields["source"]) if "source" in fields else int(fields["sizes"].sum(dtype=np.float64))
        self.rows.append(
            [
                at["features"],
                len(fields["features"]),
                at.get("source", -1),
                elements,
                at.get("targets", -1),
                at["name"],
                len(fields["name"]),
                int(_check({name: fields[name] for name in at}, {name: np.zeros(1, np.int64) for name in at})[0]),
            ]
        )
        if "label" in fields:
            self.labels.append(fields["label"])

    def close(self) -> None:
        """Write what is still held back."""
        for column in self.columns.values():
            column.close()


class _Column:
    """One flat array, filled from a row on."""

    def __init__(self, array: Any, start: int, grow: bool) -> None:
        self.array, self.end, self.grow = array, start, grow
        self.shard = array.shards[0] if array.shards else array.chunks[0]
        self.pending: list[np.ndarray] = []
        self.waiting = 0

    def add(self, values: np.ndarray) -> int:
        place = self.end + self.waiting
        self.pending.append(values)
        self.waiting += len(values)
        if self.waiting >= self.shard:
            self._flush(self.waiting // self.shard * self.shard)
        return place

    def close(self) -> None:
        if self.waiting:
            self._flush(self.waiting)

    def _flush(self, rows: int) -> None:
        joined = self.pending[0] if len(self.pending) == 1 else np.concatenate(self.pending)
        if self.grow:
            self.array.resize((self.end + rows, *self.array.shape[1:]))
        for start in range(0, rows, self.shard):  # a shard at a time bounds the memory of encoding
            stop = min(start + self.shard, rows)
            self.array[self.end + start : self.end + stop] = joined[start:stop]
        self.pending, self.end, self.waiting = [joined[rows:].copy()], self.end + rows, self.waiting - rows


def ends_of(group: Any) -> dict[str, int]:
    """The first whole shard behind all that is in use, of each flat array."""
    return {
        name: -(-array.shape[0] // array.shards[0]) * array.shards[0]
        for name, array in group.arrays()
        if name not in ("records", "labels")
    }


def trim(group: Any) -> None:
    """Cut flat arrays off behind the last record."""
    table = np.asarray(group["records"][:])
    for columns, names in (
        ((0, 1), ("features", "positions", "sizes")),
        ((5, 6), ("name",)),
        ((2, 3), ("source",)),
        ((4, 3), ("targets",)),
    ):
        used = table[table[:, columns[0]] >= 0]
        end = int((used[:, columns[0]] + used[:, columns[1]]).max(initial=0))
        for name in names:
            if name in group:
                group[name].resize((end, *group[name].shape[1:]))


def append_table(group: Any, rows: Sequence[Sequence[int]], labels: Sequence[np.ndarray]) -> None:
    """Tell of records that lie in the flat arrays: from now on they count."""
    for name, values in (("records", rows), ("labels", labels)):
        if len(values):
            array = group[name]
            start = array.shape[0]
            array.resize((start + len(values), *array.shape[1:]))
            array[start:] = np.asarray(values, array.dtype)


def replace_table(
    group: Any, places: Sequence[int], rows: Sequence[Sequence[int]], labels: Sequence[np.ndarray]
) -> None:
    """Let records at these places of the table lie elsewhere."""
    for name, values in (("records", rows), ("labels", labels)):
        if len(values):
            array = group[name]
            whole = np.asarray(array[:])
            whole[list(places)] = np.asarray(values, whole.dtype)
            array[:] = whole


def seal(group: Any, header: dict[str, Any]) -> None:
    """Write the header, with one digest over it and over shapes, types and chunks of all arrays."""
    group.update_attributes({"tokred_sci": {**header, "seal": _seal_of(group, header)}})


def read_header(group: Any, path: str) -> dict[str, Any]:
    """The header that `seal` wrote: layout, fingerprint, kind.

    Raises:
        StoreError: there is none, it is of another layout, or it is not as it was written.
    """
    try:
        header = dict(group.attrs["tokred_sci"])
        layout, told = header["layout"], header.pop("seal")
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"Expected the header of a token store (got none, or a damaged one, in {path}).") from error
    if layout != LAYOUT:
        raise StoreError(
            f"Expected a store of layout {LAYOUT} (got {layout!r} in {path}): read it with the version that wrote it, "
            "and write it anew."
        )
    if told != _seal_of(group, header):
        raise StoreError(f"Expected the metadata of {path} as written (its seal is broken): restore it from a copy.")
    return header


def _seal_of(group: Any, header: dict[str, Any]) -> str:
    facts = {
        name: [list(array.shape), list(array.chunks), list(array.shards or ()), array.dtype.name]
        for name, array in group.arrays()
    }
    return hashlib.sha256(json.dumps([header, facts], sort_keys=True).encode()).hexdigest()


def header_of(fingerprint: str, kind: Kind) -> dict[str, Any]:
    """What `seal` writes."""
    return {"layout": LAYOUT, "fingerprint": fingerprint, "kind": {**asdict(kind), "row": list(kind.row)}}


def kind_in(header: dict[str, Any]) -> Kind:
    """The kind of records that a header tells of."""
    return Kind(**{**header["kind"], "row": tuple(header["kind"]["row"])})


def read_flat(array: Any, start: int, stop: int, path: str) -> np.ndarray:
    """Rows of one array.

    Raises:
        StoreError: a chunk that holds them is damaged or gone; the array and the chunks are named.
    """
    try:
        return np.asarray(array[start:stop])
    except BaseException as error:  # zlib, blosc, zarr, icechunk, OSError: whatever it is, the rows cannot be had
        if not is_fault(error):
            raise
        chunk = array.chunks[0]
        raise StoreError(
            f"Expected rows {start} to {stop} of array '{array.name.strip('/')}' in {path} as written (chunks "
            f"{start // chunk} to {max(start, stop - 1) // chunk} of {chunk} rows: {brief(error)}): "
            "read an earlier generation, or restore the store from a copy."
        ) from error


def is_fault(error: BaseException) -> bool:
    """Whether something went wrong, rather than somebody pressed Ctrl-C. A panic in Rust is no `Exception`."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def brief(error: BaseException) -> str:
    """What an error says, on one line, without icechunk's trace of its own calls."""
    head, _, rest = str(error).partition("context:")
    cause = f"{head}: {rest.rpartition('`->')[2]}" if "`->" in rest else head
    return f"{type(error).__name__}: {' '.join(cause.replace('|', ' ').split())}"


def read_records(arrays: dict[str, Any], table: np.ndarray, path: str) -> Iterator[tuple[Tokens, Any]]:
    """Tokens and targets of consecutive rows of the table, read in as few pieces as they lie in.

    Args:
        table: (R, 8) rows of the array `records`.
    """
    for start, stop in _pieces(table):
        yield from _read_piece(arrays, table[start:stop], path)


def _pieces(table: np.ndarray) -> Iterator[tuple[int, int]]:
    """Rows that lie one behind the other, and either all or none have a source of their own."""
    breaks = table[1:, 0] != table[:-1, 0] + table[:-1, 1]
    own = table[:, 2] >= 0
    breaks |= own[1:] != own[:-1]
    breaks |= own[1:] & (table[1:, 2] != table[:-1, 2] + table[:-1, 3])
    breaks |= (table[1:, 4] >= 0) & (table[1:, 4] != table[:-1, 4] + table[:-1, 3])
    breaks |= table[1:, 5] != table[:-1, 5] + table[:-1, 6]
    edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(table)]
    yield from pairwise(edges)


def _read_piece(arrays: dict[str, Any], table: np.ndarray, path: str) -> Iterator[tuple[Tokens, Any]]:
    (first, last), named = table[[0, -1]].tolist(), dict(zip(TABLE, range(len(TABLE)), strict=True))
    if first[1] < 1:
        raise StoreError(f"Expected the table of records of {path} as written (a chunk of it is gone): restore it.")

    def flat(name: str, start: str, count: str) -> np.ndarray:
        end = last[named[start]] + last[named[count]]
        return read_flat(arrays[name], first[named[start]], end, path)

    fields = {name: flat(name, "token", "tokens") for name in ("features", "positions", "sizes")}
    fields["name"] = flat("name", "name", "letters")
    if first[named["source"]] >= 0:
        fields["source"] = flat("source", "source", "elements")
    if first[named["target"]] >= 0:
        fields["targets"] = flat("targets", "target", "elements")
    tokens, elements = (np.concatenate([[0], np.cumsum(table[:, named[n]])]) for n in ("tokens", "elements"))
    letters = np.concatenate([[0], np.cumsum(table[:, named["letters"]])])
    begins = {name: elements[:-1] if name in ("source", "targets") else tokens[:-1] for name in fields}
    begins["name"] = letters[:-1]
    wrong = np.flatnonzero(_check(fields, begins) != table[:, named["check"]])
    if len(wrong):
        raise StoreError(
            f"Expected the record at row {int(table[wrong[0], 0])} of 'features' in {path} as written (its check sum "
            "differs: a chunk is gone, or another took its place): read an earlier generation, or restore the store."
        )
    whole = {name: torch.from_numpy(values) for name, values in fields.items()}
    for i in range(len(table)):
        own, of = slice(tokens[i], tokens[i + 1]), slice(elements[i], elements[i + 1])
        features, positions, sizes = (whole[name][own][None] for name in ("features", "positions", "sizes"))
        source = (
            whole["source"][of][None] if "source" in whole else torch.from_numpy(_in_runs(fields["sizes"][own]))[None]
        )
        yield unchecked(features, positions, sizes, source), whole["targets"][of] if "targets" in whole else None


def read_names(arrays: dict[str, Any], table: np.ndarray, path: str) -> list[str]:
    """What each record is called."""
    ends = table[:, 5] + table[:, 6]
    edges = [0, *(np.flatnonzero(table[1:, 5] != ends[:-1]) + 1).tolist(), len(table)]
    names = []
    for first, last in pairwise(edges if len(table) else []):
        low = int(table[first, 5])
        letters = read_flat(arrays["name"], low, int(ends[last - 1]), path).tobytes()
        spans = zip((table[first:last, 5] - low).tolist(), (ends[first:last] - low).tolist(), strict=True)
        try:
            names += [letters[start:stop].decode() for start, stop in spans]
        except UnicodeDecodeError as error:  # 255, which is where a chunk is gone
            raise StoreError(f"Expected array 'name' in {path} as written (got {error}): restore it.") from error
    return names


def _in_runs(sizes: np.ndarray) -> np.ndarray:
    """The source of tokens that own elements in order."""
    return np.repeat(np.arange(len(sizes)), sizes.astype(np.int64))


def _check(fields: dict[str, np.ndarray], begins: dict[str, np.ndarray]) -> np.ndarray:
    """For each record the sum of all its bytes, in words, modulo 2^64: what lies in the wrong place changes it.

    Args:
        fields: arrays that hold records end to end.
        begins: (R,) first row of each record in each of them.
    """
    total: Any = np.int64(0)
    for name, values in fields.items():
        if not len(values):
            continue
        rows = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
        word = next(size for size in (8, 4, 2, 1) if rows.shape[1] % size == 0)
        words = rows.view(f"<u{word}")
        sums = np.zeros(len(begins[name]), np.int64)
        filled = begins[name] < len(words)
        ends = np.append(begins[name][1:], len(words))
        filled &= ends > begins[name]
        if filled.any():
            by_row = words.sum(1, dtype=np.uint64) if words.shape[1] != 1 else words[:, 0]
            sums[filled] = np.add.reduceat(by_row, begins[name][filled], dtype=np.uint64).view(np.int64)
        total = total + sums * _TURNS[name]
    return total


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        array = value.numpy(force=True) if isinstance(value, Tensor) else np.asarray(value)
    except (TypeError, ValueError) as error:  # bfloat16; rows of unequal length
        raise InputError(f"Expected {name} as numbers, rows of one length (got: {error}).") from error
    array = array.astype(np.int8) if array.dtype.kind == "b" else array
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise InputError(f"Expected {name} as numbers (got {array.dtype}): number the class names first.")
    return array


def entries_of(records: Iterable[Tokens | Entry], labels: Any) -> Iterator[Entry]:
    """Each record with its label; as many of the one as of the other."""
    given = None if labels is None else _numbers("'labels'", labels)
    if given is not None and given.ndim == 0:
        raise InputError(f"Expected 'labels' as one for each record (got the number {given}).")
    count = 0
    for count, record in enumerate(records, start=1):
        entry = record if isinstance(record, Entry) else Entry(record)
        if given is not None:
            if count > len(given):
                raise InputError(f"Expected 'labels' as one for each record (got {len(given)}, and more records).")
            entry = Entry(entry.tokens, given[count - 1], entry.targets, entry.name)
        yield entry
    if given is not None and count != len(given):
        raise InputError(f"Expected 'labels' as one for each of {count} records (got {len(given)}).")
