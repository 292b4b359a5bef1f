"""Laws of the store: what comes back is what was written, or an error; a write is whole or leaves nothing."""

import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.datasets import store as module
from tokred_sci.datasets.store import FIELDS, read_tokens, write_tokens
from tokred_sci.errors import InputError
from tokred_sci.tokens import Tokens

BATCH = Tokens(torch.zeros(2, 1, 3), torch.zeros(2, 1, 1), torch.ones(2, 1), torch.zeros(2, 1).long())


def record(count, seed=0, dim=3, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 4, (count,), generator=draw)
    return Tokens(
        torch.randn(1, count, dim, generator=draw).to(dtype),
        torch.randn(1, count, 1, generator=draw, dtype=torch.float64) * 1e9,
        sizes[None].float(),
        torch.arange(count).repeat_interleave(sizes)[None],
    )


def equal(one, two):
    for name in FIELDS:
        a, b = getattr(one, name), getattr(two, name)
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.contiguous().numpy().tobytes() == b.contiguous().numpy().tobytes()


def chunks(path):
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json")


def read_all(path):
    store = read_tokens(path)
    return [store[i] for i in range(len(store))]


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 192)


@pytest.fixture
def written(tmp_path, small_chunks):
    records = [record(count, seed=count) for count in (5, 1, 40, 7)]
    write_tokens(tmp_path / "a.zarr", records, "f00d", labels=[3, 1, 2, 0])
    return tmp_path / "a.zarr", records


def test_round_trip_bit_for_bit(written):
    path, records = written
    store = read_tokens(path, "f00d")
    assert len(store) == 4
    assert store.fingerprint == "f00d"
    assert store.labels.tolist() == [3, 1, 2, 0]
    for place, one in enumerate(records):
        equal(store[place], one)
    equal(store[-1], records[-1])
    equal(pickle.loads(pickle.dumps(store))[2], records[2])
    with pytest.raises(IndexError, match="record 4 of a store of 4"):
        store[4]
    assert "4 records, 53 tokens" in repr(store)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_types_nan_and_dropped_elements_survive(tmp_path, dtype):
    one = record(6, dtype=dtype)
    one.features[0, 0] = torch.tensor([float("nan"), -0.0, float("inf")])
    one.source[0, :3] = -1
    write_tokens(tmp_path / "a", (one,), "f")
    equal(read_tokens(tmp_path / "a")[0], one)


@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(1, 30), max_size=6), chunk=st.sampled_from([1, 40, 64, 1 << 20]))
def test_any_lengths_and_chunks(tmp_path_factory, counts, chunk):
    path = tmp_path_factory.mktemp("any") / "a"
    records = [record(count, seed) for seed, count in enumerate(counts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", chunk)
        write_tokens(path, iter(records), "f", labels=np.linspace(0, 1, len(counts)))
    for got, want in zip(read_all(path), records, strict=True):
        equal(got, want)


def test_empty(tmp_path):
    write_tokens(tmp_path / "a", [], "f", labels=[])
    store = read_tokens(tmp_path / "a", "f")
    assert len(store) == 0
    assert store.labels.tolist() == []
    with pytest.raises(IndexError):
        store[0]


def test_no_flipped_bit_is_silent(written):
    path, _ = written
    draw = random.Random(0)
    files = chunks(path)
    assert {file.relative_to(path).parts[0] for file in files} == {*FIELDS, "offsets", "labels"}
    for file in files:
        whole = file.read_bytes()
        for bit in draw.sample(range(8 * len(whole)), 3):
            broken = bytearray(whole)
            broken[bit // 8] ^= 1 << bit % 8
            file.write_bytes(broken)
            with pytest.raises(InputError, match=f"'{file.relative_to(path).parts[0]}' in .*a.zarr"):
                read_all(path)
        for length in (0, 3, len(whole) // 2):
            file.write_bytes(whole[:length])
            with pytest.raises(InputError, match="damaged"):
                read_all(path)
        file.write_bytes(whole)
    read_all(path)


def test_changed_metadata_is_refused(written):
    path, _ = written
    for file in [path / "zarr.json", *(path / name / "zarr.json" for name in FIELDS)]:
        whole = file.read_text()
        for old, new in (('"f00d"', '"f00c"'), ('"fill_value": 0', '"fill_value": 1'), ("{", "(")):
            if old in whole:
                file.write_text(whole.replace(old, new, 1))
                with pytest.raises(InputError, match="metadata"):
                    read_tokens(path)
        file.write_text(whole)
    read_tokens(path)


def test_missing_chunk_is_an_error_not_zeros(written):
    path, _ = written
    for file in chunks(path):
        whole = file.read_bytes()
        file.unlink()
        with pytest.raises(InputError, match=f"chunk 'c/.*array '{file.relative_to(path).parts[0]}'"):
            read_tokens(path)
        file.write_bytes(whole)
    store = read_tokens(path)
    (path / "features" / "c" / "0" / "0").unlink()
    with pytest.raises(InputError, match="missing"):
        store[0]


def test_zeros_are_written_too(tmp_path, small_chunks):
    zeros = Tokens(torch.zeros(1, 50, 3), torch.zeros(1, 50, 3), torch.zeros(1, 50), torch.zeros(1, 50).long())
    write_tokens(tmp_path / "a", [zeros], "f")
    equal(read_tokens(tmp_path / "a")[0], zeros)


def test_another_fingerprint_is_refused_by_name(written):
    with pytest.raises(InputError, match=r"Expected tokens of fingerprint 'beef' .*has 'f00d'"):
        read_tokens(written[0], "beef")


def test_existing_path_is_not_touched(tmp_path):
    for name in ("file", "folder"):
        path = tmp_path / name
        path.mkdir() if name == "folder" else path.write_text("mine")
        with pytest.raises(InputError, match="does not exist"):
            write_tokens(path, [record(2)], "f")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(InputError, match="nothing like it"):
        read_tokens(tmp_path / "folder")


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_killed_midway_leaves_nothing(tmp_path, small_chunks, stop):
    def records():
        yield record(30)
        assert not (tmp_path / "a").exists()
        assert len(list(tmp_path.iterdir())) == 1
        raise stop

    with pytest.raises(stop):
        write_tokens(tmp_path / "a", records(), "f")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("records", "labels", "message"),
    [
        ([record(2), record(2, dim=4)], None, "D = 3 .*record 1 has D = 4"),
        ([record(2), record(2, dtype=torch.float64)], None, "record 1 has D = 3 in float64"),
        ([record(2, dtype=torch.bfloat16)], None, "bfloat16"),
        ([BATCH], None, "record 0 as Tokens with B = 1"),
        ([record(2)], [1, 2], "'labels' as 1 numbers"),
        ([record(2)], np.array(["exon"]), "number the class names"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, records, labels, message):
    with pytest.raises(InputError, match=message):
        write_tokens(tmp_path / "a", records, "f", labels)
    assert not list(tmp_path.iterdir())
