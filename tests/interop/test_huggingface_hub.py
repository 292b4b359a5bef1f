"""Our own models on the Hub: its package is replaced by a folder, nothing goes over the network."""

import shutil
import sys

import pytest
import torch

from tokred_sci.errors import FetchError, InputError, MissingExtra
from tokred_sci.experiment import Model, ModelConfig, Reduce

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub in a folder; what it was asked."""
    asked = []

    def create_repo(name, **more):
        asked.append(("create", name, more))
        (tmp_path / name).mkdir(parents=True, exist_ok=more["exist_ok"])

    def upload_folder(repo_id, folder_path, commit_message):
        asked.append(("upload", repo_id, commit_message))
        shutil.copytree(folder_path, tmp_path / repo_id, dirs_exist_ok=True)
        return f"https://hub.example/{repo_id}"

    def snapshot_download(name, revision, allow_patterns):
        asked.append(("download", name, revision))
        if not (tmp_path / name).exists():
            raise huggingface_hub.errors.LocalEntryNotFoundError(f"no {name}")
        assert {path.name for path in (tmp_path / name).iterdir()} == set(allow_patterns)
        return str(tmp_path / name)

    for function in (create_repo, upload_folder, snapshot_download):
        monkeypatch.setattr(huggingface_hub, function.__name__, function)
    return asked


def model():
    return Model(ModelConfig("dna", dim=16, depth=2, heads=2, reduce=(Reduce(0, "links", 5),)))


def test_a_model_comes_back_from_the_hub_bit_equal(hub):
    first = model()
    assert first.push_to_hub("lab/dna-tiny.v1", private=True, message="first") == "https://hub.example/lab/dna-tiny.v1"
    again = Model.from_pretrained("lab/dna-tiny.v1", revision="main")
    tokens = first.tokenize("ACGT" * 50)
    assert torch.equal(first(tokens), again(tokens)) and again.config == first.config
    assert hub == [
        ("create", "lab/dna-tiny.v1", {"private": True, "exist_ok": True}),
        ("upload", "lab/dna-tiny.v1", "first"),
        ("download", "lab/dna-tiny.v1", "main"),
    ]


def test_a_folder_that_exists_comes_before_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model().save_pretrained("runs/model")
    assert Model.from_pretrained("runs/model").config.dim == 16
    assert hub == []


@pytest.mark.parametrize("name", ["model", "a/b/c", "../model", "/a/b", "a/", "a b/c", ""])
def test_names_of_another_shape_are_refused_without_asking(hub, name):
    with pytest.raises(InputError, match=r"owner/name"):
        model().push_to_hub(name)
    with pytest.raises(InputError, match=r"config\.json"):
        Model.from_pretrained(name)
    assert hub == []


def test_what_the_hub_has_not_is_refused_as_our_error(hub, tmp_path, monkeypatch):
    with pytest.raises(FetchError, match="no folder 'lab/none'"):
        Model.from_pretrained("lab/none")
    with pytest.raises(InputError, match="revision"):
        Model.from_pretrained(tmp_path, revision="main")

    def closed(*_, **__):
        raise ConnectionError("no way out")

    monkeypatch.setattr(huggingface_hub, "create_repo", closed)
    with pytest.raises(FetchError, match="no way out"):
        model().push_to_hub("lab/model")


def test_without_the_package_names_on_the_hub_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"tokred-sci\[huggingface\]"):
        Model.from_pretrained("lab/model")
    with pytest.raises(MissingExtra, match=r"tokred-sci\[huggingface\]"):
        model().push_to_hub("lab/model")
