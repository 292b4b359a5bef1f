"""What one method along the chain of tokens promises beyond the common laws."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import diags
from sklearn.cluster import AgglomerativeClustering

from tokred_sci.errors import InputError
from tokred_sci.reduction.chain import chunks, links
from tokred_sci.reduction.graph import agglomerative
from tokred_sci.tokens import Tokens


def tokens_of(x):
    count = x.shape[1]
    return Tokens(x, torch.arange(count).double().view(1, count, 1), torch.ones(1, count), torch.arange(count)[None])


def random_x(count, seed=0, dim=4):
    return torch.randn(1, count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def walk(count, seed=0):
    """Neighbours are alike, as in a series, so that runs of very different lengths form."""
    return random_x(count, seed).cumsum(1)


def numbered(labels):
    """Labels of runs, from 0 in order."""
    return F.pad((labels[1:] != labels[:-1]).long(), (1, 0)).cumsum(0)


# Agglomeration of runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [random_x, walk])
@pytest.mark.parametrize(
    ("count", "keep"), [(2, 1), (17, 4), (18, 1), (60, 30), (150, 5), (300, 5), (300, 1), (300, 120)]
)
def test_ward_along_the_chain_is_that_of_scikit_learn(make, count, keep):
    """Also where runs grow longer than the tables reach, 16 tokens, and their sums come from elsewhere."""
    x, ones = make(count, count), [1.0] * (count - 1)
    model = AgglomerativeClustering(n_clusters=keep, linkage="ward", connectivity=diags([ones, ones], [-1, 1]))
    expected = torch.from_numpy(model.fit_predict(F.normalize(x[0], dim=-1).numpy()))
    labels = agglomerative(x, tokens_of(x), keep, "ward", chain=True).labels[0]
    assert labels.tolist() == numbered(expected).tolist()


def plain_average(x, keep):
    """Join the two neighbouring runs of the highest mean cosine between their members, until `keep` are left."""
    unit = F.normalize(x, dim=-1)
    cosine = unit @ unit.T
    borders = list(range(len(x) + 1))
    while len(borders) > keep + 1:
        joins = [
            (float(cosine[borders[i - 1] : borders[i], borders[i] : borders[i + 1]].mean()), i)
            for i in range(1, len(borders) - 1)
        ]
        del borders[max(joins)[1]]
    sizes = torch.tensor(borders).diff()
    return torch.arange(keep).repeat_interleave(sizes).tolist()


@pytest.mark.parametrize("make", [random_x, walk])
@given(count=st.integers(1, 60), seed=st.integers(0, 99), share=st.floats(0, 1))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_average_along_the_chain_is_its_plain_form(make, count, seed, share):
    x, keep = make(count, seed), max(1, int(share * count))
    got = agglomerative(x, tokens_of(x), keep, "average", chain=True).labels[0].tolist()
    assert got == plain_average(x[0], keep)


@pytest.mark.parametrize("make", [random_x, walk])
@pytest.mark.parametrize("keep", [2, 7, 40])
def test_average_along_a_long_chain_is_its_plain_form(make, keep):
    x = make(200, 1)
    got = agglomerative(x, tokens_of(x), keep, "average", chain=True).labels[0].tolist()
    assert got == plain_average(x[0], keep)


def test_single_along_the_chain_is_links():
    x = walk(80)
    for keep in (1, 9, 80):
        got = agglomerative(x, tokens_of(x), keep, "single", chain=True).labels
        assert torch.equal(got, links(x, tokens_of(x), keep).labels)


def test_equal_tokens_far_from_zero_cost_nothing_to_join():
    """Runs of one token each repeated 40 times; sums over 40 equal tokens must not lose the zero cost to rounding."""
    x = random_x(5, 3)[0].repeat_interleave(40, 0)[None]
    for linkage in ("ward", "average"):
        labels = agglomerative(x, tokens_of(x), 5, linkage, chain=True).labels[0]
        assert labels.tolist() == torch.arange(5).repeat_interleave(40).tolist()


# Chunks -----------------------------------------------------------------------------------------------------


def test_a_threshold_cuts_where_the_probability_of_a_boundary_reaches_it():
    """Right angles have probability 0.5, opposites 1, equal directions 0."""
    x = torch.tensor([[[1.0, 0], [2.0, 0], [0, 1.0], [0, -3.0], [0, -1.0]]])
    expected = {0.0: [0, 1, 2, 3, 4], 0.4: [0, 0, 1, 2, 2], 0.5: [0, 0, 1, 2, 2], 0.51: [0, 0, 0, 1, 1]}
    for threshold, labels in expected.items():
        assert chunks(x, tokens_of(x), 5, threshold).labels[0].tolist() == labels
    assert chunks(x, tokens_of(x), 2, 0.4).labels[0].tolist() == [0, 0, 0, 1, 1]  # the clearest boundary of the two


@given(count=st.integers(1, 50), seed=st.integers(0, 99), threshold=st.floats(0.01, 0.99), share=st.floats(0, 1))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_chunks_cut_at_every_boundary_unless_the_budget_runs_out(count, seed, threshold, share):
    x, keep = walk(count, seed), max(1, int(share * count))
    labels = chunks(x, tokens_of(x), keep, threshold).labels[0]
    unlike = (1 - torch.cosine_similarity(x[0, 1:], x[0, :-1], dim=-1)) / 2
    boundary = unlike >= threshold
    if boundary.sum() < keep:
        assert torch.equal(labels.diff() == 1, boundary)
    else:
        assert torch.equal(labels, links(x, tokens_of(x), keep).labels[0])


def test_without_a_threshold_chunks_are_links():
    x = walk(50)
    assert torch.equal(chunks(x, tokens_of(x), 12).labels, links(x, tokens_of(x), 12).labels)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold):
    x = random_x(4)
    with pytest.raises(InputError, match=re.escape(f"'threshold' in [0, 1] (got {threshold!r})")):
        chunks(x, tokens_of(x), 2, threshold)
