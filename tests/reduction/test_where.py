"""Where merging may happen: inside windows, inside cells, beside protected tokens; for every method."""

import contextlib
import re
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.errors import InputError
from tokred_sci.experiment import REDUCTIONS
from tokred_sci.reduction.chain import links
from tokred_sci.reduction.control import none
from tokred_sci.reduction.density import peaks
from tokred_sci.reduction.graph import bipartite
from tokred_sci.reduction.merge import merge
from tokred_sci.reduction.where import cells, loudest, protect, windows, within
from tokred_sci.tokens import Tokens, stack

AT_MOST = ["voxel", "hdbscan", "shift"]
PRUNES = ["truncate", "topk"]
BUDGETED = [name for name in REDUCTIONS if name != "none"]  # `none` ignores its budget by design

every_method = pytest.mark.parametrize("name", BUDGETED)
merging = pytest.mark.parametrize("name", [name for name in BUDGETED if name not in PRUNES])
law = settings(max_examples=25, deadline=None, derandomize=True)


def record(count, seed=0, axes=1):
    """Tokens of one element each, at places in order (one axis) or scattered (three)."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(1, count, 6, generator=draw, dtype=torch.float64)
    places = torch.rand(1, count, axes, generator=draw, dtype=torch.float64) * 10
    places = places.cumsum(1) if axes == 1 else places
    return Tokens(x, places, torch.ones(1, count), torch.arange(count)[None])


def part_of(tokens, places):
    x, positions = tokens.features[:, places], tokens.positions[:, places]
    return Tokens(x, positions, torch.ones(1, len(places)), torch.arange(len(places))[None])


def members(labels):
    return {frozenset((labels == g).nonzero().flatten().tolist()) for g in labels[labels >= 0].unique()}


def by_hand(group, tokens, parts, shares):
    """The partition that `group` makes of each part as a record of its own."""
    found = set()
    for places, share in zip(parts, shares, strict=True):
        part = part_of(tokens, places)
        for inside in members(group(part.features, part, share).labels[0]):
            found.add(frozenset(places[i].item() for i in inside))
    return found


# Windows ----------------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("along", ["order", "curve"])
def test_windows_are_grouped_as_records_of_their_own(name, along):
    tokens, group = record(24, axes=1 if along == "order" else 3), REDUCTIONS[name]
    order = torch.arange(24) if along == "order" else curve_order(tokens)
    got = within(group, windows(6, along))(tokens.features, tokens, 8)
    assert members(got.labels[0]) == by_hand(group, tokens, order.split(6), [2, 2, 2, 2])
    assert got.num_groups == 8


def curve_order(tokens):
    """Tokens by the interleaved bits of their places in the record's box, bit by bit, as Python whole numbers."""
    places = tokens.positions[0] - tokens.positions[0].amin(0)
    steps = (places * ((2**20 - 1) / places.max())).long().tolist()

    def key(token):
        return sum((steps[token][axis] >> bit & 1) << (3 * bit + axis) for bit in range(20) for axis in range(3))

    return torch.tensor(sorted(range(len(steps)), key=key))


@merging
@law
@given(count=st.integers(1, 40), size=st.integers(2, 12), share=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_groups_stay_in_windows_with_the_count_that_was_asked_for(name, count, size, share, seed):
    tokens, number = record(count, seed), -(-count // size)
    keep = max(number, int(count * share))
    grouping = within(REDUCTIONS[name], windows(size))(tokens.features, tokens, keep)
    labels = grouping.labels[0]
    groups = members(labels)
    assert all(len({place // size for place in group}) == 1 for group in groups)
    assert number <= len(groups) <= keep and (name in AT_MOST or len(groups) == keep)
    first = [min(group) for group in groups]
    assert [int(labels[place]) for place in sorted(first)] == list(range(len(groups)))  # numbered by first token


@law
@given(count=st.integers(1, 60), size=st.integers(2, 12), share=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_places_are_shared_out_evenly(count, size, share, seed):
    tokens, number = record(count, seed), -(-count // size)
    keep = max(number, int(count * share))
    labels = within(links, windows(size))(tokens.features, tokens, keep).labels[0]
    parts = torch.arange(count).split(size)
    shares = [len(labels[part].unique()) for part in parts]
    assert sum(shares) == keep and min(shares) >= 1
    for part, own in zip(parts, shares, strict=True):
        assert own == len(part) or own >= max(shares) - 1  # only a window that is used up may fall behind
    assert members(labels) == by_hand(links, tokens, list(parts), shares)


@merging
@pytest.mark.parametrize("keep", [1, 2, 5])
def test_fewer_groups_than_windows_take_rounds(name, keep):
    tokens = stack([record(100), record(37, 1), record(8, 2)])
    grouping = within(REDUCTIONS[name], windows(4))(tokens.features, tokens, keep)
    merged = merge(tokens, grouping)
    if name in AT_MOST:
        assert ((merged.counts >= 1) & (merged.counts <= keep)).all()
    else:
        assert merged.counts.tolist() == [keep, keep, keep]
    assert torch.equal(merged.sizes.sum(1), tokens.sizes.sum(1))
    assert torch.equal(grouping.labels >= 0, tokens.mask)


def test_more_windows_than_are_grouped_at_once_change_nothing():
    count = 200_000
    x = torch.randn(1, count, 2, generator=torch.Generator().manual_seed(0))
    whole, parts = (
        Tokens(y, torch.zeros(*y.shape[:2], 1), torch.ones(y.shape[:2]), torch.full((len(y), 1), -1))
        for y in (x, x.view(-1, 8, 2))
    )
    inside = links(parts.features, parts, 2).labels + 2 * torch.arange(count // 8)[:, None]
    assert torch.equal(within(links, windows(8))(x, whole, count // 4).labels, inside.view(1, -1))


def test_a_window_over_everything_changes_nothing():
    tokens = record(20)
    got = within(peaks, windows(20))(tokens.features, tokens, 6).labels[0]
    assert members(got) == members(peaks(tokens.features, tokens, 6).labels[0])


@every_method
@pytest.mark.parametrize("divide", [windows(5), windows(5, "curve"), cells(6.0)])
def test_a_record_alone_is_the_record_in_any_batch_with_nan_in_its_padding(name, divide):
    records = [record(count, count, axes=3) for count in (23, 4, 1)]
    tokens = stack(records)
    pad = ~tokens.mask[..., None]
    x, places = tokens.features.masked_fill(pad, torch.nan), tokens.positions.masked_fill(pad, torch.nan)
    tokens = Tokens(x, places, tokens.sizes, tokens.source)
    keep = torch.tensor([18, 4, 1])
    together = within(REDUCTIONS[name], divide)(tokens.features, tokens, keep).labels
    for b, alone in enumerate(records):
        count = alone.sizes.shape[1]
        by_itself = within(REDUCTIONS[name], divide)(alone.features, alone, int(keep[b])).labels[0]
        assert together[b, :count].tolist() == by_itself.tolist()
        assert (together[b, count:] == -1).all()


def test_a_record_of_padding_only_stays_empty():
    tokens = record(6)
    empty = Tokens(tokens.features * torch.nan, tokens.positions, tokens.sizes * 0, tokens.source * 0 - 1)
    for divide in (windows(4), cells(1.0)):
        assert (within(peaks, divide)(empty.features, empty, 2).labels == -1).all()


# Cells ------------------------------------------------------------------------------------------------------


@merging
@pytest.mark.parametrize("axes", [1, 3])
def test_no_two_tokens_of_a_group_are_farther_apart_than_the_radius(name, axes):
    tokens, radius = record(60, 3, axes), 15.0 if axes == 1 else 6.0
    grouping = within(REDUCTIONS[name], cells(radius))(tokens.features, tokens, 50)
    for group in members(grouping.labels[0]):
        places = tokens.positions[0, sorted(group)]
        assert torch.cdist(places, places).max() <= radius
    count = len(members(grouping.labels[0]))
    assert count <= 50 and (name in AT_MOST or count == 50)


def test_cells_are_grouped_as_records_of_their_own():
    """Cells of width 2 from the lowest place, 1: [1, 3), [3, 5), [5, 7): tokens 0 2 5, tokens 1 4, token 3."""
    x = torch.tensor([[[1.0, 0], [1, 0], [0, 1], [1, 0], [1, 0.1], [1, 0.1]]])
    places = torch.tensor([1.0, 3.0, 2.5, 6.9, 4.9, 1.2]).view(1, 6, 1)
    tokens = Tokens(x, places, torch.ones(1, 6), torch.arange(6)[None])
    assert within(peaks, cells(2.0))(x, tokens, 3).labels.tolist() == [[0, 1, 0, 2, 1, 0]]
    assert within(peaks, cells(2.0))(x, tokens, 5).labels.tolist() == [[0, 1, 2, 3, 4, 0]]


def test_a_radius_over_everything_changes_nothing():
    tokens = record(20, axes=3)
    got = within(peaks, cells(100.0))(tokens.features, tokens, 6).labels[0]
    assert members(got) == members(peaks(tokens.features, tokens, 6).labels[0])


@pytest.mark.parametrize("far", [2.0**20, 1e9])
def test_the_radius_holds_in_a_record_a_million_times_as_wide_or_is_refused(far):
    """A genome is 10^9 bases long: tokens 3 bases apart at its far end are as far apart as at its start."""
    places = torch.tensor([0.0, 3.0, 6.0, far, far + 3, far + 6], dtype=torch.float64).view(1, 6, 1)
    tokens = Tokens(torch.ones(1, 6, 2), places, torch.ones(1, 6), torch.arange(6)[None])
    with contextlib.suppress(InputError):
        labels = within(peaks, cells(1.0))(tokens.features, tokens, 5).labels[0]
        for group in members(labels):
            assert torch.cdist(places[0, sorted(group)], places[0, sorted(group)]).max() <= 1


def test_fewer_groups_than_cells_are_refused():
    tokens = stack([record(10, 0), record(6, 1)])
    message = r"leave a group to each part \(got \d+ parts that groups may not cross\): keep more, or use a larger"
    with pytest.raises(InputError, match=message):
        within(bipartite, cells(1e-3))(tokens.features, tokens, 2)


# Protection -------------------------------------------------------------------------------------------------


@every_method
def test_protected_tokens_are_alone_and_the_rest_is_what_the_method_does_without_them(name):
    tokens, group = record(20, 4), REDUCTIONS[name]
    alone = torch.zeros(1, 20, dtype=torch.bool)
    alone[0, [0, 3, 4, 11, 19]] = True
    grouping = protect(group, alone)(tokens.features, tokens, 12)
    labels, others = grouping.labels[0], (~alone[0]).nonzero().flatten()
    expected = by_hand(group, tokens, [others], [7]) | {frozenset([place]) for place in (0, 3, 4, 11, 19)}
    assert members(labels) == expected and grouping.num_groups == 12
    merged = merge(tokens, grouping)
    assert torch.equal(merged.features[0, labels[alone[0]]], tokens.features[0, alone[0]])  # bit-equal
    assert torch.equal(merged.positions[0, labels[alone[0]]], tokens.positions[0, alone[0]])
    first = sorted(min(places) for places in expected)
    assert labels[first].tolist() == list(range(len(first)))


@every_method
def test_protecting_nobody_changes_nothing(name):
    tokens = stack([record(12), record(7, 1)])
    nobody = torch.zeros(2, 12, dtype=torch.bool)
    got = protect(REDUCTIONS[name], nobody)(tokens.features, tokens, 4).labels
    expected = REDUCTIONS[name](tokens.features, tokens, 4).labels
    assert [members(row) for row in got] == [members(row) for row in expected]


def test_protecting_all_is_the_identity():
    tokens = record(6)
    everybody = torch.ones(1, 6, dtype=torch.bool)
    assert protect(peaks, everybody)(tokens.features, tokens, 6).labels.tolist() == [list(range(6))]


def test_protected_padding_stays_padding():
    tokens = stack([record(6), record(3, 1)])
    everybody = torch.ones(2, 6, dtype=torch.bool)
    got = protect(peaks, everybody)(tokens.features, tokens, torch.tensor([6, 3])).labels
    assert got.tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, 2, -1, -1, -1]]


@pytest.mark.parametrize(
    ("number", "keep", "least"),
    [(4, 3, 5), (4, 4, 5), (8, 7, 8)],  # with all 8 protected none is left to need a group
)
def test_more_protected_tokens_than_the_budget_are_refused(number, keep, least):
    tokens = stack([record(10), record(8, 1)])
    alone = torch.arange(10).expand(2, 10) < torch.tensor([[1], [number]])
    message = f"of at least {least} (got {keep}): record 1 has {number} protected tokens and {8 - number} others."
    with pytest.raises(InputError, match=re.escape(message)):
        protect(links, alone)(tokens.features, tokens, keep)


@pytest.mark.parametrize("wrong", [torch.zeros(1, 5, dtype=torch.bool), torch.zeros(1, 6), torch.zeros(6).bool()])
def test_a_mask_for_other_tokens_is_refused(wrong):
    tokens = record(6)
    with pytest.raises(InputError, match=r"protected tokens as bool of shape \(1, 6\)"):
        protect(links, wrong)(tokens.features, tokens, 3)


def test_the_loudest_are_those_of_largest_norm_and_their_share_is_rounded_down():
    x = torch.tensor([[[3.0], [-9], [1], [5], [4]], [[1.0], [2], [3], [torch.nan], [torch.inf]]])
    mask = torch.tensor([[1.0] * 5, [1, 1, 1, 0, 0]])
    source = torch.arange(5).expand(2, 5).masked_fill(mask == 0, -1)
    tokens = Tokens(x, torch.zeros(2, 5, 1), mask, source)
    expected = {
        0.0: [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
        0.2: [[0, 1, 0, 0, 0], [0, 0, 0, 0, 0]],
        0.5: [[0, 1, 0, 1, 0], [0, 0, 1, 0, 0]],
        0.99: [[1, 1, 0, 1, 1], [0, 1, 1, 0, 0]],
    }
    for share, which in expected.items():
        assert loudest(share)(x, tokens).long().tolist() == which


def test_a_tenth_of_ten_is_one():
    for tenths in range(1, 10):
        tokens = record(10)
        assert int(loudest(tenths / 10)(tokens.features, tokens).sum()) == tenths
        hundred = record(100)
        assert int(loudest(tenths / 10)(hundred.features, hundred).sum()) == 10 * tenths


def test_the_loudest_of_the_metric_are_protected_whatever_the_features():
    tokens = record(8)
    metric = torch.ones(1, 8, 2)
    metric[0, 5] = 7
    labels = protect(links, loudest(0.125))(metric, tokens, 2).labels[0]
    assert members(labels) == {frozenset([5]), frozenset([0, 1, 2, 3, 4, 6, 7])}


# Together ---------------------------------------------------------------------------------------------------


@merging
def test_protection_and_windows_combine(name):
    tokens = record(26, 5)
    group = protect(within(REDUCTIONS[name], windows(6)), loudest(0.08))
    labels = group(tokens.features, tokens, 10).labels[0]
    alone = loudest(0.08)(tokens.features, tokens)[0]
    others = (~alone).nonzero().flatten()  # 24, so 4 windows of 6, 2 groups each
    expected = by_hand(REDUCTIONS[name], tokens, list(others.split(6)), [2, 2, 2, 2])
    assert members(labels) == expected | {frozenset([place]) for place in alone.nonzero().flatten().tolist()}


def test_windows_may_hold_protection():
    """The loudest token of each window of 5 is protected: 1 of 5 is a fifth."""
    tokens = record(20, 6)
    group = within(protect(peaks, loudest(0.2)), windows(5))
    labels = group(tokens.features, tokens, 8).labels[0]
    sizes = labels.bincount()
    norms = tokens.features[0].norm(dim=1)
    for window in torch.arange(20).split(5):
        assert sizes[labels[window[norms[window].argmax()]]] == 1
    assert len(sizes) == 8


def test_options_come_by_partial():
    tokens = record(20, 7)
    group = partial(peaks, neighbours=3)
    got = within(group, windows(10))(tokens.features, tokens, 6).labels[0]
    assert members(got) == by_hand(group, tokens, list(torch.arange(20).split(10)), [3, 3])


@every_method
@pytest.mark.parametrize("wrap", [lambda g: within(g, windows(4)), lambda g: within(g, cells(1.0)), None])
def test_one_token_stays_itself(name, wrap):
    tokens = record(1)
    group = wrap(REDUCTIONS[name]) if wrap else protect(REDUCTIONS[name], loudest(0.5))
    assert group(tokens.features, tokens, 1).labels.tolist() == [[0]]


def test_none_leaves_every_token_alone_in_parts_and_beside_protected_ones():
    """It ignores its budget, so it is asked for all of it."""
    tokens = record(12)
    for group in (within(REDUCTIONS["none"], windows(5)), protect(REDUCTIONS["none"], loudest(0.2))):
        assert group(tokens.features, tokens, 12).labels.tolist() == [list(range(12))]


# Refusals ---------------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("wrap", [lambda g: within(g, windows(4)), lambda g: protect(g, loudest(0.2))])
@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (6, "Expected 'keep' in [1, 5] (got 6): record 1 has 5 tokens"),
        (0, "Expected 'keep' in [1, 7] (got 0)"),
        (0.5, "(got 0.5): for a share, use a ratio."),
    ],
)
def test_a_budget_that_cannot_be_met_is_refused(name, wrap, keep, message):
    tokens = stack([record(7), record(5, 1)])
    with pytest.raises(InputError, match=re.escape(message)):
        wrap(REDUCTIONS[name])(tokens.features, tokens, keep)


@pytest.mark.parametrize(("size", "along"), [(1, "order"), (0, "order"), (2.0, "order"), (True, "order"), (4, "time")])
def test_windows_that_are_none_are_refused(size, along):
    with pytest.raises(InputError, match=re.escape(f"(got {size!r} and {along!r})")):
        windows(size, along)


@pytest.mark.parametrize("radius", [0, -1.0, float("nan")])
def test_a_radius_that_is_none_is_refused(radius):
    with pytest.raises(InputError, match=re.escape(f"'radius' > 0 (got {radius!r})")):
        cells(radius)


@pytest.mark.parametrize("share", [-0.1, 1.0, 2, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(InputError, match=re.escape(f"'share' in [0, 1) (got {share!r})")):
        loudest(share)


def test_none_stays_none_in_windows_and_with_protected_tokens():
    tokens = Tokens(torch.randn(1, 9, 4), torch.arange(9.0).view(1, 9, 1), torch.ones(1, 9), torch.arange(9)[None])
    for group in (within(none, windows(4)), protect(none, loudest(0.3))):
        assert group(tokens.features, tokens, 3).labels.tolist() == [list(range(9))]
