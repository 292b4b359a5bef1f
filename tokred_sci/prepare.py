"""From a config to data that can be trained on: records by name, cut and split, as tokens of each part."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.loader import MemoryStore
from tokred_sci.datasets.public import find, load
from tokred_sci.datasets.public.card import seeded_split
from tokred_sci.datasets.reader import read
from tokred_sci.datasets.records import Records
from tokred_sci.datasets.repository import is_url
from tokred_sci.datasets.sample import load_sample
from tokred_sci.datasets.store import TokenStore, read_tokens
from tokred_sci.errors import InputError
from tokred_sci.experiment import TOKENIZERS, ModelConfig
from tokred_sci.stability.tasks import TASKS
from tokred_sci.training import tasks
from tokred_sci.training.config import TrainConfig

PARTS = ("train", "valid", "test")


Store = TokenStore | MemoryStore


@dataclass(frozen=True)
class DataConfig:
    """Which data, and how it is cut.

    Args:
        source: "sample:dna", "sample:points" or "sample:series" (in the package); a public dataset by name; a file; or
            a token store.
        valid, test: further token stores where the source is one; else further public sets or files, the whole of
            which is that part. "" = parts are those of the set, or made.
        options: of the reader of a file.
        length: cut records into pieces of so many bases or steps, or clouds into parts of at most so many points;
            None = never. The length of a record where a sample's records are drawn.
        most: records of each part, drawn by `seed`; None = all.
        context: steps that a forecast is made from.
        stride: steps from one forecast to the next; published numbers use 1.
        standardise: forecasts: each channel by mean and spread of its training part, as published errors are.
        places: clouds get their coordinates, from their mean, once more as channels: tokens hold relative ones, and do
            not say where in the cloud they are. For clouds that all stand the same way.
        seed: of what is drawn.
        workers: processes that read ahead.
        bucket: put records of like length into one batch.
    """

    source: str
    valid: str = ""
    test: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    length: int | None = None
    most: int | None = None
    context: int = 336
    stride: int = 1
    standardise: bool = True
    places: bool = False
    seed: int = 0
    workers: int = 0
    bucket: bool = True


@dataclass(frozen=True)
class RunConfig:
    """All of a run.

    Args:
        data: which.
        model: `outputs`, and the channels of its tokenizer, are those of the data where these say so.
        train: how.
        hidden: "reconstruct": share of the tokens that are hidden.
        strands: "classify" of DNA: the class is that of both strands; see `tokred_sci.training.tasks.Classify`.
        turn: "classify" and "per-element" of points: train on clouds turned and scaled at random; see
            `tokred_sci.training.tasks.turn_clouds`.
        init: folder of a model, or of a run, to start from: what fits is loaded, what does not is said.
    """

    data: DataConfig
    model: ModelConfig
    train: TrainConfig = field(default_factory=TrainConfig)
    hidden: float = 0.3
    strands: bool = False
    turn: bool = False
    init: str = ""


class Piece(NamedTuple):
    """A record, what there is to know about it, and what it must not be parted from by a split."""

    record: Any
    label: Any
    group: str


class Prepared(NamedTuple):
    """A config whose gaps the data have filled, the stores of its parts, and the task."""

    config: RunConfig
    stores: dict[str, Store]
    task: tasks.Task


def prepare(config: RunConfig) -> Prepared:
    """Read the data, tokenize them, and fill the gaps of the config.

    Raises:
        InputError: no such data, or labels that the head cannot be trained on.
    """
    if config.data.places and (config.model.domain != "points" or _is_store(config.data.source)):
        raise InputError(f"Expected 'data.places' with points that are no store (got {config.data.source}).")
    if config.model.head == "forecast" and config.train.length_warm_up:
        raise InputError("Expected no 'length_warm_up' with forecasts: it leaves out a record's last tokens.")
    if _is_store(config.data.source):
        return _from_stores(config)
    own = config.data.source.startswith("sample:") or config.model.head == "forecast"
    if own and (config.data.valid or config.data.test):
        raise InputError(
            f"Expected no 'data.valid' or 'data.test' with {config.data.source} and head {config.model.head!r} (got "
            f"{config.data.valid or config.data.test!r}): their parts are made."
        )
    if config.model.head == "forecast":
        return _forecasts(config)
    parts, classes = _pieces(config)
    config = _complete(config, parts["train"][0].record, classes)
    tokenizer = TOKENIZERS[config.model.domain](**config.model.tokenizer)
    stores: dict[str, Store] = {
        part: MemoryStore(entry for piece in pieces for entry in _entries(tokenizer, piece, config.model.head))
        for part, pieces in parts.items()
        if pieces
    }
    return Prepared(config, stores, _task(config, tokenizer))


def _task(config: RunConfig, tokenizer: Any, spread: np.ndarray | None = None) -> tasks.Task:
    what = f"{config.model.head} {config.model.domain}"
    if config.strands and what != "classify dna":
        raise InputError(f"Expected 'strands' where the task is to classify dna (got {what}): leave it out.")
    if config.turn and (what not in ("classify points", "per-element points") or config.data.places):
        told = f"{what}, data.places = {config.data.places}"
        raise InputError(f"Expected 'turn' where the task is to classify points, without places (got {told}).")
    vary = partial(tasks.turn_clouds, slots=tokenizer.neighbours) if config.turn else None
    match config.model.head:
        case "classify":
            return tasks.Classify(tokenizer.reverse_complement if config.strands else None, vary)
        case "per-element":
            return tasks.LabelElements(vary)
        case "forecast":
            return tasks.Forecast(tokenizer, np.ones(1) if spread is None else spread)
    return tasks.Reconstruct(tokenizer, config.hidden)


def _is_store(source: str) -> bool:
    return is_url(source) or Path(source).is_dir()


def _from_stores(config: RunConfig) -> Prepared:
    """Stores as they are; classes are those that the config says."""
    tokenizer = TOKENIZERS[config.model.domain](**config.model.tokenizer)
    paths = {"train": config.data.source, "valid": config.data.valid, "test": config.data.test}
    stores: dict[str, Store] = {part: read_tokens(path, tokenizer.fingerprint) for part, path in paths.items() if path}
    return Prepared(config, stores, _task(config, tokenizer))


def _complete(config: RunConfig, record: Any, classes: int) -> RunConfig:
    """Channels and outputs as the data have them."""
    model, settings = config.model, dict(config.model.tokenizer)
    if model.domain == "points":
        settings.setdefault("channels", record.shape[1])
    if model.domain == "series":
        settings.setdefault("in_channels", record.shape[0])
    outputs = model.outputs
    if model.head in ("classify", "per-element"):
        outputs = classes
    if model.head == "reconstruct":
        outputs = tasks.width_of(TOKENIZERS[model.domain](**settings))
    return replace(config, model=replace(model, tokenizer=settings, outputs=outputs))


def _entries(tokenizer: Any, piece: Piece, head: str) -> Iterator[Entry]:
    tokens = tokenizer(piece.record)
    if head == "classify" and len(tokens) == 1:
        yield Entry(tokens, int(piece.label))
    elif head == "per-element" and len(tokens) == 1:
        yield Entry(tokens, targets=np.asarray(piece.label, np.int64))
    elif head == "reconstruct":
        yield from (Entry(tokens[place]) for place in range(len(tokens)))
    else:
        raise InputError("Expected channels='mix' for one answer a record (got independent channels).")


def _pieces(config: RunConfig) -> tuple[dict[str, list[Piece]], int]:
    """Records of each part, and how many classes there are."""
    data, head = config.data, config.model.head
    if data.source.startswith("sample:"):
        domain = data.source.partition(":")[2]
        sample = load_sample(domain)
        by_element = domain != "series"
        if head != "reconstruct" and by_element != (head == "per-element"):
            return _drawn(config, domain)
        parts = _split(_cut(sample, data.length), data.length is not None and by_element)
        classes = len(sample.classes)
    else:
        records = _read_parts(config)
        domain, classes = records["train"].domain, max(len(part.classes) for part in records.values())
        parts = {name: _cut(part, data.length) for name, part in records.items()}
        in_order = data.length is not None and not records["train"].groups  # records of one group are never parted
        if list(parts) == ["train"]:
            parts = _split(parts["train"], in_order)
        elif "valid" not in parts:
            parts = {**_split(parts["train"], False, test=False), "test": parts["test"]}
    if domain != config.model.domain:
        raise InputError(f"Expected model.domain = {domain!r} for {data.source} (got {config.model.domain!r}).")
    parts = {name: _limit(pieces, data) for name, pieces in parts.items()}
    if data.places:
        parts = {
            name: [piece._replace(record=with_places(piece.record)) for piece in some] for name, some in parts.items()
        }
    if head != "reconstruct":
        parts = {name: _labelled(pieces, head, data.source) for name, pieces in parts.items()}
        classes = classes or 1 + max(int(np.max(piece.label)) for pieces in parts.values() for piece in pieces)
    if not parts["train"]:
        raise InputError(f"Expected at least one record to train on in {data.source} (got none).")
    return parts, classes


def _drawn(config: RunConfig, domain: str) -> tuple[dict[str, list[Piece]], int]:
    """Records made from a sample, as `tokred_sci.stability.tasks` tells: a hidden part says the class."""
    data, make = config.data, TASKS[domain]
    task, most = (make(data.length) if data.length else make()), data.most or 512
    parts = {}
    for place, part in enumerate(PARTS):
        drawn = task.draw(
            most if part == "train" else max(len(task.classes), most // 4), data.seed + place, part == "test"
        )
        labels: Any = drawn.labels if config.model.head == "classify" else drawn.hidden
        parts[part] = [Piece(record, label, "") for record, label in zip(drawn.records, labels, strict=True)]
    return parts, len(task.classes) if config.model.head == "classify" else 2


def _read_parts(config: RunConfig) -> dict[str, Records]:
    """Records of a file or of a public dataset, by part where it has parts or others are named for them."""
    source = config.data.source
    splits = () if Path(source).is_file() else find(source).splits
    parts = {{"dev": "valid"}.get(name, name): load(source, name) for name in splits}
    if "train" not in parts:
        parts = {"train": _whole(config, source)}
    named = {"valid": config.data.valid, "test": config.data.test}
    return parts | {part: _whole(config, name) for part, name in named.items() if name}


def _whole(config: RunConfig, source: str) -> Records:
    if Path(source).is_file():
        return read(source, config.model.domain, **config.data.options)
    return load(source)


def _labelled(pieces: list[Piece], head: str, source: str) -> list[Piece]:
    for piece in pieces:
        wanted = () if head == "classify" else (_length(piece.record),)
        if piece.label is None or np.shape(piece.label) != wanted:
            raise InputError(
                f"Expected one label per {'record' if head == 'classify' else 'element'} in {source} for head {head!r} "
                f"(got {'none' if piece.label is None else f'shape {np.shape(piece.label)}'})."
            )
    return pieces


def _length(record: Any) -> int:
    return len(record) if isinstance(record, str | bytes) or record.shape[0] > record.shape[-1] else record.shape[-1]


def _limit(pieces: list[Piece], data: DataConfig) -> list[Piece]:
    if data.most is None or len(pieces) <= data.most:
        return pieces
    chosen = np.random.default_rng(data.seed).permutation(len(pieces))[: data.most]
    return [pieces[place] for place in sorted(chosen.tolist())]


def with_places(cloud: np.ndarray) -> np.ndarray:
    """A cloud (n, channels) with its coordinates, from their mean, as three more channels, see `DataConfig`."""
    return np.concatenate([cloud, cloud[:, :3] - cloud[:, :3].mean(0)], 1)


def _cut(records: Records, length: int | None) -> list[Piece]:
    """Records as pieces of at most this length."""
    labels = records.labels if records.labels is not None else [None] * len(records.records)
    groups = records.groups or tuple(map(str, range(len(records.records))))
    pieces = []
    for record, label, group in zip(records.records, labels, groups, strict=True):
        if length is None:
            pieces.append(Piece(record, label, group))
            continue
        for rows in _rows(records.domain, record, length):
            part = record[:, rows] if records.domain == "series" else record[rows]
            own = label if np.ndim(label) == 0 else label[rows]
            pieces.append(Piece(part, own, group))
    return pieces


def _rows(domain: str, record: Any, length: int) -> list[Any]:
    """Which elements make which piece: neighbours in a sequence, in space for a cloud."""
    if domain != "points":
        total = len(record) if domain == "dna" else record.shape[-1]
        return [slice(start, min(start + length, total)) for start in range(0, total, length)]
    pieces, rest = [], [np.arange(len(record))]
    while rest:
        rows = rest.pop()
        if len(rows) <= length:
            pieces.append(np.sort(rows))
            continue
        places = record[rows, :3]
        order = rows[np.argsort(places[:, np.ptp(places, 0).argmax()], kind="stable")]
        rest += [order[len(order) // 2 :], order[: len(order) // 2]]
    return pieces


def _split(pieces: list[Piece], in_order: bool, test: bool = True) -> dict[str, list[Piece]]:
    """80 % to train on, 10 % to validate, 10 % to test (or 90 and 10): by group, or each group cut in this order."""
    groups = [piece.group for piece in pieces]
    if not in_order and len(set(groups)) >= 5:
        classes = [piece.label if np.ndim(piece.label) == 0 else 0 for piece in pieces]
        found = seeded_split(classes, groups)
        parts = {"train": found["train"], "valid": found["dev"], "test": found["test"]}
    else:
        parts = {name: [] for name in PARTS}
        for group in dict.fromkeys(groups):
            rows = [row for row, name in enumerate(groups) if name == group]
            for place, row in enumerate(rows):
                share = (place + 0.5) / len(rows)
                parts["train" if share < 0.8 else "valid" if share < 0.9 else "test"].append(row)
    if not test:
        parts = {"train": sorted(parts["train"] + parts["test"]), "valid": parts["valid"]}
    return {name: [pieces[row] for row in rows] for name, rows in parts.items()}


def _forecasts(config: RunConfig) -> Prepared:
    """Windows of series: what was, and what comes; the first forecast of a part starts where the part does."""
    data = config.data
    parts, chained = _series(config)
    config = _complete(config, parts["train"][0], 0)
    tokenizer = TOKENIZERS["series"](**config.model.tokenizer)
    train = np.concatenate(parts["train"], 1)
    mean, spread = np.nanmean(train, 1, keepdims=True), np.nanstd(train, 1, keepdims=True)
    spread = np.where(spread > 0, spread, 1)
    if not data.standardise:
        mean, spread = np.zeros_like(mean), np.ones_like(spread)
    stores: dict[str, Store] = {}
    before = np.zeros((len(mean), 0))
    for part, series in parts.items():
        whole = [(values - mean) / spread for values in series]
        if chained:
            whole, before = [np.concatenate([before, whole[0]], 1)], whole[0][:, -data.context :]
        entries = [entry for values in whole for entry in _windows(values, tokenizer, data, config.model.outputs)]
        if entries:
            stores[part] = MemoryStore(entries)
    if "train" not in stores:
        raise InputError(
            f"Expected series of at least {data.context} + {config.model.outputs} steps in {data.source} (got shorter "
            "ones): lower data.context or model.outputs."
        )
    return Prepared(config, stores, _task(config, tokenizer, spread[:, 0]))


def _windows(values: np.ndarray, tokenizer: Any, data: DataConfig, horizon: int) -> Iterator[Entry]:
    for start in range(0, values.shape[1] - data.context - horizon + 1, data.stride):
        middle = start + data.context
        known, future = values[:, start:middle], values[:, middle : middle + horizon].astype(np.float32)
        if np.isnan(known).all() or np.isnan(future).all():
            continue
        tokens = tokenizer(known)
        futures = future[None] if len(tokens) == 1 else future[:, None]
        for place, own in enumerate(futures):
            yield Entry(tokens if len(tokens) == 1 else tokens[place], own)


def _series(config: RunConfig) -> tuple[dict[str, list[np.ndarray]], bool]:
    """Series of each part, and whether the parts follow each other in time."""
    source = config.data.source
    if config.model.domain != "series":
        raise InputError(f"Expected model.domain = 'series' for forecasts (got {config.model.domain!r}).")
    if source.startswith("sample:"):
        parts = _split(_cut(load_sample(source.partition(":")[2]), None), False)
        return {name: [piece.record for piece in _limit(pieces, config.data)] for name, pieces in parts.items()}, False
    records = _read_parts(config)
    if len(records) > 1:
        found = {name: list(part.records) for name, part in records.items()}
        return found, all(len(series) == 1 for series in found.values())
    whole = list(records["train"].records)
    if len(whole) > 1:
        parts = _split(_cut(records["train"], None), False)
        return {name: [piece.record for piece in pieces] for name, pieces in parts.items()}, False
    steps = whole[0].shape[-1]
    cuts = {
        "train": (0, 7 * steps // 10),
        "valid": (7 * steps // 10, 8 * steps // 10),
        "test": (8 * steps // 10, steps),
    }
    return {name: [whole[0][:, start:stop]] for name, (start, stop) in cuts.items()}, True
