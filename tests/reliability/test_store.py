"""A small share of `scripts/reliability.py`, whose full run fills docs/reliability.md: never silently wrong."""

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from tokred_sci.datasets import layout
from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.store import append_tokens, generations, note_of, read_tokens, verify_tokens, write_tokens
from tokred_sci.errors import StoreError
from tokred_sci.tokens import Tokens

SCRIPT = Path(__file__).parents[2] / "scripts" / "reliability.py"

if importlib.util.find_spec("fcntl") is None:
    pytest.skip("forks and signals of POSIX", allow_module_level=True)


@pytest.fixture(scope="module")
def table():
    """Outcomes, counted; from a process of its own, since trials are forks of one that opened no store."""
    command = [sys.executable, SCRIPT, "--quick", "--json", "--kills", "6", "--flips", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return {what: Counter(found) for what, found in json.loads(done.stdout).items()}


def test_nothing_is_silently_wrong_and_no_error_is_foreign(table):
    assert len(table) == 9
    assert all(found and set(found) <= {"good", "detected"} for found in table.values())


def test_killed_writers_leave_whole_generations_and_no_orphans(table):
    found = [found for what, found in table.items() if "kill" in what]
    assert [sum(one.values()) for one in found] == [4, 2, 1, 2]
    assert all(set(one) == {"good"} for one in found)


def test_damage_is_detected_unless_nothing_reads_there(table):
    for what in ("deleted file", "truncated file", "flipped bit"):
        assert table[what]["detected"] > 2 * table[what]["good"]


def test_full_disk_leaves_the_generation_before(table):
    assert table["disk full"]["detected"] >= 2


def test_every_append_of_many_processes_is_there(table):
    assert table["8 processes append, 2 read"] == {"good": 16}


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A store of two generations whose chunks are files."""
    monkeypatch.setattr(layout, "CHUNK_BYTES", 1024)
    monkeypatch.setattr(layout, "CHUNKS", 2)
    draw = torch.Generator().manual_seed(0)
    for act in (write_tokens, append_tokens):
        features = torch.randn(1, 400, 4, generator=draw)
        tokens = Tokens(features, torch.randn(1, 400, 1, generator=draw), torch.ones(1, 400), torch.arange(400)[None])
        act(tmp_path / "a", [Entry(tokens, label=1, targets=torch.arange(400), name="x" * 900)], "f")
    return tmp_path / "a"


def chunks(path):
    files = sorted((path / "chunks").iterdir())
    assert len(files) > 10
    return files


def test_deleted_chunk_is_refused_by_array_and_chunk(path):
    """Plain Zarr would hand out zeros."""
    named = set()
    for file in chunks(path):
        whole = file.read_bytes()
        file.unlink()
        with pytest.raises(StoreError, match=r"array '\w+' in .* \(chunks \d+ to \d+ of \d+ rows") as caught:
            list(read_tokens(path))
        named.add(str(caught.value).partition("array '")[2].partition("'")[0])
        faults = verify_tokens(path)
        assert len(faults) == 1
        assert faults[0].startswith(("record 0: ", "record 1: "))
        file.write_bytes(whole)
    assert named >= {"features", "positions"}
    assert verify_tokens(path) == []


def test_chunk_of_another_place_is_refused(path):
    """Each chunk's own check sum is right; the record's is not."""
    for file, other in zip(chunks(path)[::3], chunks(path)[1::3], strict=False):
        whole = file.read_bytes()
        file.write_bytes(other.read_bytes())
        with pytest.raises(StoreError):
            list(read_tokens(path))
        file.write_bytes(whole)


def test_earlier_generation_is_there_when_the_last_one_is_refused(path):
    new = max(chunks(path), key=lambda file: file.stat().st_mtime_ns)
    new.unlink()
    with pytest.raises(StoreError, match="read an earlier generation"):
        list(read_tokens(path))
    assert len(list(read_tokens(path, generation=0))) == 1


def test_lost_chunk_of_labels_and_table_is_refused(path):
    """Where a manifest no longer lists a chunk, Zarr hands out its fill value: one that is never written there."""
    import icechunk
    import zarr

    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    for name in ("labels", "records", "name", "features", "positions", "sizes", "targets"):
        session = repository.writable_session("main")
        array = zarr.open_group(session.store, mode="a")[name]
        shape = array.shape
        array.resize((0, *shape[1:]))
        array.resize(shape)
        session.commit("lost", metadata=note_of("append", 2))
        with pytest.raises(StoreError, match=r"gone|as written"):
            list(read_tokens(path))
        if name == "name":
            with pytest.raises(StoreError, match=r"array 'name' in .* as written"):
                _ = read_tokens(path).names
        repository.reset_branch("main", repository.lookup_snapshot(session.snapshot_id).parent_id)


@pytest.mark.parametrize("old", ["f", "float32", "zstd", "layout"])
def test_changed_header_is_refused(path, old):
    import icechunk
    import zarr

    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    session = repository.writable_session("main")
    group = zarr.open_group(session.store, mode="a")
    header = json.loads(json.dumps(group.attrs["tokred_sci"]).replace(f'"{old}"', f'"{old}2"'))
    if old == "zstd":
        array = group["sizes"]
        array.resize((array.shape[0] + 1,))
    group.update_attributes({"tokred_sci": header})
    session.commit("changed", metadata=note_of("append", 2))
    with pytest.raises(StoreError, match=r"seal is broken|header of a token store"):
        read_tokens(path)


@pytest.mark.parametrize("change", [{"records": 3}, {"tokred_sci": "write"}, {"when": "2000-01-01"}, {}])
def test_changed_history_is_refused(path, change):
    """Icechunk's snapshots have no check sum: a flipped bit in one can rename a generation, or hide it."""
    import icechunk
    import zarr

    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    session = repository.writable_session("main")
    zarr.open_group(session.store, mode="a").update_attributes({"more": 1})
    note = note_of("append", 2)
    session.commit("changed", metadata=note | change if change else {"tokred_scj": "append", "records": 2})
    for look in (generations, lambda path: read_tokens(path, generation=0)):
        with pytest.raises(StoreError, match=r"history of|Could not work on the store"):
            look(path)
