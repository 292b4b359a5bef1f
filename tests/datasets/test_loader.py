"""Laws of the loader: one order for any number of workers, every record once, on from where a state says."""

import json

import numpy as np
import pytest
import torch

from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.loader import IGNORE, TokenLoader
from tokred_sci.datasets.store import append_tokens, read_tokens, write_tokens
from tokred_sci.errors import InputError
from tokred_sci.tokens import Tokens

COUNT = 103


def record(number):
    length = 1 + number * 7 % 23
    return Entry(
        Tokens(
            torch.full((1, length, 2), float(number)),
            torch.arange(length).double()[None, :, None],
            torch.ones(1, length),
            torch.arange(length)[None],
        ),
        label=number,
        targets=np.full(length, number, np.int16),
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("loader") / "store"
    write_tokens(path, [record(number) for number in range(COUNT)], "f")
    return path


def records(loader):
    return [batch.records.tolist() for batch in loader]


def flat(batches):
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize(("block", "blocks"), [(1, 3), (10, 4), (1000, 8)])
def test_every_record_comes_once_and_the_next_epoch_has_another_order(path, bucket, block, blocks):
    loader = TokenLoader(read_tokens(path), 8, bucket=bucket, block=block, blocks=blocks)
    first, second = records(loader), records(loader)
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(COUNT))
    assert first != second and len(first) == len(loader) == 13
    assert [len(batch) for batch in first].count(8) == 12
    again = TokenLoader(read_tokens(path), 8, bucket=bucket, block=block, blocks=blocks)
    assert records(again) == first and records(again) == second
    other = TokenLoader(read_tokens(path), 8, bucket=bucket, block=block, blocks=blocks, seed=1)
    assert records(other) != first


def test_in_order_no_record_is_dropped(path):
    loader = TokenLoader(read_tokens(path), 8, shuffle=False, block=10, blocks=2)
    assert flat(records(loader)) == list(range(COUNT)) == flat(records(loader))


def test_drop_last_leaves_out_the_smaller_batch_only(path):
    loader = TokenLoader(read_tokens(path), 8, drop_last=True, block=16, blocks=2)
    got = records(loader)
    assert len(got) == len(loader) == 12 and all(len(batch) == 8 for batch in got)


def test_a_batch_holds_what_belongs_together(path):
    for batch in TokenLoader(read_tokens(path), 8, block=16):
        assert torch.equal(batch.labels, batch.records)
        assert batch.targets.dtype == torch.int64
        real = batch.tokens.source >= 0
        assert torch.equal(real, batch.targets != IGNORE)
        assert bool((batch.targets == batch.records[:, None])[real].all())
        assert bool((batch.tokens.features[..., 0] == batch.records[:, None])[batch.tokens.mask].all())


def test_buckets_save_padding(path):
    def share(bucket):
        loader = TokenLoader(read_tokens(path), 8, bucket=bucket, block=104)
        return np.mean([float(batch.tokens.mask.float().mean()) for batch in loader])

    assert share(True) > 0.85 > 0.75 > share(False)


@pytest.mark.parametrize("given", [0, 1, 5, 12, 13])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_state_goes_on_with_the_next_batch(path, given, drop_last):
    def make():
        return TokenLoader(read_tokens(path), 8, block=16, blocks=2, drop_last=drop_last)

    whole = make()
    order = [records(whole), records(whole), records(whole)]
    loader = make()
    records(loader)
    batches = iter(loader)
    seen = [next(batches).records.tolist() for _ in range(min(given, len(loader)))]
    state = json.loads(json.dumps(loader.state_dict()))
    resumed = make()
    resumed.load_state_dict(state)
    assert seen + records(resumed) == order[1]
    assert records(resumed) == order[2]


def test_workers_change_nothing(path):
    store = read_tokens(path)
    alone, two = (TokenLoader(store, 8, block=16, blocks=2, workers=workers) for workers in (0, 2))
    for _ in range(2):
        for one, other in zip(alone, two, strict=True):
            assert torch.equal(one.records, other.records) and torch.equal(one.targets, other.targets)
            assert torch.equal(one.tokens.features, other.tokens.features)
    two.load_state_dict({**two.state_dict(), "epoch": 0, "given": 9})
    assert records(two) == records(TokenLoader(store, 8, block=16, blocks=2))[9:]


def test_bad_settings_and_states_are_refused(path, tmp_path):
    store = read_tokens(path)
    for bad in ({"batch_size": 0}, {"workers": -1}, {"block": 0}, {"seed": 1.5}):
        with pytest.raises(InputError, match=next(iter(bad))):
            TokenLoader(store, **bad)
    state = TokenLoader(store, 8).state_dict()
    with pytest.raises(InputError, match="state of a loader with order"):
        TokenLoader(store, 4).load_state_dict(state)
    write_tokens(tmp_path / "store", [record(0)], "f")
    state = TokenLoader(read_tokens(tmp_path / "store"), 8).state_dict()
    append_tokens(tmp_path / "store", [record(1)], "f")
    with pytest.raises(InputError, match="order"):
        TokenLoader(read_tokens(tmp_path / "store"), 8).load_state_dict(state)


@pytest.mark.parametrize(
    "change", [{"given": 99}, {"given": -1}, {"epoch": -1}, {"epoch": "1"}, {"given": True}, {"given": 1.0}, None]
)
def test_a_state_that_no_loader_gave_is_refused(path, change):
    loader = TokenLoader(read_tokens(path), 8)
    state = loader.state_dict()
    for bad in [{**state, **change}] if change else [{}, None, {"epoch": 1}, {"given": 0, "epoch": 0}]:
        with pytest.raises(InputError, match=r"state_dict\(\)"):
            loader.load_state_dict(bad)
    assert loader.state_dict() == state


def test_an_empty_store_has_no_batches(tmp_path):
    write_tokens(tmp_path / "store", [], "f")
    loader = TokenLoader(read_tokens(tmp_path / "store"))
    assert list(loader) == [] and len(loader) == 0
