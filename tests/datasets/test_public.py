"""Every public set by name: real files, packed as their public homes pack them, from a local server to records."""

import gzip
import http.server
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tokred_sci.datasets.public import (
    Card,
    cards,
    cards_markdown,
    fetch_set,
    find,
    info_text,
    list_text,
    load,
    scenes,
    shapes,
    verify,
)
from tokred_sci.datasets.public import series as series_sets
from tokred_sci.datasets.public.card import Home, known_files, seeded_split
from tokred_sci.datasets.public.text import fetch_text, verify_text
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FetchError, FileError, InputError, TokredError

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TOKRED_DATA", ROOT.parent / "shared" / "data"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="real data: set TOKRED_DATA to its folder")
Write = Callable[[str, bytes], None]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("mirror")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def write(mirror: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("TOKRED_DATA_MIRROR", mirror[1])

    def to_mirror(name: str, data: bytes) -> None:
        (mirror[0] / name).parent.mkdir(exist_ok=True)
        (mirror[0] / name).write_bytes(data)

    return to_mirror


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def zipped(content: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for name, data in content.items():
            made.writestr(name, data)
    return stream.getvalue()


def untarred(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}


def unpinned(card: Card) -> Card:
    """For files whose bytes are not the public ones (a .mat written anew)."""
    return replace(card, files=tuple(replace(file, sha256=None, size=None) for file in card.files))


def good(name: str | Card, home: Path) -> bool:
    return {state for _, state in verify(name, home)} == {"good"}


# DNA

GUE_ROWS = {
    **{f"tf{i}": (f"tf_{i}", (n, 1000, 1000)) for i, n in enumerate((32378, 30672, 19000, 27294, 19000))},
    "mouse0": ("mouse_0", (6478, 810, 810)),
    "mouse2": ("mouse_2", (2620, 328, 328)),
    "mouse3": ("mouse_3", (1904, 239, 239)),
    "mouse4": ("mouse_4", (15064, 1883, 1883)),
    "core_tata": ("prom_prom_core_tata", (4904, 613, 613)),
    "core_notata": ("prom_prom_core_notata", (42452, 5307, 5307)),
    "prom300_tata": ("prom_prom_300_tata", (4904, 613, 613)),
}


@real
def test_gue(write: Write, home: Path) -> None:
    content: dict[str, bytes] = {}
    for source, _ in GUE_ROWS.values():
        content |= {f"GUE/{n}": data for n, data in untarred(DATA / "genomics" / "gue" / f"{source}.tar.xz").items()}
    write("gue/GUE.zip", zipped(content))
    for task, (_, rows) in GUE_ROWS.items():
        parts = [load(f"gue/{task}", part, home) for part in ("train", "dev", "test")]
        assert tuple(len(part.records) for part in parts) == rows
        assert all(part.classes == ("0", "1") and set(part.labels) == {0, 1} for part in parts)
    assert len(load("gue/tf0", folder=home).records) == 34378
    first = content["GUE/tf/0/train.csv"].decode().splitlines()[1].split(",")
    assert load("gue/tf0", "train", home).records[0] == first[0]
    assert good("gue/tf0", home) and len(verify("gue/tf0", home)) == 2  # the archive and what was unpacked
    with pytest.raises(FileError, match="H3"):  # not in this archive
        load("gue/emp_H3", folder=home)
    table = next(home.glob("gue/GUE.*/GUE/tf/1/dev.csv"))
    table.write_bytes(table.read_bytes()[:-3])
    assert tuple(state for _, state in verify("gue/tf0", home)) == ("good", "changed")


@real
def test_promoters(write: Write, home: Path) -> None:
    counts = {"ecoli": (3000, 839), "bacillus": (1000, 373), "mouse_tata": (3530, 1255)}
    counts |= {"arabidopsis_tata": (2879, 1497), "arabidopsis_nontata": (2879, 5905)}
    for path in (DATA / "genomics" / "cnnprom").glob("*.fa.gz"):
        write(f"cnnprom/{path.stem}", gzip.decompress(path.read_bytes()))
    for name, (others, promoters) in counts.items():
        whole = load(f"cnnprom/{name}", folder=home)
        assert np.bincount(whole.labels).tolist() == [others, promoters] and good(f"cnnprom/{name}", home)
        parts = [load(f"cnnprom/{name}", part, home) for part in ("train", "dev", "test")]
        assert sum(len(part.records) for part in parts) == others + promoters
        letters = [{sequence.upper() for sequence in part.records} for part in parts]
        assert not letters[0] & letters[1] and not letters[0] & letters[2] and not letters[1] & letters[2]
        assert 0.08 < len(parts[2].records) / (others + promoters) < 0.12


GENOMES = {
    "NC_000913": ("NC_000913.gbk.gz", 4641652),
    "NC_000932": ("NC_000932.gb.gz", 154478),
    "NC_049491": ("NC_049491.gbk.gz", 164746),
    "NC_070914": ("NC_070914.gbk.gz", 30280),
    "NZ_CP001668": ("GCF_000023685.1.gbff.gz", 1084586),
    "MN908947": ("sarscov2_MN908947_reference.gb.gz", 29903),
}


@real
@pytest.mark.parametrize("accession", GENOMES)
def test_genomes(write: Write, home: Path, accession: str) -> None:
    name, length = GENOMES[accession]
    write(f"genome/{accession}.gb", gzip.decompress((DATA / "genomics" / "genomes" / name).read_bytes()))
    found = load(f"genome/{accession}", folder=home)
    assert len(found.records[0]) == len(found.labels[0]) == length
    assert good(f"genome/{accession}", home)
    if accession == "NC_000913":
        assert 0.87 < np.mean(np.asarray(found.labels[0]) > 0) < 0.885


def test_splice_junctions(write: Write, tmp_path: Path) -> None:
    rows = [
        f"{kind},  {kind}-{i},      {'ACGTN'[i % 5] * 30}{'ACGT'[i % 4] * 30}"
        for kind in ("EI", "IE", "N")
        for i in range(40)
    ]
    write("uci_splice/splice.data", ("\n".join(rows) + "\n").encode())
    whole = load("uci_splice", folder=tmp_path)
    assert np.bincount(whole.labels).tolist() == [40, 40, 40] and whole.names[0] == "EI-0"
    train, test = load("uci_splice", "train", tmp_path), load("uci_splice", "test", tmp_path)
    assert not set(train.records) & set(test.records)
    write("uci_splice/splice.data", b"EI, a, ACGT\nIE, b\n")
    with pytest.raises(FileError, match="line 2"):
        load(unpinned(find("uci_splice")), folder=tmp_path / "other")


def test_parquet_benchmarks(write: Write, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def packed(table: dict[str, list]) -> bytes:
        stream = io.BytesIO()
        parquet.write_table(pyarrow.table(table), stream)
        return stream.getvalue()

    for part, rows in {"train": 6, "test": 2}.items():
        table = {"seq": ["ACGT" * (i + 1) for i in range(rows)], "label": [i % 2 for i in range(rows)]}
        write(f"genomic_benchmarks/human_enhancers_cohn.{part}.parquet", packed(table))
        table = {
            "sequence": table["seq"],
            "name": ["x"] * rows,
            "label": table["label"],
            "task": ["enhancers", "H2AFZ"] * (rows // 2),
        }
        write(f"nucleotide_transformer/all.{part}.parquet", packed(table))
    whole = load("genomic_benchmarks/human_enhancers_cohn", folder=tmp_path)
    assert len(whole.records) == 8 and whole.classes == ("0", "1")
    assert load("genomic_benchmarks/human_enhancers_cohn", "test", tmp_path).records == ["ACGT", "ACGTACGT"]
    assert len(load("nucleotide_transformer/H2AFZ", "train", tmp_path).records) == 3
    with pytest.raises(FileError, match="promoter_all"):
        load("nucleotide_transformer/promoter_all", folder=tmp_path)
    write("genomic_benchmarks/demo_human_or_worm.train.parquet", b"PAR1 not really")
    write("genomic_benchmarks/demo_human_or_worm.test.parquet", b"PAR1 not really")
    with pytest.raises(FileError, match="Parquet"):
        load("genomic_benchmarks/demo_human_or_worm", folder=tmp_path)


# Points

SQUARE = "OFF\n4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n"


@real
def test_shrec11(write: Write, home: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as made:
        for name, data in untarred(DATA / "pointclouds" / "shrec11_split16_meshcnn.tar.xz").items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            made.addfile(entry, io.BytesIO(data))
    write("shrec11/shrec_16.tar.gz", stream.getvalue())
    test = load("shrec11", "test", home)
    assert (len(test.records), len(test.classes)) == (120, 30)
    assert len([*home.glob("shrec11/shrec_16.*/shrec_16/*/train/*.obj")]) == 480
    assert np.bincount(test.labels).tolist() == [4] * 30 and test.records[0].shape == (1024, 3)
    assert good("shrec11", home)


@real
def test_mosd(write: Write, home: Path) -> None:
    for scene in ("learn0", "test43"):
        write(f"mosd/{scene}.pcd", (DATA / "pointclouds" / "mosd" / f"{scene}.pcd").read_bytes())
    card = scenes.mosd([0], [43])
    train, test = load(card, "train", home), load(card, "test", home)
    assert train.names == ("learn0",) and test.names == ("test43",) and good(card, home)
    assert len(train.records[0]) > 100_000 and len(train.records[0]) == len(train.labels[0])
    assert train.labels[0].min() == 0 and 2 <= len(set(train.labels[0].tolist())) < 20
    assert len(find("mosd").files) == 111


@real
def test_isprs(write: Write, home: Path) -> None:
    for name, data in untarred(DATA / "pointclouds" / "isprs_filtertest_samples_pcd.tar.xz").items():
        write(f"isprs/{Path(name).name}", data)
    found = load("isprs", folder=home)
    assert len(found.records) == 15 and good("isprs", home)
    assert (min(map(len, found.records)), max(map(len, found.records))) == (7492, 52119)
    assert all(0.1 < np.mean(labels) < 0.999 for labels in found.labels)
    assert len(set(found.groups)) == 7


@real
@pytest.mark.parametrize(("name", "points"), [("MixedConifer", 37657), ("Topography", 73403), ("autzen_trim", 110000)])
def test_lidar(write: Write, home: Path, name: str, points: int) -> None:
    pytest.importorskip("laspy")
    write(f"lidar/{name}.laz", (DATA / "pointclouds" / f"{name}.laz").read_bytes())
    found = load(f"lidar/{name}", folder=home)
    assert len(found.records[0]) == len(found.labels[0]) == points and good(f"lidar/{name}", home)


@real
def test_labeled_psb(write: Write, home: Path, tmp_path: Path) -> None:
    packed = (DATA / "pointclouds" / "labeled_psb_16384.npz.xz").read_bytes()
    write("labeled_psb/labeled_psb_16384.npz.xz", packed)
    whole = load("labeled_psb/sampled", folder=home)
    assert len(whole.records) == 380 and whole.records[0].shape == (16384, 3) and good("labeled_psb/sampled", home)
    assert len({name.split("/")[0] for name in whole.names}) == 19
    test = shapes._by_category(whole, "test")
    assert len({name.split("/")[0] for name in test.names}) == 19 and 30 <= len(test.records) <= 46
    parts = [shapes._by_category(whole, part).names for part in ("train", "dev", "test")]
    assert sum({"Bird/243", "Bird/251"} <= set(names) for names in parts) == 1
    write("labeled_psb/labeledDb.zip", zipped(small_meshes(whole)))
    made = load("labeled_psb/meshes", folder=tmp_path)
    assert len(made.records) == 38 and made.records[0].shape == (1024, 3)
    assert all((labels >= 0).all() for labels in made.labels) and len(made.classes) > 40


def small_meshes(whole: Records) -> dict[str, bytes]:
    """A triangle at every 40th real point, labelled as the point is: two shapes of each category."""
    content, taken = {}, dict.fromkeys((name.split("/")[0] for name in whole.names), 0)
    for name, cloud, labels in zip(whole.names, whole.records, whole.labels, strict=True):
        kind = name.split("/")[0]
        taken[kind] += 1
        if taken[kind] > 2:
            continue
        corners = (cloud[::40, None] + np.array([[0, 0, 0], [0.01, 0, 0], [0, 0.01, 0.003]])).reshape(-1, 3)
        faces = np.arange(len(corners)).reshape(-1, 3)
        rows = [" ".join(map(str, row)) for row in corners] + [f"3 {a} {b} {c}" for a, b, c in faces]
        content[f"LabeledDB_new/{name}.off"] = "\n".join(["OFF", f"{len(corners)} {len(faces)} 0", *rows, ""]).encode()
        of_face = labels[::40]
        text = [
            f"{whole.classes[part].split(': ')[1]}\n{' '.join(str(i + 1) for i in np.flatnonzero(of_face == part))} \n"
            for part in np.unique(of_face)
        ]
        content[f"LabeledDB_new/{name}_labels.txt"] = "".join(text).encode()
    return content


def test_modelnet(write: Write, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    content = {
        f"ModelNet10/{kind}/{part}/{kind}_{i:04d}.off": SQUARE.encode()
        for kind in ("bathtub", "bed")
        for part in ("train", "test")
        for i in range(3 if part == "train" else 1)
    }
    write("modelnet10/ModelNet10.zip", zipped(content | {"__MACOSX/ModelNet10/._x": b""}))
    train = load("modelnet10", "train", tmp_path)
    assert train.labels == [0, 0, 0, 1, 1, 1] and train.classes == ("bathtub", "bed") and len(train.records[0]) == 1024
    assert len(load("modelnet10", folder=tmp_path).records) == 8

    def h5(count: int) -> bytes:
        stream = io.BytesIO()
        with h5py.File(stream, "w") as made:
            made["data"] = np.random.default_rng(count).normal(size=(count, 32, 3)).astype(np.float32)
            made["label"] = np.arange(count, dtype=np.uint8)[:, None] % 2
        return stream.getvalue()

    base = "modelnet40_ply_hdf5_2048"
    listed = {"train": ["ply_data_train0.h5", "ply_data_train1.h5"], "test": ["ply_data_test0.h5"]}
    content = {f"{base}/{name}": h5(i + 2) for i, name in enumerate(listed["train"] + listed["test"])}
    content |= {
        f"{base}/{p}_files.txt": "".join(f"data/{base}/{n}\n" for n in names).encode() for p, names in listed.items()
    }
    write(f"modelnet40/{base}.zip", zipped(content | {f"{base}/shape_names.txt": b"airplane\nbathtub\n"}))
    assert len(load("modelnet40", "train", tmp_path).records) == 5
    assert load("modelnet40", "test", tmp_path).classes == ("airplane", "bathtub")

    names = {f"h5_files/{f}/{p}_{s}.h5": h5(3) for f, s, _, _ in shapes._SCANS.values() for p in ("training", "test")}
    write("scanobjectnn/h5_files.zip", zipped(names))
    for name in ("obj_only", "obj_bg", "pb_t50_rs"):
        assert len(load(f"scanobjectnn/{name}", folder=tmp_path).records) == 6
    assert len(load("scanobjectnn/obj_bg", "test", tmp_path).classes) == 15


def test_shapenet_parts(write: Write, tmp_path: Path) -> None:
    base = "shapenetcore_partanno_segmentation_benchmark_v0_normal"
    row = "0.1 0.2 0.3 0.0 0.0 1.0 {}.000000\n"
    content = {f"{base}/synsetoffset2category.txt": b"Airplane\t02691156\nBag\t02773838\n"}
    for i, part in enumerate(("train", "val", "test")):
        content[f"{base}/train_test_split/shuffled_{part}_file_list.json"] = json.dumps(
            [f"shape_data/02691156/s{i}"]
        ).encode()
        content[f"{base}/02691156/s{i}.txt"] = "".join(row.format(k % 4) for k in range(10)).encode()
    write(f"shapenet_part/{base}.zip", zipped(content))
    whole = load("shapenet_part", folder=tmp_path)
    assert whole.names == ("Airplane/s0", "Airplane/s1", "Airplane/s2") and whole.records[0].shape == (10, 6)
    assert whole.labels[0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1] and len(whole.classes) == 50
    assert load("shapenet_part", "val", tmp_path).names == ("Airplane/s1",)


def test_rooms(write: Write, tmp_path: Path) -> None:
    base = "Stanford3dDataset_v1.2_Aligned_Version"
    content = {
        f"{base}/Area_{area}/office_1/Annotations/{name}_1.txt": b"1.0 2.0 3.0 10 20 30\n1.5 2.5 3.5 11\x0021 31\n"
        for area in (1, 5)
        for name in ("chair", "stairs")
    }
    write(f"s3dis/{base}.zip", zipped(content))
    whole = load("s3dis", folder=tmp_path)
    assert whole.names == ("Area_1/office_1", "Area_5/office_1") and whole.records[0].shape == (4, 6)
    assert whole.labels[0].tolist() == [8, 8, 12, 12] and whole.records[0][1].tolist() == [1.5, 2.5, 3.5, 11, 21, 31]
    assert load("s3dis", "test", tmp_path).groups == ("Area_5",)


# Series


@real
def test_transformer_temperature(write: Write, home: Path) -> None:
    for name in ("ETTh1", "ETTh2"):
        write(f"ett/{name}.csv", gzip.decompress((DATA / "timeseries" / f"{name}.csv.gz").read_bytes()))
        whole = load(f"ett/{name}", folder=home)
        assert (
            whole.records[0].shape == (7, 17420) and whole.channels[-1].startswith("OT") and good(f"ett/{name}", home)
        )
        parts = [load(f"ett/{name}", part, home) for part in ("train", "dev", "test")]
        assert [part.records[0].shape[1] for part in parts] == [8640, 2880, 2880]
        assert [len(part.times[0]) for part in parts] == [8640, 2880, 2880]
        assert (parts[1].records[0] == whole.records[0][:, 8640:11520]).all()


@real
def test_exchange_rates(write: Write, home: Path) -> None:
    write("ltsf/exchange_rate.txt.gz", (DATA / "timeseries" / "exchange_rate.txt.gz").read_bytes())
    whole = load("ltsf/exchange_rate", folder=home)
    assert whole.records[0].shape == (8, 7588) and whole.records[0][0, 0] == 0.7855 and good("ltsf/exchange_rate", home)
    parts = [load("ltsf/exchange_rate", part, home).records[0].shape[1] for part in ("train", "dev", "test")]
    assert parts == [5311, 760, 1517]


def test_other_forecasting_sets(write: Write, tmp_path: Path) -> None:
    rows = [f"2020-01-01 {h:02d}:{m:02d}:00,{h}.5,{m}" for h in range(10) for m in range(0, 60, 10)]
    for name in ("electricity", "traffic", "weather"):
        write(f"ltsf/{name}.csv", "\n".join(["date,0,OT", *rows, ""]).encode())
        assert load(f"ltsf/{name}", "train", tmp_path).records[0].shape == (2, 42)
        assert load(f"ltsf/{name}", "test", tmp_path).records[0].shape == (2, 12)


def test_ucr(write: Write, tmp_path: Path) -> None:
    text = "@problemName Up\n@timeStamps false\n@missing false\n@univariate true\n@equalLength true\n@seriesLength 3\n"
    text += "@classLabel true 1 2\n@data\n"
    write(
        "ucr/FordA.zip",
        zipped({"FordA_TRAIN.ts": f"{text}1,2,3:1\n3,2,1:2\n".encode(), "FordA_TEST.ts": f"{text}1,1,2:1\n".encode()}),
    )
    train = load("ucr/FordA", "train", tmp_path)
    assert train.labels == [0, 1] and train.classes == ("1", "2") and train.records[0].shape == (1, 3)
    assert len(load("ucr/FordA", folder=tmp_path).records) == 3
    write("ucr/NewSet.zip", zipped({"readme": b""}))
    with pytest.raises(FileError, match=r"NewSet_TRAIN\.ts"):
        load("ucr/NewSet", folder=tmp_path)
    with pytest.raises(FetchError, match=r"(?s)404.*nearest is 'ucr/FordA'"):
        load("ucr/FordAA", folder=tmp_path)


@real
def test_nab(write: Write, home: Path) -> None:
    for name, data in untarred(DATA / "timeseries" / "nab_data_labels.tar.xz").items():
        write(f"nab/{Path(name).name}", data)
    found = load("nab", folder=home)
    assert len(found.records) == 58 and good("nab", home)
    assert sum(len(labels) for labels in found.labels) == sum(r.shape[1] for r in found.records)
    assert sum(r.shape[1] for r in found.records) == sum(map(len, found.times)) == 365_558
    starts = sum(int((np.diff(labels, prepend=0) == 1).sum()) for labels in found.labels)
    assert starts == 116 and found.labels[0].sum() == 0


@real
def test_cinc2017(write: Write, home: Path) -> None:
    from scipy.io import savemat

    with np.load(io.BytesIO(lzma.decompress((DATA / "timeseries" / "cinc2017_1500.npz.xz").read_bytes()))) as archive:
        arrays = dict(archive)
    content, some = {}, slice(0, 1500, 3)
    starts, stops = arrays["offsets"][:-1][some], arrays["offsets"][1:][some]
    ids, labels = arrays["ids"][some], arrays["labels"][some]
    for name, start, stop in zip(ids, starts, stops, strict=True):
        stream = io.BytesIO()
        savemat(stream, {"val": np.cumsum(arrays["delta_int16"][start:stop], dtype="i2")[None]})
        content[f"training2017/{name}.mat"] = stream.getvalue()
    table = "".join(f"{name},{label}\n" for name, label in zip(ids, labels, strict=True))
    write("cinc2017/training2017.zip", zipped(content))
    write("cinc2017/REFERENCE-v3.csv", table.encode())
    whole = load("cinc2017", folder=home)
    counts = [int((labels == rhythm).sum()) for rhythm in "NAO~"]
    assert np.bincount(whole.labels).tolist() == counts and good("cinc2017", home)
    assert sum(r.shape[1] for r in whole.records) == (stops - starts).sum() and whole.records[0][0, 0] == 72
    test = load("cinc2017", "test", home)
    assert all(abs(found - 0.1 * count) <= 1 for found, count in zip(np.bincount(test.labels), counts, strict=True))


@real
def test_mitdb(write: Write, home: Path) -> None:
    pytest.importorskip("wfdb")
    for end in ("hea", "dat", "atr"):
        write(f"mitdb/100.{end}", (DATA / "timeseries" / "mitdb" / f"100.{end}").read_bytes())
    found = load("mitdb/100", folder=home)
    assert found.records[0].shape == (2, 650000) and good("mitdb/100", home)
    beats = np.asarray(found.labels[0])
    assert beats.shape == (650000,) and 2270 <= (beats > 0).sum() <= 2274 and "N" in found.classes
    both = load(series_sets.mitdb("mitdb", {"train": ["100"], "test": ["100"]}), folder=home)
    assert len(both.records) == 2 and both.classes == found.classes
    assert len(find("mitdb").files) == 132


@real
def test_bearings(write: Write, home: Path) -> None:
    from scipy.io import savemat

    with np.load(DATA / "timeseries" / "cwru_12kDE_0hp_10class_DE.npz") as archive:
        for number, name in series_sets._CWRU.items():
            stream = io.BytesIO()
            values = archive[name.replace("@", "_at_")].astype(np.float64)[:, None]
            savemat(stream, {f"X{number:03d}_DE_time": values, f"X{number:03d}RPM": 1797})
            write(f"cwru/{number}.mat", stream.getvalue())
    card = unpinned(find("cwru"))
    whole = load(card, folder=home)
    assert [r.shape[1] for r in whole.records][:2] == [243938, 122571] and good(card, home)
    parts = [load(card, part, home) for part in ("train", "dev", "test")]
    assert (np.concatenate([p.records[3] for p in parts], axis=1) == whole.records[3]).all()
    with pytest.raises(FetchError, match="16bf48babcf1"):  # the public file has another hash
        load("cwru", folder=home)


# Names, hashes, text


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("gue/tf9", "'gue/tf"),
        ("modelnet", "'modelnet"),
        ("gue", "family"),
        ("ucr/../x", "Expected"),
        ("", "Expected"),
        (3, "3"),
    ],
)
def test_unknown_names_are_refused(name: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        load(name)


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'train', 'dev', 'test'"):
        load("gue/tf0", "validation", tmp_path)
    with pytest.raises(InputError, match="leave 'split' out"):
        load("nab", "train", tmp_path)


def test_sets_by_hand_say_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKRED_DATA_MIRROR", raising=False)
    for name in ("s3dis", "scanobjectnn/obj_bg", "labeled_psb/meshes", "labeled_psb/sampled"):
        with pytest.raises(FetchError) as error:
            load(name, folder=tmp_path)
        told = str(error.value)
        assert find(name).by_hand in told and str(tmp_path / find(name).family) in told and find(name).homepage in told
    monkeypatch.setenv("no_proxy", "*")
    path = tmp_path / "s3dis" / find("s3dis").files[0].name
    path.parent.mkdir()
    path.write_bytes(zipped({"x": b""}))
    with pytest.raises(FileError, match="another layout"):
        load("s3dis", folder=tmp_path)
    assert verify("s3dis", tmp_path)[0][1] == "good"  # recorded at first use


def test_a_folder_can_be_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKRED_DATA_MIRROR", (tmp_path / "mirror").as_uri())
    (tmp_path / "mirror" / "uci_splice").mkdir(parents=True)
    (tmp_path / "mirror" / "uci_splice" / "splice.data").write_text("EI, a, ACGT\n")
    assert fetch_text("uci_splice", tmp_path / "home").endswith("uci_splice")
    assert verify_text("uci_splice", tmp_path / "home") == "good     uci_splice/splice.data"
    assert [state for _, state in verify("cnnprom/ecoli", tmp_path / "home")] == ["absent", "absent"]
    with pytest.raises(FetchError, match=r"NC_000913\.gb"):
        fetch_set("genome/NC_000913", tmp_path / "home")


@real
def test_published_hashes_are_those_of_the_files_at_hand() -> None:
    import hashlib

    sums = {line.split()[0] for line in (DATA / "SHA256SUMS").read_text().splitlines()}
    for name, (sha256, _) in known_files().items():
        if name.startswith(("mitdb", "lidar", "mosd", "ltsf")):
            assert sha256 in sums, name
    csv = gzip.decompress((DATA / "timeseries" / "ETTh1.csv.gz").read_bytes())
    assert known_files()["ett/ETTh1.csv"] == (hashlib.sha256(csv).hexdigest(), len(csv))


def test_cards_are_complete() -> None:
    for name, card in cards().items():
        assert card.name == name and card.domain in ("dna", "points", "series") and card.files, name
        assert card.title and card.task and card.licence and card.tested and card.split_rule, name
        assert card.citation.url.startswith("http") and 1990 < card.citation.year < 2027, name
        assert card.homepage.startswith("http"), name
        assert len({file.name for file in card.files}) == len(card.files), name
        for file in card.files:
            assert not file.url or file.url.startswith("http"), name
            assert file.url or card.by_hand, name
        assert info_text(name).startswith(f"{name}: ")
    used = {f"{card.family}/{file.name}" for card in cards().values() for file in card.files}
    assert set(known_files()) - used <= {"cnnprom/README"}
    assert len(list_text().splitlines()) == len({card.family for card in cards().values()})


def test_the_document_is_made_from_the_cards() -> None:
    assert (ROOT / "docs" / "datasets.md").read_text() == cards_markdown()


def test_our_split_never_moves() -> None:
    """These numbers are published: a change makes other people's results incomparable."""
    parts = seeded_split([0, 1] * 10, [f"patient {i // 2}" for i in range(20)])
    assert {name: rows for name, rows in parts.items() if name != "train"} == SPLIT
    assert sorted(row for rows in parts.values() for row in rows) == list(range(20))


SPLIT = {"dev": [14, 15], "test": [4, 5]}


def test_importing_brings_no_optional_package() -> None:
    code = (
        "import sys, tokred_sci.datasets.public as p; p.cards(); "
        "print({'torch_geometric', 'pandas', 'h5py', 'pyarrow', 'wfdb', 'laspy', 'datasets'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_two_at_once_unpack_once(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(zipped({str(i): bytes(1000) for i in range(50)}))
    found: list[Path] = []
    work = [
        threading.Thread(target=lambda: found.append(Home(tmp_path).unpacked("set.zip")), daemon=True) for _ in range(4)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join(20)
    assert len(found) == 4 and len(set(found)) == 1 and len(list(tmp_path.iterdir())) == 2


def test_a_foreign_archive_in_place_of_the_set_is_refused(write: Write, tmp_path: Path) -> None:
    for name in (
        "modelnet10",
        "modelnet40",
        "shapenet_part",
        "scanobjectnn/obj_bg",
        "shrec11",
        "labeled_psb/meshes",
        "s3dis",
        "gue/tf0",
    ):
        card = find(name)
        data = zipped({"other.txt": b"x"})
        if name == "shrec11":
            data = gzip.compress(b"not a tar")
        write(f"{card.family}/{card.files[0].name}", data)
        with pytest.raises(TokredError):
            load(unpinned(card), folder=tmp_path)
    assert Home(tmp_path).path("x") == tmp_path / "x"
