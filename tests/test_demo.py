"""The main job in miniature: whole files, same numbers for the same seed, nothing left behind by Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import tokred_sci
from tokred_sci import demo, plotting
from tokred_sci.report import write
from tokred_sci.stability.tasks import TASKS


def silent(steps, name):
    return steps


def small(domain: str, seed: int):
    recipe = demo.RECIPES[domain]
    tiny = replace(
        recipe,
        model=replace(recipe.model, dim=16, depth=2, heads=2),
        train=replace(recipe.train, steps=2, batch=4, warm_up=1),
        pool=8,
        test=4,
    )
    return demo.run_domain(TASKS[domain](), tiny, seed, lambda text: None, silent)


def numbers(told: dict) -> list:
    return [[arm["final_loss"], [(p["accuracy"], p["tokens"]) for p in arm["lengths"]]] for arm in told["arms"]]


@pytest.fixture(scope="module", params=demo.RECIPES)
def runs(request):
    return [small(request.param, seed) for seed in (0, 0, 1)]


def test_two_runs_agree_and_two_seeds_differ(runs):
    first, again, other = (numbers(told) for told, _ in runs)
    assert first == again
    assert first != other


def test_a_budget_of_16_holds_at_every_length_and_no_reduction_keeps_all(runs):
    for arm in runs[0][0]["arms"]:
        lengths = [point["tokens"][-1] for point in arm["lengths"]]
        assert lengths == sorted(lengths)
        assert set(lengths) == {16} if arm["method"] != "none" else lengths[-1] > 900


def test_everything_is_written_and_readable(runs, tmp_path):
    told, view = runs[0]
    results = {
        "command": "tokred demo",
        "seed": 0,
        "quick": True,
        "versions": {"torch": "x"},
        "domains": {view.title: told},
    }
    demo.save(tmp_path / "out", results, [view])
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "results.json",
        "lengths.png",
        "tokens.png",
        "report.html",
    }
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == json.loads(json.dumps(results))
    html = (tmp_path / "out" / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 2
    assert told["question"] in html


def test_figures_show_every_arm_and_stage(runs):
    told, view = runs[0]
    curves = plotting.lengths({"domains": {view.title: told}})
    assert {t.get_text() for t in curves.axes[0].get_legend().get_texts()} == {arm["name"] for arm in told["arms"]}
    assert len(plotting.tokens([view]).axes) == 4


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    write(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write(tmp_path / "a.txt", "new \udcff")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]


def cli(*arguments: str, **more) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from tokred_sci.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **more)


def test_interrupted_demo_exits_130_and_leaves_nothing(tmp_path):
    command = [
        sys.executable,
        "-c",
        "from tokred_sci.cli import main; main()",
        "demo",
        "--quick",
        "--out",
        str(tmp_path / "out"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:  # it has begun
            if line.startswith("DNA"):
                break
        time.sleep(1)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors and "Traceback" not in errors
    assert not (tmp_path / "out").exists() or not list(Path(tmp_path / "out").iterdir())


def test_command_line_tells_and_refuses():
    assert "density peaks" in cli("methods").stdout.lower()
    assert json.loads(cli("versions", "--json").stdout)["torch"]
    blocked = cli("demo", "--out", "/dev/null/out")  # told at once, not after minutes of work
    assert blocked.returncode == 1
    assert blocked.stderr.startswith("tokred: Expected '--out'")
    assert not blocked.stdout
    wrong = cli("demo", "--domain", "rna")
    assert wrong.returncode == 2 and "dna" in wrong.stderr
    assert cli("--version").stdout.strip() == tokred_sci.__version__
