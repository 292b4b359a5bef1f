"""Laws of the point tokenizer: every point owned once, by the nearest centre, in any order, offset, unit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tokred_sci.errors import InputError
from tokred_sci.reduction.merge import merge
from tokred_sci.tokenizers.points import PointTokenizer, _farthest, _nearest
from tokred_sci.tokens import Grouping, stack

METHODS = ("fps", "voxel", "curve", "runs")
quick = settings(max_examples=25, deadline=None)
grids = st.integers(1, 40).flatmap(lambda n: arrays(np.int64, (n, 3), elements=st.integers(-4, 4)))


def cloud(count: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, channels))


@quick
@given(grids, st.sampled_from(METHODS), st.integers(1, 50))
def test_every_point_is_owned_once_and_comes_back(points, method, tokens):
    tokenizer = PointTokenizer(tokens=tokens, neighbours=len(points), method=method)
    got = tokenizer(points)
    source = got.source[0]
    assert got.features.shape[1] <= min(tokens, len(points)) and got.features.shape[2] == tokenizer.dim
    assert torch.equal(got.sizes[0], torch.bincount(source).float()) and bool((got.sizes > 0).all())
    means = np.stack([points[source.numpy() == token].mean(0) for token in range(got.features.shape[1])])
    np.testing.assert_allclose(got.positions[0], means, atol=1e-12)
    np.testing.assert_allclose(tokenizer.detokenize(got), points, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 7, 8, 9, 300])
def test_around_the_number_of_tokens(method, count):
    points = cloud(count, 5)
    tokenizer = PointTokenizer(tokens=8, neighbours=count, method=method, channels=5)
    tokens = tokenizer(points)
    assert tokens.features.shape[1] <= 8 and tokens.source.shape == (1, count)
    np.testing.assert_allclose(tokenizer.detokenize(tokens), points, atol=1e-6)
    if count <= 8 and method != "curve":
        assert tokens.features.shape[1] == count
    duplicates = tokenizer(np.repeat(points[:1], count, 0))
    assert duplicates.sizes.sum() == count and (method == "runs" or len(duplicates.sizes[0]) == 1)
    assert (duplicates.positions[0].numpy() == points[:1, :3]).all()


@pytest.mark.parametrize(("count", "tokens", "neighbours"), [(50, 7, 12), (50, 7, 5), (20, 6, 30), (64, 4, 16)])
def test_runs_are_equal_and_slots_hold_what_is_beside_them_on_the_curve(count, tokens, neighbours):
    points = np.arange(count)[:, None] * np.ones(3) + np.random.default_rng(0).random((count, 3)) * 1e-3  # a diagonal
    shuffled = np.random.default_rng(1).permutation(count)
    got = PointTokenizer(tokens=tokens, neighbours=neighbours, method="runs")(points[shuffled])
    sizes = got.sizes[0].long().tolist()
    assert len(sizes) == tokens and max(sizes) - min(sizes) <= 1
    slots = got.features.reshape(tokens, neighbours, 4)
    first = 0
    for token, size in enumerate(sizes):
        held = slots[token][slots[token, :, 0] == 1][:, 1:] + got.positions[0, token]
        numbers = held[:, 0].floor().long().tolist()
        assert len(numbers) == len(set(numbers)) == min(neighbours, count)
        assert set(numbers) == set(range(min(numbers), min(numbers) + len(numbers)))  # neighbours on the diagonal
        own = range(first, first + size)
        assert set(own) <= set(numbers) if size <= neighbours else set(numbers) <= set(own)
        first += size


@pytest.mark.parametrize("method", METHODS)
def test_ratio(method):
    points = cloud(30)
    assert PointTokenizer(ratio=0.1, method="fps")(points).features.shape[1] == 3
    assert PointTokenizer(ratio=0.01, method=method)(points).features.shape[1] == 1


@quick
@given(grids, st.randoms(use_true_random=False))
def test_fps_does_not_see_the_order_of_points(points, random):
    order = list(range(len(points)))
    random.shuffle(order)
    tokenizer = PointTokenizer(tokens=6, neighbours=3)
    tokens, shuffled = tokenizer(points), tokenizer(points[order])
    assert torch.equal(tokens.source[:, order], shuffled.source)
    torch.testing.assert_close(tokens.positions, shuffled.positions)


@pytest.mark.parametrize("method", METHODS)
def test_offset_and_unit_change_nothing_but_positions(method):
    points = np.round(cloud(200) * 256) / 256
    tokenizer = PointTokenizer(tokens=16, neighbours=8, method=method)
    tokens = tokenizer(points)
    moved = tokenizer(points + 2.0**22)  # exact in float64
    assert torch.equal(moved.source, tokens.source)
    torch.testing.assert_close(moved.positions - 2.0**22, tokens.positions, atol=1e-8, rtol=0)
    torch.testing.assert_close(moved.features, tokens.features)
    for scale in (1e-20, 1000.0, 1e30):
        scaled = tokenizer(points * scale)
        assert torch.equal(scaled.source, tokens.source)
        torch.testing.assert_close(scaled.positions / scale, tokens.positions)


def test_the_nearest_centre_owns_and_ties_go_to_the_lowest():
    rng = np.random.default_rng(1)
    points, centres = (
        rng.integers(-3, 4, (200, 3)) / 4.0,
        np.unique(rng.integers(-3, 4, (40, 3)) / 4.0, axis=0),
    )
    square = ((points[:, None] - centres) ** 2).sum(2)
    nearest = square.argmin(1)
    assert np.array_equal(_nearest(points, centres), np.unique(nearest, return_inverse=True)[1])
    corners = np.stack(np.meshgrid([-1.0, 1], [-1.0, 1], [-1.0, 1], indexing="ij"), -1).reshape(-1, 3)
    assert _nearest(np.zeros((1, 3)), corners).tolist() == [0]  # eight ties


def test_fps_is_farthest_point_sampling():
    points = cloud(100)
    chosen = _farthest(points, 10)
    assert ((points - points.mean(0)) ** 2).sum(1).argmin() == (points == chosen[0]).all(1).argmax()
    for step in range(1, 10):
        far = np.sqrt(((points[:, None] - chosen[:step]) ** 2).sum(2)).min(1)
        assert np.array_equal(points[far.argmax()], chosen[step])


def test_slots_hold_owned_points_first_then_neighbours():
    points = np.array([[0.0, 0, 0, 5], [10, 0, 0, 6], [1, 0, 0, 7], [8, 0, 0, 8]])
    tokens = PointTokenizer(tokens=2, neighbours=3, channels=4)(points)
    assert tokens.source.tolist() == [[0, 1, 0, 1]]
    left, right = tokens.features[0].reshape(2, 3, 5)
    assert left.tolist() == [[1, -0.5, 0, 0, 5], [1, 0.5, 0, 0, 7], [1, 7.5, 0, 0, 8]]
    assert right.tolist() == [[1, 1, 0, 0, 6], [1, -1, 0, 0, 8], [1, -8, 0, 0, 7]]
    crowded = PointTokenizer(tokens=1, neighbours=2)(np.array([[9.0, 0, 0], [0, 0, 0], [1, 0, 0]]))
    assert crowded.features[0].reshape(2, 4)[:, 1].tolist() == pytest.approx([-10 / 3, -7 / 3])
    spare = PointTokenizer(tokens=1, neighbours=4)(points[:, :3]).features.reshape(4, 4)
    assert spare[:, 0].tolist() == [1] * 4
    assert PointTokenizer(tokens=1, neighbours=6)(points[:, :3]).features.reshape(6, 4)[4:].abs().sum() == 0


def test_batches_come_apart_again():
    tokenizer = PointTokenizer(tokens=4, neighbours=30)
    records = [torch.from_numpy(cloud(count, seed=count)) for count in (1, 5, 30)]
    batch = stack([tokenizer(points) for points in records])
    for index, points in enumerate(records):
        torch.testing.assert_close(tokenizer.detokenize(batch[index]), points, atol=1e-6, rtol=0)
    with pytest.raises(InputError, match=r"tokens\[i\]"):
        tokenizer.detokenize(batch)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((0, 3)), "at least one point"),
        (np.zeros((4, 2)), r"\(n, 3\) \(got \(4, 2\)\)"),
        (np.array([[0, 0, 0], [0, math.nan, 0], [math.inf, 0, 0]]), "in row 1, and 1 more"),
        (np.array([[0, 0, 0], [1e300, 0, 0]]), "change the coordinates' unit"),
        ([["a", "b", "c"]], "real numbers"),
    ],
)
def test_refused_clouds(points, message):
    with pytest.raises(InputError, match=message):
        PointTokenizer()(points)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens": 0},
        {"neighbours": 0},
        {"method": "best"},
        {"ratio": 1.5},
        {"ratio": math.nan},
        {"channels": 2},
    ],
)
def test_refused_settings(wrong):
    with pytest.raises(InputError, match=f"'{next(iter(wrong))}'"):
        PointTokenizer(**wrong)


def test_detokenize_says_how_many_slots_are_needed():
    tokenizer = PointTokenizer(tokens=1, neighbours=4)
    with pytest.raises(InputError, match="neighbours=9"):
        tokenizer.detokenize(tokenizer(cloud(9)))


def test_fingerprint_names_the_settings():
    assert PointTokenizer().fingerprint == PointTokenizer().fingerprint != PointTokenizer(tokens=4).fingerprint


def test_merged_clouds_are_refused_and_shifted_ones_are_not():
    tokenizer = PointTokenizer(tokens=64, neighbours=32)
    tokens = tokenizer(cloud(200))
    labels = torch.arange(tokens.features.shape[1])[None] // 2
    with pytest.raises(InputError, match="off their token's position"):
        tokenizer.detokenize(merge(tokens, Grouping(labels, int(labels.max()) + 1)))
    for offset in ([0, 0, 0], [5e5, 4e6, 0], [1e12, 0, 0]):
        for scale in (1e-6, 1.0, 1e6):
            there = cloud(200) * scale + np.array(offset)
            back = tokenizer.detokenize(tokenizer(there)).numpy()
            np.testing.assert_allclose(back, there, rtol=1e-14, atol=1e-6 * scale)
    assert PointTokenizer(ratio=1).fingerprint == PointTokenizer(ratio=1.0).fingerprint
