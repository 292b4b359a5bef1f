"""Every token is one box within the box of its group."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.errors import InputError
from tokred_sci.plotting import tree
from tokred_sci.plotting.layers import read_layers
from tokred_sci.plotting.trees import drawn_by, tree_order
from tokred_sci.tokens import Grouping


def boxes(axes, name):
    (found,) = [c for c in axes.collections if c.get_label() == f"_{name}"]
    return [(path.get_extents().x0, path.get_extents().x1) for path in found.get_paths()]


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_tokens_of_every_layer_lie_together(seed, count):
    generator = np.random.default_rng(seed)
    fine = generator.integers(-1, 8, count)
    parents = np.append(generator.integers(-1, 3, 8), -1)
    holders = [fine, parents[fine]]
    order = tree_order(holders)
    assert sorted(order.tolist()) == list(range(count))
    for holder in holders:
        kept = holder[order][holder[order] >= 0]
        assert (np.diff(kept) != 0).sum() == max(len(set(kept.tolist())) - 1, 0)
    assert (np.diff(holders[1][order] < 0) >= 0).all()  # what the last layer dropped comes last


def test_every_token_is_one_box_within_its_groups():
    steps = [Grouping(torch.randint(0, 20, (1, 60), generator=torch.Generator().manual_seed(0)), 20)]
    steps.append(Grouping(torch.arange(20)[None] % 6, 6))
    steps.append(Grouping(torch.tensor([[0, 1, 0, 1, 0, 1]]), 2))
    axes = tree(steps).axes[0]
    told = read_layers(steps)
    rows = [boxes(axes, layer.name) for layer in told]
    assert [len(row) for row in rows] == [layer.count for layer in told]
    for layer, row in zip(told, rows, strict=True):
        assert sorted(b - a for a, b in row) == sorted(layer.sizes[layer.sizes > 0].tolist())
    for fine, coarse in pairwise(rows):
        assert all(sum(a <= x and y <= b for a, b in coarse) == 1 for x, y in fine)


def test_a_row_of_too_many_tokens_is_drawn_by_its_groups_and_says_so(whole, in_runs):
    fine = whole(3_000)
    axes = tree([fine, in_runs(fine, 200), in_runs(in_runs(fine, 200), 10)]).axes[0]
    assert [len(boxes(axes, f"layer {i}")) for i in range(3)] == [200, 200, 10]
    assert "3,000 tokens\nin 200 groups" in [text.get_text() for text in axes.texts]


def test_rows_that_nothing_makes_readable_are_shades(whole, in_runs):
    fine = whole(3_000)
    holders = [layer.holder for layer in read_layers([fine, in_runs(fine, 1_000)])]
    assert drawn_by(holders, 0) == 0
    figure = tree([fine, in_runs(fine, 1_000)])
    assert "3,000 tokens" in [text.get_text() for text in figure.axes[0].texts]
    assert len(figure.axes) == 2
    (mesh,) = [c for c in figure.axes[0].collections if c.get_label() == "_layer 0"]
    assert np.allclose(np.asarray(mesh.get_array(), float), 1)


def test_what_is_no_tree_is_refused(layers):
    for wrong in (layers[0], layers[:1], layers[::-1]):
        with pytest.raises(InputError, match="Expected"):
            tree(wrong)
    with pytest.raises(InputError, match="start < stop"):
        tree(layers, start=9, stop=3)
