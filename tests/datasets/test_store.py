"""Laws of the store: what comes back is what was written, or an error; a write is whole or leaves nothing."""

import errno
import operator
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.datasets import layout, repository
from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.store import (
    append_tokens,
    compact_tokens,
    generations,
    read_tokens,
    update_tokens,
    verify_tokens,
    write_tokens,
)
from tokred_sci.errors import InputError, StoreError
from tokred_sci.tokens import Tokens

STORES = Path(__file__).parent / "stores"  # one of each layout that a release ever wrote
BATCH = Tokens(torch.zeros(2, 1, 3), torch.zeros(2, 1, 1), torch.ones(2, 1), torch.zeros(2, 1).long())


def record(count, seed=0, dim=3, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 4, (count,), generator=draw)
    return Tokens(
        (torch.randn(1, count, dim, generator=draw) * 9).abs().to(dtype),
        torch.randn(1, count, 1, generator=draw, dtype=torch.float64) * 1e9,
        sizes[None].float(),
        torch.arange(count).repeat_interleave(sizes)[None],
    )


def equal(one, two):
    for field in fields(Tokens):
        a, b = getattr(one, field.name), getattr(two, field.name)
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.contiguous().numpy().tobytes() == b.contiguous().numpy().tobytes()


def all_equal(store, records):
    assert len(store) == len(records)
    for got, want in zip(store, records, strict=True):
        equal(got, want)


def size_of(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@pytest.fixture
def small(monkeypatch):
    """Many chunks and shards for few records."""
    monkeypatch.setattr(layout, "CHUNK_BYTES", 768)
    monkeypatch.setattr(layout, "CHUNKS", 2)
    monkeypatch.setattr(layout, "_ROWS", 4)


@pytest.fixture
def written(tmp_path, small):
    records = [record(count, seed=count) for count in (5, 1, 240, 7, 90)]
    write_tokens(tmp_path / "a", records, "f00d", labels=[3, 1, 2, 0, 5])
    return tmp_path / "a", records


def test_round_trip_bit_for_bit(written):
    path, records = written
    store = read_tokens(path, "f00d")
    assert len(store) == 5
    assert store.fingerprint == "f00d"
    assert store.labels.tolist() == [3, 1, 2, 0, 5]
    all_equal(store, records)
    equal(store[-1], records[-1])
    with pytest.raises(IndexError, match="record 5 of a store of 5"):
        store[5]
    assert "5 records, 343 tokens" in repr(store)
    assert verify_tokens(path) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.uint8])
def test_types_nan_and_sources_survive(tmp_path, dtype):
    one, pruned, turned = record(6, dtype=dtype), record(7, 1, dtype=dtype), record(8, 2, dtype=dtype)
    if dtype.is_floating_point:
        one.features[0, 0] = torch.tensor([float("nan"), -0.0, float("inf")])
        one.positions[0, :3, 0] = torch.tensor([float("nan"), -0.0, -float("inf")])
    pruned.source[0, :3] = -1
    turned = replace(turned, source=turned.source.flip(1))
    odd = replace(record(3, dtype=dtype), sizes=torch.tensor([[float("inf"), 0.5, 1e30]]))
    written = (one, pruned, turned, one, odd, one)
    write_tokens(tmp_path / "a", written, "f")
    all_equal(read_tokens(tmp_path / "a"), written)


def test_records_without_width_or_elements(tmp_path):
    bare = Tokens(torch.ones(1, 2, 0), torch.zeros(1, 2, 3), torch.zeros(1, 2), torch.zeros(1, 0).long())
    write_tokens(tmp_path / "a", [bare, bare], "f")
    all_equal(read_tokens(tmp_path / "a"), [bare, bare])


def test_zeros_are_written_too(tmp_path, small):
    zeros = Tokens(torch.zeros(1, 50, 3), torch.zeros(1, 50, 3), torch.zeros(1, 50), torch.zeros(1, 50).long())
    write_tokens(tmp_path / "a", [zeros], "f")
    equal(read_tokens(tmp_path / "a")[0], zeros)


@settings(max_examples=12, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), max_size=6),
    more=st.lists(st.integers(1, 30), max_size=3),
    chunk=st.sampled_from([1, 40, 600, 1 << 20]),
)
def test_any_lengths_and_chunks(tmp_path_factory, counts, more, chunk):
    path = tmp_path_factory.mktemp("any") / "a"
    records = [record(count, seed) for seed, count in enumerate(counts + more)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_BYTES", chunk)
        patch.setattr(layout, "CHUNKS", 4)
        write_tokens(path, iter(records[: len(counts)]), "f", labels=np.linspace(0, 1, len(counts)))
        append_tokens(path, records[len(counts) :], "f", labels=np.linspace(1, 2, len(more)))
        all_equal(read_tokens(path), records)
        compact_tokens(path)
    all_equal(read_tokens(path), records)
    assert len(generations(path)) == 1 + bool(more) + bool(counts and more)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 255 - 1, 7], np.uint8),
        np.array([-127, 0, 5], np.int8),
        torch.tensor([1 << 40, -1, 0]),
        [0.5, float("nan"), -0.0],
        np.array([1, 2, 3], np.float16),
        [[1, 2], [3, 4], [5, 6]],
        [True, False, True],
    ],
)
def test_labels_of_any_kind(tmp_path, small, labels):
    write_tokens(tmp_path / "a", [record(2)] * 3, "f", labels)
    store, want = read_tokens(tmp_path / "a"), np.asarray(labels)
    np.testing.assert_array_equal(store.labels.numpy(), want)
    np.testing.assert_array_equal(store.entry(1).label, want[1])


def test_targets_and_names(tmp_path, small):
    def entry(count, name):
        tokens = record(count, count)
        return Entry(tokens, targets=torch.arange(tokens.source.shape[1], dtype=torch.int16) - 3, name=name)

    names = ["chr1", "", "染色体 β", "🧬" * 50, "a b\tc"]
    entries = [entry(count, name) for count, name in zip((9, 1, 200, 3, 2), names, strict=True)]
    write_tokens(tmp_path / "a", entries, "f")
    update_tokens(tmp_path / "a", {1: entry(60, "neu")}, "f")
    store, names[1], entries[1] = read_tokens(tmp_path / "a"), "neu", entry(60, "neu")
    assert store.names == names
    assert store.labels is None
    asked = [4, 0, 2, 2, 1]
    for place, got in zip(asked, store.entries(asked), strict=True):
        equal(got.tokens, entries[place].tokens)
        assert torch.equal(got.targets, entries[place].targets)
        assert got.name == names[place]


def test_empty_store_and_nothing_to_add(tmp_path):
    path = tmp_path / "a"
    write_tokens(path, [], "f", labels=[])
    store = read_tokens(path, "f")
    assert (len(store), store.labels, store.names, list(store), store.entries([])) == (0, None, [], [], [])
    with pytest.raises(IndexError):
        store[0]
    append_tokens(path, [], "f")
    update_tokens(path, {}, "f")
    assert compact_tokens(path, forget=True) == 0
    assert [one.what for one in generations(path)] == ["write"]  # no change, no generation
    append_tokens(path, [record(3)], "f", labels=[7])
    equal(read_tokens(path)[0], record(3))
    assert read_tokens(path).labels.tolist() == [7]


def test_many_records_over_many_shards(tmp_path, small):
    records = [record(1 + seed % 7, seed) for seed in range(600)]
    write_tokens(tmp_path / "a", records, "f", labels=range(600))
    store = read_tokens(tmp_path / "a")
    all_equal(store, records)
    assert store.labels.tolist() == list(range(600))
    assert len([file for file in (tmp_path / "a" / "chunks").iterdir()]) > 20


def test_append_is_one_generation(written):
    path, records = written
    append_tokens(path, records[:2], "f00d", labels=[8, 9])
    append_tokens(path, iter(records[2:]), "f00d", labels=[6, 6, 6])
    store = read_tokens(path)
    all_equal(store, [*records, *records])
    assert store.labels.tolist() == [3, 1, 2, 0, 5, 8, 9, 6, 6, 6]
    assert [(one.what, one.records) for one in generations(path)] == [("write", 5), ("append", 7), ("append", 10)]


def test_update_shorter_and_longer(written):
    path, records = written
    short, long = record(2, 50), record(300, 51)
    update_tokens(path, {2: short, -5: Entry(long, label=11)}, "f00d")
    store = read_tokens(path)
    all_equal(store, [long, records[1], short, *records[3:]])
    assert store.labels.tolist() == [11, 1, 2, 0, 5]
    all_equal(read_tokens(path, generation=0), records)


@pytest.mark.parametrize(
    ("numbers", "told"),
    [([5], "record 5 of a store of 5"), (["a"], "numbers of records"), ([0, -5], "each record once")],
)
def test_update_of_what_is_no_record_is_refused(written, numbers, told):
    path, records = written
    with pytest.raises(InputError, match=told):
        update_tokens(path, dict.fromkeys(numbers, record(2, 50)), "f00d")
    assert len(generations(path)) == 1
    all_equal(read_tokens(path), records)


def test_time_travel_by_number_and_name(written):
    path, records = written
    append_tokens(path, records[:1], "f00d", labels=[0])
    update_tokens(path, {0: records[2]}, "f00d")
    history = generations(path)
    assert [one.when for one in history] == sorted(one.when for one in history)
    for number, one in enumerate(history):
        for name in (number, number - 3, one.name):
            store = read_tokens(path, generation=name)
            assert (store.generation, len(store)) == (one.name, one.records)
    all_equal(read_tokens(path, generation=1), [*records, records[0]])
    for wrong in (3, -4, "nothing"):
        with pytest.raises(InputError, match=r"generation in \[0, 3\)"):
            read_tokens(path, generation=wrong)


def test_compact_is_dense_and_forgets_on_demand(written, tmp_path):
    path, records = written
    for _ in range(3):
        update_tokens(path, {0: record(200, 9), 2: records[2]}, "f00d")
    want, before = [record(200, 9), *records[1:]], size_of(path)
    compact_tokens(path)
    store = read_tokens(path)
    all_equal(store, want)
    assert store.table[:, 0].tolist() == [0, 200, 201, 441, 448]  # end to end
    assert store.labels.tolist() == [3, 1, 2, 0, 5]
    assert len(generations(path)) == 5
    all_equal(read_tokens(path, generation=0), records)
    assert compact_tokens(path) == 0
    assert len(generations(path)) == 5
    freed = compact_tokens(path, forget=True)
    assert freed > 0
    assert size_of(path) < before / 2
    assert [one.what for one in generations(path)] == ["compact"]
    all_equal(read_tokens(path), want)
    write_tokens(tmp_path / "fresh", want, "f00d", labels=[3, 1, 2, 0, 5])
    chunks = [sorted(file.stat().st_size for file in (at / "chunks").iterdir()) for at in (path, tmp_path / "fresh")]
    assert chunks[0] == chunks[1]


# case 21
def test_reader_keeps_its_generation(written):
    path, records = written
    store = read_tokens(path)
    equal(store[0], records[0])
    update_tokens(path, dict.fromkeys(range(5), record(4, 77)), "f00d")
    compact_tokens(path)
    append_tokens(path, records, "f00d", labels=[0] * 5)
    all_equal(store, records)
    all_equal(pickle.loads(pickle.dumps(store)), records)  # opened anew: still the same generation
    compact_tokens(path, forget=True)
    with pytest.raises(StoreError):
        list(pickle.loads(pickle.dumps(store)))
    all_equal(read_tokens(path), [record(4, 77)] * 5 + records)


# case 13
def test_another_fingerprint_is_refused_by_name(written):
    path, records = written
    with pytest.raises(InputError, match=r"Expected tokens of fingerprint 'beef' .*has 'f00d'"):
        read_tokens(path, "beef")
    with pytest.raises(InputError, match=r"Expected tokens of fingerprint 'beef' .*has 'f00d'"):
        append_tokens(path, records, "beef", labels=[0] * 5)
    with pytest.raises(InputError, match=r"Expected tokens of fingerprint 'beef' .*has 'f00d'"):
        update_tokens(path, {0: records[1]}, "beef")
    for nothing in ("", None, 3):
        with pytest.raises(InputError, match="'fingerprint'"):
            append_tokens(path, records, nothing)
    assert len(generations(path)) == 1


def test_existing_path_is_refused_and_not_touched(tmp_path):
    for name in ("file", "folder", "link"):
        path = tmp_path / name
        {"file": path.touch, "folder": path.mkdir, "link": lambda at=path: at.symlink_to("nowhere")}[name]()
        with pytest.raises(InputError, match="does not exist"):
            write_tokens(path, [record(2)], "f")
        with pytest.raises(StoreError, match="nothing like it"):
            read_tokens(path)
        with pytest.raises(StoreError, match="nothing like it"):
            append_tokens(path, [record(2)], "f")
    assert (tmp_path / "file").read_text() == ""
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder", "link"]


@pytest.mark.parametrize("stop", [RuntimeError("mine"), KeyboardInterrupt(), PermissionError(errno.EPERM, "mine")])
def test_own_errors_pass_and_leave_nothing(tmp_path, small, stop):
    def broken():
        yield record(300)
        raise stop

    with pytest.raises(type(stop)) as caught:
        write_tokens(tmp_path / "a", broken(), "f")
    assert caught.value is stop
    assert not list(tmp_path.iterdir())
    write_tokens(tmp_path / "a", [record(3)], "f")
    with pytest.raises(type(stop)) as caught:
        append_tokens(tmp_path / "a", broken(), "f")
    assert caught.value is stop
    assert len(generations(tmp_path / "a")) == 1
    all_equal(read_tokens(tmp_path / "a"), [record(3)])
    append_tokens(tmp_path / "a", [record(4)], "f")  # the lock was given back


BAD = [
    ([record(2), record(2, dim=4)], None, "D = 3 .*record 1 has D = 4"),
    ([record(2), record(2, dtype=torch.float64)], None, "record 1 has D = 3 in float64"),
    ([record(2, dtype=torch.bfloat16)], None, "bfloat16"),
    ([BATCH], None, "record 0 as Tokens with B = 1"),
    (["ACGT"], None, "record 0 as Tokens with B = 1"),
    ([record(2)], [1, 2], "'labels' as one for each of 1 records .got 2"),
    ([record(2)] * 2, [1], "'labels' as one for each record .got 1, and more"),
    ([record(2)], np.array(["exon"]), "number the class names"),
    ([record(2)], 3, "got the number 3"),
    ([record(2)] * 2, [[1], [1, 2]], "rows of one length"),
    ([Entry(record(2), label=torch.tensor(1.0, dtype=torch.bfloat16))], None, "label of record 0 as numbers"),
    ([Entry(record(2), label=np.int8(-128))], None, "marks lost values"),
    ([Entry(record(2), targets=[1, 2, 3] * 9)], None, "targets of record 0 of shape"),
    ([Entry(record(2), label=1), Entry(record(2), label=0.5)], None, "record 1 has .*float64 labels"),
    ([Entry(record(2), label=1), record(2)], None, "record 1 has"),
]


@pytest.mark.parametrize(("records", "labels", "message"), BAD)
def test_what_does_not_fit_is_refused(tmp_path, records, labels, message):
    with pytest.raises(InputError, match=message):
        write_tokens(tmp_path / "a", records, "f", labels)
    assert not list(tmp_path.iterdir())
    if not isinstance(records[0], Entry):
        write_tokens(tmp_path / "a", [record(2)], "f", [0])
        with pytest.raises(InputError):
            append_tokens(tmp_path / "a", records, "f", labels)
        assert len(read_tokens(tmp_path / "a")) == 1


def test_read_in_a_spawned_process(written):
    path, records = written
    store = read_tokens(path)
    equal(store[0], records[0])  # opened here, and to be opened anew there
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        equal(pool.submit(operator.getitem, store, 2).result(timeout=60), records[2])


def test_forked_process_is_refused_not_hung(written):
    path, records = written
    store = read_tokens(path)
    equal(store[0], records[0])
    tries = [
        lambda: store[0],
        lambda: store.names,
        lambda: read_tokens(path),
        lambda: generations(path),
        lambda: append_tokens(path, records[:1], "f00d", labels=[0]),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's own, about forks with threads
        child = os.fork()
    if not child:
        code = 1
        try:
            for attempt in tries:
                with pytest.raises(StoreError, match="forkserver"):
                    attempt()
            code = 0
        finally:
            os._exit(code)
    for _ in range(100):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("a forked process hung")
    assert status == 0


@pytest.fixture
def unprivileged():
    """A folder open to all, and a way to lose root's right to ignore modes for a while."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0

    def drop():
        if root:
            os.seteuid(65534)

    yield folder, drop
    if root:
        os.seteuid(0)
    for at in (folder, *(at for at in folder.rglob("*") if at.is_dir())):
        at.chmod(0o755)
    shutil.rmtree(folder)


# case 21
@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="modes of POSIX")
def test_read_only_folder_is_refused_for_writing(unprivileged):
    folder, drop = unprivileged
    path = folder / "a"
    write_tokens(path, [record(3)], "f")
    for at in (folder, path, *path.rglob("*")):
        at.chmod(0o555 if at.is_dir() else 0o444)
    drop()
    equal(read_tokens(path)[0], record(3))  # reading needs no right to write
    for attempt in (
        lambda: append_tokens(path, [record(3)], "f"),
        lambda: update_tokens(path, {0: record(3)}, "f"),
        lambda: compact_tokens(path),
        lambda: write_tokens(folder / "b", [record(3)], "f"),
    ):
        with pytest.raises(StoreError, match=r"(?i)permission"):
            attempt()
    equal(read_tokens(path)[0], record(3))


# case 20
def test_second_writer_waits_and_is_then_refused(written):
    path, records = written
    store = read_tokens(path)
    program = "import sys, filelock as f; a = f.FileLock(sys.argv[1]); a.acquire(); print(1, flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program, path / "writer.lock"], stdin=pipe, stdout=pipe) as other:
        try:
            other.stdout.readline()
            with pytest.raises(StoreError, match=r"only writer .*for more than 0.2 s"):
                append_tokens(path, records, "f00d", labels=[0] * 5, wait=0.2)
            all_equal(store, records)
        finally:
            other.kill()
    append_tokens(path, records[:1], "f00d", labels=[0])  # the dead let go
    assert len(read_tokens(path)) == 6


# case 14
def test_parts_of_killed_writers_are_swept(tmp_path):
    for name in (".a.00000000.part", ".a.11111111.part", ".b.22222222.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "writer.lock").touch()
    new = tmp_path / ".a.33333333.part"  # made just now, not locked yet: a writer that begins
    new.mkdir()
    with repository.lock(tmp_path / ".a.11111111.part"):
        write_tokens(tmp_path / "a", [record(2)], "f")
    left = {at.name for at in tmp_path.iterdir()}
    assert left == {"a", ".a.11111111.part", ".b.22222222.part", ".a.33333333.part"}


# case 22
def test_former_layout_is_refused_with_a_way_out(tmp_path):
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {"layout": 1}}')
    for attempt in (read_tokens, generations, verify_tokens, compact_tokens):
        with pytest.raises(StoreError, match=r"layout 2 .*earlier .*with the version that wrote it, and write it anew"):
            attempt(tmp_path)


def test_later_layout_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "LAYOUT", 3)
    write_tokens(tmp_path / "a", [record(2)], "f")
    monkeypatch.undo()
    with pytest.raises(StoreError, match=r"layout 2 .got 3 .*version that wrote it"):
        read_tokens(tmp_path / "a")


# case 22
def test_stores_of_every_release_are_read():
    """`stores/layout2` was written by 0.1 through the lines of `old_records`; each release that changes it adds one."""
    store = read_tokens(STORES / "layout2", "k=4,stride=2")
    assert verify_tokens(STORES / "layout2") == []
    assert store.names == ["chr1", "β", "", "chr1 again"]
    assert store.labels.tolist() == [0, 5, -1, 7]
    assert [(one.what, one.records) for one in generations(STORES / "layout2")] == [
        ("write", 3),
        ("append", 4),
        ("update", 4),
    ]
    for got, want in zip(store.entries(range(4)), old_records(), strict=True):
        equal(got.tokens, want.tokens)
        assert torch.equal(got.targets, want.targets)


def old_records():
    """Written as `write([:3])`, `append([3:])`, `update({1: 0} and back to 1)` with chunks of 768 bytes, 2 a shard."""
    made = []
    for count, label, name in ((40, 0, "chr1"), (3, 5, "β"), (1, -1, ""), (120, 7, "chr1 again")):
        sizes = torch.arange(count) % 3 + 1
        source = torch.arange(count).repeat_interleave(sizes)
        features = (torch.arange(count * 4) * 7 % 256).to(torch.float16).reshape(1, count, 4) / 8
        positions = torch.arange(count, dtype=torch.float64)[None, :, None] * 1e9 + 0.1
        tokens = Tokens(features, positions, sizes[None].float(), (source.flip(0) if count == 3 else source)[None])
        made.append(Entry(tokens, np.int16(label), (torch.arange(len(source)) % 5).to(torch.int8), name))
    return made


def test_any_zarr_client_reads_it(written):
    """A store is a Zarr v3 group: three lines hand it to xarray, and likewise to zarr, dask or napari.

    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(path))
    session = repository.readonly_session("main")
    data = xarray.open_zarr(session.store, consolidated=False)
    """
    icechunk, xarray, zarr = (pytest.importorskip(name) for name in ("icechunk", "xarray", "zarr"))
    path, records = written
    session = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path))).readonly_session("main")
    group = zarr.open_group(session.store, mode="r")
    assert group.attrs["tokred_sci"]["fingerprint"] == "f00d"
    np.testing.assert_array_equal(group["labels"][:], [3, 1, 2, 0, 5])
    data = xarray.open_zarr(session.store, consolidated=False, mask_and_scale=False)
    np.testing.assert_array_equal(data["features"][:343].values, torch.cat([one.features[0] for one in records]))
    first, count = data["records"][2, :2].values
    np.testing.assert_array_equal(data["positions"][first : first + count], records[2].positions[0])
