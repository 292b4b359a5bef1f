"""Readers of DNA files against Biopython and pysam, on real files, on made-up layouts, and on damage."""

import gzip
import io
import os
import random
import struct
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokred_sci.datasets import dna
from tokred_sci.datasets.dna import Fasta, detect, read_2bit, read_fasta, read_fastq, stream_fasta
from tokred_sci.datasets.formats import fasta
from tokred_sci.datasets.formats.letters import BGZIP_END
from tokred_sci.errors import FileError, InputError, TokredError

SeqIO = pytest.importorskip("Bio.SeqIO", reason="Biopython is the reference here")
DATA = Path(os.environ.get("TOKRED_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data")) / "genomics"
REAL = sorted([*DATA.glob("cnnprom/*.fa.gz"), *DATA.glob("ncov/*.fasta.gz"), *DATA.glob("dengue/*.fasta.gz")])

TWO = b">chr1 first\nACGTNacgtn\nACGU-*.RYK\nAC\n>chr2\nTTTT\n"
FASTQ = b"@r1 x\nACGT\n+\n!I5~\n@r2\nAC\nGTN\n+r2\n@@@\n@@\n"


@pytest.fixture(params=[1 << 20, 5], ids=["large blocks", "blocks of 5 bytes"])
def any_block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(fasta, "BLOCK", request.param)
    return request.param


def write(folder: Path, data: bytes, name: str = "a.fa") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def bgzip(data: bytes, block: int = 20) -> bytes:
    """As bgzip writes it, in small blocks."""
    out = b""
    for at in range(0, len(data), block):
        part = data[at : at + block]
        packed = gzip.compress(part, mtime=0)[10:]
        extra = struct.pack("<HBBHH", 6, 66, 67, 2, len(packed) + 18 - 1)
        out += b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + extra + packed
    return out + BGZIP_END


def reference(data: bytes) -> list[tuple[str, str]]:
    text = io.TextIOWrapper(io.BytesIO(data), encoding="latin-1")
    return [(record.id, str(record.seq)) for record in SeqIO.parse(text, "fasta")]


def joined(pieces: Iterator[tuple[str, int, str]]) -> dict[str, str]:
    whole: dict[str, str] = {}
    for name, start, letters in pieces:
        assert letters and start == len(whole.get(name, ""))
        whole[name] = whole.get(name, "") + letters
    return whole


# ---- FASTA ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL, reason="the folder of real data is not here ($TOKRED_DATA)")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_fasta_as_biopython_reads_it(path: Path) -> None:
    expected = reference(gzip.decompress(path.read_bytes()))
    read = read_fasta(path, duplicates="rename")
    assert list(read.records) == [letters for _, letters in expected]
    assert len(set(read.names)) == len(read.names)
    first = dict.fromkeys(name for name, _ in expected)
    assert [name for name in read.names if name in first] == list(first)
    assert (read.unit, read.source) == ("bases", path.name)
    if len({name for name, _ in expected}) == len(expected):
        assert joined(stream_fasta(path, piece=1000)) == dict(zip(read.names, read.records, strict=True))
    else:
        with pytest.raises(FileError, match="a name of its own"):
            read_fasta(path)


LINE = st.text("ACGTNacgtn-*.U ", max_size=12)


# case 2
@given(
    st.lists(
        st.lists(LINE, min_size=1, max_size=4).filter(lambda lines: "".join(lines).strip()), min_size=1, max_size=4
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.integers(1, 9),
    st.sampled_from([1, 3, 8, 1 << 20]),
)
def test_any_layout_as_biopython_reads_it(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[list[str]], end: str, final: bool, piece: int, block: int
) -> None:
    text = end.join(line for at, body in enumerate(bodies) for line in (f">s{at} x > y; z", *body)) + end * final
    path = write(tmp_path_factory.mktemp("layout"), text.encode())
    expected = reference(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fasta, "BLOCK", block)
        read = read_fasta(path)
        pieces = list(stream_fasta(path, piece))
    assert list(zip(read.names, read.records, strict=True)) == expected
    assert joined(iter(pieces)) == dict(expected)
    for (name, _, letters), (after, *_) in pairwise(pieces):
        assert len(letters) == piece or name != after
    genome = Fasta(path) if indexable(text, end) else None
    for name, letters in expected if genome else ():
        for start in range(len(letters)):
            assert genome.fetch(name, start) == letters[start:]
            assert genome.fetch(name, start // 2, start) == letters[start // 2 : start]


def indexable(text: str, end: str) -> bool:
    """Whether all lines of a sequence are equally long, but its last; refused where not."""
    for body in text.split(">s")[1:]:
        lines = body.split(end)[1:]
        while len(lines) > 1 and not lines[-1]:
            lines.pop()
        if (
            end == "\r"
            or " " in "".join(lines)
            or {*map(len, lines[:-1])} - {len(lines[0])}
            or len(lines[-1]) > len(lines[0])
        ):
            return False
    return True


@given(st.lists(LINE, min_size=1, max_size=5), st.sampled_from(["\n", "\r\n", "\r"]))
def test_layouts_that_no_index_describes_refused(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str
) -> None:
    text = end.join([">s0", *lines, ">s1", "ACGT", ""])
    path = write(tmp_path_factory.mktemp("layout"), text.encode())
    if indexable(text, end) and "".join(lines):
        assert Fasta(path).fetch("s0") == "".join(lines)
    else:
        with pytest.raises(FileError):
            Fasta(path)


def test_comments_and_blank_lines_are_not_letters(tmp_path: Path, any_block: int) -> None:
    path = write(tmp_path, b"\n; made by hand > really\n>a\n;no 1\nACGT\n\n;no > 2\nAC GT\n")
    assert read_fasta(path).records == ["ACGTACGT"]


# cases 2 and 3
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1"),
        (b"\n\n", "line 1"),
        (b"ACGT\n", "line 1: expected '>'"),
        (b">a\nAC\n>b\n>c\nAC\n", "line 3: expected a sequence"),
        (b">a\nAC\n>b\n", "line 3: expected a sequence"),
        (b">a\nAC\n>\nAC\n", "line 3: expected a name"),
        (b">a\nAC\n\nA>C\n", "line 4: expected '>' at the start"),
        (b">a\nAC\nAC7T\n", "line 3: expected letters"),
        (b">a\nAC\nAC\x00T\n", "line 3: expected letters"),
        (b">a\nAC\nAC\tT\n", "line 3: expected letters"),
        (b">a\nAC\nAC;T\n", "line 3: expected letters"),
        (b">a\r\nAC\r\nAC\xe9\r\n", "line 3: expected letters"),
        (b">a\rAC\rAC1\r", "line 3: expected letters"),
        (b">a\nAC\n>b\nAC\n>a\nGG\n", r"line 5: .*'a' as in line 1"),
    ],
)
def test_fasta_with_an_error_refused_with_its_line(tmp_path: Path, any_block: int, data: bytes, message: str) -> None:
    path = write(tmp_path, data)
    with pytest.raises(FileError, match=message):
        read_fasta(path)
    with pytest.raises(FileError, match=message):
        list(stream_fasta(path))


def test_long_sequence_with_a_stray_digit_refused_with_its_line(tmp_path: Path) -> None:
    lines = [b"ACGTACGTAC" * 6] * 50_000
    lines[33_333] = b"ACGTACGTA7" * 6
    with pytest.raises(FileError, match="line 33335: expected letters"):
        read_fasta(write(tmp_path, b">a\n" + b"\n".join(lines) + b"\n"))


# case 3
def test_names_that_come_twice_are_renamed_on_request(tmp_path: Path) -> None:
    path = write(tmp_path, b">chr1\nA\n>chr1\nC\n>chr1.2\nG\n>chr1\nT\n")
    assert read_fasta(path, duplicates="rename").names == ("chr1", "chr1.2", "chr1.2.2", "chr1.3")
    with pytest.raises(InputError, match="'error' or 'rename'"):
        read_fasta(path, duplicates="skip")


@pytest.mark.parametrize("piece", [0, -1, 1.5, True])
def test_pieces_of_no_bases_refused(tmp_path: Path, piece: object) -> None:
    with pytest.raises(InputError, match="'piece'"):
        stream_fasta(write(tmp_path, TWO), piece)  # type: ignore[arg-type]


# case 1
@pytest.mark.parametrize("pack", [gzip.compress, bgzip], ids=["gzip", "bgzip"])
def test_fasta_cut_short_at_any_offset_refused(tmp_path: Path, pack: Callable[[bytes], bytes], any_block: int) -> None:
    packed = pack(TWO)
    for size in range(len(packed)):
        path = write(tmp_path, packed[:size])
        with pytest.raises(FileError) as error:
            read_fasta(path)
        if size > 18:
            assert "cut short" in str(error.value)
    assert "'chr1' is the last good one" in str(error.value)
    assert read_fasta(write(tmp_path, packed)).names == ("chr1", "chr2")


# ---- at random --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, bgzip], ids=["plain", "bgzip"])
def test_every_stretch_is_a_slice_of_the_record(tmp_path: Path, pack: Callable[[bytes], bytes], any_block: int) -> None:
    path = write(tmp_path, pack(TWO))
    genome, whole = Fasta(path), read_fasta(path)
    assert (genome.names, len(genome), genome.lengths) == (whole.names, 2, (22, 4))
    for name, letters in zip(whole.names, whole.records, strict=True):
        for start in range(len(letters) + 1):
            for stop in range(start, len(letters) + 1):
                assert genome.fetch(name, start, stop) == letters[start:stop]


def test_index_beside_the_file_is_that_of_pysam(tmp_path: Path) -> None:
    pysam = pytest.importorskip("pysam")
    path = write(tmp_path, TWO.replace(b"\n", b"\r\n"))
    own = Fasta(path)._index
    pysam.faidx(str(path))
    beside = Fasta(path)
    assert {name: (x.length, x.offset, x.bases, x.width) for name, x in beside._index.items()} == {
        name: (x.length, x.offset, x.bases, x.width) for name, x in own.items()
    }
    with pysam.FastaFile(str(path)) as reference:
        assert [beside.fetch("chr1", at, 21) for at in range(20)] == [
            reference.fetch("chr1", at, 21) for at in range(20)
        ]


@pytest.mark.skipif(not REAL, reason="the folder of real data is not here ($TOKRED_DATA)")
def test_real_genomes_under_bgzip_as_pysam_reads_them(tmp_path: Path) -> None:
    pysam = pytest.importorskip("pysam")
    plain = write(tmp_path, gzip.decompress((DATA / "dengue" / "sequences_denv1.fasta.gz").read_bytes()))
    pysam.tabix_compress(str(plain), str(tmp_path / "b.fa.gz"))
    genome, generator = Fasta(tmp_path / "b.fa.gz"), random.Random(0)
    stretches = [
        (name, generator.randrange(length), length) for name, length in zip(genome.names, genome.lengths, strict=True)
    ]
    read = [genome.fetch(*stretch) for stretch in stretches]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fa", "b.fa.gz"]  # nothing was written
    with pysam.FastaFile(str(tmp_path / "b.fa.gz")) as reference:
        assert read == [reference.fetch(*stretch) for stretch in stretches]


LIES = [
    "chr1\t22\t12\t10\t12\nchr2\t4\t44\t4\t5\n",
    "chr1\t22\t12\t10\t11\nchr2\t9\t43\t4\t5\n",
    f"chr1\t22\t12\t10\t11\nchr2\t{10**30}\t43\t4\t5\n",
    "chr1\t22\t12\t10\t11\nchr2\t4\t43\t0\t0\n",
    "chr1\t22\t12\t10\t11\n",
    "x\n",
    "",
    "a\tb\tc\td\te\n",
]


# case 4
@pytest.mark.parametrize("lie", LIES)
def test_index_beside_the_file_that_lies_is_not_used(tmp_path: Path, lie: str) -> None:
    path = write(tmp_path, TWO)
    (tmp_path / "a.fa.fai").write_text(lie)
    assert [Fasta(path).fetch(name) for name in ("chr1", "chr2")] == read_fasta(path).records
    assert (tmp_path / "a.fa.fai").read_text() == lie


# case 4
def test_older_index_beside_the_file_is_not_used(tmp_path: Path) -> None:
    path = write(tmp_path, TWO)
    beside = write(tmp_path, b"chr1\t22\t12\t10\t11\nchr2\t4\t43\t4\t5\n", "a.fa.fai")
    os.utime(beside, (1, 1))
    assert Fasta(path).fetch("chr1") == read_fasta(path).records[0]


# case 4
@pytest.mark.parametrize("change", [TWO + b"A\n", TWO.replace(b"TTTT", b"GGGG"), b">chr1\nA\n"])
def test_file_edited_after_it_was_opened_refused(tmp_path: Path, change: bytes) -> None:
    path = write(tmp_path, TWO)
    genome, state = Fasta(path), path.stat()
    time.sleep(0.02)
    path.write_bytes(change)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # even where the time is set back
    with pytest.raises(FileError, match="open it again"):
        genome.fetch("chr2", 0, 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b">a\nACGT\nAC\nACGT\n", "line 4"),
        (b">a\nACGT\nACGTA\n", "line 3"),
        (b">a\nACGT\nACGTA", "line"),
        (b">a\nACGT\n\nACGT\n", "line 4"),
        (b">a\n\nACGT\n", "line 2"),
        (b">a\nACGT\n;AC\nACGT\n", "line 3"),
        (b">a\nAC T\nACGT\n", "line 2"),
        (b">a\r\nACGT\r\nACGT\n", "several"),
        (b">a\rACGT\r", "line"),
        (b">a\nACGT\n>b\n", "line 3"),
        (b">a\nACGT\n>a\nA\n", "line 3: .*as in line 1"),
        (b"A\n>a\nACGT\n", "line 1"),
        (b"", "line 1"),
        (gzip.compress(TWO), "bgzip"),
    ],
)
def test_file_that_no_index_describes_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(FileError, match=message):
        Fasta(write(tmp_path, data))


def test_stretches_outside_a_sequence_refused(tmp_path: Path) -> None:
    genome = Fasta(write(tmp_path, TWO))
    for name, start, stop in (("chr3", 0, 1), ("chr2", -1, 2), ("chr2", 3, 2), ("chr2", 0, 5)):
        with pytest.raises(InputError):
            genome.fetch(name, start, stop)


# ---- FASTQ ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bgzip])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_fastq_as_biopython_reads_it(tmp_path: Path, pack: Callable[[bytes], bytes], end: bytes) -> None:
    read = read_fastq(write(tmp_path, pack(FASTQ.replace(b"\n", end))))
    for record, letters, quality in zip(
        SeqIO.parse(io.StringIO(FASTQ.decode()), "fastq"), read.records, read.labels, strict=True
    ):
        assert letters == str(record.seq)
        assert quality.tolist() == record.letter_annotations["phred_quality"]
        assert quality.dtype == np.int8
    assert read.names == ("r1", "r2")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1"),
        (b">a\nAC\n", "record 1, line 1"),
        (b"@a\nAC\n+\nII\n@b\nAC\n", "record 2, line 5: .*'\\+'"),
        (b"@a\nAC\n+\nI\n", "record 1, line 4: expected 2 qualities"),
        (b"@a\nAC\n+\nIII\n", "record 1, line 4: expected 2 qualities"),
        (b"@a\nA1\n+\nII\n", "record 1, line 2"),
        (b"@a\nAC\n+b\nII\n", "record 1, line 3"),
        (b"@a\nAC\n+\nI\x7f\n", "record 1, line 4: expected qualities"),
    ],
)
def test_fastq_with_an_error_refused_with_record_and_line(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(FileError, match=message):
        read_fastq(write(tmp_path, data))


def test_fastq_cut_short_at_any_offset_refused(tmp_path: Path) -> None:
    packed = gzip.compress(FASTQ)
    for size in range(len(packed)):
        with pytest.raises(FileError):
            read_fastq(write(tmp_path, packed[:size]))
    with pytest.raises(FileError, match="is the last good one"):
        read_fastq(write(tmp_path, packed[:-1]))


# ---- 2bit -------------------------------------------------------------------------------------------------------


def two_bit(records: dict[str, str], order: str = "<", version: int = 0) -> bytes:
    """As faToTwoBit writes it."""
    wide = "Q" if version else "I"
    place = 16 + sum(1 + len(name) + struct.calcsize(order + wide) for name in records)
    head, bodies = struct.pack(order + "4I", 0x1A412743, version, len(records), 0), b""
    for name, letters in records.items():
        head += bytes([len(name)]) + name.encode() + struct.pack(order + wide, place + len(bodies))
        bodies += struct.pack(order + "I", len(letters))
        for inside in (lambda x: x in "Nn", str.islower):
            flags = np.array([False, *map(inside, letters), False])
            starts = np.flatnonzero(flags[1:] & ~flags[:-1])
            sizes = np.flatnonzero(~flags[1:] & flags[:-1]) - starts
            bodies += struct.pack(f"{order}I{len(starts)}I{len(starts)}I", len(starts), *starts, *sizes)
        codes = ["TCAG".find(x) % 4 for x in letters.upper()] + [0] * 3
        packed = bytes(
            a << 6 | b << 4 | c << 2 | d for a, b, c, d in zip(*(codes[i::4] for i in range(4)), strict=False)
        )
        bodies += bytes(4) + packed[: (len(letters) + 3) // 4]
    return head + bodies


MASKED = {"a": "ACGTNNNNacgtnnACG", "b": "T", "c": "nNNn", "d": "ACGTA"}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [0, 1])
def test_2bit_keeps_masks_and_unknown_bases(tmp_path: Path, order: str, version: int) -> None:
    path = write(tmp_path, two_bit(MASKED, order, version), "a.2bit")
    read = read_2bit(path)
    assert dict(zip(read.names, read.records, strict=True)) == MASKED
    if (order, version) == ("<", 0):
        with path.open("rb") as stream:
            assert {record.id: str(record.seq) for record in SeqIO.parse(stream, "twobit")} == MASKED


def test_2bit_cut_short_at_any_offset_refused(tmp_path: Path) -> None:
    data = two_bit(MASKED)
    for size in range(len(data)):
        with pytest.raises(FileError):
            read_2bit(write(tmp_path, data[:size], "a.2bit"))


# ---- fuzzing and detection --------------------------------------------------------------------------------------


def mutated(data: bytes, generator: random.Random) -> bytes:
    """A few bytes changed, removed, doubled or added, and sometimes the end cut off."""
    changed = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        at, other = generator.randrange(len(changed) + 1), generator.randrange(len(changed) + 1)
        kind = generator.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] = generator.choice(
                [0, 9, 10, 13, 32, 43, 48, 57, 59, 62, 64, 65, 128, 255, generator.randrange(256)]
            )
        elif kind == 1:
            del changed[at : at + generator.randint(1, 8)]
        elif kind == 2:
            changed[at:at] = changed[other : other + generator.randint(1, 30)]
        elif kind == 3:
            changed[at:at] = bytes([generator.choice(b"\n\r>@+;\t 0\xff")])
        elif generator.random() < 0.3:
            del changed[at:]
    return bytes(changed)


# case 9
@pytest.mark.parametrize("reader", ["read_fasta", "stream_fasta", "Fasta", "read_fastq", "read_2bit"])
def test_mutated_files_are_read_or_refused(tmp_path: Path, reader: str) -> None:
    start = {"read_fastq": FASTQ, "read_2bit": two_bit(MASKED)}.get(reader, TWO)
    generator, slowest = random.Random(reader), 0.0
    for number in range(600):
        data = mutated(start, generator)
        if number % 3 == 1:
            data = mutated(gzip.compress(start), generator)
        elif number % 3 == 2:
            data = mutated(bgzip(start), generator)
        path, begin = write(tmp_path, data, "f"), time.perf_counter()
        try:
            read = getattr(dna, reader)(path)
            if reader == "stream_fasta":
                joined(read)
            elif reader == "Fasta":
                whole = read_fasta(path)
                assert [read.fetch(name) for name in read.names] == whole.records
                assert read.names == whole.names
            else:
                assert all(read.records) or reader == "read_fastq"
        except TokredError:
            pass
        slowest = max(slowest, time.perf_counter() - begin)
    assert slowest < 1


def test_formats_are_told_by_their_start() -> None:
    assert detect(TWO) == detect(b"\r\n;old\r\n>a\r\n") == "fasta"
    assert detect(FASTQ) == detect(b"@a\n" + b"ACGT" * 1000) == "fastq"
    assert detect(two_bit(MASKED)) == detect(two_bit(MASKED, ">")) == "2bit"
    assert detect(b"LOCUS       A 8 bp\n") == detect(b"GBBCT1.SEQ\n\nLOCUS       A 8 bp\n") == "genbank"
    assert detect(b"##gff-version 3\n") == detect(b"#x\nc\t.\tCDS\t1\t2\t.\t+\t0\tID=a\n") == "gff"
    assert detect(b"track name=x\nchr1\t0\t10\n") == detect(b"chr1\t0\t10\tname") == "bed"
    for other in (
        b"",
        b"\x89PNG",
        b"@HD\tVN:1.6\n@SQ\tSN:1\n",
        b"a,b,c\n1,2,3\n",
        b"ply\nformat ascii 1.0\n",
        b"\0" * 50,
    ):
        assert detect(other) is None
