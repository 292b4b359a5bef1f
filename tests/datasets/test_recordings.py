"""Readers of recordings with a clock: real positions in time, physical units, and a place for whatever is wrong."""

import gzip
import os
import shutil
import tarfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from tokred_sci import errors
from tokred_sci.datasets.records import Records
from tokred_sci.datasets.series import read_edf, read_table, read_wfdb
from tokred_sci.errors import FileError, InputError, MissingExtra, TokredError

edfio = pytest.importorskip("edfio")
pandas = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # wfdb 4.3 warns when it meets pandas 3
    wfdb = pytest.importorskip("wfdb")

DATA = (
    Path(os.environ.get("TOKRED_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data")) / "timeseries"
)
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no timeseries in TOKRED_DATA or shared/data")

CSV = """date,flow (l/s),load,state
2020-01-01 00:00:00,1.5,2,on
2020-01-01 00:01:00,,3,off
2020-01-01 00:05:30,?,4e2,
"""
START = 1_577_836_800.0  # 2020-01-01


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Tables


def test_table_has_values_places_in_time_and_labels(tmp_path):
    found = read_table(put(tmp_path, "a.csv", CSV), label="state")
    np.testing.assert_array_equal(found.records[0], [[1.5, np.nan, np.nan], [2, 3, 400]])
    assert found.times[0].tolist() == [START, START + 60, START + 330] and found.times[0].dtype == np.float64
    assert found.labels[0].tolist() == [1, 0, -1] and found.classes == ("off", "on")
    assert found.channels == ("flow (l/s)", "load (?)") and found.unit == "seconds" and found.source == "a.csv"


@pytest.mark.parametrize("delimiter", ["\t", ";", "|", ","])
def test_table_delimiters_compression_and_line_ends(tmp_path, delimiter):
    text = CSV.replace(",", delimiter).replace("\n", "\r\n\r\n").encode("utf-8-sig")
    found = read_table(put(tmp_path, "a.txt.gz", gzip.compress(text)), channels=["load"])
    assert found.records[0].tolist() == [[2, 3, 400]] and found.times[0][-1] == START + 330


def test_table_without_header(tmp_path):
    found = read_table(put(tmp_path, "a.txt", "1.5  -2e1\n 3   nan\n"))
    np.testing.assert_array_equal(found.records[0], [[1.5, 3], [-20, np.nan]])
    assert found.times is None and found.channels == ("column 0 (?)", "column 1 (?)")
    assert read_table(put(tmp_path, "b.csv", "5\n6\n")).records[0].tolist() == [[5, 6]]
    assert read_table(put(tmp_path, "e.csv", "flow rate\n5\n6\n")).channels == ("flow rate (?)",)
    assert read_table(put(tmp_path, "c.csv", ",0\n7,8\n")).channels == ("column 0 (?)", "0 (?)")
    assert read_table(put(tmp_path, "d.csv", "0,1\n7,8\n"), header=False).records[0].tolist() == [[0, 7], [1, 8]]


# case 8
@pytest.mark.parametrize(
    ("text", "options", "seconds"),
    [
        ("time,a\n0.5,1\n2,2\n", {}, [0.5, 2]),
        ("time (ms),a\n500,1\n2000,2\n", {}, [0.5, 2]),
        ("timestamp,a\n1577836800000,1\n1577836801000,2\n", {"time_unit": "ms"}, [START, START + 1]),
        ("when,a\n7,1\n8,2\n", {"time": "when"}, [7, 8]),
        ("date,a\n20200101,1\n20200102,2\n", {"date_format": "%Y%m%d"}, [START, START + 86400]),
        ("date,a\n02.01.2020,1\n03.01.2020,2\n", {"date_format": "%d.%m.%Y"}, [START + 86400, START + 172800]),
        ("t,a\n2020-01-01T01:00:00+01:00,1\n2020-01-01T00:00:01Z,2\n", {}, [START, START + 1]),
        ("t,a\n2020-01-01 00:00:00.125,1\n2020-01-01 00:00:00.250000,2\n", {}, [START + 0.125, START + 0.25]),
        ("date,a\n2020/01/01,1\n2020/02/01,2\n", {}, [START, START + 31 * 86400]),
        ("date,a\n2020-01,1\n2020-02,2\n", {}, [START, START + 31 * 86400]),
        ("time,a\n3,1\n1,2\n", {"order": "sort"}, [1, 3]),
        ("time,a\n1,1\n1,2\n3,3\n", {"repeats": "first"}, [1, 3]),
    ],
)
def test_table_time_stamps(tmp_path, text, options, seconds):
    found = read_table(put(tmp_path, "a.csv", text), **options)
    np.testing.assert_allclose(found.times[0], seconds, rtol=0, atol=1e-6)
    assert found.records[0].shape == (1, 2)


def test_table_sorts_values_and_labels_with_their_time(tmp_path):
    text = "time,a,b\n3,30,x\n1,10,y\n2,20,z\n1,11,x\n"
    found = read_table(put(tmp_path, "a.csv", text), label="b", order="sort", repeats="first")
    assert found.records[0].tolist() == [[10, 20, 30]] and found.labels[0].tolist() == [1, 2, 0]
    plain = read_table(put(tmp_path, "a.csv", text), time=False, label="b")
    assert plain.times is None and plain.records[0].shape == (2, 4)


# cases 7 and 8
@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        (CSV.replace("4e2", "four"), {"label": "state"}, "line 4, column 'load'.*'four'"),
        (CSV, {}, "line 2, column 'state'.*'on'"),
        (CSV.replace(",3,", ",inf,"), {"label": "state"}, "line 3, column 'load'.*'inf'"),
        (CSV.replace(",3,", ","), {"label": "state"}, "line 3.*4 fields.*got 3"),
        (CSV.replace(",3,", ",3,3,"), {"label": "state"}, "line 3.*4 fields.*got 5"),
        (CSV.replace("00:05:30", "00:01:00"), {"label": "state"}, "line 3 and line 4.*each time stamp once"),
        (CSV.replace("00:05:30", "00:00:30"), {"label": "state"}, "line 3 and line 4.*order='sort'"),
        (CSV.replace("2020-01-01 00:01", "2020-02-30 00:01"), {"label": "state"}, "line 3, column 'date'.*02-30"),
        (CSV.replace("2020-01-01 00:01:00", ""), {"label": "state"}, "line 3, column 'date'"),
        (CSV.replace("load", "date"), {"label": "state"}, "header.*once.*'date'"),
        (CSV.replace("1.5", "?"), {"label": "state"}, r"column 'flow \(l/s\)'.*only missing.*empty='keep'"),
        (CSV, {"time": "dat"}, "'dat'.*did you mean 'date'"),
        (CSV, {"channels": ["load", "load"]}, "each once"),
        ("date,a\n01/02/2020,1\n", {}, "line 2, column 'date'.*date_format"),
        ("date,a\n20200101,1\n20200102,2\n", {}, "date_format='%Y%m%d'"),
        ("timestamp,a\n1577836800000,1\n", {}, "line 2, column 'timestamp'.*time_unit"),
        ("time,a\nnow,1\n", {}, "line 2, column 'time'"),
        ("time,date,a\n1,2,1\n", {}, "one column of time stamps.*time, date"),
        ("0,1,2\n5,6,7\n", {}, "line 1.*header=True or header=False"),
        ('a,b\n1,"2\n', {}, "quotes that close"),
        ("a,b\n", {}, "a header alone"),
        ("", {}, "an empty table"),
        (b"a,b\n1,\xff\n", {}, "byte 6.*UTF-8"),
    ],
)
def test_table_malformed_is_refused(tmp_path, text, options, told):
    path = put(tmp_path, "a.csv", text)
    before = path.read_bytes()
    with pytest.raises(FileError, match=told):
        read_table(path, **options)
    assert path.read_bytes() == before


# case 8
def test_table_channel_without_values_can_be_kept(tmp_path):
    found = read_table(put(tmp_path, "a.csv", "a,b\n1,\n2,\n"), empty="keep")
    assert np.isnan(found.records[0][1]).all()


@pytest.mark.parametrize(
    "options",
    [{"order": "maybe"}, {"empty": None}, {"time_unit": "h"}, {"channels": "load"}, {"repeats": 1}, {"time": True}],
)
def test_table_arguments_are_refused(tmp_path, options):
    with pytest.raises(InputError):
        read_table(put(tmp_path, "a.csv", CSV), **options)


def test_parquet_is_the_same_as_text(tmp_path):
    times = pandas.to_datetime(["2020-01-01 00:00", "2020-01-01 01:00"])
    frame = pandas.DataFrame({"date": times, "a": [1.5, np.nan], "n": [1, 2], "state": ["x", None]})
    frame.to_parquet(tmp_path / "a.parquet")
    found = read_table(tmp_path / "a.parquet", label="state")
    np.testing.assert_array_equal(found.records[0], [[1.5, np.nan], [1, 2]])
    assert found.times[0].tolist() == [START, START + 3600] and found.labels[0].tolist() == [0, -1]
    frame.set_index("date")[["a"]].astype("float32").to_parquet(tmp_path / "b.parquet")
    found = read_table(tmp_path / "b.parquet")
    assert found.records[0].dtype == np.float32 and found.times[0].tolist() == [START, START + 3600]


def test_parquet_malformed_is_refused(tmp_path):
    frame = pandas.DataFrame({"time": [2.0, 1.0], "a": [1.5, np.inf], "b": ["x", "y"]})
    frame.to_parquet(tmp_path / "a.parquet")
    for options, told in (
        ({}, "column 'b'.*numbers"),
        ({"channels": ["a"]}, "row 1, column 'a'.*infinity"),
    ):
        with pytest.raises(FileError, match=told):
            read_table(tmp_path / "a.parquet", **options)
    frame["a"] = 1.0
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(FileError, match=r"row 0 and row 1.*increase"):
        read_table(tmp_path / "a.parquet", channels=["a"])
    with pytest.raises(FileError, match="Parquet"):
        read_table(put(tmp_path, "b.parquet", (tmp_path / "a.parquet").read_bytes()[:-9]))


# EDF


def edf(path: Path, rates: tuple[int, ...] = (4, 4), notes: tuple = ()) -> Path:
    random = np.random.default_rng(0)
    signals = [
        edfio.EdfSignal(random.normal(size=8 * rate), rate, label=f"EEG {index}", physical_dimension="uV")
        for index, rate in enumerate(rates)
    ]
    edfio.Edf(signals, annotations=[edfio.EdfAnnotation(*note) for note in notes]).write(path)
    return path


def test_edf_has_physical_values(tmp_path):
    found = read_edf(edf(tmp_path / "a.edf"))
    there = edfio.read_edf(tmp_path / "a.edf")
    np.testing.assert_array_equal(found.records[0], [signal.data for signal in there.signals])
    assert found.channels == ("EEG 0 (uV)", "EEG 1 (uV)") and found.unit == "time steps of 1/4 s"
    assert found.labels is None and found.records[0].dtype == np.float64
    packed = read_edf(put(tmp_path, "b.edf.gz", gzip.compress((tmp_path / "a.edf").read_bytes())), ["EEG 1"])
    np.testing.assert_array_equal(packed.records[0][0], found.records[0][1])


def test_edf_annotations_are_labels(tmp_path):
    path = edf(tmp_path / "a.edf", notes=((0.5, 1, "wake"), (3, None, "spike"), (7, 30, "sleep"), (1, 0.25, "move")))
    found = read_edf(path, annotations=True)
    assert found.classes == ("none", "move", "sleep", "spike", "wake") and found.labels[0].dtype == np.int8
    assert found.labels[0].tolist() == [0, 0, 4, 4, 1, 4, 0, 0, 0, 0, 0, 0, 3] + [0] * 15 + [2] * 4


def test_edf_rates_must_agree_or_are_refused(tmp_path):
    path = edf(tmp_path / "a.edf", (4, 8, 4))
    with pytest.raises(FileError, match=r"4 Hz: EEG 0, EEG 2; 8 Hz: EEG 1.*'channels'"):
        read_edf(path)
    assert read_edf(path, ["EEG 2", "EEG 0"]).channels == ("EEG 2 (uV)", "EEG 0 (uV)")
    with pytest.raises(FileError, match="'EEG 3'"):
        read_edf(path, ["EEG 3"])
    with pytest.raises(InputError, match="list"):
        read_edf(path, "EEG 0")


def test_edf_cut_or_damaged_is_refused(tmp_path):
    data = edf(tmp_path / "a.edf").read_bytes()
    for told, content in (
        ("end.*cut short", data[:-1]),
        ("end.*more than", data + b"\0"),
        ("byte 0", data[1:]),
        ("byte 236.*'-1'", data[:236] + b"-1      " + data[244:]),
        ("byte 236", data[:236] + b"99999999" + data[244:]),
        ("without gaps", data[:192] + b"EDF+D" + data[197:]),
        ("byte", data[:300]),
        ("byte 0", b""),
    ):
        with pytest.raises(FileError, match=told if told != "byte 236" else "cut short"):
            read_edf(put(tmp_path, "b.edf", content))


# WFDB


def record(folder: Path, fmt: str = "16") -> Path:
    wave = np.random.default_rng(1).normal(size=(60, 2)).round(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wfdb.wrsamp("r1", 250, ["mV", "mmHg"], ["II", "ABP"], wave, fmt=[fmt] * 2, write_dir=str(folder))
        wfdb.wrann("r1", "atr", np.array([3, 10, 10, 40]), ["N", "+", "V", "N"], write_dir=str(folder))
    return folder / "r1.hea"


@pytest.mark.parametrize("fmt", ["16", "212", "80", "24", "32"])
def test_wfdb_has_physical_values_and_beats(tmp_path, fmt):
    path = record(tmp_path, fmt)
    found = read_wfdb(path)
    np.testing.assert_array_equal(found.records[0], wfdb.rdrecord(str(path.with_suffix(""))).p_signal.T)
    assert found.channels == ("II (mV)", "ABP (mmHg)") and found.unit == "time steps of 1/250 s"
    assert found.classes == ("none", "N", "V", "+") and found.labels[0].dtype == np.int16
    assert {place: label for place, label in enumerate(found.labels[0]) if label} == {3: 1, 10: 2, 40: 1}
    for same in (path.with_suffix(""), path.with_suffix(".dat")):
        np.testing.assert_array_equal(read_wfdb(same).records[0], found.records[0])
    assert read_wfdb(path, annotation=None).labels is None and read_wfdb(path, annotation="qrs").labels is None


def test_wfdb_reads_matlab_samples(tmp_path):
    from scipy.io import savemat

    samples = np.array([[10, -20, 30, 40]], np.int16)
    savemat(tmp_path / "A1.mat", {"val": samples}, format="4")
    put(tmp_path, "A1.hea", f"A1 1 300 4\nA1.mat 16+24 1000/mV 16 0 10 {samples.sum()} 0 ECG\n")
    found = read_wfdb(tmp_path / "A1.hea")
    np.testing.assert_allclose(found.records[0], samples / 1000, rtol=1e-15)
    assert found.labels is None and found.channels == ("ECG (mV)",)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("r1 2 250 60", "r1 2 250 6000000000000", "end.*bytes of samples"),
        ("r1 2 250 60", "r1/2 2 250 60", "r1.hea"),
        ("r1 2 250 60", "r1 3 250 60", "r1.hea"),
        ("r1 2 250 60", "r1 2 0 60", "sampling rate"),
        ("r1.dat 16", "../r1.dat 16", "r1.hea"),
        ("r1.dat 16", "r2.dat 16", "one of the formats|nothing there"),
        ("r1.dat 16", "r1.dat 516", "formats"),
        ("r1.dat 16 ", "r1.dat 16x2 ", "one sampling rate"),
    ],
)
def test_wfdb_header_that_lies_is_refused(tmp_path, old, new, told):
    path = record(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(FileError, match=told):
        read_wfdb(path)


def test_wfdb_missing_cut_or_changed_is_refused(tmp_path):
    path = record(tmp_path)
    data, notes = path.with_suffix(".dat").read_bytes(), path.with_suffix(".atr").read_bytes()
    for told, ending, content in (
        ("r1.dat, end.*240 bytes", ".dat", data[:-1]),
        ("checksum", ".dat", data[:-1] + bytes([data[-1] ^ 1])),
        ("cut short", ".atr", notes[:-2]),
        ("step below 60", ".atr", b"\xff\x07" + notes),
    ):
        whole = path.with_suffix(ending).read_bytes()
        path.with_suffix(ending).write_bytes(content)
        with pytest.raises(FileError, match=told):
            read_wfdb(path)
        path.with_suffix(ending).write_bytes(whole)
    assert read_wfdb(path).records[0].shape == (2, 60)
    path.with_suffix(".dat").unlink()
    with pytest.raises(FileError, match=r"nothing there at .*r1.dat"):
        read_wfdb(path)
    with pytest.raises(FileError, match="nothing there"):
        read_wfdb(tmp_path / "none")


# All


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    data, place = bytearray(data), int(random.integers(len(data)))
    end = place + int(random.integers(1, 12))
    kind = random.integers(6)
    if kind == 0:
        return bytes(data[:place])
    if kind == 1:
        data[place] ^= 1 << int(random.integers(8))
    elif kind == 2:
        del data[place:end]
    elif kind == 3:
        data[place:place] = data[place:end] * int(random.integers(1, 5))
    elif kind == 4:
        data[place:end] = random.bytes(end - place)
    else:
        data[place:place] = [b"99999999999", b"-1", b"nan", b"\n", b",", b'"', b"\0", b"1e999"][random.integers(8)]
    return bytes(data)


def check_mutations(path: Path, read, trials: int) -> None:
    data, random, refused = path.read_bytes(), np.random.default_rng(11), 0
    for _ in range(trials):
        path.write_bytes(mutate(data, random))
        began = time.process_time()
        try:
            found = read()
        except TokredError as error:
            refused += path.stem in str(error)
        else:
            assert isinstance(found, Records) and found.records[0].ndim == 2
        assert time.process_time() - began < 1
    assert refused > trials // 10


# case 9
def test_mutated_tables_are_read_or_refused(tmp_path):
    path = put(tmp_path, "a.csv", CSV)
    check_mutations(path, lambda: read_table(path, label="state"), 300)


# case 9
def test_mutated_parquet_is_read_or_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pandas.DataFrame({"time": [1.0, 2.0], "a": [1.5, 3.0]}).to_parquet(path)
    check_mutations(path, lambda: read_table(path), 300)


# case 9
def test_mutated_edf_is_read_or_refused(tmp_path):
    path = edf(tmp_path / "a.edf", notes=((0.5, 1, "wake"),))
    check_mutations(path, lambda: read_edf(path, annotations=True), 300)


# case 9
@pytest.mark.parametrize("ending", [".hea", ".dat", ".atr"])
def test_mutated_wfdb_is_read_or_refused(tmp_path, ending):
    path = record(tmp_path)
    check_mutations(path.with_suffix(ending), lambda: read_wfdb(path), 200)


@pytest.mark.parametrize(
    ("package", "read", "content"),
    [("edfio", read_edf, ""), ("wfdb", read_wfdb, ""), ("pandas", read_table, CSV), ("pandas", read_table, "PAR1")],
)
def test_without_the_package_the_pip_line_is_told(tmp_path, monkeypatch, package, read, content):
    def absent(name: str):
        raise ImportError(name)

    monkeypatch.setattr(errors, "import_module", absent)
    options = {"label": "state"} if content == CSV else {}
    with pytest.raises(MissingExtra, match=rf"{package}[\s\S]*tokred-sci\[series\]"):
        read(put(tmp_path, "a.hea", content), **options)


# Real files


@needs_data
@pytest.mark.parametrize("name", ["ETTh1.csv.gz", "ETTh2.csv.gz"])
def test_ett(name):
    found = read_table(DATA / name)
    assert found.records[0].shape == (7, 17_420) and found.channels[-1] == "OT (?)"
    assert (np.diff(found.times[0]) == 3600).all() and found.times[0][0] == 1_467_331_200
    there = np.loadtxt(DATA / name, delimiter=",", skiprows=1, usecols=range(1, 8))
    np.testing.assert_array_equal(found.records[0], there.T)


@needs_data
def test_exchange_rates():
    found = read_table(DATA / "exchange_rate.txt.gz")
    assert found.records[0].shape == (8, 7_588) and found.times is None
    assert found.records[0][:2, 0].tolist() == [0.7855, 1.611]


@needs_data
def test_mit_bih_record_100(tmp_path):
    found = read_wfdb(DATA / "mitdb" / "100.hea")
    assert found.records[0].shape == (2, 650_000) and found.channels == ("MLII (mV)", "V5 (mV)")
    assert found.unit == "time steps of 1/360 s" and found.records[0][0, 0] == (995 - 1024) / 200
    counts = dict(zip(found.classes, np.bincount(found.labels[0]), strict=True))
    assert counts == {"none": 650_000 - 2_274, "N": 2_239, "A": 33, "V": 1, "+": 1}
    for file in (DATA / "mitdb").iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    with (tmp_path / "100.dat").open("r+b") as stream:
        stream.seek(1_000_000)
        stream.write(b"\x01")
    with pytest.raises(FileError, match="checksum"):
        read_wfdb(tmp_path / "100.hea")


@needs_data
def test_nab(tmp_path):
    steps, repeated = 0, 0
    with tarfile.open(DATA / "nab_data_labels.tar.xz", "r|xz") as archive:
        for member in archive:
            if member.name.endswith(".csv"):
                path = put(tmp_path, "nab.csv", archive.extractfile(member).read())
                rows = len(path.read_bytes().splitlines()) - 1
                found = read_table(path, order="sort", repeats="first")
                steps += rows
                repeated += found.records[0].shape[1] < rows
                assert (np.diff(found.times[0]) > 0).all() and found.channels == ("value (?)",)
    assert steps == 365_558 and repeated == 8
