"""Raw tokens of a file, merged before any model sees them: what `tokred reduce` does."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.parts import Parts, open_parts
from tokred_sci.datasets.store import write_tokens
from tokred_sci.errors import InputError
from tokred_sci.experiment import LEARNED, Reduce
from tokred_sci.explore.cost import plural
from tokred_sci.explore.lost import variance_lost
from tokred_sci.explore.raw import PIECE, entries_of, metric_of, require_content, tokenizer_of
from tokred_sci.reduction.merge import merge
from tokred_sci.tokens import Tokens

Bar = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Reduced:
    """What came of merging a file's raw tokens.

    Attributes:
        pieces: records of the store: those of the file, longer ones cut.
        variance_lost: share of the tokens' variance that is gone, each token weighed by its size.
        fingerprint: of the store: the tokenizer's, and how its tokens were merged.
    """

    path: str
    out: str | None
    method: str
    keep: int | float
    window: int | None
    records: int
    pieces: int
    tokens: int
    kept: int
    variance_lost: float
    tokenizer: str
    fingerprint: str

    def text(self) -> str:
        pieces = "" if self.pieces == self.records else f" (in {self.pieces:,} pieces)"
        records = plural(self.records, "record") + pieces
        near = "" if self.window is None else f" within windows of {self.window}"
        lines = [
            f"{self.tokens:,} tokens of {records} -> {self.kept:,} by {self.method}{near}",
            f"{100 * self.variance_lost:.3g} % of their variance is lost",
        ]
        if self.out:
            lines.append(f"wrote {self.out} (fingerprint {self.fingerprint}): each token keeps its source elements")
        return "\n".join(lines)


def reduce_file(
    path: str | os.PathLike,
    out: str | os.PathLike | None = None,
    method: str = "peaks",
    keep: int | float = 0.25,
    window: int | None = 64,
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    piece: int | None = PIECE,
    bar: Bar = iter,
) -> Reduced:
    """Merge the raw tokens of a file, before any model, and tell what that loses.

    Laws: mass is kept, every token of the store says which elements it holds; the store is there whole or not at all.

    Args:
        path: a file that `tokred_sci.datasets.read` knows.
        out: folder of the new token store; None = measure only.
        method: a name in `REDUCTIONS`.
        keep: share of a record's tokens, or their number.
        window: merge within windows of this many tokens; None = all of a record at once.
        settings: of the tokenizer.
        options: of the file's reader.
        piece: longer sequences and series are cut into records of this many elements; None = never.
        bar: shows progress over the records.

    Raises:
        InputError: an unknown or a learned method, a budget it cannot meet, ids in place of content.
        FileError: the file does not hold what its format promises.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "one.fa"
        >>> _ = path.write_text(">repeat\\n" + "ACGTTGCA" * 64 + "\\n")
        >>> told = reduce_file(path, keep=0.25)
        >>> told.tokens, told.kept, told.variance_lost
        (32, 8, 0.0)
    """
    if method in LEARNED:
        raise InputError(f"Expected a method without weights (got {method!r}, which is trained with a model).")
    parts = open_parts(path, **dict(options or {}))
    tokenizer = tokenizer_of(parts, settings)
    require_content(tokenizer)
    window = None if method == "none" else window  # nothing is merged anywhere
    step = Reduce(0, method, keep, window=window)
    name = f"{tokenizer.fingerprint}:{method}:{keep}:{window}"
    job = _Merging(parts, tokenizer, step, piece, bar)
    if out is None:
        for _ in job:
            pass
    else:
        write_tokens(out, job, name)
    lost = job.lost / job.total if job.total else 0.0
    return Reduced(
        str(path),
        None if out is None else str(out),
        method,
        keep,
        window,
        len(parts),
        job.pieces,
        job.tokens,
        job.kept,
        lost,
        repr(tokenizer),
        name,
    )


class _Merging:
    """A file's records as merged tokens, one after the other, and what was counted on the way."""

    def __init__(self, parts: Parts, tokenizer: Any, step: Reduce, piece: int | None, bar: Bar) -> None:
        self.entries, self.tokenizer = bar(entries_of(parts, tokenizer, piece)), tokenizer
        self.group, self.budget = step.build(tokenizer.dim)
        self.pieces = self.tokens = self.kept = 0
        self.lost = self.total = 0.0

    def __iter__(self) -> Iterator[Entry]:
        for name, tokens in self.entries:
            metric = metric_of(tokens, self.tokenizer)
            grouping = self.group(metric, tokens, self.budget(metric, tokens))
            lost = variance_lost(tokens, grouping)
            merged = merge(tokens, grouping)
            self.pieces, self.lost, self.total = self.pieces + 1, self.lost + lost.lost, self.total + lost.total
            self.tokens, self.kept = self.tokens + int(tokens.counts), self.kept + int(merged.counts)
            yield Entry(_without_padding(merged), name=name)


def _without_padding(tokens: Tokens) -> Tokens:
    return tokens if bool(tokens.mask.all()) else tokens[0]
