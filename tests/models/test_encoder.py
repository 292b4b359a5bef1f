"""The encoder: with every method, padding is inert and nothing is lost."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.experiment import REDUCTIONS
from tokred_sci.models.encoder import Encoder
from tokred_sci.reduction import chain, graph
from tokred_sci.reduction.budget import threshold
from tokred_sci.reduction.merge import merge, to_source, unmerge
from tokred_sci.tokens import Tokens, stack

every_method = pytest.mark.parametrize("name", REDUCTIONS)
PRUNES = ["truncate", "topk"]
AT_MOST = ["voxel", "hdbscan", "shift"]  # the count follows the data, the budget bounds it
DIM = 24


def record(count, seed=0, axes=1):
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 4, (count,), generator=draw)
    x = torch.randn(1, count, DIM, generator=draw, dtype=torch.float64)
    places = torch.randn(1, count, axes, generator=draw, dtype=torch.float64)
    return Tokens(x, places, sizes.float()[None], torch.arange(count).repeat_interleave(sizes)[None])


def padding(axes=1):
    x, places = torch.zeros(1, 1, DIM).double(), torch.zeros(1, 1, axes).double()
    return Tokens(x, places, torch.zeros(1, 1), torch.full((1, 1), -1))


def with_padding(tokens, value):
    pad = ~tokens.mask[..., None]
    features, positions = (t.masked_fill(pad, value) for t in (tokens.features, tokens.positions))
    return replace(tokens, features=features, positions=positions)


def encoder(**kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Encoder(**{"dim": DIM, "depth": 3, "heads": 2, **kwargs}).double()


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def bincount(tokens):
    length = tokens.sizes.shape[1]
    return torch.stack([torch.bincount(row[row >= 0], minlength=length) for row in tokens.source]).float()


@every_method
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("fill", [0.0, torch.nan, torch.inf])
def test_padding_is_inert(name, window, axes, fill):
    model = encoder(window=window, reduce={0: (REDUCTIONS[name], 0.7), 2: (REDUCTIONS[name], 6)})
    records = [record(count, seed, axes) for seed, count in enumerate([11, 23, 1, 6])]
    batch = model(with_padding(stack([*records, padding(axes)]), fill))
    assert batch.features.isfinite().all()
    for b, alone in enumerate(records):
        one = model(alone)[0]
        for field in ("features", "positions", "sizes"):
            close(getattr(batch[b], field), getattr(one, field))
        assert torch.equal(batch[b].source, one.source)


@every_method
@pytest.mark.parametrize("fill", [0.0, torch.nan])
def test_padding_before_and_between_tokens_is_inert(name, fill):
    model, alone = encoder(reduce={1: (REDUCTIONS[name], 4)}), record(7, axes=3)
    at = torch.tensor([1, 2, 5, 6, 7, 9, 10])

    def move(field, empty):
        wide = field.new_full((1, 12, *field.shape[2:]), empty)
        wide[:, at] = field
        return wide

    x, places, sizes = move(alone.features, fill), move(alone.positions, fill), move(alone.sizes, 0)
    wide, one = model(Tokens(x, places, sizes, at[alone.source]))[0], model(alone)[0]
    close(wide.features, one.features)
    close(wide.positions, one.positions)
    assert torch.equal(wide.source, one.source)


@every_method
@pytest.mark.parametrize("window", [None, 4])
def test_a_record_of_padding_only_is_finite_with_finite_gradients(name, window):
    model = encoder(window=window, reduce={0: (REDUCTIONS[name], 0.5), 1: (REDUCTIONS[name], 3)})
    for tokens in (padding(), stack([record(9), padding()])):
        model.zero_grad()
        x = tokens.features.clone().requires_grad_()
        out = model(replace(tokens, features=x))
        assert out.features.isfinite().all() and out.counts[-1] == 0
        out.features.sin().sum().backward()
        assert x.grad.isfinite().all() and (x.grad[-1] == 0).all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@every_method
def test_every_element_is_held_once_on_the_way_out(name):
    tokens = stack([record(20, 1), record(13, 2)])
    model = encoder(reduce={0: (REDUCTIONS[name], 0.5), 1: (REDUCTIONS[name], 0.5), 2: (REDUCTIONS[name], 2)})
    for before, after in pairwise([tokens, *model.trace(tokens)]):
        assert torch.equal(after.sizes, bincount(after))
        held, held_before = after.source >= 0, before.source >= 0
        if name in PRUNES:
            assert not (held & ~held_before).any()  # what was dropped does not come back
        else:
            assert torch.equal(held, held_before)
    if name in AT_MOST:
        assert all(1 <= count <= 2 for count in after.counts.tolist())
    elif name != "none":
        assert after.counts.tolist() == [2, 2]


@pytest.mark.parametrize("name", ["bipartite", "links", "peaks", "stride"])
@pytest.mark.parametrize("metric", ["keys", "features"])
def test_merging_exact_duplicates_changes_no_answer(name, metric):
    once = record(8, seed=3, axes=3)
    twice = Tokens(
        once.features.repeat_interleave(2, 1),
        once.positions.repeat_interleave(2, 1),
        torch.ones(1, 16),
        torch.arange(16)[None],
    )
    chosen = []

    def group(metric, tokens, keep):
        chosen.append(REDUCTIONS[name](metric, tokens, keep))
        return chosen[-1]

    plain, merging = encoder(), encoder(reduce={0: (group, 8)}, metric=metric)
    expected, merged = plain(twice), merging(twice)
    assert merged.sizes.tolist() == [[2.0] * 8]
    close(unmerge(merged.features, chosen[0]), expected.features)
    close(to_source(merged), to_source(expected))
    before = encoder(depth=3)(merge(twice, chosen[0]))  # merged before the first block: the same again
    close(unmerge(before.features, chosen[0]), expected.features)


@every_method
def test_repeats_are_bit_equal_and_the_global_random_state_is_untouched(name):
    model, tokens = encoder(reduce={0: (REDUCTIONS[name], 0.5)}), stack([record(20, 1), record(13, 2)])
    state = torch.get_rng_state()
    first = model(tokens)
    for _ in range(5):
        again = model(tokens)
        assert torch.equal(again.features, first.features) and torch.equal(again.source, first.source)
    assert torch.equal(torch.get_rng_state(), state)


def test_positions_and_units_count_by_differences():
    tokens = record(9)
    tokens = replace(tokens, positions=torch.arange(9.0, dtype=torch.float64).view(1, 9, 1) * 16)
    model = encoder(unit=16.0, window=3, reduce={1: (chain.links, 4)})
    far = model(replace(tokens, positions=tokens.positions + 1_000_000 * 16))
    close(far.features, model(tokens).features)
    steps = encoder(unit=1.0, window=3, reduce={1: (chain.links, 4)})
    close(steps(replace(tokens, positions=tokens.positions / 16)).features, model(tokens).features)


def test_trace_tells_each_step():
    model, tokens = (
        encoder(reduce={1: (chain.links, 5)}),
        with_padding(stack([record(9), record(4)]), torch.nan),
    )
    steps = model.trace(tokens)
    assert [step.sizes.shape[1] for step in steps] == [9, 9, 5, 5]
    assert [step.counts.tolist() for step in steps] == [[9, 4], [9, 4], [5, 4], [5, 4]]
    assert torch.equal(steps[0].features[tokens.mask], tokens.features[tokens.mask])
    assert torch.equal(steps[-1].features, model(tokens).features)
    assert tokens.features[~tokens.mask].isnan().all()  # the caller's value is left alone


def test_windows_end_with_the_block_that_merges_first():
    model = encoder(depth=4, window=5, reduce={1: (chain.links, 5), 3: (chain.links, 2)})
    assert [block.attention.window for block in model.blocks] == [5, 5, None, None]
    assert [block.attention.window for block in encoder(window=5).blocks] == [5, 5, 5]


def test_budgets_are_numbers_shares_or_functions():
    tokens = stack([record(10), record(4)])
    for budget, counts in ((3, [3, 3]), (0.5, [5, 2]), (threshold(1.0), [10, 4]), (threshold(-1.0), [1, 1])):
        assert encoder(reduce={0: (chain.links, budget)})(tokens).counts.tolist() == counts


def test_one_token_passes():
    assert encoder(window=4, reduce={0: (graph.bipartite, 0.5)})(record(1)).features.isfinite().all()


@pytest.mark.parametrize("name", ["bipartite", "links", "peaks"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_runs_and_learns(name, dtype):
    model = encoder(reduce={0: (REDUCTIONS[name], 0.5)}, window=4, qk_norm=True).to(dtype)
    out = model(stack([record(20, 1), record(13, 2), padding()]).to(dtype))
    assert out.features.dtype == dtype and out.features.isfinite().all()
    out.features.float().sin().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("block", [3, -1])
def test_a_block_that_does_not_exist_is_refused(block):
    with pytest.raises(InputError, match=rf"blocks to reduce in \[0, 3\) \(got \[{block}\]\): blocks count from 0"):
        encoder(reduce={block: (chain.links, 4)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unit": 0.0}, r"'unit' > 0 \(got 0.0\)"),
        ({"unit": float("nan")}, r"'unit' > 0 \(got nan\)"),
        ({"metric": "values"}, r"'metric' to be 'keys' or 'features' \(got 'values'\)"),
        ({"heads": 5}, r"'dim' divisible by 2 \* heads"),
        ({"window": 0}, r"'window' >= 1"),
        ({"reduce": {0: (chain.links, 0)}}, r"a whole number >= 1 \(got 0\)"),
        ({"reduce": {0: (chain.links, 1.5)}}, r"a ratio in \(0, 1\] \(got 1.5\)"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        encoder(**settings)


@pytest.mark.parametrize("places", ["rank", 20.0])
def test_places_by_rank_or_stretch_do_not_see_scale_or_padding(places):
    model = encoder(reduce={1: (REDUCTIONS["links"], 5)}, places=places)
    records = [record(count, seed) for seed, count in enumerate([11, 23, 6])]
    batch = model(with_padding(stack(records), torch.nan))
    for b, alone in enumerate(records):
        close(batch[b].features, model(alone)[0].features)
        wider = replace(alone, positions=37.0 * alone.positions + 5)
        close(model(wider).features, model(alone).features)
    assert not torch.allclose(encoder(reduce={1: (REDUCTIONS["links"], 5)})(wider).features, model(wider).features)


def test_ranks_inside_a_window_stay_real():
    blocks = encoder(window=4, reduce={0: (REDUCTIONS["links"], 5)}, places="rank").blocks
    assert [block.places for block in blocks] == ["real", "rank", "rank"]


@pytest.mark.parametrize("places", ["ranks", 0.0, -1])
def test_unknown_places_are_refused(places):
    with pytest.raises(InputError, match="places"):
        encoder(places=places)
