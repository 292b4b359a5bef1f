"""`Tokens`, `Grouping`, `stack`: what is refused, with which words; what comes back."""

import dataclasses
import re

import pytest
import torch

from tokred_sci.errors import InputError, TokredError
from tokred_sci.tokens import Grouping, Tokens, stack


def fields(batch=2, tokens=3, dim=4, axes=1, **changed):
    made = {
        "features": torch.arange(float(batch * tokens * dim)).view(batch, tokens, dim),
        "positions": torch.arange(batch * tokens * axes, dtype=torch.float64).view(batch, tokens, axes),
        "sizes": torch.ones(batch, tokens),
        "source": torch.arange(tokens).expand(batch, tokens).clone(),
    }
    return made | changed


def tokens_of(**changed):
    return Tokens(**fields(**changed))


@pytest.mark.parametrize(
    ("changed", "needed", "got"),
    [
        (
            {"features": torch.zeros(2, 3)},
            "'features' as floats, or uint8 codes, of shape (B, N, D)",
            "float32 of shape (2, 3)",
        ),
        (
            {"features": torch.zeros(2, 3, 4).long()},
            "'features' as floats, or uint8 codes,",
            "int64 of shape (2, 3, 4)",
        ),
        ({"positions": torch.zeros(2, 3)}, "'positions' as floats of shape (2, 3, 1 or 3)", "(2, 3)"),
        ({"positions": torch.zeros(2, 3, 2)}, "'positions' as floats of shape (2, 3, 1 or 3)", "(2, 3, 2)"),
        ({"positions": torch.zeros(2, 4, 1)}, "'positions' as floats of shape (2, 3, 1 or 3)", "(2, 4, 1)"),
        ({"positions": torch.zeros(2, 3, 1).long()}, "'positions' as floats", "int64 of shape (2, 3, 1)"),
        ({"sizes": torch.ones(2, 2)}, "'sizes' as float32 of shape (2, 3)", "float32 of shape (2, 2)"),
        (
            {"sizes": torch.ones(2, 3).double()},
            "'sizes' as float32 of shape (2, 3)",
            "float64 of shape (2, 3)",
        ),
        ({"sizes": torch.tensor([[1.0, 1, 1], [1, -2, 1]])}, "'sizes' >= 0", "a minimum of -2.0"),
        ({"sizes": torch.full((2, 3), torch.nan)}, "'sizes' >= 0", "nan"),
        ({"source": torch.zeros(2, 3)}, "'source' as int64 of shape (2, M)", "float32 of shape (2, 3)"),
        ({"source": torch.zeros(3, 3).long()}, "'source' as int64 of shape (2, M)", "int64 of shape (3, 3)"),
        ({"source": torch.zeros(2, 3).int()}, "'source' as int64 of shape (2, M)", "int32 of shape (2, 3)"),
        ({"source": torch.tensor([[0, 3], [0, 1]])}, "'source' in [-1, 3)", "values from 0 to 3"),
        ({"source": torch.tensor([[0, 1], [-2, 1]])}, "'source' in [-1, 3)", "values from -2 to 1"),
    ],
)
def test_bad_fields_are_refused_with_what_was_needed_and_what_came(changed, needed, got):
    with pytest.raises(InputError, match=re.escape(f"Expected {needed}") + ".*" + re.escape(got)):
        tokens_of(**changed)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4)])
def test_empty_records_are_refused_with_the_way_out(shape):
    batch, tokens, _ = shape
    with pytest.raises(InputError, match=re.escape(f"(got features of shape {shape}): leave empty records out")):
        tokens_of(batch=batch, tokens=tokens)


def test_input_error_is_a_value_error_and_ours():
    assert issubclass(InputError, ValueError) and issubclass(InputError, TokredError)


def test_fields_on_two_devices_are_refused():
    with pytest.raises(InputError, match=r"one device \(got \['cpu', 'meta'\]\): use .to\(device\)"):
        tokens_of(features=torch.zeros(2, 3, 4, device="meta"))


def test_no_elements_at_all_is_a_batch_of_padding():
    empty = tokens_of(sizes=torch.zeros(2, 3), source=torch.zeros(2, 0).long())
    assert not empty.mask.any() and empty.counts.tolist() == [0, 0]


def test_values_are_frozen():
    tokens, grouping = tokens_of(), Grouping(torch.zeros(1, 2).long(), 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        tokens.features = tokens.features + 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        grouping.num_groups = 2


def test_mask_counts_and_length():
    tokens = tokens_of(sizes=torch.tensor([[1.0, 2, 0], [0, 0, 0]]))
    assert tokens.mask.tolist() == [[True, True, False], [False, False, False]]
    assert tokens.counts.tolist() == [2, 0]
    assert len(tokens) == 2


def test_repr_tells_shapes_type_and_compression():
    tokens = tokens_of(axes=3, sizes=torch.tensor([[1.0, 2, 0], [4.5, 0, 0]]), source=torch.zeros(2, 7).long())
    assert repr(tokens) == "Tokens(B=2 N=3 D=4 P=3 M=7, torch.float32 on cpu, 2.5 elements per token)"
    assert "0 elements per token" in repr(tokens_of(sizes=torch.zeros(2, 3)))
    assert repr(Grouping(torch.zeros(2, 5).long(), 3)) == "Grouping(B=2 N=5 -> 3 groups)"


def test_stack_pads_unequal_records_and_indexing_is_its_inverse():
    short = tokens_of(batch=1, tokens=2, sizes=torch.tensor([[2.0, 1]]), source=torch.tensor([[1, 0, 0]]))
    long = tokens_of(batch=1, tokens=5, source=torch.arange(5)[None])
    batch = stack([short, long])
    assert batch.features.shape == (2, 5, 4) and batch.source.shape == (2, 5)
    assert batch.sizes[0].tolist() == [2, 1, 0, 0, 0]
    assert batch.source[0].tolist() == [1, 0, 0, -1, -1]
    assert batch.features[0, 2:].eq(0).all() and batch.positions[0, 2:].eq(0).all()
    assert len(list(batch)) == 2
    for record, again in zip([short, long], batch, strict=True):
        for field in dataclasses.fields(Tokens):
            assert torch.equal(getattr(again, field.name), getattr(record, field.name)), field.name
    assert torch.equal(batch[-1].features, long.features)


def test_indexing_closes_gaps_and_leaves_out_dropped_elements():
    sizes, source = torch.tensor([[2.0, 0, 1]]), torch.tensor([[2, -1, 0, 0, -1]])
    record = tokens_of(batch=1, sizes=sizes, source=source)[0]
    assert record.sizes.tolist() == [[2.0, 1.0]]
    assert record.source.tolist() == [[1, 0, 0]]
    assert record.features[0, 1].tolist() == [8, 9, 10, 11]


def test_indexing_outside_the_batch_and_all_padding_are_refused():
    tokens = tokens_of(sizes=torch.tensor([[1.0, 1, 1], [0, 0, 0]]))
    for index in (2, -3):
        with pytest.raises(IndexError, match=f"record {index} of a batch of 2"):
            tokens[index]
    with pytest.raises(InputError, match="Record 1 is all padding"):
        tokens[1]


def test_stack_refuses_nothing_and_strangers():
    with pytest.raises(InputError, match=r"at least one record to stack \(got an empty list\)"):
        stack([])
    first = tokens_of(batch=1)
    strangers = [tokens_of(batch=1, dim=5), tokens_of(batch=1, axes=3), first.to(torch.float64)]
    strangers.append(dataclasses.replace(first, positions=first.positions.float()))
    for stranger in strangers:
        with pytest.raises(InputError, match=r"as the first one \(record 1 has "):
            stack([first, stranger])


def test_stack_of_one_is_that_one():
    one = tokens_of()
    assert stack([one]) is one


def test_to_a_dtype_changes_features_only():
    half = tokens_of().to(torch.float16)
    assert half.features.dtype == torch.float16
    assert half.positions.dtype == torch.float64 and half.sizes.dtype == torch.float32


@pytest.mark.parametrize("device", ["meta", torch.device("meta")])
def test_to_a_device_moves_every_field(device):
    moved = tokens_of().to(device)
    assert {getattr(moved, f.name).device.type for f in dataclasses.fields(Tokens)} == {"meta"}


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        (torch.zeros(3).long(), 1, r"'labels' as int64 of shape \(B, N\) \(got int64 of shape \(3,\)\)"),
        (torch.zeros(1, 3), 1, r"'labels' as int64 .*\(got float32 of shape \(1, 3\)\)"),
        (torch.zeros(1, 3).long(), 0, r"'num_groups' >= 1 \(got 0\)"),
        (torch.tensor([[0, 1, 2]]), 2, r"'labels' in \[-1, 2\) \(got values from 0 to 2\)"),
        (torch.tensor([[0, -2, 1]]), 2, r"'labels' in \[-1, 2\) \(got values from -2 to 1\)"),
    ],
)
def test_bad_groupings_are_refused(labels, groups, message):
    with pytest.raises(InputError, match=message):
        Grouping(labels, groups)
