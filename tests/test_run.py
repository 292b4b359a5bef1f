"""Every task on its sample, from a config file to a measured model; resumed, fine-tuned, swept, measured again."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.store import write_tokens
from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.prepare import DataConfig, RunConfig, prepare
from tokred_sci.run import evaluate, load_fitting, run, sweep
from tokred_sci.training.checkpoint import CheckpointWarning
from tokred_sci.training.config import TrainConfig, read_config, write_config
from tokred_sci.training.guard import alone_in
from tokred_sci.training.processes import Processes

TINY = dict(dim=16, depth=2, heads=2, reduce=(Reduce(0, "links", 0.5),))
TRAIN = TrainConfig(steps=4, batch=4, warm_up=1, budgets=(1.0, 0.5), learning_rate=5e-3)
POINTS = {"tokens": 16, "neighbours": 16, "method": "curve"}
TASKS = {
    "dna: classify": ("sample:dna", {"patch": 32}, "classify", {"length": 1024}, "mcc"),
    "dna: per-element": ("sample:dna", {"patch": 16}, "per-element", {"length": 512}, "macro_f1"),
    "dna: reconstruct": ("sample:dna", {"patch": 16, "compact": True}, "reconstruct", {"length": 512}, "accuracy"),
    "points: classify": ("sample:points", POINTS, "classify", {}, "accuracy"),
    "points: per-element": ("sample:points", POINTS, "per-element", {"length": 256}, "miou"),
    "points: reconstruct": ("sample:points", POINTS, "reconstruct", {"length": 256}, "mse"),
    "series: classify": ("sample:series", {"patch": 32}, "classify", {}, "macro_f1"),
    "series: per-element": ("sample:series", {"patch": 16}, "per-element", {}, "miou"),
    "series: reconstruct": ("sample:series", {"patch": 16}, "reconstruct", {"length": 256}, "mae"),
    "series: forecast": ("sample:series", {"patch": 16}, "forecast", {"context": 128, "stride": 256}, "mae_in_units"),
}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("tokred_sci.training.loop.draw_curves", lambda *drawn: b"")


def make(name: str, **model) -> RunConfig:
    source, tokenizer, head, data, _ = TASKS[name]
    outputs = 16 if head == "forecast" else 2
    config = ModelConfig(source[7:], tokenizer, head, outputs, **{**TINY, **model})
    return RunConfig(DataConfig(source, most=12, **data), config, TRAIN)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_trains_on_its_sample(tmp_path, name):
    told = run(make(name), tmp_path, progress=False)
    metric = TASKS[name][-1]
    assert {f"{metric}@1", f"{metric}@0.5"} <= set(told["test"])
    assert told["metrics"] == told["valid"] and all(np.isfinite(list(told["test"].values())))
    costs = told["costs"]
    assert costs.keys() == {f"{cost}@{share}" for cost in ("tokens", "seconds", "flops") for share in ("1", "0.5")}
    assert 0 < costs["tokens@0.5"] < costs["tokens@1"] and 0 < costs["flops@0.5"] < costs["flops@1"]
    names = {"metrics.json", "config.toml", "log.csv", "curves.png", "budgets.png", "model", "checkpoints"}
    assert names <= {path.name for path in tmp_path.iterdir()}


def test_a_model_with_one_budget_has_one_cost_and_no_picture_of_many(tmp_path):
    config = replace(make("series: classify"), train=replace(TRAIN, budgets=()))
    told = run(config, tmp_path, progress=False)
    assert told["costs"].keys() == {"tokens", "seconds", "flops"} and not (tmp_path / "budgets.png").exists()
    assert json.loads((tmp_path / "metrics.json").read_text())["costs"] == told["costs"]


def test_a_line_in_closed_form_is_not_trained_and_goes_on_after_a_stop(tmp_path):
    config = replace(make("series: forecast", context=128), closed_form=True)
    whole = run(config, tmp_path / "a", progress=False)
    half = replace(config, train=replace(TRAIN, steps=2))
    run(half, tmp_path / "b", progress=False)
    begun = Model.from_pretrained(tmp_path / "b" / "model")
    line = begun.head.line.weight
    assert line.sum(1).allclose(torch.ones(16), atol=1e-4)  # a constant added to the past is added to the future
    on = run(config, tmp_path / "b", allow=("config",), progress=False)
    ended = Model.from_pretrained(tmp_path / "b" / "model")
    assert torch.equal(ended.head.line.weight, line) and not torch.equal(ended.head.out.weight, begun.head.out.weight)
    assert set(on["test"]) == set(whole["test"]) and on["steps"] == 4


def test_a_closed_form_of_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"Expected 'closed_form' with 'model\.context'"):
        run(replace(make("series: forecast"), closed_form=True), tmp_path, progress=False)


@pytest.mark.parametrize("name", ["dna: classify", "points: per-element", "series: forecast"])
def test_the_plain_baseline_trains_in_the_same_loop(tmp_path, name):
    config = replace(make(name, plain=True, reduce=()), train=replace(TRAIN, budgets=()))
    assert np.isfinite(list(run(config, tmp_path, progress=False)["test"].values())).all()
    assert Model.from_pretrained(tmp_path / "model").config.plain


def test_clouds_are_turned_where_points_are_classified_else_refused(tmp_path):
    config = replace(make("points: per-element"), turn=True)
    assert 0 <= run(config, tmp_path, progress=False)["test"]["accuracy@1"] <= 1
    with pytest.raises(InputError, match="'turn' where the task is to classify points"):
        prepare(replace(make("dna: classify"), turn=True))


def test_clouds_get_their_places_as_channels(tmp_path):
    config = make("points: per-element")
    placed = prepare(replace(config, data=replace(config.data, places=True)))
    assert placed.config.model.tokenizer["channels"] == prepare(config).config.model.tokenizer["channels"] + 3
    tokenizer = Model(placed.config.model).tokenizer
    slots = placed.stores["train"].entries([0])[0].tokens.features.unflatten(2, (tokenizer.neighbours, -1))[0]
    held = slots[..., 0] > 0
    inside = slots[..., -3:] - slots[..., 1:4]  # a point's place less its offset is its token's place
    assert all(float(one[some].std(0).max()) < 1e-2 for one, some in zip(inside, held, strict=True))
    for other in (replace(config, turn=True), make("dna: classify")):
        with pytest.raises(InputError, match=r"without places|'data.places' with points"):
            prepare(replace(other, data=replace(other.data, places=True)))


def test_tensorboard_shows_what_the_log_says(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run(make("series: classify"), tmp_path, progress=False)
    board = events.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    with (tmp_path / "log.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {"loss", "learning_rate", "grad_norm", "tokens_per_second", "kept_0", "largest_0"} <= set(
        board.Tags()["scalars"]
    )
    for name in ("loss", "kept_0"):
        shown = [(one.step, one.value) for one in board.Scalars(name)]
        assert shown == [(int(row["batch"]), pytest.approx(float(row[name]))) for row in rows]


def test_learned_groups_train_at_every_budget(tmp_path):
    config = make("series: classify", reduce=(Reduce(0, "soft", 0.5), Reduce(1, "links", 8)))
    before = Model(prepare(config).config.model).encoder.blocks[0].learned.state_dict()
    told = run(config, tmp_path, progress=False)
    after = Model.from_pretrained(tmp_path / "model").encoder.blocks[0].learned.state_dict()
    assert "mcc@0.5" in told["test"] and any(not before[name].equal(after[name]) for name in before)


def test_a_run_is_measured_again_and_resumed_and_another_config_is_refused(tmp_path):
    config = make("series: classify")
    told = run(config, tmp_path, progress=False)
    again = evaluate(tmp_path)
    assert again == {"valid": told["valid"], "test": told["test"]}
    read = read_config(RunConfig, tmp_path / "config.toml")
    assert read == prepare(config).config and read.model.outputs == 7 and read.model.tokenizer["in_channels"] == 6
    assert run(config, tmp_path, progress=False)["test"] == told["test"]
    other = replace(config, data=replace(config.data, most=10))
    with pytest.raises(InputError, match=r"\n  data.most: 12 -> 10\n"):
        run(other, tmp_path, progress=False)
    assert read_config(RunConfig, tmp_path / "config.toml") == read


def test_every_record_of_a_part_is_measured_in_order():
    prepared = prepare(make("series: classify"))
    assert [len(store) for store in prepared.stores.values()] == [12, 12, 12]
    groups = prepare(replace(make("series: classify"), data=DataConfig("sample:series"))).stores
    assert sum(map(len, groups.values())) == 140


def test_fine_tuning_loads_what_fits_and_says_what_does_not(tmp_path):
    first = make("dna: reconstruct")
    run(first, tmp_path / "first", progress=False)
    second = make("dna: per-element")
    second = replace(second, model=replace(second.model, tokenizer={"patch": 16, "compact": True}, outputs=3))
    model = Model(second.model)
    with pytest.warns(UserWarning, match="new: head.out.weight, head.out.bias; not used: "):
        left = load_fitting(model, tmp_path / "first")
    assert left == ["head.out.weight", "head.out.bias"]
    with pytest.warns(UserWarning, match="weights from"):
        told = run(replace(second, init=str(tmp_path / "first")), tmp_path / "second", progress=False)
    assert told["steps"] == 4
    with pytest.raises(InputError, match="none that fit"):
        load_fitting(Model(ModelConfig("series", dim=8, heads=2, depth=1)), tmp_path / "first")


def test_a_sweep_runs_all_once_and_writes_one_table(tmp_path, monkeypatch):
    write_config(make("series: classify"), tmp_path / "config.toml")
    rows = sweep(tmp_path / "config.toml", ["model.dim=8,9,16", "seed=0,1"], tmp_path / "out", progress=False)
    assert len(rows) == 6 and ["error" in row for row in rows] == [False, False, True, True, False, False]
    with (tmp_path / "out" / "sweep.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["seed"] for row in table] == ["0", "1"] * 3 and float(table[0]["test_accuracy@1"]) >= 0
    monkeypatch.setattr("tokred_sci.run.fit", lambda *a, **b: pytest.fail("it was finished"))
    again = sweep(tmp_path / "config.toml", ["model.dim=8,16", "seed=0,1"], tmp_path / "out", progress=False)
    assert again == [row for row in rows if "error" not in row]


@pytest.mark.parametrize("name", ["dna: per-element", "points: reconstruct", "series: forecast"])
def test_a_sweep_knows_a_finished_run_by_what_was_asked(tmp_path, monkeypatch, name):
    write_config(make(name), tmp_path / "config.toml")
    rows = sweep(tmp_path / "config.toml", ["seed=0"], tmp_path / "out", progress=False)
    monkeypatch.setattr("tokred_sci.run.prepare", lambda config: pytest.fail("it was finished"))
    assert sweep(tmp_path / "config.toml", ["seed=0"], tmp_path / "out", progress=False) == rows
    assert "error" not in rows[0]


def test_a_sweep_over_a_finished_run_of_another_config_is_refused_unless_allowed(tmp_path):
    config = make("series: classify")
    write_config(config, tmp_path / "config.toml")
    sweep(tmp_path / "config.toml", ["seed=0"], tmp_path / "out", progress=False)
    table = (tmp_path / "out" / "sweep.csv").read_bytes()
    write_config(replace(config, train=replace(TRAIN, steps=5)), tmp_path / "config.toml")
    with pytest.raises(InputError, match=r"\n  train.steps: 4 -> 5\n"):
        sweep(tmp_path / "config.toml", ["seed=1,0"], tmp_path / "out", progress=False)
    assert (tmp_path / "out" / "sweep.csv").read_bytes() == table and not (tmp_path / "out" / "seed=1").exists()
    rows = sweep(tmp_path / "config.toml", ["seed=0"], tmp_path / "out", progress=False, allow=("config",))
    assert "test_mcc@1" in rows[0]
    assert json.loads((tmp_path / "out" / "seed=0" / "metrics.json").read_text())["steps"] == 5


def test_runs_of_a_sweep_that_would_share_a_folder_are_refused(tmp_path):
    write_config(make("series: classify"), tmp_path / "config.toml")
    with pytest.raises(InputError, match="a folder for each run"):
        sweep(tmp_path / "config.toml", ["init=a/model,a-model"], tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_sweep_over_finished_runs_of_a_file_that_changed_is_refused_unless_allowed(tmp_path):
    write_genbank(tmp_path / "one.gb", 50, "AC")
    model = ModelConfig("dna", {"patch": 8}, "per-element", **TINY)
    config = RunConfig(DataConfig(str(tmp_path / "one.gb"), length=200), model, replace(TRAIN, budgets=()))
    write_config(config, tmp_path / "config.toml")
    rows = sweep(tmp_path / "config.toml", ["seed=0"], tmp_path / "out", progress=False)
    assert sweep(tmp_path / "config.toml", ["seed=0"], tmp_path / "out", progress=False) == rows
    before = json.loads((tmp_path / "out" / "seed=0" / "metrics.json").read_text())["files"]
    write_genbank(tmp_path / "one.gb", 50, "GT")
    with pytest.raises(InputError, match="the same data"):
        sweep(tmp_path / "config.toml", ["seed=0"], tmp_path / "out", progress=False)
    with pytest.warns(CheckpointWarning, match="a new epoch"):
        again = sweep(tmp_path / "config.toml", ["seed=0"], tmp_path / "out", progress=False, allow=("data",))
    digests = json.loads((tmp_path / "out" / "seed=0" / "metrics.json").read_text())["files"]
    assert "error" not in again[0] and digests != before and list(digests) == [str(tmp_path / "one.gb")]


def test_a_setting_that_would_measure_records_that_were_trained_on_is_refused(tmp_path):
    run(make("series: classify"), tmp_path, progress=False)
    for setting in ("data.seed=1", "data.hold=a", "data.only=a", "data.source=sample:dna", "data.length=5"):
        with pytest.raises(InputError, match="leave each record in its part"):
            evaluate(tmp_path, [setting])
    with pytest.raises(InputError, match="trained already"):
        evaluate(tmp_path, ["model.size_exponent=0"])
    assert evaluate(tmp_path, ["data.bucket=false", "train.batch=3"])


def test_another_config_is_kept_only_where_the_run_goes_on_else_refused(tmp_path):
    config = make("series: classify")
    run(config, tmp_path, progress=False)
    saved, longer = (tmp_path / "config.toml").read_text(), replace(config, train=replace(TRAIN, steps=6))
    with alone_in(tmp_path), pytest.raises(InputError, match="another process trains in it"):
        run(longer, tmp_path, allow=("config",), progress=False)
    with pytest.raises(InputError, match="to have the same data"):
        run(replace(longer, data=replace(config.data, most=10)), tmp_path, allow=("config",), progress=False)
    assert (tmp_path / "config.toml").read_text() == saved
    run(longer, tmp_path, allow=("config",), progress=False)
    assert read_config(RunConfig, tmp_path / "config.toml").train.steps == 6


def test_token_stores_and_files_are_trained_on(tmp_path):
    config = ModelConfig("dna", {"patch": 4}, **TINY)
    model = Model(config)
    words = [("AT" if label else "GC") * 20 for label in (0, 1) * 6]
    entries = [Entry(model.tokenize(word), place % 2) for place, word in enumerate(words)]
    for part in ("train", "test"):
        write_tokens(tmp_path / part, entries, model.tokenizer.fingerprint)
    data = DataConfig(str(tmp_path / "train"), test=str(tmp_path / "test"))
    told = run(RunConfig(data, config, replace(TRAIN, steps=20)), tmp_path / "run", progress=False)
    for refused in (dict(most=3), dict(length=8), dict(options={"a": 1})):
        with pytest.raises(InputError, match="tokens already"):
            prepare(RunConfig(replace(data, **refused), config, TRAIN))
    assert told["test"]["accuracy@1"] == 1 and told["valid"] if "valid" in told else told["metrics"] == {}
    fasta = tmp_path / "some.fa"
    fasta.write_text(">one\n" + "ACGT" * 60 + "\n")
    bases = replace(config, head="reconstruct", outputs=4)
    told = run(RunConfig(DataConfig(str(fasta), length=20), bases, TRAIN), tmp_path / "bases", progress=False)
    assert json.loads((tmp_path / "bases" / "metrics.json").read_text())["finished"]


def write_genbank(path: Path, stretches: int, inside: str) -> None:
    """Stretches of 40 letters, every other a feature: of these letters there, of the others outside."""
    random, outside = np.random.default_rng(stretches), "".join(sorted(set("ACGT") - set(inside)))
    letters = "".join("".join(random.choice(list(inside if i % 2 else outside), 40)) for i in range(stretches))
    features = [f"     CDS             {40 * i + 1}..{40 * i + 40}" for i in range(1, stretches, 2)]
    origin = [f"{i + 1:9d} {letters[i : i + 60].lower()}" for i in range(0, len(letters), 60)]
    head = [f"LOCUS       {path.stem}  {len(letters)} bp    DNA", "FEATURES             Location/Qualifiers"]
    path.write_text("\n".join([*head, *features, "ORIGIN", *origin, "//", ""]))


def test_another_file_is_the_test_part_and_measured_with_another_again(tmp_path):
    for name, stretches, inside in (("one", 50, "AC"), ("two", 25, "AC"), ("three", 25, "GT")):
        write_genbank(tmp_path / f"{name}.gb", stretches, inside)
    data = DataConfig(str(tmp_path / "one.gb"), test=str(tmp_path / "two.gb"), length=200)
    model = ModelConfig("dna", {"patch": 8}, "per-element", **TINY)
    config = RunConfig(data, model, replace(TRAIN, steps=40, budgets=()))
    counts = {part: len(store) for part, store in prepare(config).stores.items()}
    assert counts == {"train": 9, "valid": 1, "test": 5}
    told = run(config, tmp_path / "run", progress=False)
    assert evaluate(tmp_path / "run") == {"valid": told["valid"], "test": told["test"]}
    other = evaluate(tmp_path / "run", [f"data.test={tmp_path / 'three.gb'}"])
    assert other["valid"] == told["valid"] and other["test"]["accuracy"] < 0.2 < 0.8 < told["test"]["accuracy"]
    with pytest.raises(InputError, match="leave each record in its part"):
        evaluate(tmp_path / "run", ["data.test="])  # then a part of the training records would be it
    (tmp_path / "two.gb").write_bytes((tmp_path / "three.gb").read_bytes())
    with pytest.raises(InputError, match=r"the same data \(got\n  test: "):
        run(config, tmp_path / "run", progress=False)


def test_another_test_part_leaves_the_validation_part_as_it_was(tmp_path):
    random = np.random.default_rng(0)
    for name in ("one", "two"):
        reads = ["".join(random.choice(list("ACGT"), 100)) for _ in range(8)]
        (tmp_path / f"{name}.fq").write_text("".join(f"@{i}\n{read}\n+\n{'!5' * 50}\n" for i, read in enumerate(reads)))
    model = ModelConfig("dna", {"patch": 5}, "per-element", **TINY)
    config = RunConfig(DataConfig(str(tmp_path / "one.fq"), length=10), model, TRAIN)
    told = run(config, tmp_path / "run", progress=False)
    again = evaluate(tmp_path / "run", [f"data.test={tmp_path / 'two.fq'}"])
    assert again["valid"] == told["valid"]
    other = replace(config, data=replace(config.data, test=str(tmp_path / "two.fq")))
    assert prepare(other).stores["valid"].generation == prepare(config).stores["valid"].generation


def test_one_long_series_is_cut_in_time_and_each_step_of_a_part_is_foretold(tmp_path):
    path = tmp_path / "long.csv"
    steps = np.arange(400)
    path.write_text("a,b\n" + "".join(f"{np.sin(i / 5):.5f},{i % 7}.5\n" for i in steps))
    for channels, per in (("mix", 1), ("independent", 2)):
        model = ModelConfig("series", {"patch": 8, "channels": channels}, "forecast", 10, **TINY)
        config = RunConfig(DataConfig(str(path), context=40), model, TRAIN)
        prepared = prepare(config)
        counts = {part: len(store) for part, store in prepared.stores.items()}
        assert counts == {"train": (280 - 49) * per, "valid": (40 - 9) * per, "test": (80 - 9) * per}
    told = run(config, tmp_path / "run", progress=False)
    assert told["test"]["mae_in_units@1"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(data=DataConfig("sample:plants")), "'dna', 'points' or 'series'"),
        (dict(data=DataConfig("gue/tf9")), "did you mean 'gue/tf4'"),
        (dict(data=DataConfig("sample:points", length=128)), "model.domain = 'points'"),
        (dict(data=DataConfig("sample:dna", test="some.fa")), "no 'data.valid' or 'data.test' with sample:dna"),
        (dict(data=DataConfig("a.csv", valid="b"), model=make("series: forecast").model), "got 'b'"),
        (dict(train=replace(TRAIN, length_warm_up=3), model=make("series: forecast").model), "no 'length_warm_up'"),
        (dict(model=replace(make("series: forecast").model, domain="dna", tokenizer={})), "model.domain = 'series'"),
        (dict(data=DataConfig("a.csv", most=9), model=make("series: forecast").model), "no 'data.most' with forecasts"),
        (dict(data=DataConfig("sample:series", context=5000), model=make("series: forecast").model), "at least 5000"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        run(replace(make("dna: per-element"), **change), tmp_path / "run", progress=False)


def test_the_commands_train_measure_and_say_what_is_wrong(tmp_path, monkeypatch, capfd):
    from tokred_sci import cli

    def tokred(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["tokred", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capfd.readouterr()

    write_config(make("series: classify"), tmp_path / "config.toml")
    trained = tokred("train", tmp_path / "config.toml", "train.steps=3", "--out", tmp_path / "out")
    assert trained[0] == 0 and "test   mcc@0.5" in trained[1]
    code, out, _ = tokred("evaluate", tmp_path / "out")
    assert code == 0 and out.splitlines() == trained[1].splitlines()[:-1]
    code, _, error = tokred("train", tmp_path / "config.toml", "train.steps=4", "--out", tmp_path / "out")
    assert code == 1 and "train.steps: 3 -> 4" in error
    code, _, error = tokred("train", tmp_path / "config.toml", "train.stepz=4")
    assert code == 1 and "did you mean 'steps'" in error
    code, out, _ = tokred("sweep", tmp_path / "config.toml", "seed=0", "--out", tmp_path / "sweep")
    assert code == 0 and out.startswith("seed,valid_accuracy@1")


def test_of_many_processes_the_first_alone_tells(tmp_path, monkeypatch, capfd):
    from tokred_sci.cli import runs

    second = Processes(torch.device("cpu"), 1, 2)
    monkeypatch.setattr(Processes, "here", lambda: second)
    monkeypatch.setattr("tokred_sci.run.sweep", lambda *given, **more: [{"seed": "0"}])
    monkeypatch.setattr("tokred_sci.run.evaluate", lambda *given: {"test": {"mcc": 1.0}})
    runs.sweep(tmp_path / "config.toml", ["seed=0"], tmp_path)  # the first process may not have written the table yet
    runs.evaluate(tmp_path)
    assert capfd.readouterr().out == ""


def test_strands_are_read_where_dna_is_classified_else_refused(tmp_path):
    model = ModelConfig("dna", {"patch": 32}, **TINY)
    told = run(
        RunConfig(DataConfig("sample:dna", length=1024, most=16), model, TRAIN, strands=True), tmp_path, progress=False
    )
    assert 0 <= told["test"]["accuracy@1"] <= 1
    with pytest.raises(InputError, match="'strands' where the task is to classify dna"):
        prepare(RunConfig(DataConfig("sample:series"), ModelConfig("series", {"patch": 32}), strands=True))


def test_torchrun_with_two_processes_ends_where_one_does(tmp_path):
    config = RunConfig(DataConfig("sample:series", most=32), ModelConfig("series", {"patch": 32}, **TINY), TRAIN)
    write_config(config, tmp_path / "series.toml")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python"]
    command += [Path(sys.executable).with_name("tokred"), "train", tmp_path / "series.toml", "--out", tmp_path / "two"]
    subprocess.run(command, check=True, capture_output=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    one = run(config, tmp_path / "one", progress=False)
    assert two["finished"] and two["steps"] == one["steps"] == 4
    assert two["final_loss"] == pytest.approx(one["final_loss"], rel=1e-3)
