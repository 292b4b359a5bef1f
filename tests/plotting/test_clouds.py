"""Points of one token have one colour, in every view; what is not drawn is said."""

import json
import re

import numpy as np
import pytest
import torch

from tokred_sci.errors import InputError, MissingExtra
from tokred_sci.plotting import cloud, cloud_html
from tokred_sci.plotting.clouds import project
from tokred_sci.tokens import Grouping

POINTS = np.random.default_rng(0).normal(size=(200, 3))
LABELS = torch.from_numpy(np.argmax(POINTS @ np.random.default_rng(1).normal(size=(3, 9)), 1))[None]
GROUPS = Grouping(LABELS, 9)
COUNT = len(LABELS.unique())


def dots(axes, name):
    (found,) = [c for c in axes.collections if c.get_label() == f"_{name}"]
    return np.asarray(found.get_offsets()), found.get_facecolors()


def test_every_point_is_drawn_in_every_view_in_the_colour_of_its_token():
    figure = cloud(GROUPS, POINTS, views=[(0, 0), (30, 50)])
    tables = []
    for axes, view in zip(figure.axes, [(0, 0), (30, 50)], strict=True):
        x, y, depth = project(POINTS, *view)
        order = depth.argsort(kind="stable")
        places, colours = dots(axes, "tokens")
        shift = places - np.stack([x, y], 1)[order]
        assert np.allclose(shift, shift[0])  # centred, else as projected, far points first
        table = {}
        for token, colour in zip(LABELS[0].numpy()[order].tolist(), map(tuple, colours), strict=True):
            assert table.setdefault(token, colour) == colour
        tables.append(table)
    assert tables[0] == tables[1]


def test_a_view_keeps_distances_and_hides_depth():
    x, y, depth = project(POINTS, 33, -71)
    seen = np.stack([x, y, depth], 1)
    assert np.allclose(seen @ seen.T, (POINTS - POINTS.mean(0)) @ (POINTS - POINTS.mean(0)).T)
    above = project(np.eye(3) - np.eye(3).mean(0), 90, -90)
    assert np.allclose(above[0] - above[0][1], [1, 0, 0])  # x to the right, y up, z to the reader
    assert np.allclose(above[1] - above[1][0], [0, 1, 0])
    assert np.allclose(above[2] - above[2][0], [0, 0, 1])


def test_dropped_points_are_crosses():
    labels = LABELS.clone()
    labels[0, :30] = -1
    axes = cloud(Grouping(labels, 9), POINTS).axes[0]
    assert len(dots(axes, "dropped")[0]) == 30
    assert len(dots(axes, "tokens")[0]) == 170


def test_a_part_of_many_points_is_drawn_and_that_is_said():
    figure = cloud(GROUPS, POINTS, limit=50)
    assert len(dots(figure.axes[0], "tokens")[0]) == 50
    assert "50 of 200 points drawn" in [axes.get_title("right") for axes in figure.axes]
    assert figure.axes[0].get_title("left") == f"tokens: {COUNT} tokens"  # of the whole record


def test_the_scale_bar_is_as_long_as_it_says():
    axes = cloud(GROUPS, POINTS * 70, unit="mm").axes[0]
    x = axes.lines[0].get_xdata()
    assert f"{x[1] - x[0]:g} mm" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("points", [np.zeros((1, 3)), np.zeros((4, 3)), np.eye(3)[[0, 0, 0, 1]]])
def test_clouds_without_extent_can_be_drawn(points):
    figure = cloud(Grouping(torch.zeros(1, len(points), dtype=torch.int64), 1), points)
    figure.draw_without_rendering()
    assert len(dots(figure.axes[0], "tokens")[0]) == len(points)


def test_a_page_holds_layers_and_tokens(tmp_path):
    pytest.importorskip("plotly")
    coarse = Grouping(torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2, 2]]), 3)
    path = cloud_html([GROUPS, coarse], POINTS, tmp_path / "a.html", names=["fine", "coarse"], include_plotlyjs="cdn")
    page = path.read_text()
    drawn = len(coarse.labels[0][LABELS[0]].unique())
    assert page.count('"customdata":') == 2
    labels = re.findall(r'"label":("[^"]*")', page)
    assert [json.loads(label) for label in labels] == [f"fine: {COUNT} tokens", f"coarse: {drawn} tokens"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.html"]


def test_a_page_needs_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("plotly")
    page = cloud_html(GROUPS, POINTS, tmp_path / "a.html").read_text()
    assert "<script src" not in page and "<link" not in page


@pytest.mark.parametrize(
    ("points", "more"),
    [
        (POINTS[:199], {}),
        (POINTS[:, :2], {}),
        (POINTS[0], {}),
        (POINTS * np.nan, {}),
        ("points", {}),
        (POINTS, {"limit": 0}),
        (POINTS, {"views": []}),
    ],
)
def test_what_does_not_fit_a_cloud_is_refused(points, more):
    with pytest.raises(InputError, match="Expected"):
        cloud(GROUPS, points, **more)


def test_a_page_of_another_name_or_without_plotly_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"\.html"):
        cloud_html(GROUPS, POINTS, tmp_path / "a.png")
    monkeypatch.setitem(__import__("sys").modules, "plotly.graph_objects", None)
    with pytest.raises(MissingExtra, match=r"tokred-sci\[plots\]"):
        cloud_html(GROUPS, POINTS, tmp_path / "a.html")
    assert not list(tmp_path.iterdir())
