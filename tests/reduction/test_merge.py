"""`merge`, `unmerge`, `to_source` on cases small enough to check by hand."""

import re

import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.reduction.merge import merge, to_source, unmerge
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
