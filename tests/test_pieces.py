"""Labels of every part are classes of the training part: by name, whole numbers, and -1 where there is none."""

import numpy as np
import pytest

from tokred_sci.datasets.loader import IGNORE
from tokred_sci.datasets.records import Records
from tokred_sci.errors import InputError
from tokred_sci.experiment import ModelConfig
from tokred_sci.pieces import with_classes
from tokred_sci.prepare import DataConfig, RunConfig, prepare

TINY = dict(dim=8, depth=1, heads=2)


def write_table(path, letters: str):
    """A table of steps: a value, and a letter for a class ("?" = none)."""
    path.write_text("value,state\n" + "".join(f"{place % 5}.5,{letter}\n" for place, letter in enumerate(letters)))
    return str(path)


def write_ts(path, labels: list[str], header: str):
    lines = [f"{place}.5,2,3,{place % 3}:{label}" for place, label in enumerate(labels)]
    path.write_text("\n".join(["@timeStamps false", "@univariate true", header, "@data", *lines, ""]))
    return str(path)


def by_step(source: str, **data) -> RunConfig:
    data = DataConfig(source, options={"label": "state"}, length=4, **data)
    return RunConfig(data, ModelConfig("series", {"patch": 2}, "per-element", **TINY))


def by_record(source: str, **data) -> RunConfig:
    return RunConfig(DataConfig(source, **data), ModelConfig("series", {"patch": 2}, **TINY))


def targets_of(prepared, part: str) -> list[int]:
    store = prepared.stores[part]
    return [int(label) for entry in store.entries(range(len(store))) for label in entry.targets]


def test_classes_of_another_part_are_those_of_the_training_part_by_name(tmp_path):
    train, test = write_table(tmp_path / "a.csv", "abc" * 20), write_table(tmp_path / "b.csv", "bccb?")
    prepared = prepare(by_step(train, test=test))
    assert prepared.config.model.outputs == 3
    assert targets_of(prepared, "test") == [1, 2, 2, 1]  # the last piece has no label at all


def test_classes_in_another_order_are_matched_and_those_that_do_not_occur_may_be_unknown():
    train = Records("dna", ["A"] * 2, [0, 1], classes=("x", "y"))
    other = Records("dna", ["A"] * 3, [2, 0, -1], classes=("y", "z", "x"))
    found = with_classes(other, train, "b")
    assert [int(label) for label in found.labels] == [0, 1, -1] and found.classes == ("x", "y")


def test_classes_that_were_not_trained_on_are_refused(tmp_path):
    train, test = write_table(tmp_path / "a.csv", "ab" * 20), write_table(tmp_path / "b.csv", "bdc?")
    with pytest.raises(InputError, match=r"training part in .*b\.csv: a, b \(got c, d\)"):
        prepare(by_step(train, test=test))


def test_names_of_classes_beside_numbers_are_refused():
    named, numbered = Records("dna", ["A"], [0], classes=("x",)), Records("dna", ["A"], [0])
    for train, other in ((named, numbered), (numbered, named)):
        with pytest.raises(InputError, match="one number may mean two classes"):
            with_classes(other, train, "b")
    assert with_classes(Records("dna", ["A"]), named, "b").labels is None


def test_elements_without_a_label_are_not_asked_for(tmp_path):
    prepared = prepare(by_step(write_table(tmp_path / "a.csv", ("ab?b" * 3 + "????") * 10)))
    assert prepared.config.model.outputs == 2
    assert targets_of(prepared, "train")[:8] == [0, 1, IGNORE, 1] * 2
    found = [np.array(targets_of(prepared, part)).reshape(-1, 4) for part in ("train", "valid", "test")]
    assert all((rows != IGNORE).any(1).all() for rows in found) and sum(map(len, found)) == 30


@pytest.mark.parametrize("head", ["classify", "per-element"])
def test_parts_without_labels_are_refused(monkeypatch, head):
    labels = [place % 3 - 1 for place in range(12)] if head == "classify" else [np.full(4, -1)] * 12
    records = Records("series", [np.ones((1, 4))] * 12, labels, classes=("a", "b"))
    monkeypatch.setattr("tokred_sci.prepare._read_parts", lambda config: {"train": records, "test": records})
    config = RunConfig(DataConfig("somewhere"), ModelConfig("series", {"patch": 2}, head, **TINY))
    with pytest.raises(InputError, match=r"labels from 0 in somewhere .*\(got none for \d+ of \d+ records\)"):
        prepare(config)


def test_targets_that_are_numbers_are_refused_as_classes(tmp_path):
    path = write_ts(tmp_path / "a.ts", ["1", "2", "1.75", "2"] * 4, "@targetLabel true")
    with pytest.raises(InputError, match=r"whole numbers, one for each class, .*\(got 1\.75\)"):
        prepare(by_record(path))
    classes = write_ts(tmp_path / "b.ts", ["up", "down"] * 8, "@classLabel true down up")
    assert prepare(by_record(classes)).config.model.outputs == 2
