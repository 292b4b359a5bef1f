"""Files to a store: bit-exact, the same however many workers there are and whoever dies, and on from where it was."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import torch

from tokred_sci import ingest
from tokred_sci.datasets import layout, read
from tokred_sci.datasets.parts import open_parts
from tokred_sci.datasets.store import append_tokens, generations, read_tokens, verify_tokens
from tokred_sci.errors import FileError, InputError, StoreError
from tokred_sci.ingest import drop_unfinished, tokenize_files, tokenizer_for
from tokred_sci.tokenizers import DNATokenizer, PointTokenizer, SeriesTokenizer

TOKENIZER = DNATokenizer(16, compact=True)
FILL = ingest.fill


def run(inputs, out, tokenizer=TOKENIZER, **more):
    return tokenize_files(inputs, out, tokenizer, progress=False, **more)


def letters(seed, length):
    return "".join(np.random.default_rng(seed).choice(list("ACGTNacgt"), length))


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(layout, "CHUNK_BYTES", 1 << 12)
    monkeypatch.setattr(layout, "CHUNKS", 4)
    monkeypatch.setattr(ingest, "WAVE", 2)


@pytest.fixture
def fasta(tmp_path, small_shards):
    """Two files, six sequences: about nine tasks of 16 kB."""
    sequences = {f"chr{i}": letters(i, 13_000 + 997 * i) for i in range(6)}
    for part in range(2):
        names = list(sequences)[3 * part : 3 * part + 3]
        lines = (
            f">{n} a sequence\n" + "\n".join(sequences[n][i : i + 60] for i in range(0, len(sequences[n]), 60))
            for n in names
        )
        (tmp_path / f"{part}.fa").write_text("\n".join(lines) + "\n")
    return [tmp_path / "0.fa", tmp_path / "1.fa"], sequences


def whole(store, tokenizer=TOKENIZER):
    """Sequences by name, put together from their pieces."""
    found = {}
    for name, tokens in zip(store.names, store, strict=True):
        name, _, span = name.partition(":")
        assert len(found.get(name, "")) == int(span.split("-")[0] or 0) if span else name not in found
        found[name] = found.get(name, "") + tokenizer.detokenize(tokens)
    return found


def chunks(path):
    return sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in Path(path, "chunks").iterdir())


def same(one, two):
    assert np.array_equal(one.table, two.table) and one.names == two.names
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a.features, b.features) and torch.equal(a.positions, b.positions)
        assert torch.equal(a.sizes, b.sizes) and torch.equal(a.source, b.source)


def test_sequences_come_back_and_positions_go_on(fasta, tmp_path):
    inputs, sequences = fasta
    store = run(inputs, tmp_path / "store", piece=5000)
    assert whole(store) == sequences
    assert verify_tokens(tmp_path / "store") == []
    assert [one.what for one in generations(tmp_path / "store")] == ["tokenize"]
    second = store.entry(1)
    assert second.name == "chr0:5008-10016"  # rounded up to whole patches
    assert second.tokens.positions[0, 0, 0] == 5008 + 7.5


def test_another_call_adds_behind(fasta, tmp_path):
    inputs, sequences = fasta
    run(inputs[:1], tmp_path / "store", piece=None)
    store = run(inputs[1:], tmp_path / "store", piece=None)
    assert whole(store) == sequences and len(store) == 6
    assert len(read_tokens(tmp_path / "store", generation=0)) == 3


def test_processes_write_the_same_bytes(fasta, tmp_path):
    inputs, _ = fasta
    one = run(inputs, tmp_path / "one", piece=4096)
    two = run(inputs, tmp_path / "two", piece=4096, workers=2)
    same(one, two)
    assert chunks(tmp_path / "one") == chunks(tmp_path / "two")


def test_a_cluster_writes_the_same_though_a_worker_is_killed(fasta, tmp_path, monkeypatch):
    distributed, dask = pytest.importorskip("distributed"), pytest.importorskip("dask")
    dask.config.set({"distributed.comm.timeouts.connect": "120s"})  # a busy machine starts workers slowly
    inputs, _ = fasta
    one = run(inputs, tmp_path / "one", piece=4096)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        two = run(inputs, tmp_path / "two", piece=4096, dask=cluster.scheduler_address)
        assert chunks(tmp_path / "one") == chunks(tmp_path / "two")
        same(one, two)
        before = [worker.pid for worker in cluster.workers.values()]
        monkeypatch.setattr(ingest, "fill", slow_fill)
        killer = Timer(0.7, os.kill, (before[0], signal.SIGKILL))
        killer.start()
        three = run(inputs, tmp_path / "three", piece=4096, dask=cluster.scheduler_address)
        killer.join()
        assert before[0] not in [worker.pid for worker in cluster.workers.values()]
    same(one, three)


def slow_fill(*args, **more):
    time.sleep(0.4)
    return FILL(*args, **more)


KILLED = """
import sys
from tokred_sci import ingest
from tokred_sci.datasets import layout
from tokred_sci.tokenizers import DNATokenizer
layout.CHUNK_BYTES, layout.CHUNKS, ingest.WAVE = 1 << 12, 4, 2
commit, left = ingest._Job.commit, [2]
def stop_after_two(job, *args):
    commit(job, *args)
    left[0] -= 1
    if not left[0]:
        print("ready", flush=True)
        sys.stdin.read()
ingest._Job.commit = stop_after_two
ingest.tokenize_files(sys.argv[2:], sys.argv[1], DNATokenizer(16, compact=True), piece=4096, progress=False)
"""


def test_a_killed_job_goes_on_where_it_was(fasta, tmp_path, monkeypatch):
    inputs, sequences = fasta
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path / "store", *inputs], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"ready\n"
        child.kill()
    with pytest.raises(StoreError, match="first writer has not finished"):
        read_tokens(tmp_path / "store")
    with pytest.raises(InputError, match="no unfinished job"):
        run(inputs[:1], tmp_path / "store", piece=4096)
    filled = []
    monkeypatch.setattr(ingest, "fill", lambda task, *args, **more: filled.append(task) or FILL(task, *args, **more))
    store = run(inputs, tmp_path / "store", piece=4096)
    assert whole(store) == sequences
    resumed = len(filled)
    same(store, run(inputs, tmp_path / "again", piece=4096))
    assert resumed and len(filled) - resumed == resumed + 4  # two waves of two tasks were not done twice


def test_an_unfinished_job_can_be_dropped(fasta, tmp_path, monkeypatch):
    inputs, _ = fasta
    left = [2]  # tasks of the first wave

    def fails_then(*args, **more):
        left[0] -= 1
        return FILL(*args, **more) if left[0] >= 0 else 1 / 0

    monkeypatch.setattr(ingest, "fill", fails_then)
    with pytest.raises(ZeroDivisionError):
        run(inputs, tmp_path / "store")
    monkeypatch.setattr(ingest, "fill", FILL)
    with pytest.raises(InputError, match="drop_unfinished"):
        run(inputs[:1], tmp_path / "store")
    drop_unfinished(tmp_path / "store")
    assert len(run(inputs[:1], tmp_path / "store")) == 3


def test_a_job_that_got_nowhere_stands_in_nobodys_way(tmp_path):
    bad = tmp_path / "a.fa"
    bad.write_text(">one\nMKVLE\n")
    with pytest.raises(InputError, match=r"a\.fa, record one: Expected IUPAC letters"):
        run(bad, tmp_path / "store")
    bad.write_text(">one\nACGT\n")
    assert whole(run(bad, tmp_path / "store")) == {"one": "ACGT"}


def test_an_empty_folder_becomes_a_store_and_no_other(fasta, tmp_path):
    inputs, _ = fasta
    (tmp_path / "empty").mkdir()
    assert len(run(inputs, tmp_path / "empty")) == 6
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for place in (tmp_path / "mine", inputs[0]):
        with pytest.raises(StoreError, match="nothing like it"):
            run(inputs, place)
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_what_was_written_meanwhile_is_not_lost(fasta, tmp_path, monkeypatch):
    inputs, _ = fasta
    run(inputs[:1], tmp_path / "store")
    monkeypatch.setattr(ingest, "fill", lambda *args, **more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(inputs, tmp_path / "store")
    monkeypatch.setattr(ingest, "fill", FILL)
    append_tokens(tmp_path / "store", [TOKENIZER("ACGT")], TOKENIZER.fingerprint)
    with pytest.raises(InputError, match="later generation"):
        run(inputs, tmp_path / "store")
    assert len(read_tokens(tmp_path / "store")) == 4
    drop_unfinished(tmp_path / "store")
    assert len(run(inputs, tmp_path / "store")) == 10


def test_killed_while_it_ends_a_job_is_not_doubled(fasta, tmp_path, monkeypatch):
    inputs, sequences = fasta
    real = ingest.open_repository

    class Dies:
        def __init__(self, repository):
            self.repository = repository

        def __getattr__(self, name):
            if name == "reset_branch":
                raise KeyboardInterrupt
            return getattr(self.repository, name)

    monkeypatch.setattr(ingest, "open_repository", lambda *args: Dies(real(*args)))
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path / "store", piece=None)
    monkeypatch.setattr(ingest, "open_repository", real)
    assert whole(run(inputs, tmp_path / "store", piece=None)) == sequences


def test_bad_calls_are_refused(fasta, tmp_path):
    inputs, _ = fasta
    run(inputs, tmp_path / "store")
    with pytest.raises(InputError, match="fingerprint"):
        run(inputs, tmp_path / "store", DNATokenizer(8, compact=True))
    with pytest.raises(InputError, match="at least one input"):
        run([], tmp_path / "store")
    for bad in ({"piece": 0}, {"piece": 1.5}, {"workers": -1}, {"workers": 1.5}):
        with pytest.raises(InputError, match=f"'{next(iter(bad))}' >="):
            run(inputs, tmp_path / "store", **bad)
    with pytest.raises(InputError, match="a Dask scheduler at 'nowhere'"):
        run(inputs, tmp_path / "store", dask="nowhere")
    with pytest.raises(FileError, match="nothing there"):
        run([tmp_path / "no.fa"], tmp_path / "store")
    with pytest.raises(InputError, match="in a known format"):
        run(inputs, tmp_path / "points", PointTokenizer())
    with pytest.raises(InputError, match=r"DNATokenizer .*got 'path'"):
        tokenizer_for(inputs[0], {"path": 4}, {})
    assert len(read_tokens(tmp_path / "store")) == 6


def test_a_file_changed_under_way_is_refused(fasta, tmp_path, monkeypatch):
    inputs, _ = fasta
    measure = ingest.measure

    def then_edit(path, **more):
        told = measure(path, **more)
        Path(path).write_text(">chr0\nACGT\n")
        return told

    monkeypatch.setattr(ingest, "measure", then_edit)
    with pytest.raises(FileError, match="a changed file"):
        run(inputs, tmp_path / "store")


@pytest.mark.parametrize("channels", ["mix", "independent"])
def test_series_are_cut_with_their_time_stamps(tmp_path, channels):
    values = np.random.default_rng(0).normal(size=(2, 700))
    np.save(tmp_path / "a.npy", values)
    tokenizer = SeriesTokenizer(16, normalise="none", channels=channels, in_channels=2)
    store = run([tmp_path / "a.npy"], tmp_path / "store", tokenizer, piece=300)
    back = [tokenizer.detokenize(tokens) for tokens in store]
    rows = [torch.cat(back, 1)] if channels == "mix" else [torch.cat(back[i::2], 1) for i in range(2)]
    np.testing.assert_allclose(torch.cat(rows), values, rtol=1e-6)
    assert store.names[0] == ("0:0-304" if channels == "mix" else "0:0-304/0")
    assert store.entry(len(store) - 1).tokens.positions.max() > 690


def test_series_of_whole_numbers_are_converted(tmp_path):
    values = np.random.default_rng(0).integers(-2000, 2000, (1, 700), np.int16)
    np.save(tmp_path / "a.npy", values)
    tokenizer = SeriesTokenizer(16, normalise="none")
    store = run([tmp_path / "a.npy"], tmp_path / "store", tokenizer, piece=304)
    assert torch.equal(torch.cat([tokenizer.detokenize(tokens) for tokens in store], 1), torch.from_numpy(values) * 1.0)


def test_a_file_that_can_be_mapped_is_not_read_for_its_tokenizer(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((3, 1000)))
    opened = []
    monkeypatch.setattr(
        ingest, "open_parts", lambda *args, **more: opened.append(open_parts(*args, **more)) or opened[0]
    )
    assert tokenizer_for(tmp_path / "a.npy", {"patch": 4}, {"domain": "series"}).in_channels == 3
    assert opened[0].mapped


def test_the_domain_may_be_said_as_an_option(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 64)))
    options = {"domain": "series"}
    tokenizer = tokenizer_for(tmp_path / "a.npy", {}, options)
    assert len(run(tmp_path / "a.npy", tmp_path / "store", tokenizer, options=options)) == 1
    with pytest.raises(InputError, match="the option domain='points'"):
        run(tmp_path / "a.npy", tmp_path / "store", tokenizer, options={"domain": "points"})


def test_a_mapped_file_is_let_go_of_after_each_task(tmp_path, small_shards, monkeypatch):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(1, 70_000)).astype(np.float32))
    mapped = []
    monkeypatch.setattr(
        ingest, "fill", lambda *args, **more: mapped.append(ingest._open.cache_info()) or FILL(*args, **more)
    )
    run([tmp_path / "a.npy"], tmp_path / "store", SeriesTokenizer(16), piece=4096)
    assert len(mapped) > 2 and all(told.currsize == 0 for told in mapped[1:])


def test_clouds_are_never_cut(tmp_path):
    cloud = np.random.default_rng(0).normal(size=(5000, 3))
    np.save(tmp_path / "a.npy", cloud)
    tokenizer = PointTokenizer(tokens=512, neighbours=64, method="curve")
    store = run([tmp_path / "a.npy"], tmp_path / "store", tokenizer, piece=100)
    assert len(store) == 1
    np.testing.assert_allclose(tokenizer.detokenize(store[0]), cloud, atol=1e-6)


def test_a_cloud_is_tokenized_once(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(5000, 3)))
    call, points = PointTokenizer.__call__, []
    monkeypatch.setattr(PointTokenizer, "__call__", lambda self, cloud: points.append(len(cloud)) or call(self, cloud))
    run([tmp_path / "a.npy"], tmp_path / "store", PointTokenizer(method="runs"))
    assert sum(points) < 2 * 5000 and points[-1] == 5000


def test_a_real_genome_comes_back_bit_for_bit(tmp_path):
    data = Path(os.environ.get("TOKRED_DATA") or Path(__file__).resolve().parents[1].parent / "shared" / "data")
    path = data / "genomics" / "genomes" / "NC_000913.gbk.gz"
    if not path.is_file():
        pytest.skip(f"no {path}: set TOKRED_DATA to the folder of public data")
    records, labels = read(path)
    store = run([path], tmp_path / "store")
    assert "".join(TOKENIZER.detokenize(tokens) for tokens in store) == records[0]
    assert np.array_equal(torch.cat([entry.targets for entry in store.entries(range(len(store)))]), labels[0])
    size = sum(file.stat().st_size for file in (tmp_path / "store").rglob("*") if file.is_file())
    assert size * 8 / len(records[0]) < 2.1  # bits a base, labels and all


def test_labels_per_record_and_per_element_go_along(tmp_path):
    (tmp_path / "a.ts").write_text(
        "@problemName a\n@timeStamps false\n@missing false\n@univariate true\n@equalLength false\n"
        "@classLabel true no yes\n@data\n1,2,3,4,5:yes\n1,2,3:no\n"
    )
    store = run([tmp_path / "a.ts"], tmp_path / "series", SeriesTokenizer(2))
    assert store.labels.tolist() == [1, 0]
    (tmp_path / "a.gff").write_text("##gff-version 3\nchr\t.\tCDS\t3\t6\t.\t+\t0\tID=a\n##FASTA\n>chr\nACGTACGTAC\n")
    store = run([tmp_path / "a.gff"], tmp_path / "dna", DNATokenizer(4), piece=4)
    assert torch.cat([store.entry(i).targets for i in range(3)]).tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0, 0]
