"""Laws of the series tokenizer: every step owned once, back again in its unit, at its real time."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tokred_sci.errors import InputError
from tokred_sci.reduction.merge import merge
from tokred_sci.tokenizers.series import SeriesTokenizer
from tokred_sci.tokens import Grouping, stack

NORMS = ("record", "none", "robust")
quick = settings(max_examples=40, deadline=None)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 40))
values = st.one_of(st.just(math.nan), st.integers(-1000, 1000).map(lambda v: v / 8))
some_series = shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=values)).filter(
    lambda series: not np.isnan(series).all()
)


@quick
@given(some_series, st.integers(1, 9), st.sampled_from(NORMS), st.booleans(), st.data())
def test_every_step_is_owned_once_and_comes_back(series, patch, normalise, mix, data):
    tokenizer = SeriesTokenizer(
        patch, data.draw(st.integers(1, patch)), normalise, "mix" if mix else "independent", len(series)
    )
    tokens = tokenizer(torch.from_numpy(series) if patch % 2 else series)
    assert len(tokens) == (1 if mix else len(series)) and tokens.features.shape[2] == tokenizer.dim
    for sizes, source in zip(tokens.sizes, tokens.source, strict=True):
        assert torch.equal(sizes, torch.bincount(source).float()) and bool((sizes > 0).all())
    first, end = tokenizer.spans(tokens).T
    assert first[0] == 0 and end[-1] == series.shape[1] and torch.equal(first[1:], end[:-1])
    assert bool((end - first)[:-1].eq(tokenizer.stride).all()) and int((end - first)[-1]) <= patch
    torch.testing.assert_close(tokens.positions[0, :, 0], (first + end - 1).double() / 2)
    spread = np.nanmax(np.abs(series))
    np.testing.assert_allclose(tokenizer.detokenize(tokens), series, atol=1e-6 * (spread + 1))


@pytest.mark.parametrize("length", [1, 3, 4, 5])
def test_lengths_around_a_patch(length):
    tokens = SeriesTokenizer(patch=4, normalise="none")(np.arange(1, length + 1))
    assert tokens.sizes.tolist() == [[length]] if length <= 4 else [[4, 1]]
    last = tokens.features[0, -1]
    kept = int(tokens.sizes[0, -1])
    assert last[4:8].tolist() == [1] * kept + [0] * (4 - kept) and last[kept:4].abs().sum() == 0


def test_layout():
    tokenizer = SeriesTokenizer(patch=2, in_channels=2)
    tokens = tokenizer([[1.0, 3.0, math.nan], [10, 10, 10]])
    assert tokens.features[0].tolist() == [
        [-1, 1, 0, 0, 1, 1, 1, 1, 2, 10, 1, 1],
        [0, 0, 0, 0, 0, 0, 1, 0, 2, 10, 1, 1],
    ]
    location, scale = tokenizer.scale(tokens)
    assert location.tolist() == [[2, 10]] and scale.tolist() == [[1, 1]]
    assert tokenizer.restore(torch.tensor([[[1.0, 2], [0, 1]]]), tokens).tolist() == [[[3, 4], [10, 11]]]
    with pytest.raises(InputError, match=r"\(1, 2, H\)"):
        tokenizer.restore(torch.zeros(1, 2), tokens)


@pytest.mark.parametrize("normalise", ["record", "robust"])
def test_level_and_unit_do_not_change_values(normalise):
    series = np.random.default_rng(0).normal(size=100)
    tokenizer = SeriesTokenizer(normalise=normalise)
    held = tokenizer(series).features[..., :32]
    torch.testing.assert_close(tokenizer(series * 1e6 + 3e6).features[..., :32], held, atol=1e-5, rtol=1e-5)
    high = series + 1.7e9  # the float32 location is 128 off at most: undone exactly
    np.testing.assert_allclose(tokenizer.detokenize(tokenizer(high))[0], high, atol=1e-4)


def test_flat_and_empty_channels():
    for normalise in NORMS:
        tokenizer = SeriesTokenizer(normalise=normalise, in_channels=3)
        series = np.stack([np.full(5, 0.1), np.full(5, np.nan), [0.0, 0, 0, 0, 9]])
        location, scale = tokenizer.scale(tokenizer(series))
        assert scale[0, :2].tolist() == [1, 1] and location[0, 1] == 0 and bool((scale > 0).all())
        np.testing.assert_allclose(tokenizer.detokenize(tokenizer(series)), series, atol=1e-6)


def test_time_stamps_become_positions():
    start = 1.7e9
    times = start + np.array([0, 1, 10, 11, 12.5])
    tokens = SeriesTokenizer(patch=2)(np.arange(5), times)
    assert (tokens.positions[0, :, 0] - start).tolist() == [0.5, 10.5, 12.5]


@pytest.mark.parametrize(
    ("length", "patch", "stride"), [(1, 4, None), (7, 3, None), (12, 3, None), (50, 7, 2), (6, 8, 3)]
)
def test_no_time_stamps_are_step_indices(length, patch, stride):
    series, tokenizer = np.random.default_rng(0).normal(size=(1, length)), SeriesTokenizer(patch, stride)
    by_index, by_time = tokenizer(series), tokenizer(series, np.arange(length))
    for name in ("features", "positions", "sizes", "source"):
        assert torch.equal(getattr(by_index, name), getattr(by_time, name))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0, 1, 1], "at index 2 after 1.0"),
        ([0, 2, 1], "got 1.0 at index 2"),
        ([0, math.nan, 2], "nan at index 1"),
        ([math.inf, 1, 2], "inf at index 0"),
        ([0, 1], r"shape \(3,\)"),
    ],
)
def test_refused_times(times, message):
    with pytest.raises(InputError, match=message):
        SeriesTokenizer()([1.0, 2.0, 3.0], times)


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (np.zeros((1, 0)), "at least one step"),
        ([1, math.inf], "inf at channel 0, step 1"),
        ([math.nan] * 3, "3 NaN"),
        (np.zeros((2, 3)), "in_channels=2"),
        (np.zeros((1, 2, 3)), r"\(channels, time\)"),
        (["a"], "real numbers"),
        ([[1, 2], [3]], "rectangular"),
        ([0, 1e300], "float32"),
        ([0, 1e-60], "float32"),
    ],
)
def test_refused_series(series, message):
    with pytest.raises(InputError, match=message):
        SeriesTokenizer()(series)


@pytest.mark.parametrize(
    "wrong",
    [{"patch": 0}, {"stride": 17}, {"stride": 0}, {"normalise": "x"}, {"channels": 3}, {"in_channels": 0}],
)
def test_refused_settings(wrong):
    with pytest.raises(InputError, match=f"'{next(iter(wrong))}'"):
        SeriesTokenizer(**wrong)


def test_batches_come_apart_again():
    tokenizer = SeriesTokenizer(patch=4, stride=3)
    records = [np.arange(length, dtype=float) for length in (1, 4, 9)]
    batch = stack([tokenizer(series) for series in records])
    for index, series in enumerate(records):
        np.testing.assert_allclose(tokenizer.detokenize(batch[index])[0], series, atol=1e-6)
    with pytest.raises(InputError, match=r"tokens\[i\]"):
        tokenizer.detokenize(batch)
    with pytest.raises(InputError, match="fingerprints"):
        SeriesTokenizer(patch=4, stride=2).detokenize(batch[2])
    assert SeriesTokenizer().fingerprint != tokenizer.fingerprint == SeriesTokenizer(4, 3).fingerprint


def test_scale_survives_an_empty_first_group():
    tokenizer = SeriesTokenizer(patch=4)
    tokens = tokenizer(100 + 5 * np.sin(np.arange(40.0)))
    merged = merge(tokens, Grouping(torch.arange(10)[None] // 2 + 1, 6))
    for before, after in zip(tokenizer.scale(tokens), tokenizer.scale(merged), strict=True):
        torch.testing.assert_close(before, after)
