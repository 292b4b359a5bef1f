"""Neighbouring tokens differ; a token keeps its colour where it can; the same input gives the same colours."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from tokred_sci.plotting.colours import COLOURS, DROPPED, PALETTE, colour_tokens, paint
from tokred_sci.plotting.layers import read_layers


def neighbours(points):
    near = cKDTree(points).query(points, k=7)[1]
    return np.column_stack([np.repeat(near[:, 0], 6), near[:, 1:].ravel()])


def clashes(holder, colours, pairs):
    a, b = holder[pairs[:, 0]], holder[pairs[:, 1]]
    apart = (a != b) & (a >= 0) & (b >= 0)
    return int((colours[a] == colours[b])[apart].sum())


@pytest.mark.parametrize("seed", range(5))
def test_neighbouring_runs_differ_in_every_layer(whole, in_runs, seed):
    chain = [whole(2000)]
    for groups in (700, 200, 40):
        chain.append(in_runs(chain[-1], groups, seed))
    holders = [layer.holder for layer in read_layers(chain)]
    pairs = np.column_stack([np.arange(1999), np.arange(1, 2000)])
    for holder, colours in zip(holders, colour_tokens(holders), strict=True):
        assert clashes(holder, colours, pairs) == 0
        assert len(set(colours.tolist())) >= 6  # no few colours take all


@pytest.mark.parametrize("seed", range(3))
def test_neighbouring_tokens_of_a_surface_differ(seed):
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(6000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    fine = cKDTree(points[:300]).query(points)[1]
    coarse = cKDTree(points[:40]).query(points[:300])[1][fine]
    pairs = neighbours(points)
    for holder, colours in zip((fine, coarse), colour_tokens([fine, coarse], pairs), strict=True):
        assert clashes(holder, colours, pairs) == 0


def test_the_same_input_gives_the_same_colours():
    holder = np.random.default_rng(0).integers(0, 50, 500)
    first, again = colour_tokens([holder]), colour_tokens([holder])
    assert first[0].tolist() == again[0].tolist()


def test_a_token_that_does_not_change_keeps_its_colour():
    holder = np.arange(100) // 7
    renamed = 14 - holder
    first, then = colour_tokens([holder, renamed])
    assert np.array_equal(paint(holder, first), paint(renamed, then))


def test_elements_have_the_colour_of_their_token_and_dropped_ones_none():
    holder = np.array([0, 0, 2, -1, 2])
    rgb = paint(holder, np.array([3, 0, 5]))
    assert np.array_equal(rgb[:3], PALETTE[[3, 3, 5]])
    assert np.array_equal(rgb[3], [int(DROPPED[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def test_more_tokens_than_can_be_repaired_still_differ_from_the_next():
    holder = np.arange(50_000)
    (colours,) = colour_tokens([holder])
    assert (np.diff(colours) != 0).all()


CONES = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
VISION = {  # what is left of the cones' answers (Viénot, Brettel & Mollon, 1999)
    "all cones": np.eye(3),
    "no red cones": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
    "no green cones": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
}


@pytest.mark.parametrize("seen", VISION.values(), ids=VISION)
def test_every_two_colours_stay_apart_for_colour_blind_readers(seen):
    linear = np.where(PALETTE <= 0.04045, PALETTE / 12.92, ((PALETTE + 0.055) / 1.055) ** 2.4)
    rgb = (linear @ (np.linalg.inv(CONES) @ seen @ CONES).T).clip(0)
    to_xyz = np.array([[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07218], [0.01933, 0.11919, 0.95030]])
    x, y, z = np.cbrt(rgb @ to_xyz.T / [0.95047, 1, 1.08883]).T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
    apart = np.linalg.norm(lab[:, None] - lab, axis=-1)  # CIE 1976 difference; 2.3 can just be seen
    assert apart[~np.eye(len(COLOURS), dtype=bool)].min() > 15
