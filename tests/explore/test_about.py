"""What is told of files, stores and models is so: compared with what tokenizing, reading and running them gives."""

import json

import numpy as np
import pytest

from tokred_sci.datasets.parts import open_parts
from tokred_sci.datasets.sample import load_sample
from tokred_sci.datasets.store import read_tokens
from tokred_sci.errors import InputError, StoreError
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.explore.about import LENGTHS, about, missing_share
from tokred_sci.explore.raw import stretches as stretches_of
from tokred_sci.explore.raw import tokenizer_of, tokens_of
from tokred_sci.ingest import tokenize_files, tokenizer_for


@pytest.fixture
def files(tmp_path):
    dna, points, series = (load_sample(domain).records[0] for domain in ("dna", "points", "series"))
    (tmp_path / "dna.fa").write_text(f">a\n{dna[:3001]}\n>b\n{dna[5000:5100]}NNNN\n>c\nA\n")
    np.save(tmp_path / "points.npy", points[:1500])
    np.save(tmp_path / "series.npy", np.where(np.arange(series.size).reshape(series.shape) % 4, series, np.nan))
    return {domain: next(tmp_path.glob(f"{domain}.*")) for domain in ("dna", "points", "series")}


@pytest.mark.parametrize("domain", ["dna", "points", "series"])
def test_a_file_has_the_tokens_it_was_said_to_have(files, domain):
    told, parts = about(files[domain]), open_parts(files[domain])
    tokenizer = tokenizer_of(parts)
    made = [tokens_of(parts, tokenizer, stretch) for stretch in stretches_of(parts, tokenizer, None)]
    assert (told.what, told.domain, told.records) == ("file", domain, len(made))
    assert told.tokens == sum(tokens.features.shape[1] for tokens in made)
    assert told.tokens_of_longest == max(tokens.features.shape[1] for tokens in made)
    assert told.elements == sum(tokens.source.shape[1] for tokens in made)
    held = [x for t in made for x in (t.features, t.positions, t.sizes, t.source)]
    assert told.token_bytes == sum(x.numel() * x.element_size() for x in held)
    assert told.flops_merged < told.flops and told.flops_of_longest <= told.flops


def test_lengths_and_the_share_unknown(files):
    told = about(files["dna"])
    assert (told.shortest, told.median, told.longest) == (1, 104, 3001)
    assert told.missing == pytest.approx(4 / 3106)
    assert about(files["series"]).missing == pytest.approx(0.25, abs=0.001)
    assert about(files["points"]).missing == 0


def test_the_share_unknown_does_not_depend_on_how_much_is_looked_at_together(files, monkeypatch):
    whole = {domain: missing_share(open_parts(path)) for domain, path in files.items()}
    monkeypatch.setattr("tokred_sci.explore.about.AT_ONCE", 7)
    assert {domain: missing_share(open_parts(path)) for domain, path in files.items()} == pytest.approx(whole)


def test_settings_change_what_is_told(files):
    assert about(files["dna"], {"patch": 8}).tokens > 1.9 * about(files["dna"]).tokens
    apart = about(files["series"], {"channels": "independent"})
    assert apart.tokens == 6 * about(files["series"]).tokens
    with pytest.raises(InputError, match="it has patch"):
        about(files["dna"], {"pach": 8})


def test_a_store_is_told_by_its_table(files, tmp_path):
    tokenizer = tokenizer_for(files["dna"], {"patch": 8}, {})
    for _ in range(2):
        tokenize_files([files["dna"]], tmp_path / "store", tokenizer, 1000, progress=False)
    told, store = about(tmp_path / "store"), read_tokens(tmp_path / "store")
    assert (told.what, told.records, told.fingerprint) == ("store", len(store), tokenizer.fingerprint)
    assert told.tokens == sum(tokens.features.shape[1] for tokens in store)
    assert told.elements == 2 * 3106 and told.kind == "D = 8 in uint8"
    assert [one.records for one in told.generations] == [len(store) // 2, len(store)]
    assert told.bytes == sum(p.stat().st_size for p in (tmp_path / "store").rglob("*") if p.is_file())
    assert "generations" in told.text()


@pytest.mark.parametrize("plain", [False, True])
def test_a_model_is_told_at_every_length(tmp_path, plain):
    reduce = () if plain else (Reduce(1, "links", 64), Reduce(2, "peaks", 0.5, window=16))
    model = Model(ModelConfig("dna", dim=16, depth=3, heads=2, reduce=reduce, plain=plain))
    model.save_pretrained(tmp_path / "run" / "model")
    told = about(tmp_path / "run")
    assert told.what == "model" and sum(told.parameters.values()) == sum(p.numel() for p in model.parameters())
    assert told.sha256 == json.loads((tmp_path / "run" / "model" / "config.json").read_text())["sha256"]
    assert [at.elements for at in told.lengths] == list(LENGTHS)
    assert told.lengths[1].tokens == ([256] * 4 if plain else [256, 256, 64, 32])
    assert (told.lengths[0].flops is None) == plain
    assert "as saved" in told.text() and ("nowhere" in told.text()) == plain


def test_what_is_nothing_of_ours_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="neither"):
        about(tmp_path / "empty")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(InputError, match="known format"):
        about(tmp_path / "picture.png")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "zarr.json").write_text("{}")
    with pytest.raises(StoreError, match="earlier"):
        about(tmp_path / "old")
