"""The plain baseline: as padding-proof and order-free as the encoder it stands in for, and about as large."""

from dataclasses import replace

import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.models.baseline import Plain
from tokred_sci.tokens import Tokens, stack

CLOUD = ModelConfig("points", {"tokens": 8, "neighbours": 8, "method": "curve"}, dim=16, depth=2, heads=2, plain=True)
CHAIN = ModelConfig("dna", {"patch": 4}, dim=16, depth=2, heads=2, plain=True)


def tokens(count: int, axes: int, seed: int = 0) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, count, 8, generator=generator)
    places = torch.rand(1, count, axes, generator=generator, dtype=torch.float64)
    return Tokens(x, places, torch.ones(1, count), torch.arange(count)[None])


@pytest.mark.parametrize("axes", [1, 3])
def test_a_record_gets_the_same_answer_alone_and_in_any_batch(axes):
    model = Plain(8, 2, axes).eval()
    short, long = tokens(5, axes), tokens(9, axes, 1)
    both = stack([short, long])
    spoiled = replace(both, features=both.features.masked_fill(~both.mask[..., None], 7.0))
    for batch in (both, spoiled):
        answer = model(batch)
        torch.testing.assert_close(answer.features[:1, :5], model(short).features)
        torch.testing.assert_close(answer.features[1:], model(long).features)


def test_order_and_place_of_a_cloud_do_not_matter_but_shape_does():
    model, cloud = Plain(8, 2, 3).eval(), tokens(9, 3)
    turned = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    other = replace(cloud, features=cloud.features[:, turned], positions=cloud.positions[:, turned] + 5)
    torch.testing.assert_close(model(other).features, model(cloud).features[:, turned], atol=1e-5, rtol=1e-4)
    wide = replace(cloud, positions=cloud.positions * 2)
    assert not torch.allclose(model(wide).features, model(cloud).features, atol=1e-3)


def test_a_chain_hears_its_neighbours_and_no_others():
    model, chain = Plain(8, 1, 1, kernel=3).eval(), tokens(20, 1)
    changed = chain.features.clone()
    changed[0, 10, 0] += 1
    differs = (model(replace(chain, features=changed)).features - model(chain).features).abs().amax(2)[0] > 1e-6
    assert differs.nonzero().flatten().tolist() == [8, 9, 10, 11, 12]


@pytest.mark.parametrize("config", [CLOUD, CHAIN])
def test_it_is_about_as_large_as_the_encoder_and_saved_like_it(config, tmp_path):
    wide = replace(config, dim=64)
    plain, encoder = (sum(p.numel() for p in Model(c).parameters()) for c in (wide, replace(wide, plain=False)))
    assert 0.8 < plain / encoder < 1.25
    model = Model(config)
    model.save_pretrained(tmp_path)
    again = Model.from_pretrained(tmp_path)
    assert again.config.plain and all(a.equal(b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_an_even_kernel_and_a_plain_model_that_merges_are_refused():
    with pytest.raises(InputError, match="'kernel' odd"):
        Plain(8, 1, kernel=4)
    with pytest.raises(InputError, match="Expected no 'reduce' with plain"):
        Model(replace(CHAIN, reduce=(Reduce(0, "links", 0.5),)))
