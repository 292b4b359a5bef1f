"""Attention that is drawn is the attention that the model uses; sizes are those of the tokens."""

import numpy as np
import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.plotting import attend, attention, sizes
from tokred_sci.tokens import stack

CONFIGS = [
    {},
    {"window": 3},
    {"size_exponent": 0.5, "qk_norm": True, "unit": 4.0},
    {"window": 2, "dropout": 0.5},
]
DNA = "ACGTGGCATTACGGATTTACCCAGTTGACCAT" * 4


def make(**more):
    step = Reduce(1, "links", 9)
    return Model(ModelConfig("dna", {"patch": 4}, dim=16, depth=3, heads=2, reduce=(step,), **more))


@pytest.mark.parametrize("more", CONFIGS)
@pytest.mark.parametrize("block", [0, 1, 2])
def test_weights_times_values_is_what_the_block_says(more, block):
    model = make(**more)
    told = attend(model, model.tokenize(DNA), block)
    inner, x = model.encoder.blocks[block].attention, told.tokens.features
    with torch.no_grad():
        x = model.encoder.blocks[block].norm_attention(x)
        want, _ = inner(x, told.tokens.positions / model.encoder.unit, told.tokens.sizes)
        values = inner.qkv(x).unflatten(-1, (3, 2, -1))[0, :, 2].transpose(0, 1)  # H N K
        got = inner.out((told.weights @ values).transpose(0, 1).flatten(1))
    assert torch.allclose(got, want[0], atol=1e-6)
    assert torch.allclose(told.weights.sum(-1), torch.ones(()))


def test_a_record_of_a_batch_attends_as_alone_and_training_goes_on():
    model = make()
    short, long = model.tokenize(DNA[:64]), model.tokenize(DNA)
    model.train()
    told = attend(model, stack([short, long]), 1, record=0)
    assert model.training
    assert torch.allclose(told.weights, attend(model, short, 1).weights, atol=1e-6)
    assert not told.weights.requires_grad


def test_the_map_shows_the_weights_and_the_margins_the_sizes():
    model = make()
    told = attend(model, model.tokenize(DNA), 2)
    figure = attention(told, head=1)
    axes = next(axes for axes in figure.axes if axes.get_ylabel() == "query")
    assert np.allclose(axes.images[0].get_array(), told.weights[1].numpy())
    top = next(axes for axes in figure.axes if axes.get_ylabel() == "size")
    assert top.patches[0].get_data().values.tolist() == told.tokens.sizes[0].tolist()
    mean = attention(told.weights.numpy()).axes[0].images[0].get_array()
    assert np.allclose(mean, told.weights.mean(0).numpy())


def test_many_tokens_are_averaged_in_blocks():
    table = torch.rand(1, 1003, 1003)
    figure = attention(table)
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    assert drawn.shape == (335, 335)
    assert drawn[2, 5] == pytest.approx(table[0, 6:9, 15:18].mean().item(), rel=1e-5)
    assert drawn[334, 0] == pytest.approx(table[0, 1002:, :3].mean().item(), rel=1e-5)
    assert "mean of blocks of 3 tokens" in figure.get_suptitle()


@pytest.mark.parametrize("table", [torch.eye(4), torch.zeros(1, 1, 1), torch.full((2, 3, 3), 1 / 3)])
def test_logarithms_of_zeros_and_constants_can_be_drawn(table):
    for log in (False, True):
        attention(table, log=log).draw_without_rendering()


def test_wrong_attention_is_refused():
    model = make()
    tokens = model.tokenize(DNA)
    for wrong in (torch.rand(3, 4), torch.rand(1, 2, 3, 3), torch.zeros(0, 0), -torch.eye(3), torch.eye(3) * np.nan):
        with pytest.raises(InputError, match="Expected"):
            attention(wrong)
    with pytest.raises(InputError, match="head"):
        attention(torch.eye(3), head=1)
    with pytest.raises(InputError, match="that attend"):
        attention(torch.eye(3), tokens)
    with pytest.raises(InputError, match="record"):
        attention(torch.eye(3), tokens, record=1)
    for block, record in ((3, 0), (-1, 0), (0, 1)):
        with pytest.raises(InputError, match="block"):
            attend(model, tokens, block, record)


def test_sizes_are_those_of_the_tokens(layers):
    figure = sizes(layers)
    left, right = figure.axes[:2]
    for row, (mesh, layer) in enumerate(zip(left.collections, layers, strict=True)):
        want = layer.sizes[0][layer.source[0]].numpy()  # 64 elements are fewer than bins
        assert np.allclose(np.asarray(mesh.get_array()).ravel(), want)
        middle = right.lines[3 * row + 2]
        assert middle.get_label() == "_median"
        assert middle.get_xdata()[0] == np.median(layer.sizes[0].numpy())
