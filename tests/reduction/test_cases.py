"""Cases 23 to 33 of the reliability list, one readable test each, for every method the case is about.

The laws behind them are tested in depth in `test_laws.py`; here is the stated pass criterion and nothing else.
Randomised cases draw n = 322 records: 14 for each of the 23 methods.
"""

import re
from functools import partial

import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.experiment import REDUCTIONS
from tokred_sci.reduction import budget, density, where
from tokred_sci.reduction.merge import merge, to_source, unmerge
from tokred_sci.tokens import Grouping, Tokens, stack

DRAWS = 14
AT_MOST = ["voxel", "hdbscan", "shift"]  # the count follows the data, `keep` bounds it
PRUNES = ["truncate", "topk"]
ORDERED = ["links", "chunks", "local", "contract", "stride", "random", "truncate", "topk", "none"]
POINT_SETS = ["peaks", "rank", "energy", "agglomerative", "knn", "contract", "bins", "voxel", "dbscan", "hdbscan"]
EVEN = [
    "bipartite",
    "local",
    "energy",
    "links",
    "chunks",
    "knn",
    "contract",
    "bins",
    "peaks",
    "medoids",
    "cover",
    "fps",
    "stride",
]
LINEAR = ["none", "links", "chunks", "local", "contract", "knn", "bins", "voxel", "stride", "random", *PRUNES]
SQUARE = ["agglomerative", "dbscan"]

every_method = pytest.mark.parametrize("name", REDUCTIONS)
budgeted = pytest.mark.parametrize("name", [name for name in REDUCTIONS if name != "none"])  # it ignores its budget


def record(count, seed, axes=1, dtype=torch.float64):
    """One record of `count` tokens of 1 to 3 elements each."""
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 4, (count,), generator=draw)
    x = torch.randn(1, count, 6, generator=draw, dtype=torch.float64)
    places = torch.randn(1, count, axes, generator=draw, dtype=torch.float64)
    return Tokens(x.to(dtype), places, sizes.float()[None], torch.arange(count).repeat_interleave(sizes)[None])


def lengths(draws=DRAWS):
    """Lengths of `draws` records between 1 and 40, the same at every run."""
    return torch.randint(1, 41, (draws,), generator=torch.Generator().manual_seed(draws)).tolist()


def group(name, tokens, keep, **options):
    return REDUCTIONS[name](tokens.features, tokens, keep, **options)


def halves(name, tokens):
    return tokens.counts if name == "none" else (tokens.counts + 1) // 2


def members(labels):
    """The partition as a set of sets of places."""
    return {frozenset((labels == g).nonzero().flatten().tolist()) for g in labels[labels >= 0].unique()}


def with_padding(tokens, value):
    pad = ~tokens.mask[..., None]
    x, places = tokens.features.masked_fill(pad, value), tokens.positions.masked_fill(pad, value)
    return Tokens(x, places, tokens.sizes, tokens.source)


def families(twins, dtype=torch.float32, scale=1.0):
    """Well separated families of near twins, neighbours in order and in space."""
    draw = torch.Generator().manual_seed(7)
    centres = torch.randn(8, 64 // twins, 32, generator=draw).repeat_interleave(twins, 1)
    x = centres + 0.01 * torch.randn(8, 64, 32, generator=draw)
    places = torch.arange(64.0).view(1, 64, 1).repeat(8, 1, 1)
    return Tokens((x * scale).to(dtype), places, torch.ones(8, 64), torch.arange(64).repeat(8, 1))


@every_method
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_case_23_padding_and_batch(name, dtype, error):
    """A record alone = in any batch with any padding: same groups, features within `error`."""
    records = [record(count, seed, dtype=dtype) for seed, count in enumerate(lengths())]
    tokens = with_padding(stack(records), torch.nan)
    together = group(name, tokens, halves(name, tokens))
    merged = merge(tokens, together)
    for b, alone in enumerate(records):
        by_itself = group(name, alone, halves(name, alone))
        assert together.labels[b, : alone.sizes.shape[1]].tolist() == by_itself.labels[0].tolist()
        assert (together.labels[b, alone.sizes.shape[1] :] == -1).all()
        one = merge(alone, by_itself)
        torch.testing.assert_close(merged[b].features, one[0].features, rtol=error, atol=error)


@every_method
def test_case_24_a_record_of_padding_only(name):
    """Zeros, finite gradients."""
    tokens = stack([record(9, 0), record(4, 1)])
    tokens = Tokens(tokens.features, tokens.positions, tokens.sizes * torch.tensor([[1.0], [0.0]]), tokens.source)
    x = with_padding(tokens, torch.nan).features.requires_grad_()
    tokens = Tokens(x, tokens.positions, tokens.sizes, tokens.source.where(torch.tensor([[True], [False]]), -1))
    grouping = group(name, tokens, torch.tensor([4, 4]))
    merged = merge(tokens, grouping)
    assert (grouping.labels[1] == -1).all() and (merged.features[1] == 0).all() and (merged.sizes[1] == 0).all()
    merged.features.sin().sum().backward()
    assert x.grad.isfinite().all() and (x.grad[1] == 0).all() and (x.grad[0] != 0).any()


ALIKE = {
    "zero": torch.zeros(1, 64, 6),
    "constant": torch.full((1, 64, 6), 3.7),
    "identical": torch.randn(1, 1, 6, generator=torch.Generator().manual_seed(0)).expand(1, 64, 6).clone(),
}


@pytest.mark.parametrize("name", [*EVEN, "rank"])
@pytest.mark.parametrize("kind", ALIKE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("keep", [5, 16, 31, 50])
def test_case_25_equal_tokens(name, kind, dtype, keep):
    """No group holds more than twice its fair share.

    Exempt: `random` (its borders are random), and agglomerative, dbscan, hdbscan, shift and voxel, to which equal
    tokens are one natural group; these must only give the promised count (next test). `rank` closes half of the kept
    tokens, so the open half may hold twice more.
    """
    places = torch.zeros(1, 64, 1) if name == "fps" else torch.arange(64.0).view(1, 64, 1)
    tokens = Tokens(ALIKE[kind].to(dtype), places, torch.ones(1, 64), torch.arange(64)[None])
    labels = group(name, tokens, keep).labels[0]
    sizes = labels.bincount()
    assert len(sizes) == keep and (sizes > 0).all()
    assert sizes.max() <= (4 if name == "rank" else 2) * -(-64 // keep)


@every_method
@pytest.mark.parametrize("kind", ALIKE)
def test_case_25_equal_tokens_give_the_promised_count_and_no_nan(name, kind):
    tokens = Tokens(ALIKE[kind], torch.zeros(1, 64, 3), torch.ones(1, 64), torch.arange(64)[None])
    grouping = group(name, tokens, 16)
    count, promised = len(members(grouping.labels[0])), 64 if name == "none" else 16
    assert 0 < count <= promised if name in AT_MOST else count == promised
    assert torch.equal(group(name, tokens, 16).labels, grouping.labels)
    assert merge(tokens, grouping).features.isfinite().all()


@every_method
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_case_26_nan_and_inf(name, bad):
    """In a valid token: nothing leaves its record. In padding: no effect at all."""
    tokens = stack([record(12, 0), record(9, 1), record(15, 2)])
    expected = merge(tokens, group(name, tokens, halves(name, tokens)))
    x = tokens.features.clone()
    x[1, 3, 2] = bad
    dirty = Tokens(x, tokens.positions, tokens.sizes, tokens.source)
    got = merge(dirty, group(name, dirty, halves(name, tokens)))
    padded = with_padding(tokens, bad)
    same = merge(padded, group(name, padded, halves(name, tokens)))
    for a, b in ((got.features[::2], expected.features[::2]), (same.features, expected.features)):
        assert torch.equal(a, b)
    assert torch.equal(same.positions, expected.positions) and torch.equal(same.source, expected.source)
    if name not in PRUNES:
        assert torch.equal(got.sizes.sum(1), tokens.sizes.sum(1))  # even there nothing is dropped


@budgeted
@pytest.mark.parametrize("keep", [6, 0, -1, 0.5, float("nan"), True, None, "3"])
def test_case_27_a_budget_that_cannot_be_met_is_refused(name, keep):
    with pytest.raises(ValueError, match=r"Expected 'keep' .*\(got"):
        group(name, record(5, 0), keep)


@every_method
def test_case_27_one_token_stays_itself(name):
    tokens = record(1, 0)
    grouping = group(name, tokens, 1)
    assert grouping.labels.tolist() == [[0]] and torch.equal(merge(tokens, grouping).features, tokens.features)


@pytest.mark.parametrize("share", [0, 0.0, -0.5, 1.5, float("nan")])
def test_case_27_a_ratio_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"a ratio in \(0, 1\]"):
        budget.ratio(share)


@budgeted
def test_case_27_more_protected_tokens_than_the_budget_are_refused(name):
    tokens = record(8, 0)
    alone = torch.arange(8)[None] < 4
    with pytest.raises(ValueError, match=r"Expected 'keep' of at least 5 \(got 3\): record 0 has 4 protected tokens"):
        where.protect(REDUCTIONS[name], alone)(tokens.features, tokens, 3)


@every_method
def test_case_28_conservation(name):
    """Sizes sum to the valid elements; each element is in exactly one token; no token is dropped, unless pruned."""
    start = tokens = stack([record(count, seed, axes=3) for seed, count in enumerate(lengths())])
    for _ in range(2):
        grouping = group(name, tokens, halves(name, tokens))
        if name not in PRUNES:
            assert torch.equal(grouping.labels >= 0, tokens.mask)
        tokens = merge(tokens, grouping)
        held = torch.stack([row[row >= 0].bincount(minlength=tokens.sizes.shape[1]) for row in tokens.source])
        assert torch.equal(tokens.sizes, held.float())
    if name in PRUNES:
        gone = (tokens.source == -1) & (start.source >= 0)
        assert torch.equal(tokens.sizes.sum(1) + gone.sum(1), start.sizes.sum(1))
    else:
        assert torch.equal(tokens.source >= 0, start.source >= 0)
        assert torch.equal(tokens.sizes.sum(1), start.sizes.sum(1))


@pytest.mark.parametrize("name", POINT_SETS)
def test_case_29_point_sets_group_alike_in_any_order(name):
    """The same groups up to names. Farthest-point methods are left out: they start at the first token."""
    for seed, count in enumerate(lengths()):
        tokens, keep = record(count, seed, axes=3), max(1, count // 3)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        x, places, sizes = tokens.features[:, order], tokens.positions[:, order], tokens.sizes[:, order]
        shuffled = Tokens(x, places, sizes, order.argsort()[tokens.source])
        plain, mixed = (group(name, t, keep).labels[0] for t in (tokens, shuffled))
        assert members(mixed[order.argsort()]) == members(plain)


def test_case_29_mean_shift_finds_separated_modes_in_any_order():
    """Tokens between two modes go to the first that is near, so only separated modes are a matter of the set."""
    draw = torch.Generator().manual_seed(0)
    centres = 10 * torch.eye(6, dtype=torch.float64)[:3].repeat(8, 1)
    x = (centres + 0.1 * torch.randn(24, 6, generator=draw, dtype=torch.float64))[None]
    for _ in range(DRAWS):
        order = torch.randperm(24, generator=draw)
        tokens = Tokens(x[:, order], torch.zeros(1, 24, 3), torch.ones(1, 24), torch.arange(24)[None])
        labels = group("shift", tokens, 3).labels[0]
        assert members(labels[order.argsort()]) == members(torch.arange(24) % 3)


@pytest.mark.parametrize("name", ORDERED)
def test_case_29_sequences_stay_in_order(name):
    tokens = stack([record(count, seed) for seed, count in enumerate(lengths())])
    grouping = group(name, tokens, halves(name, tokens))
    for row in grouping.labels:
        assert (row[row >= 0].diff() >= 0).all()


@every_method
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_case_30_half_precision_and_large_values(name, dtype, scale):
    """Finite, and in 99 % of pairs of tokens the same answer as float32 to "one group or two?"."""
    twins = 16 if name in ("dbscan", "hdbscan") else 2  # these look for crowds
    plain, tokens = families(twins), families(twins, dtype, scale)
    keep = 64 if name == "none" else 64 // twins
    expected, got = group(name, plain, keep).labels, group(name, tokens, keep)
    together = [labels[:, :, None] == labels[:, None] for labels in (expected, got.labels)]
    assert (together[0] == together[1]).float().mean() >= 0.99
    assert merge(tokens, got).features.isfinite().all()


@pytest.mark.parametrize("combine", ["mean", "norm", "loudest"])
def test_case_30_norms_beyond_float16_do_not_overflow(combine):
    """Two tokens of norm 7.5e4 and 1.5e5, above the largest float16, 65504, while each of their numbers is below."""
    x = torch.tensor([[[1.5e4] * 25, [3e4] * 25]], dtype=torch.float16)
    tokens = Tokens(x, torch.zeros(1, 2, 1), torch.ones(1, 2), torch.arange(2)[None])
    merged = merge(tokens, Grouping(torch.zeros(1, 2, dtype=torch.long), 1), combine)
    expected = 3e4 if combine == "loudest" else 2.25e4
    torch.testing.assert_close(merged.features, torch.full((1, 1, 25), expected, dtype=torch.float16))


@every_method
def test_case_31_repeats_are_bit_equal(name):
    """100 repeats; the global random state is untouched."""
    tokens = stack([record(40, 0), record(25, 1)])
    before, first = torch.get_rng_state(), group(name, tokens, halves(name, tokens)).labels
    for _ in range(100):
        assert torch.equal(group(name, tokens, halves(name, tokens)).labels, first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("combine", ["mean", "norm", "loudest"])
def test_case_32_gradients(combine):
    """`gradcheck` of merge, unmerge and to_source, with padding, a pruned token and unequal sizes."""
    tokens = stack([record(7, 0), record(4, 1)])
    labels = torch.tensor([[0, 1, 0, 2, -1, 1, 0], [1, 0, 1, 1, -1, -1, -1]])

    def run(x, places, weights):
        merged = merge(Tokens(x, places, tokens.sizes, tokens.source), Grouping(labels, 3, weights), combine)
        return merged.features, merged.positions, to_source(merged)

    x, places = tokens.features.clone().requires_grad_(), tokens.positions.clone().requires_grad_()
    weights = torch.rand(2, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    inputs = (x, places, weights.detach() if combine == "loudest" else weights)  # which does not listen to weights
    assert torch.autograd.gradcheck(run, inputs)
    z = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(partial(unmerge, grouping=Grouping(labels, 3)), (z,))


MILLION = 1 << 20


@pytest.fixture(scope="module")
def million():
    index = torch.arange(MILLION)
    x = torch.randn(1, MILLION, 4, generator=torch.Generator().manual_seed(8))
    return Tokens(x, index.view(1, MILLION, 1).double(), torch.ones(1, MILLION), index[None])


@pytest.mark.parametrize("name", LINEAR)
def test_case_33_a_million_tokens(name, million):
    """Linear methods finish (N x N would be 4 TB) with the promised count."""
    keep = MILLION if name == "none" else MILLION // 2
    grouping = group(name, million, keep)
    count = len(grouping.labels[grouping.labels >= 0].unique())
    assert 0.9 * keep < count <= keep if name in AT_MOST else count == keep


def test_case_33_a_million_tokens_by_windows(million):
    grouping = where.within(density.peaks, where.windows(64))(million.features, million, MILLION // 2)
    assert len(grouping.labels.unique()) == MILLION // 2


@pytest.mark.parametrize("name", SQUARE)
def test_case_33_more_distances_than_memory_are_refused_with_the_estimate(name, million):
    with pytest.raises(InputError, match=r"it would need [\d,]+\.\d GiB\): use it within windows") as refusal:
        group(name, million, MILLION // 2)
    needed = float(re.search(r"need ([\d,.]+) GiB", str(refusal.value))[1].replace(",", ""))
    assert needed >= 4 * MILLION**2 / 2**30  # half of the matrix in float64


def test_case_25_looks_at_every_method_or_exempts_it():
    """The lists above name methods by hand: one that is new in REDUCTIONS must be put into one of them."""
    exempt = {"none", "random", "truncate", "topk", "agglomerative", "dbscan", "hdbscan", "shift", "voxel", "rank"}
    assert set(EVEN) | exempt == set(REDUCTIONS)
