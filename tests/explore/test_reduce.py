"""Reduction of a file: mass and elements are kept, numbers are those of the store, bad calls leave nothing behind."""

import numpy as np
import pytest
import torch

from tokred_sci.datasets.sample import load_sample
from tokred_sci.datasets.store import read_tokens
from tokred_sci.errors import FileError, InputError
from tokred_sci.explore.reduce import reduce_file


@pytest.fixture
def files(tmp_path):
    dna, points, series = (load_sample(domain).records[0] for domain in ("dna", "points", "series"))
    (tmp_path / "dna.fa").write_text(f">a\n{dna[:3000]}\n>b\n{dna[5000:5100]}\n")
    np.save(tmp_path / "points.npy", points[:1500, :3])
    np.save(tmp_path / "series.npy", series)
    return {domain: next(tmp_path.glob(f"{domain}.*")) for domain in ("dna", "points", "series")}


@pytest.mark.parametrize("domain", ["dna", "points", "series"])
@pytest.mark.parametrize("method", ["none", "stride", "links", "contract", "voxel", "peaks"])
def test_every_element_is_held_once_and_counts_are_the_stores(files, tmp_path, domain, method):
    told = reduce_file(files[domain], tmp_path / "out", method, 0.25)
    store = read_tokens(tmp_path / "out", told.fingerprint)
    assert sum(tokens.features.shape[1] for tokens in store) == told.kept <= told.tokens
    for tokens in store:
        counts = torch.bincount(tokens.source[0], minlength=tokens.sizes.shape[1])
        assert torch.equal(counts.float(), tokens.sizes[0])
    assert 0 <= told.variance_lost <= 1
    assert (told.variance_lost == 0) == (method == "none")


def test_pieces_cover_the_record_and_positions_go_on(files, tmp_path):
    told = reduce_file(files["dna"], tmp_path / "out", "links", 0.5, piece=1000)
    store = read_tokens(tmp_path / "out")
    assert store.names == ["a:0-1008", "a:1008-2016", "a:2016-3000", "b"] and (told.records, told.pieces) == (2, 4)
    assert sum(float(tokens.sizes.sum()) for tokens in store) == 3100
    assert float(store[1].positions.min()) > 1008 - 1 and float(store[2].positions.max()) < 3000


def test_measuring_alone_says_the_same(files, tmp_path):
    alone, stored = reduce_file(files["series"]), reduce_file(files["series"], tmp_path / "out")
    assert (alone.kept, alone.variance_lost) == (stored.kept, stored.variance_lost)
    assert alone.out is None


def test_a_store_of_merged_tokens_is_not_taken_for_the_tokenizers(files, tmp_path):
    told = reduce_file(files["dna"], tmp_path / "out")
    fingerprint, _, how = told.fingerprint.partition(":")
    assert how == "peaks:0.25:64"
    with pytest.raises(InputError, match="fingerprint"):
        read_tokens(tmp_path / "out", fingerprint)


def test_pruned_elements_belong_to_nobody(files, tmp_path):
    told = reduce_file(files["series"], tmp_path / "out", "truncate", 0.5, window=None)
    tokens = read_tokens(tmp_path / "out")[0]
    assert tokens.features.shape[1] == told.kept == 47
    assert float(tokens.sizes.sum()) == int((tokens.source >= 0).sum()) == 47 * 16


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"method": "peak"}, "did you mean 'peaks'"),
        ({"method": "soft"}, "without weights"),
        ({"keep": 0.0}, "ratio"),
        ({"keep": 0}, "constant"),
        ({"piece": 0}, "piece"),
        ({"window": 1}, "size"),
        ({"settings": {"scheme": "kmer", "patch": 6}}, "averaged"),
        ({"settings": {"pach": 6}}, "it has patch"),
        ({"options": {"colour": 6}}, "options of read_fasta"),
    ],
)
def test_bad_calls_are_refused_and_leave_nothing(files, tmp_path, arguments, told):
    with pytest.raises(InputError, match=told):
        reduce_file(files["dna"], tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists() and not [*tmp_path.glob(".out*")]


def test_a_bad_record_is_refused_by_name_and_leaves_nothing(tmp_path):
    np.save(tmp_path / "bad.npy", np.full((2, 1, 100), np.nan))
    with pytest.raises(FileError, match=r"bad\.npy, record '0'.*NaN"):
        reduce_file(tmp_path / "bad.npy", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not [*tmp_path.glob(".out*")]


def test_an_interrupted_call_run_again_is_as_if_it_had_not_been(files, tmp_path):
    """What a notebook does: the cell was stopped half-way, and is run again."""

    def stop(entries):
        yield next(entries)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reduce_file(files["dna"], tmp_path / "out", bar=stop)
    assert not (tmp_path / "out").exists() and not [*tmp_path.glob(".out*")]
    again = reduce_file(files["dna"], tmp_path / "out")
    fresh = reduce_file(files["dna"], tmp_path / "fresh")
    assert again.variance_lost == fresh.variance_lost
    for a, b in zip(read_tokens(tmp_path / "out"), read_tokens(tmp_path / "fresh"), strict=True):
        assert torch.equal(a.features, b.features) and torch.equal(a.source, b.source)
