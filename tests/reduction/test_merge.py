"""`merge`, `unmerge`, `to_source` on cases small enough to check by hand."""

import re

import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.reduction.merge import extent, merge, to_source, unmerge
from tokred_sci.tokens import Grouping, Tokens


def three(dtype=torch.float32):
    """Tokens 1, 4, 10 with 1, 2 and 3 elements."""
    x = torch.tensor([[[1.0], [4.0], [10.0]]], dtype=dtype)
    return Tokens(x, x.double() * 2, torch.tensor([[1.0, 2, 3]]), torch.tensor([[0, 1, 1, 2, 2, 2]]))


def grouping(*labels, groups):
    return Grouping(torch.tensor([labels]), groups)


def test_unequal_sizes_weigh_the_mean():
    merged = merge(three(), grouping(0, 0, 1, groups=2))
    assert merged.features.flatten().tolist() == [3.0, 10.0]  # (1 * 1 + 2 * 4) / 3
    assert merged.positions.flatten().tolist() == pytest.approx([6.0, 20.0])
    assert merged.sizes.tolist() == [[3.0, 3.0]]
    assert merged.source.tolist() == [[0, 0, 0, 1, 1, 1]]


def test_groups_need_not_be_neighbours():
    merged = merge(three(), grouping(1, 0, 1, groups=2))
    assert merged.features.flatten().tolist() == [4.0, 7.75]  # (1 * 1 + 3 * 10) / 4
    assert merged.source.tolist() == [[1, 0, 0, 1, 1, 1]]


def test_dropped_tokens_leave_no_trace_but_minus_one():
    merged = merge(three(), grouping(0, -1, 1, groups=2))
    assert merged.features.flatten().tolist() == [1.0, 10.0]
    assert merged.sizes.tolist() == [[1.0, 3.0]]
    assert merged.source.tolist() == [[0, -1, -1, 1, 1, 1]]
    again = merge(merged, grouping(0, 0, groups=1))  # and stay dropped
    assert again.source.tolist() == [[0, -1, -1, 0, 0, 0]]
    assert again.sizes.tolist() == [[4.0]]
    assert to_source(merged).flatten().tolist() == [1, 0, 0, 10, 10, 10]


def test_groups_nobody_joined_are_padding():
    merged = merge(three(), grouping(3, 3, 1, groups=5))
    assert merged.mask.tolist() == [[False, True, False, True, False]]
    assert merged.features.flatten().tolist() == [0, 10, 0, 3, 0]
    assert merged.source.tolist() == [[3, 3, 3, 1, 1, 1]]


def test_padding_joins_nothing_whatever_its_label():
    x = torch.tensor([[[1.0], [torch.nan], [3.0]]])
    tokens = Tokens(x, x.clone(), torch.tensor([[1.0, 0, 1]]), torch.tensor([[0, 2, -1]]))
    merged = merge(tokens, grouping(0, 0, 0, groups=1))
    assert merged.features.item() == 2.0 and merged.positions.item() == 2.0 and merged.sizes.item() == 2.0
    assert merged.source.tolist() == [[0, 0, -1]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tokens_alone_in_their_group_come_out_bit_equal(dtype):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 30, 7, generator=draw, dtype=torch.float64).to(dtype)
    sizes = torch.randint(1, 50, (2, 30), generator=draw).float()
    source = torch.stack([torch.arange(30).repeat_interleave(s.long())[:30] for s in sizes])
    tokens = Tokens(x, torch.randn(2, 30, 3, generator=draw), sizes, source)
    order = torch.stack([torch.randperm(30, generator=draw) for _ in range(2)])
    merged = merge(tokens, Grouping(order, 30))
    for b in range(2):
        assert torch.equal(merged.features[b, order[b]], x[b])
        assert torch.equal(merged.positions[b, order[b]], tokens.positions[b])
        assert torch.equal(merged.sizes[b, order[b]], sizes[b])


def test_half_precision_means_do_not_overflow_or_drift():
    x = torch.full((1, 4096, 2), 60000.0, dtype=torch.float16)
    index = torch.arange(4096)[None]
    merged = merge(Tokens(x, torch.zeros(1, 4096, 1), torch.ones(1, 4096), index), Grouping(index * 0, 1))
    assert merged.features.flatten().tolist() == [60000.0, 60000.0]


def test_unmerge_copies_and_gives_dropped_tokens_zeros():
    z = torch.tensor([[[5.0, 6.0], [7.0, 8.0]]])
    assert unmerge(z, grouping(1, 0, -1, 1, groups=2)).tolist() == [[[7, 8], [5, 6], [0, 0], [7, 8]]]


def test_dropped_tokens_get_zeros_even_beside_nan():
    z = torch.tensor([[[torch.nan], [7.0]]], requires_grad=True)
    out = unmerge(z, grouping(1, -1, groups=2))
    assert out.flatten().tolist() == [7, 0]
    out.sum().backward()
    assert z.grad.flatten().tolist() == [0, 1]


def test_to_source_reads_through_two_merges():
    tokens = merge(three(), grouping(0, 1, 1, groups=2))
    assert to_source(tokens).flatten().tolist() == pytest.approx([1, 7.6, 7.6, 7.6, 7.6, 7.6])
    tokens = merge(tokens, grouping(0, 0, groups=1))
    assert to_source(tokens).flatten().tolist() == pytest.approx([6.5] * 6)  # (1 + 8 + 30) / 6


def test_to_source_keeps_records_apart():
    x = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    tokens = Tokens(x, x.clone(), torch.ones(2, 2), torch.tensor([[1, 0, -1], [0, 1, -1]]))
    assert to_source(tokens)[..., 0].tolist() == [[2, 1, 0], [3, 4, 0]]


def test_a_grouping_for_other_tokens_is_refused():
    message = r"a grouping for \(1, 3\) tokens \(got labels of shape \(1, 2\)\): make it from"
    with pytest.raises(InputError, match=message):
        merge(three(), grouping(0, 0, groups=1))


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 2, 4), (1, 2)])
def test_features_of_another_merge_are_refused(shape):
    message = f"features of shape (1, 2, D) (got {shape}): the groups of another merge?"
    with pytest.raises(InputError, match=re.escape(message)):
        unmerge(torch.zeros(shape), grouping(0, 1, 1, groups=2))


# Other ways to combine --------------------------------------------------------------------------------------


def tokens_of(x, sizes=None):
    count = len(x)
    sizes = torch.ones(count) if sizes is None else torch.tensor(sizes)
    source = torch.arange(count).repeat_interleave(sizes.long())
    return Tokens(torch.as_tensor(x)[None], torch.zeros(1, count, 1), sizes[None], source[None])


def test_norm_keeps_the_direction_of_the_mean_and_the_weighted_mean_of_norms():
    tokens = tokens_of([[3.0, 0.0], [0.0, 4.0], [0.0, 7.0]], [1.0, 3.0, 2.0])
    merged = merge(tokens, grouping(0, 0, 1, groups=2), "norm").features[0]
    mean, norm = torch.tensor([3.0 / 4, 12.0 / 4]), (1 * 3.0 + 3 * 4.0) / 4
    torch.testing.assert_close(merged[0], mean / mean.norm() * norm)
    assert merged[1].tolist() == [0, 7]


def test_norm_of_many_random_groups_is_the_weighted_mean_of_norms():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=draw, dtype=torch.float64)
    sizes = torch.randint(1, 5, (60,), generator=draw)
    labels = torch.arange(60) % 7
    merged = merge(tokens_of(x, sizes.float().tolist()), Grouping(labels[None], 7), "norm").features[0]
    plain = merge(tokens_of(x, sizes.float().tolist()), Grouping(labels[None], 7)).features[0]
    for g in range(7):
        weight = sizes[labels == g] / sizes[labels == g].sum()
        torch.testing.assert_close(merged[g].norm(), (weight * x[labels == g].norm(dim=1)).sum())
        torch.testing.assert_close(torch.cosine_similarity(merged[g], plain[g], dim=0), merged.new_ones(()))


def test_opposites_cancel_to_zeros_with_a_finite_gradient():
    tokens = tokens_of([[1.0, 2.0], [-1.0, -2.0]])
    x = tokens.features.clone().requires_grad_()
    merged = merge(Tokens(x, tokens.positions, tokens.sizes, tokens.source), grouping(0, 0, groups=1), "norm")
    assert merged.features.tolist() == [[[0, 0]]]
    merged.features.sum().backward()
    assert x.grad.isfinite().all()


def test_loudest_takes_the_member_of_largest_norm_as_it_is():
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([2, 0, 0, 1, 2, 0, 2, 1, -1])
    merged = merge(tokens_of(x), Grouping(labels[None], 4), "loudest")
    for g in range(3):
        place = max((labels == g).nonzero().flatten().tolist(), key=lambda i: float(x[i].norm()))
        assert torch.equal(merged.features[0, g], x[place])
    assert (merged.features[0, 3] == 0).all()
    assert merged.sizes.tolist() == [[3, 2, 3, 0]]  # the others still count


def test_loudest_takes_the_first_of_equals():
    tokens = tokens_of([[1.0, 0.0], [0.0, 3.0], [3.0, 0.0], [-3.0, 0.0]])
    assert merge(tokens, grouping(0, 0, 0, 0, groups=1), "loudest").features.tolist() == [[[0, 3]]]
    zeros = tokens_of([[0.0, 0.0], [0.0, -0.0]])
    assert merge(zeros, grouping(0, 0, groups=1), "loudest").features.tolist() == [[[0, 0]]]


def test_loudest_keeps_records_apart_and_its_gradient_goes_to_the_loudest_alone():
    x = torch.tensor([[[1.0], [2.0]], [[5.0], [4.0]]], requires_grad=True)
    tokens = Tokens(x, torch.zeros(2, 2, 1), torch.ones(2, 2), torch.arange(2).expand(2, 2))
    merged = merge(tokens, Grouping(torch.zeros(2, 2, dtype=torch.long), 1), "loudest")
    assert merged.features.flatten().tolist() == [2, 5]
    merged.features.sum().backward()
    assert x.grad.flatten().tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("combine", ["mean", "norm", "loudest"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_token_alone_keeps_its_features_however_they_combine(combine, dtype):
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    merged = merge(tokens_of(x), grouping(0, 1, 2, 3, 3, groups=4), combine).features[0, :3]
    torch.testing.assert_close(merged, x[:3], rtol=4 * torch.finfo(dtype).eps, atol=0)
    if combine != "norm":
        assert torch.equal(merged, x[:3])


@pytest.mark.parametrize("combine", ["mean", "norm", "loudest"])
@pytest.mark.parametrize("bad", [0.0, torch.nan, torch.inf])
def test_padding_has_no_effect_on_values_or_gradients_however_they_combine(combine, bad):
    """Also on gradients of weights. Mean (2, 1.5) = 2.5 * (0.8, 0.6); mean norm (sqrt(5) + sqrt(10)) / 2 = 2.6992."""
    plain = torch.tensor([[1.0, 2.0], [3.0, 1.0]])
    x = torch.cat([plain, torch.full((1, 2), bad)])[None].requires_grad_()
    weights = torch.tensor([[0.5, 1.0, 1.0]], requires_grad=True)
    tokens = Tokens(x, torch.zeros(1, 3, 1), torch.tensor([[2.0, 1, 0]]), torch.tensor([[0, 0, 1]]))
    merged = merge(tokens, Grouping(torch.tensor([[0, 0, -1]]), 1, weights), combine)
    expected = {"mean": [2.0, 1.5], "loudest": [3.0, 1.0], "norm": [0.8 * 2.6992, 0.6 * 2.6992]}[combine]
    assert merged.features.flatten().tolist() == pytest.approx(expected, abs=1e-3)
    merged.features.sum().backward()
    assert x.grad[0, :2].isfinite().all() and (x.grad[0, 2] == 0).all()
    assert weights.grad is None or (weights.grad.isfinite().all() and weights.grad[0, 2] == 0)


@pytest.mark.parametrize("combine", ["max", None, "Mean"])
def test_another_way_to_combine_is_refused(combine):
    with pytest.raises(InputError, match=re.escape(f"'mean', 'norm' or 'loudest' (got {combine!r})")):
        merge(three(), grouping(0, 0, 1, groups=2), combine)


# Weights ----------------------------------------------------------------------------------------------------


def test_weights_say_how_loudly_features_speak_and_nothing_else():
    tokens = three()  # features 1, 4, 10 of 1, 2 and 3 elements
    labels = torch.tensor([[0, 0, 1]])
    merged = merge(tokens, Grouping(labels, 2, torch.tensor([[1.0, 0.25, 0.5]])))
    assert merged.features.flatten().tolist() == [2.0, 10.0]  # (1 * 1 + 0.5 * 4) / 1.5; alone, any weight is all
    plain = merge(tokens, Grouping(labels, 2))
    for field in ("positions", "sizes", "source"):
        assert torch.equal(getattr(merged, field), getattr(plain, field))


def test_equal_weights_change_nothing():
    labels = torch.tensor([[0, 0, 1]])
    half = merge(three(torch.float64), Grouping(labels, 2, torch.full((1, 3), 0.5)))
    torch.testing.assert_close(half.features, merge(three(torch.float64), Grouping(labels, 2)).features)


@pytest.mark.parametrize("sizes", [[1.0, 1.0, 1.0], [3.0, 2.0, 1.0]])
def test_a_token_of_weight_zero_is_not_heard(sizes):
    tokens = tokens_of([[5.0], [7.0], [9.0]], sizes)
    merged = merge(tokens, Grouping(torch.tensor([[0, 0, 1]]), 2, torch.tensor([[0.0, 1.0, 1.0]])))
    assert merged.features.flatten().tolist() == [7.0, 9.0]
    assert merged.sizes.tolist() == [[sizes[0] + sizes[1], 1.0]]


def test_a_group_that_says_nothing_is_zeros_and_keeps_its_elements():
    merged = merge(three(), Grouping(torch.tensor([[0, 0, 1]]), 2, torch.tensor([[0.0, 0.0, 1.0]])))
    assert merged.features.flatten().tolist() == [0.0, 10.0] and merged.sizes.tolist() == [[3.0, 3.0]]


def test_a_learned_weight_gets_the_gradient_of_the_mean():
    """d/dw of (1 + 2 w 4) / (1 + 2 w) at w = 1 is (8 * 3 - 9 * 2) / 9."""
    weights = torch.tensor([[1.0, 1.0, 1.0]], requires_grad=True)
    merge(three(), Grouping(torch.tensor([[0, 0, 1]]), 2, weights)).features[0, 0].sum().backward()
    assert weights.grad.flatten().tolist() == pytest.approx([-2 / 3, 2 / 3, 0])


def test_norm_listens_to_weights_too():
    tokens = tokens_of([[3.0, 0.0], [1.0, 0.0]])
    merged = merge(tokens, Grouping(torch.tensor([[0, 0]]), 1, torch.tensor([[1.0, 0.5]])), "norm")
    assert merged.features.flatten().tolist() == pytest.approx([3.5 / 1.5, 0])


@pytest.mark.parametrize("weights", [torch.ones(1, 2), torch.ones(3), torch.ones(1, 3, 1)])
def test_weights_for_other_tokens_are_refused(weights):
    with pytest.raises(InputError, match=r"'weights' of shape \(1, 3\)"):
        Grouping(torch.tensor([[0, 0, 1]]), 2, weights)


# Extent -----------------------------------------------------------------------------------------------------


def test_extent_is_the_box_of_the_elements_and_zero_for_padding():
    x = torch.zeros(2, 3, 1)
    source = torch.tensor([[1, 0, 1, -1, 1, 0], [2, 2, -1, -1, -1, -1]])
    tokens = Tokens(x, x, torch.tensor([[2.0, 3, 0], [0, 0, 2]]), source)
    low, high = extent(tokens)
    assert low[..., 0].tolist() == [[1, 0, 0], [0, 0, 0]]
    assert high[..., 0].tolist() == [[5, 4, 0], [0, 0, 1]]


def test_extent_below_zero_and_in_three_axes():
    places = torch.tensor([[[-5.0, 1, 7], [-2, -3, 9], [-4, 0, 8], [6, 6, 6]]])
    x = torch.zeros(1, 2, 1)
    tokens = Tokens(x, x.expand(1, 2, 3), torch.tensor([[3.0, 1]]), torch.tensor([[0, 0, 0, 1]]))
    low, high = extent(tokens, places)
    assert low.tolist() == [[[-5, -3, 7], [6, 6, 6]]]
    assert high.tolist() == [[[-2, 1, 9], [6, 6, 6]]]


def test_extent_after_several_merges_is_that_of_all_elements_that_went_in():
    draw = torch.Generator().manual_seed(0)
    places = torch.randn(1, 40, 3, generator=draw, dtype=torch.float64)
    tokens = Tokens(torch.zeros(1, 40, 1), places, torch.ones(1, 40), torch.randperm(40, generator=draw)[None])
    for groups in (17, 6, 2):
        labels = torch.cat(
            [torch.arange(groups), torch.randint(groups, (len(tokens.sizes[0]) - groups,), generator=draw)]
        )[None]
        tokens = merge(tokens, Grouping(labels, groups))
        low, high = extent(tokens, places)
        for token in range(groups):
            inside = places[0, tokens.source[0] == token]
            assert torch.equal(low[0, token], inside.amin(0)) and torch.equal(high[0, token], inside.amax(0))


def test_elements_that_were_dropped_are_in_no_box():
    tokens = merge(three(), grouping(0, -1, 0, groups=1))
    low, high = extent(tokens)
    assert low.flatten().tolist() == [0] and high.flatten().tolist() == [5]
    assert extent(merge(three(), grouping(-1, 0, -1, groups=1)))[1].flatten().tolist() == [2]


@pytest.mark.parametrize("shape", [(1, 5, 1), (2, 6, 1), (1, 6)])
def test_places_of_other_elements_are_refused(shape):
    with pytest.raises(InputError, match=re.escape(f"'places' of shape (1, 6, 'P') (got {shape})")):
        extent(three(), torch.zeros(shape))
