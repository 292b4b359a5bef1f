"""What one graph method promises beyond the common laws."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.errors import InputError
from tokred_sci.reduction.chain import local
from tokred_sci.reduction.graph import bipartite
from tokred_sci.tokens import Tokens


def tokens_of(x):
    count = x.shape[1]
    return Tokens(x, torch.arange(count).double().view(1, count, 1), torch.ones(1, count), torch.arange(count)[None])


def plain_local(x, keep, width, causal):
    """One round with every pair written out."""
    x = F.normalize(x, dim=-1)
    count = len(x)
    pairs = []
    for i in range(1, count, 2):
        reach = range(i // 2 - width + 1, i // 2 + (1 if causal else 1 + width))
        candidates = [2 * j for j in reach if 0 <= 2 * j < count]
        partner = max(candidates, key=lambda c, i=i: (float(x[i] @ x[c]), -c))
        pairs.append((-float(x[i] @ x[partner]), i, partner))
    joins = {i: partner for _, i, partner in sorted(pairs)[: count - keep]}
    names = {i: n for n, i in enumerate(i for i in range(count) if i not in joins)}
    return [names[joins.get(i, i)] for i in range(count)]


@given(st.integers(2, 40), st.integers(0, 100), st.floats(0, 1), st.integers(1, 5), st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_local_is_its_plain_form(count, seed, share, width, causal):
    x = torch.randn(1, count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    keep = count - int(share * (count // 2))
    got = local(x, tokens_of(x), keep, width, causal).labels[0].tolist()
    assert got == plain_local(x[0], keep, width, causal)


def test_local_with_a_width_over_everything_is_bipartite():
    x = torch.randn(1, 30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for keep in (15, 20, 4):
        assert torch.equal(local(x, tokens_of(x), keep, 30).labels, bipartite(x, tokens_of(x), keep).labels)


@pytest.mark.parametrize("keep", [20, 12, 5, 1])
def test_causal_tokens_only_join_earlier_ones(keep):
    """So the token that others joined comes first in its group, and groups stand in the order of their first tokens."""
    x = torch.randn(1, 40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = local(x, tokens_of(x), keep, width=3, causal=True).labels[0]
    firsts = [int((labels == g).nonzero()[0]) for g in range(keep)]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("width", [0, -1, 1.5, True])
def test_a_width_that_is_none_is_refused(width):
    x = torch.zeros(1, 4, 2)
    with pytest.raises(InputError, match="'width' as an int >= 1"):
        local(x, tokens_of(x), 2, width)
