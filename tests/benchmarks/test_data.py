"""The benchmark of data: its synthetic files are what they claim, and its table says "no" where a target is missed."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from tokred_sci.datasets import read

PATH = Path(__file__).parents[2] / "benchmarks" / "data.py"
sys.path.insert(0, str(PATH.parent))  # as for a script that is run
SPEC = importlib.util.spec_from_file_location("benchmark_of_data", PATH)
data = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(data)


def test_the_fasta_has_runs_and_masks(tmp_path):
    found = read(data.make_fasta(tmp_path / "a.fa", 2, 30_000, masked=True))
    assert found.names == ("chr1", "chr2") and [len(record) for record in found.records] == [30_000, 30_000]
    first = found.records[0]
    assert set(first[:10_000]) == {"N"} and set(first[10_000:]) == set("ACGTacgt")
    assert sum(letter.islower() for letter in first[10_000:]) == pytest.approx(10_000, abs=300)


def test_the_genome_has_genes(tmp_path):
    found = read(data.make_genbank(tmp_path / "a.gbk", 5_000))
    assert len(found.records[0]) == 5_000 and (found.labels[0] == 1).sum() == 5 * 900


def test_the_series_and_the_store_read_back(tmp_path):
    assert read(data.make_series(tmp_path / "a.npy", 1000)).records[0].shape == (1, 1000)
    store = data.make_store(tmp_path / "store", 5, 2, 9, 4)
    assert len(store) == 5 and store[0].features.shape[2] == 4


def test_a_breakdown_counts_what_was_called():
    with data.clocks(("summing", torch, "sum")) as spent:
        torch.sum(torch.ones(1000, 1000))
    assert spent["summing"] > 0 and torch.sum(torch.ones(3)) == 3
    assert data.shares({"a": 1.0, "b": 2.0}, 4.0) == "b 50 %, a 25 %, rest 25 %"


@pytest.mark.parametrize(
    ("value", "target", "verdict"),
    [
        (1.2, {"least": 1}, "yes"),
        (0.9, {"least": 1}, "no"),
        (3, {"most": 2}, "no"),
        (None, {"most": 2}, None),
        (3, {}, None),
    ],
)
def test_targets_are_judged(value, target, verdict):
    assert data.met(data.row("part", "name", value, "s", **target)) == verdict


def test_the_table_survives_the_csv_and_goes_into_a_page(tmp_path):
    line = data.row("fasta", "FASTA to tokens", 0.5, "times as fast", least=1, seconds=2.0, load=1.0, run="now")
    stored = data.row(
        "genome",
        "GenBank to a committed store",
        2.0,
        "s",
        cpu=40.0,
        input_mb=200.0,
        stored_mb=20.0,
        limits="x",
        load=2.0,
        run="now",
    )
    lines = [line | {"met": data.met(line)}, stored]
    data.sheet.write(lines, data.FIELDS, tmp_path / "data.csv")
    text = data.report(data.sheet.read(tmp_path / "data.csv", data.NUMBERS))
    assert "0.5 times as fast | 1 at least: no |" in text
    assert "| 5 MB | 55.6 | 100 GB |" in text  # 200 MB in 40 s, so 10^6 MB in 200,000 s
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x.py -->\nold\n<!-- end of x.py -->\nafter\n")
    data.sheet.put(text, page, "x.py")
    assert page.read_text() == f"before\n<!-- x.py -->\n{text}<!-- end of x.py -->\nafter\n"
