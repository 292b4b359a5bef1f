"""The laws of reduction, stated once, for every method: a new one is tested by adding its name to REDUCTIONS."""

import re
from dataclasses import replace
from functools import partial
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.errors import InputError
from tokred_sci.experiment import REDUCTIONS
from tokred_sci.reduction import chain, control, density, graph
from tokred_sci.reduction.merge import merge, unmerge
from tokred_sci.tokens import Tokens, stack

KEEPS_ORDER = ["links", "chunks", "local", "contract", "stride", "random", "truncate", "topk", "none"]  # runs, in order
AT_MOST = ["voxel", "hdbscan", "shift"]  # the count follows the data, `keep` bounds it
PRUNES = ["truncate", "topk"]  # and say so: label -1, source -1
NEIGHBOURS = ["links", "chunks", "local", "contract", "knn", "bins", "voxel"]
LINEAR = [*NEIGHBOURS, "stride", "random", "truncate", "topk", "none"]
BUDGETED = [name for name in REDUCTIONS if name != "none"]  # `none` ignores its budget by design

every_method = pytest.mark.parametrize("name", REDUCTIONS)
merging = pytest.mark.parametrize("name", [name for name in REDUCTIONS if name not in PRUNES])
law = settings(max_examples=15, deadline=None, derandomize=True)
some_counts = st.lists(st.integers(1, 24), min_size=1, max_size=4)
seeds = st.integers(0, 2**31)
shares = st.floats(0.01, 1.0)


def record(count, seed=0, dim=6, axes=1, values=None):
    """One record of `count` tokens of 1 to 3 elements each, in mixed order; 0 tokens = all padding."""
    draw = torch.Generator().manual_seed(seed)
    real = max(1, count)
    x = torch.randn(real, dim, generator=draw, dtype=torch.float64)
    places = torch.randn(real, axes, generator=draw, dtype=torch.float64).cumsum(0)
    sizes = torch.randint(1, 4, (real,), generator=draw)
    source = torch.arange(real).repeat_interleave(sizes)
    source = source[torch.randperm(len(source), generator=draw)]
    if count == 0:
        sizes, source = sizes * 0, source * 0 - 1
    return Tokens((x if values is None else values)[None], places[None], sizes.float()[None], source[None])


def batch_of(counts, seed=0, **kwargs):
    return stack([record(count, seed + i, **kwargs) for i, count in enumerate(counts)])


def budget_for(name, counts, share):
    """A budget that differs between records, and what the method should make of it."""
    counts = torch.as_tensor(counts)
    if name == "none":
        return counts, counts
    keep = (counts * torch.linspace(share, 1, len(counts))).ceil().long().clamp(min=1)
    return keep, torch.minimum(keep, counts)


def group(name, tokens, keep, metric=None):
    return REDUCTIONS[name](tokens.features if metric is None else metric, tokens, keep)


def with_padding(tokens, value):
    pad = ~tokens.mask[..., None]
    return replace(
        tokens,
        features=tokens.features.masked_fill(pad, value),
        positions=tokens.positions.masked_fill(pad, value),
    )


def spread(tokens, seed, extra=4, fill=torch.nan):
    """The same tokens with `extra` padding between them, before and after; and where each went."""
    draw = torch.Generator().manual_seed(seed)
    batch, length = tokens.sizes.shape
    at = torch.stack([torch.randperm(length + extra, generator=draw)[:length].sort()[0] for _ in range(batch)])

    def move(field, empty):
        wide = field.new_full((batch, length + extra, *field.shape[2:]), empty)
        return wide.scatter(1, at.view(batch, length, *[1] * (field.ndim - 2)).expand_as(field), field)

    source = torch.where(tokens.source < 0, -1, at.gather(1, tokens.source.clamp(min=0)))
    moved = Tokens(move(tokens.features, fill), move(tokens.positions, fill), move(tokens.sizes, 0), source)
    return moved, at


def bincount(tokens):
    counted = [torch.bincount(row[row >= 0], minlength=tokens.sizes.shape[1]) for row in tokens.source]
    return torch.stack(counted).float()


def used(grouping):
    return [len(row[row >= 0].unique()) for row in grouping.labels]


def check_count(name, grouping, expected):
    if name in AT_MOST:
        assert all(0 < got <= most for got, most in zip(used(grouping), expected.tolist(), strict=True))
    else:
        assert used(grouping) == expected.tolist()


def canonical(labels):
    """Group names in order of first appearance: two partitions are the same if these are."""
    names = {}
    return [names.setdefault(label, len(names)) for label in labels.tolist()]


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


# Counting, mass, bookkeeping --------------------------------------------------------------------------------


@every_method
@law
@given(counts=some_counts, seed=seeds, share=shares)
def test_every_record_gets_exactly_the_groups_it_asked_for(name, counts, seed, share):
    tokens = batch_of(counts, seed)
    keep, expected = budget_for(name, counts, share)
    grouping = group(name, tokens, keep)
    check_count(name, grouping, expected)
    assert grouping.num_groups == max(expected)
    for row, groups in zip(grouping.labels, used(grouping), strict=True):
        assert row.max() == groups - 1  # names 0 .. groups - 1, no gaps
    if name in PRUNES:
        assert torch.equal((grouping.labels >= 0).sum(1), expected) and not (grouping.labels[~tokens.mask] >= 0).any()
    else:
        assert torch.equal(grouping.labels >= 0, tokens.mask)


@merging
@law
@given(counts=some_counts, seed=seeds, share=shares)
def test_mass_is_kept_and_sizes_count_the_source_after_several_merges(name, counts, seed, share):
    start = tokens = batch_of(counts, seed, axes=3)
    composed = torch.arange(tokens.sizes.shape[1]).expand_as(tokens.sizes).masked_fill(~tokens.mask, -1)
    for _ in range(3):
        keep, _ = budget_for(name, tokens.counts, share)
        grouping = group(name, tokens, keep)
        composed = torch.where(composed < 0, -1, grouping.labels.gather(1, composed.clamp(min=0)))
        tokens = merge(tokens, grouping)
        assert torch.equal(tokens.sizes.sum(1), start.sizes.sum(1))
        assert torch.equal(tokens.sizes, bincount(tokens))
        assert torch.equal(tokens.source >= 0, start.source >= 0)  # no element dropped, none invented
    for b, row in enumerate(composed):  # the mean over all that went in, however many merges it took
        for g in range(int(tokens.counts[b])):
            weight = start.sizes[b, row == g].double()[:, None]
            for now, then in ((tokens.features, start.features), (tokens.positions, start.positions)):
                close(now[b, g], (then[b, row == g] * weight).sum(0) / weight.sum())


@every_method
@law
@given(counts=some_counts, seed=seeds, share=shares)
def test_merge_undoes_unmerge(name, counts, seed, share):
    tokens = batch_of(counts, seed)
    grouping = group(name, tokens, budget_for(name, counts, share)[0])
    z = torch.randn(len(counts), grouping.num_groups, 3, dtype=torch.float64)
    merged = merge(replace(tokens, features=unmerge(z, grouping)), grouping)
    close(merged.features, z.masked_fill(~merged.mask[..., None], 0))


@pytest.mark.parametrize("name", [name for name in REDUCTIONS if name not in AT_MOST])
@law
@given(count=st.integers(1, 24), seed=seeds)
def test_keeping_all_is_the_identity_up_to_names(name, count, seed):
    tokens = record(count, seed)
    grouping = group(name, tokens, count)
    assert grouping.labels[0].sort()[0].tolist() == list(range(count))
    merged = merge(tokens, grouping)
    for field in ("features", "positions"):
        now, then = getattr(merged, field), getattr(tokens, field)
        assert torch.equal(now[0, grouping.labels[0]], then[0])  # bit-equal
    if name in ("none", *KEEPS_ORDER, "bipartite"):
        assert grouping.labels[0].tolist() == list(range(count))


@pytest.mark.parametrize("name", KEEPS_ORDER)
@law
@given(counts=some_counts, seed=seeds, share=shares)
def test_order_is_kept_where_promised(name, counts, seed, share):
    tokens, _ = spread(batch_of(counts, seed), seed)
    for row in group(name, tokens, budget_for(name, counts, share)[0]).labels:
        steps = row[row >= 0].diff()
        assert (steps >= 0).all() and (name == "none" or (steps <= 1).all())


# Padding and batches ----------------------------------------------------------------------------------------


@every_method
@law
@given(counts=some_counts, seed=seeds, share=shares)
def test_a_record_alone_is_the_record_in_any_batch(name, counts, seed, share):
    tokens = batch_of(counts, seed)
    keep, _ = budget_for(name, counts, share)
    together = group(name, tokens, keep)
    merged = merge(tokens, together)
    for b, count in enumerate(counts):
        alone = record(count, seed + b)
        by_itself = group(name, alone, int(keep[b]))  # a tensor of budgets = an int on each alone
        assert together.labels[b, :count].tolist() == by_itself.labels[0].tolist()
        one = merge(alone, by_itself)
        for field in ("features", "positions", "sizes"):
            close(getattr(merged[b], field), getattr(one[0], field))
        assert torch.equal(merged[b].source, one[0].source)


@every_method
@law
@given(counts=some_counts, seed=seeds, share=shares)
def test_padding_anywhere_changes_nothing_even_with_nan_inside(name, counts, seed, share):
    tokens = batch_of(counts, seed)
    wide, at = spread(with_padding(tokens, torch.nan), seed)
    keep, _ = budget_for(name, counts, share)
    narrow, moved = group(name, tokens, keep), group(name, wide, keep)
    a, b = merge(tokens, narrow), merge(wide, moved)
    for row in range(len(counts)):
        there = tokens.mask[row]
        assert canonical(moved.labels[row, at[row][there]]) == canonical(narrow.labels[row, there])
        close(b[row].features, a[row].features)
        close(b[row].positions, a[row].positions)
        assert torch.equal(b[row].source, a[row].source)
    if name != "none":  # which leaves every token, and every gap, where it is
        assert torch.equal(moved.labels.gather(1, at), narrow.labels)
    assert b.features.isfinite().all() and b.positions.isfinite().all()


@every_method
def test_nan_in_padding_has_no_effect_on_gradients(name):
    tokens = batch_of([5, 9, 2], seed=1)
    grads = []
    for value in (0.0, torch.nan, torch.inf):
        dirty = with_padding(tokens, value)
        x, p = dirty.features.clone().requires_grad_(), dirty.positions.clone().requires_grad_()
        grouping = group(name, dirty, torch.tensor([3, 4, 2]), metric=x)
        merged = merge(replace(dirty, features=x, positions=p), grouping)
        (merged.features.sin().sum() + merged.positions.sin().sum()).backward()
        grads.append((x.grad, p.grad))
    for x_grad, p_grad in grads:
        assert torch.equal(x_grad, grads[0][0]) and torch.equal(p_grad, grads[0][1])
        assert (x_grad[~tokens.mask] == 0).all() and (p_grad[~tokens.mask] == 0).all()


@every_method
@pytest.mark.parametrize("counts", [[0], [0, 5], [4, 0, 0]])
@pytest.mark.parametrize("keep", [1, 3])
def test_a_record_of_padding_only_gives_zeros_and_finite_gradients(name, counts, keep):
    tokens = with_padding(batch_of(counts, seed=2), torch.nan)
    x = tokens.features.clone().requires_grad_()
    grouping = group(name, tokens, keep, metric=x)
    merged = merge(replace(tokens, features=x), grouping)
    empty = torch.tensor(counts) == 0
    assert (grouping.labels[empty] == -1).all()
    assert (merged.features[empty] == 0).all() and (merged.sizes[empty] == 0).all()
    unmerge(merged.features, grouping).sin().sum().backward()
    assert x.grad.isfinite().all() and (x.grad[empty] == 0).all()


@pytest.mark.parametrize("name", PRUNES)
@law
@given(counts=some_counts, seed=seeds, share=shares)
def test_pruning_says_what_it_dropped(name, counts, seed, share):
    tokens = batch_of(counts, seed)
    grouping = group(name, tokens, budget_for(name, counts, share)[0])
    merged = merge(tokens, grouping)
    kept = grouping.labels >= 0
    assert torch.equal(merged.sizes, bincount(merged))
    for b in range(len(counts)):
        assert torch.equal(merged[b].features[0], tokens.features[b, kept[b]])  # bit-equal, in order
        gone = ~kept[b] & tokens.mask[b]
        assert (merged.source[b] == -1).sum() == (tokens.source[b] == -1).sum() + int(tokens.sizes[b, gone].sum())


# Determinism ------------------------------------------------------------------------------------------------


@every_method
def test_repeats_are_bit_equal_and_the_global_random_state_is_untouched(name):
    tokens, keep = batch_of([40, 33, 21], seed=3), torch.tensor([13, 20, 5])
    before = torch.get_rng_state()
    first = group(name, tokens, keep)
    features = merge(tokens, first).features
    for _ in range(20):
        again = group(name, tokens, keep)
        assert torch.equal(again.labels, first.labels) and again.num_groups == first.num_groups
        assert torch.equal(merge(tokens, again).features, features)
    assert torch.equal(torch.get_rng_state(), before)


@every_method
def test_arguments_are_left_as_they_were(name):
    tokens, keep = batch_of([9, 4], seed=4), torch.tensor([3, 4])
    fields = [tokens.features, tokens.positions, tokens.sizes, tokens.source, keep]
    copies = [field.clone() for field in fields]
    merge(tokens, group(name, tokens, keep))
    assert all(torch.equal(field, copy) for field, copy in zip(fields, copies, strict=True))


def test_random_takes_its_seed_from_a_generator_or_an_argument():
    tokens = record(50)

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return control.random(tokens.features, tokens, 20, generator=generator).labels

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    one, two = (control.random(tokens.features, tokens, 20, seed=seed).labels for seed in (1, 2))
    assert not torch.equal(one, two)


# Refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (6, "Expected 'keep' in [1, 5] (got 6): record 1 has 5 tokens and cannot keep more."),
        (0, "Expected 'keep' in [1, 7] (got 0): record 0 has 7 tokens and cannot keep fewer than one."),
        (-1, "Expected 'keep' in [1, 7] (got -1)"),
        (torch.tensor([7, 6]), "Expected 'keep' in [1, 5] (got 6): record 1"),
        (torch.tensor([0, 3]), "Expected 'keep' in [1, 7] (got 0): record 0"),
        (0.5, "Expected 'keep' as an int or an integer tensor (got 0.5): for a share, use a ratio."),
        (2.0, "(got 2.0)"),
        (float("nan"), "(got nan)"),
        (True, "(got True)"),
        (None, "(got None)"),
        (torch.tensor([2.0, 2.0]), "of shape (2,), one number per record (got float32 of shape (2,))"),
        (torch.tensor([True, True]), "(got bool of shape (2,))"),
        (torch.tensor([2, 2, 2]), "of shape (2,), one number per record (got int64 of shape (3,))"),
        (torch.tensor(2), "(got int64 of shape ())"),
    ],
)
def test_a_budget_that_cannot_be_met_is_refused(name, keep, message):
    with pytest.raises(InputError, match=re.escape(message)):
        group(name, batch_of([7, 5]), keep)


@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.parametrize("metric", [torch.zeros(2, 6, 3), torch.zeros(2, 7), torch.zeros(2, 7, 3).long()])
def test_a_metric_for_other_tokens_is_refused(name, metric):
    shape = re.escape(f"of shape {tuple(metric.shape)}).")
    with pytest.raises(InputError, match=r"Expected 'metric' as floats of shape \(2, 7, D\).*" + shape):
        group(name, batch_of([7, 5]), 2, metric=metric)


# Awkward values ---------------------------------------------------------------------------------------------

AWKWARD = {
    "zeros": lambda n: torch.zeros(n, 6, dtype=torch.float64),
    "constant": lambda n: torch.full((n, 6), 3.7, dtype=torch.float64),
    "identical": lambda n: torch.randn(1, 6, dtype=torch.float64).expand(n, 6).clone(),
    "two values": lambda n: (torch.arange(n) % 2)[:, None] * torch.ones(n, 6, dtype=torch.float64),
    "duplicates": lambda n: torch.randn(n // 3 + 1, 6, dtype=torch.float64).repeat(3, 1)[:n],
    "some zeros": lambda n: torch.randn(n, 6, dtype=torch.float64) * (torch.arange(n) % 3 > 0)[:, None],
    "opposites": lambda n: torch.ones(n, 6, dtype=torch.float64) * (-1.0) ** torch.arange(n)[:, None],
    "tiny": lambda n: torch.randn(n, 6, dtype=torch.float64) * 1e-20,
    "huge": lambda n: torch.randn(n, 6, dtype=torch.float64) * 1e18,
}


@every_method
@pytest.mark.parametrize("kind", AWKWARD)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_ties_zeros_and_extremes_give_exact_counts_and_finite_features(name, kind, dtype):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokens = stack([record(n, n, values=AWKWARD[kind](n)) for n in (1, 2, 3, 17, 32)]).to(dtype)
    for share in (0.01, 0.4, 0.8):
        keep, expected = budget_for(name, tokens.counts, share)
        grouping = group(name, tokens, keep)
        check_count(name, grouping, expected)
        merged = merge(tokens, grouping)
        assert merged.features.isfinite().all() and torch.equal(merged.sizes, bincount(merged))
        assert torch.equal(group(name, tokens, keep).labels, grouping.labels)


@every_method
@pytest.mark.parametrize("kind", ["zeros", "constant", "identical", "two values", "duplicates"])
def test_ties_break_alike_alone_and_in_a_batch(name, kind):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        records = [record(n, n, values=AWKWARD[kind](n)) for n in (2, 5, 17, 32)]
    tokens = stack(records)
    keep, _ = budget_for(name, tokens.counts, 0.4)
    together = group(name, tokens, keep).labels
    for b, alone in enumerate(records):
        count = alone.sizes.shape[1]
        assert together[b, :count].tolist() == group(name, alone, int(keep[b])).labels[0].tolist()


def test_a_zero_token_does_not_swallow_the_merges():
    tokens = record(32, seed=5, dim=16)
    x = tokens.features.clone()
    x[0, 4] = 0
    labels = graph.bipartite(x, tokens, keep=16).labels[0]
    assert (labels == labels[4]).sum() == 1


@every_method
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_in_one_record_stays_in_that_record(name, bad):
    counts, keep = [12, 9, 15], torch.tensor([5, 4, 7])
    clean = batch_of(counts, seed=6)
    x = clean.features.clone()
    x[1, 3, 2] = bad
    dirty = replace(clean, features=x)
    expected, got = group(name, clean, keep), group(name, dirty, keep)
    a, b = merge(clean, expected), merge(dirty, got)
    for row in (0, 2):
        assert torch.equal(got.labels[row], expected.labels[row])
        assert torch.equal(b.features[row], a.features[row])
    if name != "none":
        check_count(name, got, keep)  # even there: no token dropped, none doubled
    assert torch.equal(b.sizes, bincount(b))


def pairs(records=8, count=64, dim=32, twins=2):
    """Well separated families of near twins; the groups any method should find at keep = count / twins."""
    draw = torch.Generator().manual_seed(7)
    centres = torch.randn(records, count // twins, dim, generator=draw)
    x = centres.repeat_interleave(twins, 1) + 0.01 * torch.randn(records, count, dim, generator=draw)
    tokens = stack([record(count, b, dim=dim) for b in range(records)])
    return replace(tokens, features=x), count // twins


@every_method
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_groups_as_float32_does(name, dtype):
    tokens, keep = pairs(twins=16 if name == "hdbscan" else 2)  # which looks for crowds
    expected = group(name, tokens, keep).labels
    got = group(name, tokens, keep, metric=tokens.features.to(dtype)).labels
    together = [labels[:, :, None] == labels[:, None] for labels in (expected, got)]
    assert (together[0] == together[1]).float().mean() >= 0.99  # Rand index: energy and rank choose among near-equals
    assert merge(tokens.to(dtype), group(name, tokens, keep)).features.dtype == dtype


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [2.0**13, 2.0**-13])
def test_large_and_small_values_group_as_plain_ones_do(name, dtype, scale):
    tokens, keep = pairs()
    tokens = replace(tokens, features=tokens.features.to(dtype).float())
    expected = group(name, tokens, keep).labels
    scaled = replace(tokens, features=(tokens.features * scale).to(dtype))
    grouping = group(name, scaled, keep)
    assert (grouping.labels == expected).float().mean() >= 0.99
    assert merge(scaled, grouping).features.isfinite().all()


# Symmetry, size, gradients ----------------------------------------------------------------------------------


@law
@given(counts=some_counts, seed=seeds, share=shares)
def test_peaks_finds_the_same_groups_in_any_order(counts, seed, share):
    keep, _ = budget_for("peaks", counts, share)
    for b, count in enumerate(counts):
        tokens = record(count, seed + b)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        shuffled = replace(
            tokens,
            features=tokens.features[:, order],
            positions=tokens.positions[:, order],
            sizes=tokens.sizes[:, order],
            source=order.argsort()[tokens.source],
        )
        plain = group("peaks", tokens, int(keep[b])).labels[0]
        assert canonical(group("peaks", shuffled, int(keep[b])).labels[0]) == canonical(plain[order])


@pytest.mark.parametrize("name", LINEAR)
def test_local_methods_need_no_square_of_the_length(name):
    count = 200_000  # N x N would be 160 GB
    index = torch.arange(count)
    x = torch.randn(1, count, 8, generator=torch.Generator().manual_seed(8))
    tokens = Tokens(x, index.view(1, count, 1).double(), torch.ones(1, count), index[None])
    keep = count if name == "none" else 50_000
    merged = merge(tokens, group(name, tokens, keep))
    assert merged.counts.tolist() == [keep]


@every_method
def test_merge_and_unmerge_are_differentiable(name):
    tokens = batch_of([7, 4], seed=9, dim=2, axes=3)
    keep = torch.tensor([3, 2])
    grouping = group(name, tokens, keep)
    z = torch.randn(2, grouping.num_groups, 2, dtype=torch.float64, requires_grad=True)
    x, p = tokens.features.clone().requires_grad_(), tokens.positions.clone().requires_grad_()

    def run(x, p):
        merged = merge(replace(tokens, features=x, positions=p), grouping)
        return merged.features, merged.positions

    assert torch.autograd.gradcheck(run, (x, p))
    assert torch.autograd.gradcheck(partial(unmerge, grouping=grouping), (z,))


# Plain references -------------------------------------------------------------------------------------------


def plain_bipartite(x, keep):
    """One round, straight from the paper: even tokens stay; the odd tokens most like an even one join it."""
    count = len(x)
    unit = x / x.norm(dim=-1, keepdim=True)
    similar = unit @ unit.T
    even = list(range(0, count, 2))
    joins = {i: max(even, key=lambda j, i=i: float(similar[i, j])) for i in range(1, count, 2)}
    gone = sorted(joins, key=lambda i: -float(similar[i, joins[i]]))[: count - keep]
    stays = [i for i in range(count) if i not in gone]
    return [stays.index(joins[i] if i in gone else i) for i in range(count)]


@law
@given(count=st.integers(1, 24), seed=seeds, share=st.floats(0.5, 1.0))
def test_bipartite_is_the_published_round(count, seed, share):
    tokens = record(count, seed)
    keep = max(count - count // 2, int(count * share))
    assert graph.bipartite(tokens.features, tokens, keep).labels[0].tolist() == plain_bipartite(
        tokens.features[0], keep
    )


def plain_peaks(x, keep, neighbours):
    """Density peaks with every distance written out, in units of the record's spread."""
    count, dim = x.shape
    x = (x - x.mean(0)) / (x - x.mean(0)).square().mean().sqrt()
    squares = ((x[:, None] - x[None]) ** 2).sum(-1) / dim
    nearest = squares.sort(dim=1)[0][:, : min(neighbours, count)]
    density = (-nearest.mean(1)).exp()
    denser = density[None] > density[:, None]
    separation = squares.sqrt().masked_fill(~denser, torch.inf).amin(1)
    score = (density * separation).masked_fill(separation.isinf(), torch.inf)
    centres = score.argsort(descending=True, stable=True)[:keep].sort()[0]
    labels = squares[:, centres].argmin(1)
    labels[centres] = torch.arange(keep)
    return labels.tolist()


@law  # with 2 neighbours (one is the token itself) mutual neighbours are exactly as dense: ties, no reference
@given(count=st.integers(3, 24), seed=seeds, share=shares, neighbours=st.integers(3, 8))
def test_peaks_is_the_plain_formula(count, seed, share, neighbours):
    tokens, keep = record(count, seed), max(1, int(count * share))
    got = density.peaks(tokens.features, tokens, keep, neighbours=neighbours).labels[0]
    assert got.tolist() == plain_peaks(tokens.features[0], keep, neighbours)


def test_peaks_is_the_plain_formula_beyond_one_block():
    tokens = record(1700, seed=10)  # 1700^2 numbers: more than one block
    got = density.peaks(tokens.features, tokens, 60).labels[0]
    assert got.tolist() == plain_peaks(tokens.features[0], 60, 5)


@law
@given(count=st.integers(1, 9), seed=seeds, share=shares)
def test_links_cuts_the_weakest(count, seed, share):
    tokens, keep = record(count, seed), max(1, int(count * share))
    x = tokens.features[0]
    similar = torch.cosine_similarity(x[1:], x[:-1], dim=-1).tolist()

    def weakest_left(cuts):
        return min((s for i, s in enumerate(similar) if i not in cuts), default=2.0)

    best = max(combinations(range(count - 1), keep - 1), key=weakest_left)
    labels = chain.links(tokens.features, tokens, keep).labels[0].tolist()
    cuts = [i for i in range(count - 1) if labels[i] != labels[i + 1]]
    assert weakest_left(cuts) == weakest_left(best)
    by_weakness = sorted(range(count - 1), key=lambda i: similar[i])  # single linkage joins the rest first
    assert cuts == sorted(by_weakness[: keep - 1])
