"""A file's records as raw tokens, in stretches that fit in memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from tokred_sci.datasets.parts import Parts
from tokred_sci.errors import FileError, InputError
from tokred_sci.experiment import TOKENIZERS
from tokred_sci.tokens import Tokens

PIECE = 1 << 16  # elements of a sequence or series that become tokens at once


@dataclass(frozen=True, slots=True)
class Stretch:
    """Elements [start, stop) of a record; `whole` where that is all of it."""

    record: int
    start: int
    stop: int
    whole: bool


def tokenizer_of(parts: Parts, settings: Mapping[str, Any] | None = None) -> Any:
    """The tokenizer of a file's domain with its defaults, and as many channels as the file has.

    Raises:
        InputError: a setting that the tokenizer does not have, or a value it refuses.
    """
    kind, told = TOKENIZERS[parts.domain], dict(settings or {})
    known = [field.name for field in fields(kind)]
    for name in told:
        if name not in known:
            raise InputError(f"Expected a setting of {kind.__name__} (got {name!r}): it has {', '.join(known)}.")
    if parts.domain != "dna":
        told.setdefault("channels" if parts.domain == "points" else "in_channels", parts.channels)
    return kind(**told)


def require_content(tokenizer: Any) -> None:
    """Refuse a tokenizer whose features are ids or codes: their mean says nothing."""
    if getattr(tokenizer, "scheme", "patch") != "patch" or getattr(tokenizer, "compact", False):
        raise InputError(
            f"Expected a tokenizer whose features can be averaged (got {tokenizer!r}: ids or codes): use scheme=patch "
            "without compact, or merge inside a model."
        )


def stretches(parts: Parts, tokenizer: Any, piece: int | None = PIECE) -> list[Stretch]:
    """All records, those of DNA or series longer than `piece` cut into pieces of whole patches; clouds are never cut.

    Raises:
        InputError: a piece below 1.
    """
    if piece is not None and piece < 1:
        raise InputError(f"Expected 'piece' >= 1, or none to cut nothing (got {piece}).")
    found = []
    for record, length in enumerate(parts.lengths):
        step = length
        if piece is not None and parts.domain != "points" and length > piece:
            step = -(-piece // tokenizer.patch) * tokenizer.patch
        for start in range(0, max(length, 1), max(step, 1)):
            stop = min(start + step, length)
            found.append(Stretch(record, start, stop, stop - start == length))
    return found


def tokens_of(parts: Parts, tokenizer: Any, stretch: Stretch) -> Tokens:
    """A stretch as tokens; positions count from the start of its record. Independent channels are a batch.

    Raises:
        FileError: the tokenizer refuses the record, which is named.
    """
    values, times = parts.get(stretch.record, stretch.start, stretch.stop)
    try:
        tokens = tokenizer(values) if times is None else tokenizer(values, times)
    except InputError as error:
        where = "" if stretch.whole else f", elements {stretch.start} to {stretch.stop}"
        raise FileError(f"{parts.path}, record {parts.names[stretch.record]!r}{where}: {error}") from error
    if times is None and parts.domain != "points" and stretch.start:
        tokens = replace(tokens, positions=tokens.positions + stretch.start)
    return tokens


def entries_of(parts: Parts, tokenizer: Any, piece: int | None) -> Iterator[tuple[str, Tokens]]:
    """Name and tokens of each stretch, one record at a time."""
    for stretch in stretches(parts, tokenizer, piece):
        name = parts.names[stretch.record] + ("" if stretch.whole else f":{stretch.start}-{stretch.stop}")
        tokens = tokens_of(parts, tokenizer, stretch)
        for channel in range(len(tokens)):
            yield (f"{name}/{channel}", tokens[channel]) if len(tokens) > 1 else (name, tokens)


def metric_of(tokens: Tokens, tokenizer: Any) -> Any:
    """What raw tokens are compared by: their content, without a series' level, which all tokens of it share."""
    if not hasattr(tokenizer, "normalise"):
        return tokens.features
    return tokens.features[..., : -(tokenizer.dim // (tokenizer.patch + 1))]
