"""Rows have a segment for each run of a token, in place and of one colour; what lies above is what was handed in."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.plotting import Annotation, sequence, series
from tokred_sci.plotting.layers import read_layers
from tokred_sci.plotting.signals import share_of_gc
from tokred_sci.tokens import Grouping

DNA = "ACGTGGCATN" * 6 + "ACGT"


def boxes(axes, name):
    """Left, right and colour of each box of a row."""
    (found,) = [c for c in axes.collections if c.get_label() == f"_{name}"]
    corners = [path.get_extents() for path in found.get_paths()]
    return [(box.x0, box.x1) for box in corners], found.get_facecolor()


def said(figure):
    return {text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()}


def test_a_row_has_a_box_for_each_token_in_its_place(layers):
    figure = sequence(layers, DNA)
    for layer in read_layers(layers):
        places, _ = boxes(figure.axes[-1], layer.name)
        assert len(places) == layer.count
        starts = np.flatnonzero(np.diff(layer.holder, prepend=-1)) - 0.5
        assert [low for low, _ in places] == pytest.approx(starts)
        assert [high for _, high in places] == pytest.approx([*starts[1:], 63.5])
        assert f"{layer.count} tokens" in said(figure)


def test_boxes_of_one_token_are_of_one_colour_and_the_next_of_another():
    labels = torch.tensor([[0, 1, 0, 2, 1, 0]])
    _, colours = boxes(sequence(Grouping(labels, 3)).axes[0], "tokens")
    assert len(colours) == 6
    for token in range(3):
        assert len({tuple(c) for c in colours[labels[0] == token]}) == 1
    assert (colours[1:] != colours[:-1]).any(1).all()


def test_what_was_dropped_is_hatched(pruned):
    axes = sequence(pruned).axes[0]
    places, _ = boxes(axes, "tokens")
    gone, _ = boxes(axes, "dropped tokens")
    assert places == [(-0.5, 2.5), (2.5, 5.5)]
    assert gone == [(5.5, 7.5)]
    (hatched,) = [c for c in axes.collections if c.get_hatch()]
    assert hatched.get_label() == "_dropped tokens"


def test_a_window_shows_the_same_borders_as_the_whole(layers):
    whole, _ = boxes(sequence(layers).axes[0], "layer 1")
    part, _ = boxes(sequence(layers, start=10, stop=30).axes[0], "layer 1")
    inside = [(max(a, 9.5), min(b, 29.5)) for a, b in whole if a < 29.5 and b > 9.5]
    assert part == inside


def test_letters_are_written_where_they_can_be_read(layers):
    near = sequence(layers, DNA, start=20, stop=40).axes[0]
    assert "".join(text.get_text() for text in near.texts) == DNA[20:40]
    assert [text.get_position()[0] for text in near.texts] == list(range(20, 40))
    far = sequence(Grouping(torch.zeros(1, 200, dtype=torch.int64), 1), "ACGT" * 50)
    assert not far.axes[0].texts
    assert np.allclose(far.axes[0].lines[0].get_ydata(), share_of_gc("ACGT" * 50, 11))


def test_gc_counts_known_bases_only():
    dna = "GGGGGNNNNNNNNNNNNNNNNAATTU"
    share = share_of_gc(dna, 5)
    for i in range(len(dna)):
        near = dna[max(0, i - 2) : i + 3]
        known = [base for base in near if base != "N"]
        want = sum(base in "GC" for base in known) / len(known) if known else np.nan
        assert share[i] == pytest.approx(want, nan_ok=True)


def test_annotations_point_along_their_strand(layers):
    told = [Annotation("left", 5, 20, "-"), ("right", 30, 50, 1), ("none", 52, 60, ".")]
    axes = sequence(layers, DNA, annotations=told).axes[1]
    arrows = [path.vertices for path in axes.collections[0].get_paths()]
    tips = [corners[np.abs(corners[:, 1] - round(corners[:, 1].mean())) < 1e-9, 0] for corners in arrows]
    assert tips[0].tolist() == [4.5]
    assert tips[1].tolist() == [49.5]
    assert tips[2].size == 0
    assert {text.get_text() for text in axes.texts if text.get_text()} == {"left", "right", "none"}


@pytest.mark.parametrize("count", [3, 40, 400])
def test_annotations_never_overlap_and_none_is_lost_in_silence(count):
    generator = np.random.default_rng(count)
    starts = generator.integers(0, 9_000, count)
    told = [(f"gene {i}", int(a), int(a) + int(generator.integers(10, 900)), "+") for i, a in enumerate(starts)]
    figure = sequence(Grouping(torch.zeros(1, 10_000, dtype=torch.int64), 1), annotations=told)
    axes = figure.axes[0]
    arrows = [path.get_extents() for path in axes.collections[0].get_paths()]
    for lane in {round(box.y0 + box.height / 2) for box in arrows}:
        row = sorted((box.x0, box.x1) for box in arrows if round(box.y0 + box.height / 2) == lane)
        assert all(end <= start for (_, end), (start, _) in pairwise(row))
    figure.draw_without_rendering()
    names = [text.get_window_extent() for text in axes.texts if text.get_text().startswith("gene")]
    assert not any(a.overlaps(b) for i, a in enumerate(names) for b in names[:i])
    left_out = [int(word.split()[0]) for word in axes.texts[-1].get_text().split("\n") if "not drawn" in word]
    assert len(arrows) + sum(left_out) == count


def test_a_crowded_row_says_elements_per_token(whole):
    figure = sequence(whole(2_000, 3), names=["all"])
    (mesh,) = [c for c in figure.axes[0].collections if c.get_label() == "_all"]
    assert np.allclose(np.asarray(mesh.get_array(), float), 3)
    assert "2,000 tokens" in said(figure)
    assert len(figure.axes) == 2  # the second is the colour bar


def test_channels_show_values_and_gaps(layers):
    values = np.sin(np.arange(128.0)).reshape(2, 64)
    values[1, 20:30] = np.nan
    times = np.cumsum(np.linspace(0.1, 1, 64))
    figure = series(layers, values, times, channels=["a", "b"])
    for axes, row in zip(figure.axes, values, strict=False):
        x, y = axes.lines[0].get_data()
        assert np.allclose(x, times, atol=0.1)
        assert np.array_equal(y, row, equal_nan=True)
    (missing,) = [c for c in figure.axes[1].collections if c.get_label() == "_missing"]
    (box,) = [path.get_extents() for path in missing.get_paths()]
    assert times[19] < box.x0 < times[20] + 0.01 and times[28] < box.x1 < times[30]
    assert "missing: 15.6%" in said(figure)
    assert not [c for c in figure.axes[0].collections if c.get_label() == "_missing"]


def test_bands_have_the_borders_of_the_last_layer(layers):
    axes = series(layers, np.zeros(64)).axes[0]
    holder = read_layers(layers)[-1].holder
    assert len(axes.patches) == 5
    assert [line.get_xdata()[0] for line in axes.lines[1:]] == (np.flatnonzero(np.diff(holder)) + 0.5).tolist()


def test_long_signals_show_their_range():
    values = np.zeros(50_000)
    values[31_234] = 7
    values[:5_000] = np.nan
    figure = series(Grouping(torch.zeros(1, 50_000, dtype=torch.int64), 1), values)
    axes = figure.axes[0]
    assert max(path.get_extents().y1 for c in axes.collections[:1] for path in c.get_paths()) == 7
    assert "missing: 10.0%" in said(figure)


def test_a_million_elements_draw_small_and_without_warnings(whole, in_runs):
    fine = whole(62_500, 16)
    figure = sequence([fine, in_runs(fine, 400)], "ACGTGGCATT" * 100_000)
    stream = io.BytesIO()
    figure.savefig(stream, format="svg")
    assert len(stream.getvalue()) < 1_000_000


@pytest.mark.parametrize(
    "more",
    [
        {"values": "ACGT"},
        {"values": np.zeros((2, 63))},
        {"values": [["a"] * 64]},
        {"values": np.zeros((2, 2, 64))},
        {"start": 5, "stop": 5},
        {"start": -1},
        {"stop": 65},
        {"annotations": [("gene", 5)]},
        {"annotations": [("gene", 5, 5, 1)]},
        {"annotations": [("gene", 5, 65, 1)]},
        {"annotations": [("gene", 5, 9, "?")]},
        {"annotations": ["gene"]},
    ],
)
def test_what_does_not_fit_a_sequence_is_refused(layers, more):
    with pytest.raises(InputError, match="Expected"):
        sequence(layers, **more)


@pytest.mark.parametrize(
    "more",
    [
        {"times": np.zeros(64)},
        {"times": np.arange(63)},
        {"times": ["monday"] * 64},
        {"times": np.full(64, np.nan)},
        {"values": np.zeros((13, 64))},
        {"channels": ["a"]},
    ],
)
def test_what_does_not_fit_a_series_is_refused(layers, more):
    with pytest.raises(InputError, match="Expected"):
        series(layers, **{"values": np.zeros((2, 64)), **more})
