import numpy as np
import pytest

from tokred_sci.errors import InputError
from tokred_sci.stability.clouds import (
    ADD_GLOBAL,
    DGCNN,
    DROP_GLOBAL,
    LOCAL,
    POINTS,
    Accuracies,
    corrupt_points,
    corruption_error,
    relative_corruption_error,
)
from tokred_sci.stability.corruption import follow

LEVELS = range(1, 6)


def ball(count=1024, seed=0, dtype=np.float32, channels=2):
    """A cloud as the paper's: mean 0, in the unit sphere."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, 3)) * [1, 0.5, 0.3]
    x -= x.mean(0)
    x /= np.linalg.norm(x, axis=1).max() or 1
    return np.concatenate([x, generator.normal(size=(count, channels))], 1).astype(dtype)


def damage(kind, level, cloud=None, seed=1, **more):
    return corrupt_points(ball() if cloud is None else cloud, kind, level, np.random.default_rng(seed), **more)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", POINTS)
def test_laws(kind, dtype):
    cloud = ball(dtype=dtype)
    before = cloud.copy()
    same = damage(kind, 0, cloud)
    assert same.record.tobytes() == cloud.tobytes()
    assert same.record is not cloud
    for level in LEVELS:
        record, origin = damage(kind, level, cloud)
        assert record.dtype == dtype
        assert len(record) == len(origin)
        assert np.isfinite(record).all()
        assert not np.array_equal(record, cloud)
        again = damage(kind, level, cloud)
        assert again.record.tobytes() == record.tobytes()
        kept = origin >= 0
        assert np.array_equal(record[kept, 3:], cloud[origin[kept], 3:])  # channels stay with their points
        assert len(set(origin[kept])) == kept.sum()
        if kind.startswith(("drop", "add")):
            assert np.array_equal(record[kept], cloud[origin[kept]])
    assert np.array_equal(cloud, before)


@pytest.mark.parametrize("level", LEVELS)
def test_counts_are_the_papers(level):
    counts = {kind: len(damage(kind, level).record) for kind in POINTS}
    assert counts["scale"] == counts["jitter"] == counts["rotate"] == 1024
    assert counts["drop-global"] == 1024 * (1 - (0.25, 0.375, 0.5, 0.625, 0.75)[level - 1])
    assert counts["drop-local"] == 1024 - 100 * level
    assert counts["add-global"] == 1024 + 10 * level
    assert counts["add-local"] == 1024 + 100 * level


def test_damage_is_in_proportion_for_other_clouds():
    cloud = ball(4096) * np.float32(50) + np.float32(7)
    assert len(damage("drop-local", 2, cloud).record) == round(4096 * (1 - LOCAL[1]))
    assert len(damage("add-global", 3, cloud).record) == round(4096 * (1 + ADD_GLOBAL[2]))
    assert len(damage("drop-global", 1, cloud[:3]).record) == int(3 * (1 - DROP_GLOBAL[0]))
    small, large = damage("jitter", 3, ball(dtype=np.float64)), damage("jitter", 3, ball(dtype=np.float64) * 50 + 7)
    assert np.allclose(small.record[:, :3] * 50 + 7, large.record[:, :3], atol=1e-9)


def test_one_point_survives_everything():
    for kind in POINTS:
        for level in LEVELS:
            assert len(damage(kind, level, ball(1)).record) >= 1


@pytest.mark.parametrize("level", LEVELS)
def test_scale_stretches_axes_and_keeps_the_sphere(level):
    cloud = ball(dtype=np.float64)
    record = damage("scale", level, cloud).record
    ratios = record[:, :3] / cloud[:, :3]
    assert np.allclose(ratios, ratios[0])
    assert np.linalg.norm(record[:, :3], axis=1).max() == pytest.approx(1)
    bound = (1.6, 1.7, 1.8, 1.9, 2.0)[level - 1]
    assert ratios[0].max() / ratios[0].min() <= bound**2


def test_jitter_has_the_width_it_says():
    cloud = ball(20_000, dtype=np.float64)
    for level in LEVELS:
        moved = damage("jitter", level, cloud).record[:, :3] - cloud[:, :3]
        assert moved.std() == pytest.approx(0.01 * level, rel=0.02)


@pytest.mark.parametrize("level", LEVELS)
def test_rotate_keeps_distances_and_is_small(level):
    cloud = ball(dtype=np.float64)
    record = damage("rotate", level, cloud).record[:, :3]
    turn = np.linalg.lstsq(cloud[:, :3], record, rcond=None)[0]
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) == pytest.approx(1)
    angle = np.arccos((np.trace(turn) - 1) / 2)
    assert 0 < angle <= np.sqrt(3) * np.pi / (30, 15, 10, 7.5, 6)[level - 1]


def test_drop_local_leaves_holes_where_drop_global_thins_out():
    line = np.zeros((1024, 3))
    line[:, 0] = np.arange(1024)

    def holes(kind):
        return int((np.diff(damage(kind, 5, line).origin) > 1).sum())

    assert holes("drop-local") <= 8
    assert holes("drop-global") > 100


def test_added_points_are_in_the_ball_near_centres_or_anywhere():
    anywhere = damage("add-global", 5)
    local = damage("add-local", 5)
    for record, origin in (anywhere, local):
        assert np.linalg.norm(record[origin < 0, :3], axis=1).max() <= 1 + 1e-6
    clusters = {tuple(row) for row in local.record[local.origin < 0, 3:]}  # channels of the point they surround
    assert 1 <= len(clusters) <= 8


def test_normals_stay_normal_to_their_surface():
    cloud = ball(dtype=np.float64, channels=6)
    tangent = np.cross(cloud[:, :3], cloud[:, 3:6])
    cloud[:, 6:9] = np.cross(tangent, cloud[:, :3])  # at right angles to the tangent
    for kind in ("rotate", "scale"):
        generator = np.random.default_rng(3)
        record = corrupt_points(cloud, kind, 5, generator, normals=(6,)).record
        moved = np.linalg.lstsq(cloud[:, :3], record[:, :3], rcond=None)[0]
        assert np.allclose((tangent @ moved * record[:, 6:9]).sum(1), 0, atol=1e-9)
        assert np.allclose(np.linalg.norm(record[:, 6:9], axis=1), np.linalg.norm(cloud[:, 6:9], axis=1))


def test_labels_follow_their_points():
    cloud = ball()
    labels = np.arange(1024)
    for kind in POINTS:
        record, origin = damage(kind, 4, cloud)
        carried = follow(labels, origin)
        assert len(carried) == len(record)
        assert np.array_equal(record[carried >= 0, 3:], cloud[carried[carried >= 0], 3:])
        assert (carried == -100).sum() == (origin == -1).sum()


POINTNET = Accuracies(
    0.907,
    {
        "scale": 0.881,
        "jitter": 0.797,
        "rotate": 0.591,
        "drop-global": 0.876,
        "drop-local": 0.778,
        "add-global": 0.121,
        "add-local": 0.562,
    },
)


def test_errors_are_those_published_for_pointnet():
    """mCE 1.422 and RmCE 1.488 in Ren et al., 2022."""
    error, relative = corruption_error(POINTNET), relative_corruption_error(POINTNET)
    assert round(error["mCE"], 3) == 1.422
    assert round(relative["RmCE"], 3) == 1.488
    assert error["jitter"] == pytest.approx(0.203 / 0.316)


def test_the_reference_has_error_one_and_a_perfect_model_none():
    assert set(corruption_error(DGCNN).values()) == {1.0}
    assert corruption_error(Accuracies(1.0, dict.fromkeys(POINTS, 1.0)))["mCE"] == 0
    assert relative_corruption_error(Accuracies(0.5, dict.fromkeys(POINTS, 0.5)))["RmCE"] == 0
    assert set(DGCNN.corrupted) == set(POINTS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: damage("shear", 1), "'kind'"),
        (lambda: damage("scale", 6), "'level'"),
        (lambda: damage("scale", True), "'level'"),
        (lambda: damage("scale", 1, np.zeros((4, 3), int)), "cloud as floats"),
        (lambda: damage("scale", 1, np.zeros((4, 2))), "cloud as floats"),
        (lambda: damage("scale", 1, np.zeros((0, 3))), "one or more points"),
        (lambda: damage("scale", 1, np.full((4, 3), np.nan)), "finite places"),
        (lambda: damage("scale", 1, np.zeros((4, 5)), normals=(3,)), "'normals'"),
        (lambda: corruption_error(Accuracies(1.0, {"scale": 1.0})), "same corruptions"),
        (lambda: corruption_error(Accuracies(92.6, dict.fromkeys(POINTS, 90.0))), "divide percentages"),
        (lambda: corruption_error(DGCNN, Accuracies(1.0, dict.fromkeys(POINTS, 1.0))), "every corruption hurts"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
