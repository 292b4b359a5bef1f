"""What a file, a token store or a model is, before anything is run on it: what `tokred inspect` prints."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tokred_sci.datasets import layout
from tokred_sci.datasets.parts import Parts, open_parts
from tokred_sci.datasets.repository import is_url
from tokred_sci.datasets.store import Generation, generations, read_tokens
from tokred_sci.errors import InputError
from tokred_sci.experiment import ModelConfig, Reduce
from tokred_sci.explore.cost import (
    MERGING,
    amount,
    flops,
    flops_of_all,
    token_bytes,
    tokens_by_block,
    with_merging,
)
from tokred_sci.explore.pretrained import is_model, load_model, model_folder
from tokred_sci.explore.raw import tokenizer_of
from tokred_sci.tokenizers.dna import DNATokenizer

LENGTHS = tuple(1 << power for power in range(10, 21, 2))  # 1,024 to 1,048,576 elements
AT_ONCE = 1 << 22  # elements looked at together


@dataclass(frozen=True)
class AboutFile:
    """A file of records, and what its tokens and an encoder of default size would take.

    Attributes:
        missing: share of elements without a value: letters that name no single base, steps without a value in any
            channel counted by channel, points that are not finite.
        tokens: that its records become (at most, for "bpe" and for points).
        flops, flops_merged: of one pass over all records through a default encoder, without and with `merging`.
    """

    path: str
    format: str
    domain: str
    bytes: int
    records: int
    elements: int
    shortest: int
    median: float
    longest: int
    missing: float
    tokenizer: str
    fingerprint: str
    tokens: int
    tokens_of_longest: int
    token_bytes: int
    flops: int
    flops_merged: int
    flops_of_longest: int
    flops_of_longest_merged: int
    encoder: str
    merging: str = repr(MERGING)
    what: str = "file"

    def text(self) -> str:
        one = {"dna": "bases", "points": "points", "series": "steps"}[self.domain]
        saved = f"{amount(self.flops_merged, 'FLOP')} with merging"
        longest = amount(self.flops_of_longest, "FLOP"), amount(self.flops_of_longest_merged, "FLOP")
        return _lines(
            ("file", f"{self.path} ({self.format}, {amount(self.bytes, 'B')})"),
            ("records", f"{self.records:,} of {self.domain}, {self.elements:,} {one}"),
            ("lengths", f"{self.shortest:,} to {self.longest:,} {one}, median {self.median:,.10g}"),
            ("unknown", f"{100 * self.missing:.4g} % of {one}"),
            ("tokenizer", f"{self.tokenizer} ({self.fingerprint})"),
            ("tokens", f"{self.tokens:,} in all, {self.tokens_of_longest:,} of the longest record"),
            ("memory", f"{amount(self.token_bytes, 'B')} for all tokens"),
            ("one pass", f"{amount(self.flops, 'FLOP')} over all records, {saved}"),
            ("", f"{longest[0]} for the longest record, {longest[1]} with merging"),
            ("encoder", f"{self.encoder}; attention and MLP, embedding and grouping not counted"),
            ("merging", _step_text(MERGING)),
        )


@dataclass(frozen=True)
class AboutStore:
    """A token store: its last generation, and all there are. `bytes` is None where it is not a folder."""

    path: str
    fingerprint: str
    records: int
    tokens: int
    elements: int
    kind: str
    bytes: int | None
    generations: list[Generation] = field(default_factory=list)
    what: str = "store"

    def text(self) -> str:
        on_disk = "" if self.bytes is None else f" ({amount(self.bytes, 'B')} on disk)"
        ratio = f"{self.elements / max(self.tokens, 1):.4g} a token"
        history = [
            ("" if number else "generations", f"{number}  {one.when:%Y-%m-%d %H:%M:%S}  {one.what}, {one.records:,}")
            for number, one in enumerate(self.generations)
        ]
        return _lines(
            ("store", f"{self.path}{on_disk}"),
            ("records", f"{self.records:,}, {self.tokens:,} tokens, {self.elements:,} elements ({ratio})"),
            ("tokens", self.kind),
            ("fingerprint", self.fingerprint),
            *history,
        )


@dataclass(frozen=True)
class AtLength:
    """One record of so many elements: tokens that enter, tokens after each block, operations of the encoder.

    `flops` is None for the baseline without attention.
    """

    elements: int
    tokens: list[int]
    flops: int | None

    def text(self) -> str:
        path = " > ".join(f"{count:,}" for count in self.tokens)
        return f"{self.elements:>9,}  {path}" + ("" if self.flops is None else f"  {amount(self.flops, 'FLOP')}")


@dataclass(frozen=True)
class AboutModel:
    """A saved model. Its weights were read and are what `config.json` says they are."""

    path: str
    config: dict[str, Any]
    tokenizer: str
    fingerprint: str
    parameters: dict[str, int]
    bytes: int
    sha256: str
    lengths: list[AtLength]
    what: str = "model"

    def text(self) -> str:
        parts = ", ".join(f"{name} {count:,}" for name, count in self.parameters.items())
        steps = [_step_text(Reduce(**step)) for step in self.config["reduce"]] or ["nowhere"]
        window = self.config["window"]
        sees = "all tokens" if window is None else f"{window} tokens to each side, up to the first merge"
        sees = "nothing: the baseline without attention" if self.config["plain"] else sees
        told = {key: self.config[key] for key in ("dim", "depth", "heads", "head", "outputs", "size_exponent", "unit")}
        return _lines(
            ("model", f"{self.path} ({amount(self.bytes, 'B')})"),
            ("domain", f"{self.config['domain']}, {self.tokenizer} ({self.fingerprint})"),
            ("encoder", ", ".join(f"{key} {value}" for key, value in told.items())),
            ("attends to", sees),
            *(("merges" if not number else "", step) for number, step in enumerate(steps)),
            ("parameters", f"{sum(self.parameters.values()):,} ({parts})"),
            ("weights", f"as saved: SHA-256 {self.sha256[:16]}..."),
            ("one pass", "elements, tokens that enter and after each block, operations (grouping not counted)"),
            *(("", at.text()) for at in self.lengths),
        )


About = AboutFile | AboutStore | AboutModel


def about(
    path: str | os.PathLike, settings: Mapping[str, Any] | None = None, options: Mapping[str, Any] | None = None
) -> About:
    """Say what is at a path: a file of records, a token store (a folder or a URL), or a saved model or run.

    Args:
        path: file, folder or URL.
        settings: for a file, those of its tokenizer.
        options: for a file, those of its reader; "domain" where the content may be either.

    Raises:
        InputError: nothing that is known, or damaged weights.
        FileError: a file that does not hold what its format promises.
        StoreError: a damaged store.
    """
    if is_url(path):
        return about_store(path)
    place = Path(path)
    if not place.is_dir():
        return about_file(open_parts(place, **dict(options or {})), settings)
    if is_model(place):
        return about_model(place)
    if (place / "refs").is_dir() or (place / "zarr.json").is_file():
        return about_store(place)
    raise InputError(
        f"Expected a file, a token store or a saved model (got a folder that is neither, {path}): a store is what "
        "'tokred tokenize' makes, a model what 'tokred train' or 'save_pretrained' leave."
    )


def about_file(parts: Parts, settings: Mapping[str, Any] | None = None) -> AboutFile:
    """All facts about a file; elements are looked at some at a time, nothing is tokenized.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "one.fa"
        >>> _ = path.write_text(">chr1\\n" + "ACGN" * 64 + "\\n")
        >>> told = about_file(open_parts(path))
        >>> told.elements, told.tokens, told.missing
        (256, 16, 0.25)
    """
    tokenizer = tokenizer_of(parts, settings)
    plain = ModelConfig(parts.domain)
    merging = with_merging(plain)
    counts = [tokenizer.most_tokens(length) * _copies(parts, tokenizer) for length in parts.lengths]
    single = [tokenizer.most_tokens(length) for length in parts.lengths]
    longest = max(single)
    elements = sum(parts.lengths)
    return AboutFile(
        str(parts.path),
        parts.format,
        parts.domain,
        parts.path.stat().st_size,
        len(parts),
        elements,
        min(parts.lengths),
        float(median(parts.lengths)),
        max(parts.lengths),
        missing_share(parts),
        repr(tokenizer),
        tokenizer.fingerprint,
        sum(counts),
        longest,
        token_bytes(tokenizer, sum(counts), elements * _copies(parts, tokenizer)),
        flops_of_all(plain, single) * _copies(parts, tokenizer),
        flops_of_all(merging, single) * _copies(parts, tokenizer),
        flops(plain, longest),
        flops(merging, longest),
        f"{plain.depth} blocks of width {plain.dim}, every token sees all",
    )


def missing_share(parts: Parts) -> float:
    """Share of a file's elements that have no value: letters that name no single base, NaN, points not finite."""
    missing, seen = 0.0, 0
    for record, length in enumerate(parts.lengths):
        for start in range(0, length, AT_ONCE):
            stop = min(start + AT_ONCE, length)
            missing += _missing(parts.domain, parts.get(record, start, stop)[0]) * (stop - start)
            seen += stop - start
    return missing / max(seen, 1)


def about_store(path: str | os.PathLike) -> AboutStore:
    """All facts about a store that its table holds; no record is read."""
    store = read_tokens(path)
    kind = "none yet"
    if len(store):
        kind = f"D = {store.arrays['features'].shape[1]} in {store.arrays['features'].dtype}"
        kind += "" if store.labels is None else f", {str(store.labels.dtype).removeprefix('torch.')} labels"
        kind += ", targets for each element" if "targets" in store.arrays else ""
    columns = layout.TABLE
    return AboutStore(
        str(path),
        store.fingerprint,
        len(store),
        int(store.table[:, columns.index("tokens")].sum()),
        int(store.table[:, columns.index("elements")].sum()),
        kind,
        None if is_url(path) else _bytes_in(Path(path)),
        generations(path),
    )


def about_model(path: str | os.PathLike) -> AboutModel:
    """All facts about a saved model, or the model of a run; its weights are read and compared with their hash."""
    model = load_model(path)
    folder = model_folder(Path(path))
    config = model.config
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    lengths = []
    for elements in LENGTHS:
        tokens = model.tokenizer.most_tokens(elements)
        work = None if config.plain else flops(config, tokens)
        lengths.append(AtLength(elements, tokens_by_block(config, tokens), work))
    return AboutModel(
        str(path),
        asdict(config),
        repr(model.tokenizer),
        model.tokenizer.fingerprint,
        parts,
        (folder / "model.safetensors").stat().st_size,
        json.loads((folder / "config.json").read_text())["sha256"],
        lengths,
    )


def _missing(domain: str, values: Any) -> float:
    if domain == "dna":
        return DNATokenizer().unknown_share(values)
    if domain == "points":
        return float((~np.isfinite(values).all(1)).mean())
    return float(np.isnan(np.asarray(values, np.float64)).mean())


def _copies(parts: Parts, tokenizer: Any) -> int:
    """Records that one record of the file becomes: independent channels are records of their own."""
    return parts.channels if getattr(tokenizer, "channels", None) == "independent" else 1


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _step_text(step: Reduce) -> str:
    keep = f"tokens from similarity {step.threshold}" if step.keep is None else f"keep={step.keep}"
    window = "" if step.window is None else f", within windows of {step.window} tokens"
    radius = "" if step.radius is None else f", no two of a group more than {step.radius} apart"
    return f"block {step.block}: {step.method}, {keep}{window}{radius}"


def _lines(*rows: tuple[str, str]) -> str:
    return "\n".join(f"{name:12} {value}".rstrip() for name, value in rows)
