"""Case 43: a hostile model folder. Nothing in it is executed, and each is an error of ours that names the folder."""

import json
import pickle
import struct
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig
from tokred_sci.explore.pretrained import load_model


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def folder(tmp_path):
    Model(ModelConfig("dna", dim=16, depth=2, heads=2)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def put(folder, weights=None, **changes):
    """Other weights or settings, with the hash that fits them: as somebody who means it would do."""
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
    told = json.loads((folder / "config.json").read_text())
    digest = sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps({**told, "sha256": digest, **changes}))


def test_a_whole_model_is_read_and_answers(folder):
    model = load_model(folder)
    assert not model.training and model(model.tokenize("ACGT" * 20)).shape == (1, 2)


def test_a_pickle_is_refused_and_not_executed(folder, tmp_path):
    torch.save(Bomb(tmp_path / "mark"), tmp_path / "bomb.pt")
    for content in ((tmp_path / "bomb.pt").read_bytes(), pickle.dumps(Bomb(tmp_path / "mark")) + bytes(100_000)):
        put(folder, content)
        with pytest.raises(InputError, match=str(folder)):
            load_model(folder)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("length", [10**12, 2**63, 10**6, 0])
def test_a_header_that_lies_about_its_length_is_refused(folder, length):
    whole = (folder / "model.safetensors").read_bytes()
    put(folder, struct.pack("<Q", length) + whole[8:])
    with pytest.raises(InputError, match=str(folder)):
        load_model(folder)


def test_a_header_that_claims_terabytes_is_refused(folder):
    header = json.dumps({"head.out.weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}})
    put(folder, struct.pack("<Q", len(header)) + header.encode() + bytes(100_000))
    with pytest.raises(InputError, match=str(folder)):
        load_model(folder)


def test_weights_of_other_shapes_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    for name, value in (("head.out.weight", torch.zeros(2, 17)), ("more", torch.zeros(1))):
        save_file({**weights, name: value}, folder / "model.safetensors")
        put(folder)
        with pytest.raises(InputError, match=r"does not fit"):
            load_model(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"dim": 10**6},
        {"depth": 10**9},
        {"dim": -4},
        {"dim": "wide"},
        {"dim": None},
        {"domain": 3},
        {"heads": 0},
        {"tokenizer": {"scheme": "kmer", "patch": 12}},
        {"tokenizer": {"pach": 3}},
        {"reduce": 5},
        {"reduce": [{"block": 0, "method": ["x"]}]},
        {"head": {"a": 1}},
        {"outputs": 10**12},
        {"code": "import os"},
    ],
    ids=str,
)
def test_settings_that_describe_no_such_model_are_refused(folder, changes):
    put(folder, **changes)
    with pytest.raises(InputError):
        load_model(folder)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", '{"domain": "dna"}', "\xff"])
def test_a_config_that_is_none_is_refused(folder, text):
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=str(folder)):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_half_a_model_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=name):
        load_model(folder)


def test_damaged_weights_are_refused(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="SHA-256 differs"):
        load_model(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(tmp_path)


def test_no_memory_is_asked_for_that_the_weights_do_not_account_for(folder, monkeypatch):
    put(folder, tokenizer={"scheme": "kmer", "patch": 12})  # a table of a gigabyte
    monkeypatch.setattr(Model, "from_pretrained", lambda place: pytest.fail("was built"))
    with pytest.raises(InputError, match="not of one model"):
        load_model(folder)
