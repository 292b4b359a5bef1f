"""GenBank, GFF3 and BED against Biopython, on real genomes, on made-up locations, and on damage."""

import gzip
import io
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokred_sci.datasets.dna import detect
from tokred_sci.datasets.formats import annotation
from tokred_sci.datasets.formats.annotation import Span, paint, read_bed, read_genbank, read_gff
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError, InputError, TokredError

SeqIO = pytest.importorskip("Bio.SeqIO", reason="Biopython is the reference here")
DATA = Path(os.environ.get("TOKRED_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data")) / "genomics"
REAL = sorted(DATA.glob("genomes/*.gz"))
COLI = DATA / "genomes" / "NC_000913.gbk.gz"
KINDS = ("CDS", "tRNA", "rRNA")

ONE = """LOCUS       A1   20 bp    DNA     circular BCT 01-JAN-2000
DEFINITION  made up.
VERSION     A1.2
FEATURES             Location/Qualifiers
     source          1..20
     CDS             join(2..4,
                     6..9)
                     /note="     CDS             10..20"
     tRNA            complement(8..12)
ORIGIN
        1 acgtacgtac gtACGTnnnn
//
"""
GENBANK = (ONE + ONE.replace("A1", "B22").replace("circular", "linear")).encode()
SEQUENCES = Records("dna", ["ACGTACGTAC", "ACGT"], names=("chr1", "chr 2"))
GFF = b"""##gff-version 3
chr1\t.\tregion\t1\t10\t.\t.\t.\tID=chr1;Is_circular=true
chr1\tx\tCDS\t2\t4\t.\t+\t0\tID=a
chr1\tx\tCDS\t4\t6\t.\t-\t0\tID=b
chr1\tx\tgene\t9\t12\t.\t-\t.\tID=c
# said
chr%202\tx\tCDS\t4\t4\t.\t?\t0\tID=d
###
##FASTA
>chr1 first
ACGTACGTAC
"""
BED = b"""track name=x
browser position chr1
# said
chr1\t1\t4
chr1\t3\t6\tb\t0\t-
chr1\t5\t10\tc\t0\t+\t5\t10\t0\t2\t1,2,\t0,3,
"""


def write(folder: Path, data: bytes | str, name: str = "a.txt") -> Path:
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder / name


def reference(record: object, kinds: tuple[str, ...] = KINDS) -> np.ndarray:
    """Labels of a record as Biopython reads its locations."""
    parts = [
        (int(part.start), int(part.end), 1 + 2 * kinds.index(feature.type) + (part.strand == -1))
        for feature in record.features  # type: ignore[attr-defined]
        if feature.type in kinds
        for part in feature.location.parts
        if part.ref is None
    ]
    labels = np.zeros(len(record), np.int8)  # type: ignore[arg-type]
    for start, stop, label in sorted(parts, key=lambda part: part[:2]):
        labels[start:stop] = label
    return labels


# ---- GenBank ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL, reason="the folder of real data is not here ($TOKRED_DATA)")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_genomes_as_biopython_reads_them(path: Path) -> None:
    with gzip.open(path, "rt") as stream:
        expected = list(SeqIO.parse(stream, "genbank"))
    read = read_genbank(path, KINDS)
    assert read.names == tuple(record.id for record in expected)
    assert [letters.upper() for letters in read.records] == [str(record.seq).upper() for record in expected]
    for record, labels in zip(expected, read.labels, strict=True):
        np.testing.assert_array_equal(labels, reference(record))
    assert read.classes == ("none", "CDS +", "CDS -", "tRNA +", "tRNA -", "rRNA +", "rRNA -")


@pytest.mark.skipif(not COLI.is_file(), reason="the folder of real data is not here ($TOKRED_DATA)")
def test_e_coli_is_as_dense_as_is_known() -> None:
    (genome,), (labels,) = read_genbank(COLI)
    assert len(genome) == len(labels) == 4_641_652
    assert labels.dtype == np.int8
    assert round(100 * np.count_nonzero(labels) / len(labels), 1) == 87.9


@pytest.mark.skipif(not REAL, reason="the folder of real data is not here ($TOKRED_DATA)")
@pytest.mark.parametrize(
    ("name", "count"), [("NC_000913.gbk", 4319), ("GCF_000023685.1.gbff", 861), ("sarscov2_MN908947_reference.gb", 12)]
)
def test_coding_sequences_are_as_many_as_is_known(name: str, count: int) -> None:
    met: Counter[str] = Counter()
    path = DATA / "genomes" / f"{name}.gz"
    list(annotation._genbank(path, gzip.decompress(path.read_bytes()).split(b"\n"), {}, met))
    assert met["CDS"] == count


POSITION = st.integers(1, 40)
SIMPLE = st.builds(
    lambda a, b, marks: f"{'<' * marks[0]}{min(a, b)}..{'>' * marks[1]}{max(a, b)}",
    POSITION,
    POSITION,
    st.tuples(st.booleans(), st.booleans()),
)
PART = st.one_of(
    SIMPLE, SIMPLE.map("complement({})".format), POSITION.map(str), st.integers(1, 39).map(lambda x: f"{x}^{x + 1}")
)
JOINED = st.builds(
    lambda word, parts: f"{word}({','.join(parts)})",
    st.sampled_from(["join", "order"]),
    st.lists(PART, min_size=2, max_size=4),
)
INSIDE = st.builds(lambda parts: f"complement(join({','.join(parts)}))", st.lists(SIMPLE, min_size=2, max_size=4))
REMOTE = SIMPLE.map("join(1..3,J00194.1:{})".format)


def entry(locations: list[str], length: int = 40, shape: str = "circular") -> str:
    table = "".join(f"     CDS             {location}\n" for location in locations)
    head = f"LOCUS       A1                        {length} bp    DNA     {shape} BCT 01-JAN-2000\nVERSION     A1.2\n"
    letters = "acgtacgtac" * (length // 10)
    return f"{head}FEATURES             Location/Qualifiers\n{table}ORIGIN\n        1 {letters}\n//\n"


@given(st.lists(st.one_of(PART, JOINED, INSIDE, REMOTE), min_size=1, max_size=5))
def test_any_location_as_biopython_reads_it(tmp_path_factory: pytest.TempPathFactory, locations: list[str]) -> None:
    text = entry(locations)
    (record,) = SeqIO.parse(io.StringIO(text), "genbank")
    (labels,) = read_genbank(write(tmp_path_factory.mktemp("location"), text)).labels
    np.testing.assert_array_equal(labels, reference(record, ("CDS",)))


@pytest.mark.parametrize(
    ("location", "marked"),
    [
        ("39..2", {0: 1, 1: 1, 38: 1, 39: 1}),
        ("complement(39..2)", {0: 2, 1: 2, 38: 2, 39: 2}),
        ("join(complement(3),complement(join(5,complement(7))))", {2: 2, 4: 2, 6: 1}),
        ("(2.3)..(4.6)", {1: 1, 2: 1, 3: 1, 4: 1, 5: 1}),
        ("40^1", {}),
        ("<1..>2", {0: 1, 1: 1}),
    ],
)
def test_locations_in_words_of_the_feature_table(tmp_path: Path, location: str, marked: dict[int, int]) -> None:
    (labels,) = read_genbank(write(tmp_path, entry([location]))).labels
    assert {at: labels[at] for at in np.flatnonzero(labels).tolist()} == marked


@pytest.mark.parametrize(
    "location",
    [
        "0..3",
        "5..41",
        "41",
        "join(1..2",
        "complement(1..2))",
        "1..2,3..4",
        "join()",
        "3^5",
        "x",
        "1...2",
        "one-of(1,2)..3",
        "-1..3",
        "(",
        "complement(" * 2000,
        "9" * 5000,
        "complement(1,2)",
    ],
)
def test_locations_that_are_none_refused_with_their_line(tmp_path: Path, location: str) -> None:
    with pytest.raises(FileError, match="line 5: expected"):
        read_genbank(write(tmp_path, entry(["1..2", location])))


def test_origin_of_a_linear_sequence_is_not_crossed_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="an end that is not before its start"):
        read_genbank(write(tmp_path, entry(["39..2"], shape="linear  ")))


def test_features_are_classes_in_their_order(tmp_path: Path) -> None:
    read = read_genbank(write(tmp_path, GENBANK), ("tRNA", "CDS"))
    assert read.names == ("A1.2", "B22.2")
    assert read.records == ["acgtacgtacgtACGTnnnn"] * 2
    assert read.labels[0].tolist() == [0, 3, 3, 3, 0, 3, 3, 2, 2, 2, 2, 2] + [0] * 8
    assert read.classes == ("none", "tRNA +", "tRNA -", "CDS +", "CDS -")
    assert read_genbank(write(tmp_path, GENBANK.replace(b"\n", b"\r\n")), "CDS").labels[1].sum() == 7


@pytest.mark.parametrize("features", [(), ("CDS", "CDS"), (1,), ""])
def test_features_that_are_none_refused(tmp_path: Path, features: object) -> None:
    with pytest.raises((InputError, FileError)):
        read_genbank(write(tmp_path, GENBANK), features)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "LOCUS"),
        (lambda text: "no GenBank\n", "LOCUS"),
        (lambda text: text + ONE[:-3], "line 13; record 'A1.2' is the last good one"),
        (lambda text: text[:-3], "no record is whole"),
        (lambda text: text + "more\n", "line 13"),
        (lambda text: text.replace("20 bp", "21 bp"), "line 1: expected 21 bases"),
        (lambda text: text.replace("20 bp", "20 aa"), "line 1: expected LOCUS"),
        (lambda text: text.replace("nnnn", "n?nn"), r"line 11: expected letters of a sequence \(got '\?'"),
        (lambda text: text[: text.index("ORIGIN")] + "//\n", "line 1: expected a sequence under ORIGIN"),
        (lambda text: text.replace("CDS  ", "gene "), "expected 'CDS' .*source 1 times"),
        (lambda text: text.replace("1..20\n", "\n"), "line 5: expected a location after 'source'"),
    ],
)
def test_genbank_with_an_error_refused(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    with pytest.raises(FileError, match=message):
        read_genbank(write(tmp_path, change(ONE)))


def test_genbank_cut_short_at_any_offset_refused(tmp_path: Path) -> None:
    packed = gzip.compress(GENBANK)
    for size in range(len(packed)):
        with pytest.raises(FileError) as error:
            read_genbank(write(tmp_path, packed[:size]))
    assert "'B22.2' is the last good one" in str(error.value)
    for size in range(len(GENBANK) - 2):
        if not (len(ONE) - 2 < size <= len(ONE) + 1):  # exactly between two records it is a whole file
            with pytest.raises(FileError):
                read_genbank(write(tmp_path, GENBANK[:size]))


# ---- GFF3 and BED -----------------------------------------------------------------------------------------------


def test_later_start_wins_then_the_longer() -> None:
    assert paint(8, [Span(2, 4, 1), Span(0, 6, 2), Span(2, 5, 3), Span(7, 8, 1), Span(7, 8, 2)]).tolist() == [
        2, 2, 3, 3, 3, 2, 0, 2
    ]  # fmt: skip


def test_gff_rows_label_their_bases(tmp_path: Path) -> None:
    read = read_gff(write(tmp_path, GFF), SEQUENCES)
    assert [labels.tolist() for labels in read.labels] == [[0, 1, 1, 2, 2, 2, 0, 0, 0, 0], [0, 0, 0, 1]]
    assert (read.names, read.records) == (SEQUENCES.names, SEQUENCES.records)
    across = read_gff(write(tmp_path, GFF), SEQUENCES, "gene")
    assert across.labels[0].tolist() == [2, 2, 0, 0, 0, 0, 0, 0, 2, 2]


def test_gff_brings_its_own_sequences(tmp_path: Path) -> None:
    read = read_gff(write(tmp_path, gzip.compress(GFF.replace(b"%202", b"1"))))
    assert read.records == ["ACGTACGTAC"]
    assert read.labels[0].tolist() == [0, 1, 1, 2, 2, 2, 0, 0, 0, 0]  # base 4: the longer of two that start there
    fasta = write(tmp_path, b">chr1\nACGTACGTAC\n", "a.fa")
    assert read_gff(write(tmp_path, GFF.replace(b"%202", b"1")), fasta).labels[0].tolist() == read.labels[0].tolist()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"ID=b", b"ID=b\tx", "line 4: expected 9 columns"),
        (b"chr%202", b"chr3", "line 7: expected the name"),
        (b"\t4\t6\t", b"\t6\t4\t", "line 4: expected 1 <= start <= end"),
        (b"\t4\t6\t", b"\t0\t4\t", "line 4: expected 1 <= start <= end"),
        (b"\t4\t6\t", b"\t4\tx\t", "line 4: expected 1 <= start <= end"),
        (b"\t4\t4\t", b"\t4\t5\t", "line 7: expected positions within"),
        (b"Is_circular", b"is", "line 5: expected positions within"),
        (b"\t.\t-\t0\tID=b", b"\t.\tx\t0\tID=b", "line 4: expected strand"),
        (b"CDS", b"exon", "expected 'CDS' .*exon 3 times"),
    ],
)
def test_gff_with_an_error_refused_with_its_line(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    with pytest.raises(FileError, match=message):
        read_gff(write(tmp_path, GFF.replace(old, new)), SEQUENCES)


def test_gff_without_good_sequences_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="##FASTA"):
        read_gff(write(tmp_path, GFF[: GFF.index(b"##FASTA")]))
    with pytest.raises(FileError, match="line 11: expected letters"):
        read_gff(write(tmp_path, GFF.replace(b"ACGTACGTAC", b"ACG7")))
    with pytest.raises(InputError, match="'sequences'"):
        read_gff(write(tmp_path, GFF), Records("dna", ["ACGT"]))
    with pytest.raises(InputError, match="'sequences'"):
        read_gff(write(tmp_path, GFF), 3)  # type: ignore[arg-type]


def test_bed_intervals_as_labels_or_pieces(tmp_path: Path) -> None:
    path = write(tmp_path, BED)
    read = read_bed(path, SEQUENCES)
    assert [labels.tolist() for labels in read.labels] == [[0, 1, 1, 2, 2, 1, 0, 0, 1, 1], [0] * 4]
    pieces = read_bed(path, SEQUENCES, cut=True)
    assert pieces.records == ["CGT", "TAC", "CGTAC"]
    assert pieces.names == ("chr1:1-4", "chr1:3-6(-)", "chr1:5-10(+)")
    assert pieces.groups == ("chr1",) * 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"chr1\t1", "line 1: expected 3 to 12 columns"),
        (b"chrX\t1\t2", "line 1: expected the name"),
        (b"chr1\t3\t2", "line 1: expected 0 <= start"),
        (b"chr1\t-1\t2", "line 1: expected 0 <= start"),
        (b"chr1\t1\t11", "line 1: expected 0 <= start"),
        (b"chr1\t1\t2\ta\t0\tx", "line 1: expected strand"),
        (b"chr1\t5\t10\tc\t0\t+\t5\t10\t0\t3\t1,2\t0,3", "line 1: expected blocks"),
        (b"chr1\t5\t10\tc\t0\t+\t5\t10\t0\t2\t1,3\t0,3", "line 1: expected blocks"),
        (b"chr1\t5\t5", "line 1: expected an interval of at least one base"),
        (b"", "line 1: expected rows"),
        (b"# said", "at least one interval"),
    ],
)
def test_bed_with_an_error_refused_with_its_line(tmp_path: Path, row: bytes, message: str) -> None:
    with pytest.raises(FileError, match=message):
        read_bed(write(tmp_path, row + b"\n"), SEQUENCES, cut=True)


def test_tables_cut_short_at_any_offset_refused(tmp_path: Path) -> None:
    for data, read in ((GFF, read_gff), (BED, read_bed)):
        packed = gzip.compress(data)
        for size in range(len(packed)):
            with pytest.raises(FileError):
                read(write(tmp_path, packed[:size]), SEQUENCES)


# ---- fuzzing ----------------------------------------------------------------------------------------------------


def mutations(data: bytes, count: int, generator: random.Random) -> Iterator[bytes]:
    """A few bytes changed, removed, doubled or added, and sometimes the end cut off."""
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(generator.randint(1, 4)):
            at, other = generator.randrange(len(changed) + 1), generator.randrange(len(changed) + 1)
            kind = generator.randrange(5)
            if kind == 0 and at < len(changed):
                changed[at] = generator.choice([*b"\0\t\n\r ()+-./09<>^\xff", generator.randrange(256)])
            elif kind == 1:
                del changed[at : at + generator.randint(1, 8)]
            elif kind == 2:
                changed[at:at] = changed[other : other + generator.randint(1, 60)]
            elif kind == 3:
                changed[at:at] = bytes([generator.choice(b"\n\t 0,.)(")])
            elif generator.random() < 0.3:
                del changed[at:]
        yield bytes(changed)


# case 9
@pytest.mark.parametrize("kind", ["genbank", "gff", "own", "bed", "cut"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_mutated_files_are_read_or_refused(tmp_path: Path, kind: str, pack: Callable[[bytes], bytes]) -> None:
    start, read = {
        "genbank": (GENBANK, lambda path: read_genbank(path, KINDS)),
        "gff": (GFF, lambda path: read_gff(path, SEQUENCES)),
        "own": (GFF.replace(b"chr%202", b"chr1"), read_gff),
        "bed": (BED, lambda path: read_bed(path, SEQUENCES)),
        "cut": (BED, lambda path: read_bed(path, SEQUENCES, cut=True)),
    }[kind]
    good, slowest = 0, 0.0
    for data in mutations(pack(start), 500, random.Random(kind)):
        path, begin = write(tmp_path, data), time.perf_counter()
        try:
            records, labels = read(path)
            good += 1
            assert kind == "cut" or [len(x) for x in records] == [len(x) for x in labels]
        except TokredError:
            pass
        slowest = max(slowest, time.perf_counter() - begin)
    assert slowest < 1
    assert good or pack is gzip.compress


@pytest.mark.skipif(not REAL, reason="the folder of real data is not here ($TOKRED_DATA)")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_genomes_are_told_by_their_start(path: Path) -> None:
    with gzip.open(path) as stream:
        assert detect(stream.read(4096)) == "genbank"
