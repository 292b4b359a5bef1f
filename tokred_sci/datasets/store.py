"""Tokens on disk: `write_tokens` once, `read_tokens` ever after. It comes back bit for bit, or as an error.

The folder is a Zarr v3 group: ragged records laid end to end in flat arrays, cut at `offsets`. A checksum
lies on every chunk and a seal on the metadata, so a flipped bit or a lost file cannot pass for data.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index as as_index
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.tokens import Tokens

if TYPE_CHECKING:
    import zarr

LAYOUT = 1  # of the folder; a reader refuses any other
CHUNK_BYTES = 1 << 20
FIELDS = ("features", "positions", "sizes", "source")


def write_tokens(
    path: str | os.PathLike,
    records: Iterable[Tokens],
    fingerprint: str,
    labels: Tensor | np.ndarray | Sequence[int | float] | None = None,
) -> None:
    """Write records into a new folder, one at a time: memory holds one chunk, not the data set.

    Laws: `read_tokens(path)[i]` equals the i-th record bit for bit; the folder appears under its name
    complete or not at all (it is written beside `path`, as `.name.*.part`, and renamed at the end);
    a path that exists is never touched.

    Args:
        path: the folder to make; folders above it are made too.
        records: batches of one record each, equal in D, P and types; lengths N and M may differ.
        fingerprint: name of the tokenizer's settings, which `read_tokens` compares.
        labels: one number, or one row of numbers, for each record.

    Raises:
        InputError: the path exists, records do not fit together, or their number is not that of the labels.

    Example:
        >>> import tempfile, torch
        >>> source = torch.tensor([[0, 1]])
        >>> record = Tokens(torch.ones(1, 2, 4), torch.zeros(1, 2, 1), torch.ones(1, 2), source)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_tokens(f"{folder}/train.zarr", [record, record], "3f2a", labels=[0, 1])
        ...     store = read_tokens(f"{folder}/train.zarr", "3f2a")
        ...     len(store), store[1], store.labels
        (2, Tokens(B=1 N=2 D=4 P=1 M=2, torch.float32 on cpu, 1 elements per token), tensor([0, 1]))
    """
    if not isinstance(fingerprint, str) or not fingerprint:
        raise InputError(f"Expected 'fingerprint' as a name of the tokenizer's settings (got {fingerprint!r}).")
    path = Path(path).absolute()
    _refuse_existing(path)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    part.mkdir(parents=True)
    try:
        _write(part, records, fingerprint, labels)
        _refuse_existing(path)
        part.rename(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def read_tokens(path: str | os.PathLike, fingerprint: str | None = None) -> "TokenStore":
    """Open what `write_tokens` wrote. Records are read when asked for; offsets and labels at once.

    Args:
        path: the folder.
        fingerprint: that of the tokenizer at hand; None accepts the store whoever wrote it.

    Raises:
        InputError: no such store, another fingerprint, another layout, damaged metadata or a missing chunk.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_tokens(f"{folder}/none.zarr", [], "3f2a")
        ...     read_tokens(f"{folder}/none.zarr", "77b0")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        tokred_sci.errors.InputError: Expected tokens of fingerprint '77b0' (... has '3f2a'): use ...
    """
    import zarr

    path = Path(path).absolute()
    header = _read_header(path)
    if fingerprint is not None and fingerprint != header["fingerprint"]:
        raise InputError(
            f"Expected tokens of fingerprint {fingerprint!r} ({path} has {header['fingerprint']!r}): "
            "use the tokenizer that wrote the store, or write it anew."
        )
    arrays = {name: zarr.open_array(str(path / name), mode="r") for name in header["arrays"]}
    for name, array in arrays.items():
        _require_chunks(path / name, array, 0, array.shape[0])
    offsets = _read(path, arrays, "offsets", 0, arrays["offsets"].shape[0])
    labels = None
    if "labels" in arrays:
        labels = torch.from_numpy(_read(path, arrays, "labels", 0, arrays["labels"].shape[0]))
    return TokenStore(path, header["fingerprint"], labels, offsets, arrays)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TokenStore:
    """A folder of records, read one by one: `len(store)`, `store[i]`, `store.labels`. Made by `read_tokens`.

    It can be handed to the workers of a `DataLoader`.

    Args:
        path: the folder.
        fingerprint: name of the settings of the tokenizer that made the records.
        labels: (R, ...) one number or row for each record; None if none were written.
        offsets: (R + 1, 2) where each record begins, in tokens and in source elements.
        arrays: the flat arrays by name.
    """

    path: Path
    fingerprint: str
    labels: Tensor | None
    offsets: np.ndarray
    arrays: dict[str, "zarr.Array"]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, record: int) -> Tokens:
        """One record as a batch of one.

        Raises:
            InputError: a chunk it lies in is damaged or missing.
        """
        place = as_index(record)
        if not -len(self) <= place < len(self):
            raise IndexError(f"record {place} of a store of {len(self)}")
        place %= len(self)
        (token, element), (token_end, element_end) = self.offsets[place : place + 2].tolist()
        ends = {"source": (element, element_end)}
        fields = (_read(self.path, self.arrays, name, *ends.get(name, (token, token_end))) for name in FIELDS)
        return Tokens(*(torch.from_numpy(field)[None] for field in fields))

    def __repr__(self) -> str:
        tokens, elements = self.offsets[-1].tolist()
        return f"TokenStore({len(self)} records, {tokens} tokens, {elements} elements, {self.fingerprint!r})"


class _Column:
    """One flat array that grows by whole chunks along its first axis; only `close` writes a part of one."""

    def __init__(self, folder: Path, like: np.ndarray) -> None:
        import zarr
        from zarr.codecs import BloscCodec, Crc32cCodec

        trailing = like.shape[1:]
        self.rows = max(1, CHUNK_BYTES // max(1, like.dtype.itemsize * int(np.prod(trailing))))
        self.array = zarr.create_array(
            str(folder),
            shape=(0, *trailing),
            chunks=(self.rows, *(max(1, length) for length in trailing)),
            dtype=like.dtype,
            compressors=[BloscCodec(cname="zstd", shuffle="bitshuffle"), Crc32cCodec()],
            fill_value=0,
            config={"write_empty_chunks": True},  # a chunk of zeros is a file too: a missing file is damage
        )
        self.pending: list[np.ndarray] = []
        self.waiting = 0

    def add(self, values: np.ndarray) -> None:
        self.pending.append(values)
        self.waiting += len(values)
        if self.waiting >= self.rows:
            self._flush(self.waiting // self.rows * self.rows)

    def close(self) -> None:
        if self.waiting:
            self._flush(self.waiting)

    def _flush(self, rows: int) -> None:
        joined = np.concatenate(self.pending)
        self.array.append(joined[:rows])
        self.pending, self.waiting = [joined[rows:].copy()], self.waiting - rows


def _write(folder: Path, records: Iterable[Tokens], fingerprint: str, labels: object) -> None:
    import zarr

    columns: dict[str, _Column] = {}

    def add(name: str, values: np.ndarray) -> None:
        if name not in columns:
            columns[name] = _Column(folder / name, values)
        columns[name].add(values)

    first: tuple | None = None
    end, count = np.zeros((1, 2), np.int64), 0
    add("offsets", end)
    for count, record in enumerate(records, start=1):
        fields = _fields(count - 1, record)
        kind = tuple((field.shape[1:], field.dtype.name) for field in fields)
        first = first or kind
        if kind != first:
            raise InputError(
                f"Expected every record with {_tell(first)} as the first one "
                f"(record {count - 1} has {_tell(kind)}): use one tokenizer, and .to(dtype), for a store."
            )
        for name, field in zip(FIELDS, fields, strict=True):
            add(name, field)
        end = end + np.array([[len(fields[0]), len(fields[3])]])
        add("offsets", end)
    if labels is not None:
        add("labels", _as_labels(labels, count))
    for column in columns.values():
        column.close()
    header = {"layout": LAYOUT, "fingerprint": fingerprint, "arrays": sorted(columns)}
    zarr.create_group(str(folder), attributes={"tokred_sci": {**header, "seal": _seal(folder, header)}})


def _fields(place: int, record: Tokens) -> list[np.ndarray]:
    if not isinstance(record, Tokens) or len(record) != 1:
        raise InputError(f"Expected record {place} as Tokens with B = 1 (got {record!r}): take one out with tokens[i].")
    try:
        return [getattr(record, name)[0].detach().cpu().numpy() for name in FIELDS]
    except TypeError as error:
        raise InputError(
            f"Expected record {place} in a type numpy knows "
            f"(got {record.features.dtype}): use tokens.to(torch.float32)."
        ) from error


def _tell(kind: tuple) -> str:
    (features, of_features), (positions, of_positions) = kind[:2]
    return f"D = {features[0]} in {of_features} and P = {positions[0]} in {of_positions}"


def _as_labels(labels: object, count: int) -> np.ndarray:
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if count == 0 and values.size == 0 and values.ndim == 1:
        values = values.astype(np.int64)
    if values.ndim == 0 or values.dtype.kind not in "iuf" or len(values) != count:
        raise InputError(
            f"Expected 'labels' as {count} numbers, or rows of numbers, one for each record "
            f"(got {values.dtype} of shape {values.shape}): number the class names first."
        )
    return values


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise InputError(f"Expected a path that does not exist (got {path}): choose another, or remove it yourself.")


def _seal(folder: Path, header: dict) -> str:
    """One digest over the header and all arrays' metadata: shapes, types and codecs cannot change unseen."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in header["arrays"]:
        digest.update((folder / name / "zarr.json").read_bytes())
    return digest.hexdigest()


def _read_header(path: Path) -> dict:
    if not (path / "zarr.json").is_file():
        raise InputError(f"Expected a folder written by write_tokens (nothing like it at {path}).")
    try:
        header = dict(json.loads((path / "zarr.json").read_bytes())["attributes"]["tokred_sci"])
        layout, seal = header["layout"], header.pop("seal")
        whole = layout != LAYOUT or seal == _seal(path, header)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"Expected the metadata of {path} as written by write_tokens (it is damaged).") from error
    if layout != LAYOUT:
        raise InputError(f"Expected a store of layout {LAYOUT} (got {layout!r} in {path}): write it anew.")
    if not whole:
        raise InputError(f"Expected the metadata of {path} as written (its seal is broken): write the store anew.")
    return header


def _require_chunks(folder: Path, array: "zarr.Array", start: int, end: int) -> None:
    """Refuse to read rows whose chunk is gone: Zarr would hand out zeros instead."""
    rows = array.chunks[0]
    for chunk in range(start // rows, -(-end // rows)):
        key = array.metadata.encode_chunk_key((chunk,) + (0,) * (array.ndim - 1))
        if not (folder / key).is_file():
            raise InputError(
                f"Expected chunk '{key}' of array '{folder.name}' (missing in {folder.parent}): write anew."
            )


def _read(path: Path, arrays: dict[str, "zarr.Array"], name: str, start: int, end: int) -> np.ndarray:
    _require_chunks(path / name, arrays[name], start, end)
    try:
        return np.asarray(arrays[name][start:end])
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(
            f"Expected rows {start} to {end} of array '{name}' in {path} as written "
            f"(a chunk is damaged: {error}): write the store anew, or copy it again."
        ) from error
