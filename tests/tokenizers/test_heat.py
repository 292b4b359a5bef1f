"""Laws of heat signatures: the same in any order, place, pose and size, nearly so when bent; zeros on a sphere."""

import sys

import numpy as np
import pytest

from tokred_sci.errors import InputError, MissingExtra
from tokred_sci.tokenizers.heat import eigenpairs, heat_signatures

pytest.importorskip("robust_laplacian")
RANDOM = np.random.default_rng(0)


def ball(count: int) -> np.ndarray:
    points = np.random.default_rng(1).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def sheet(count: int, wide: float = 1.0, bend: float = 0.0) -> np.ndarray:
    """A sheet of length 2, flat or rolled up to so many radians, without stretch."""
    x, y = np.random.default_rng(2).random((2, count)) * [[2], [wide]]
    if bend == 0:
        return np.stack([x, y, 0 * x], 1)
    radius = 2 / bend
    return np.stack([radius * np.sin(x / radius), y, radius * np.cos(x / radius)], 1)


BODY = ball(600) * [1, 2, 4] + [0, 0.2, 0] * np.square(ball(600)[:, 2:])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_order_place_pose_and_size_do_not_matter(scale):
    turn = np.linalg.qr(RANDOM.normal(size=(3, 3)))[0]
    order = RANDOM.permutation(len(BODY))
    moved = (BODY @ turn * scale + scale * np.array([3, -5, 2]))[order]
    np.testing.assert_allclose(heat_signatures(moved), heat_signatures(BODY)[order], atol=1e-4)


def test_the_same_at_every_call_whatever_the_random_state():
    first = heat_signatures(BODY)
    np.random.seed(5)  # noqa: NPY002
    assert np.array_equal(heat_signatures(BODY), first)


def test_bending_without_stretch_changes_little_and_another_shape_much():
    flat, bent, wider = (heat_signatures(s, [0.03, 0.1]) for s in (sheet(1500), sheet(1500, bend=2), sheet(1500, 2)))
    assert np.abs(bent - flat).mean() < 0.02
    assert np.abs(wider - flat).mean() > 5 * np.abs(bent - flat).mean()


def test_a_sphere_has_zeros_and_its_known_eigenvalues():
    found = np.abs(heat_signatures(ball(2000)))
    assert found.mean() < 0.05
    assert found[:, 5:].max() < 0.15  # from time .014 on; before, points drawn at random still stand out
    values, vectors = eigenpairs(ball(2000), 9)
    np.testing.assert_allclose(values / (4 * np.pi), [0, 2, 2, 2, 6, 6, 6, 6, 6], rtol=0.1, atol=1e-6)
    np.testing.assert_allclose(vectors[:, 0] ** 2, 1, atol=1e-6)
    np.testing.assert_allclose(np.square(vectors).mean(0), 1, rtol=0.1)


def test_tips_hold_heat_longer_than_the_middle():
    points = ball(800) * [6, 1, 1]
    kept = heat_signatures(points, [0.05])[:, 0]
    far = np.abs(points[:, 0])
    assert kept[far > 5].min() > kept[far < 1].max() > -0.1


def test_long_after_heat_is_even_but_stays_in_its_piece():
    assert np.abs(heat_signatures(ball(500), [50.0])).max() < 1e-6
    apart = np.concatenate([ball(500), ball(500) + 10])
    np.testing.assert_allclose(heat_signatures(apart, [50.0]), np.log(2), atol=0.05)


def test_points_drawn_twice_change_nothing():
    whole = heat_signatures(BODY)
    twice = heat_signatures(np.concatenate([BODY, BODY[:50]]))
    np.testing.assert_allclose(twice, np.concatenate([whole, whole[:50]]), atol=1e-6)


@pytest.mark.parametrize("count", [16, 17, 30, 31, 99, 101, 400, 401])
def test_small_clouds_and_further_channels(count):
    more = np.concatenate([ball(count), RANDOM.normal(size=(count, 2))], 1)
    found = heat_signatures(more, 3)
    assert found.shape == (count, 3) and np.isfinite(found).all()
    assert np.array_equal(found, heat_signatures(ball(count), 3))


def test_both_ways_to_the_eigenvalues_agree():
    sparse, dense = eigenpairs(BODY, 50)[0], eigenpairs(BODY, 250)[0][:50]
    np.testing.assert_allclose(sparse, dense, rtol=1e-6, atol=1e-6)


LINE = np.outer(np.arange(40.0), [1, 2, 3])
WRONG = {
    "few": (ball(15), {}, "n >= 16"),
    "flat array": (np.ones(60), {}, "n >= 16"),
    "two coordinates": (np.ones((60, 2)), {}, "3 or more"),
    "one place": (np.ones((60, 3)), {}, "spread over a surface"),
    "few places": (np.repeat(ball(15), 4, 0), {}, "drop duplicates"),
    "a line": (LINE, {}, "spread over a surface"),
    "NaN": (np.where(np.arange(60)[:, None] == 7, np.nan, ball(60)), {}, "finite"),
    "words": ([["a", "b", "c"]] * 60, {}, "real numbers"),
    "no times": (BODY, {"times": 0}, "'times'"),
    "empty times": (BODY, {"times": []}, "'times'"),
    "time zero": (BODY, {"times": [0.0, 1.0]}, "above 0"),
    "truth as times": (BODY, {"times": True}, "'times'"),
    "pairs": (BODY, {"pairs": 1}, "'pairs'"),
    "neighbours": (BODY, {"neighbours": 2}, "'neighbours'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_refused(name):
    points, settings, told = WRONG[name]
    with pytest.raises(InputError, match=told):
        heat_signatures(points, **settings)


def test_without_the_package_it_is_refused_with_the_line_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "robust_laplacian", None)
    with pytest.raises(MissingExtra, match=r"tokred-sci\[points\]"):
        heat_signatures(BODY)
