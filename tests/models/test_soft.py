"""Learned groups: the laws of every grouping, and an embedding that learns what matters from the task alone."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call

from tokred_sci.errors import InputError
from tokred_sci.experiment import LEARNED, REDUCTIONS, Model, ModelConfig, Reduce
from tokred_sci.models.encoder import Encoder
from tokred_sci.models.soft import SoftGroups
from tokred_sci.reduction import chain, density, graph
from tokred_sci.reduction.merge import merge, unmerge
from tokred_sci.reduction.where import cells, loudest, protect, windows, within
from tokred_sci.tokens import Grouping, Tokens, stack

DIM = 6


def seeded(make, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def soft(dim=DIM, seed=0, **options):
    return seeded(lambda: SoftGroups(dim, **options), seed).double()


def record(count, seed=0, dim=DIM):
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 4, (count,), generator=draw)
    x = torch.randn(1, count, dim, generator=draw, dtype=torch.float64)
    places = torch.randn(1, count, 1, generator=draw, dtype=torch.float64)
    return Tokens(x, places, sizes.float()[None], torch.arange(count).repeat_interleave(sizes)[None])


def nothing():
    x = torch.zeros(1, 1, DIM, dtype=torch.float64)
    return Tokens(x, x[..., :1], torch.zeros(1, 1), torch.full((1, 1), -1))


def batch():
    return stack([record(count, seed) for seed, count in enumerate([11, 24, 1, 6])] + [nothing()])


KEEP = torch.tensor([3, 12, 1, 6, 0])


def with_padding(tokens, value):
    pad = ~tokens.mask[..., None]
    features, positions = (t.masked_fill(pad, value) for t in (tokens.features, tokens.positions))
    return replace(tokens, features=features, positions=positions)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def group_sums(values, grouping):
    index = torch.where(grouping.labels < 0, grouping.num_groups, grouping.labels)
    return values.new_zeros(len(values), grouping.num_groups + 1).scatter_add(1, index, values)[:, :-1]


# Laws -------------------------------------------------------------------------------------------------------


def test_counts_are_exact_mass_is_kept_and_the_groups_are_those_of_the_embedding():
    tokens, method = batch(), soft()
    grouping = method(tokens.features, tokens, KEEP)
    embedded = method.embedding(tokens.features, tokens.mask)
    assert torch.equal(grouping.labels, graph.bipartite(embedded, tokens, KEEP).labels)
    assert [len(row[row >= 0].unique()) for row in grouping.labels] == KEEP.tolist()
    merged = merge(tokens, grouping)
    assert torch.equal(merged.sizes.sum(1), tokens.sizes.sum(1))
    assert torch.equal(merged.source >= 0, tokens.source >= 0)
    z = torch.randn(5, grouping.num_groups, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    back = merge(replace(tokens, features=unmerge(z, grouping)), grouping)
    close(back.features, z.masked_fill(~back.mask[..., None], 0))


@pytest.mark.parametrize("temperature", [1e-6, 0.1, 1e6])
def test_one_token_of_each_group_has_weight_one_and_the_others_at_least_a_half(temperature):
    tokens = with_padding(batch(), torch.nan)
    grouping = soft(temperature=temperature)(tokens.features, tokens, KEEP)
    weights, real = grouping.weights.detach(), tokens.mask
    assert (weights[~real] == 0).all() and ((weights[real] >= 0.5) & (weights[real] <= 1)).all()
    whole = group_sums((weights == 1).double(), grouping)
    used = torch.arange(grouping.num_groups) < KEEP[:, None]
    assert (whole[used] >= 1).all() and (whole[~used] == 0).all()
    if temperature == 0.1:
        assert (whole[used] == 1).all()


def test_keeping_all_changes_no_token():
    tokens = record(7)
    merged = merge(tokens, soft()(tokens.features, tokens, 7))
    assert torch.equal(merged.features, tokens.features)


def test_exact_duplicates_merge_as_without_weights():
    once = record(5)
    tokens = Tokens(
        once.features.repeat_interleave(2, 1),
        once.positions.repeat_interleave(2, 1),
        torch.ones(1, 10),
        torch.arange(10)[None],
    )
    grouping = soft()(tokens.features, tokens, 5)
    close(merge(tokens, grouping).features, once.features)


@pytest.mark.parametrize("fill", [0.0, torch.nan, torch.inf])
def test_padding_is_inert_and_a_record_alone_is_the_record_in_any_batch(fill):
    tokens, method = with_padding(batch(), fill), soft()
    grouping = method(tokens.features, tokens, KEEP)
    for b, count in enumerate([11, 24, 1, 6]):
        alone = record(count, b)
        one = method(alone.features, alone, int(KEEP[b]))
        assert torch.equal(grouping.labels[b, :count], one.labels[0])
        close(grouping.weights[b, :count], one.weights[0])
    loss = merge(tokens, grouping).features.sin().sum()
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in method.parameters())


def test_padding_between_tokens_is_inert():
    tokens, method = record(9), soft()
    at = torch.tensor([1, 2, 5, 6, 7, 9, 10, 12, 13])
    x = torch.full((1, 15, DIM), torch.nan, dtype=torch.float64)
    x[:, at] = tokens.features
    sizes = torch.zeros(1, 15)
    sizes[:, at] = tokens.sizes
    wide = method(x, Tokens(x, x[..., :1], sizes, at[tokens.source]), 4)
    one = method(tokens.features, tokens, 4)
    assert torch.equal(wide.labels[:, at], one.labels)
    close(wide.weights[:, at], one.weights)


def test_repeats_are_bit_equal_in_training_and_evaluation_and_draw_nothing():
    tokens, method = batch(), soft()
    before = torch.get_rng_state()
    first = method.train()(tokens.features, tokens, KEEP)
    again = method.eval()(tokens.features, tokens, KEEP)
    assert torch.equal(first.labels, again.labels) and torch.equal(first.weights, again.weights)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_lower_precision_runs_and_learns(dtype, weights):
    tokens, method = batch().to(dtype), soft().to(weights)
    grouping = method(tokens.features, tokens, KEEP)
    merged = merge(tokens, grouping)
    assert grouping.weights.dtype == torch.float32 and merged.features.dtype == dtype
    merged.features.float().sin().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in method.embed[0].parameters())


# Learning ---------------------------------------------------------------------------------------------------


def test_a_loss_after_merging_reaches_the_embedding_and_not_the_metric():
    tokens, method = batch(), soft()
    metric = tokens.features.clone().requires_grad_()
    merge(tokens, method(metric, tokens, KEEP)).features.sin().sum().backward()
    assert metric.grad is None
    assert all(p.grad.isfinite().all() and p.grad.any() for p in method.embed.parameters())


def test_gradients_through_merge_are_those_of_finite_differences():
    tokens, method = stack([record(9), record(6, 1)]), soft(width=4)
    grouping = method(tokens.features, tokens, 3)

    def by_weights(weights, x):
        return merge(replace(tokens, features=x), Grouping(grouping.labels, 3, weights)).features

    inputs = (grouping.weights.detach().requires_grad_(), tokens.features.clone().requires_grad_())
    assert torch.autograd.gradcheck(by_weights, inputs)

    names = [name for name, _ in method.named_parameters()]

    def by_parameters(*values):
        found = functional_call(method, dict(zip(names, values, strict=True)), (tokens.features, tokens, 3))
        return merge(tokens, found).features

    assert torch.autograd.gradcheck(by_parameters, tuple(method.parameters()))


def content_and_noise(seed, records):
    """32 tokens of a content that the task asks for, and a noise four times as large that it does not."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(records, 32, 2, generator=draw) * torch.tensor([1.0, 4.0])
    return Tokens(x, torch.zeros(records, 32, 1), torch.ones(records, 32), torch.arange(32).repeat(records, 1))


def content_error(method, tokens, keep):
    grouping = method(tokens.features, tokens, keep)
    back = unmerge(merge(tokens, grouping).features, grouping)
    return (back - tokens.features)[..., 0].square().mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_embedding_learns_which_dimension_matters(seed):
    method, unseen = soft(2, seed).float(), content_and_noise(1_000, 32)
    before = content_error(method, unseen, 16).item()
    adam = torch.optim.Adam(method.parameters(), 1e-2)
    for step in range(100):
        adam.zero_grad()
        content_error(method, content_and_noise(step, 8), 16).backward()
        adam.step()
    after = content_error(method, unseen, 16).item()
    assert after <= 0.5 * before
    assert after <= 0.5 * content_error(graph.bipartite, unseen, 16).item()


@pytest.mark.parametrize("metric", ["keys", "features"])
def test_an_encoder_trains_its_groups_too(metric):
    width = 12 // 2 if metric == "keys" else 12
    model = seeded(lambda: Encoder(12, 2, 2, reduce={0: (SoftGroups(width, 8), 0.5)}, metric=metric))
    names = [name for name, _ in model.named_parameters() if "learned" in name]
    assert names == [f"blocks.0.learned.embed.{layer}" for layer in ("0.weight", "0.bias", "2.weight", "2.bias")]
    assert set(names) <= set(model.state_dict())
    twin = deepcopy(model).blocks[0]
    assert twin.reduce[0] is twin.learned  # what is registered is what is called
    learned = model.blocks[0].learned
    start = [p.detach().clone() for p in learned.parameters()]
    tokens = stack([record(20, 1, 12), record(13, 2, 12)]).to(torch.float32)
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    model(tokens).features.sin().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in learned.parameters())
    adam.step()
    assert all(not torch.equal(p, old) for p, old in zip(learned.parameters(), start, strict=True))
    assert model.double()(tokens.to(torch.float64)).counts.tolist() == [10, 7]


# From a config ----------------------------------------------------------------------------------------------


def config(**step):
    reduce = (Reduce(**{"block": 1, "method": "links", "keep": 0.5, **step}),)
    return ModelConfig("series", {"patch": 4}, dim=16, depth=2, heads=2, reduce=reduce)


SERIES = torch.randn(1, 160, generator=torch.Generator().manual_seed(0)).numpy()


@pytest.mark.parametrize("metric", ["keys", "features"])
def test_a_saved_model_comes_back_with_its_learned_groups(metric, tmp_path):
    model = Model(replace(config(method="soft", keep=16, options={"width": 8}), metric=metric))
    tokens = model.tokenize(SERIES)
    with torch.no_grad():
        for p in model.encoder.blocks[1].learned.parameters():
            p.mul_(1.5)  # not what the seed would draw again
    model.save_pretrained(tmp_path)
    again = Model.from_pretrained(tmp_path)
    assert again.config == model.config and torch.equal(again(tokens), model(tokens))
    assert again.encoder.blocks[1].learned.embed[0].weight.shape == (8, 16 if metric == "features" else 8)


@pytest.mark.parametrize(
    ("step", "group"),
    [
        ({"window": 8}, within(chain.links, windows(8))),
        ({"window": 8, "along": "curve", "method": "peaks"}, within(density.peaks, windows(8, "curve"))),
        ({"radius": 30.0}, within(chain.links, cells(30.0))),
        ({"protect": 0.1}, protect(chain.links, loudest(0.1))),
        ({"window": 8, "protect": 0.1}, protect(within(chain.links, windows(8)), loudest(0.1))),
    ],
)
def test_where_to_merge_comes_from_the_config(step, group, tmp_path):
    model = Model(config(**step))
    tokens = model.tokenize(SERIES)
    found, budget = model.config.reduce[0].build(8)
    embedded = model.embed(tokens)
    keep = budget(embedded.features, embedded)
    assert torch.equal(found(embedded.features, embedded, keep).labels, group(embedded.features, embedded, keep).labels)
    model.save_pretrained(tmp_path)
    again = Model.from_pretrained(tmp_path)
    assert again.config == model.config and torch.equal(again(tokens), model(tokens))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"method": "soff"}, "bipartite.*, soft .*did you mean 'soft'"),
        ({"window": 4, "radius": 2.0}, r"'window' or 'radius', not both \(got 4 and 2.0\)"),
        ({"along": "curve"}, r"'along' with a 'window' only \(got 'curve'"),
        ({"window": 4, "along": "spiral"}, "'along' to be 'order' or 'curve'"),
        ({"window": 1}, "'size' >= 2"),
        ({"radius": 0.0}, "'radius' > 0"),
        ({"protect": 1.0}, r"'share' in \[0, 1\)"),
        ({"method": "soft", "window": 4}, "the learned method 'soft'"),
        ({"method": "soft", "radius": 2.0}, "the learned method 'soft'"),
        ({"method": "soft", "protect": 0.1}, "the learned method 'soft'"),
        ({"method": "soft", "along": "curve"}, "the learned method 'soft'"),
        ({"method": "soft", "options": {"width": 0}}, "'width' as an int >= 1"),
    ],
)
def test_steps_that_make_no_sense_are_refused(step, message):
    with pytest.raises(InputError, match=message):
        Model(config(**step))


def test_learned_methods_are_listed_apart_from_functions():
    assert LEARNED.keys().isdisjoint(REDUCTIONS) and LEARNED["soft"] is SoftGroups


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, r"'dim' as an int >= 1 \(got 0\)"),
        ({"dim": 2.0}, r"'dim' as an int >= 1 \(got 2.0\)"),
        ({"dim": 2, "width": True}, r"'width' as an int >= 1 \(got True\)"),
        ({"dim": 2, "temperature": 0.0}, r"'temperature' as a number > 0 \(got 0.0\)"),
        ({"dim": 2, "temperature": float("nan")}, r"'temperature' as a number > 0 \(got nan\)"),
        ({"dim": 2, "temperature": "warm"}, r"'temperature' as a number > 0 \(got 'warm'\)"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        SoftGroups(**options)


def test_a_metric_of_another_width_or_for_other_tokens_is_refused():
    tokens, method = record(5), soft()
    for metric in (tokens.features[..., :3], tokens.features[:, :4], tokens.features[0], tokens.features.long()):
        with pytest.raises(InputError, match=r"'metric' as floats of shape \(1, 5, 6\)"):
            method(metric, tokens, 2)


@pytest.mark.parametrize("keep", [0, 6, 0.5])
def test_a_budget_a_record_cannot_meet_is_refused(keep):
    tokens = record(5)
    with pytest.raises(InputError, match="'keep'"):
        soft()(tokens.features, tokens, keep)
