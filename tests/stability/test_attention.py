"""Measures of attention on matrices whose values are known, and the bounds of theory, where they hold and where not."""

import math

import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.models.attention import Attention, size_bias
from tokred_sci.reduction.density import cover
from tokred_sci.stability.attention import (
    attention_bounds,
    attention_entropy,
    dispersion_slope,
    max_attention,
    packing_bound,
    sink_rate,
    spectral_gap,
)
from tokred_sci.tokens import Tokens

KNOWN = [attention_entropy, max_attention, sink_rate, spectral_gap]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_even_attention_and_attention_to_oneself(n):
    weights = torch.stack([torch.full((n, n), 1 / n, dtype=torch.float64), torch.eye(n).double()])[None]
    assert attention_entropy(weights)[0].tolist() == pytest.approx([math.log(n), 0])
    assert attention_entropy(weights, share=True)[0].tolist() == pytest.approx([float(n > 1), 0])
    assert max_attention(weights)[0].tolist() == pytest.approx([1 / n, 1])
    assert spectral_gap(weights)[0].tolist() == pytest.approx([1, float(n == 1)], abs=1e-12)


def test_a_sink_is_a_token_that_all_look_at():
    sink = torch.full((10, 10), 0.5 / 9)
    sink[:, 4] = 0.5
    even = torch.full((10, 10), 0.1)
    assert sink_rate(torch.stack([sink, even, even, even])[None]).tolist() == [0.25]
    assert sink_rate(torch.stack([sink, even])[None], threshold=0.6).tolist() == [0]


@pytest.mark.parametrize("measure", KNOWN)
def test_padding_counts_neither_as_query_nor_as_key(measure):
    weights = draw(2, 3, 6, 6).softmax(-1)
    padded = torch.zeros(2, 3, 9, 9, dtype=torch.float64)
    padded[:, :, :6, :6] = weights
    padded[:, :, 6:, 7] = 1.0
    mask = torch.arange(9).expand(2, 9) < 6
    assert torch.allclose(measure(padded, mask), measure(weights), atol=1e-12)


def test_the_gap_of_a_head_that_mixes_two_tokens():
    """[[1 - p, p], [p, 1 - p]] has singular values 1 and 1 - 2 p."""
    weights = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    assert spectral_gap(weights[None, None]).item() == pytest.approx(0.2)


def test_slope_of_dispersion():
    lengths = [16, 64, 1024]
    assert dispersion_slope(lengths, [1 / n for n in lengths]) == pytest.approx(-1)
    assert dispersion_slope(lengths, [0.3] * 3) == 0
    assert dispersion_slope(lengths, [n**-0.5 for n in lengths]) == pytest.approx(-0.5)


def test_attention_disperses_with_length_and_a_constant_number_of_groups_stops_it():
    """Softmax is not enough: bounded logits, n tokens. With M groups of any size (tau = 0) the bounds are constant."""
    for n in (8, 64, 512, 4096):
        logits = draw(4, n).clamp(-1, 1)
        low, high = attention_bounds(2.0, n)
        weights = logits.softmax(-1)
        assert low <= weights.min() and weights.max() <= high
        groups = (logits[:, :8] + size_bias(torch.full((4, 8), n / 8), 0.0, torch.float64)).softmax(-1)
        floor, ceiling = attention_bounds(2.0, 8)
        assert floor <= groups.min() and groups.max() <= ceiling
    assert attention_bounds(2.0, 4096)[1] < attention_bounds(2.0, 8)[0]  # nothing is left of the floor without groups


def test_the_bounds_are_reached():
    logits = torch.tensor([0.0] + [20.0] * 9).double()
    assert logits.softmax(0)[0].item() / attention_bounds(20.0, 10)[0] == pytest.approx(10 / 9, rel=1e-6)


def test_the_floor_breaks_with_tau_1_as_a_group_grows():
    """One group of background grows with length: with tau = 0 the others keep their weight, with tau = 1 they fade."""
    weights = {}
    for tau in (0.0, 1.0):
        for size in (1, 100, 10_000):
            sizes = torch.tensor([[size, 1.0, 1.0, 1.0]])
            weights[tau, size] = size_bias(sizes, tau, torch.float64).softmax(-1)[0, 1].item()
            spread = tau * math.log(size)
            assert weights[tau, size] >= attention_bounds(spread, 4)[0] - 1e-12
    floor = attention_bounds(0.0, 4)[0]
    assert all(weights[0.0, size] >= floor - 1e-12 for size in (1, 100, 10_000))
    assert weights[1.0, 10_000] < 0.001 * floor


def test_with_tau_1_merged_duplicates_give_back_full_attention_and_with_tau_0_they_do_not():
    x, sizes = draw(1, 5, 8), torch.tensor([[1.0, 4.0, 2.0, 1.0, 7.0]])
    origin = torch.repeat_interleave(torch.arange(5), sizes[0].long())
    places = draw(1, 5, 1, seed=1)
    outputs = {}
    for tau in (1.0, 0.0):
        torch.manual_seed(0)
        attention = Attention(8, 2, size_exponent=tau).double()
        merged, _ = attention(x, places, sizes)
        full, _ = attention(x[:, origin], places[:, origin], torch.ones(1, 15))
        outputs[tau] = (merged[:, origin] - full).abs().max().item()
    assert outputs[1.0] < 1e-12
    assert outputs[0.0] > 1e-3


def net(x, radius):
    """Groups of an epsilon-net over (N, D) tokens."""
    n = len(x)
    tokens = Tokens(x[None], torch.arange(n).view(1, n, 1).double(), torch.ones(1, n), torch.arange(n)[None])
    return int(cover(x[None], tokens, keep=n, radius=radius).labels.max()) + 1


def test_the_groups_of_a_net_are_bounded_by_the_packing_number_at_any_length():
    radius = 0.5
    on_a_circle = math.floor(math.pi / math.asin(radius / 2))  # chords of at least 0.5
    found = [net(draw(n, 2, seed=n), radius) for n in (10, 100, 1000)]
    assert max(found) <= on_a_circle <= packing_bound(2, radius)
    assert net(draw(1000, 3), radius) <= packing_bound(3, radius)


def test_the_bound_fails_to_help_where_distinct_tokens_grow_without_end():
    """Each token a direction of its own: the net needs them all, and attention disperses as without reduction."""
    found = [net(torch.eye(n).double(), 0.5) for n in (8, 64, 256)]
    assert found == [8, 64, 256]
    assert attention_bounds(1.0, found[-1])[1] < attention_bounds(1.0, found[0])[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attention_entropy(torch.ones(2, 3, 3)), "attention of shape"),
        (lambda: max_attention(torch.ones(1, 1, 3, 3), torch.ones(1, 4, dtype=torch.bool)), "'mask'"),
        (lambda: dispersion_slope([4, 4], [0.5, 0.5]), "two or more lengths"),
        (lambda: dispersion_slope([4, 8], [0.5, 0.0]), "above 0"),
        (lambda: attention_bounds(-1.0, 4), "'spread'"),
        (lambda: packing_bound(2, 0.0), "'radius'"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
