"""Ranks on states whose values are known, equal to those of all elements; attention as the model computes it."""

import math

import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.reduction.merge import to_source
from tokred_sci.stability import representation
from tokred_sci.stability.attention import attention_entropy, max_attention, sink_rate
from tokred_sci.stability.representation import (
    LayerAttention,
    attentions,
    effective_rank,
    high_frequency_share,
    measure_attention,
    measure_layers,
    stable_rank,
    states,
)
from tokred_sci.tokens import stack

RANKS = [stable_rank, effective_rank, high_frequency_share]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(method="peaks", keep=6, **config):
    steps = (Reduce(1, method, keep),) if method else ()
    return Model(ModelConfig("dna", {"patch": 4}, dim=16, depth=3, heads=2, reduce=steps, **config))


def batch(model, lengths=(80, 48)):
    letters = "ACGGTTCATGCATTGACCATGAACTTGCGATC" * 20
    return stack([model.tokenize(letters[i : i + length]) for i, length in enumerate(lengths)])


def test_ranks_of_a_diagonal():
    x = torch.diag(torch.tensor([4.0, 2.0, 2.0]))[None]
    shares = [0.5, 0.25, 0.25]
    assert stable_rank(x).item() == pytest.approx((16 + 4 + 4) / 16)
    assert effective_rank(x).item() == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))


def test_one_direction_has_rank_1_and_orthogonal_ones_their_number():
    line = draw(1, 50, 1) * draw(1, 1, 8, seed=1)
    assert stable_rank(line).item() == pytest.approx(1)
    assert effective_rank(line).item() == pytest.approx(1, abs=1e-9)
    square = torch.linalg.qr(draw(1, 50, 8))[0]
    assert [stable_rank(square).item(), effective_rank(square).item()] == pytest.approx([8, 8])


def test_high_frequency_share_of_equal_and_of_opposite_states():
    x = draw(1, 1, 4).expand(1, 6, 4)
    signs = torch.tensor([1.0, -1.0] * 3).view(1, 6, 1)
    assert high_frequency_share(x).item() == pytest.approx(0, abs=1e-12)
    assert high_frequency_share(x * signs).item() == pytest.approx(1)


@pytest.mark.parametrize("measure", RANKS)
def test_sizes_count_as_rows_and_padding_as_none(measure):
    x, sizes = draw(1, 7, 5), torch.tensor([[3.0, 1.0, 12.0, 0.0, 2.0, 5.0, 0.0]])
    x[:, 3] = torch.nan
    written_out = torch.repeat_interleave(x[0], sizes[0].long(), 0)[None]
    assert torch.allclose(measure(x, sizes), measure(written_out), atol=1e-12)


@pytest.mark.parametrize("measure", RANKS)
@pytest.mark.parametrize("method", ["peaks", "links", "bipartite", "random"])
def test_the_measures_of_merged_tokens_are_those_of_all_elements(measure, method):
    model = build(method)
    for tokens in states(model, batch(model, (80,))):
        assert torch.allclose(measure(tokens.features, tokens.sizes), measure(to_source(tokens)), rtol=1e-6, atol=1e-6)


def test_centred_ranks_leave_the_mean_out():
    x = torch.eye(2).double()[None] + 100
    assert effective_rank(x, centre=True).item() == pytest.approx(1)
    sizes = torch.tensor([[3.0, 1.0]])
    out = torch.repeat_interleave(x[0], sizes[0].long(), 0)[None]
    assert stable_rank(x, sizes, centre=True).item() == pytest.approx(stable_rank(out, centre=True).item())


def test_blocks_of_rows_change_nothing(monkeypatch):
    x = draw(2, 101, 6)
    whole = effective_rank(x)
    monkeypatch.setattr(representation, "ROWS", 10)
    assert torch.allclose(effective_rank(x), whole, atol=1e-12)


@pytest.mark.parametrize("measure", RANKS)
def test_states_that_are_zero_have_no_rank(measure):
    assert measure(torch.zeros(2, 3, 4)).tolist() == [0, 0]


@pytest.mark.parametrize("tau", [0.0, 1.0])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("model", [{}, {"qk_norm": True}, {"log_scale": 8}])
def test_recomputed_attention_gives_what_the_layer_gave(tau, window, model):
    model = build(size_exponent=tau, window=window, **model)
    tokens = batch(model)
    outputs = []
    for block in model.encoder.blocks:
        block.attention.register_forward_hook(lambda module, inputs, output: outputs.append((inputs[0], output[0])))
    layers = attentions(model, tokens)
    assert [layer.q.shape[2] for layer in layers] == [20, 20, 6]
    assert [layer.window for layer in layers] == [window, window, None]
    for block, layer, (x, output) in zip(model.encoder.blocks, layers, outputs, strict=True):
        weights = layer.weights()
        assert torch.allclose(weights.sum(-1), torch.ones((), dtype=torch.float64))
        v = block.attention.qkv(x).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)[2]
        again = block.attention.out((weights.float() @ v).transpose(1, 2).flatten(2))
        real = layer.mask
        assert torch.allclose(again[real], output[real], atol=1e-5)
        assert not (weights * (~real[:, None, None, :] & real[:, None, :, None])).any()


@pytest.mark.parametrize("tokens", [20, 200])
@pytest.mark.parametrize("window", [None, 3])
def test_even_attention_has_the_whole_share_of_what_a_query_sees(window, tokens):
    zeros = torch.zeros(1, 2, tokens, 4)
    layer = LayerAttention(zeros, zeros, torch.zeros(1, tokens), torch.ones(1, tokens, dtype=torch.bool), window)
    assert torch.allclose(measure_attention(layer).entropy_share, torch.ones(1, 2, dtype=torch.float64))


@pytest.mark.parametrize("window", [None, 3])
def test_blocks_of_queries_change_nothing(window, monkeypatch):
    model = build(window=window)
    layers = attentions(model, batch(model))
    whole = [layer.weights() for layer in layers]
    monkeypatch.setattr(representation, "AT_ONCE", 100)
    for layer, weights in zip(layers, whole, strict=True):
        assert len(list(layer.blocks())) > 1
        measured = measure_attention(layer)
        assert torch.allclose(layer.weights(), weights, atol=1e-12)
        assert torch.allclose(measured.entropy, attention_entropy(weights, layer.mask), atol=1e-12)
        if layer.window is None:
            share = attention_entropy(weights, layer.mask, share=True)
            assert torch.allclose(measured.entropy_share, share, atol=1e-12)
        assert torch.allclose(measured.largest, max_attention(weights, layer.mask), atol=1e-12)
        assert torch.allclose(measured.sinks, sink_rate(weights, layer.mask), atol=1e-12)


def test_the_largest_logit_is_that_of_real_tokens():
    model = build(None)
    layer = attentions(model, batch(model))[0]
    scores = layer.q.double() @ layer.k.double().mT / math.sqrt(8)
    for record, count in enumerate(layer.mask.sum(1)):
        expected = scores[record, :, :count, :count].amax((1, 2))
        assert torch.allclose(measure_attention(layer).max_logit[record], expected)


def test_a_window_costs_a_band_not_a_square():
    model = build(None, window=4)
    layer = attentions(model, batch(model, (4000,)))[0]
    assert max(logits.shape[3] for *_, logits, _ in layer.blocks()) <= 12


def test_looking_leaves_the_model_as_it_was():
    model = build("random", 6).train()
    tokens = batch(model)
    first = states(model, tokens)
    assert model.training
    assert not any(block.attention._forward_pre_hooks for block in model.encoder.blocks)
    second = states(model, tokens)
    assert all(torch.equal(a.source, b.source) for a, b in zip(first, second, strict=True))


def test_layers_in_numbers_agree_with_the_parts():
    model = build("links", 5)
    tokens = batch(model)
    layers = measure_layers(model, tokens)
    assert [layer.tokens for layer in layers] == [16.0, 16.0, 5.0]  # 20 and 12 tokens
    after = states(model, tokens)
    for number, (layer, attention) in enumerate(zip(layers, attentions(model, tokens), strict=True)):
        x, sizes = after[number + 1].features, after[number + 1].sizes
        assert layer.effective_rank == pytest.approx(effective_rank(x, sizes).mean().item())
        assert layer.entropy == pytest.approx(measure_attention(attention).entropy.mean().item())
        assert 0 <= layer.spectral_gap <= math.sqrt(20)
    assert measure_layers(model, tokens, most=10)[0].spectral_gap is None


@pytest.mark.parametrize("measure", RANKS)
def test_states_of_another_shape_are_refused(measure):
    with pytest.raises(InputError, match="states as floats"):
        measure(torch.ones(3, 4))
    with pytest.raises(InputError, match="'sizes'"):
        measure(torch.ones(1, 3, 4), torch.ones(1, 4))
