"""A trained model's features for every record or every element of a file: what `tokred embed` does."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tokred_sci.datasets.parts import open_parts
from tokred_sci.datasets.reader import READERS, format_of
from tokred_sci.datasets.store import read_tokens
from tokred_sci.errors import InputError
from tokred_sci.experiment import Model
from tokred_sci.explore.cost import plural
from tokred_sci.explore.pretrained import load_model
from tokred_sci.explore.raw import PIECE, stretches, tokens_of
from tokred_sci.explore.rows import Write, check_out, row_file
from tokred_sci.reduction.merge import to_source
from tokred_sci.tokens import Tokens, stack
from tokred_sci.training.processes import Processes

Bar = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Embedded:
    """What was written.

    Attributes:
        cut: records longer than `piece`, whose pieces do not attend to each other.
        pruned: elements that the model dropped; their rows are zeros.
    """

    path: str
    model: str
    out: str
    per_element: bool
    records: int
    elements: int
    rows: int
    width: int
    piece: int | None
    cut: int
    pruned: int

    def text(self) -> str:
        each = "element" if self.per_element else "record"
        lines = [
            f"{plural(self.records, 'record')} of {self.elements:,} elements",
            f"wrote {self.out}: {plural(self.rows, 'row')} of {self.width}, one for each {each}",
        ]
        if self.cut:
            lines.append(
                f"note: {plural(self.cut, 'record')} of more than {self.piece:,} elements went through in pieces, "
                "which do not attend to each other (--piece 0 cuts nothing)"
            )
        if self.pruned:
            lines.append(f"note: the model prunes; {self.pruned:,} elements were dropped" + self._where_pruned())
        return "\n".join(lines)

    def _where_pruned(self) -> str:
        return ", their rows are zeros" if self.per_element else ", rows are means of the others"


class _Piece(NamedTuple):
    """Tokens of one row's record, or of a piece of it."""

    row: int
    tokens: Tokens


@dataclass(frozen=True)
class _Feed:
    """What goes through the model: a name and a length for each row's record, and its pieces in order."""

    names: list[str]
    lengths: list[int]
    pieces: Iterable[_Piece]
    cut: int = 0


def embed_file(
    path: str | os.PathLike,
    model: str | os.PathLike,
    out: str | os.PathLike,
    per_element: bool = False,
    batch: int = 8,
    piece: int | None = PIECE,
    options: dict[str, Any] | None = None,
    bar: Bar = iter,
) -> Embedded:
    """Write the encoder's features: the size-weighted mean of a record's tokens, or one row for each element.

    Laws: a record's row is the mean of its elements' rows; it does not depend on `batch`; memory is bounded by
    `batch` pieces. "features" holds the rows; "names" those of the records, and "offsets" (records + 1) where the rows
    of each begin with `per_element` (NPY has features only).

    Args:
        path: a file, read by the model's own tokenizer; or a token store, which must be of its fingerprint.
        model: folder of `save_pretrained`, or of a run.
        out: a new file that ends in .npz, .npy or .zarr.
        per_element: a row for each base, point or step, from the token that holds it.
        batch: pieces that go through the model together.
        piece: sequences and series of a file that are longer are cut into pieces of this many elements; None = never.
        options: of the file's reader.
        bar: shows progress over pieces.

    Raises:
        InputError: a model of another domain or tokenizer, or a bad place for the output.
        FileError: the file does not hold what its format promises, or the output cannot be written.
    """
    if batch < 1:
        raise InputError(f"Expected 'batch' >= 1 (got {batch}).")
    target = Path(out)
    trained = load_model(model)
    feed = _feed_of_store(path, trained) if Path(path).is_dir() else _feed_of_file(path, trained, piece, options or {})
    check_out(target, per_element and len(feed.names) > 1)
    beside = {"names": np.array(feed.names)}
    if per_element:
        beside["offsets"] = np.cumsum([0, *feed.lengths])
    rows = sum(feed.lengths) if per_element else len(feed.names)
    with row_file(target, rows, trained.config.dim, beside) as write:
        encoded = _encode(trained, bar(feed.pieces), batch, per_element)
        pruned = _write_elements(encoded, write) if per_element else _write_records(encoded, write)
    return Embedded(
        str(path),
        str(model),
        str(out),
        per_element,
        len(feed.names),
        sum(feed.lengths),
        rows,
        trained.config.dim,
        piece,
        feed.cut,
        pruned,
    )


def _feed_of_file(path: str | os.PathLike, model: Model, piece: int | None, options: dict[str, Any]) -> _Feed:
    options = dict(options)
    expected = f"Expected a file of {model.config.domain}, which this model was made for"
    if (asked := options.pop("domain", model.config.domain)) != model.config.domain:
        raise InputError(f"{expected} (got the option domain={asked!r}): drop it.")
    try:
        form = format_of(path, model.config.domain)
    except InputError as error:
        raise InputError(f"{expected} (got {path}, which is none): name a model of the file's domain.") from error
    parts = open_parts(path, READERS[form][2], **options)
    tokenizer = model.tokenizer
    apart = parts.channels if getattr(tokenizer, "channels", None) == "independent" else 1
    chosen = stretches(parts, tokenizer, piece)

    def pieces() -> Iterator[_Piece]:
        if apart > 1 and len(chosen) > len(parts):  # rows must come one after the other
            raise InputError("Expected records that need no cutting with independent channels: use --piece 0.")
        for stretch in chosen:
            tokens = tokens_of(parts, tokenizer, stretch)
            for channel in range(apart):
                yield _Piece(stretch.record * apart + channel, tokens[channel] if apart > 1 else tokens)

    names = [f"{name}/{channel}" if apart > 1 else name for name in parts.names for channel in range(apart)]
    lengths = [length for length in parts.lengths for _ in range(apart)]
    cut = len({stretch.record for stretch in chosen if not stretch.whole})
    return _Feed(names, lengths, pieces(), cut)


def _feed_of_store(path: str | os.PathLike, model: Model) -> _Feed:
    store = read_tokens(path, model.tokenizer.fingerprint)
    lengths = store.table[:, 3].tolist()
    return _Feed(store.names, lengths, (_Piece(row, tokens) for row, tokens in enumerate(store)))


class _Encoded(NamedTuple):
    """One piece after the encoder, alone, and how many elements it had before."""

    row: int
    features: torch.Tensor  # (N, D)
    sizes: torch.Tensor  # (N,) 0 = padding
    elements: torch.Tensor  # (M, D), none where they are not asked for
    dropped: int


@torch.no_grad()
def _encode(model: Model, pieces: Iterable[_Piece], batch: int, spread: bool) -> Iterator[_Encoded]:
    device = Processes.here().device
    model = model.to(device)
    waiting: list[_Piece] = []

    def run() -> Iterator[_Encoded]:
        together = stack([piece.tokens for piece in waiting]).to(device)
        after = model.encoder(model.embed(together))
        elements = to_source(after) if spread else after.features[:, :0]
        for number, piece in enumerate(waiting):
            count = piece.tokens.source.shape[1]
            dropped = int((after.source[number, :count] < 0).sum())
            yield _Encoded(piece.row, after.features[number], after.sizes[number], elements[number, :count], dropped)
        waiting.clear()

    for piece in pieces:
        waiting.append(piece)
        if len(waiting) == batch:
            yield from run()
    if waiting:
        yield from run()


def _write_elements(encoded: Iterable[_Encoded], write: Write) -> int:
    pruned = 0
    for one in encoded:
        write(one.elements.float().numpy(force=True))
        pruned += one.dropped
    return pruned


def _write_records(encoded: Iterable[_Encoded], write: Write) -> int:
    pruned, row, total, mass = 0, 0, torch.zeros(()), 0.0
    for one in encoded:
        if one.row != row:
            write((total / max(mass, 1)).float().numpy(force=True)[None])
            row, total, mass = one.row, torch.zeros(()), 0.0
        total = total + (one.features.double().cpu() * one.sizes.double().cpu()[:, None]).sum(0)
        mass += one.sizes.double().sum().item()
        pruned += one.dropped
    write((total / max(mass, 1)).float().numpy(force=True)[None])
    return pruned
