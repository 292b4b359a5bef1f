import numpy as np
import pytest

from tokred_sci.datasets.sample import load_sample
from tokred_sci.errors import InputError
from tokred_sci.stability.tasks import TASKS


@pytest.fixture(scope="module", params=TASKS)
def task(request):
    return TASKS[request.param]()


def length(record) -> int:
    return record.shape[1] if isinstance(record, np.ndarray) and len(record) == 6 else len(record)


@pytest.mark.parametrize("multiple", [1, 3, 16])
def test_length_grows_and_information_does_not(task, multiple):
    drawn = task.draw(6, seed=0, test=True, multiple=multiple)
    assert [length(record) for record in drawn.records] == [task.length * multiple] * 6
    assert {int(hidden.sum()) for hidden in drawn.hidden} == {int(task.draw(1, 0).hidden[0].sum())}


def test_the_same_seed_gives_the_same_records_and_another_seed_others(task):
    first, second, third = task.draw(4, 0), task.draw(4, 0), task.draw(4, 1)
    assert all(np.array_equal(a, b) for a, b in zip(first.records, second.records, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first.records, third.records, strict=True))


def test_classes_come_in_equal_shares(task):
    count = np.bincount(task.draw(60, 0).labels, minlength=len(task.classes))
    assert count.max() - count.min() <= 1


def test_training_and_test_never_share_data(task):
    train, test = task.draw(40, 0), task.draw(40, 0, test=True)
    if task.domain == "dna":
        seen = {r[i : i + 64] for r in train.records for i in range(0, len(r) - 64)}
        assert not any(r[i : i + 64] in seen for r in test.records for i in range(0, len(r) - 64, 64))
    elif task.domain == "series":
        seen = {r[:, i].tobytes() for r in train.records for i in range(r.shape[1])}
        shared = np.mean([r[:, i].tobytes() in seen for r in test.records for i in range(r.shape[1])])
        assert shared == 0
    else:
        for drawn, side in ((train, 0), (test, 1)):
            shares = [np.mean([share_of(record, of) for record in drawn.records]) for of in (side, 1 - side)]
            assert shares[0] > 0.99
            assert shares[1] < 0.6


def share_of(record, side: int) -> float:
    """Share of points whose distance to the origin, which a turn leaves alone, is that of a point of the hemisphere."""
    have = np.sort(np.linalg.norm(load_sample("points").records[side][:, :3], axis=1))
    found = np.linalg.norm(record[:, :3], axis=1)
    right = np.searchsorted(have, found).clip(1, len(have) - 1)
    return float((np.minimum(np.abs(have[right] - found), np.abs(have[right - 1] - found)) < 1e-3).mean())


def test_the_spot_is_what_the_label_says():
    task = TASKS["points"]()
    sample = load_sample("points")
    drawn = task.draw(8, 0)
    norms = np.linalg.norm(sample.records[0][:, :3], axis=1)
    for record, label, hidden in zip(*drawn, strict=True):
        spot = np.linalg.norm(record[hidden, :3], axis=1)
        candidates = np.abs(norms[:, None] - spot).argmin(0)
        assert np.mean(sample.labels[0][candidates] == label) > 0.8  # norms are nearly unique, not quite


def test_impossible_draws_are_refused(task):
    with pytest.raises(InputError, match=">= 1"):
        task.draw(0, 0)
