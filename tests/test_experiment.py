import json
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.experiment import REDUCTIONS, Model, ModelConfig, Reduce
from tokred_sci.tokens import stack

GENERATOR = np.random.default_rng(0)
RECORDS = {
    "dna": ["ACGTN" * 30, "ttga" * 50],
    "points": [GENERATOR.normal(size=(60, 3)), GENERATOR.normal(size=(200, 3))],
    "series": [GENERATOR.normal(size=(2, 70)), GENERATOR.normal(size=(2, 200))],
}
TOKENIZERS = {
    "dna": {"patch": 8},
    "points": {"tokens": 24, "neighbours": 8},
    "series": {"patch": 8, "in_channels": 2},
}


def config(domain: str, **more) -> ModelConfig:
    return ModelConfig(domain, TOKENIZERS[domain], **{"dim": 16, "depth": 2, "heads": 2, "window": 4, **more})


@pytest.mark.parametrize("domain", RECORDS)
@pytest.mark.parametrize("method", REDUCTIONS)
def test_every_domain_runs_with_every_method_and_answers_the_same_alone(domain, method):
    model = Model(config(domain, reduce=(Reduce(0, method, 5),), outputs=3)).double().eval()
    batch = [model.tokenize(record).to(torch.float64) for record in RECORDS[domain]]
    if method != "random":  # whose borders change from call to call
        alone = torch.cat([model(tokens) for tokens in batch])
        torch.testing.assert_close(model(stack(batch)), alone, atol=1e-12, rtol=0)
    assert model(stack(batch)).shape == (2, 3)


def test_one_encoder_takes_all_three_domains():
    models = [Model(config(domain, reduce=(Reduce(0, "peaks", 5),))) for domain in RECORDS]
    shared = models[0].encoder
    for model, records in zip(models, RECORDS.values(), strict=True):
        encoded = shared(model.embed(model.tokenize(records[1])))
        assert encoded.features.shape == (1, 5, 16)
        assert encoded.sizes.sum() == encoded.source.shape[1]


@pytest.mark.parametrize(
    ("head", "outputs", "shape"), [("classify", 3, (1, 3)), ("per-element", 4, (1, 70, 4)), ("forecast", 5, (1, 2, 5))]
)
def test_heads_answer_in_their_shape(head, outputs, shape):
    model = Model(config("series", head=head, outputs=outputs, reduce=(Reduce(0, "links", 3),)))
    assert model(model.tokenize(RECORDS["series"][0])).shape == shape


def test_reconstruct_tells_elements_of_one_token_apart():
    model = Model(config("series", head="reconstruct", outputs=2, reduce=(Reduce(0, "links", 3),)))
    y = model(model.tokenize(RECORDS["series"][0]), torch.arange(70.0).view(1, 70, 1))
    assert y.shape == (1, 70, 2) and not torch.equal(y[0, 0], y[0, 1])


def test_same_seed_same_weights_and_the_global_random_state_is_untouched():
    before = torch.get_rng_state()
    first, second, third = (Model(config("dna", seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.head.out.weight, third.head.out.weight)


@pytest.mark.parametrize("domain", RECORDS)
def test_saved_models_come_back_bit_equal(domain, tmp_path):
    model = Model(config(domain, reduce=(Reduce(0, "peaks", 5, options={"neighbours": 3}), Reduce(1, "links", 0.5))))
    model.save_pretrained(tmp_path / "model")
    again = Model.from_pretrained(tmp_path / "model")
    tokens = model.tokenize(RECORDS[domain][0])
    assert torch.equal(model(tokens), again(tokens))
    assert again.config == model.config


def test_threshold_budget_through_the_config():
    model = Model(config("dna", reduce=(Reduce(0, "links", threshold=0.99),)))
    tokens = model.embed(model.tokenize("ACGT" * 100))
    assert 1 <= int(model.encoder(tokens).counts) < 50  # the same patch again and again


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "at least 'domain'"),
        ({"domain": "rna"}, "did you mean 'dna'"),
        ({"domain": "dna", "heads_": 2}, "did you mean 'heads'"),
        ({"domain": "dna", "reduce": [{"block": 0, "method": "peak", "keep": 2}]}, "did you mean 'peaks'"),
        ({"domain": "dna", "reduce": [{"block": 0, "methode": "peaks"}]}, "did you mean 'method'"),
        ({"domain": "dna", "reduce": [{"block": 0, "method": "peaks"}]}, "either 'keep' or 'threshold'"),
        ({"domain": "dna", "reduce": [{"block": 9, "method": "peaks", "keep": 2}]}, r"in \[0, 4\)"),
        ({"domain": "dna", "head": "classifier"}, "did you mean 'classify'"),
        ({"domain": "dna", "pool": "median"}, "'mean', 'max' or 'attention'"),
        ({"domain": "dna", "metric": "values"}, "'keys' or 'features'"),
    ],
)
def test_wrong_names_are_refused_and_the_nearest_is_named(values, message):
    with pytest.raises(InputError, match=message):
        Model(ModelConfig.from_dict(values))


def test_damaged_missing_and_hostile_folders_are_refused(tmp_path):
    model = Model(config("dna"))
    with pytest.raises(InputError, match=r"config\.json"):
        Model.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="SHA-256"):
        Model.from_pretrained(tmp_path)
    weights.write_bytes(whole)
    told = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**told, "dim": 32}))
    with pytest.raises(InputError, match="does not fit"):
        Model.from_pretrained(tmp_path)
    Model(replace(model.config, dim=32))  # the config alone is fine
    hostile = (10**12).to_bytes(8, "little") + b"{}"  # a header of a terabyte, with a hash that is right
    weights.write_bytes(hostile)
    (tmp_path / "config.json").write_text(json.dumps({**told, "sha256": sha256(hostile).hexdigest()}))
    with pytest.raises(InputError, match="does not fit"):
        Model.from_pretrained(tmp_path)
