"""A frame for each layer, of one size, written whole or not at all."""

import numpy as np
import pytest
import torch
from PIL import Image

from tokred_sci.errors import InputError
from tokred_sci.plotting import animate
from tokred_sci.tokens import Grouping


def frames(path):
    with Image.open(path) as image:
        told = []
        for i in range(image.n_frames):
            image.seek(i)
            told.append((np.asarray(image.convert("RGB")), image.info["duration"]))
        return told


@pytest.mark.parametrize(
    "more",
    [
        {"values": "ACGT" * 16, "annotations": [("gene", 3, 30, "+")]},
        {"values": np.arange(128.0).reshape(2, 64), "stop": 40},
        {"points": np.random.default_rng(0).normal(size=(64, 3))},
        {},
    ],
    ids=["sequence", "series", "cloud", "segments"],
)
def test_there_is_a_frame_for_each_layer_and_the_last_stays_longer(layers, tmp_path, more):
    path = animate(layers, tmp_path / "a.gif", seconds=0.5, **more)
    told = frames(path)
    assert [duration for _, duration in told] == [500, 500, 1000]
    assert len({picture.shape for picture, _ in told}) == 1
    assert not np.array_equal(told[0][0], told[1][0])
    assert not np.array_equal(told[1][0], told[2][0])
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_only_what_changes_moves(layers, tmp_path):
    """Above the segments every frame is the same but for its title."""
    (first, _), (then, _), _ = frames(animate(layers, tmp_path / "a.gif", np.arange(64.0)))
    changed = (abs(first.astype(int) - then) > 60).any(axis=(1, 2))  # each frame has a palette of its own
    title, signal = slice(0, 30), slice(30, len(changed) // 2)
    assert changed[title].any()
    assert not changed[signal].any()


def test_impossible_animations_are_refused_and_leave_nothing(layers, tmp_path):
    points = np.zeros((64, 3))
    for path, more in (
        ("a.png", {}),
        ("a.gif", {"seconds": 0}),
        ("a.gif", {"points": points, "values": "A" * 64}),
        ("a.gif", {"points": points, "start": 3}),
        ("a.gif", {"points": points[:60]}),
        ("a.gif", {"values": "ACGT"}),
    ):
        with pytest.raises(InputError, match="Expected"):
            animate(layers, tmp_path / path, **more)
    with pytest.raises(InputError, match="Expected"):
        animate([Grouping(torch.zeros(1, 4, dtype=torch.int64), 1), "no"], tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())
