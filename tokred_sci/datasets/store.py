"""Tokens on disk: `write_tokens` once, `read_tokens` ever after. It comes back bit for bit, or as an error.

A store is an Icechunk repository (https://icechunk.io) that holds one Zarr v3 group, laid out as `layout.py` says. One
writer at a time commits whole generations; a reader holds the generation it opened, whatever is written meanwhile.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from operator import index as as_index
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tokred_sci.datasets import layout
from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.repository import (
    WAIT,
    Options,
    Place,
    create_repository,
    is_url,
    lock,
    open_repository,
    require_process,
    sweep_parts,
    sweep_staged,
    theirs,
    told,
    writing,
)
from tokred_sci.errors import InputError, StoreError
from tokred_sci.tokens import Tokens

if TYPE_CHECKING:
    import icechunk

BLOCK = 1 << 18  # tokens read at once where all are read: some chunks


def write_tokens(
    path: Place,
    records: Iterable[Tokens | Entry],
    fingerprint: str,
    labels: Tensor | np.ndarray | Sequence[Any] | None = None,
    options: Options | None = None,
) -> None:
    """Write records into a new store, one at a time: memory holds one shard of each array, not the data set.

    Laws: `read_tokens(path)[i]` equals the i-th record bit for bit; a local store appears under its name complete or
    not at all (it is written beside `path`, as `.name.*.part`, and renamed at the end); a path that exists is never
    touched.

    Args:
        path: the folder to make (folders above it are made too), or a URL: `s3://bucket/prefix`, `gs://bucket/prefix`.
        records: batches of one record each, or `Entry`s with labels, targets and a name; equal in D, P and types.
        fingerprint: name of the tokenizer's settings, which `read_tokens` compares.
        labels: one number, or one row of numbers, for each record, if the records do not bring their own.
        options: of the object store, as `icechunk.s3_storage` or `icechunk.gcs_storage` take them.

    Raises:
        InputError: the path exists, records do not fit together, or their number is not that of the labels.
        StoreError: the disk is full, or the folder may not be written to.

    Example:
        >>> import tempfile, torch
        >>> source = torch.tensor([[0, 1]])
        >>> record = Tokens(torch.ones(1, 2, 4), torch.zeros(1, 2, 1), torch.ones(1, 2), source)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_tokens(f"{folder}/train", [record, record], "3f2a", labels=[0, 1])
        ...     store = read_tokens(f"{folder}/train", "3f2a")
        ...     len(store), store[1], store.labels
        (2, Tokens(B=1 N=2 D=4 P=1 M=2, torch.float32 on cpu, 1 elements per token), tensor([0, 1]))
    """
    _require_fingerprint(fingerprint)
    entries = layout.entries_of(theirs(records), labels)
    if is_url(path):
        repository = create_repository(path, options)
        _commit(repository, path, "write", lambda group: _fill(group, entries, fingerprint, str(path)))
        return
    final = Path(path).absolute()
    _refuse_existing(final)
    with told(path):
        sweep_parts(final)
        part = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.part")
        part.mkdir(parents=True)
    try:
        repository = create_repository(part, options)
        with lock(part):
            _commit(repository, path, "write", lambda group: _fill(group, entries, fingerprint, str(path)))
            _refuse_existing(final)
            part.rename(final)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def append_tokens(
    path: Place,
    records: Iterable[Tokens | Entry],
    fingerprint: str,
    labels: Tensor | np.ndarray | Sequence[Any] | None = None,
    options: Options | None = None,
    wait: float = WAIT,
) -> None:
    """Add records behind those of a store, as one new generation: all of them, or none.

    Arguments and errors as of `write_tokens`; records as those that are there.

    Args:
        wait: seconds for another writer to finish.

    Raises:
        InputError: another fingerprint, or records of another kind.
        StoreError: no such store, it is damaged, another process writes to it for longer, or the disk is full.

    Example:
        >>> import tempfile, torch
        >>> record = Tokens(torch.ones(1, 2, 4), torch.zeros(1, 2, 1), torch.ones(1, 2), torch.tensor([[0, 1]]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_tokens(f"{folder}/train", [record], "3f2a")
        ...     append_tokens(f"{folder}/train", [record, record], "3f2a")
        ...     len(read_tokens(f"{folder}/train")), len(read_tokens(f"{folder}/train", generation=0))
        (3, 1)
    """
    _require_fingerprint(fingerprint)
    entries = layout.entries_of(theirs(records), labels)
    with writing(path, options, wait) as repository:
        _commit(repository, path, "append", lambda group: _fill(group, entries, fingerprint, str(path)))


def update_tokens(
    path: Place,
    changed: Mapping[int, Tokens | Entry],
    fingerprint: str,
    options: Options | None = None,
    wait: float = WAIT,
) -> None:
    """Put other records in the place of some, as one new generation; lengths may differ.

    What they replace stays on disk for readers of earlier generations, until `compact_tokens`. A record given as
    `Tokens` keeps its label, targets and name; an `Entry` brings its own.

    Args:
        changed: number of the record, and what it becomes.

    Raises:
        InputError: another fingerprint, no such record, or records of another kind.
        StoreError: as `append_tokens`.

    Example:
        >>> import tempfile, torch
        >>> record = Tokens(torch.ones(1, 2, 4), torch.zeros(1, 2, 1), torch.ones(1, 2), torch.tensor([[0, 1]]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_tokens(f"{folder}/train", [record, record], "3f2a", labels=[0, 1])
        ...     update_tokens(f"{folder}/train", {1: Entry(record, label=5)}, "3f2a")
        ...     read_tokens(f"{folder}/train").labels
        tensor([0, 5])
    """
    _require_fingerprint(fingerprint)
    with writing(path, options, wait) as repository:
        before = _open_store(repository, path, None, options)
        places = _places(changed, len(before))
        entries = [_changed(before, place, new) for place, new in places.items()]

        def replace(group: Any) -> None:
            rows, labels = _write_flat(group, iter(entries), fingerprint, str(path))
            layout.replace_table(group, list(places), rows, labels)
            layout.seal(group, _header(group))

        _commit(repository, path, "update", replace)


def read_tokens(
    path: Place,
    fingerprint: str | None = None,
    generation: int | str | None = None,
    options: Options | None = None,
) -> "TokenStore":
    """Open a store. Its table and labels are read at once, records when asked for.

    Args:
        path: the folder, or URL.
        fingerprint: that of the tokenizer at hand; None accepts the store whoever wrote it.
        generation: which one of `generations(path)`: its number, as in a list, or its name; None = the last.
        options: of the object store.

    Raises:
        InputError: another fingerprint, or no such generation.
        StoreError: no such store, another layout, damaged metadata or a missing chunk.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_tokens(f"{folder}/none", [], "3f2a")
        ...     read_tokens(f"{folder}/none", "77b0")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        tokred_sci.errors.InputError: Expected tokens of fingerprint '77b0' (... has '3f2a'): use ...
    """
    store = _open_store(open_repository(path, options), path, generation, options)
    if fingerprint is not None:
        _require_same(store.fingerprint, fingerprint, path)
    return store


@dataclass(frozen=True, eq=False, repr=False)
class TokenStore:
    """One generation of a store: `len(store)`, `store[i]`, `store.labels`, `store.names`. Made by `read_tokens`.

    It can be handed to the workers of a `DataLoader` started by "spawn" or "forkserver" (see `TokenLoader`).

    Args:
        path: the folder, or URL.
        fingerprint: name of the settings of the tokenizer that made the records.
        generation: name of the generation.
        labels: (R, ...) one number or row for each record; None if none were written.
        table: (R, 8) where each record lies, as `layout.TABLE` says.
        options: of the object store.
    """

    path: str
    fingerprint: str
    generation: str
    labels: Tensor | None
    table: np.ndarray
    options: Options | None = field(default=None)

    @cached_property
    def arrays(self) -> dict[str, Any]:
        """The flat arrays by name; opened where they are first used, so also anew in each worker."""
        import zarr

        with told(self.path):
            session = open_repository(self.path, self.options).readonly_session(snapshot_id=self.generation)
            return dict(zarr.open_group(session.store, mode="r").arrays())

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, record: int) -> Tokens:
        """One record as a batch of one.

        Raises:
            StoreError: a chunk it lies in is damaged or missing.
        """
        return self.entry(record).tokens

    def entry(self, record: int) -> Entry:
        """One record with its label, targets and name."""
        return self.entries([record])[0]

    def entries(self, records: Sequence[int] | range) -> list[Entry]:
        """Several records, in the order asked for; those that lie side by side are read in one piece."""
        places = np.array([_place(record, len(self)) for record in records], np.int64)
        if not len(places):
            return []
        unique, inverse = np.unique(places, return_inverse=True)
        table = self.table[unique]
        require_process()
        names = layout.read_names(self.arrays, table, self.path)
        labels = [None] * len(unique) if self.labels is None else list(self.labels[unique])
        read = layout.read_records(self.arrays, table, self.path)
        made = [
            Entry(tokens, label, targets, name)
            for (tokens, targets), label, name in zip(read, labels, names, strict=True)
        ]
        return [made[place] for place in inverse.tolist()]

    def __iter__(self) -> Iterator[Tokens]:
        """All records in order, a block of them read at a time."""
        for block in self.blocks():
            for entry in self.entries(block):
                yield entry.tokens

    def blocks(self) -> Iterator[range]:
        """The numbers of all records, cut where it is well to stop reading for a while."""
        number = np.cumsum(self.table[:, 1]) // BLOCK
        edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(self)]
        return (range(start, stop) for start, stop in pairwise(edges) if stop > start)

    @property
    def names(self) -> list[str]:
        """What the source called each record."""
        require_process()
        return layout.read_names(self.arrays, self.table, self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "arrays"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        tokens, elements = self.table[:, 1].sum(), self.table[:, 3].sum()
        return f"TokenStore({len(self)} records, {tokens} tokens, {elements} elements, {self.fingerprint!r})"


@dataclass(frozen=True, slots=True)
class Generation:
    """One state of a store that was committed whole.

    Args:
        name: as `read_tokens(path, generation=name)` takes it.
        when: time of the commit.
        what: "write", "append", "update", "compact" or "tokenize".
        records: how many there were.
    """

    name: str
    when: datetime
    what: str
    records: int


def generations(path: Place, options: Options | None = None) -> list[Generation]:
    """All generations of a store, the first one first.

    Raises:
        StoreError: no such store, or its history is damaged.
    """
    return _generations(open_repository(path, options), path)


def verify_tokens(path: Place, options: Options | None = None) -> list[str]:
    """Read everything there is in the last generation and tell what is wrong with it; nothing is changed.

    Returns:
        One line for each fault, which names the record, the array and the chunks; none if all is well.

    Raises:
        StoreError: the store cannot even be opened.
    """
    store = read_tokens(path, options=options)
    faults = []
    for block in store.blocks():
        try:
            store.entries(block)
        except StoreError:
            for record in block:
                try:
                    store.entry(record)
                except StoreError as error:
                    faults.append(f"record {record}: {error}")
    return faults


def compact_tokens(path: Place, forget: bool = False, options: Options | None = None, wait: float = WAIT) -> int:
    """Lay all records end to end again, as one new generation; give back the room of what no generation holds.

    Such are the left-overs of writers that were killed (in an object store those older than a day: nothing there keeps
    others from writing meanwhile). A store without gaps is not rewritten.

    Args:
        forget: drop all earlier generations too. Readers that still hold one will find its chunks gone (an error).
        wait: seconds for another writer to finish.

    Returns:
        Bytes given back.

    Raises:
        StoreError: as `append_tokens`.
    """
    with writing(path, options, wait) as repository:
        store = _open_store(repository, path, None, options)
        if _has_gaps(store):
            _commit(repository, path, "compact", lambda group: _rewrite(group, store))
        now = datetime.now(UTC)
        with told(path):
            if forget:
                repository.expire_snapshots(older_than=now)
            old = now - timedelta(days=1) if is_url(path) else now  # in a bucket others may be in the midst of a write
            freed = repository.garbage_collect(delete_object_older_than=old).bytes_deleted
            freed += 0 if is_url(path) else sweep_staged(Path(path))
    if not is_url(path):
        sweep_parts(Path(path).absolute())
    return int(freed)


def _commit(repository: "icechunk.Repository", path: Place, what: str, act: Any, branch: str = "main") -> None:
    """Run `act(group)` on the last generation and commit all it did, or nothing; no change makes no generation."""
    import zarr

    with told(path):
        session = repository.writable_session(branch)
        group: Any = zarr.open_group(session.store, mode="a")
        act(group)
        records = group["records"].shape[0] if "records" in group else 0
        if session.has_uncommitted_changes:
            session.commit(what, metadata=note_of(what, int(records)))


def _fill(group: Any, entries: Iterator[Entry], fingerprint: str, path: str) -> None:
    rows, labels = _write_flat(group, entries, fingerprint, path)
    if rows:
        layout.append_table(group, rows, labels)
    header = _header(group) if "tokred_sci" in group.attrs else {"layout": layout.LAYOUT, "kind": None}
    layout.seal(group, {**header, "fingerprint": fingerprint})


def _header(group: Any) -> dict[str, Any]:
    """The header as it stands, without its seal: arrays have changed since it was written."""
    return {name: value for name, value in dict(group.attrs["tokred_sci"]).items() if name != "seal"}


def _write_flat(
    group: Any, entries: Iterator[Entry], fingerprint: str, path: str
) -> tuple[list[list[int]], list[np.ndarray]]:
    """Write records behind all that is there; rows of the table and labels are left to the caller."""
    kind = None
    if "tokred_sci" in group.attrs:
        header = layout.read_header(group, path)
        _require_same(header["fingerprint"], fingerprint, path)
        kind = layout.kind_in(header) if header["kind"] else None
    writer = layout.Writer(group, layout.ends_of(group)) if kind else None
    for place, entry in enumerate(entries):
        fields = layout.fields_of(place, entry)
        if kind is None:
            kind = layout.Kind.of(fields)
            layout.create_arrays(group, kind)
            group.update_attributes({"tokred_sci": layout.header_of(fingerprint, kind)})
        if (got := layout.Kind.of(fields)) != kind:
            raise InputError(
                f"Expected every record with {kind} as the first one (record {place} has {got}): use one tokenizer, "
                "and .to(dtype), for a store."
            )
        writer = writer or layout.Writer(group, layout.ends_of(group))
        writer.add(fields)
    if writer is None:
        return [], []
    writer.close()
    return writer.rows, writer.labels


def _changed(before: TokenStore, place: int, new: Tokens | Entry) -> Entry:
    if isinstance(new, Entry):
        return new
    old = before.entry(place)
    return Entry(new, old.label, old.targets, old.name)


def _rewrite(group: Any, store: TokenStore) -> None:
    """The same records in fresh arrays."""
    header = _header(group)
    for name in list(group.array_keys()):
        del group[name]
    layout.create_arrays(group, layout.kind_in(header))
    writer = layout.Writer(group, layout.ends_of(group))
    for block in store.blocks():
        for place, entry in zip(block, store.entries(block), strict=True):
            writer.add(layout.fields_of(place, entry))
    writer.close()
    layout.append_table(group, writer.rows, writer.labels)
    layout.seal(group, header)


def _has_gaps(store: TokenStore) -> bool:
    table = store.table
    return bool(len(table)) and (table[0, 0] != 0 or bool((table[1:, 0] != table[:-1, 0] + table[:-1, 1]).any()))


def _open_store(
    repository: "icechunk.Repository", path: Place, generation: int | str | None, options: Options | None = None
) -> TokenStore:
    import zarr

    if generation is not None:
        name = _choose(_generations(repository, path), generation)
    else:
        with told(path):
            name = repository.lookup_branch("main")
            if "tokred_sci" not in repository.lookup_snapshot(name).metadata:
                raise StoreError(f"Expected a generation in {path} (got none: its first writer has not finished).")
    with told(path):
        group: Any = zarr.open_group(repository.readonly_session(snapshot_id=name).store, mode="r")
        header = layout.read_header(group, str(path))
        arrays = dict(group.arrays())
    table, labels = np.zeros((0, len(layout.TABLE)), np.int64), None
    if "records" in arrays:
        table = layout.read_flat(arrays["records"], 0, arrays["records"].shape[0], str(path))
        _require_written(table[:, 1], "records", path)
    if "labels" in arrays:
        values = layout.read_flat(arrays["labels"], 0, arrays["labels"].shape[0], str(path))
        _require_written(values, "labels", path)
        labels = torch.from_numpy(values)
    return TokenStore(str(path), header["fingerprint"], name, labels, table, options)


def _generations(repository: "icechunk.Repository", path: Place) -> list[Generation]:
    with told(path):
        states = list(repository.ancestry(branch="main"))
        names = [repository.lookup_branch("main"), *(state.parent_id for state in states)]
        if names != [*(state.id for state in states), None] or "tokred_sci" in states[-1].metadata:
            raise StoreError(f"Expected the history of {path} as written (a snapshot of it is damaged): restore it.")
        found = [_generation(state, path) for state in states[-2::-1]]
    return [one for one in found if one is not None]


def _generation(state: Any, path: Place) -> Generation | None:
    """What a snapshot says of itself; None if it is a step on the way to a generation (see `ingest`)."""
    note = state.metadata
    if "tokred_sci" not in note and "job" in note:
        return None
    what, records, when = note["tokred_sci"], note["records"], note.get("when")
    if "seal" in note and note != note_of(what, records, when):
        raise StoreError(f"Expected the history of {path} as written (the seal of {state.id} is broken): restore it.")
    return Generation(state.id, datetime.fromisoformat(when) if when else state.written_at, str(what), int(records))


def note_of(what: str, records: int, when: str | None = None) -> dict[str, Any]:
    """What a generation says of itself, sealed: Icechunk's snapshots have no check sum."""
    when = when or datetime.now(UTC).isoformat()
    seal = hashlib.sha256(f"{what} {records} {when}".encode()).hexdigest()[:16]
    return {"tokred_sci": what, "records": records, "when": when, "seal": seal}


def _choose(history: list[Generation], generation: int | str) -> str:
    names = [one.name for one in history]
    if generation in names:
        return str(generation)
    if isinstance(generation, int) and -len(names) <= generation < len(names):
        return names[generation]
    raise InputError(f"Expected a generation in [0, {len(names)}) or its name (got {generation!r}): see generations().")


def _require_written(values: np.ndarray, name: str, path: Place) -> None:
    gone = values == layout.lost(values.dtype.name)
    if gone.any():
        raise StoreError(
            f"Expected row {int(np.argwhere(gone)[0, 0])} of array '{name}' in {path} as written (its chunk is gone): "
            "read an earlier generation, or restore the store from a copy."
        )


def _require_fingerprint(fingerprint: str) -> None:
    if not isinstance(fingerprint, str) or not fingerprint:
        raise InputError(f"Expected 'fingerprint' as a name of the tokenizer's settings (got {fingerprint!r}).")


def _require_same(there: str, fingerprint: str, path: Place) -> None:
    if there != fingerprint:
        raise InputError(
            f"Expected tokens of fingerprint {fingerprint!r} ({path} has {there!r}): "
            "use the tokenizer that wrote the store, or write it anew."
        )


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise InputError(f"Expected a path that does not exist (got {path}): choose another, or remove it yourself.")


def _places(changed: Mapping[int, Tokens | Entry], count: int) -> dict[int, Tokens | Entry]:
    """What records become, by their numbers from the start."""
    try:
        places = {_place(number, count): new for number, new in changed.items()}
    except (IndexError, TypeError) as error:
        raise InputError(f"Expected numbers of records of the store, {count} in all (got: {error}).") from error
    if len(places) < len(changed):
        raise InputError(
            f"Expected each record once (got {list(changed)} in a store of {count}): choose one of the two."
        )
    return places


def _place(record: int, count: int) -> int:
    place = as_index(record)
    if not -count <= place < count:
        raise IndexError(f"record {place} of a store of {count}")
    return place % count
