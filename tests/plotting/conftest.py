"""Layers that fit in the head, and random ones, as fixtures that are functions."""

import pytest
import torch

from tokred_sci.reduction.merge import merge
from tokred_sci.tokens import Grouping, Tokens


def make_whole(count: int, size: int = 1) -> Tokens:
    source = torch.arange(count).repeat_interleave(size)[None]
    places = torch.arange(count).view(1, count, 1).double()
    return Tokens(torch.zeros(1, count, 2), places, torch.full((1, count), float(size)), source)


def make_runs(tokens: Tokens, groups: int, seed: int = 0) -> Tokens:
    count = tokens.features.shape[1]
    chosen = torch.randperm(count - 1, generator=torch.Generator().manual_seed(seed))[: groups - 1] + 1
    starts = torch.zeros(count, dtype=torch.int64)
    starts[chosen] = 1
    return merge(tokens, Grouping(starts.cumsum(0)[None], groups))


@pytest.fixture(scope="session")
def whole():
    """`whole(count, size)`: so many tokens of so many elements each."""
    return make_whole


@pytest.fixture(scope="session")
def in_runs():
    """`in_runs(tokens, groups, seed)`: merged into runs with random borders."""
    return make_runs


@pytest.fixture(scope="session")
def layers():
    """64 elements as 32, 12 and 5 tokens."""
    first = make_whole(32, 2)
    second = make_runs(first, 12)
    return [first, second, make_runs(second, 5)]


@pytest.fixture(scope="session")
def pruned():
    """8 elements: two tokens of three, the last two elements dropped."""
    first = make_whole(8)
    return merge(first, Grouping(torch.tensor([[0, 0, 0, 1, 1, 1, -1, -1]]), 2))
