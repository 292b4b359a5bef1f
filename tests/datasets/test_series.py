"""Readers of collections of series: values, classes and lengths as written, and a line number for whatever is wrong."""

import bz2
import gzip
import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tokred_sci.datasets.records import Records
from tokred_sci.datasets.series import detect, read_arff, read_mat, read_series_npy, read_ts, read_ucr
from tokred_sci.errors import FileError, InputError, TokredError

DATA = Path(os.environ.get("TOKRED_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))

TS = """#A description, with a stray byte: \xb5
@problemName Steps
@timeStamps false
@missing true
@univariate false
@dimensions 2
@equalLength false
@classLabel true up down
@data
1,2.5,?:4,5,6:up
7,NaN:9,-1e-3:down
"""
ARFF = """% a comment, with a stray byte: \xb5
@RELATION Steps
@attribute 't 0' numeric
@ATTRIBUTE t1 REAL
@attribute t2 integer
@attribute target {'b c',a}
@DATA
1,2.5,?,a
-4, 5e2 ,6,'b c'
"""
RELATIONAL = """@relation 'Moves'
@attribute relationalAtt relational
 @attribute att0 numeric
 @attribute att1 numeric
 @attribute att2 numeric
@end relationalAtt
@attribute activity {Standing,Running}
@data
'1,2,3\\n4,5,6',Running
"7,?,9\\n10,11,12",'Standing'
"""
UCR = "2\t1.5\t2.5\tNaN\n1\t0\t-1e1\t2\n2\t3\tNaN\tNaN\n"


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode("latin-1") if isinstance(content, str) else content)
    return path


def bytes_of(save, *args, **kwargs) -> bytes:
    stream = io.BytesIO()
    save(stream, *args, **kwargs)
    return stream.getvalue()


ARRAY = np.arange(24.0).reshape(2, 3, 4)
NPY = bytes_of(np.save, ARRAY)
NPZ = bytes_of(np.savez_compressed, a=ARRAY, b=ARRAY[0])
MAT = bytes_of(savemat, {"val": np.arange(6, dtype=np.int16)[None], "other": np.ones((3, 2))})
MAT4 = bytes_of(savemat, {"val": np.arange(6, dtype=np.int16)[None], "other": np.ones((3, 2))}, format="4")
SMALL = {  # reader -> one file it reads
    "ts": (read_ts, "a.ts", TS.encode("latin-1")),
    "arff": (read_arff, "a.arff", ARFF.encode("latin-1")),
    "relational": (read_arff, "b.arff", RELATIONAL.encode()),
    "ucr": (read_ucr, "a.tsv", UCR.encode()),
    "npy": (read_series_npy, "a.npy", NPY),
    "npz": (lambda path: read_series_npy(path, "a"), "a.npz", NPZ),
    "mat": (lambda path: read_mat(path, "val"), "a.mat", MAT),
    "mat4": (lambda path: read_mat(path, "val"), "b.mat", MAT4),
}


# .ts


def test_ts_has_the_values_lengths_and_classes_of_the_file(tmp_path):
    found = read_ts(put(tmp_path, "a.ts", TS))
    np.testing.assert_array_equal(found.records[0], [[1, 2.5, np.nan], [4, 5, 6]])
    np.testing.assert_array_equal(found.records[1], [[7, np.nan], [9, -1e-3]])
    assert found.labels == [0, 1] and found.classes == ("up", "down") and found.source == "a.ts"
    assert found.records[0].dtype == np.float64 and found.times is None and len(found.channels) == 2


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lambda data: data.replace(b"\n", b"\r\n")])
def test_ts_compressed_or_from_windows_is_the_same(tmp_path, pack):
    plain = read_ts(put(tmp_path, "a.ts", TS))
    packed = read_ts(put(tmp_path, "b.ts", pack(TS.encode("latin-1"))))
    for one, other in zip(plain.records, packed.records, strict=True):
        np.testing.assert_array_equal(one, other)
    assert plain.labels == packed.labels


def test_ts_knows_targets_and_series_without_labels(tmp_path):
    found = read_ts(put(tmp_path, "a.ts", "@targetlabel true\n@univariate true\n@data\n1,2:0.25\n3,4:-1\n"))
    assert found.labels == [0.25, -1.0] and found.classes == ()
    found = read_ts(put(tmp_path, "b.ts", "@classLabel false\n@data\n1,2:3,4\n"))
    assert found.labels is None and found.records[0].tolist() == [[1, 2], [3, 4]]


def test_ts_time_stamps_are_seconds(tmp_path):
    head = "@timeStamps true\n@classLabel true 1 2\n@data\n"
    dates = "(1970-01-01 00:00:00,1.5),(1970-01-01 00:01:00,?):(1970-01-01 00:00:00,3),(1970-01-01 00:01:00,4):2\n"
    found = read_ts(put(tmp_path, "a.ts", head + dates))
    np.testing.assert_array_equal(found.records[0], [[1.5, np.nan], [3, 4]])
    assert found.times[0].tolist() == [0, 60] and found.labels == [1] and found.unit == "seconds"
    assert read_ts(put(tmp_path, "b.ts", head + "(0,1),(2.5,3):1\n")).times[0].tolist() == [0, 2.5]


# case 7
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("7,NaN:9,-1e-3:down", "7,NaN:9,-1e-3:sideways", "line 11.*up, down.*'sideways'"),
        ("7,NaN:9", "7,NaN,8:9", "line 11.*one length.*3, 2"),
        ("7,NaN:9,-1e-3:down", "7,x:9,-1e-3:down", "line 11, value 1.*'x'"),
        ("7,NaN:9", "7,:9", "line 11, value 1.*''"),
        ("7,NaN:9", "7,inf:9", "line 11, value 1.*'inf'"),
        ("7,NaN:9", "7,1_0:9", "line 11, value 1.*'1_0'"),
        ("7,NaN:9,-1e-3:down", "7,8,9,down", "line 11.*':' and a label"),
        ("7,NaN:9,-1e-3:down", "7,8:down", "line 11.*2 dimensions.*got 1"),
        ("@dimensions 2", "@dimensions 3", "line 10.*3 dimensions.*got 2"),
        ("@univariate false", "@univariate true", "line 6.*1 dimension"),
        ("@equalLength false", "@equalLength true", "line 11.*3 values.*got 2"),
        ("@equalLength false", "@seriesLength 4", "line 10.*4 values.*got 3"),
        ("@missing true", "@missing false", "line 10.*no missing values.*1 missing"),
        ("@missing true", "@missing maybe", "line 4.*true or false"),
        ("@dimensions 2", "@dimensions -2", "line 6.*a count"),
        ("@classLabel true up down", "@classLabel true up up", "line 8.*each class once"),
        ("@classLabel true up down", "@classLabel up down", "line 8.*@classLabel true"),
        ("@timeStamps false", "@timeStamps true", "line 10.*time stamp,value"),
        ("@missing true", "@mising true", "line 4.*tags"),
        ("@missing true", "@missing true\n@missing false", "lines 4 and 5.*once"),
        ("@data\n", "", "line 9.*tags"),
        ("up\n7,NaN:9,-1e-3:down\n", "up\n\xb5:up\n", "line 11.*UTF-8"),
    ],
)
def test_ts_that_disagrees_with_its_header_is_refused(tmp_path, old, new, told):
    assert old in TS
    path = put(tmp_path, "a.ts", TS.replace(old, new))
    before = path.read_bytes()
    with pytest.raises(FileError, match=f"a.ts, {told}"):
        read_ts(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "@problemName a\n", "@data\n", "#only words\n"])
def test_ts_without_series_is_refused(tmp_path, text):
    with pytest.raises(FileError, match="cut file"):
        read_ts(put(tmp_path, "a.ts", text))


@pytest.mark.parametrize("row", ["(1,1),(1,2)", "(2,1),(1,2)", "(2001-02-30,1)", "(2001-01-01,1),(2,2)", "(0,1):(1,1)"])
def test_ts_time_stamps_that_cannot_be_are_refused(tmp_path, row):
    with pytest.raises(FileError, match="line 3"):
        read_ts(put(tmp_path, "a.ts", f"@timeStamps true\n@data\n{row}\n"))


# ARFF


def test_arff_has_the_values_and_classes_of_the_file(tmp_path):
    found = read_arff(put(tmp_path, "a.arff", ARFF))
    np.testing.assert_array_equal(found.records[0], [[1, 2.5, np.nan]])
    np.testing.assert_array_equal(found.records[1], [[-4, 500, 6]])
    assert found.labels == [1, 0] and found.classes == ("b c", "a")


def test_arff_relation_holds_dimensions(tmp_path):
    found = read_arff(put(tmp_path, "a.arff", RELATIONAL))
    np.testing.assert_array_equal(found.records[0], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(found.records[1], [[7, np.nan, 9], [10, 11, 12]])
    assert found.labels == [1, 0] and found.classes == ("Standing", "Running")


def test_arff_knows_targets_and_series_without_labels(tmp_path):
    target = RELATIONAL.replace("{Standing,Running}", "numeric").replace("Running", "0.5").replace("'Standing'", "-2")
    assert read_arff(put(tmp_path, "a.arff", target)).labels == [0.5, -2.0]
    assert read_arff(put(tmp_path, "b.arff", "@relation a\n@attribute b real\n@data\n1\n")).labels is None


@pytest.mark.parametrize(
    ("text", "old", "new", "told"),
    [
        (ARFF, "1,2.5,?,a", "1,2.5,?,d", "line 8.*b c, a.*'d'"),
        (ARFF, "1,2.5,?,a", "1,2.5,a", "line 8.*4 values.*got 3"),
        (ARFF, "1,2.5,?,a", "1,x,?,a", "line 8, value 1.*'x'"),
        (ARFF, "1,2.5,?,a", "{1 2.5, 3 a}", "line 8.*sparse"),
        (ARFF, "'b c'\n", "'b c\n", "line 9.*quotes"),
        (ARFF, "t1 REAL", "t1 string", "line 4.*numeric"),
        (ARFF, "t1 REAL", "t1 {x,y}", "header.*one attribute for the class.*t1, target"),
        (ARFF, "@attribute 't 0' numeric", "numeric", "line 3.*@attribute"),
        (RELATIONAL, "4,5,6", "4,5", "line 9.*3 values.*got 2"),
        (RELATIONAL, "4,5,6'", "4,5,6", "line 9.*quotes"),
        (RELATIONAL, ',9\\n10,11,12"', ',9"', "line 10.*dimensions as before"),
        (RELATIONAL, "@end relationalAtt\n", "", "line 6.*numeric attribute in the relation"),
        (RELATIONAL, "{Standing,Running}", "{Standing,Standing}", "line 7.*each class once"),
    ],
)
def test_arff_that_disagrees_with_its_header_is_refused(tmp_path, text, old, new, told):
    assert old in text
    with pytest.raises(FileError, match=f"a.arff, {told}"):
        read_arff(put(tmp_path, "a.arff", text.replace(old, new)))


@pytest.mark.parametrize("text", ["", "@relation a\n", "@relation a\n@data\n1\n", "@attribute a numeric\n@data\n"])
def test_arff_without_attributes_or_series_is_refused(tmp_path, text):
    with pytest.raises(FileError, match=r"a.arff"):
        read_arff(put(tmp_path, "a.arff", text))


# UCR


def test_ucr_pads_stay_unless_trimmed(tmp_path):
    path = put(tmp_path, "A_TRAIN.tsv", UCR)
    found = read_ucr(path)
    np.testing.assert_array_equal(found.records[0], [[1.5, 2.5, np.nan]])
    assert found.labels == [1, 0, 1] and found.classes == ("1", "2")
    assert [record.shape for record in read_ucr(path, trim=True).records] == [(1, 2), (1, 3), (1, 1)]
    comma = read_ucr(put(tmp_path, "B_TRAIN.csv", UCR.replace("\t", ",")))
    np.testing.assert_array_equal(comma.records[1], found.records[1])


def test_ucr_test_file_takes_the_classes_of_the_training_file(tmp_path):
    path = put(tmp_path, "A_TEST.tsv", "10.0\t1\t2\n-1\t1\t2\n")
    assert read_ucr(path).classes == ("-1", "10")
    assert read_ucr(path, classes=("10", "2", "-1")).labels == [0, 2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1\t2\t3\n1\t2\n", "line 2.*2 values.*pad shorter"),
        ("1\t2\t3\n1\t2\tx\n", "line 2, column 3.*'x'"),
        ("1\t2\n\t2\n", "line 2.*a class first"),
        ("1\tNaN\n", "line 1.*at least one value"),
        ("3\t1\n", "line 1.*a class of"),
        ("1\n", "line 1.*a label"),
        ("", "line 1.*at least one series"),
    ],
)
def test_ucr_malformed_is_refused(tmp_path, text, told):
    with pytest.raises(FileError, match=told):
        read_ucr(put(tmp_path, "a.tsv", text), classes=("1", "2"), trim=True)


# NumPy and MATLAB


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
def test_npy_shapes(tmp_path, shape):
    array = np.random.default_rng(0).normal(size=shape)
    found = read_series_npy(put(tmp_path, "a.npy", bytes_of(np.save, array)))
    assert len(found.records) == (2 if len(shape) == 3 else 1)
    np.testing.assert_array_equal(np.stack(found.records).reshape(shape), array)


@pytest.mark.parametrize(
    ("kind", "read_as"),
    [("f2", "f4"), ("f4", "f4"), ("f8", "f8"), (">f4", "f4"), (">f8", "f8"), ("i2", "f8"), ("u1", "f8")],
)
def test_npy_kinds_of_numbers(tmp_path, kind, read_as):
    found = read_series_npy(put(tmp_path, "a.npy", bytes_of(np.save, np.arange(4).astype(kind)))).records[0]
    assert found.dtype == np.dtype(read_as) and found.tolist() == [[0, 1, 2, 3]]


def test_npy_mapped_is_read_only_when_looked_at(tmp_path):
    path = tmp_path / "a.npy"
    np.lib.format.open_memmap(path, "w+", np.float64, (2, 100_000_000)).flush()  # a hole of 1.6 GB on the disk
    began = time.process_time()
    found = read_series_npy(path, mmap=True).records[0]
    assert time.process_time() - began < 1 and found.shape == (2, 100_000_000) and isinstance(found, np.memmap)
    assert found[1, -3:].tolist() == [0, 0, 0]


def test_npz_by_name(tmp_path):
    path = put(tmp_path, "a.npz", NPZ)
    np.testing.assert_array_equal(read_series_npy(path, "b").records[0], ARRAY[0])
    assert read_series_npy(path, "b", time_axis=0).records[0].shape == (4, 3)


def test_npy_that_is_no_series_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"name of one that is there.*'a', 'b'"):
        read_series_npy(put(tmp_path, "a.npz", NPZ))
    objects = bytes_of(np.save, np.array([{}, 1], object), allow_pickle=True)
    for content in (objects, b"", NPY[:-1], bytes_of(np.save, np.zeros((2, 0))), bytes_of(np.save, np.array(["a"]))):
        with pytest.raises(FileError, match=r"a.npy"):
            read_series_npy(put(tmp_path, "a.npy", content))
    with pytest.raises(FileError, match="nothing there"):
        read_series_npy(tmp_path / "none.npy")


def test_npy_header_that_lies_is_refused_before_allocating(tmp_path):
    path = put(tmp_path, "a.npy", NPY.replace(b"(2, 3, 4), }     ", b"(200000000000,), }")[: len(NPY)])
    with pytest.raises(FileError, match=r"mmap length|reshape|header|EOF|memory"):
        read_series_npy(path)


def test_what_cannot_be_mapped_is_refused(tmp_path):
    whole = put(tmp_path, "b.npy", bytes_of(np.save, np.arange(4)))
    for path, name in ((put(tmp_path, "a.npz", NPZ), "b"), (whole, None)):
        with pytest.raises(InputError, match="mmap"):
            read_series_npy(path, name, mmap=True)
    with pytest.raises(InputError, match="time_axis"):
        read_series_npy(whole, time_axis=3)


def test_mat_vectors_and_matrices(tmp_path):
    path = put(tmp_path, "a.mat", MAT)
    assert read_mat(path, "val").records[0].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert read_mat(path, "other").records[0].shape == (3, 2)
    assert read_mat(path, "other", time_axis=0).records[0].shape == (2, 3)
    column = put(tmp_path, "b.mat", bytes_of(savemat, {"DE_time": np.ones((5, 1))}))
    assert read_mat(column).records[0].shape == (1, 5)


@pytest.mark.parametrize(
    ("kind", "version", "packed"),
    [(kind, "4", False) for kind in ("f8", "f4", "u1", "i2", "u2", "i4")]
    + [(kind, "5", pack) for kind in ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8") for pack in (0, 1)],
)
def test_mat_holds_what_was_saved(tmp_path, kind, version, packed):
    array = np.arange(12).reshape(3, 4).astype(kind)
    content = bytes_of(savemat, {"first": np.eye(2), "x": array}, format=version, do_compression=bool(packed))
    found = read_mat(put(tmp_path, "a.mat", content), "x").records[0]
    assert found.dtype == (np.float32 if kind == "f4" else np.float64)
    np.testing.assert_array_equal(found, array)


def test_mat_compressed_with_a_flipped_bit_is_refused(tmp_path):
    content = bytearray(bytes_of(savemat, {"x": np.random.default_rng(0).normal(size=(2, 50))}, do_compression=True))
    for place in range(136, len(content)):
        content[place] ^= 4
        with pytest.raises(FileError, match=r"a.mat, byte 128"):
            read_mat(put(tmp_path, "a.mat", bytes(content)))
        content[place] ^= 4


def test_mat_that_is_no_series_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"'other', 'val'|'val', 'other'"):
        read_mat(put(tmp_path, "a.mat", MAT))
    with pytest.raises(FileError, match=r"7.3"):
        read_mat(put(tmp_path, "b.mat", b"MATLAB 7.3 MAT-file, Platform"))
    for value in ("text", {"x": 1.0}, np.array([], float)):
        with pytest.raises(FileError, match=r"c.mat"):
            read_mat(put(tmp_path, "c.mat", bytes_of(savemat, {"a": value})))


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
        data[place:place] = [b"99999999999", b"-1", b"nan", b"\n", b",", b"'", b"\0", b"1e999"][random.integers(8)]
    return bytes(data)


# case 9
@pytest.mark.parametrize("name", SMALL)
def test_mutated_files_are_read_or_refused(tmp_path, name):
    read, file, data = SMALL[name]
    assert len(read(put(tmp_path, file, data)).records)
    random = np.random.default_rng(7)
    refused = 0
    for trial in range(300):
        path = put(tmp_path, f"{trial}-{file}", mutate(data, random))
        began = time.process_time()
        try:
            found = read(path)
        except TokredError as error:
            refused += file in str(error)
        else:
            assert isinstance(found, Records) and all(record.ndim == 2 for record in found.records)
        assert time.process_time() - began < 1
        path.unlink()
    assert refused > 30


@pytest.mark.parametrize("name", SMALL)
def test_damaged_gzip_is_refused(tmp_path, name):
    read, file, data = SMALL[name]
    with pytest.raises(FileError):
        read(put(tmp_path, file + ".gz", gzip.compress(data)[:-9]))
    assert len(read(put(tmp_path, file + ".gz", gzip.compress(data))).records)


@pytest.mark.parametrize(
    ("head", "suffix", "name"),
    [
        (TS.encode("latin-1"), ".ts", "ts"),
        (b"# " + b"x" * 4094, ".ts", "ts"),
        (TS.encode("latin-1"), ".txt", "ts"),
        (ARFF.encode("latin-1"), ".arff", "arff"),
        (ARFF.encode("latin-1"), "", "arff"),
        (b"PAR1\x15\x04", ".parquet", "parquet"),
        (MAT[:4096], ".mat", "mat"),
        (b"100 2 360 650000\n100.dat 212 200\n", ".hea", "wfdb"),
        (b"0       ".ljust(184) + b"512     ", ".edf", "edf"),
        (b"date,a\n2016-07-01 00:00:00,1.5\n2016-07-01 01:00:00,2.5\n", ".csv", "table"),
        (UCR.encode(), ".tsv", "table"),
        (b"1.5 2.5\n3.5 4.5\n", ".txt", "table"),
        (b"1," * 4000, ".csv", "table"),
        (b"sequence,label\nACGTACGTACGTACGTACGTACGT,1\n", ".csv", None),
        (b"@relation Monash\n@data\n", ".tsf", None),
        (b"export const a = 1\n", ".ts", None),
        (b">chr1\nACGT\n", ".fa", None),
        (NPY[:4096], ".npy", None),
        (b"", ".csv", None),
    ],
)
def test_detect(head, suffix, name):
    assert detect(head, suffix) == name


def test_cwru_bearings():
    path = DATA / "timeseries" / "cwru_12kDE_0hp_10class_DE.npz"
    if not path.exists():
        pytest.skip("no CWRU bearings in TOKRED_DATA or shared/data")
    found = read_series_npy(path, "B007_0")
    assert found.records[0].shape == (1, 122_571) and found.records[0].dtype == np.float32
    assert np.isfinite(found.records[0]).all()
