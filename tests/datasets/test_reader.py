"""Any file by its content; where that is of no format, the one its name promises says what is wrong, and where."""

import bz2
import gzip
import lzma

import numpy as np
import pytest

from tokred_sci.datasets.dna import Fasta, read_fasta, stream_fasta
from tokred_sci.datasets.reader import READERS, format_of, read, reader_of
from tokred_sci.errors import FileError, InputError

BOM = b"\xef\xbb\xbf"
FASTA = b">one\nACGTAC\nGT\n>two\nTTnn\n"


def test_every_format_has_its_reader():
    assert all(callable(reader_of(name)) for name in READERS)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["plain", "wrong.ply", "données 序列/a b.csv", "a.fa.gz"])
def test_content_says_more_than_the_name(tmp_path, name, pack):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pack(FASTA))
    assert format_of(path) == "fasta"
    assert read(path).records == ["ACGTACGT", "TTnn"]


# case 7
@pytest.mark.parametrize(
    ("name", "text", "domain", "told"),
    [
        ("a.csv", b"a,b\n1,2\n3\n", None, r"line 3: expected 2 fields \(got 1\)"),
        ("a.csv.gz", b"a;b\n1,5;2\n", None, r"line 2, column 'a': .*got '1,5'"),
        ("a.csv", b"x,y,z\n1,2,3\n1,2\n", "points", r"line 3"),
        ("a.csv", "temp °C\n1\n2\n".encode("latin-1"), None, "byte 5: expected UTF-8"),
        ("a.fa", b"ACGT\n", None, r"line 1: expected '>' and a name first"),
        ("a.fa", b"<html>\n", None, r"line 1: expected '>'"),
        ("a.gb", b"ACGT\n", None, "line 1: expected a line that starts with LOCUS"),
        ("a.ts", b"<html>\n", None, "line 1: expected one of the format's tags"),
        ("a.off", b"4 1 0\n", None, "line 1: expected OFF"),
        ("a.laz", b"<html>\n", None, "byte 0: expected a LAS header"),
        ("a.edf", b"<html>\n", None, "a.edf"),
        ("a.parquet", b"<html>\n", None, "a.parquet"),
    ],
)
def test_what_only_the_name_promises_is_refused_with_its_place(tmp_path, name, text, domain, told):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    with pytest.raises(FileError, match=told):
        read(path, domain)


def test_what_neither_says_is_refused(tmp_path):
    for name, domain in (("a.bin", None), ("a.txt", None), ("a.csv", "dna"), ("a.fa", "series")):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n")
        with pytest.raises(InputError, match="in a known format"):
            read(tmp_path / name, domain)


@pytest.mark.parametrize("name", ["a.fa", "a.csv", "a.npy", "a.mat", "a.laz", "a"])
@pytest.mark.parametrize("content", [b"", BOM, gzip.compress(b"")])
def test_an_empty_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match="got an empty one"):
        read(tmp_path / name)


@pytest.mark.parametrize("path", [None, 3, b"a.fa"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(InputError, match="Expected a path"):
        read(path)


def test_what_a_reader_needs_and_was_not_told_is_refused(tmp_path):
    (tmp_path / "a.bed").write_text("chr1\t0\t4\n")
    with pytest.raises(InputError, match=r"options of read_bed .*'sequences'"):
        read(tmp_path / "a.bed")
    (tmp_path / "a.fa").write_bytes(FASTA)
    with pytest.raises(InputError, match=r"options of read_fasta .*'colour'"):
        read(tmp_path / "a.fa", colour=1)


@pytest.mark.parametrize("at", [7, 9, 12, 40, 60])
def test_an_array_with_a_damaged_header_is_refused(tmp_path, at):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 100)))
    data = bytearray(path.read_bytes())
    for bad in (data[:at], data[:at] + b"'((" + data[at + 3 :]):
        path.write_bytes(bad)
        with pytest.raises(FileError, match=r"a\.npy, header"):
            read(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(FileError, match="got a folder"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.fa", FASTA),
        ("a.fq", b"@r\nACGT\n+\nIIII\n"),
        ("a.gff", b"##gff-version 3\none\t.\tCDS\t1\t3\t.\t+\t0\tID=a\n##FASTA\n>one\nACGT\n"),
        ("a.csv", b"time,a\n0,1\n1,2\n"),
        ("a.csv", b"x,y,z\n0,1,2\n1,2,3\n"),
        ("a.csv", b"x,y,z\n" + b"1,2,300\n" * 900),
        ("a.csv", b"a\n" + b"0" * 2000 + b"1\n" + b"0" * 3000 + b"2\n"),
    ],
)
def test_the_mark_some_editors_put_first_is_no_content(tmp_path, name, text):
    (tmp_path / f"1{name}").write_bytes(text)
    (tmp_path / f"2{name}").write_bytes(BOM + text)
    one, two = read(tmp_path / f"1{name}"), read(tmp_path / f"2{name}")
    assert [str(record) for record in one.records] == [str(record) for record in two.records]
    assert str(one.labels) == str(two.labels) and one.channels == two.channels


def test_random_access_behind_that_mark_is_the_same(tmp_path):
    path = tmp_path / "a.fa"
    path.write_bytes(BOM + FASTA)
    fasta = Fasta(path)
    assert [fasta.fetch(name) for name in fasta.names] == read_fasta(path).records
    assert fasta.fetch("one", 5, 8) == "CGT"
    assert [piece for _, _, piece in stream_fasta(path, 100)] == read_fasta(path).records


def test_lines_behind_that_mark_are_counted_alike(tmp_path):
    path = tmp_path / "a.fa"
    path.write_bytes(BOM + b">one\nAC1T\n")
    with pytest.raises(FileError, match="line 2"):
        read(path)
