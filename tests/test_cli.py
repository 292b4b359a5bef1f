"""The command line: every command runs, errors are one line and an exit code, nothing is half done."""

import json
import sys

import pytest

from tokred_sci import cli
from tokred_sci.datasets.store import read_tokens


def tokred(monkeypatch, capfd, *arguments):
    monkeypatch.setattr(sys, "argv", ["tokred", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capfd.readouterr()
    return end.value.code or 0, out, err


@pytest.fixture
def run(monkeypatch, capfd):
    return lambda *arguments: tokred(monkeypatch, capfd, *arguments)


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text(">chr1\n" + "ACGTTGCANN" * 20 + "\n>chr2\nacgt\n")
    return path


def test_tokenize_and_look_after_the_store(run, fasta, tmp_path):
    store = tmp_path / "store"
    code, out, _ = run("tokenize", fasta, "--out", store, "--set", "patch=8", "--piece", 64)
    assert code == 0 and "patch=8" in out and "5 records" in out
    code, out, _ = run("tokenize", fasta, "--out", store, "--set", "patch=8", "--piece", 0)
    assert code == 0 and "7 records" in out
    code, out, _ = run("store", "generations", store)
    assert code == 0 and len(out.splitlines()) == 2
    code, out, _ = run("store", "verify", store)
    assert code == 0 and "all as written" in out
    code, out, _ = run("store", "compact", store, "--forget")
    assert code == 0 and int(out.split()[0].replace(",", "")) > 0
    assert len(read_tokens(store)) == 7


def test_a_damaged_store_is_told_and_refused(run, fasta, tmp_path):
    run("tokenize", fasta, "--out", tmp_path / "store")
    for chunk in (tmp_path / "store" / "chunks").iterdir():
        chunk.write_bytes(chunk.read_bytes()[:-20])
    code, _, _ = run("store", "verify", tmp_path / "store")
    assert code == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("tokenize", "no.fa", "--out", "x"), "nothing there"),
        (("tokenize", "{fasta}", "--out", "{out}", "--set", "patches=3"), "got 'patches'"),
        (("tokenize", "{fasta}", "--out", "{out}", "--set", "patch"), "name=value"),
        (("tokenize", "{fasta}", "--out", "{out}", "--read", "colour=3"), "options of read_fasta"),
        (("store", "verify", "{out}"), "nothing like it"),
        (("data", "info", "gue/tf9"), "gue/tf"),
    ],
)
def test_bad_calls_are_refused_in_one_line(run, fasta, tmp_path, arguments, told):
    code, out, err = run(*(a.format(fasta=fasta, out=tmp_path / "out") for a in arguments))
    assert code == 1 and out == "" and err.startswith("tokred: ") and told in err
    assert "Traceback" not in err


def test_public_datasets_are_told(run):
    code, out, _ = run("data", "list", "dna")
    assert code == 0 and "gue/" in out and "modelnet" not in out
    code, out, _ = run("data", "info", "ett/ETTh1")
    assert code == 0 and "licence" in out


def test_versions(run):
    code, out, _ = run("versions", "--json")
    assert code == 0 and {"torch", "icechunk"} <= set(json.loads(out))
