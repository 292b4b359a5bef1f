"""Files -> a token store, serially, in local processes or on a Dask cluster: the outcome is the same, bit for bit.

Records are cut into pieces, pieces put together to tasks of about one shard each, and every task has its own shards to
fill, known before any of them starts. So tasks do not wait for each other, and one that dies is run again by itself.
Finished tasks are committed on a branch of the store: a job that is killed goes on where it was, and readers see its
outcome when all of it is there.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from tokred_sci.datasets import layout
from tokred_sci.datasets.files import existing, wrong
from tokred_sci.datasets.layout import Entry, Kind, Writer
from tokred_sci.datasets.parts import Parts, open_parts
from tokred_sci.datasets.reader import READERS, format_of
from tokred_sci.datasets.repository import Options, Place, create_repository, is_url, lock, open_repository, told
from tokred_sci.datasets.store import TokenStore, note_of, read_tokens
from tokred_sci.errors import InputError, StoreError, package
from tokred_sci.tokenizers.dna import DNATokenizer
from tokred_sci.tokenizers.points import PointTokenizer
from tokred_sci.tokenizers.series import SeriesTokenizer

Tokenizer = DNATokenizer | PointTokenizer | SeriesTokenizer
PIECE = 1 << 20  # elements of a record that are tokenized at once
BRANCH = "tokenize"
WAVE = 64  # tasks between two commits: what a killed job loses at most
TRIES = 3  # of a task whose process died


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it was measured: what it is, and whose elements are counted.

    Args:
        path: the file.
        domain: "dna", "points" or "series".
        options: of its reader.
        stamp: size and time of change: pieces are read later, and must come from the same content.
    """

    path: str
    domain: str
    options: tuple[tuple[str, Any], ...]
    stamp: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements [start, stop) of one record of a file."""

    source: Source
    record: int
    name: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Task:
    """Pieces that fill shards of their own: from `starts` on in every flat array."""

    pieces: tuple[Piece, ...]
    starts: dict[str, int]

    @property
    def elements(self) -> int:
        return sum(piece.stop - piece.start for piece in self.pieces)


def tokenize_files(
    inputs: str | os.PathLike | Iterable[str | os.PathLike],
    out: Place,
    tokenizer: Tokenizer,
    piece: int | None = PIECE,
    workers: int = 0,
    dask: str | None = None,
    options: Mapping[str, Any] | None = None,
    storage: Options | None = None,
    progress: bool = True,
) -> TokenStore:
    """Tokenize all records of some files into a store, behind what it holds; it becomes one new generation.

    Laws: the same files, tokenizer and `piece` give the same store, chunk for chunk, however many workers there are and
    whichever of them die; memory is bounded by the piece, not the file, where the format can be read in parts (FASTA
    that is plain or bgzip, NPY); called again after it was killed, it goes on behind the last commit.

    Args:
        inputs: files that `tokred_sci.datasets.read` knows, or one.
        out: the store, made if it is not there; or a URL, as in `write_tokens`.
        tokenizer: it decides which domain is read. `DNATokenizer(compact=True)` needs the least room.
        piece: records of DNA or series that are longer are cut into records of this many elements, rounded up to whole
            patches; positions go on counting from the start of the whole. None = never. Clouds are never cut.
        workers: local processes; 0 = this one.
        dask: address of a Dask scheduler, in place of `workers`; its workers need to see files and store alike.
        options: of the files' reader.
        storage: options of the object store.
        progress: show a bar.

    Raises:
        InputError: no inputs, a piece below 1, another tokenizer's store, or one with another job that is not finished;
            no scheduler at that address; a record that the tokenizer refuses, with its file.
        FileError: an input does not hold what its format promises, or was changed meanwhile.
        StoreError: the store is damaged, in use, or the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fasta = Path(folder) / "genome.fa"
        ...     _ = fasta.write_text(">chromosome\\n" + "ACGT" * 10 + "\\n")
        ...     tokenizer = DNATokenizer(4, compact=True)
        ...     store = tokenize_files([fasta], f"{folder}/store", tokenizer, piece=16, progress=False)
        ...     store.names, "".join(tokenizer.detokenize(tokens) for tokens in store) == "ACGT" * 10
        (['chromosome:0-16', 'chromosome:16-32', 'chromosome:32-40'], True)
    """
    paths = [existing(path) for path in ([inputs] if isinstance(inputs, str | os.PathLike) else inputs)]
    if not paths:
        raise InputError("Expected at least one input file (got none).")
    for name, value, low in (("piece", 1 if piece is None else piece, 1), ("workers", workers, 0)):
        if type(value) is not int or value < low:
            raise InputError(f"Expected '{name}' >= {low}, a whole number (got {value!r}): choose another.")
    domain, reading = domain_of(tokenizer), dict(options or {})
    if (asked := reading.pop("domain", domain)) != domain:
        raise InputError(
            f"Expected files of {domain}, as the tokenizer takes (got the option domain={asked!r}): drop it."
        )
    with _pool(workers, dask) as run:
        measured = run(partial(measure, domain=domain, options=reading), paths)
        pieces = [part for source, records in measured for part in _cut(source, records, tokenizer, piece)]
        with _repository(out, storage) as repository:
            job = _Job(repository, out, tokenizer, pieces)
            for wave in job.waves(progress):
                job.commit(run, wave)
            with told(out):
                job.finish()
    return read_tokens(out, tokenizer.fingerprint, options=storage)


def tokenizer_for(path: str | os.PathLike, settings: Mapping[str, Any], options: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a file's domain; DNA as codes, and as many channels as the file has, unless told otherwise.

    Args:
        path: a file that `tokred_sci.datasets.read` knows.
        settings: of the tokenizer.
        options: of the file's reader.

    Raises:
        InputError: a setting that the tokenizer does not have.
    """
    domain = READERS[format_of(path, options.get("domain"))][2]
    kind: Any = {"dna": DNATokenizer, "points": PointTokenizer, "series": SeriesTokenizer}[domain]
    known = [field.name for field in fields(kind)]
    for name in settings:
        if name not in known:
            raise InputError(f"Expected a setting of {kind.__name__} (got {name!r}): it has {', '.join(known)}.")
    told = dict(settings)
    if domain == "dna" and told.get("scheme", "patch") == "patch":
        told.setdefault("compact", True)
    elif domain != "dna":
        told.setdefault("channels" if domain == "points" else "in_channels", open_parts(path, **options).channels)
    return kind(**told)


def domain_of(tokenizer: Tokenizer) -> str:
    """The domain whose records a tokenizer takes."""
    domains = {DNATokenizer: "dna", PointTokenizer: "points", SeriesTokenizer: "series"}
    if type(tokenizer) not in domains:
        raise InputError(f"Expected one of the library's tokenizers (got {tokenizer!r}).")
    return domains[type(tokenizer)]


def measure(path: Path, domain: str, options: dict[str, Any]) -> tuple[Source, list[tuple[str, int]]]:
    """Name and number of elements of every record of a file."""
    source = Source(str(path), domain, tuple(sorted(options.items())), _stamp(path))
    parts = _open(source)
    return source, list(zip(parts.names, parts.lengths, strict=True))


def fill(task: Task, session: Any, tokenizer: Tokenizer, out: Place) -> tuple[Any, list[list[int]], list[np.ndarray]]:
    """Tokenize the pieces of a task into its shards; returns the session, rows of the table, and labels."""
    import zarr

    group: Any = zarr.open_group(session.store, mode="a")
    kind = layout.kind_in(dict(group.attrs["tokred_sci"]))
    writer = Writer(group, task.starts, grow=False)
    for entry in (entry for piece in task.pieces for entry in entries_of(piece, tokenizer)):
        arrays = layout.fields_of(len(writer.rows), entry)
        if (got := Kind.of(arrays)) != kind:
            raise InputError(
                f"Expected every record with {kind} as the first one ({entry.name} has {got}): tokenize files of one "
                "kind, with labels or without, into one store."
            )
        with told(out):
            writer.add(arrays)
    with told(out):
        writer.close()
    if _open(task.pieces[-1].source).mapped:  # what was read of it counts as memory until it is let go of
        _open.cache_clear()
    return session, writer.rows, writer.labels


def entries_of(piece: Piece, tokenizer: Tokenizer) -> Iterator[Entry]:
    """A piece as tokens, with what belongs to it; positions count from the start of the whole record."""
    path = Path(piece.source.path)
    if _stamp(path) != piece.source.stamp:
        raise wrong(path, "content", "it as it was when the job began", "a changed file", "start the job again")
    parts, where = _open(piece.source), (piece.record, piece.start, piece.stop)
    values, times = parts.get(*where)
    label, targets = parts.labels(*where)
    try:
        tokens = tokenizer(values) if times is None else tokenizer(values, times)  # type: ignore[call-arg]
    except InputError as error:
        raise InputError(f"{path}, record {piece.name}: {error}") from error
    if times is None and piece.source.domain != "points":
        tokens = replace(tokens, positions=tokens.positions + piece.start)
    for number in range(len(tokens)):
        channel = f"/{number}" if len(tokens) > 1 else ""  # channels of a series as records of their own
        yield Entry(tokens[number] if len(tokens) > 1 else tokens, label, targets, piece.name + channel)


@lru_cache(maxsize=2)
def _open(source: Source) -> Parts:
    return open_parts(source.path, source.domain, **dict(source.options))


def _stamp(path: Path) -> tuple[int, int]:
    told = path.stat()
    return told.st_size, told.st_mtime_ns


def _cut(
    source: Source, records: Sequence[tuple[str, int]], tokenizer: Tokenizer, piece: int | None
) -> Iterator[Piece]:
    step = None
    if piece is not None and not isinstance(tokenizer, PointTokenizer):
        step = -(-piece // tokenizer.patch) * tokenizer.patch
    for number, (name, length) in enumerate(records):
        if step is None or length <= step:
            yield Piece(source, number, name, 0, length)
            continue
        for start in range(0, length, step):
            stop = min(start + step, length)
            yield Piece(source, number, f"{name}:{start}-{stop}", start, stop)


def _start_of(piece: Piece) -> Piece:
    """Enough of a piece to see the kind of its tokens; a series whole, as it may begin with values that are missing."""
    if piece.source.domain == "series":
        return piece
    return replace(piece, stop=min(piece.stop, piece.start + 1024))


class _Job:
    """All tasks of a call, and how many of them are committed."""

    def __init__(self, repository: Any, out: Place, tokenizer: Tokenizer, pieces: list[Piece]) -> None:
        self.repository, self.out, self.tokenizer = repository, out, tokenizer
        told = [tokenizer.fingerprint, *((p.source.path, p.source.stamp, p.record, p.start, p.stop) for p in pieces)]
        self.digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        self.tip = self._begin(pieces)
        state = repository.lookup_snapshot(self.tip).metadata
        self.base = state["base"]
        self._require_base()
        self.tasks, self.done = _plan(self._group(), tokenizer, pieces, state["starts"])[0], state["done"]

    def waves(self, progress: bool) -> Iterator[list[Task]]:
        """Tasks that are left, some at a time, with a bar over all."""
        from tqdm import tqdm

        total, done = (sum(task.elements for task in tasks) for tasks in (self.tasks, self.tasks[: self.done]))
        with tqdm(total=total, initial=done, unit="elements", unit_scale=True, disable=not progress or None) as bar:
            for start in range(self.done, len(self.tasks), WAVE):
                yield (wave := self.tasks[start : start + WAVE])
                bar.update(sum(task.elements for task in wave))

    def commit(self, run: Callable, wave: list[Task]) -> None:
        """Run tasks and commit what they wrote, in their order."""
        with told(self.out):
            session = self.repository.writable_session(BRANCH)
            fork = session.fork()
        results = run(partial(fill, session=fork, tokenizer=self.tokenizer, out=self.out), wave)
        with told(self.out):
            self._take_in(session, results)
            self.done += len(wave)
            session.commit("tasks", metadata={**self.repository.lookup_snapshot(self.tip).metadata, "done": self.done})

    def _take_in(self, session: Any, results: list[tuple[Any, list[list[int]], list[np.ndarray]]]) -> None:
        import zarr

        session.merge(*{id(fork): fork for fork, _, _ in results}.values())
        group: Any = zarr.open_group(session.store, mode="a")
        layout.append_table(
            group, [row for _, rows, _ in results for row in rows], [label for _, _, ls in results for label in ls]
        )

    def finish(self) -> None:
        """Let the branch become the store's last generation: killed in the midst of that, the job begins anew."""
        import zarr

        self._require_base()
        session = self.repository.writable_session(BRANCH)
        group: Any = zarr.open_group(session.store, mode="a")
        header = {name: value for name, value in dict(group.attrs["tokred_sci"]).items() if name != "seal"}
        layout.trim(group)
        layout.seal(group, header)
        count = group["records"].shape[0]
        tip = session.commit("tokenize", metadata=note_of("tokenize", int(count)))
        self.repository.delete_branch(BRANCH)  # first, so that no later call takes the job up and doubles it
        self.repository.reset_branch("main", tip, from_snapshot_id=self.base)

    def _require_base(self) -> None:
        """What others wrote since the job began would be lost with it."""
        if self.repository.lookup_branch("main") != self.base:
            raise InputError(
                f"Expected {self.out} as it was when the unfinished job began (got a later generation): drop the job "
                "with drop_unfinished(out), and call again."
            )

    def _begin(self, pieces: list[Piece]) -> str:
        """The tip of the job's branch: that of the same job, killed before, or a new one with all arrays made."""
        if BRANCH in self.repository.list_branches():
            tip = self.repository.lookup_branch(BRANCH)
            state = self.repository.lookup_snapshot(tip).metadata
            if state.get("job") == self.digest:
                return tip
            if state.get("done") or ("done" in state and is_url(self.out)):  # in a bucket it may be alive: no lock
                raise InputError(
                    f"Expected no unfinished job in {self.out} (got one of other inputs, or of another tokenizer): "
                    "call it again to finish it, or drop it with drop_unfinished(out)."
                )
            self.repository.delete_branch(BRANCH)  # it was killed before its first task, or after its last
        self.repository.create_branch(BRANCH, self.repository.lookup_branch("main"))
        return self._make_arrays(pieces)

    def _make_arrays(self, pieces: list[Piece]) -> str:
        import zarr

        session = self.repository.writable_session(BRANCH)
        group: Any = zarr.open_group(session.store, mode="a")
        if "tokred_sci" in group.attrs:
            header = layout.read_header(group, str(self.out))
            if header["fingerprint"] != self.tokenizer.fingerprint:
                raise InputError(
                    f"Expected a store of fingerprint {self.tokenizer.fingerprint!r} ({self.out} has "
                    f"{header['fingerprint']!r}): use the tokenizer that wrote it, or another store."
                )
        if "records" not in group:
            kind = Kind.of(layout.fields_of(0, next(entries_of(_start_of(pieces[0]), self.tokenizer))))
            layout.create_arrays(group, kind)
            group.update_attributes({"tokred_sci": layout.header_of(self.tokenizer.fingerprint, kind)})
        starts, base = layout.ends_of(group), self.repository.lookup_branch("main")
        for name, end in _plan(group, self.tokenizer, pieces, starts)[1].items():  # tasks cannot: they would collide
            group[name].resize((end, *group[name].shape[1:]))
        return session.commit("begin", metadata={"job": self.digest, "done": 0, "starts": starts, "base": base})

    def _group(self) -> Any:
        import zarr

        return zarr.open_group(self.repository.readonly_session(BRANCH).store, mode="r")


def drop_unfinished(out: Place, storage: Options | None = None) -> None:
    """Forget a job that was killed; what it wrote is given back by `compact_tokens`.

    Raises:
        StoreError: no such store.
    """
    with _repository(out, storage) as repository, told(out):
        if BRANCH in repository.list_branches():
            repository.delete_branch(BRANCH)


def _plan(
    group: Any, tokenizer: Tokenizer, pieces: Sequence[Piece], starts: Mapping[str, int]
) -> tuple[list[Task], dict[str, int]]:
    """Tasks of about one shard of tokens, each with shards of its own, and where the last of these end."""
    shards = {name: group[name].shards[0] for name in starts}
    tasks, ends = [], dict(starts)
    for chosen in _fitting(tokenizer, pieces, shards["features"]):
        tasks.append(Task(tuple(chosen), dict(ends)))
        most = _most(tokenizer, chosen)
        for name in ends:
            ends[name] += -(-most[name] // shards[name]) * shards[name]
    return tasks, ends


def _fitting(tokenizer: Tokenizer, pieces: Sequence[Piece], most: int) -> Iterator[list[Piece]]:
    chosen: list[Piece] = []
    filled = 0
    for piece in pieces:
        tokens = tokenizer.most_tokens(piece.stop - piece.start)
        if chosen and filled + tokens > most:
            yield chosen
            chosen, filled = [], 0
        chosen.append(piece)
        filled += tokens
    yield chosen


def _most(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> dict[str, int]:
    """Rows that the tokens of these pieces can need at most, in every flat array."""
    tokens = sum(tokenizer.most_tokens(piece.stop - piece.start) for piece in pieces)
    elements = sum(piece.stop - piece.start for piece in pieces)
    letters = sum(len(piece.name.encode()) + 8 for piece in pieces)
    return dict(features=tokens, positions=tokens, sizes=tokens, source=elements, targets=elements, name=letters)


def _open_or_create(out: Place, storage: Options | None) -> Any:
    try:
        return open_repository(out, storage)
    except StoreError:
        return create_repository(out, storage)


@contextmanager
def _repository(out: Place, storage: Options | None) -> Iterator[Any]:
    """The repository of a store, made where there is none; ours alone where that is for us to see to."""
    if is_url(out):
        yield _open_or_create(out, storage)
        return
    folder = Path(out)
    with told(out):
        if not os.path.lexists(folder):
            folder.mkdir(parents=True)
    if folder.is_dir() and not any(folder.iterdir()):
        create_repository(out, storage)
    repository = open_repository(out, storage)
    with lock(folder):
        yield repository


@contextmanager
def _pool(workers: int, dask: str | None) -> Iterator[Callable]:
    """A function like `map` that returns a list: here, in processes, or on a cluster."""
    if dask is not None:
        with _cluster(dask) as run:
            yield run
    elif workers:
        with _Processes(workers) as run:
            yield run
    else:
        yield lambda function, items: [function(item) for item in items]


class _Processes:
    """`map` over processes; what was under way in one that died is run again."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.workers, mp_context=get_context("forkserver"))

    def __enter__(self) -> "_Processes":
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def __call__(self, function: Callable, items: Sequence[Any]) -> list[Any]:
        results: dict[int, Any] = {}
        for _ in range(TRIES):
            left = {place: self.pool.submit(function, item) for place, item in enumerate(items) if place not in results}
            try:
                for place, future in left.items():
                    results[place] = future.result()
            except BrokenProcessPool:  # it takes all its processes along; what they had finished counts
                done = {place: future for place, future in left.items() if future.done() and not future.exception()}
                results |= {place: future.result() for place, future in done.items()}
                self.pool = self._start()
            else:
                return [results[place] for place in range(len(items))]
        raise StoreError(f"Expected workers that live (one died in each of {TRIES} tries): is there enough memory?")


@contextmanager
def _cluster(address: str) -> Iterator[Callable]:
    distributed = package("distributed", "a Dask cluster", "scale")
    try:
        client = distributed.Client(address)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"Expected a Dask scheduler at {address!r} (got: {error}): start one, or leave 'dask' out."
        ) from error

    def run(function: Callable, items: Sequence[Any]) -> list[Any]:
        try:
            return client.gather(client.map(function, list(items), pure=False))
        except (distributed.KilledWorker, CancelledError) as error:
            raise StoreError(
                f"Expected workers that live (got {type(error).__name__}: {error}): is there enough memory? Call again "
                "to go on behind the last commit."
            ) from error

    with client:
        yield run
