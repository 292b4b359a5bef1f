"""From a config file to a trained and measured model: data by name, the model, the loop, results in a folder.

tokred train config.toml train.seed=1 --out runs/one      tokred evaluate runs/one
"""

import csv
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from hashlib import file_digest
from itertools import islice, product
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tokred_sci.datasets.loader import TokenLoader
from tokred_sci.errors import InputError, TokredError
from tokred_sci.experiment import Model
from tokred_sci.models.heads import ForecastWindow
from tokred_sci.models.ridge import solve_line
from tokred_sci.pieces import PARTS
from tokred_sci.prepare import Prepared, RunConfig, filled_as, prepare
from tokred_sci.tokens import Tokens
from tokred_sci.training import costs, hooks
from tokred_sci.training.checkpoint import list_checkpoints, require_same, write_file
from tokred_sci.training.config import difference, read_config, write_config
from tokred_sci.training.loop import fit
from tokred_sci.training.metrics import collect
from tokred_sci.training.processes import Processes

PRICED = 256  # records that costs are measured on
SOLVED = 1024  # records at a time, where the linear map is solved
FREE = ("valid", "test", "most", "stride", "workers", "bucket", "blocks")  # they move no record between parts
SHORT = {"seed": ("train.seed", "model.seed")}


def run(config: RunConfig, folder: str | Path, allow: tuple[str, ...] = (), progress: bool = True) -> dict[str, Any]:
    """Train, measure on every record of the validation and test parts, and leave all of it in a folder.

    Law: called again after it was stopped or killed, it goes on where it was; a finished run is measured again only.

    Args:
        config: what to do.
        folder: for the results; see `tokred_sci.training.loop.fit`.
        allow: what may differ from the run that is resumed: "config", "code", "data".
        progress: show a bar.

    Returns:
        what `metrics.json` says: "valid" and "test" by metric, and "costs" of a test record (or valid) in "tokens",
        "seconds" and "flops", see `tokred_sci.training.costs.Cost`; with "@BUDGET" where `train.budgets` are set.

    Raises:
        InputError: a config that does not fit the data, or is not that of the run in the folder.
        TokredError: as of what reads the data, and of `fit`.

    Example:
        >>> import tempfile
        >>> from tokred_sci.experiment import ModelConfig
        >>> from tokred_sci.prepare import DataConfig
        >>> from tokred_sci.training.config import TrainConfig
        >>> model = ModelConfig("series", {"patch": 32}, dim=8, depth=1, heads=2)
        >>> config = RunConfig(DataConfig("sample:series", most=16), model, TrainConfig(steps=4, batch=4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     told = run(config, folder, progress=False)
        ...     told["steps"], sorted(told["test"])
        (4, ['accuracy', 'macro_f1', 'mcc', 'micro_f1', 'miou'])
    """
    folder = Path(folder)
    saved = folder / "config.toml"
    first = Processes.here().first
    files = _digests(config)
    prepared = prepare(config)
    config = prepared.config
    if saved.exists():
        _require_same_config(read_config(RunConfig, saved), config, allow)
    unsaved = first and ("config" in allow or not saved.exists())

    def save_config(*_: object) -> None:
        """Once the folder is this run's, and nothing in it was refused."""
        nonlocal unsaved
        if unsaved:
            write_config(config, saved)
            unsaved = False

    model = Model(config.model)
    if config.init and not list_checkpoints(folder / "checkpoints"):
        load_fitting(model, config.init)
    if config.closed_form:
        _solve(prepared, model)
    data = config.data
    loader = TokenLoader(
        prepared.stores["train"],
        config.train.batch,
        True,
        data.bucket,
        config.train.seed,
        data.workers,
        blocks=data.blocks,
    )
    evaluate_valid = partial(_measure, prepared, "valid") if "valid" in prepared.stores else None
    about = {"run": {key: value for key, value in difference(config).items() if key not in ("model", "train")}}
    digests = {part: store.generation for part, store in prepared.stores.items() if part != "train"}
    fit(
        model,
        prepared.task.loss,
        loader,
        config.train,
        folder,
        evaluate_valid,
        allow,
        progress,
        about,
        on_step=save_config,
        data=digests,
    )
    save_config()  # no step was left
    if not first:
        return {}
    told = json.loads((folder / "metrics.json").read_text())
    parts = [part for part in prepared.stores if part != "train"]
    told |= {part: _measure(prepared, part, model) for part in parts}
    if parts:
        last = "test" if "test" in parts else "valid"
        told["costs"] = _price(prepared, last, model)
        _draw(folder / "budgets.png", {**told[last], **told["costs"]}, config)
    told |= {"files": files}
    write_file(folder / "metrics.json", json.dumps({**told, "finished": True}, indent=1) + "\n")
    return told


def evaluate(folder: str | Path, settings: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Measure the model of a finished run once more, on every record of its validation and test parts.

    Args:
        folder: of the run.
        settings: "key=value" each, what to do otherwise: "data.test=genome/NC_000932" is another test part.

    Raises:
        FileError: the folder holds no config.
        InputError: it holds no whole model, a setting is none, it would move records between parts, so that some that
            were trained on were measured, or is one of the model, which is there already.
    """
    trained = read_config(RunConfig, Path(folder) / "config.toml")
    config = read_config(RunConfig, Path(folder) / "config.toml", settings)
    if config.model != trained.model:
        raise InputError(f"Expected no settings of 'model' (got {', '.join(settings)}): the model is trained already.")
    moved = replace(config.data, **{name: getattr(trained.data, name) for name in FREE}) != trained.data
    if moved or any(getattr(trained.data, part) and not getattr(config.data, part) for part in PARTS[1:]):
        raise InputError(
            f"Expected settings that leave each record in its part, of 'data' only {', '.join(FREE)} (got "
            f"{', '.join(settings)}): records that were trained on might be measured. Name others by 'data.test'."
        )
    model = Model.from_pretrained(Path(folder) / "model").to(Processes.here().device)
    prepared = prepare(config)
    return {part: _measure(prepared, part, model) for part in prepared.stores if part != "train"}


def sweep(
    path: str | Path,
    settings: Sequence[str],
    folder: str | Path,
    progress: bool = True,
    allow: tuple[str, ...] = (),
) -> list[dict[str, Any]]:
    """All combinations of settings, one run each; finished ones are not run again, begun ones go on.

    Law: no row holds the numbers of another config, or of files that have changed: where a run of such is in the way,
    nothing is run or written, unless that is allowed.

    Args:
        path: the config they share.
        settings: "key=a,b,c" each; "seed" is that of weights and of training alike.
        folder: each run gets a folder of its own in it, and all together `sweep.csv`.
        progress: show a bar.
        allow: what may differ from runs that are there: "config", "code", "data".

    Returns:
        the rows of the table: settings, metrics, and what went wrong where a run failed.

    Raises:
        InputError: a setting that is none, two runs that would share a folder, or a run of another config in one.
    """
    folder, names, choices = Path(folder), [], []
    for text in settings:
        name, equals, values = text.partition("=")
        if not equals:
            raise InputError(f"Expected key=value,value (got {text!r}).")
        names.append(name)
        choices.append(split_values(values))
    begun: dict[Path, tuple[dict[str, Any], RunConfig]] = {}
    for chosen in product(*choices):
        row: dict[str, Any] = dict(zip(names, chosen, strict=True))
        place = folder / "_".join(f"{name}={value}" for name, value in row.items()).replace("/", "-").replace(" ", "")
        keys = [(key, value) for name, value in row.items() for key in SHORT.get(name, (name,))]
        config = read_config(RunConfig, path, [f"{key}={value}" for key, value in keys])
        if place in begun:
            raise InputError(f"Expected a folder for each run (got {place} for two): name their values differently.")
        _finished(place, config, allow)
        begun[place] = row, config
    rows: list[dict[str, Any]] = []
    for place, (row, config) in begun.items():
        try:
            told = _finished(place, config, allow) or run(config, place, allow, progress)
            row |= {f"{part}_{name}": value for part in PARTS[1:] for name, value in told.get(part, {}).items()}
        except TokredError as error:
            row["error"] = str(error)
        rows.append(row)
        _write_table(folder / "sweep.csv", rows)
    return rows


def split_values(text: str) -> list[str]:
    """Parts between commas, but not between those inside brackets.

    Example:
        >>> split_values("links,[1.0, 0.5],0")
        ['links', '[1.0, 0.5]', '0']
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _finished(folder: Path, config: RunConfig, allow: tuple[str, ...]) -> dict[str, Any] | None:
    """What the finished run of this config said; None where there is none."""
    if not (folder / "config.toml").exists():
        return None
    saved = read_config(RunConfig, folder / "config.toml")
    now = filled_as(config, saved)
    _require_same_config(saved, now, allow)
    try:
        told = json.loads((folder / "metrics.json").read_text())
    except (OSError, ValueError):
        return None
    if not told.get("finished"):
        return None
    files = told.get("files", {})
    changed = {name: digest for name, digest in _digests(config).items() if files.get(name, digest) != digest}
    require_same({"data": {name: files[name] for name in changed}}, {"data": changed}, allow)
    return told if now == saved and not changed else None


def _digests(config: RunConfig) -> dict[str, str]:
    """Of the files that a config names for data. Public sets have theirs beside them, token stores generations."""
    digests = {}
    for name in (config.data.source, config.data.valid, config.data.test):
        if Path(name).is_file():
            with open(name, "rb") as stream:
                digests[name] = file_digest(stream, "sha256").hexdigest()[:12]
    return digests


def _require_same_config(saved: RunConfig, now: RunConfig, allow: tuple[str, ...]) -> None:
    require_same({"config": difference(saved)}, {"config": difference(now)}, allow)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    if Processes.here().first:
        content = io.StringIO()
        columns = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(content, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_file(path, content.getvalue())


def _solve(prepared: Prepared, model: Model) -> None:
    """The linear map of a forecast, from all windows; begun again after a stop, it is the same."""
    if "valid" not in prepared.stores:
        raise InputError("Expected a validation part with 'closed_form' (got none): its penalty is chosen there.")
    assert isinstance(model.head, ForecastWindow)
    solve_line(model.head, _windows(prepared, "train"), _windows(prepared, "valid"))


def _windows(prepared: Prepared, part: str) -> Iterator[tuple[Tokens, Tensor]]:
    for batch in TokenLoader(prepared.stores[part], SOLVED, shuffle=False):
        assert batch.labels is not None
        yield batch.tokens, batch.labels


def _measure(prepared: Prepared, part: str, model: nn.Module) -> dict[str, float]:
    """Scores on every record of a part, in order, at every budget."""
    config = prepared.config
    loader = TokenLoader(prepared.stores[part], config.train.batch, shuffle=False)

    def score() -> dict[str, float]:
        return prepared.task.score(*collect(model, loader, prepared.task.answer, config.train.seed))

    return _at_budgets(model, config.train.budgets, score)


def _price(prepared: Prepared, part: str, model: nn.Module) -> dict[str, float]:
    """What an answer costs at every budget, on the first records of a part."""
    config = prepared.config
    loader = TokenLoader(prepared.stores[part], config.train.batch, shuffle=False)
    device = next(model.parameters()).device
    batches = [batch.to(device) for batch in islice(loader, max(1, PRICED // config.train.batch))]
    return _at_budgets(
        model, config.train.budgets, lambda: costs.measure(model, batches, prepared.task.answer)._asdict()
    )


def _at_budgets(
    model: nn.Module, budgets: tuple[float, ...], numbers: Callable[[], Mapping[str, float]]
) -> dict[str, float]:
    """Numbers by name, or by name@budget where there are budgets."""
    found: dict[str, float] = {}
    for share in budgets or (None,):
        with nullcontext() if share is None else hooks.at_budget(model, share):
            found |= {name if share is None else f"{name}@{share:g}": value for name, value in numbers().items()}
    return found


def _draw(path: Path, numbers: Mapping[str, float], config: RunConfig) -> None:
    """The score against its cost, where there are several budgets."""
    if len(config.train.budgets) < 2:
        return
    metric = next(name for name in ("mcc", "mse") if f"{name}@{config.train.budgets[0]:g}" in numbers)
    picture = io.BytesIO()
    costs.draw_budgets({config.data.source: numbers}, metric).savefig(picture, format="png")
    write_file(path, picture.getvalue())


def load_fitting(model: Model, folder: str | Path) -> list[str]:
    """Weights of a saved model, or of a run's, where name and shape are the same; names what stays as it was.

    Raises:
        InputError: no model there, or none that has anything in common with this one.
    """
    folder = Path(folder)
    given = Model.from_pretrained(folder / "model" if (folder / "model").is_dir() else folder)
    mine, theirs = model.state_dict(), given.state_dict()
    fits = {name: value for name, value in theirs.items() if name in mine and mine[name].shape == value.shape}
    if not fits:
        raise InputError(f"Expected a model in {folder} that has weights in common with this one (got none that fit).")
    model.load_state_dict({**mine, **fits})
    left = [name for name in mine if name not in fits]
    unused = ", ".join(name for name in theirs if name not in fits) or "none"
    _say(f"{len(fits)} of {len(mine)} weights from {folder}; new: {', '.join(left) or 'none'}; not used: {unused}.")
    if model.tokenizer.fingerprint != given.tokenizer.fingerprint:
        _say(f"The model in {folder} was trained on tokens of another tokenizer: {given.tokenizer!r}.")
    return left


def _say(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=3)
