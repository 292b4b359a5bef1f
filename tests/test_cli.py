"""The command line: every command runs, errors are one line and an exit code, nothing is half done."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import tokred_sci
from tokred_sci import cli
from tokred_sci.datasets.store import read_tokens
from tokred_sci.experiment import Model, ModelConfig

ROOT = Path(tokred_sci.__file__).parents[1]
TOKRED = [sys.executable, "-c", "from tokred_sci.cli import main; main()"]


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


@pytest.fixture
def places(fasta, tmp_path):
    """Names of things that commands are called with."""
    Model(ModelConfig("dna", dim=16, depth=1, heads=2)).save_pretrained(tmp_path / "model")
    return {"fasta": fasta, "model": tmp_path / "model", "out": tmp_path / "out", "store": tmp_path / "store"}


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
    code, out, _ = run("store", "verify", tmp_path / "store", "--json")
    assert code == 1 and json.loads(out)["faults"]


COMMANDS = {
    "inspect {fasta}": "records",
    "inspect {model}": "parameters",
    "suggest {fasta}": "variance",
    "reduce {fasta} --keep 0.5": "variance",
    "reduce {fasta} --keep 3 --method links --window 0 --out {out}": "wrote",
    "tokenize {fasta} --out {store}": "TokenStore",
    "embed {fasta} {model} --out {out}.npz": "rows of 16",
    "embed {fasta} {model} --per-element --out {out}.zarr": "element",
    "methods": "links",
    "versions": "torch",
    "data list dna": "gue/",
    "data info ett/ETTh1": "licence",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_it_in_words_or_as_json_alone(run, places, tmp_path, command):
    code, out, err = run(*command.format(**places).split())
    assert (code, err) == (0, "") and COMMANDS[command] in out
    for path in (places["out"], places["store"], tmp_path / "out.npz", tmp_path / "out.zarr"):
        if path.exists():
            path.rename(path.with_name(f"first-{path.name}"))
    code, out, err = run(*command.format(**places).split(), "--json")
    assert (code, err) == (0, "") and json.loads(out)


def test_json_says_what_words_say(run, places):
    told = json.loads(run("inspect", places["fasta"], "--json", "--set", "patch=8")[1])
    assert (told["what"], told["elements"], told["tokens"]) == ("file", 204, 26)
    assert told["missing"] == pytest.approx(40 / 204)
    told = json.loads(run("suggest", places["fasta"], "--json")[1])
    assert len(told["curves"]) == 6 and len(told["curves"][0]["lost"]) == len(told["keeps"]) == 4
    told = json.loads(run("methods", "--json")[1])
    assert {"links", "peaks"} <= {row["name"] for row in told}
    told = json.loads(run("data", "list", "series", "--json")[1])
    assert {row["domain"] for row in told} == {"series"} and all(row["licence"] for row in told)


def test_a_store_is_told_as_json(run, places):
    told = json.loads(run("tokenize", places["fasta"], "--out", places["store"], "--json")[1])
    assert told["records"] == 2 and told == json.loads(run("inspect", places["store"], "--json")[1])
    history = json.loads(run("store", "generations", places["store"], "--json")[1])
    assert [one["records"] for one in history] == [2]
    assert json.loads(run("store", "verify", places["store"], "--json")[1])["faults"] == []
    assert json.loads(run("store", "compact", places["store"], "--json")[1])["bytes_given_back"] >= 0


def test_evaluate_and_train_tell_scores_as_json(run, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "tokred_sci.run.evaluate",
        lambda folder, settings: {"valid": {"mcc": 0.5}, "test": {"mcc": float(settings[0] if settings else "nan")}},
    )
    assert run("evaluate", tmp_path)[1].split() == ["valid", "mcc", "0.5000", "test", "mcc", "nan"]
    assert json.loads(run("evaluate", tmp_path, "--json")[1]) == {"valid": {"mcc": 0.5}, "test": {"mcc": None}}
    assert run("evaluate", tmp_path, "0.25")[1].split()[-1] == "0.2500"  # settings are handed on


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("tokenize", "no.fa", "--out", "x"), "nothing there"),
        (("tokenize", "{fasta}", "--out", "{out}", "--set", "patches=3"), "got 'patches'"),
        (("tokenize", "{fasta}", "--out", "{out}", "--set", "patch"), "name=value"),
        (("tokenize", "{fasta}", "--out", "{out}", "--read", "colour=3"), "options of read_fasta"),
        (("store", "verify", "{out}"), "nothing like it"),
        (("data", "info", "gue/tf9"), "gue/tf"),
        (("inspect", "no.fa"), "nothing there"),
        (("inspect", "{folder}"), "neither"),
        (("suggest", "{fasta}", "--tolerance", "2"), "tolerance"),
        (("reduce", "{fasta}", "--keep", "much"), "--keep"),
        (("reduce", "{fasta}", "--method", "peak"), "did you mean 'peaks'"),
        (("reduce", "{fasta}", "--out", "{fasta}"), "does not exist"),
        (("embed", "{fasta}", "{folder}", "--out", "{out}.npz"), "config.json"),
        (("embed", "{fasta}", "{model}", "--out", "{out}.csv"), "npz"),
    ],
)
def test_bad_calls_are_refused_in_one_line(run, places, tmp_path, arguments, told):
    code, out, err = run(*(a.format(**places, folder=ROOT / "docs") for a in arguments))
    assert code == 1 and out == "" and err.startswith("tokred: ") and told in err
    assert err.count("\n") == 1 and "Traceback" not in err
    assert not places["out"].exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("inspekt",), "Did you mean 'inspect'? See 'tokred --help'."),
        (("reduce",), "FILE"),
        (("store", "verfy", "x"), "See 'tokred store --help'"),
        (("reduce", "x.fa", "--window", "wide"), "See 'tokred reduce --help'"),
        (("methods", "--jsn"), "--json"),
    ],
)
def test_calls_that_are_none_are_refused_in_one_line(run, arguments, told):
    code, out, err = run(*arguments)
    assert code == 2 and out == "" and err.startswith("tokred: ") and told in err and err.count("\n") == 1


def test_debug_shows_the_trace_and_the_same_code(run):
    code, out, err = run("--debug", "inspect", "no.fa")
    assert code == 1 and out == "" and "Traceback" in err and err.splitlines()[-1].startswith("tokred: Expected a file")


def test_what_should_not_happen_is_one_line_and_another_code(run, monkeypatch, fasta):
    def broken(*arguments):
        raise KeyError("line\nbreak")

    monkeypatch.setattr("tokred_sci.explore.about.about", broken)
    code, out, err = run("inspect", fasta)
    assert code == 70 and out == "" and err.count("\n") == 1
    assert err.startswith("tokred: KeyError: ") and "bug" in err and "tokred --debug" in err
    code, _, err = run("--debug", "inspect", fasta)
    assert code == 70 and "in broken" in err


def test_what_the_system_refuses_is_no_bug(run, monkeypatch, fasta):
    def full(*arguments):
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr("tokred_sci.explore.about.about", full)
    code, _, err = run("inspect", fasta)
    assert code == 1 and "No space left" in err and err.count("\n") == 1


def test_help_names_every_command_without_what_is_heavy():
    code = "import sys, json\nfrom tokred_sci.cli import app\nfrom typer.testing import CliRunner\n"
    code += "out = CliRunner().invoke(app, ['--help']).output\n"
    code += "print(json.dumps([out, [m for m in sys.modules if '.' not in m]]))"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    out, loaded = json.loads(told)
    assert {"torch", "numpy", "zarr", "tqdm", "scipy", "matplotlib"}.isdisjoint(loaded)
    for command in ("inspect", "suggest", "reduce", "tokenize", "embed", "train", "evaluate", "sweep", "demo"):
        assert f" {command} " in out
    assert "--debug" in out and "--install-completion" in out


def test_the_shell_completes_commands_and_options():
    def complete(words, shell="complete_bash"):
        told = {**os.environ, "_TOKRED_COMPLETE": shell, "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        code = "import sys; sys.argv = ['tokred']; from tokred_sci.cli import main; main()"
        return subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True).stdout

    assert complete("tokred in").split() == ["inspect"]
    assert "--per-element" in complete("tokred embed --").split()
    assert "complete -o default -F _tokred_completion tokred" in complete("", "source_bash")


# Case 44 of what must not go wrong: interruption, missing extras, no GPU


def test_a_missing_extra_is_told_with_the_exact_pip_line(run, tmp_path, monkeypatch):
    (tmp_path / "cloud.laz").write_bytes(b"LASF" + bytes(500))
    np.save(tmp_path / "x.npy", np.zeros(5))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for path, package, extra in ((tmp_path / "cloud.laz", "laspy", "points"),):
        monkeypatch.setitem(sys.modules, package, None)
        code, out, err = run("inspect", path)
        assert code == 1 and out == "" and err.count("\n") == 1
        assert f'pip install "tokred-sci[{extra}]"' in err and any(package in line for line in extras[extra])


@pytest.mark.parametrize("moment", ["open_parts", "write_tokens"])
def test_ctrl_c_is_130_and_leaves_nothing(run, monkeypatch, places, moment, tmp_path):
    def stop(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"tokred_sci.explore.reduce.{moment}", stop)
    before = sorted(tmp_path.iterdir())
    code, out, err = run("reduce", places["fasta"], "--out", places["out"])
    assert code == 130 and out == "" and "interrupted" in err and "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_a_real_ctrl_c_is_130_and_the_next_call_goes_on(tmp_path):
    """A real signal to a real process, in the midst of its work; then the same call again, to the end.

    The handler is set by hand: a process started in the background of a shell ignores the signal.
    """
    path = tmp_path / "long.fa"
    path.write_text(">a\n" + ("ACGTTGCA" * 8 + "\n") * 2000)
    code = "import os, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "import tokred_sci.datasets.layout as layout\nwritten = layout.Writer.add\n"
    code += "def add(self, fields):\n    written(self, fields)\n    if len(self.rows) == 20:\n"
    code += "        os.kill(os.getpid(), signal.SIGINT)\n"
    code += "layout.Writer.add = add\nfrom tokred_sci.cli import main\nmain()"
    call = ["tokenize", str(path), "--out", str(tmp_path / "store"), "--piece", "1024"]
    first = subprocess.run([sys.executable, "-c", code, *call], capture_output=True, text=True)
    assert first.returncode == 130 and "interrupted" in first.stderr and "Traceback" not in first.stderr
    again = subprocess.run([*TOKRED, *call], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert len(read_tokens(tmp_path / "store")) == 125


def test_importing_and_inspecting_do_not_wake_a_gpu(fasta):
    code = "import sys, torch\nfrom tokred_sci.explore.about import about\n"
    code += f"about({str(fasta)!r})\nassert not torch.cuda.is_initialized()\nprint('asleep')"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stdout == "asleep\n", told.stderr


def test_a_hostile_model_is_refused_in_one_line(run, places):
    """Case 43; all kinds of it are in tests/explore/test_pretrained.py."""
    (places["model"] / "model.safetensors").write_bytes(b"\x00\x10\xa5\xd4\xe8\x00\x00\x00{")
    for command in (("inspect", places["model"]), ("embed", places["fasta"], places["model"], "--out", "x.npz")):
        code, out, err = run(*command)
        assert code == 1 and out == "" and err.count("\n") == 1 and str(places["model"]) in err
