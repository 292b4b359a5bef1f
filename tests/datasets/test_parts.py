"""A file in parts: any stretch is that of the whole record, whatever the format."""

import gzip

import numpy as np
import pytest

from tokred_sci.datasets.parts import open_parts
from tokred_sci.datasets.reader import read
from tokred_sci.errors import FileError, InputError

LETTERS = "ACGTNacgtn" * 30


@pytest.fixture
def made(tmp_path):
    generator = np.random.default_rng(0)
    (tmp_path / "plain.fa").write_text(f">one\n{LETTERS[:60]}\n{LETTERS[60:100]}\n>two\nAC\n")
    (tmp_path / "packed.fa.gz").write_bytes(gzip.compress((tmp_path / "plain.fa").read_bytes()))
    (tmp_path / "ragged.fa").write_text(f">one\n{LETTERS[:10]}\n{LETTERS[10:100]}\n\n>two\nAC\n")
    np.save(tmp_path / "series.npy", generator.normal(size=(3, 500)))
    np.save(tmp_path / "whole.npy", generator.integers(0, 9, (3, 500)))
    np.save(tmp_path / "cloud.npy", generator.normal(size=(200, 4)))
    (tmp_path / "table.csv").write_text("time,a,b\n" + "".join(f"{i},{i * i},{-i}\n" for i in range(50)))
    return tmp_path


NAMES = ["plain.fa", "packed.fa.gz", "ragged.fa", "series.npy", "whole.npy", "cloud.npy", "table.csv"]


@pytest.mark.parametrize("name", NAMES)
def test_a_stretch_is_that_of_the_whole_record(made, name):
    parts, whole = open_parts(made / name), read(made / name)
    assert len(parts) == len(parts.lengths) == len(parts.names) == len(whole.records)
    for number, record in enumerate(whole.records):
        length = parts.lengths[number]
        for start, stop in ((0, length), (0, 0), (length // 3, length // 2), (length - 1, length)):
            values, times = parts.get(number, start, stop)
            wanted = record[:, start:stop] if parts.domain == "series" else record[start:stop]
            assert np.array_equal(values, wanted) if parts.domain != "dna" else values == wanted
            assert times is None if whole.times is None else np.array_equal(times, whole.times[number][start:stop])


def test_labels_are_of_the_record_or_of_the_stretch(made):
    (made / "reads.fq").write_text("@one\nACGT\n+\nII#I\n")
    (made / "two.ts").write_text("@timeStamps false\n@univariate true\n@classLabel true up down\n@data\n1,2:down\n")
    assert open_parts(made / "plain.fa").labels(0, 1, 3) == (None, None)
    whole, each = open_parts(made / "reads.fq").labels(0, 1, 3)
    assert whole is None and each.tolist() == [40, 2]
    assert open_parts(made / "two.ts").labels(0, 0, 1) == (1, None)


def test_only_plain_floats_of_series_stay_on_disk(made):
    assert [name for name in NAMES if open_parts(made / name).mapped] == ["series.npy"]


def test_channels_are_those_of_a_record(made):
    assert [open_parts(made / name).channels for name in ("plain.fa", "series.npy", "cloud.npy")] == [1, 3, 4]


def test_fasta_is_not_read_before_it_is_asked_for(made):
    parts = open_parts(made / "plain.fa")
    with (made / "plain.fa").open("a") as stream:
        stream.write(">three\nA\n")
    with pytest.raises(FileError, match="open it again"):
        parts.get(0, 0, 10)


@pytest.mark.parametrize(
    ("name", "options", "error", "told"),
    [
        ("none.fa", {}, FileError, "nothing there"),
        ("plain.fa", {"colour": 1}, InputError, "options of read_fasta"),
        ("plain.fa", {"domain": "points"}, InputError, "points"),
    ],
)
def test_bad_calls_are_refused(made, name, options, error, told):
    with pytest.raises(error, match=told):
        open_parts(made / name, **options)
