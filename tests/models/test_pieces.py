"""Long records in pieces: the same answer as all at once, in less memory."""

import random
from unittest.mock import Mock

import pytest
import torch

from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.models.embed import EmbedDNA, EmbedSeries
from tokred_sci.models.pieces import in_pieces
from tokred_sci.tokens import stack

LETTERS = "".join(random.Random(0).choices("ACGT", k=20_003))  # no repeats: ties may fall otherwise by rounding
NUMBERS = torch.rand(12_000, 3, generator=torch.Generator().manual_seed(0))
RECORDS = {
    "dna": ({"patch": 4, "compact": True}, LETTERS, LETTERS[:900]),
    "series": ({"patch": 2}, NUMBERS[:10_001, 0], NUMBERS[:700, 1]),
    "points": ({"method": "runs", "ratio": 0.5, "neighbours": 4}, NUMBERS, NUMBERS[:500]),
}


@pytest.mark.parametrize("domain", RECORDS)
def test_in_pieces_a_model_answers_as_it_does_all_at_once(domain):
    tokenizer, long, short = RECORDS[domain]
    model = Model(ModelConfig(domain, tokenizer, head="per-element", window=5, reduce=(Reduce(1, "links", 32),)))
    model = model.double().eval()
    tokens = stack([model.tokenize(long), model.tokenize(short)])
    if tokens.features.is_floating_point():
        tokens = tokens.to(torch.float64)
    at_once = model(tokens).detach()
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), at_once, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("patch", [1, 3, 16])
def test_a_convolution_sees_across_the_borders_of_pieces(patch):
    tokens = Model(ModelConfig("dna", {"patch": patch})).tokenize("ACGTTGCAC" * 2_000)
    tokens = tokens.to(torch.float64)
    embed = EmbedDNA(8, patch, hidden=4).double()
    at_once = embed(tokens).features.detach()
    with torch.no_grad():
        torch.testing.assert_close(embed(tokens).features, at_once, rtol=1e-12, atol=1e-12)


def test_filters_of_a_series_see_across_the_borders_of_pieces():
    tokens = Model(ModelConfig("series", {"patch": 4})).tokenize(torch.arange(50_000).mul(0.1).sin()).to(torch.float64)
    embed = EmbedSeries(8, 4, filters=4, kernel=5, stride=2).double()
    at_once = embed(tokens).features.detach()
    with torch.no_grad():
        torch.testing.assert_close(embed(tokens).features, at_once, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("length", "rows", "halo"), [(10, 4, 0), (10, 4, 3), (9, 2, 5), (7, 1, 1), (5, 5, 1)])
def test_pieces_meet_without_gaps(length, rows, halo):
    """A moving sum over `halo` rows to each side, of two records."""

    def moving(x):
        index = torch.arange(x.shape[1])
        near = ((index[:, None] - index).abs() <= halo).to(x)
        return near @ x, x

    x = torch.randn(2, length, 3, dtype=torch.float64)
    with torch.no_grad():
        for one, other in zip(in_pieces(moving, x, rows=2 * rows, halo=halo), moving(x), strict=True):
            torch.testing.assert_close(one, other)


def test_with_gradients_everything_is_done_at_once():
    function = Mock(side_effect=lambda x: (x,))
    x = torch.zeros(1, 10, 1)
    in_pieces(function, x, rows=3)
    assert function.call_count == 1
    with torch.no_grad():
        in_pieces(function, x, rows=3)
    assert function.call_count == 1 + 4
