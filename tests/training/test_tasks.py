"""Content, hiding and answers of tasks, on tokens that fit in the head."""

import numpy as np
import pytest
import torch

from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.loader import IGNORE, Batch, MemoryStore, TokenLoader
from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.tokenizers.dna import DNATokenizer, reverse_complement
from tokred_sci.tokenizers.points import PointTokenizer
from tokred_sci.tokenizers.series import SeriesTokenizer
from tokred_sci.tokens import stack
from tokred_sci.training import hooks
from tokred_sci.training.metrics import classification, collect, regression
from tokred_sci.training.tasks import (
    Classify,
    LabelElements,
    Reconstruct,
    content_of,
    empty,
    hide,
    rank_in_token,
    shorten,
    turn_clouds,
)


@pytest.mark.parametrize("compact", [False, True])
def test_the_content_of_dna_is_its_bases_where_they_are(compact):
    tokenizer = DNATokenizer(4, compact=compact)
    tokens = stack([tokenizer("ACGTTGCANC"), tokenizer("GGA")])
    places, content, known = content_of(tokens, tokenizer)
    assert content[0, known[0]].argmax(-1).tolist() == [0, 1, 2, 3, 3, 2, 1, 0, 1]
    assert known.tolist()[1] == [True] * 3 + [False] * 7 and not known[0, 8]
    assert places[0, :, 0].tolist() == list(range(10))


@pytest.mark.parametrize("stride", [None, 2])
def test_the_content_of_series_is_their_values(stride):
    tokenizer = SeriesTokenizer(3, stride, "none", in_channels=2)
    values = np.arange(16.0).reshape(2, 8)
    values[1, 4] = np.nan
    tokens = tokenizer(values)
    places, content, known = content_of(tokens, tokenizer)
    assert known.tolist() == [[True] * 4 + [False] + [True] * 3]
    assert content[0, known[0]].T.tolist() == np.delete(values, 4, 1).tolist()
    if stride is None:
        assert places[0, :, 0].tolist() == list(range(8))


def test_the_content_of_points_is_what_lies_behind_their_places():
    cloud = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    tokenizer = PointTokenizer(10, 20, channels=5)
    places, content, known = content_of(tokenizer(cloud), tokenizer)
    assert bool(known.all())
    np.testing.assert_allclose(places[0], cloud[:, :3], atol=1e-6)
    np.testing.assert_array_equal(content[0], cloud[:, 3:])
    with pytest.raises(InputError, match="beyond x, y, z"):
        Reconstruct(PointTokenizer(10, 20))


def test_only_real_tokens_are_hidden_and_only_their_content_goes():
    tokenizer = SeriesTokenizer(2, in_channels=1)
    tokens = stack([tokenizer(np.arange(20.0)), tokenizer(np.arange(7.0))])
    torch.manual_seed(0)
    hidden = hide(tokens, 0.3)
    assert hidden.sum(1).tolist() == [3, 2] and not bool((hidden & ~tokens.mask).any())
    left = empty(tokens, hidden, tokenizer).features
    assert bool((left[hidden][:, :-2] == 0).all())
    assert torch.equal(left[hidden][:, -2:], tokens.features[hidden][:, -2:])
    assert torch.equal(left[~hidden], tokens.features[~hidden])


def test_what_is_cut_off_is_not_asked():
    tokenizer = DNATokenizer(4)
    entries = [Entry(tokenizer(word), targets=np.ones(len(word), np.int64)) for word in ("ACGT" * 4, "ACGTAC")]
    (batch,) = TokenLoader(MemoryStore(entries), 2, shuffle=False)
    cut = shorten(batch, 0.25)
    assert cut.tokens.features.shape[1] == 1
    assert (cut.targets != IGNORE).sum(1).tolist() == [4, 4]
    assert torch.equal(cut.targets != IGNORE, cut.tokens.source >= 0)
    assert rank_in_token(batch.tokens)[1].tolist()[:8] == [0, 1, 2, 3, 0, 1, 0, 0]


def test_metrics_agree_with_what_can_be_counted():
    truth, guess = np.array([0, 1, 2, 2, IGNORE]), np.array([0, 2, 2, 2, 1])
    scores = classification(truth, guess)
    assert scores["accuracy"] == scores["micro_f1"] == 0.75
    assert scores["macro_f1"] == pytest.approx((1 + 0 + 0.8) / 3)
    assert scores["miou"] == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert classification(np.zeros(3, int), np.zeros(3, int))["mcc"] == 0
    assert regression(np.array([1.0, np.nan]), np.array([3.0, 1.0])) == {"mse": 4.0, "mae": 2.0}


def test_no_answers_are_refused():
    with pytest.raises(InputError, match="as many answers as questions"):
        classification(np.zeros(3, int), np.zeros(2, int))
    with pytest.raises(InputError, match="at least one"):
        regression(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(InputError, match="at least one batch"):
        collect(torch.nn.Linear(1, 1), [], lambda model, batch: (np.zeros(1), np.zeros(1)))
    with pytest.raises(InputError, match="hidden tokens"):
        Reconstruct(DNATokenizer(4), 0.0)
    with pytest.raises(InputError, match="DNA in patches"):
        Reconstruct(DNATokenizer(4, "kmer"))


def test_to_reconstruct_patches_that_overlap_is_refused():
    with pytest.raises(InputError, match=r"do not overlap to reconstruct \(got .*stride=2.*Leave 'stride' out"):
        Reconstruct(SeriesTokenizer(4, 2))
    assert Reconstruct(SeriesTokenizer(4, 4)).tokenizer == SeriesTokenizer(4, 4)


def test_answers_are_the_same_at_every_call_where_merging_is_random():
    steps = (Reduce(0, "random", 0.5),)
    model = Model(ModelConfig("dna", {"patch": 4}, dim=8, depth=1, heads=2, reduce=steps))
    tokens = stack([model.tokenize("ACGTTGCA" * 8), model.tokenize("GATTACA" * 9)])
    batches = [Batch(tokens, None, None, torch.arange(2))] * 2

    def answer(model, batch):
        return np.zeros(2), model(batch.tokens).numpy()

    (generator,) = hooks.generators(model)
    before = generator.get_state()
    first = collect(model, batches, answer)[1]
    assert torch.equal(generator.get_state(), before)
    generator.manual_seed(7)
    again = collect(model, batches, answer)[1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(*first)  # each batch another pattern


@pytest.mark.parametrize("compact", [False, True])
def test_both_strands_of_a_record_get_one_answer(compact):
    tokenizer = DNATokenizer(4, compact=compact)
    model = Model(ModelConfig("dna", {"patch": 4, "compact": compact}, dim=8, depth=1, heads=2, outputs=3))
    task = Classify(tokenizer.reverse_complement)
    texts = ["".join(np.random.default_rng(i).choice(list("ACGT"), 9 + i)) for i in range(6)]
    here, there = (
        Batch(stack([tokenizer(text) for text in each]), torch.tensor([0, 1, 2] * 2), None, torch.arange(6))
        for each in (texts, [reverse_complement(text) for text in texts])
    )
    with torch.no_grad():
        assert np.array_equal(task.answer(model, here)[1], task.answer(model, there)[1])
        either = {float(Classify().loss(model, batch.take([0])).total) for batch in (here, there)}
        seen = {float(task.loss(model, here.take([0])).total) for _ in range(20)}
    np.testing.assert_allclose(sorted(seen), sorted(either), rtol=1e-5)


def test_clouds_are_turned_as_a_whole_each_its_own_way_and_never_mirrored():
    random = np.random.default_rng(0)
    tokenizer = PointTokenizer(6, 20, channels=4)
    cloud = random.normal(size=(30, 4)).astype(np.float32)
    tokens = stack([tokenizer(cloud)] * 40)
    torch.manual_seed(0)
    turned = turn_clouds(tokens, 20)
    before, after = (content_of(some, tokenizer) for some in (tokens, turned))
    assert torch.equal(before[1], after[1]) and torch.equal(before[2], after[2])  # the other channel, and what is known
    old, new = before[0][0].double(), after[0].double()
    factors = torch.stack([torch.pdist(one) / torch.pdist(old) for one in new])
    assert float((factors.amax(1) - factors.amin(1)).max()) < 1e-3
    assert 0.8 <= float(factors.min()) < 0.9 and 1.15 < float(factors.max()) <= 1.25
    maps = torch.linalg.lstsq(old.expand(40, -1, -1), new).solution / factors.mean(1)[:, None, None]
    torch.testing.assert_close(maps.det(), torch.ones(40, dtype=torch.float64), atol=1e-3, rtol=0)
    assert float(maps.mean(0).abs().max()) < 0.4  # every side comes up


def test_upright_clouds_are_turned_about_the_third_axis_to_every_side():
    cloud = np.eye(3, dtype=np.float32) * [1, 1, 5]
    tokens = stack([PointTokenizer(3, 1)(cloud)] * 400)
    torch.manual_seed(0)
    places = turn_clouds(tokens, 1, scales=(1.0, 1.0), upright=True).positions
    turned = places.gather(1, tokens.source[..., None].expand(-1, -1, 3))
    torch.testing.assert_close(
        turned @ turned.mT, torch.eye(3).double().expand(400, -1, -1) * torch.tensor([1.0, 1, 25])
    )
    torch.testing.assert_close(turned[:, 2], tokens.positions.new_tensor([[0.0, 0, 5]]).expand(400, -1))
    assert float(turned[:, :2].mean(0).abs().max()) < 0.15 and (turned.det() > 0).all()


@pytest.mark.parametrize("task", [Classify, LabelElements])
def test_records_are_varied_in_training_and_never_in_answers(task):
    tokenizer = PointTokenizer(6, 10)
    head = "classify" if task is Classify else "per-element"
    model = Model(ModelConfig("points", {"tokens": 6, "neighbours": 10}, head, dim=8, depth=1, heads=2))
    tokens = tokenizer(np.random.default_rng(0).normal(size=(30, 3)))
    batch = Batch(tokens, torch.zeros(1), torch.zeros(1, 30, dtype=torch.long), torch.zeros(1))
    plain, varied = task(), task(vary=lambda some: turn_clouds(some, 10))
    losses = {round(varied.loss(model, batch).total.item(), 5) for _ in range(4)}
    assert len(losses) == 4 and np.array_equal(plain.answer(model, batch)[1], varied.answer(model, batch)[1])
