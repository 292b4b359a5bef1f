"""A config holds the difference, comes back as it was, and says what is wrong with it."""

from dataclasses import dataclass, field

import pytest

from tokred_sci.errors import FileError, InputError
from tokred_sci.experiment import ModelConfig, Reduce
from tokred_sci.prepare import DataConfig, RunConfig
from tokred_sci.training.config import TrainConfig, read_config, write_config

RUN = RunConfig(
    DataConfig("sample:dna", options={"label": 'a "quoted" \\ name\n'}, length=512),
    ModelConfig("dna", {"patch": 8, "scheme": "kmer"}, reduce=(Reduce(1, "links", 0.5), Reduce(2, "peaks", 8))),
    TrainConfig(steps=7, ema=0.99, spike=float("inf"), budgets=(1.0, 0.5), precision="bf16"),
)


def test_what_was_written_comes_back(tmp_path):
    write_config(RUN, tmp_path / "config.toml")
    assert read_config(RunConfig, tmp_path / "config.toml") == RUN
    text = (tmp_path / "config.toml").read_text()
    assert "steps = 7" in text and "learning_rate" not in text and "[[model.reduce]]" in text


def test_overrides_reach_into_tables_and_lists(tmp_path):
    write_config(RUN, tmp_path / "config.toml")
    changes = ["train.steps=9", "model.reduce.1.keep=0.25", "data.source=sample:series", "model.tokenizer.patch=4"]
    config = read_config(RunConfig, tmp_path / "config.toml", changes)
    assert (config.train.steps, config.model.reduce[1].keep, config.data.source) == (9, 0.25, "sample:series")
    assert config.model.tokenizer == {"patch": 4, "scheme": "kmer"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.step=3", r"'train.step'\): did you mean 'steps'"),
        ("modell.dim=3", "did you mean 'model'"),
        ("train.steps=many", r"'train.steps' as int \(got 'many'\)"),
        ("train.steps=1.5", "'train.steps' as int"),
        ("train.steps=true", "'train.steps' as int"),
        ("train.steps=0", "'steps' in"),
        ("train.learning_rate=[1]", "'train.learning_rate' as float"),
        ("train.precision=fp8", "'fp32' or 'bf16' or 'fp16'"),
        ("train.budgets=[0.5, 2.0]", "'budgets' as shares"),
        ("train.budgets=[0.5, 'x']", "'train.budgets.1' as float"),
        ("train.ema=big", "'train.ema' as float or none"),
        ("train=3", "'train' as a table"),
        ("train.steps.deep=3", "key"),
        ("model.reduce.5.keep=3", "a number below 2"),
        ("nonsense", "key=value"),
    ],
)
def test_bad_settings_are_refused(tmp_path, change, message):
    write_config(RUN, tmp_path / "config.toml")
    with pytest.raises(InputError, match=message):
        read_config(RunConfig, tmp_path / "config.toml", [change])


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(FileError, match="a TOML file"):
        read_config(TrainConfig, tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(FileError, match="a TOML file"):
        read_config(TrainConfig, tmp_path / "bad.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(FileError, match="a TOML file"):
        read_config(TrainConfig, tmp_path / "bytes.toml")
    with pytest.raises(InputError, match=r"'data\.source' to be set"):
        read_config(RunConfig, None, ["data.length=3"])


def test_a_value_that_toml_does_not_know_is_refused(tmp_path):
    @dataclass(frozen=True)
    class Odd:
        name: str | None = "x"
        more: dict = field(default_factory=dict)

    with pytest.raises(InputError, match="'name' as a value that TOML knows"):
        write_config(Odd(None), tmp_path / "odd.toml")
