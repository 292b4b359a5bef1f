"""Embedding: a row is what the model says, whatever the batch, the piece or the format it is written in."""

import numpy as np
import pytest
import torch
import zarr

from tokred_sci.datasets.sample import load_sample
from tokred_sci.datasets.store import read_tokens, write_tokens
from tokred_sci.errors import FileError, InputError
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.explore.embed import embed_file
from tokred_sci.explore.rows import row_file
from tokred_sci.reduction.merge import to_source

SMALL = {"dim": 16, "depth": 2, "heads": 2, "reduce": (Reduce(0, "links", 0.5),)}


@pytest.fixture
def fasta(tmp_path):
    letters = load_sample("dna").records[0]
    path = tmp_path / "three.fa"
    path.write_text(f">a\n{letters[:700]}\n>b\n{letters[900:950]}\n>c\n{letters[2000:2333]}\n")
    return path


@pytest.fixture
def model(tmp_path):
    Model(ModelConfig("dna", **SMALL)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_rows_of_elements_are_what_the_model_says_of_each_record_alone(fasta, model, tmp_path):
    told = embed_file(fasta, model, tmp_path / "x.npz", per_element=True, batch=2)
    trained = Model.from_pretrained(model).eval()
    arrays = np.load(tmp_path / "x.npz")
    assert arrays["names"].tolist() == ["a", "b", "c"] and arrays["offsets"].tolist() == [0, 700, 750, 1083]
    assert arrays["features"].shape == (told.rows, told.width) == (1083, 16)
    letters = "".join(fasta.read_text().splitlines()[1::2])
    for start, stop in zip(arrays["offsets"], arrays["offsets"][1:], strict=False):
        with torch.no_grad():
            alone = to_source(trained.encoder(trained.embed(trained.tokenize(letters[start:stop]))))[0]
        assert torch.allclose(torch.from_numpy(arrays["features"][start:stop]), alone, atol=1e-5)


@pytest.mark.parametrize("piece", [None, 256])
def test_the_row_of_a_record_is_the_mean_of_its_elements(fasta, model, tmp_path, piece):
    told = embed_file(fasta, model, tmp_path / "x.npz", True, piece=piece)
    embed_file(fasta, model, tmp_path / "y.npz", piece=piece, batch=3)
    each, rows = np.load(tmp_path / "x.npz"), np.load(tmp_path / "y.npz")["features"]
    parts = np.split(each["features"], each["offsets"][1:-1])
    assert np.allclose([part.mean(0) for part in parts], rows, atol=1e-5)
    assert told.cut == (0 if piece is None else 2) and ("in pieces" in told.text()) == (piece is not None)


def test_formats_hold_the_same(fasta, model, tmp_path):
    for name in ("x.npz", "x.npy", "x.zarr"):
        embed_file(fasta, model, tmp_path / name)
    rows, group = np.load(tmp_path / "x.npz")["features"], zarr.open_group(tmp_path / "x.zarr", mode="r")
    assert np.array_equal(rows, np.load(tmp_path / "x.npy"))
    assert np.array_equal(rows, group["features"][:]) and group.attrs["names"] == ["a", "b", "c"]
    assert not [*tmp_path.glob(".x*")]


def test_a_store_of_the_models_tokenizer_says_the_same_and_another_is_refused(fasta, model, tmp_path):
    trained = Model.from_pretrained(model)
    records = [trained.tokenize(line) for line in fasta.read_text().splitlines()[1::2]]
    write_tokens(tmp_path / "store", records, trained.tokenizer.fingerprint)
    embed_file(tmp_path / "store", model, tmp_path / "x.npy")
    embed_file(fasta, model, tmp_path / "y.npy")
    assert np.allclose(np.load(tmp_path / "x.npy"), np.load(tmp_path / "y.npy"), atol=1e-6)
    write_tokens(tmp_path / "other", list(read_tokens(tmp_path / "store")), "another")
    with pytest.raises(InputError, match="fingerprint"):
        embed_file(tmp_path / "other", model, tmp_path / "z.npy")
    assert not (tmp_path / "z.npy").exists()


def test_independent_channels_are_rows_of_their_own(tmp_path):
    np.save(tmp_path / "two.npy", np.random.default_rng(0).normal(size=(2, 100)))
    config = ModelConfig("series", {"patch": 8, "channels": "independent"}, **SMALL)
    Model(config).save_pretrained(tmp_path / "model")
    told = embed_file(tmp_path / "two.npy", tmp_path / "model", tmp_path / "x.npz", True)
    arrays = np.load(tmp_path / "x.npz")
    assert (
        told.rows == 200 and arrays["names"].tolist() == ["0/0", "0/1"] and arrays["offsets"].tolist() == [0, 100, 200]
    )


def test_pruned_elements_are_told(fasta, tmp_path):
    Model(ModelConfig("dna", dim=16, depth=2, heads=2, reduce=(Reduce(0, "truncate", 0.5),))).save_pretrained(
        tmp_path / "m"
    )
    told = embed_file(fasta, tmp_path / "m", tmp_path / "x.npz", True)
    rows = np.load(tmp_path / "x.npz")["features"]
    assert told.pruned == int((rows == 0).all(1).sum()) > 0 and "zeros" in told.text()


@pytest.mark.parametrize(
    ("out", "arguments", "told"),
    [
        ("x.csv", {}, "npz"),
        ("three.fa", {}, "npz"),
        ("x.npy", {"per_element": True}, "offsets"),
        ("model", {}, "npz"),
        ("x.npz", {"batch": 0}, "batch"),
        ("x.npz", {"options": {"colour": 1}}, "options of read_fasta"),
        ("x.npz", {"options": {"domain": "points"}}, "option domain='points'"),
    ],
)
def test_bad_calls_are_refused_and_leave_nothing(fasta, model, tmp_path, out, arguments, told):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=told):
        embed_file(fasta, model, tmp_path / out, **arguments)
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_of_another_domain_is_refused(model, tmp_path):
    np.save(tmp_path / "cloud.npy", np.zeros((50, 3)))
    with pytest.raises(InputError, match="file of dna, which this model was made for"):
        embed_file(tmp_path / "cloud.npy", model, tmp_path / "x.npz")


def test_the_models_own_domain_may_be_named(fasta, model, tmp_path):
    embed_file(fasta, model, tmp_path / "x.npz", options={"domain": "dna"})
    assert (tmp_path / "x.npz").exists()


def test_what_exists_is_refused_and_stays(fasta, model, tmp_path):
    (tmp_path / "x.npz").write_text("mine")
    with pytest.raises(InputError, match="does not exist"):
        embed_file(fasta, model, tmp_path / "x.npz")
    assert (tmp_path / "x.npz").read_text() == "mine"


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".zarr"])
def test_rows_cut_short_are_refused_and_leave_nothing(tmp_path, suffix):
    with pytest.raises(InputError, match="3 rows"), row_file(tmp_path / f"x{suffix}", 3, 2, {}) as write:
        write(np.zeros((1, 2), np.float32))
    assert not [*tmp_path.iterdir()]


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="Could not write"), row_file(tmp_path / "file" / "x.npy", 1, 2, {}):
        pass
