"""Cases 37 to 40 and 43: what is skipped, rolled back, repeated in parts, fallen back to and refused."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.loader import MemoryStore, TokenLoader
from tokred_sci.errors import FileError, InputError
from tokred_sci.experiment import Model
from tokred_sci.training import checkpoint, hooks, loop
from tokred_sci.training.checkpoint import CheckpointWarning
from tokred_sci.training.loop import Loss
from tokred_sci.training.tasks import Classify

CONFIG = replace(tiny.CONFIG, steps=12, checkpoint_every=4, checkpoint_seconds=0.0, evaluate_every=0, keep=2)


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def spoil(on: set[int], by: float):
    """The usual loss, on some of the calls multiplied."""
    calls = iter(range(10_000))

    def loss(model, batch):
        told = Classify().loss(model, batch)
        return Loss(told.total * (by if next(calls) in on else 1), told.number)

    return loss


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


# Case 37


@pytest.mark.parametrize("by", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_skipped_counted_and_its_records_are_saved(tmp_path, by):
    seen = []
    _, history = tiny.make(tmp_path, CONFIG, loss=spoil({3, 7}, by), on_step=seen.append)
    assert history.skipped == 2 and len(history.losses) == 12 and len(history.rows) == 14
    bad = [json.loads(line) for line in (tmp_path / "bad_batches.jsonl").read_text().splitlines()]
    assert [one["batch"] for one in bad] == [3, 7] and all(1 <= len(one["records"]) <= 6 for one in bad)
    assert [row["skipped"] for row in history.rows][-1] == 2
    for value in load_file(tmp_path / "checkpoints" / saved(tmp_path)[-1] / "state.safetensors").values():
        assert not value.is_floating_point() or bool(value.isfinite().all())


def test_a_gradient_that_is_no_number_is_skipped():
    def loss(model, batch):
        told = Classify().loss(model, batch)
        nothing = model.head.out.weight.abs().sum() * 0
        return Loss(told.total + (nothing + (0 if torch.is_grad_enabled() else 1)).sqrt(), told.number)

    with pytest.raises(InputError, match=r"5 bad batches in a row, the last at step 0: gradient (inf|nan)"):
        tiny.make(None, CONFIG, loss=loss)


def test_a_spike_is_skipped():
    config = replace(CONFIG, steps=60, spike=3.0)
    _, history = tiny.make(None, config, loss=spoil({55}, 1e4))
    assert history.skipped == 1 and history.rows[55]["reason"].startswith("spike")


def test_after_bad_batches_in_a_row_it_goes_back_and_on_at_half_the_rate(tmp_path):
    bad = set(range(6, 11))
    with pytest.warns(UserWarning, match="Back to step 4, at 0.5 times"):
        _, history = tiny.make(tmp_path, CONFIG, loss=spoil(bad, float("nan")))
    assert (history.skipped, history.rollbacks, history.rows[-1]["step"]) == (5, 1, 11)
    assert [row["step"] for row in history.rows[4:13]] == [4, 5, 6, 6, 6, 6, 6, 4, 5]
    assert history.rows[11]["learning_rate"] == pytest.approx(history.rows[4]["learning_rate"] / 2)


def test_training_that_never_recovers_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Back to step 4"), pytest.raises(InputError, match="3 rollbacks before"):
        tiny.make(tmp_path, CONFIG, loss=spoil(set(range(5, 999)), float("nan")))
    assert saved(tmp_path)[-1] == "batch-0000000004"


def silent(on: set[int]):
    """The usual loss; some of the calls ask nothing."""
    calls = iter(range(10_000))

    def loss(model, batch):
        told = Classify().loss(model, batch)
        return Loss(told.total * 0, told.number * 0) if next(calls) in on else told

    return loss


def test_batches_that_ask_nothing_are_skipped_and_are_no_reason_to_go_back(tmp_path):
    _, history = tiny.make(tmp_path, CONFIG, loss=silent(set(range(3, 11))))
    assert (history.skipped, history.rollbacks, len(history.losses)) == (8, 0, 12)
    assert [row["reason"] for row in history.rows[3:11]] == ["nothing asked"] * 8
    assert all(row["learning_rate"] > 0 for row in history.rows)


def test_data_that_ask_nothing_are_refused(monkeypatch):
    monkeypatch.setattr(loop, "IDLE", 20)
    with pytest.raises(InputError, match=r"ask something \(got 20 in a row that do not\): look at the labels"):
        tiny.make(None, CONFIG, loss=silent(set(range(2, 999))))


# Case 38


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_makes_parts_smaller_and_the_step_the_same(error):
    parts = []

    def hungry(model, batch):
        if len(batch.records) > 2:
            raise error
        parts.append(len(batch.records))
        return Classify().loss(model, batch)

    config = replace(CONFIG, steps=6)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", RuntimeWarning)
        model, history = tiny.make(None, config, tiny.PLAIN, loss=hungry)
    assert [str(one.message)[:64] for one in told] == [
        "Out of memory with 6 records at a time; from now on 3, with the ",
        "Out of memory with 3 records at a time; from now on 2, with the ",
    ]
    whole, straight = tiny.make(None, config, tiny.PLAIN)
    assert max(parts) == 2 and sum(parts) == sum(row["records"] for row in straight.rows)
    assert history.losses == pytest.approx(straight.losses, abs=1e-5)
    for a, b in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_one_record_that_does_not_fit_is_refused():
    def hungry(model, batch):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    refused = pytest.raises(InputError, match=r"a record of \d+ tokens to fit into memory")
    with pytest.warns(RuntimeWarning, match="Out of memory"), refused:
        tiny.make(None, CONFIG, loss=hungry)


def test_other_errors_are_not_taken_for_it():
    def broken(model, batch):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        tiny.make(None, CONFIG, loss=broken)


# Case 39


def stop_at(step: int):
    def stop(row):
        if row["batch"] == step:
            raise KeyboardInterrupt

    return stop


def interrupted(folder: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        tiny.make(folder, CONFIG, on_step=stop_at(10))
    return folder / "checkpoints" / saved(folder)[-1]


@pytest.fixture(scope="module")
def straight():
    return tiny.make(None, CONFIG)[0]


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_detected_and_the_one_before_is_used(tmp_path, straight, name, damage):
    path = interrupted(tmp_path) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content[: len(content) // 2] if damage == "cut" else content))
    if damage == "remove":
        path.unlink()
    with pytest.warns(CheckpointWarning, match="The checkpoint before it is used"):
        model, _ = tiny.make(tmp_path, CONFIG)
    assert same(model, straight)


def test_where_no_checkpoint_is_whole_going_on_is_refused(tmp_path):
    interrupted(tmp_path)
    for path in (tmp_path / "checkpoints").glob("*/state.json"):
        path.write_bytes(b"{}")
    with pytest.warns(CheckpointWarning), pytest.raises(FileError, match="damaged ones only"):
        tiny.make(tmp_path, CONFIG)


def test_on_a_full_disk_training_goes_on_loudly(tmp_path, straight, monkeypatch):
    write, room = checkpoint._write_through, iter([True] * 3 + [False] * 2 + [True] * 99)

    def full(path, content):
        if path.parent.name.endswith(".part") and path.name == "state.safetensors" and not next(room):
            path.write_bytes(content[:100])
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(checkpoint, "_write_through", full)
    config = replace(CONFIG, checkpoint_every=2)
    with pytest.warns(CheckpointWarning, match=r"Could not save .* No space left on device.*Training goes on") as told:
        model, _ = tiny.make(tmp_path, config)
    assert len(told) == 2 and same(model, straight)
    assert saved(tmp_path) == ["batch-0000000010", "batch-0000000012"]


def test_a_model_is_written_beside_the_one_before_which_a_full_disk_leaves_whole(tmp_path, monkeypatch):
    def full(path, content):
        path.write_bytes(content[:100])
        raise OSError(28, "No space left on device")

    first = Model(tiny.PLAIN)
    first.save_pretrained(tmp_path)
    monkeypatch.setattr(checkpoint, "_write_through", full)
    with pytest.raises(OSError, match="No space left"):
        Model(replace(tiny.PLAIN, seed=1)).save_pretrained(tmp_path)
    assert same(Model.from_pretrained(tmp_path), first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def rewrite(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A checkpoint with other tensors, and a manifest that says so."""
    told = json.loads((path / "state.json").read_text())
    shutil.rmtree(path)
    checkpoint.save_checkpoint(path.parent, path.name, tensors, told)


@pytest.mark.parametrize("key", ["model.head.out.weight", "optimiser.0.exp_avg", "mean.head.out.weight"])
def test_tensors_of_the_wrong_shape_are_refused(tmp_path, key):
    path = interrupted(tmp_path)
    rewrite(path, load_file(path / "state.safetensors") | {key: torch.zeros(999)})
    with pytest.raises(FileError, match=r"of another|shape"):
        tiny.make(tmp_path, CONFIG)


@pytest.mark.parametrize("header", [10**12, 2**63, 5])
def test_a_hostile_header_is_refused(tmp_path, header):
    path = interrupted(tmp_path)
    for one in (tmp_path / "checkpoints").iterdir():
        manifest = json.loads((one / "manifest.json").read_text())
        state = header.to_bytes(8, "little") + b'{"a":' * 50
        (one / "state.safetensors").write_bytes(state)
        manifest["files"]["state.safetensors"] = {
            "sha256": __import__("hashlib").sha256(state).hexdigest(),
            "bytes": 258,
        }
        (one / "manifest.json").write_text(json.dumps(manifest))
    assert path.exists()
    with pytest.warns(CheckpointWarning), pytest.raises(FileError, match="damaged ones only"):
        tiny.make(tmp_path, CONFIG)


@pytest.mark.parametrize("key", ["optimiser.x.step", "optimiser.0.exp.avg", "optimiser.99.step", "random.0.0"])
def test_tensors_of_no_sense_are_refused(tmp_path, key):
    path = interrupted(tmp_path)
    rewrite(path, load_file(path / "state.safetensors") | {key: torch.zeros(7, dtype=torch.uint8)})
    with pytest.raises(FileError, match=r"optimiser in the checkpoint|random generators"):
        tiny.make(tmp_path, CONFIG)


def test_a_state_without_sense_is_refused(tmp_path):
    path = interrupted(tmp_path)
    tensors = load_file(path / "state.safetensors")
    told = json.loads((path / "state.json").read_text())
    checkpoint.save_checkpoint(path.parent, path.name, tensors, {**told, "at": {"step": "ten"}})
    with pytest.raises(FileError, match="says where the run was"):
        tiny.make(tmp_path, CONFIG)


# Case 40


def test_another_config_is_refused_with_what_differs_unless_allowed(tmp_path):
    interrupted(tmp_path)
    other = replace(CONFIG, learning_rate=1e-3, clip=2.0)
    with pytest.raises(InputError, match=r"same config.*\n  train.learning_rate: 0.005 -> 0.001\n  train.clip"):
        tiny.make(tmp_path, other)
    _, history = tiny.make(tmp_path, other, allow=("config",))
    assert len(history.losses) == 12


def test_other_code_is_refused_and_named(tmp_path, monkeypatch):
    interrupted(tmp_path)
    digests = {**checkpoint.code_digests(), "tokens.py": "0" * 12}
    monkeypatch.setattr(checkpoint, "code_digests", lambda: digests)
    with pytest.raises(InputError, match=r"same code .*\n  tokens.py: [0-9a-f]{12} -> 0{12}\n"):
        tiny.make(tmp_path, CONFIG)
    tiny.make(tmp_path, CONFIG, allow=("code",))


def test_other_data_are_refused(tmp_path):
    interrupted(tmp_path)
    loader = TokenLoader(tiny.store(25), 6, block=12, blocks=1)
    with pytest.raises(InputError, match="same data"):
        tiny.make(tmp_path, CONFIG, loader=loader)
    with pytest.warns(CheckpointWarning, match="The data begin a new epoch"):
        tiny.make(tmp_path, CONFIG, loader=loader, allow=("data",))
    with pytest.raises(InputError, match="'config', 'code', 'data'"):
        tiny.make(tmp_path, CONFIG, allow=("weights",))


def test_a_folder_in_use_is_refused(tmp_path):
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another process trains in it"):
        tiny.make(tmp_path, CONFIG)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a folder that can be written to"):
        tiny.make(tmp_path / "file", CONFIG)


# What else there is


def test_without_a_folder_it_is_the_same_and_the_global_random_state_stays(tmp_path, straight):
    before = torch.get_rng_state()
    model, history = tiny.make(tmp_path, CONFIG)
    assert same(model, straight) and torch.equal(before, torch.get_rng_state())
    again, resumed = tiny.make(tmp_path, CONFIG)  # finished: nothing is left to do
    assert same(again, straight)
    assert resumed.losses == pytest.approx(history.losses)
    assert saved(tmp_path) == ["batch-0000000008", "batch-0000000012"]
    assert (tmp_path / "model" / "config.json").exists()
    assert same(Model.from_pretrained(tmp_path / "model"), straight)


def test_ema_is_the_running_mean_of_the_weights():
    seen, mean = [], None
    config = replace(CONFIG, steps=5, ema=0.5)
    model, _ = tiny.make(None, replace(config, ema=None), tiny.PLAIN, on_step=lambda row: None)
    weights = []

    def loss(model, batch):
        weights.append(model.head.out.weight.detach().clone())
        return Classify().loss(model, batch)

    raw, _ = tiny.make(None, replace(config, ema=None), tiny.PLAIN, loss=loss)
    for step, value in enumerate([*weights[1:], raw.head.out.weight.detach()]):
        decay = min(0.5, (1 + step) / (10 + step))  # the first weights are soon forgotten
        mean = torch.lerp(weights[0] if mean is None else mean, value, 1 - decay)
    averaged, _ = tiny.make(None, config, tiny.PLAIN, evaluate=lambda m: seen.append(m.head.out.weight.clone()) or {})
    assert same(raw, model)
    torch.testing.assert_close(averaged.head.out.weight.detach(), mean)
    assert torch.equal(seen[-1], averaged.head.out.weight)


def test_a_running_mean_without_memory_is_the_weights(tmp_path):
    raw, _ = tiny.make(None, replace(CONFIG, ema=None))
    with pytest.raises(KeyboardInterrupt):
        tiny.make(tmp_path, replace(CONFIG, ema=0.0), on_step=stop_at(10))
    model, _ = tiny.make(tmp_path, replace(CONFIG, ema=0.0))
    assert same(model, raw)


class Tied(torch.nn.Module):
    """A model with one weight at two places."""

    def __init__(self):
        super().__init__()
        self.body = Model(tiny.PLAIN)
        self.twice = torch.nn.Linear(2, 2, bias=False)
        self.again = torch.nn.Linear(2, 2, bias=False)
        self.again.weight = self.twice.weight

    def forward(self, tokens):
        return self.again(self.twice(self.body(tokens)))


def test_tied_weights_are_saved_and_stay_tied(tmp_path):
    def train(folder, **more):
        torch.manual_seed(0)
        model = Tied()
        numbers = dict(evaluate=None, progress=False, device=torch.device("cpu"))
        loop.fit(model, Classify().loss, tiny.loader(), CONFIG, folder, **numbers, **more)
        return model

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, on_step=stop_at(10))
    model = train(tmp_path)
    assert same(model, train(None)) and model.again.weight is model.twice.weight


def test_scores_may_be_numbers_of_numpy(tmp_path):
    config = replace(CONFIG, evaluate_every=4)
    _, history = tiny.make(tmp_path, config, evaluate=lambda model: {"score": np.float32(0.5)})
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"] == {"score": 0.5}
    assert len(history.evaluations) == 3


def test_budgets_are_drawn_and_kept_to():
    model, history = tiny.make(None, replace(CONFIG, steps=20, budgets=(1.0, 0.25)))
    assert {row["budget"] for row in history.rows} == {1.0, 0.25}
    for row in history.rows:
        mean = row["tokens"] / row["records"]
        assert row["kept_1"] == mean if row["budget"] == 1 else row["kept_1"] <= mean / 4 + 2
        assert 1 / row["kept_1"] <= row["largest_1"] < 1 and row["largest_0"] <= row["largest_1"]
    assert [share for _, share in model.config.reduce[0].__dict__.items() if share == 0.5]  # its own budget is back
    with pytest.raises(InputError, match="a model that merges"):
        tiny.make(None, replace(CONFIG, budgets=(0.5,)), replace(tiny.MODEL, reduce=()))


def test_the_random_generators_of_a_model_are_found():
    assert len(hooks.generators(Model(tiny.MODEL))) == 1
    assert hooks.generators(Model(tiny.PLAIN)) == []


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_learns(precision):
    config = replace(CONFIG, steps=30, precision=precision, budgets=(), ema=None)
    _, history = tiny.make(None, config, tiny.PLAIN)
    assert history.losses[-1] < 0.5 * history.losses[0]


def test_length_warm_up_shows_the_first_tokens_only():
    lengths = []

    def loss(model, batch):
        lengths.append(batch.tokens.features.shape[1])
        return Classify().loss(model, batch)

    tiny.make(None, replace(CONFIG, length_warm_up=6), loss=loss, loader=TokenLoader(tiny.store(), 26, bucket=False))
    assert lengths == sorted(lengths) and lengths[0] == -(-lengths[-1] // 8) and lengths[6:] == lengths[-1:] * 6


def test_micro_batches_average_to_the_same(tmp_path):
    whole, _ = tiny.make(None, CONFIG, tiny.PLAIN)
    parts, _ = tiny.make(None, replace(CONFIG, micro_batch=4), tiny.PLAIN)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_no_data_are_refused():
    entries: list[Entry] = []
    with pytest.raises(InputError, match="at least one batch"):
        tiny.make(None, CONFIG, loader=TokenLoader(MemoryStore(entries)))


def test_a_finished_run_leaves_curves_and_numbers(tmp_path):
    tiny.make(tmp_path, replace(CONFIG, evaluate_every=4))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((tmp_path / "metrics.json").read_text())
    assert told["steps"] == 12 and len(told["evaluations"]) == 3 and "weight" in told["metrics"]
    assert (tmp_path / "config.toml").read_text().startswith("steps = 12\n")
    header = (tmp_path / "log.csv").read_text().splitlines()[0].split(",")
    assert header[-4:] == ["largest_0", "largest_1", "skipped", "reason"] and header[-6:-4] == ["kept_0", "kept_1"]


def test_a_run_that_merges_from_here_on_has_curves(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        tiny.make(tmp_path, replace(CONFIG, budgets=()), replace(tiny.PLAIN, reduce=()), on_step=stop_at(10))
    tiny.make(tmp_path, replace(CONFIG, budgets=()), tiny.PLAIN, allow=("config",))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_save_file_is_what_checkpoints_are_made_of(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "state.safetensors")
    path = checkpoint.save_checkpoint(tmp_path, "batch-0000000001", {"a": torch.ones(2)}, {"step": 1})
    assert (path / "state.safetensors").read_bytes() == (tmp_path / "state.safetensors").read_bytes()
    assert checkpoint.load_checkpoint(path, 10_000)[1] == {"step": 1}
    with pytest.raises(FileError, match="at most 10"):
        checkpoint.load_checkpoint(path, 10)
