"""Laws of heights: a known terrain, any order, any level, and the same near an edge."""

import numpy as np
import pytest

from tokred_sci.errors import InputError
from tokred_sci.tokenizers.heights import heights

PLACES = np.stack(np.meshgrid(np.arange(40.0), np.arange(30.0), [0.0]), -1).reshape(-1, 3)


def test_a_tower_on_a_plain_is_known():
    terrain = PLACES.copy()
    tower = (terrain[:, 0] == 20) & (terrain[:, 1] == 15)
    terrain[tower, 2] = 8
    over_lowest, over_mean, under_highest = heights(terrain, [8.0]).T  # cells of 2, windows of 10: 100 points
    assert over_lowest[tower] == 8 and (over_lowest[~tower] == 0).all()
    np.testing.assert_allclose(over_mean[tower], 8 - 8 / 100)
    near = (np.abs(terrain[:, 0] // 2 - 10) <= 2) & (np.abs(terrain[:, 1] // 2 - 7) <= 2) & ~tower
    np.testing.assert_array_equal(under_highest, 8.0 * near)
    np.testing.assert_allclose(over_mean, -0.08 * near + 7.92 * tower, atol=1e-12)


def test_order_and_level_do_not_matter_and_other_channels_are_not_read():
    random = np.random.default_rng(0)
    cloud, order = random.uniform(0, 50, (500, 3)), random.permutation(500)
    raised = np.concatenate([cloud + np.array([0, 0, 1e4]), np.full((500, 2), np.nan)], 1)
    found = heights(cloud)
    assert found.shape == (500, 18) and found[:, [0, 2]].min() >= 0
    np.testing.assert_allclose(heights(raised[order]), found[order], atol=1e-9)
    np.testing.assert_allclose(heights(cloud + np.array([7e6, -5e6, 0])), found, atol=1e-6)


def test_one_point_is_its_own_ground():
    assert not heights([[1.0, 2.0, 3.0]]).any()


WRONG = {
    "flat": ([[1.0, 2.0]], [2.0], r"\(n, 3 or more\) finite numbers \(got shape \(1, 2\)\)"),
    "empty": (np.zeros((0, 3)), [2.0], "finite numbers"),
    "missing": ([[1.0, 2.0, np.nan]], [2.0], "drop what is missing"),
    "no width": ([[1.0, 2.0, 3.0]], [0.0], r"widths above 0 \(got \[0.0\]\)"),
    "tiny width": ([[0.0, 0, 0], [1e6, 1e6, 0]], [1.0], r"at most 10\^8 cells \(got 1: 2e\+13\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_has_no_heights_is_refused(name):
    points, widths, told = WRONG[name]
    with pytest.raises(InputError, match=told):
        heights(points, widths)
