"""How to train, in plain values; and any frozen dataclass read from a TOML file that holds only the difference."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from math import inf, isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tokred_sci.errors import FileError, InputError
from tokred_sci.training.checkpoint import write_file

Config = TypeVar("Config")


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        steps: optimiser steps.
        batch: records per step, of all processes together.
        micro_batch: records per forward pass and process; None = all of its share. Halved where memory runs out.
        learning_rate: peak; warmed up linearly over `warm_up` steps, then cosine to zero.
        weight_decay: of AdamW.
        clip: largest gradient norm.
        warm_up: steps.
        ema: decay of the running mean of the weights, which is then what is evaluated and saved; at step t at most
            (1 + t) / (10 + t). None = no mean.
        precision: "fp32", "bf16" or "fp16" (autocast; weights stay float32).
        seed: of the order of records, of budgets, of masks and of dropout.
        budgets: shares of the tokens to keep; each step draws one, so that one model serves them all. () = the
            model's own budget at every step.
        length_warm_up: steps over which records grow to their length: of each only the first tokens, an eighth at
            the start. 0 = off. What is cut off is not learned from; a record's label is taken to hold for its start.
        evaluate_every: steps; 0 = only at the end.
        checkpoint_every: steps between regular checkpoints, those that training may roll back to.
        checkpoint_seconds: seconds after which one is written anyhow; 0 = never.
        keep: checkpoints kept, the newest ones.
        spike: a loss above so many times the largest of the last 50 good ones is a spike; inf = none is.
        patience: bad steps in a row, after which training rolls back; batches that ask nothing are none.
        rollbacks: how often, before it gives up.

    Raises:
        InputError: a setting out of range.
    """

    steps: int = 500
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    warm_up: int = 50
    seed: int = 0
    micro_batch: int | None = None
    ema: float | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    budgets: tuple[float, ...] = ()
    length_warm_up: int = 0
    evaluate_every: int = 0
    checkpoint_every: int = 100
    checkpoint_seconds: float = 300.0
    keep: int = 3
    spike: float = 10.0
    patience: int = 5
    rollbacks: int = 3

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = dict.fromkeys(("steps", "batch", "keep", "patience"), (1, inf))
        ranges |= dict.fromkeys(("checkpoint_every", "micro_batch"), (1, inf)) | {"ema": (0, 1), "spike": (1, inf)}
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = ranges.get(field.name, (0, inf))
            if isinstance(value, int | float) and not low <= value <= high:
                raise InputError(f"Expected '{field.name}' in [{low}, {high}] (got {value!r}).")
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise InputError(f"Expected 'precision' as 'fp32', 'bf16' or 'fp16' (got {self.precision!r}).")
        if bad := [share for share in self.budgets if not 0 < share <= 1]:
            raise InputError(f"Expected 'budgets' as shares in (0, 1] (got {bad}).")


def read_config(cls: type[Config], path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """A frozen dataclass from a TOML file, which holds what differs from the defaults.

    Law: `read_config(cls, path)` of what `write_config(config, path)` wrote equals `config`.

    Args:
        cls: the dataclass; its fields may be dataclasses, or tuples of them.
        path: the file; None = the defaults.
        overrides: "key=value" or "key.below=value", values as in TOML, or text; numbers pick from a list.

    Raises:
        FileError: no such file, or it is not TOML.
        InputError: an unknown key (the nearest is named), a value of another type, or one out of range.

    Example:
        >>> read_config(TrainConfig, overrides=["steps=20", "budgets=[1.0, 0.5]"]).budgets
        (1.0, 0.5)
        >>> read_config(TrainConfig, overrides=["stepz=20"])
        Traceback (most recent call last):
        tokred_sci.errors.InputError: Expected a key of TrainConfig (got 'stepz'): did you mean 'steps'?
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise FileError(
                f"Expected a TOML file at {path} (got: {error}): check the path, and the line it names."
            ) from error
    for text in overrides:
        _override(values, text)
    return _build(cls, values, "")


def _override(values: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"Expected key=value (got {text!r}).")
    *path, last = key.strip().split(".")
    into: Any = values
    for name in path:
        into = into[_place(into, name, key)] if isinstance(into, list) else into.setdefault(name, {})
        if not isinstance(into, dict | list):
            raise InputError(f"Expected {key!r} as a key (got a value at {name!r}): leave out what follows it.")
    into[_place(into, last, key) if isinstance(into, list) else last] = parse_value(value)


def _place(items: list[Any], name: str, key: str) -> int:
    if not name.isdecimal() or int(name) >= len(items):
        raise InputError(f"Expected a number below {len(items)} in {key!r} (got {name!r}): it picks from a list.")
    return int(name)


def parse_value(text: str) -> Any:
    """A value as TOML reads it; what is no TOML is text.

    Example:
        >>> parse_value("0.5"), parse_value("[1, 2]"), parse_value("links")
        (0.5, [1, 2], 'links')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError, RecursionError):
        return text


def _build(cls: Any, values: Any, where: str) -> Any:
    """A dataclass from parsed values."""
    if not isinstance(values, Mapping):
        raise InputError(f"Expected '{where}' as a table (got {values!r}).")
    hints, known = get_type_hints(cls), [field.name for field in fields(cls)]
    for key in values:
        if key not in known:
            near, told = get_close_matches(key, known, 1, 0)[0], f"{where}.{key}" if where else key
            raise InputError(f"Expected a key of {cls.__name__} (got {told!r}): did you mean {near!r}?")
    path = {key: f"{where}.{key}" if where else key for key in values}
    made = {key: _convert(hints[key], value, path[key]) for key, value in values.items()}
    needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    if absent := [name for name in needed if name not in made]:
        raise InputError(f"Expected '{where and where + '.'}{absent[0]}' to be set: it has no default.")
    return cls(**made)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """A parsed value as the type that its field has."""
    origin, options = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _build(hint, value, where)
    if origin in (Union, UnionType):
        return _first_of(options, value, where)
    if origin is Literal and value in options:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(options[0], item, f"{where}.{place}") for place, item in enumerate(value))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return dict(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool, NoneType) and type(value) is hint:
        return value
    told = " or ".join(map(repr, options)) if origin is Literal else str(getattr(hint, "__name__", hint))
    raise InputError(f"Expected '{where}' as {told} (got {value!r}).")


def _first_of(options: tuple[Any, ...], value: Any, where: str) -> Any:
    for option in options:
        if option is type(value):  # a whole number stays one where both would do
            return value
    for option in options:
        try:
            return _convert(option, value, where)
        except InputError:
            continue
    told = " or ".join("none" if option is NoneType else str(getattr(option, "__name__", option)) for option in options)
    raise InputError(f"Expected '{where}' as {told} (got {value!r}).")


def write_config(config: Any, path: str | Path) -> None:
    """What differs from the defaults, as TOML.

    Raises:
        InputError: a value that TOML does not know: None where the default is something else.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_config(TrainConfig(steps=20, budgets=(1.0, 0.5)), f"{folder}/config.toml")
        ...     print(Path(folder, "config.toml").read_text(), end="")
        steps = 20
        budgets = [1.0, 0.5]
    """
    write_file(Path(path), "\n".join(_lines(difference(config), "")).lstrip("\n") + "\n")


def difference(config: Any) -> dict[str, Any]:
    """Fields of a dataclass that are not as by default, as plain values."""
    told = {}
    for field in fields(config):
        value = getattr(config, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if (field.default_factory is MISSING and field.default is MISSING) or value != default:
            told[field.name] = plain(value)
    return told


def plain(value: Any) -> Any:
    """Dataclasses as dictionaries of their differences, tuples as lists."""
    if is_dataclass(value):
        return difference(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _lines(values: Mapping[str, Any], where: str) -> list[str]:
    """TOML: first the values, then tables, then lists of tables."""
    lines, tables = [], []
    for key, value in values.items():
        name = key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _text(key)
        path = f"{where}.{name}" if where else name
        if isinstance(value, dict):
            tables += ["", f"[{path}]", *_lines(value, path)]
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for item in value:
                tables += ["", f"[[{path}]]", *_lines(item, path)]
        else:
            lines.append(f"{name} = {_value(value, path)}")
    return lines + tables


def _value(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if isfinite(value) else str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return f"[{', '.join(_value(item, where) for item in value)}]"
    raise InputError(f"Expected '{where}' as a value that TOML knows (got {value!r}).")


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
