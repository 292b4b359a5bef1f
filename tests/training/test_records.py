import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.training.config import TrainConfig
from tokred_sci.training.records import predict, train

CONFIG = TrainConfig(steps=30, batch=8, learning_rate=5e-3, warm_up=5)


def model(seed: int = 0) -> Model:
    return Model(
        ModelConfig(
            "dna", {"patch": 4}, dim=16, depth=2, heads=2, reduce=(Reduce(0, "peaks", 4),), dropout=0.1, seed=seed
        )
    )


def data(of: Model):
    records = [of.tokenize(text) for text in ["AATT" * 8, "GGCC" * 6, "AATA" * 5, "GCGC" * 8] * 4]
    return records, torch.tensor([0, 1, 0, 1] * 4)


def test_it_learns_and_predicts_every_record_in_order():
    m = model()
    records, labels = data(m)
    losses = train(m, records, labels, CONFIG)
    assert losses[-1] < 0.3 < losses[0]
    assert torch.equal(predict(m, records, batch=3).argmax(1), labels)


def test_the_same_seed_gives_bit_equal_weights_and_leaves_the_global_random_state_alone():
    first, second, other = model(), model(), model()
    records, labels = data(first)
    before = torch.get_rng_state()
    train(first, records, labels, CONFIG)
    train(second, records, labels, CONFIG)
    train(other, records, labels, TrainConfig(steps=30, batch=8, learning_rate=5e-3, warm_up=5, seed=1))
    assert torch.equal(before, torch.get_rng_state())
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_labels_that_do_not_match_and_a_loss_that_explodes_are_refused():
    m = model()
    records, labels = data(m)
    with pytest.raises(InputError, match="16 records, 3 labels"):
        train(m, records, labels[:3], CONFIG)
    with torch.no_grad():
        m.head.out.bias.fill_(float("nan"))
    with pytest.raises(InputError, match="5 bad batches in a row, the last at step 0: loss nan"):
        train(m, records, labels, CONFIG)
