"""From a config to data that can be trained on: records by name, cut and split, as tokens of each part."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.loader import IGNORE, MemoryStore
from tokred_sci.datasets.public import find, load
from tokred_sci.datasets.reader import read
from tokred_sci.datasets.records import Records
from tokred_sci.datasets.repository import is_url
from tokred_sci.datasets.sample import load_sample
from tokred_sci.datasets.store import TokenStore, read_tokens
from tokred_sci.errors import InputError
from tokred_sci.experiment import TOKENIZERS, ModelConfig
from tokred_sci.pieces import (
    PARTS,
    Piece,
    cut,
    heated,
    hold,
    limit,
    mapped,
    only,
    split,
    thin,
    with_classes,
    with_heights,
    with_places,
)
from tokred_sci.stability.tasks import TASKS
from tokred_sci.training import tasks
from tokred_sci.training.config import TrainConfig

Store = TokenStore | MemoryStore


@dataclass(frozen=True)
class DataConfig:
    """Which data, and how it is cut.

    Args:
        source: "sample:dna", "sample:points" or "sample:series" (in the package); a public dataset by name; a file; or
            a token store.
        valid, test: further token stores where the source is one; else further public sets or files, the whole of
            which is that part; classes are the training part's, by name. "" = parts are those of the set, or made.
        options: of the reader of a file.
        length: cut records into pieces of so many bases or steps, or clouds into parts of at most so many points;
            None = never. The length of a record where a sample's records are drawn.
        most: records of each part, drawn by `seed`; None = all. Not where files or public sets are forecast.
        context: steps that a forecast is made from.
        stride: steps from one forecast to the next; published numbers use 1.
        standardise: forecasts: each channel by mean and spread of its training part, as published errors are.
        places: clouds get their coordinates, from their mean, once more as channels: tokens hold relative ones, and do
            not say where in the cloud they are. For clouds that all stand the same way.
        draw: points drawn at random from each cloud, by `seed`, where it has more; None = all.
        draws: so many clouds are drawn from each one of the training part.
        heat: clouds get heat signatures at so many times as channels, before places, see `with_heat`; 0 = none. They
            are computed once, and kept in the folder of public data.
        heights: clouds in which z is up get heights over what is around each point, in squares of these widths, as
            channels, before they are cut; see `tokred_sci.tokenizers.heights`.
        only: records whose name begins so, as "Human/": one category of a set; "" = all.
        hold: the group of records, as a site, that is the test part; "" = parts are those of the set, or made.
        seed: of what is drawn.
        workers: processes that read ahead.
        bucket: put records of like length into one batch.
        blocks: blocks of 1,024 neighbouring records that are mixed at a time, see `TokenLoader`; with more than there
            are, all records. Windows that overlap are alike: few blocks give batches that are, too.
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
    draw: int | None = None
    draws: int = 1
    heat: int = 0
    heights: tuple[float, ...] = ()
    only: str = ""
    hold: str = ""
    seed: int = 0
    workers: int = 0
    bucket: bool = True
    blocks: int = 8


@dataclass(frozen=True)
class RunConfig:
    """All of a run.

    Args:
        data: which.
        model: `outputs`, and the channels of its tokenizer, are those of the data where these say so.
        train: how.
        hidden: "reconstruct": share of the tokens that are hidden.
        strands: "classify" of DNA: the class is that of both strands; see `tokred_sci.training.tasks.Classify`.
        turn: "classify" and "per-element" of points: train on clouds turned and scaled at random; "upright" =
            about the third axis only; see `tokred_sci.training.tasks.turn_clouds`.
        closed_form: "forecast" with `model.context`: the linear map of the window is solved on the training part, its
            penalty chosen on the validation part, and what the encoder adds is trained; see
            `tokred_sci.models.ridge.solve_line`.
        init: folder of a model, or of a run, to start from: what fits is loaded, what does not is said.
    """

    data: DataConfig
    model: ModelConfig
    train: TrainConfig = field(default_factory=TrainConfig)
    hidden: float = 0.3
    strands: bool = False
    turn: bool | Literal["upright"] = False
    closed_form: bool = False
    init: str = ""


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
    data = config.data
    _check_clouds(config)
    if config.closed_form and config.model.context is None:
        raise InputError("Expected 'closed_form' with 'model.context', to forecast (got no context): leave it out.")
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
    parts = {part: _widened(pieces, data, part) for part, pieces in parts.items()}
    config = _complete(config, parts["train"][0].record, classes)
    tokenizer = TOKENIZERS[config.model.domain](**config.model.tokenizer)
    stores: dict[str, Store] = {
        part: MemoryStore(entry for piece in pieces for entry in _entries(tokenizer, piece, config.model.head))
        for part, pieces in parts.items()
        if pieces
    }
    return Prepared(config, stores, _task(config, tokenizer))


def _check_clouds(config: RunConfig) -> None:
    """What is asked of clouds can be had."""
    data = config.data
    asked = [name for name in ("places", "heat", "heights", "draw") if getattr(data, name)]
    if asked and (config.model.domain != "points" or _is_store(data.source)):
        raise InputError(f"Expected 'data.{asked[0]}' with points that are no store (got {data.source}).")
    if data.heat < 0 or data.draws < 1 or (data.draws > 1 if data.draw is None else data.draw < 1):
        told = f"heat = {data.heat}, draw = {data.draw}, draws = {data.draws}"
        raise InputError(f"Expected 'data.heat' >= 0, and 'data.draws' >= 1 with 'data.draw' >= 1 (got {told}).")
    made = data.source.startswith("sample:") or _is_store(data.source) or config.model.head == "forecast"
    if data.heights and data.source.startswith("sample:"):
        raise InputError("Expected 'data.heights' with a public set or a file (got a sample, where z is not up).")
    if (data.only and made) or (data.hold and (made or data.test)):
        raise InputError(
            f"Expected 'data.only' and 'data.hold' with a public set or a file, not to forecast, 'data.hold' without "
            f"'data.test' (got {data.only!r} and {data.hold!r} with {data.source}): leave them out."
        )


def _task(config: RunConfig, tokenizer: Any, spread: np.ndarray | None = None) -> tasks.Task:
    what = f"{config.model.head} {config.model.domain}"
    if config.strands and what != "classify dna":
        raise InputError(f"Expected 'strands' where the task is to classify dna (got {what}): leave it out.")
    if config.turn and (what not in ("classify points", "per-element points") or config.data.places):
        told = f"{what}, data.places = {config.data.places}"
        raise InputError(f"Expected 'turn' where the task is to classify points, without places (got {told}).")
    upright = config.turn == "upright"
    vary = partial(tasks.turn_clouds, slots=tokenizer.neighbours, upright=upright) if config.turn else None
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
    if asked := [name for name in ("options", "length", "most") if getattr(config.data, name)]:
        raise InputError(
            f"Expected no 'data.{asked[0]}' with a token store (got {getattr(config.data, asked[0])!r}): its records "
            "are tokens already; write a store of those that you want."
        )
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


def filled_as(config: RunConfig, other: RunConfig) -> RunConfig:
    """A config with its gaps as they were filled in another one: equal to that if it asks for the same."""
    model, settings = config.model, dict(config.model.tokenizer)
    if _is_store(config.data.source):
        return config
    name = "channels" if model.domain == "points" else "in_channels"
    if name in other.model.tokenizer:
        settings.setdefault(name, other.model.tokenizer[name])
    outputs = model.outputs if model.head == "forecast" else other.model.outputs
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
        parts = split(cut(sample, data.length), data.length is not None and by_element)
        classes = len(sample.classes)
    else:
        records = _read_parts(config)
        if data.only:
            records = {name: only(part, data.only) for name, part in records.items()}
        if head != "reconstruct":
            train = records["train"]
            records = {name: with_classes(part, train, _origin(data, name)) for name, part in records.items()}
        if data.heights:
            records = {name: with_heights(part, data.heights) for name, part in records.items()}
        domain, classes = records["train"].domain, len(records["train"].classes)
        parts = {name: cut(part, data.length) for name, part in records.items()}
        in_order = data.length is not None and not records["train"].groups  # records of one group are never parted
        if data.hold:
            parts = hold(parts, data.hold)
        if list(parts) == ["train"]:
            parts = split(parts["train"], in_order)
        elif "valid" not in parts:
            parts = {**split(parts["train"], in_order, test=False), "test": parts["test"]}
    if domain != config.model.domain:
        raise InputError(f"Expected model.domain = {domain!r} for {data.source} (got {config.model.domain!r}).")
    parts = {name: limit(pieces, data.most, data.seed) for name, pieces in parts.items()}
    if head != "reconstruct":
        parts = {name: _labelled(pieces, head, _origin(data, name)) for name, pieces in parts.items()}
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


def _origin(data: DataConfig, part: str) -> str:
    return {"valid": data.valid, "test": data.test}.get(part) or data.source


def _whole(config: RunConfig, source: str) -> Records:
    if Path(source).is_file():
        return read(source, config.model.domain, **config.data.options)
    return load(source)


def _widened(pieces: list[Piece], data: DataConfig, part: str) -> list[Piece]:
    """Clouds with the points and the channels that were asked for."""
    if data.draw:
        pieces = thin(pieces, data.draw, data.draws if part == "train" else 1, data.seed)
    if data.heat and pieces:
        pieces = heated(pieces, data.heat)
    return mapped(pieces, [with_places(piece.record) for piece in pieces]) if data.places else pieces


def _labelled(pieces: list[Piece], head: str, source: str) -> list[Piece]:
    """Pieces that have a class to learn; elements without one, which readers label -1, are not asked for."""
    for piece in pieces:
        wanted = () if head == "classify" else (_length(piece.record),)
        if piece.label is None or np.shape(piece.label) != wanted:
            raise InputError(
                f"Expected one label per {'record' if head == 'classify' else 'element'} in {source} for head {head!r} "
                f"(got {'none' if piece.label is None else f'shape {np.shape(piece.label)}'})."
            )
        values = np.asarray(piece.label, np.float64).reshape(-1)
        if len(odd := values[(values != np.round(values)) | np.isinf(values)]):
            raise InputError(
                f"Expected whole numbers, one for each class, as labels in {source} for head {head!r} (got "
                f"{odd[0]:g}): targets that are numbers are not learned; make classes of them, such as ranges."
            )
    known = [piece for piece in pieces if np.max(piece.label, initial=-1) >= 0]
    if len(known) < len(pieces) and (head == "classify" or not known):
        raise InputError(
            f"Expected labels from 0 in {source} for head {head!r} (got none for {len(pieces) - len(known)} of "
            f"{len(pieces)} records): label these, or leave them out of the data."
        )
    if head == "classify":
        return known
    labels = [np.asarray(piece.label, np.int64) for piece in known]
    return [piece._replace(label=np.where(own < 0, IGNORE, own)) for piece, own in zip(known, labels, strict=True)]


def _length(record: Any) -> int:
    return len(record) if isinstance(record, str | bytes) or record.shape[0] > record.shape[-1] else record.shape[-1]


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
        parts = split(cut(load_sample(source.partition(":")[2]), None), False)
        return {
            name: [piece.record for piece in limit(pieces, config.data.most, config.data.seed)]
            for name, pieces in parts.items()
        }, False
    if config.data.most is not None:
        raise InputError(
            f"Expected no 'data.most' with forecasts of {source} (got {config.data.most}): every step counts. Leave it "
            "out, or raise 'data.stride' for fewer windows."
        )
    records = _read_parts(config)
    if len(records) > 1:
        found = {name: list(part.records) for name, part in records.items()}
        return found, all(len(series) == 1 for series in found.values())
    whole = list(records["train"].records)
    if len(whole) > 1:
        parts = split(cut(records["train"], None), False)
        return {name: [piece.record for piece in pieces] for name, pieces in parts.items()}, False
    steps = whole[0].shape[-1]
    cuts = {
        "train": (0, 7 * steps // 10),
        "valid": (7 * steps // 10, 8 * steps // 10),
        "test": (8 * steps // 10, steps),
    }
    return {name: [whole[0][:, start:stop]] for name, (start, stop) in cuts.items()}, True
