"""What is drawn is what the tokens say, whatever they come as."""

import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.plotting.layers import check_nested, read_layers
from tokred_sci.reduction.merge import merge
from tokred_sci.tokens import Grouping, stack


def test_groupings_in_a_chain_are_what_merging_by_them_gives(whole):
    steps = [Grouping(torch.tensor([[0, 1, 0, 2, 2, -1]]), 3), Grouping(torch.tensor([[1, 0, 1]]), 2)]
    merged = merge(whole(6), steps[0])
    tokens = [merged, merge(merged, steps[1])]
    for ours, theirs in zip(read_layers(steps), read_layers(tokens), strict=True):
        assert ours.holder.tolist() == theirs.holder.tolist()
        assert ours.count == theirs.count
    assert [layer.count for layer in read_layers(tokens)] == [3, 2]


def test_a_record_of_a_batch_is_read_as_if_alone(whole):
    short, long = whole(3, 2), whole(5, 2)
    batch = stack([short, long])
    for record, alone in enumerate((short, long)):
        (layer,) = read_layers(batch, record)
        assert layer.holder.tolist() == alone.source[0].tolist()
        assert layer.count == int(alone.counts[0])
        assert read_layers(batch, record - 2)[0].holder.tolist() == layer.holder.tolist()


def test_elements_that_were_dropped_stay_and_padding_goes(pruned, whole):
    (alone,) = read_layers(pruned)
    assert alone.holder.tolist() == [0, 0, 0, 1, 1, 1, -1, -1]
    batch = stack([pruned, whole(12)])
    assert len(read_layers(batch, 0)[0].holder) == 6  # dropped at the end and padding look alike ...
    assert len(read_layers(batch, 0, elements=8)[0].holder) == 8  # ... unless the length is known


def test_layers_have_the_names_given(layers):
    assert [layer.name for layer in read_layers(layers)] == ["layer 0", "layer 1", "layer 2"]
    assert [layer.name for layer in read_layers(layers, names="abc")] == list("abc")


def test_layers_that_do_not_fit_are_refused(layers, whole):
    grouping = Grouping(torch.zeros(1, 64, dtype=torch.int64), 1)
    for wrong in (
        [],
        [layers[0], grouping],
        [layers[0], whole(3)],
        ["tokens"],
        [grouping, Grouping(grouping.labels[:, :0], 1)],
    ):
        with pytest.raises(InputError, match="Expected"):
            read_layers(wrong)
    for more in ({"record": 1}, {"record": -2}, {"elements": 63}, {"elements": 65}, {"names": ["a"]}):
        with pytest.raises(InputError, match="Expected"):
            read_layers(layers, **more)


def test_a_record_without_tokens_is_refused():
    with pytest.raises(InputError, match="padding alone"):
        read_layers(Grouping(torch.full((1, 4), -1), 1))


def test_layers_that_split_a_token_are_refused(layers):
    check_nested(read_layers(layers))
    with pytest.raises(InputError, match="from fine to coarse"):
        check_nested(read_layers(layers[::-1]))


def test_what_was_dropped_and_comes_back_is_refused(pruned, whole):
    with pytest.raises(InputError, match="dropped"):
        check_nested(read_layers([pruned, merge(whole(8), Grouping(torch.zeros(1, 8, dtype=torch.int64), 1))]))
