"""From a token store to batches: shuffled in blocks, in an order that depends on the seed alone, resumable anywhere."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.store import TokenStore
from tokred_sci.errors import InputError
from tokred_sci.tokens import Tokens, stack

IGNORE = -100  # target of padding, which torch's losses leave out; NaN where targets are floats


class Batch(NamedTuple):
    """Records side by side.

    Args:
        tokens: (B, N, ...) padded.
        labels: (B, ...) one number or row for each record; None if the store has none.
        targets: (B, M) one number for each element, -100 (NaN for floats) in padding; None if the store has none.
        records: (B,) their numbers in the store.
    """

    tokens: Tokens
    labels: Tensor | None
    targets: Tensor | None
    records: Tensor

    def take(self, rows: Sequence[int]) -> "Batch":
        """Some of the records, padded as they were."""
        chosen = torch.as_tensor(list(rows), device=self.records.device)
        tokens = Tokens(*(getattr(self.tokens, name)[chosen] for name in ("features", "positions", "sizes", "source")))
        labels, targets = (None if value is None else value[chosen] for value in (self.labels, self.targets))
        return Batch(tokens, labels, targets, self.records[chosen])

    def to(self, device: torch.device | str) -> "Batch":
        """The same on a device; `records` stay where they are."""
        labels, targets = (None if value is None else value.to(device) for value in (self.labels, self.targets))
        return Batch(self.tokens.to(torch.device(device)), labels, targets, self.records)


class MemoryStore:
    """Records in memory, as a `TokenLoader` takes them: for data that is tokenized when a script starts.

    Law: `generation` is a digest of the content, so that a loader's state is only taken up by equal data.

    Args:
        entries: records with labels or targets; targets may be a row of numbers for each element, too.

    Example:
        >>> tokens = Tokens(torch.ones(1, 2, 4), torch.zeros(1, 2, 1), torch.ones(1, 2), torch.tensor([[0, 1]]))
        >>> store = MemoryStore([Entry(tokens, label=1)] * 3)
        >>> [batch.labels.tolist() for batch in TokenLoader(store, batch_size=2, shuffle=False)]
        [[1, 1], [1]]
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.held = [replace(entry, label=_tensor(entry.label), targets=_tensor(entry.targets)) for entry in entries]
        self.lengths = np.array([entry.tokens.features.shape[1] for entry in self.held], np.int64)
        self.generation = _digest(self.held)

    def __len__(self) -> int:
        return len(self.held)

    def entries(self, records: Sequence[int]) -> list[Entry]:
        """Several records, in the order asked for."""
        return [self.held[record] for record in records]


def _tensor(value: Any) -> Tensor | None:
    return None if value is None else torch.as_tensor(value)


def _digest(entries: list[Entry]) -> str:
    digest = hashlib.sha256()
    for entry in entries:
        tokens = entry.tokens
        fields = (tokens.features, tokens.positions, tokens.sizes, tokens.source, entry.label, entry.targets)
        for value in fields:
            digest.update(b"-" if value is None else f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(b"" if value is None else value.numpy(force=True).tobytes())
    return digest.hexdigest()[:20]


class TokenLoader:
    """Batches of a store, epoch after epoch: `for batch in loader`. The next epoch has another order.

    Records are read in blocks of neighbours, which is what disks and codecs are good at; `blocks` random ones at a time
    are mixed and cut into batches. Laws: the order depends on `seed`, the epoch and these settings, not on `workers`;
    every record comes once per epoch, none is left out (unless `drop_last`); a loader given the `state_dict` of
    another goes on with the batch after the one that other gave last.

    Args:
        store: what `read_tokens` returns, or a `MemoryStore`.
        batch_size: records in a batch; one batch per epoch may be smaller.
        shuffle: False = records in order, each batch the next ones: for evaluation.
        bucket: put records of like length into one batch, so that little is padding (with `shuffle` only).
        seed: of the order.
        workers: processes that read ahead; 0 = read when asked. They start by "forkserver": a script that uses
            them needs `if __name__ == "__main__":`.
        block: neighbouring records that are read together; rounded up to whole batches.
        blocks: blocks that are mixed; memory holds about this many, times workers.
        drop_last: leave out the smaller batch.

    Raises:
        InputError: a setting out of range.

    Example:
        >>> import tempfile
        >>> from tokred_sci.datasets.store import read_tokens, write_tokens
        >>> record = Tokens(torch.ones(1, 2, 4), torch.zeros(1, 2, 1), torch.ones(1, 2), torch.tensor([[0, 1]]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_tokens(f"{folder}/train", [record] * 5, "3f2a", labels=[0, 1, 0, 1, 0])
        ...     loader = TokenLoader(read_tokens(f"{folder}/train"), batch_size=2, shuffle=False)
        ...     [batch.labels.tolist() for batch in loader]
        [[0, 1], [0, 1], [0]]
    """

    def __init__(
        self,
        store: TokenStore | MemoryStore,
        batch_size: int = 32,
        shuffle: bool = True,
        bucket: bool = True,
        seed: int = 0,
        workers: int = 0,
        block: int = 1024,
        blocks: int = 8,
        drop_last: bool = False,
    ) -> None:
        for name, value, low in (
            ("batch_size", batch_size, 1),
            ("workers", workers, 0),
            ("block", block, 1),
            ("blocks", blocks, 1),
            ("seed", seed, 0),
        ):
            if not isinstance(value, int) or value < low:
                raise InputError(f"Expected '{name}' as an integer >= {low} (got {value!r}).")
        block = -(-block // batch_size) * batch_size
        self.order = _Order(len(store), batch_size, shuffle, bucket and shuffle, seed, block, blocks, drop_last)
        self.store, self.workers = store, workers
        self.epoch = self._given = self._skip = 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self.store), self.order.batch_size)
        return full + (rest > 0 and not self.order.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        self._given, self._skip = self._skip, 0  # a state that was loaded counts once
        first, skip = self.order.find(self.epoch, self._given)
        for number, batches in enumerate(self._buffers(first), first):
            for batch in batches[skip if number == first else 0 :]:
                self._given += 1
                yield batch
        self.epoch, self._given = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: the epoch, how many of its batches were given, and what the order depends on."""
        return {"epoch": self.epoch, "given": self._given, "order": self.order.told(), "store": self.store.generation}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the loader with that state was.

        Raises:
            InputError: it was a loader with other settings, or of another generation of the store; or no state at all.
        """
        mine = self.state_dict()
        if not isinstance(state, Mapping) or mine.keys() - state.keys():
            raise InputError(f"Expected what state_dict() gave, {', '.join(mine)} (got {state!r}): hand in all of it.")
        for name in ("order", "store"):
            if state[name] != mine[name]:
                raise InputError(
                    f"Expected the state of a loader with {name} {mine[name]} (got {state[name]}): make the loader "
                    "with the settings, and read the generation, of the one that is resumed."
                )
        epoch, given = state["epoch"], state["given"]
        if type(epoch) is not int or type(given) is not int or epoch < 0 or not 0 <= given <= len(self):
            raise InputError(
                f"Expected an epoch from 0 and 0 to {len(self)} batches given of it (got {epoch!r}, {given!r}): hand "
                "in what state_dict() gave."
            )
        self.epoch, self._given, self._skip = epoch, given, given

    def _buffers(self, first: int) -> Iterator[list[Batch]]:
        numbers = [(self.epoch, number) for number in range(first, self.order.buffers)]
        if not self.workers:
            dataset = _Buffers(self.store, self.order)
            yield from (dataset[number] for number in numbers)
            return
        self._sampler[:] = numbers
        yield from self._loader

    @cached_property
    def _sampler(self) -> list[tuple[int, int]]:
        return []

    @cached_property
    def _loader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(
            _Buffers(self.store, self.order),
            batch_size=None,
            sampler=self._sampler,
            num_workers=self.workers,
            prefetch_factor=1,
            multiprocessing_context="forkserver",  # Icechunk's threads do not survive a fork
            persistent_workers=True,
        )


@dataclass(frozen=True, slots=True)
class _Order:
    """Which records make which batch of which buffer (blocks that are mixed): a function of settings and epoch."""

    count: int
    batch_size: int
    shuffle: bool
    bucket: bool
    seed: int
    block: int
    blocks: int
    drop_last: bool

    @property
    def buffers(self) -> int:
        return -(-self.count // (self.block * self.blocks))

    def told(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def records(self, epoch: int, buffer: int) -> np.ndarray:
        """The records of a buffer, in the order of the store."""
        total = -(-self.count // self.block)
        order = np.arange(total)
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(total)
        chosen = np.sort(order[buffer * self.blocks : (buffer + 1) * self.blocks])
        starts = chosen * self.block
        return np.concatenate([np.arange(a, min(a + self.block, self.count)) for a in starts.tolist()])

    def batches(self, epoch: int, buffer: int, lengths: np.ndarray) -> list[np.ndarray]:
        """Those records, batch by batch.

        Args:
            lengths: (R,) tokens of every record of the store.
        """
        records = self.records(epoch, buffer)
        if self.shuffle:
            mix = np.random.default_rng([self.seed, epoch, buffer])
            records = mix.permutation(records)
            if self.bucket:
                records = records[np.argsort(lengths[records], kind="stable")]
        cuts = range(0, len(records), self.batch_size)
        batches = [records[start : start + self.batch_size] for start in cuts]
        if self.drop_last and len(batches[-1]) < self.batch_size:
            batches.pop()
        return [batches[place] for place in mix.permutation(len(batches))] if self.bucket else batches

    def find(self, epoch: int, given: int) -> tuple[int, int]:
        """The buffer that holds batch number `given` of an epoch, and its place in there."""
        for buffer in range(self.buffers):
            size = len(self.records(epoch, buffer))
            here = size // self.batch_size if self.drop_last else -(-size // self.batch_size)
            if given < here:
                return buffer, given
            given -= here
        return self.buffers, 0


@dataclass(frozen=True)
class _Buffers(torch.utils.data.Dataset):
    """The batches of a buffer, read at once: what a worker does."""

    store: TokenStore | MemoryStore
    order: _Order

    def __getitem__(self, number: tuple[int, int]) -> list[Batch]:
        lengths = self.store.lengths if isinstance(self.store, MemoryStore) else self.store.table[:, 1]
        batches = self.order.batches(*number, lengths)
        if not batches:
            return []
        records = np.sort(np.concatenate(batches))
        entries = self.store.entries(records.tolist())
        return [_collate([entries[place] for place in np.searchsorted(records, batch)], batch) for batch in batches]


def _collate(entries: list[Entry], records: np.ndarray) -> Batch:
    labels = targets = None
    if entries[0].label is not None:
        labels = torch.stack([entry.label for entry in entries])
    if entries[0].targets is not None:
        filling = torch.nan if entries[0].targets.is_floating_point() else IGNORE
        targets = pad_sequence([_wide(entry.targets) for entry in entries], batch_first=True, padding_value=filling)
    return Batch(stack([entry.tokens for entry in entries]), labels, targets, torch.from_numpy(records))


def _wide(targets: Tensor) -> Tensor:
    """Whole numbers as int64, as losses take them: -100 fits in, too."""
    return targets if targets.is_floating_point() else targets.long()
