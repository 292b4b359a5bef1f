"""Cases 34 to 36: killed at random instants, several processes, any number of workers: the same run."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import accelerate
import pytest
import tiny
import torch
from safetensors.torch import load_file

from tokred_sci.training.processes import Processes

pytestmark = pytest.mark.skipif(os.name == "nt", reason="children are forked, and killed by signals")


@pytest.fixture(scope="module")
def server():
    with tiny.Server() as server:
        yield server


def test_killed_at_random_instants_and_resumed_it_is_the_run_that_nobody_killed(server, tmp_path):
    told = tiny.kill_often(server, tmp_path, kills=6, random=Random(1), span=0.8)
    assert sum(kills for kills, _ in told) >= 6
    assert all(same for _, same in told)


def test_killed_between_rollbacks_it_is_the_same_run(server, tmp_path):
    changes = dict(poison=7, patience=1, rollbacks=99, checkpoint_every=2, steps=12)
    told = tiny.kill_often(server, tmp_path, kills=3, random=Random(2), span=0.5, **changes)
    assert all(same for _, same in told)
    rows = (tmp_path / "untouched" / "log.csv").read_text().count("loss nan")
    assert rows >= 2 and json.loads((tmp_path / "untouched" / "metrics.json").read_text())["rollbacks"] == rows


def test_files_that_may_not_grow_stop_no_training_and_the_next_call_is_the_same_run(server, tmp_path):
    assert server.run(tmp_path / "untouched") == 0
    assert server.run(tmp_path / "full", limit=2000) == 3  # an error of ours, at the end: the results have no room
    assert not list((tmp_path / "full" / "checkpoints").glob("batch-*"))
    assert server.run(tmp_path / "full") == 0
    assert tiny.outcome(tmp_path / "full") == tiny.outcome(tmp_path / "untouched")


@pytest.mark.parametrize(("number", "code"), [(15, 143), (2, 130)])
def test_a_signal_finishes_the_step_saves_and_exits_with_its_code(server, tmp_path, number, code):
    child = server.start(tmp_path, steps=100_000, checkpoint_every=1_000_000, checkpoint_seconds=0.0, evaluate_every=0)
    log = tmp_path / "checkpoints" / "batch-0000000000"
    while not log.exists():
        pass
    os.kill(child, number)
    assert server.wait() == code
    last = sorted((tmp_path / "checkpoints").glob("batch-*"))[-1]
    told = json.loads((last / "state.json").read_text())["at"]
    assert last.name.endswith("-between") and told["step"] >= 1
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert len(rows) == 1 + told["batches"]


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    last = sorted((folder / "checkpoints").glob("batch-*"))[-1]
    return load_file(last / "state.safetensors")


def two_processes(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", tiny.__file__, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=240)


def test_two_processes_are_one_whatever_weights_the_second_has_and_go_on_where_it_was_killed(tmp_path):
    one, two, killed = tmp_path / "one", tmp_path / "two", tmp_path / "killed"
    seen = tiny.share(one, device=torch.device("cpu"))
    done = two_processes(two)
    assert done.returncode == 0, done.stderr[-3000:]
    shares = [json.loads((two / f"seen-{rank}.json").read_text()) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(records) for records in seen]
    assert not any(set(a) & set(b) for a, b in zip(*shares, strict=True))
    alone, together = parameters(one), parameters(two)
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-9)
    assert two_processes(killed, KILLED="11").returncode and not (killed / "metrics.json").exists()
    done = two_processes(killed)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(json.loads((killed / "seen-1.json").read_text())) < 20
    assert all(torch.equal(value, together[name]) for name, value in parameters(killed).items())


def test_processes_wait_for_one_that_evaluates_for_hours(monkeypatch):
    asked = {}
    state = accelerate.PartialState()
    monkeypatch.setattr(accelerate, "PartialState", lambda **given: asked.update(given) or state)
    Processes.here()
    assert asked["timeout"] >= timedelta(hours=12)


def test_the_number_of_loader_workers_changes_nothing(tmp_path):
    config = replace(tiny.CONFIG, steps=8)
    alone, _ = tiny.make(None, config)
    two, _ = tiny.make(None, config, loader=tiny.loader(workers=2))
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), two.parameters(), strict=True))
