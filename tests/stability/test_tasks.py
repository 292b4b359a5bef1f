import numpy as np
import pytest

from tokred_sci.datasets.records import Records
from tokred_sci.datasets.sample import load_sample
from tokred_sci.errors import InputError
from tokred_sci.experiment import HEADS, Model, ModelConfig
from tokred_sci.stability.tasks import IGNORE, TASKS, dna, order, points, source
from tokred_sci.stability.tasks.task import ask

NAMES = [name for name in TASKS if "/" in name]
FADE = 32  # around the hidden part of a mosaic lies a joint


def cloud(generator, flat: bool) -> np.ndarray:
    """Points of a disc (training) or of a line (test): what turns and scales leave alone."""
    return generator.normal(size=(600, 3)) * (3, 1 if flat else 1e-9, 1e-9)


def made_up(name: str, part: str | None = None) -> Records:
    """Small stand-ins for the public sets, in which training and test material can be told apart."""
    generator, train = np.random.default_rng(len(name)), part == "train"
    match name:
        case "cnnprom/mouse_tata":
            letters = ["".join(generator.choice([*("ACG" if train else "ACT")], 300)) for _ in range(40)]
            return Records("dna", [*letters, "G" * 299, "N" * 300], [0, 1] * 21, classes=("0", "1"))
        case "genome/NZ_CP001668":
            letters = "".join(generator.choice([*"ACGT"], 150_000))
            return Records("dna", [letters], [np.zeros(len(letters), np.int64)])
        case "shrec11":
            labels = [*range(5), *range(5)]
            return Records(
                "points",
                [cloud(generator, train) for _ in labels],
                labels,
                tuple(f"{points.OBJECTS[kind]}/{row}" for row, kind in enumerate(labels)),
            )
        case "isprs":
            steep = np.repeat([5.0, 0.0, 0.0, 5.0], 2)  # groups 0 and 3 are kept for the test
            clouds = [np.c_[flat := generator.uniform(0, 90, (9000, 2)), flat[:, 0] * slope] for slope in steep]
            return Records("points", clouds, groups=tuple(f"site {row // 2}" for row in range(8)))
        case "lidar/autzen_trim":
            flat = generator.uniform(0, (900, 240), (60_000, 2))
            return Records("points", [np.c_[flat, flat[:, 1] > 120]])  # the north lies higher
        case "labeled_psb/sampled":
            names = tuple(f"{kind}/{row}" for kind in points.CATEGORIES for row in range(2))
            classes = tuple(f"{kind}: {side}" for kind in ("Bird", *points.CATEGORIES) for side in ("left", "right"))
            clouds = [np.tile(cloud(generator, train), (28, 1))[:16_384] for _ in names]
            labels = [(shape[:, 0] > 0) + 2 * (1 + row // 2) for row, shape in enumerate(clouds)]
            return Records("points", clouds, labels, names, classes)
        case "cinc2017" | "cwru":
            labels = [row % 10 for row in range(40)]
            beat = [1, 1, -1] if train else [1, -1]
            waves = [np.resize(np.cumsum(beat), (1, 4000)) + generator.uniform(0, 1e-3, (1, 4000)) for _ in labels]
            return Records("series", waves, labels, classes=tuple(map(str, range(10))))
        case "nab":
            labels = [np.arange(4000) // 130 % 5 == row % 5 for row in range(8)]
            waves = [np.sin(np.arange(4000) * (2 if row % 4 in (0, 3) else 0.01))[None] for row in range(8)]
            return Records("series", waves, labels, groups=tuple("ab"[row // 4] for row in range(8)))
        case "ett/ETTh1":
            return Records("series", [np.arange(2880.0)[None] + (0 if train else 10_000) * np.ones((7, 1))])
    raise AssertionError(name)


@pytest.fixture(scope="module")
def instead():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "load", made_up)
        yield


@pytest.fixture(scope="module", params=NAMES)
def task(request, instead):
    return TASKS[request.param]()


def elements(task, record) -> int:
    return record.shape[1] if task.domain == "series" else len(record)


@pytest.mark.parametrize("multiple", [1, 3, 16])
def test_length_grows_and_information_does_not(task, multiple):
    drawn, short = task.draw(6, seed=0, test=True, multiple=multiple), task.draw(1, 0)
    assert [elements(task, record) for record in drawn.records] == [task.length * multiple] * 6
    assert {hidden.shape for hidden in drawn.hidden} == {(task.length * multiple,)}
    assert {int(hidden.sum()) for hidden in drawn.hidden} == {int(short.hidden[0].sum())}
    if task.answer == "per-element":
        asked = [int((answer != IGNORE).sum()) for answer in drawn.labels]
        assert asked == [int((short.labels[0] != IGNORE).sum())] * 6 and asked[0] > 0


def test_the_same_seed_gives_the_same_records_and_another_seed_others(task):
    first, second, third = task.draw(4, 0), task.draw(4, 0), task.draw(4, 1)
    assert all(np.array_equal(a, b) for a, b in zip(first.records, second.records, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(first.labels, second.labels, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first.records, third.records, strict=True))


def test_the_truth_is_of_the_kind_that_is_said(task):
    drawn = task.draw(2 * len(task.classes) or 2, 0)
    if task.answer == "classify":
        assert np.bincount(drawn.labels, minlength=len(task.classes)).tolist() == [2] * len(task.classes)
    elif task.answer == "per-element":
        for record, answer in zip(drawn.records, drawn.labels, strict=True):
            assert answer.dtype == np.int64 and answer.shape == (elements(task, record),)
            assert set(answer.tolist()) - {IGNORE} <= set(range(len(task.classes)))
    else:
        assert all(answer.shape == (7, task.horizon) for answer in drawn.labels)
    assert task.answer in HEADS and task.outputs > 0 and task.sources


def test_a_model_takes_the_settings(task):
    tokenizer = dict(task.tokenizer)
    config = ModelConfig(
        task.domain, tokenizer, task.answer, task.outputs, dim=8, depth=1, heads=2, unit=task.spacing, seed=0
    )
    model, drawn = Model(config), task.draw(1, 0, multiple=2)
    answer = model(model.tokenize(drawn.records[0]))
    wanted = {
        "classify": (1, task.outputs),
        "per-element": (1, 2 * task.length, task.outputs),
        "forecast": (1, 7, task.horizon),
    }
    assert answer.shape == wanted[task.answer]


def outside(task, record, hidden) -> np.ndarray:
    """A few numbers that say what the background is like."""
    if task.domain == "dna":
        letters = np.frombuffer(record.encode(), np.uint8)[~hidden]
        return np.array([(letters == ord(base)).mean() for base in "ACG"])
    if task.domain == "points":
        return record[~hidden, :3].std(0)
    near = np.convolve(hidden, np.ones(2 * FADE + 1), "same") > 0
    return np.array([record[:, ~near].std(), np.abs(np.diff(record[:, ~near])).mean()])


def test_neither_background_nor_place_tells_the_class(task):
    if task.answer != "classify":
        pytest.skip("no class of a record")
    drawn = task.draw(60 * len(task.classes), 5)
    told = np.array([outside(task, r, h) for r, h in zip(drawn.records, drawn.hidden, strict=True)])
    if task.domain != "points":
        told = np.c_[told, [hidden.argmax() for hidden in drawn.hidden]]
    for label in range(len(task.classes)):
        ours, others = told[drawn.labels == label], told[drawn.labels != label]
        error = np.sqrt(ours.var(0) / len(ours) + others.var(0) / len(others))
        assert (np.abs(ours.mean(0) - others.mean(0)) <= 4.5 * error).all()


def test_the_place_is_everywhere(task):
    if task.domain == "points" or task.answer == "forecast":
        pytest.skip("points have no order, forecasts no place")
    hidden = task.draw(400, 2, multiple=4).hidden
    starts = np.concatenate([np.flatnonzero(np.diff(one.astype(int), prepend=0) > 0) for one in hidden])
    things = len(starts) / len(hidden)  # one, or two of which one comes first
    room = 4 * task.length - task.draw(1, 0).hidden[0].sum() / things
    count = np.histogram(starts, 4, (0, room))[0]
    assert things in (1, 2)
    assert (count > 60 * things).all()  # of 100 each


def patterns(record: np.ndarray, step: int) -> set[bytes]:
    """Ups and downs of 96 steps, which no level and no gain changes; only such as no other recording has."""
    ups = np.diff(record[0]) > 0
    return {ups[i : i + 96].tobytes() for i in range(0, len(ups) - 96, step)}


def shared(task) -> float:
    """Share of the test material that training has too."""
    train, test = task.draw(40, 0), task.draw(40, 0, test=True)
    if task.domain == "dna":
        seen = {r[i : i + 64] for r in train.records for i in range(0, len(r) - 64)}
        found = [r[i : i + 64] in seen for r in test.records for i in range(0, len(r) - 64, 64)]
    elif task.sources == ("sample:series",):
        seen = {r[:, i].tobytes() for r in train.records for i in range(r.shape[1])}
        found = [r[:, i].tobytes() in seen for r in test.records for i in range(r.shape[1])]
    else:
        seen = set().union(*(patterns(r, 1) for r in train.records))
        found = [pattern in seen for r in test.records for pattern in patterns(r, 96)]
    return float(np.mean(found))


def test_training_and_test_never_share_data(task):
    if task.domain == "points":
        pytest.skip("tested by shape below")
    if task.answer == "forecast":
        rows = [np.concatenate([r[0] for r in task.draw(40, 0, part).records]) for part in (False, True)]
        assert rows[0].max() < rows[1].min()
    else:
        assert shared(task) <= (0.02 if task.domain == "dna" else 0)  # genomes repeat themselves: rRNA, transposons


def test_training_and_test_never_share_shapes_or_sites(instead):
    for name in ("points/object", "points/parts"):
        task = TASKS[name]()
        for test in (False, True):
            for record, hidden in zip(*task.draw(12, 0, test)[::2], strict=True):
                assert np.linalg.matrix_rank(np.cov(record[hidden].T), tol=1e-6) == (1 if test else 2)
                if name == "points/object":
                    slopes = np.ptp(record[~hidden, 2])
                    assert (slopes > 1) == test


def test_a_strip_is_of_one_half_and_as_wide_at_every_length(instead):
    task = TASKS["points/strip"]()
    for test in (False, True):
        for multiple in (1, 16):
            for record, label, hidden in zip(*task.draw(4, 0, test, multiple), strict=True):
                assert 55 < np.ptp(record[:, 1]) <= 60 and np.ptp(record[:, 0]) < 900
                assert (np.abs(record[:, 2]) < 1e-6).all()  # all of one half: the other lies higher or lower
                east = [record[record[:, 3] == sign, 0].mean() for sign in (1, -1)]
                assert (east[0] > east[1]) == (label == 0) and hidden.sum() == 24


def test_the_halves_of_a_terrain_are_south_and_north():
    south, north = order._halves(np.asarray(made_up("lidar/autzen_trim").records[0]))
    assert south[:, 1].max() < north[:, 1].min() and len(south) + len(north) == 60_000
    assert (np.diff(south[:, 0]) >= 0).all() and (np.diff(north[:, 0]) >= 0).all()


def test_training_and_test_never_share_a_hemisphere():
    task = TASKS["points"]()
    train, test = task.draw(40, 0), task.draw(40, 0, test=True)
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


# What each task promises


def test_the_spot_is_what_the_label_says():
    task = TASKS["points"]()
    sample = load_sample("points")
    drawn = task.draw(8, 0)
    norms = np.linalg.norm(sample.records[0][:, :3], axis=1)
    for record, label, hidden in zip(*drawn, strict=True):
        spot = np.linalg.norm(record[hidden, :3], axis=1)
        candidates = np.abs(norms[:, None] - spot).argmin(0)
        assert np.mean(sample.labels[0][candidates] == label) > 0.8  # norms are nearly unique, not quite


def test_the_fragment_is_from_the_organism_that_the_label_says():
    sample, task = load_sample("dna"), TASKS["dna/fragment-place"]()
    for multiple in (1, 4):
        for record, answer, hidden in zip(*task.draw(6, 0, multiple=multiple), strict=True):
            fragment = "".join(np.array([*record])[hidden])
            organism = int(answer[hidden][0])
            homes = [g for r, g in zip(sample.records, sample.groups, strict=True) if fragment in r]
            assert homes == [task.classes[organism]] and (answer[hidden] == organism).all()
            assert set(answer[~hidden].tolist()) <= {0, IGNORE} and (answer[~hidden] == 0).sum() == hidden.sum()


@pytest.mark.parametrize("name", ["dna/coding", "dna/coding-unseen"])
def test_coding_is_what_the_annotation_says(name):
    sample, task = load_sample("dna"), TASKS[name]()
    for test in (False, True):
        for record, answer, asked in zip(*task.draw(3, 0, test, 2), strict=True):
            rows = [row for row, whole in enumerate(sample.records) if record in whole]
            assert len(rows) == 1
            start = sample.records[rows[0]].index(record)
            assert (answer[asked] == sample.labels[rows[0]][start : start + len(record)][asked]).all()
            unseen = sample.groups[rows[0]] != dna.ORGANISMS[0]
            assert unseen == (test and name == "dna/coding-unseen")
            assert ((answer == IGNORE) == ~asked).all() and np.ptp(np.flatnonzero(asked)) == task.length - 1


def test_promoters_in_both_parts_are_left_out_of_the_test(monkeypatch):
    letters = ["".join(np.random.default_rng(row).choice([*"ACGT"], 70)) for row in range(6)]
    parts = {"train": ([*letters[:4]], [0, 0, 1, 1]), "test": ([letters[0], *letters[3:]], [0, 1, 0, 1])}
    monkeypatch.setattr(source, "load", lambda source, part: Records("dna", *parts[part]))
    drawn = dna.promoter_task(256).draw(20, 0, test=True)
    hidden = {"".join(np.array([*r])[h]) for r, h in zip(drawn.records, drawn.hidden, strict=True)}
    assert hidden == {letters[4], letters[5]}


def test_the_object_stands_on_the_terrain_and_both_have_one_density(instead):
    task = TASKS["points/object"]()
    for multiple in (1, 8):
        drawn = task.draw(6, 0, multiple=multiple)
        for record, hidden in zip(drawn.records, drawn.hidden, strict=True):
            assert abs(record[hidden, 2].min()) < 1e-3  # made-up training sites are flat, at 0
            area = np.prod(np.ptp(record[~hidden, :2], axis=0)) * np.pi / 4
            assert 0.7 < np.sqrt(area / (~hidden).sum()) / points.SPACING < 1.3


def test_parts_are_those_of_the_points(instead):
    task = TASKS["points/parts"]()
    for multiple in (1, 16):
        for record, answer, asked in zip(*task.draw(12, 0, multiple=multiple), strict=True):
            assert ((answer == IGNORE) == ~asked).all()
            left = answer[asked] % 2 == 0  # the two parts lie on either side of the middle of the longest axis
            axis = np.linalg.svd(record - record.mean(0), full_matrices=False)[2][0]
            side = (record[asked] @ axis > np.median(record @ axis)) == left
            assert np.mean(side) > 0.9 or np.mean(side) < 0.1


def test_anomalies_are_asked_of_steps_inside_and_outside_alike(instead):
    task = TASKS["series/anomaly"]()
    for multiple in (1, 16):
        for answer, core in zip(*task.draw(20, 0, multiple=multiple)[1:], strict=True):
            assert np.bincount(answer[answer != IGNORE]).tolist() == [48, 48]
            assert (answer[~core] == IGNORE).all()


def test_forecasts_go_on_where_the_record_ends(instead):
    task = TASKS["series/lookback"]()
    for multiple in (1, 16):
        for record, future in zip(*task.draw(5, 0, multiple=multiple)[:2], strict=True):
            steps = np.diff(np.concatenate([record, future], axis=1))
            assert np.allclose(steps, steps[0, 0], atol=1e-4)


def test_asking_needs_enough_of_either_and_is_balanced():
    asked = ask(np.random.default_rng(0), np.arange(100) % 5, np.arange(100) < 20, 10)
    assert (asked[:20] != IGNORE).sum() == (asked[20:] != IGNORE).sum() == 10
    assert (asked[asked != IGNORE] == (np.arange(100) % 5)[asked != IGNORE]).all()


# Bad input


def test_impossible_draws_are_refused(task):
    with pytest.raises(InputError, match=">= 1"):
        task.draw(0, 0)
    with pytest.raises(InputError, match=">= 1"):
        task.draw(1, 0, multiple=0)
    if task.longest is not None:
        with pytest.raises(InputError, match="Lower 'multiple'"):
            task.draw(1, 0, multiple=task.longest // task.length + 1)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dna/fragment", {"length": 100, "fragment": 101}),
        ("dna/fragment", {"length": 10**6}),
        ("dna/fragment-place", {"length": 100, "fragment": 51}),
        ("dna/promoter", {"length": 299}),
        ("dna/promoter", {"source": "shrec11"}),
        ("dna/coding", {"length": 10**6}),
        ("dna/coding-unseen", {"unseen": ("staphylococcus_aureus_o11",), "length": 10**5}),
        ("points/folding", {"length": 10_243}),
        ("points/object", {"size": 300}),
        ("points/object", {"size": 601, "length": 1300}),
        ("points/parts", {"source": "nab"}),
        ("points/parts", {"source": "shrec11", "categories": ("ants",)}),
        ("series/bearing", {"source": "nab"}),
        ("series/anomaly", {"source": "cwru"}),
        ("series/anomaly", {"asked": 0}),
        ("series/lookback", {"source": "cinc2017"}),
        ("points/strip", {"width": 1.0}),
        ("points/object", {"length": 2048}),
        ("points/object", {"classes": ("lamp", "zebra")}),
        ("points/parts", {"categories": ("Airplane", "Zebra")}),
        ("series/exercise", {"excerpt": 513}),
        ("series/exercise", {"excerpt": 5000, "length": 5000}),
        ("series/exercise-place", {"excerpt": 300}),
        ("series/exercise-place", {"excerpt": 5000, "length": 10_000}),
        ("series/arrhythmia", {"fade": 3}),
        ("series/arrhythmia", {"thin": 0}),
        ("series/arrhythmia", {"thin": 30}),
        ("series/bearing", {"excerpt": 4000, "length": 8000}),
        ("series/anomaly", {"length": 4000}),
        ("series/lookback", {"length": 200}),
    ],
)
def test_lengths_that_the_data_cannot_give_are_refused(instead, name, settings):
    with pytest.raises(InputError, match="Expected"):
        TASKS[name](**settings)
