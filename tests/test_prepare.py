"""What a config asks of clouds: points drawn from them, heat signatures as channels, a group held out."""

from dataclasses import replace

import numpy as np
import pytest

from tokred_sci.datasets.records import Records
from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig
from tokred_sci.pieces import with_heat
from tokred_sci.prepare import DataConfig, RunConfig, prepare
from tokred_sci.tokenizers.heat import heat_signatures
from tokred_sci.tokenizers.heights import heights

pytest.importorskip("robust_laplacian")
MODEL = ModelConfig("points", {"tokens": 8, "neighbours": 60, "method": "curve"}, dim=8, depth=1, heads=2)
CONFIG = RunConfig(DataConfig("somewhere"), MODEL)


@pytest.fixture(autouse=True)
def _clouds(monkeypatch, tmp_path):
    """Twelve clouds of four sites; labels of points say how high they are."""
    random = np.random.default_rng(0)
    clouds = [random.normal(size=(50, 3)) for _ in range(12)]
    labels = [(cloud[:, 2] > 0).astype(np.int64) for cloud in clouds]
    names = tuple(f"site {place % 4}" for place in range(12))
    records = Records("points", clouds, labels, names, ("low", "high"), names)
    whole = replace(records, labels=[place % 2 for place in range(12)], groups=())
    monkeypatch.setattr("tokred_sci.prepare._read_parts", lambda c: {"train": records if c.data.hold else whole})
    monkeypatch.setenv("TOKRED_DATA_HOME", str(tmp_path))


def make(head: str = "classify", **data) -> RunConfig:
    return RunConfig(DataConfig("somewhere", **data), replace(MODEL, head=head))


def clouds_of(prepared, part: str) -> list[np.ndarray]:
    tokenizer, store = Model(prepared.config.model).tokenizer, prepared.stores[part]
    return [tokenizer.detokenize(store.entries([row])[0].tokens).numpy() for row in range(len(store))]


def test_heat_becomes_channels_behind_the_coordinates_and_before_places():
    prepared = prepare(make(heat=4, places=True))
    assert prepared.config.model.tokenizer["channels"] == 3 + 4 + 3
    for cloud in clouds_of(prepared, "train"):
        np.testing.assert_allclose(cloud[:, 3:7], heat_signatures(cloud, 4), atol=1e-3)
        np.testing.assert_allclose(cloud[:, :7], with_heat(cloud[:, :3], 4), atol=1e-3)
        np.testing.assert_allclose(cloud[:, 7:], cloud[:, :3] - cloud[:, :3].mean(0), atol=1e-5)


def test_heights_become_channels_before_clouds_are_cut():
    whole = prepare(make("per-element", heights=(2.0, 9.0), hold="site 1"))
    pieces = prepare(make("per-element", heights=(2.0, 9.0), hold="site 1", length=25))
    assert pieces.config.model.tokenizer["channels"] == 3 + 6
    found = np.concatenate(clouds_of(pieces, "test"))
    expected = np.concatenate([np.concatenate([c[:, :3], with_heights(c)], 1) for c in clouds_of(whole, "test")])
    order = [rows[:, :3].round(3).T[::-1] for rows in (found, expected)]
    np.testing.assert_allclose(found[np.lexsort(order[0])], expected[np.lexsort(order[1])], atol=1e-3)


def with_heights(cloud: np.ndarray) -> np.ndarray:
    return np.arcsinh(heights(cloud, (2.0, 9.0)))


def test_heat_is_computed_once_and_again_where_what_was_kept_is_damaged(monkeypatch, tmp_path):
    prepared = prepare(make(heat=3))
    first, kept = clouds_of(prepared, "test"), sorted((tmp_path / "heat").iterdir())
    assert len(kept) == len(prepared.stores) > 1
    with monkeypatch.context() as patch:
        patch.setattr("tokred_sci.pieces.heat_signatures", lambda *given: pytest.fail("computed once more"))
        np.testing.assert_array_equal(clouds_of(prepare(make(heat=3)), "test"), first)
    for path in kept:
        path.write_bytes(path.read_bytes()[:-40])
    np.testing.assert_array_equal(clouds_of(prepare(make(heat=3)), "test"), first)


def test_points_are_drawn_anew_for_training_and_once_for_the_other_parts():
    whole, drawn = prepare(make()), prepare(make(draw=20, draws=3))
    for part in whole.stores:
        before, after = clouds_of(whole, part), clouds_of(drawn, part)
        times = 3 if part == "train" else 1
        assert len(after) == times * len(before) and {len(cloud) for cloud in after} == {20}
        for place, cloud in enumerate(after):
            near = np.abs(before[place // times][None] - cloud[:, None]).max(2).min(1)
            assert near.max() < 1e-5
    train = clouds_of(drawn, "train")
    assert not np.array_equal(train[0], train[1])
    np.testing.assert_array_equal(train, clouds_of(prepare(make(draw=20, draws=3)), "train"))
    assert len(clouds_of(prepare(make(draw=99)), "test")[0]) == 50


def test_labels_of_points_are_drawn_with_them_and_a_held_group_is_the_test_part():
    prepared = prepare(make("per-element", draw=20, hold="site 1"))
    assert len(prepared.stores["test"]) == 3 and len(prepared.stores["train"]) + len(prepared.stores["valid"]) == 9
    held = prepared.stores["test"].entries([0, 1, 2])
    for entry, cloud in zip(held, clouds_of(prepared, "test"), strict=True):
        np.testing.assert_array_equal(entry.targets, cloud[:, 2] > 0)


def test_one_kind_of_records_alone():
    prepared, clouds = prepare(make(only="site 1")), [c for p in ("train", "valid", "test") for c in clouds_of_all(p)]
    found = [cloud for part in prepared.stores for cloud in clouds_of(prepared, part)]
    assert len(found) == 3 and len(clouds) == 12
    assert sum(any(np.abs(one - other).max() < 1e-5 for other in clouds) for one in found) == 3


def clouds_of_all(part: str) -> list[np.ndarray]:
    prepared = prepare(make())
    return clouds_of(prepared, part) if part in prepared.stores else []


def test_made_clouds_are_drawn_from_and_get_channels_too():
    data = DataConfig("sample:points", length=60, most=8)
    plain = prepare(RunConfig(data, MODEL)).config.model.tokenizer["channels"]
    config = RunConfig(replace(data, draw=40, heat=2, places=True), MODEL)
    assert {cloud.shape for cloud in clouds_of(prepare(config), "train")} == {(40, plain + 2 + 3)}


def test_where_heat_cannot_be_kept_it_is_computed_each_time(tmp_path):
    (tmp_path / "heat").write_text("a file where the folder should be")
    assert len(prepare(make(heat=2)).stores["train"]) > 0


WRONG = {
    "heat of a series": (dict(heat=2), "series", "'data.heat' with points"),
    "drawn from DNA": (dict(draw=2), "dna", "'data.draw' with points"),
    "less than no heat": (dict(heat=-1), "points", "'data.heat' >= 0"),
    "no points": (dict(draw=0), "points", "'data.draw' >= 1"),
    "heights of a series": (dict(heights=(2.0,)), "series", "'data.heights' with points"),
    "no draws": (dict(draw=5, draws=0), "points", "'data.draws' >= 1"),
    "draws of nothing": (dict(draws=2), "points", "'data.draws' >= 1"),
    "no such name": (dict(only="Fish/"), "points", "the start of records' names"),
    "no such group": (dict(hold="site 9"), "points", "one of several groups"),
}


MADE = {
    "held of a sample": dict(source="sample:points", hold="site 1"),
    "held beside a test part": dict(source="somewhere", test="elsewhere", hold="site 1"),
    "one kind of a sample": dict(source="sample:points", only="site 1"),
}


@pytest.mark.parametrize("name", MADE)
def test_records_are_not_chosen_where_parts_are_made_or_named_refused(name):
    with pytest.raises(InputError, match=r"'data\.only' and 'data\.hold' with a public set"):
        prepare(RunConfig(DataConfig(**MADE[name]), MODEL))


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_asked_is_refused(name):
    data, domain, told = WRONG[name]
    with pytest.raises(InputError, match=told):
        prepare(RunConfig(DataConfig("somewhere", **data), ModelConfig(domain)))
