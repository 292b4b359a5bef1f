"""Costs by formula are those that torch counts, and tokens by block those that a model really has."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.explore.cost import flops, flops_of_all, token_bytes, tokens_by_block, with_merging
from tokred_sci.tokenizers.dna import DNATokenizer
from tokred_sci.tokenizers.points import PointTokenizer
from tokred_sci.tokenizers.series import SeriesTokenizer
from tokred_sci.tokens import unchecked

CONFIGS = [
    ModelConfig("dna"),
    ModelConfig("dna", window=16),
    ModelConfig("dna", dim=32, depth=3, heads=2, reduce=(Reduce(0, "stride", 40),)),
    ModelConfig("dna", window=16, reduce=(Reduce(1, "stride", 0.25),)),
    ModelConfig("dna", window=24, reduce=(Reduce(1, "links", 0.3), Reduce(3, "stride", 7))),
    ModelConfig("dna", reduce=(Reduce(2, "none", 4),)),
]


def counted(config, tokens):
    """Operations of a real encoder on values that are not there."""
    encoder = Model(config).encoder.to("meta")
    shapes = ((1, tokens, config.dim), (1, tokens, 1), (1, tokens))
    features, positions, sizes = (torch.ones(shape, device="meta") for shape in shapes)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(unchecked(features, positions, sizes, torch.zeros(1, tokens, dtype=torch.int64, device="meta")))
    return counter.get_total_flops()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("tokens", [48, 100, 257])
def test_the_formula_is_what_torch_counts(config, tokens):
    assert flops(config, tokens) == counted(config, tokens)


@pytest.mark.parametrize("config", CONFIGS)
def test_tokens_by_block_are_those_of_a_trace(config):
    model = Model(config)
    tokens = model.tokenize("ACGTTGCAAT" * 160)  # 100 tokens
    layers = model.encoder.trace(model.embed(tokens))
    assert tokens_by_block(config, 100) == [int(layer.counts[0]) for layer in layers]


def test_windows_make_it_linear_and_merging_makes_it_less():
    near, far = ModelConfig("dna", window=16), ModelConfig("dna")
    assert flops(near, 1 << 16) == 16 * flops(near, 1 << 12)
    assert flops(far, 1 << 16) > 200 * flops(far, 1 << 12)
    assert flops(with_merging(far), 1 << 12) < flops(far, 1 << 12)


def test_all_records_cost_the_sum_of_each():
    config = ModelConfig("dna")
    assert flops_of_all(config, [5, 7, 5]) == 2 * flops(config, 5) + flops(config, 7)


@pytest.mark.parametrize(
    ("tokenizer", "record"),
    [
        (DNATokenizer(), "ACGT" * 100),
        (DNATokenizer(compact=True), "ACGT" * 100),
        (PointTokenizer(tokens=16, neighbours=4), torch.rand(64, 3)),
        (SeriesTokenizer(patch=8), torch.rand(100)),
    ],
)
def test_bytes_are_those_of_real_tokens(tokenizer, record):
    tokens = tokenizer(record)
    held = sum(x.numel() * x.element_size() for x in (tokens.features, tokens.positions, tokens.sizes, tokens.source))
    assert token_bytes(tokenizer, tokens.features.shape[1], tokens.source.shape[1]) == held


def test_a_model_without_attention_is_refused():
    with pytest.raises(InputError, match="by formula"):
        flops(ModelConfig("dna", plain=True), 100)
