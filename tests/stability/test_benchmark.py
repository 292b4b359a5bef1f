"""The benchmark: every arm can be built; cells are the same whatever ran before; what is said of them is right."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig
from tokred_sci.stability import study
from tokred_sci.stability.analysis import sensitivity, summarise, winners
from tokred_sci.stability.arms import ARMS, Recipe, coarsened, find_arm, recipe_for
from tokred_sci.stability.benchmark import TUNING, Cell, run, score_records, tuned
from tokred_sci.stability.pages import as_markdown, as_text, overview, save, table, verdict
from tokred_sci.stability.tasks import TASKS
from tokred_sci.training.config import TrainConfig

MULTIPLES = (1, 2)


def bar(items, name):
    return items


def small(task, **more):
    recipe = recipe_for(task)
    model = replace(recipe.model, dim=8, depth=2, heads=1, window=4)
    return Recipe(model, TrainConfig(steps=3, batch=4, warm_up=1), block=0, keep=4, pool=8, test=4, **more)


def scores(cells):
    return [[at["scores"] for at in cell["lengths"]] for cell in cells]


@pytest.fixture(scope="module")
def task():
    return TASKS["series/exercise"](length=128, excerpt=32)


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("domain", ["dna", "points", "series"])
def test_every_arm_makes_a_model_that_answers(name, domain):
    drawn = TASKS[domain]()
    recipe = recipe_for(drawn)
    model_config, train_config = ARMS[name].build(recipe, 64)
    model = Model(replace(model_config, dim=8, depth=3, heads=1))
    record = drawn.draw(1, 0).records[0]
    assert model(model.tokenize(record)).shape == (1, drawn.outputs)
    assert train_config.steps == recipe.train.steps


def test_coarser_tokens_hold_more_and_windows_reach_as_far():
    for config in (ModelConfig("points", {"ratio": 0.25, "neighbours": 8}, window=8), ModelConfig("series", window=8)):
        fine, coarse = (Model(coarsened(config, times)).tokenizer for times in (1, 4))
        if config.domain == "points":
            assert (coarse.ratio, coarse.neighbours) == (fine.ratio / 4, 4 * fine.neighbours)
        else:
            assert coarse.patch == 4 * fine.patch
        assert coarsened(config, 4).window == 2 and coarsened(config, 4).unit == 4 * config.unit


def test_a_cell_does_not_depend_on_what_ran_before_and_is_not_run_again(task, tmp_path):
    recipe = small(task)
    cells = [Cell("series/exercise", arm, seed, 1.0) for seed in (0, 1) for arm in ("none", "links", "fit lengths")]
    together = run(cells, task, recipe, tmp_path / "a", bar, MULTIPLES)
    alone = run(cells[4:5], task, recipe, tmp_path / "b", bar, MULTIPLES)
    assert scores(alone) == scores([told for told in together if (told["arm"], told["seed"]) == ("links", 1)])
    paths = sorted((tmp_path / "a").rglob("*.json"))
    before = [path.stat().st_mtime_ns for path in paths]
    assert len(paths) == 6 and scores(run(cells, task, recipe, tmp_path / "a", bar, MULTIPLES)) == scores(together)
    assert [path.stat().st_mtime_ns for path in paths] == before


def test_what_a_cell_tells(task, tmp_path):
    (told,) = run([Cell("series/exercise", "links", 0, 0.5)], task, small(task), tmp_path, bar, MULTIPLES)
    assert told["config"]["seed"] == 0 and told["parameters"] > 0 and told["training"]["failed"] is None
    first, second = told["lengths"]
    assert first["tokens"] == [16, 4, 4] and second["tokens"] == [32, 4, 4]
    assert len(first["scores"]) == 4 and set(first["scores"]) <= {0.0, 1.0}
    assert second["flops"] > first["flops"] > 0 and len(first["layers"]) == 2


def test_elements_are_scored_where_they_are_asked_about(tmp_path):
    place = TASKS["series/exercise-place"](length=128, excerpt=32)
    (told,) = run([Cell("series/exercise-place", "peaks", 0, 1.0)], place, small(place), tmp_path, bar, (1,))
    shares = np.array(told["lengths"][0]["scores"]) * 64  # as many asked about inside as outside
    assert np.allclose(shares, shares.round()) and told["config"]["head"] == "per-element"
    outputs = torch.eye(3)[None, [0, 1, 2, 2]]
    assert score_records(outputs, torch.tensor([[0, 1, 0, -100]])).tolist() == pytest.approx([2 / 3])


def test_other_recipes_and_tasks_without_classes_are_refused(task, tmp_path, monkeypatch):
    cell = Cell("series/exercise", "none", 0, 1.0)
    run([cell], task, small(task), tmp_path, bar, (1,))
    with pytest.raises(InputError, match="another folder"):
        run([cell], task, replace(small(task), keep=5), tmp_path, bar, (1,))
    with pytest.raises(InputError, match="another folder"):
        run([cell], task, small(task), tmp_path, bar, MULTIPLES)
    with pytest.raises(InputError, match="another folder"):
        run([cell], TASKS["series/exercise"](length=256, excerpt=32), small(task), tmp_path, bar, (1,))
    monkeypatch.setitem(ARMS, "none", replace(ARMS["none"], coarse=2))
    with pytest.raises(InputError, match="another folder"):
        run([cell], task, small(task), tmp_path, bar, (1,))
    with pytest.raises(InputError, match="forecast"):
        run([cell], replace(task, answer="forecast"), small(task), tmp_path, bar)
    with pytest.raises(InputError, match="links"):
        find_arm("lynx")
    with pytest.raises(InputError, match="series/order"):
        study.run(study.Study(("series/odor",), ("none",)), tmp_path, bar)


def told(arm, seed, by_length, rate=1.0, loss=0.0, kind=None):
    lengths = [
        {
            "multiple": 2**place,
            "scores": right,
            "loss": loss,
            "tokens": [8 * 2**place, 8],
            "seconds": 0.25,
            "flops": 1e9,
            "peak_mb": None,
            "layers": [{"entropy_share": 0.5, "spectral_gap": None}],
        }
        for place, right in enumerate(by_length)
    ]
    training = {"seconds": 2.0, "final_loss": 0.1, "spike_score": 0.0, "loss_ratio": 1.0, "failed": None}
    recipe = {"train": {"learning_rate": 0.002}}
    return {
        "task": "t",
        "arm": arm,
        "kind": kind or ARMS[arm].kind,
        "seed": seed,
        "rate": rate,
        "lengths": lengths,
        "training": training,
        "recipe": recipe,
        "config": {"outputs": 2},
    }


HALF, ALL = [1.0, 0.0] * 20, [1.0] * 40


def test_summary_of_cells_known_by_hand():
    cells = [told("none", seed, [ALL, HALF]) for seed in range(5)]
    cells += [told("cover", seed, [ALL, ALL]) for seed in range(5)] + [told("cover", TUNING, [HALF, HALF])]
    none, cover = summarise(cells)
    assert [at.estimate for at in none.scores] == [1.0, 0.5] and none.kept.estimate == 0.5 and none.slope == -0.5
    assert cover.seeds == 5 and cover.break_even == 1.0 and cover.lead.estimate == 0.5 and cover.kept == (1.0, 1.0, 1.0)
    assert none.effective == 1 and cover.effective == 2 and none.lead is None
    assert winners([none, cover]) == ["cover"] and "cover" in verdict([none, cover])
    rival = summarise([told("fit max", seed, [ALL, ALL]) for seed in range(5)])
    assert winners([none, cover, *rival]) == [] and verdict([none, *rival]).startswith("No way")
    assert "cover is ahead of the next, none, by 0.500 [" in verdict([none, cover])
    few = summarise([cell for cell in cells if cell["seed"] < 4])
    assert winners(few) == [] and verdict(few).startswith("No verdict")


def test_rates_are_chosen_on_the_tuning_seed_and_their_loss_is_compared():
    tries = [told("none", TUNING, [ALL], rate, loss) for rate, loss in ((0.5, 0.2), (2.0, 0.1))]  # the score ties
    assert tuned([*tries, told("none", 0, [ALL], 1.0, 0.0)]) == {"none": 2.0}
    cells = [told("none", 0, [ALL], rate, loss) for rate, loss in ((0.5, 0.1), (1.0, 0.3), (2.0, 0.2))]
    rates, losses, value = sensitivity(cells, "none")
    assert rates == [0.001, 0.002, 0.004] and losses == [0.1, 0.3, 0.2] and value == pytest.approx(0.1)
    assert sensitivity(cells[:2], "none") is None


def test_pages_hold_every_arm_and_every_number(task, tmp_path):
    cells = [told(arm, seed, [ALL, HALF]) for arm in ("none", "links") for seed in range(2)]
    cells += [told("none", 0, [ALL, HALF], rate, rate) for rate in (0.5, 2.0)]
    summaries = summarise(cells)
    files = save(tmp_path, {"t": (task, summaries, cells)}, "a command")
    assert {path.name for path in files} >= {"results.json", "table.md", "report.html", "t-curves.png", "t-rates.png"}
    assert all(path.stat().st_size > 0 for path in files)
    assert tmp_path / "overview.png" not in files  # of one task
    both = {"t": (task, summaries, cells), "u": (task, summaries[:1], cells)}
    assert tmp_path / "both" / "overview.png" in save(tmp_path / "both", both, "a command")
    drawn = overview({name: (task, some) for name, (_, some, _) in both.items()})
    assert [len(axes.containers) for axes in drawn.axes] == [2, 1]
    assert [text.get_text() for text in drawn.legends[0].texts] == ["none", "links"]
    read = json.loads((tmp_path / "results.json").read_text())
    assert [arm["arm"] for arm in read["tasks"]["t"]] == ["none", "links"] and read["command"] == "a command"
    head, rows = table(summaries)
    assert len(rows) == 2 and all(len(row) == len(head) for row in rows)
    assert as_markdown(summaries).count("\n") == 4 and "links" in as_text(summaries)


def test_a_study_runs_tunes_and_tells_its_command(task, tmp_path, monkeypatch):
    monkeypatch.setitem(study.TASKS, "tiny", lambda: task)
    monkeypatch.setattr(study, "recipe_for", lambda task: replace(small(task), test=2))
    one = study.Study(
        ("tiny",), ("none", "links"), seeds=1, rates=(0.5, 1.0, 2.0), tune=True, steps=3, pool=5, multiples=(1, 3)
    )
    found = study.run(one, tmp_path, bar)["tiny"]
    assert len(found.cells) == 2 * 3 and [summary.arm for summary in found.summaries] == ["none", "links"]
    settings = "--seeds 1 --rates 0.5,1,2 --steps 3 --pool 5 --lengths 1,3 --tune"
    assert one.command == f'tokred stability tiny --arms "none,links" {settings}'
    assert found.summaries[0].multiples == (1, 3)
    results = json.loads(study.save(one, {"tiny": found}, tmp_path)[-3].read_text(), parse_constant=pytest.fail)
    assert len(results["learning_rates"]["tiny"]["links"]["losses"]) == 3
    assert {(cell["recipe"]["train"]["steps"], cell["recipe"]["pool"]) for cell in found.cells} == {(3, 5)}
    assert study.choose_arms("all") == tuple(ARMS)


def test_rates_and_lengths_that_are_none_are_refused():
    with pytest.raises(InputError, match="rise from 1"):
        study.Study(("tiny",), ("none",), multiples=(2, 4))
    with pytest.raises(InputError, match="above 0"):
        study.Study(("tiny",), ("none",), rates=(0.0, 1.0))
    for setting in (["--rates", "fast"], ["--lengths", "1.5"]):
        command = [sys.executable, "-c", "from tokred_sci.cli import main; main()", "stability", *setting]
        wrong = subprocess.run(command, capture_output=True, text=True)
        assert wrong.returncode == 1 and "between commas" in wrong.stderr


def test_the_command_runs_goes_on_and_tells_json(tmp_path):
    command = [sys.executable, "-c", "from tokred_sci.cli import main; main()", "stability", "series/exercise"]
    command += ["--quick", "--arms", "none,links", "--out", str(tmp_path), "--json"]
    first, again = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2))
    told = json.loads(first.stdout, parse_constant=pytest.fail)  # no NaN: JSON has none
    assert told == json.loads(again.stdout)  # the second time nothing is trained, and all is the same
    assert [arm["arm"] for arm in told["tasks"]["series/exercise"]] == ["none", "links"]
    assert all(Path(file).stat().st_size for file in told["files"]) and (tmp_path / "report.html").exists()
    command = ["lynx" if word == "none,links" else word for word in command]
    wrong = subprocess.run(command, capture_output=True, text=True)
    assert wrong.returncode == 1 and "links" in wrong.stderr and "Traceback" not in wrong.stderr
