"""Embeddings and heads: what goes into the encoder and what comes out."""

from dataclasses import replace

import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.models import heads
from tokred_sci.models.embed import EmbedDNA, EmbedPoints, EmbedSeries, EmbedVocabulary
from tokred_sci.models.heads import Classify, Detailed, Forecast, ForecastWindow, PerElement, Reconstruct
from tokred_sci.reduction.chain import links
from tokred_sci.reduction.merge import merge
from tokred_sci.tokenizers.points import PointTokenizer
from tokred_sci.tokenizers.series import SeriesTokenizer
from tokred_sci.tokens import Grouping, Tokens, stack


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of(features, sizes=None, axes=1):
    """Tokens with these features; `sizes` elements in each (one, unless told)."""
    _, count, _ = features.shape
    sizes = torch.ones(count) if sizes is None else torch.tensor(sizes)
    source = torch.arange(count).repeat_interleave(sizes.long())
    places = torch.arange(count, dtype=torch.float64).view(1, count, 1).repeat(1, 1, axes)
    return Tokens(features, places, sizes.float()[None], source[None])


def made(kind, *args, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(*args, **kwargs).double()


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def padded(*records, fill=0.0):
    batch = stack(records)
    return replace(batch, features=batch.features.masked_fill(~batch.mask[..., None], fill))


# Embeddings


def dna(bases, patch=4, seed=0):
    """Random bases as raw patches: 4 one-hot columns and a lower-case mark; zeros beyond the end."""
    draw = torch.Generator().manual_seed(seed)
    count = -(-bases // patch)
    content = torch.zeros(count * patch, 5, dtype=torch.float64)
    content[torch.arange(bases), torch.randint(4, (bases,), generator=draw)] = 1
    content[:bases, 4] = torch.rand(bases, generator=draw, dtype=torch.float64).round()
    return of(content.view(1, count, patch * 5), [min(patch, bases - i * patch) for i in range(count)])


def with_gaps(count):
    """Patches of four steps of three channels: values, whether they are known, and level and scale."""
    known = (numbers(1, count, 12) > -1).double()
    return of(torch.cat([numbers(1, count, 12, seed=1) * known, known, numbers(1, count, 6, seed=2)], 2))


EMBEDDINGS = {
    "dna": (lambda: made(EmbedDNA, 8, patch=4), lambda seed: dna(4 * seed + 2, seed=seed)),
    "vocabulary": (
        lambda: made(EmbedVocabulary, 8, 16),
        lambda seed: of(torch.arange(2.0 * seed).double().view(1, seed, 2)),
    ),
    "points": (
        lambda: made(EmbedPoints, 8, neighbours=5, unit=0.1),
        lambda seed: of(torch.cat([torch.ones(1, seed, 5, 1).double(), numbers(1, seed, 5, 3)], 3).flatten(2)),
    ),
    "series": (lambda: made(EmbedSeries, 8, patch=4, channels=3), lambda seed: of(numbers(1, seed, 30))),
    "series, filters": (
        lambda: made(EmbedSeries, 8, patch=4, channels=3, filters=5, kernel=3, stride=2),
        lambda seed: with_gaps(seed),
    ),
}
every_embedding = pytest.mark.parametrize("name", EMBEDDINGS)


@every_embedding
@pytest.mark.parametrize("fill", [0.0, torch.nan])
def test_a_record_reads_the_same_alone_and_in_a_batch(name, fill):
    make, content = EMBEDDINGS[name]
    embed, records = make(), [content(seed) for seed in (5, 2, 7)]
    batch = embed(padded(*records, fill=fill))
    assert batch.features.shape[2] == 8 and batch.features.isfinite().all()
    for b, record in enumerate(records):
        close(batch[b].features, embed(record).features)
        assert torch.equal(batch[b].source, record.source)


@every_embedding
def test_embedding_leaves_all_but_features_untouched_and_repeats(name):
    make, content = EMBEDDINGS[name]
    embed, record = make(), content(6)
    out = embed(record)
    assert torch.equal(embed(record).features, out.features)
    for field in ("positions", "sizes", "source"):
        assert getattr(out, field) is getattr(record, field)


@every_embedding
def test_gradients_reach_every_weight(name):
    make, content = EMBEDDINGS[name]
    embed = make()
    embed(padded(content(6), content(3), fill=torch.nan)).features.sin().sum().backward()
    for key, weight in embed.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.any(), key


@pytest.mark.parametrize(
    ("name", "width"), [("dna", 20), ("vocabulary", 2), ("points", 20), ("series", 30), ("series, filters", 30)]
)
def test_tokens_of_another_tokenizer_are_refused(name, width):
    embed = EMBEDDINGS[name][0]()
    with pytest.raises(InputError, match=rf"tokens with {width} features.*\(got 7\): give tokenizer and embedding"):
        embed(of(numbers(1, 3, 7)))


def test_bases_beyond_the_end_of_a_partial_patch_count_nothing():
    embed = made(EmbedDNA, 8, patch=4)
    with torch.no_grad():
        embed.filters.bias += 1  # a filter that answers to empty places too
    whole, cut = dna(8), dna(8)
    cut.features[0, 1, 10:] = 0  # the last two bases gone
    assert not torch.allclose(embed(whole).features[0, 1], embed(cut).features[0, 1])
    wide = embed(padded(dna(6, seed=1), dna(20, seed=2)))
    close(wide[0].features, embed(dna(6, seed=1)).features)


def test_filters_of_a_series_see_across_patch_borders():
    embed, one, other = EMBEDDINGS["series, filters"][0](), with_gaps(12), with_gaps(12)
    other.features[0, 6, :12] += 1
    changed = (embed(one).features != embed(other).features).any(-1)[0]
    assert changed[5:8].all() and not changed[:2].any() and not changed[11:].any()  # 13 steps to each side


def test_filters_see_across_patch_borders():
    embed, one, other = made(EmbedDNA, 8, patch=4, kernel=3), dna(12), dna(12)
    other.features[0, 1, :5] = 0
    changed = (embed(one).features != embed(other).features).any(-1)[0]
    assert changed.tolist() == [True, True, False]  # base 4 is next to base 3, and far from base 8


def test_points_do_not_care_for_the_order_of_slots():
    embed = made(EmbedPoints, 8, neighbours=6, channels=5)
    slots = numbers(1, 4, 6, 6)
    slots[..., 0] = torch.arange(6) < torch.tensor([[6], [3], [1], [0]])  # some slots are empty
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    plain = embed(of(slots.flatten(2))).features
    close(embed(of(slots[:, :, order].flatten(2))).features, plain)
    assert plain.isfinite().all()


def test_points_in_empty_slots_do_not_count():
    embed, slots = made(EmbedPoints, 8, neighbours=3), numbers(1, 2, 3, 4)
    slots[..., 0] = torch.tensor([1.0, 1, 0])
    other = slots.clone()
    other[:, :, 2, 1:] = 99
    close(embed(of(slots.flatten(2))).features, embed(of(other.flatten(2))).features)


def test_points_in_another_unit_read_the_same():
    slots = torch.cat([torch.ones(1, 4, 3, 1).double(), numbers(1, 4, 3, 5)], 3)
    metres, extra = made(EmbedPoints, 8, neighbours=3, channels=5), slots.clone()
    millimetres = made(EmbedPoints, 8, neighbours=3, channels=5, unit=1024.0)
    extra[..., 1:4] *= 1024  # coordinates only: other channels have no length
    close(millimetres(of(extra.flatten(2))).features, metres(of(slots.flatten(2))).features)


# Heads


class Thrice(torch.nn.Module):
    """`Detailed`, of tokens that are as they were made."""

    def __init__(self):
        super().__init__()
        self.head = made(Detailed, 6, 3)

    def forward(self, tokens):
        return self.head(tokens, tokens, tokens)


HEADS = {
    "mean": lambda: made(Classify, 6, 3),
    "max": lambda: made(Classify, 6, 3, pool="max"),
    "attention": lambda: made(Classify, 6, 3, pool="attention"),
    "element": lambda: made(PerElement, 6, 3),
    "detailed": lambda: Thrice(),
    "forecast": lambda: made(Forecast, 6, 12, channels=2),
}
every_head = pytest.mark.parametrize("name", HEADS)


@every_head
def test_heads_answer_alike_alone_and_in_a_batch(name):
    head = HEADS[name]()
    records = [of(numbers(1, n, 6, seed=n), [1.0, 2.0, 3.0, 1.0, 2.0][:n]) for n in (5, 2)]
    batch = head(padded(*records, fill=100.0))
    for b, record in enumerate(records):
        alone = head(record)[0]
        close(batch[b, : len(alone)], alone)


@every_head
def test_heads_are_finite_on_padding_only(name):
    head = HEADS[name]()
    x = numbers(2, 4, 6).requires_grad_()
    out = head(Tokens(x, torch.zeros(2, 4, 1), torch.zeros(2, 4), torch.full((2, 4), -1)))
    out.sin().sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()
    if name in ("mean", "max", "attention"):
        close(out, head.out.bias.expand(2, 3))


def test_classify_weighs_by_size_to_the_exponent():
    tokens = of(numbers(1, 3, 6), [1.0, 2.0, 5.0])
    for exponent, weights in ((1.0, [1.0, 2, 5]), (0.0, [1.0, 1, 1]), (2.0, [1.0, 4, 25])):
        head = made(Classify, 6, 3, size_exponent=exponent)
        share = torch.tensor(weights).double() / sum(weights)
        close(head(tokens), head.out((tokens.features * share[:, None]).sum(1)))


def test_mean_pooling_does_not_notice_a_merge():
    tokens, head = of(numbers(1, 9, 6)), made(Classify, 6, 3)
    close(head(merge(tokens, links(tokens.features, tokens, 4))), head(tokens))


def test_unknown_pools_are_refused():
    with pytest.raises(InputError, match=r"'mean', 'max' or 'attention' \(got 'sum'\)"):
        Classify(6, 3, pool="sum")


def test_per_element_gives_every_element_the_answer_of_its_token():
    head, x = made(PerElement, 6, 3), numbers(1, 3, 6)
    source = torch.tensor([[2, 0, 0, -1, 1]])
    out = head(Tokens(x, torch.zeros(1, 3, 1), torch.tensor([[2.0, 1, 1]]), source))
    answers = head.out(x)[0]
    assert out.shape == (1, 5, 3)
    close(out[0, [0, 1, 2, 4]], answers[[2, 0, 0, 1]])
    assert (out[0, 3] == 0).all()


def test_per_element_after_merging_still_has_one_answer_per_element():
    tokens, head = of(numbers(1, 9, 6), [2.0] * 9), made(PerElement, 6, 3)
    assert head(merge(tokens, links(tokens.features, tokens, 4))).shape == (1, 18, 3)


CLOUD = numbers(60, 5)  # two channels beside places
POINTS = ModelConfig(
    "points",
    {"tokens": 12, "neighbours": 30, "channels": 5},
    "per-element",
    3,
    dim=8,
    depth=2,
    heads=2,
    reduce=(Reduce(0, "cover", 1),),
    detailed=True,
)


@pytest.mark.parametrize("neighbours", [3, 16])  # fewer slots than points owned, and more
def test_detailed_reads_each_point_where_its_token_wrote_it(neighbours):
    tokenizer = PointTokenizer(12, neighbours, channels=5)
    one, two = tokenizer(CLOUD), tokenizer(CLOUD[:25])
    found = heads._own_slots(stack([one, two]), (neighbours, 6))
    for record, cloud, there in ((one, CLOUD, found[0]), (two, CLOUD[:25], found[1])):
        own = record.source[0]
        whole = record.sizes[0][own] <= neighbours  # of the others not every point has a slot
        expected = torch.cat([torch.ones(len(cloud), 1), cloud[:, :3] - record.positions[0][own], cloud[:, 3:]], 1)
        torch.testing.assert_close(there[: len(cloud)], (expected * whole[:, None]).float())
        assert whole.any() and (there[len(cloud) :] == 0).all()


def test_detailed_tells_apart_what_merging_to_one_token_made_equal():
    plain, detailed = (Model(replace(POINTS, detailed=d)).eval() for d in (False, True))
    tokens = plain.tokenize(CLOUD.numpy())
    assert len(plain(tokens)[0].unique(dim=0)) == 1 and len(detailed(tokens)[0].unique(dim=0)) == 60
    letters = ModelConfig("dna", {"patch": 4}, "per-element", 3, reduce=(Reduce(0, "cover", 1),), detailed=True)
    model = Model(letters).eval()
    assert len(model(model.tokenize("ACGTTTGAACGC"))[0].unique(dim=0)) == 3  # of sequences, patches are told apart


def test_detailed_follows_points_alone_and_in_a_batch():
    model = Model(POINTS).eval()
    clouds = [CLOUD.numpy(), CLOUD[:25].numpy()]
    batch = model(stack([model.tokenize(cloud) for cloud in clouds]))
    for answers, cloud in zip(batch, clouds, strict=True):
        torch.testing.assert_close(answers[: len(cloud)], model(model.tokenize(cloud))[0], rtol=1e-5, atol=1e-6)
    assert (batch[1, 25:] == 0).all()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(model.tokenize(clouds[0][order]))[0], batch[0, order], rtol=1e-5, atol=1e-6)


def test_detailed_answers_for_whole_records_are_refused():
    with pytest.raises(InputError, match=r"'detailed' with the head 'per-element' \(got 'classify'\)"):
        Model(replace(POINTS, head="classify"))


def test_forecast_reads_the_mean_and_the_token_that_ends_last():
    head = made(Forecast, 6, 12, channels=2)
    tokens = of(numbers(1, 4, 6), [1.0, 2.0, 3.0, 2.0])
    mean = (tokens.features * tokens.sizes.double()[..., None]).sum(1) / 8
    expected = head.out(torch.cat([mean, tokens.features[:, 3]], -1)).view(1, 2, 12)
    close(head(tokens), expected)
    order = torch.tensor([2, 3, 0, 1])  # last in place, not last in the list
    shuffled = Tokens(
        tokens.features[:, order],
        tokens.positions[:, order],
        tokens.sizes[:, order],
        order.argsort()[tokens.source],
    )
    close(head(shuffled), expected)


# A window of fixed length


WINDOW = SeriesTokenizer(patch=4, stride=3, in_channels=2)
STEPS = 15  # five patches: four own three steps each, the last the other three


def window():
    """A head that was trained, as far as anyone can tell: a new one answers 0."""
    head = made(ForecastWindow, 6, 6, WINDOW, STEPS, width=3)
    for seed, weights in enumerate(head.parameters()):
        weights.data = numbers(*weights.shape, seed=seed)
    return head


def read(seed=0, tokenizer=WINDOW, steps=STEPS):
    """A window as the tokenizer made it, and as an encoder may have left it."""
    born = tokenizer(numbers(2, steps, seed=seed)).to(torch.float64)
    return replace(born, features=numbers(*born.sizes.shape, 6, seed=seed + 50)), born


def by_labels(tokens, labels, groups):
    return merge(tokens, Grouping(torch.tensor([labels]), groups))


def test_a_window_is_told_what_every_patch_says_and_what_was_measured():
    head, (tokens, born) = window(), read()
    series = WINDOW.detokenize(born)
    location, scale = (part[0, :, None] for part in WINDOW.scale(born))
    expected = head.out(head.narrow(tokens.features).flatten(1)).view(1, 2, 6) + head.line((series - location) / scale)
    close(head(tokens, born), expected)


@pytest.mark.parametrize("channels", ["mix", "independent"])
@pytest.mark.parametrize(("patch", "stride", "steps"), [(4, 3, 15), (4, 3, 14), (5, 5, 12), (8, 2, 8), (16, 4, 5)])
def test_the_line_of_a_window_is_given_the_series_itself(channels, patch, stride, steps):
    tokenizer = SeriesTokenizer(patch, stride, channels=channels, in_channels=2)
    tokens, born = read(tokenizer=tokenizer, steps=steps)
    head = made(ForecastWindow, 6, steps, tokenizer, steps)
    torch.nn.init.eye_(head.line.weight)
    close(tokenizer.restore(head(tokens, born), born).flatten(0, 1), tokenizer.detokenize(born))


def test_missing_values_are_nothing_to_a_window():
    series, head = numbers(2, STEPS), window()
    series[:, 2:7] = torch.nan
    born = WINDOW(series).to(torch.float64)
    assert head(replace(born, features=numbers(1, 5, 6)), born).isfinite().all()


def test_windows_read_the_same_alone_and_in_a_batch():
    head, pairs = window(), [read(seed) for seed in range(3)]
    pairs[1] = (by_labels(pairs[1][0], [0, 0, 1, 1, 1], 2), pairs[1][1])
    alone = [head(*pair) for pair in pairs]
    batch = head(padded(*(tokens for tokens, _ in pairs), fill=100.0), stack([born for _, born in pairs]))
    close(batch, torch.cat(alone))


def test_merging_tokens_that_say_the_same_is_nothing_to_a_window():
    head, (tokens, born) = window(), read()
    tokens.features[:, 3] = tokens.features[:, 1]
    merged = by_labels(tokens, [0, 1, 2, 1, 3], 4)
    close(head(merged, born), head(tokens, born))
    tokens.features[:, 3] += 1
    assert not torch.allclose(head(by_labels(tokens, [0, 1, 2, 1, 3], 4), born), head(tokens, born))


def test_the_order_of_tokens_is_nothing_to_a_window():
    head, (tokens, born) = window(), read()

    def shuffled(tokens, order):
        features, positions, sizes = (x[:, order] for x in (tokens.features, tokens.positions, tokens.sizes))
        return Tokens(features, positions, sizes, order.argsort()[tokens.source])

    one, other = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([1, 4, 2, 0, 3])
    close(head(shuffled(tokens, one), shuffled(born, other)), head(tokens, born))
    assert not torch.allclose(head(replace(tokens, features=tokens.features[:, one]), born), head(tokens, born))


def test_patches_that_were_dropped_say_nothing_to_a_window():
    head, (tokens, born) = window(), read()
    said = head.narrow(tokens.features)
    said[:, 2] = 0
    dropped = by_labels(tokens, [0, 1, -1, 2, 3], 4)
    close(head(dropped, born), head.out(said.flatten(1)).view(1, 2, 6) + head.line(head.values(born)))


def test_where_nobody_can_look_the_answer_to_a_window_of_another_length_is_nothing(monkeypatch):
    monkeypatch.setattr(heads, "can_look", lambda value: False)
    head, (tokens, born), short = window(), read(), read(steps=12)
    out = head(stack([tokens, short[0]]), stack([born, short[1]]))
    close(out[0], head(tokens, born)[0])
    assert out[1].isnan().all()


def test_a_window_is_differentiable():
    head, (tokens, born) = window(), read()
    merged = by_labels(tokens, [0, 1, 1, 2, 2], 3)
    x, y = merged.features.clone().requires_grad_(), born.features.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: head(replace(merged, features=x), replace(born, features=y)), (x, y))
    head(replace(merged, features=x), born).sin().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in head.parameters()) and x.grad.any(-1).all()


def test_windows_of_another_length_are_refused():
    head, (tokens, born) = window(), read()
    short, merged = read(steps=12), by_labels(born, [0, 0, 1, 2, 3], 4)
    told = r"15 steps in 5 patches.*\(got %s\): cut them to this length, or make a model without 'context'"
    for wrong, got in (
        (short, "12 in 4"),
        (read(steps=16), "16 in 5"),
        ((stack([tokens, short[0]]), stack([born, short[1]])), "12 in 4"),
        ((tokens, merged), "15 in 4"),
        ((tokens, by_labels(born, [0, 1, 2, 3, -1], 4)), "12 in 4"),
    ):
        with pytest.raises(InputError, match=told % got):
            head(*wrong)


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig("series", head="classify", context=15),
        ModelConfig("dna", head="forecast", context=15),
        ModelConfig("series", head="forecast", context=0),
    ],
)
def test_a_context_that_nothing_is_forecast_from_is_refused(config):
    with pytest.raises(
        InputError, match=rf"'context' >= 1, .*\(got {config.context} to {config.head} {config.domain}\)"
    ):
        Model(config)


def test_a_model_of_windows_is_not_told_their_level():
    tokenizer = {"patch": 4, "channels": "independent"}
    model = Model(ModelConfig("series", tokenizer, "forecast", 6, 8, 1, 2, context=STEPS))
    torch.nn.init.ones_(model.head.out.weight)
    series = numbers(1, STEPS)
    one, other = (model(model.tokenize(values)) for values in (series, series * 8 + 64))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("plain", [False, True])
def test_a_model_of_windows_is_saved_and_loaded(tmp_path, plain):
    reduce = () if plain else (Reduce(block=0, method="links", keep=2),)
    tokenizer = {"patch": 4, "stride": 3, "channels": "independent"}
    config = ModelConfig("series", tokenizer, "forecast", 6, 8, 2, 2, reduce, context=STEPS, plain=plain, dropout=0.5)
    model = Model(config).eval()
    torch.nn.init.ones_(model.head.out.weight)
    model.save_pretrained(tmp_path)
    again = Model.from_pretrained(tmp_path).eval()
    tokens = model.tokenize(numbers(3, STEPS))
    assert model(tokens).std() > 0
    assert again.config == model.config and again(tokens).shape == (3, 1, 6)
    assert torch.equal(again(tokens), model(tokens))
    with pytest.raises(InputError, match="Expected records of 15 steps in 5 patches"):
        model(model.tokenize(numbers(3, STEPS + 1)))


@pytest.mark.parametrize("axes", [1, 3])
def test_reconstruct_answers_each_element_by_its_place(axes):
    head = made(Reconstruct, 6, 4, axes=axes)
    tokens = of(numbers(1, 3, 6), [2.0, 1.0, 3.0], axes=axes)
    places = numbers(1, 6, axes)
    out = head(tokens, places)
    assert out.shape == (1, 6, 4)
    assert not torch.allclose(out[0, 0], out[0, 1])  # same token, other places
    close(head(replace(tokens, positions=tokens.positions + 8), places + 8), out)  # only the offset counts


@pytest.mark.parametrize("name", ["element", "forecast", "reconstruct"])
def test_dense_heads_are_differentiable(name):
    tokens = padded(of(numbers(1, 3, 6), [2.0, 1.0, 3.0]), of(numbers(1, 2, 6, seed=1)))
    places = numbers(2, 6, 1)
    head = made(Reconstruct, 6, 4) if name == "reconstruct" else HEADS[name]()

    def run(x):
        now = replace(tokens, features=x)
        return head(now, places) if name == "reconstruct" else head(now)

    x = tokens.features.clone().requires_grad_()
    assert torch.autograd.gradcheck(run, (x,))
    run(x).sin().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in head.parameters())
    assert (x.grad[~tokens.mask] == 0).all()
