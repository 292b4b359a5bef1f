"""Attention: sizes, windows, rotary places."""

import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.models.attention import Attention, rotary, rotate, size_bias, windowed


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def attention(**kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Attention(dim=24, heads=2, **kwargs).double()


def banded(q, k, v, bias, window):
    """Full attention with everything outside the band struck out."""
    index = torch.arange(q.shape[2])
    far = (index[:, None] - index).abs() > window
    scores = q @ k.mT / q.shape[-1] ** 0.5 + bias[:, None, None]
    return scores.masked_fill(far, -torch.inf).softmax(-1) @ v


@pytest.mark.parametrize("length", [1, 2, 5, 12, 13])
@pytest.mark.parametrize("window", [1, 3, 4, 12, 50])
def test_windowed_is_banded_full_attention_and_so_are_its_gradients(length, window):
    inputs, bias = numbers(3, 2, 3, length, 4).requires_grad_(), numbers(2, length, seed=1)
    close(windowed(*inputs, bias, window), banded(*inputs, bias, window))
    weight = numbers(2, 3, length, 4, seed=2)
    grads = [torch.autograd.grad((weight * f(*inputs, bias, window)).sum(), inputs)[0] for f in (windowed, banded)]
    close(*grads)


def test_a_window_over_everything_is_full_attention():
    x, places, sizes = numbers(2, 9, 24), numbers(2, 9, 1), torch.arange(1.0, 19).view(2, 9)
    close(attention(window=8)(x, places, sizes)[0], attention()(x, places, sizes)[0])


@pytest.mark.parametrize("window", [1, 4])
def test_padding_is_never_seen_through_a_window(window):
    layer, x, places = attention(window=window), numbers(1, 10, 24), numbers(1, 10, 1)
    sizes = torch.tensor([[1.0, 2, 1, 3, 1, 1, 0, 0, 0, 0]])
    y, keys = layer(x, places, sizes)
    alone, alone_keys = layer(x[:, :6], places[:, :6], sizes[:, :6])
    close(y[:, :6], alone)
    close(keys[:, :6], alone_keys)


@pytest.mark.parametrize("window", [None, 3])
def test_windows_and_full_attention_are_finite_on_padding_only(window):
    layer = attention(window=window)
    x = numbers(2, 7, 24).requires_grad_()
    y, _ = layer(x, numbers(2, 7, 1), torch.zeros(2, 7))
    y.sin().sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_a_token_of_size_s_counts_as_s_equal_tokens():
    x, places, sizes = numbers(1, 4, 24), numbers(1, 4, 1), torch.tensor([[1.0, 3, 2, 1]])
    many = sizes[0].long()
    apart = attention()(x.repeat_interleave(many, 1), places.repeat_interleave(many, 1), torch.ones(1, 7))[0]
    together = attention()(x, places, sizes)[0]
    close(together.repeat_interleave(many, 1), apart)


def test_exponent_zero_lets_every_token_speak_once():
    x, places = numbers(1, 4, 24), numbers(1, 4, 1)
    layer = attention(size_exponent=0.0)
    assert torch.equal(layer(x, places, torch.tensor([[1.0, 3, 2, 1]]))[0], layer(x, places, torch.ones(1, 4))[0])


def test_size_bias_is_exact_in_the_type_asked_for_and_finite():
    sizes = torch.tensor([[0.0, 1, 2, 3]])
    bias = size_bias(sizes, 0.5, torch.float64)
    close(bias[:, 1:], 0.5 * sizes[:, 1:].double().log())
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        bias = size_bias(sizes, 1.0, dtype)
        assert bias.dtype == dtype and bias.isfinite().all() and bias[0, 0] < -1e4


@pytest.mark.parametrize("axes", [1, 3])
def test_rotary_depends_on_differences_only(axes):
    places = torch.randint(-500, 500, (2, 9, axes), generator=torch.Generator().manual_seed(1)).double()
    q, k = numbers(2, 2, 2, 9, 12)

    def scores(places):
        cos, sin = rotary(places, 12, torch.float64)
        return rotate(q, cos, sin) @ rotate(k, cos, sin).mT

    close(scores(places + 1e6), scores(places))
    assert not torch.allclose(scores(places * 1.5), scores(places))


def test_rotary_keeps_its_digits_in_float32_far_from_zero():
    places = torch.arange(8.0, dtype=torch.float64).view(1, 8, 1)
    near, far = (rotary(places + shift, 8, torch.float32) for shift in (0, 3e9))
    assert torch.equal(near[0], far[0]) and torch.equal(near[1], far[1])


def test_rotary_keeps_lengths_and_reads_every_axis():
    x = numbers(1, 1, 5, 12)
    places = numbers(1, 5, 3)
    turned = rotate(x, *rotary(places, 12, torch.float64))
    close(turned.norm(dim=-1), x.norm(dim=-1))
    for axis in range(3):
        moved = places.clone()
        moved[:, 2:, axis] += 1
        assert not torch.allclose(rotate(x, *rotary(moved, 12, torch.float64)), turned)


@pytest.mark.parametrize("window", [None, 2])
def test_scores_are_differentiable(window):
    layer = attention(window=window, qk_norm=True)
    places, sizes = numbers(1, 5, 1), torch.tensor([[1.0, 2, 1, 1, 0]])
    x = numbers(1, 5, 24).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x, places, sizes)[0], (x,), fast_mode=True)


def test_keys_are_the_mean_over_heads_before_rotation():
    layer, x = attention(), numbers(2, 5, 24)
    keys = layer(x, numbers(2, 5, 1), torch.ones(2, 5))[1]
    k = layer.qkv(x)[..., 24:48]
    close(keys, (k[..., :12] + k[..., 12:]) / 2)


@pytest.mark.parametrize(("dim", "heads"), [(10, 4), (6, 2)])
def test_widths_the_heads_cannot_share_are_refused(dim, heads):
    message = rf"'dim' divisible by 2 \* heads \(got dim={dim}, heads={heads}\)"
    with pytest.raises(InputError, match=message):
        Attention(dim, heads)


@pytest.mark.parametrize("window", [0, -3])
def test_impossible_windows_are_refused(window):
    with pytest.raises(InputError, match=rf"'window' >= 1 or None \(got {window}\)"):
        Attention(8, 2, window=window)


def test_log_scale_keeps_the_spread_of_attention():
    """At eight times log 8 the logits count double; at the length of training nothing changes."""
    scaled, plain = attention(log_scale=8), attention()
    x, places = numbers(1, 8, 24), torch.zeros(1, 8, 1, dtype=torch.float64)
    sizes = torch.ones(1, 8)
    close(scaled(x, places, sizes)[0], plain(x, places, sizes)[0])
    longer, more = torch.cat([x, numbers(1, 56, 24, seed=1)], 1), torch.zeros(1, 64, 1, dtype=torch.float64)
    q, k, v = scaled.qkv(longer).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    expected = (2 * q @ k.mT / 12**0.5).softmax(-1) @ v  # log 64 / log 8 = 2
    close(scaled(longer, more, torch.ones(1, 64))[0], scaled.out(expected.transpose(1, 2).flatten(2)))
    padded = torch.cat([torch.ones(1, 8), torch.zeros(1, 56)], 1)
    close(scaled(longer, more, padded)[0][:, :8], scaled(x, places, sizes)[0])  # padding does not count


def test_log_scale_below_two_is_refused():
    with pytest.raises(InputError, match="log_scale"):
        Attention(8, 2, log_scale=1)
