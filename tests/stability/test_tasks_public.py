"""Tasks on the real public sets: fetched from a folder laid out as a mirror, drawn, and their parts told apart."""

import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tokred_sci.datasets.public import Card, find
from tokred_sci.datasets.public.series import _CWRU
from tokred_sci.errors import FetchError
from tokred_sci.stability.tasks import IGNORE, TASKS, Task

DATA = Path(os.environ.get("TOKRED_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
real = pytest.mark.skipif(not DATA.is_dir(), reason="real data: set TOKRED_DATA to its folder")
Put = Callable[[str, bytes], None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    monkeypatch.setenv("TOKRED_DATA_MIRROR", (tmp_path / "mirror").as_uri())
    monkeypatch.setenv("TOKRED_DATA_HOME", str(tmp_path / "home"))

    def to_mirror(name: str, data: bytes) -> None:
        (tmp_path / "mirror" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / name).write_bytes(data)

    return to_mirror


def unpinned(name: str) -> Card:
    """For files whose bytes are not the public ones: written anew, or a part of them."""
    card = find(name)
    return replace(card, files=tuple(replace(file, sha256=None, size=None) for file in card.files))


def untarred(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}


def zipped(content: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name, data in content.items():
            made.writestr(name, data)
    return stream.getvalue()


def drawn(task: Task, multiple: int) -> None:
    """What holds for every task, at this length and on these data."""
    for test in (False, True):
        records, labels, hidden = task.draw(8, 0, test, multiple)
        for record, mask in zip(records, hidden, strict=True):
            assert (record.shape[1] if task.domain == "series" else len(record)) == len(mask) == task.length * multiple
            assert task.domain == "dna" or np.isfinite(record).all()
        if task.answer == "per-element":
            assert len({int((answer != IGNORE).sum()) for answer in labels}) == 1


@pytest.mark.parametrize(
    "name", ["dna/promoter", "points/object", "points/parts", *(f"series/{n}" for n in ("arrhythmia", "bearing"))]
)
def test_a_set_that_cannot_be_fetched_is_refused_with_its_file(put: Put, name: str) -> None:
    with pytest.raises(FetchError, match=r"(?s)Expected to fetch .*By hand"):
        TASKS[name]()


@real
def test_promoter(put: Put) -> None:
    content = untarred(DATA / "genomics" / "gue" / "prom_prom_300_tata.tar.xz")
    put("gue/GUE.zip", zipped({f"GUE/{name}": data for name, data in content.items()}))
    task = TASKS["dna/promoter"](source="gue/prom300_tata")
    drawn(task, 16)
    letters = [content[f"prom/prom_300_tata/{part}.csv"].decode().splitlines()[1:] for part in ("train", "test")]
    pieces = [{row.split(",")[0]: int(row.split(",")[1]) for row in rows} for rows in letters]
    for test in (False, True):
        for record, label, hidden in zip(*task.draw(20, 1, test), strict=True):
            piece = "".join(np.array([*record])[hidden])
            assert pieces[test][piece] == label and (piece in pieces[0]) != test


@real
def test_coding_of_an_organism_that_was_not_seen(put: Put) -> None:
    put("genome/NC_049491.gb", gzip.decompress((DATA / "genomics" / "genomes" / "NC_049491.gbk.gz").read_bytes()))
    task = TASKS["dna/coding-unseen"](unseen=("genome/NC_049491",))
    drawn(task, 16)
    answers = np.concatenate(task.draw(20, 0, True).labels)
    assert 0.5 < (answers[answers != IGNORE] > 0).mean() < 1 and task.sources == ("sample:dna", "genome/NC_049491")


@real
def test_object(put: Put) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as made:
        for name, data in untarred(DATA / "pointclouds" / "shrec11_split16_meshcnn.tar.xz").items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            made.addfile(entry, io.BytesIO(data))
    put("shrec11/shrec_16.tar.gz", stream.getvalue())
    for name, data in untarred(DATA / "pointclouds" / "isprs_filtertest_samples_pcd.tar.xz").items():
        put(f"isprs/{Path(name).name}", data)
    task = TASKS["points/object"]()
    drawn(task, 16)
    for record, hidden in zip(*task.draw(8, 0, multiple=4)[::2], strict=True):
        body = record[hidden] - record[hidden].mean(0)
        assert np.isclose(np.sqrt((body**2).sum(1).mean()), 1, atol=1e-3)


@real
def test_parts(put: Put) -> None:
    packed = lzma.decompress((DATA / "pointclouds" / "labeled_psb_16384.npz.xz").read_bytes())
    with np.load(io.BytesIO(packed)) as archive:
        arrays = dict(archive)
    rows = np.flatnonzero(np.isin(arrays["class_names"][arrays["class_index"]], ("Ant", "Cup")))
    few = {name: values[rows] if len(values) == 380 else values for name, values in arrays.items()}
    stream = io.BytesIO()
    np.savez(stream, **few)
    put("labeled_psb/labeled_psb_16384.npz.xz", lzma.compress(stream.getvalue(), preset=0))
    task = TASKS["points/parts"](categories=("Ant", "Cup"), source=unpinned("labeled_psb/sampled"))
    assert task.classes[-2:] == ("Cup: body", "Cup: handle") and len(task.classes) == 7
    drawn(task, 16)
    for answer in task.draw(4, 0).labels:
        assert set(answer.tolist()) <= {5, 6} or set(answer.tolist()) <= set(range(5))


@real
def test_arrhythmia(put: Put) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    packed = lzma.decompress((DATA / "timeseries" / "cinc2017_1500.npz.xz").read_bytes())
    with np.load(io.BytesIO(packed)) as archive:
        arrays = dict(archive)
    content, table = {}, []
    for row in range(0, 1500, 10):
        name, start, stop = arrays["ids"][row], *arrays["offsets"][row : row + 2]
        stream = io.BytesIO()
        savemat(stream, {"val": np.cumsum(arrays["delta_int16"][start:stop], dtype="i2")[None]})
        content[f"training2017/{name}.mat"] = stream.getvalue()
        table.append(f"{name},{arrays['labels'][row]}\n")
    put("cinc2017/training2017.zip", zipped(content))
    put("cinc2017/REFERENCE-v3.csv", "".join(table).encode())
    drawn(TASKS["series/arrhythmia"](), 16)


@real
def test_bearing(put: Put) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    with np.load(DATA / "timeseries" / "cwru_12kDE_0hp_10class_DE.npz") as archive:
        for number, name in _CWRU.items():
            stream = io.BytesIO()
            savemat(stream, {f"X{number:03d}_DE_time": archive[name.replace("@", "_at_")][:, None].astype(float)})
            put(f"cwru/{number}.mat", stream.getvalue())
    task = TASKS["series/bearing"](source=unpinned("cwru"))
    drawn(task, 16)
    assert len(task.classes) == 9 and "Normal_0" not in task.classes
    spreads = np.array([record.std() for record in task.draw(36, 0).records])
    assert spreads.min() > 0.8 and spreads.max() < 1.2  # a fault is no louder than what is around it


@real
def test_anomaly(put: Put) -> None:
    for name, data in untarred(DATA / "timeseries" / "nab_data_labels.tar.xz").items():
        put(f"nab/{Path(name).name}", data)
    task = TASKS["series/anomaly"]()
    drawn(task, 16)
    assert max(np.abs(record).max() for record in task.draw(30, 0).records) < 15


@real
def test_lookback(put: Put) -> None:
    put("ett/ETTh1.csv", gzip.decompress((DATA / "timeseries" / "ETTh1.csv.gz").read_bytes()))
    task = TASKS["series/lookback"]()
    drawn(task, 16)
    short, long = (np.concatenate(task.draw(200, 0, multiple=m).labels, axis=1) for m in (1, 16))
    assert short.shape == (7, 200 * 96) and np.allclose(short.mean(1), long.mean(1), atol=0.35)
