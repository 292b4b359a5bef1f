"""The library's groupings are those of the plain published formulas that the benchmark compares against."""

import importlib.util
from pathlib import Path

import pytest
import torch

from tokred_sci.experiment import REDUCTIONS
from tokred_sci.reduction import density, graph
from tokred_sci.tokens import Tokens

PATH = Path(__file__).parents[2] / "benchmarks" / "reference.py"
SPEC = importlib.util.spec_from_file_location("reference", PATH)
reference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)

INPUTS = pytest.mark.parametrize(
    ("kind", "count", "dim"),
    [("random", 256, 16), ("random", 1024, 32), ("clusters", 1000, 16), ("smooth", 513, 16), ("smooth", 1024, 32)],
)


def ours(function, x, keep, **options):
    """Labels (N,) of a library function on one record of tokens of size 1."""
    count = len(x)
    places = torch.arange(count).double().view(1, count, 1)
    tokens = Tokens(x[None], places, torch.ones(1, count), torch.arange(count)[None])
    return function(x[None], tokens, keep, **options).labels[0]


def example(kind, count, dim):
    return reference.example(kind, count, dim, dtype=torch.float64)


def assert_as_good(x, got, want, keep):
    """The same partition; where rounding breaks a tie the other way, one that loses no more (within 1 %)."""
    assert len(got.unique()) == len(want.unique()) == keep
    if not torch.equal(reference.canonical(got), reference.canonical(want)):
        errors = [reference.reconstruction_error(x, labels) for labels in (got, want)]
        assert errors[0] == pytest.approx(errors[1], rel=0.01)


@INPUTS
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_bipartite(kind, count, dim, share):
    x, keep = example(kind, count, dim), count - int(count * (1 - share))
    assert torch.equal(ours(graph.bipartite, x, keep), reference.bipartite(x, keep))


@INPUTS
@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_local(kind, count, dim, width, share):
    x, keep = example(kind, count, dim), count - int(count * (1 - share))
    assert torch.equal(ours(REDUCTIONS["local"], x, keep, width=width), reference.local(x, keep, width))


@INPUTS
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_links(kind, count, dim, share):
    x, keep = example(kind, count, dim), int(count * share)
    assert torch.equal(ours(REDUCTIONS["links"], x, keep), reference.links(x, keep))


@INPUTS
@pytest.mark.parametrize("neighbours", [3, 5])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_peaks(kind, count, dim, neighbours, share):
    x, keep = example(kind, count, dim), int(count * share)
    got = ours(density.peaks, x, keep, neighbours=neighbours)
    assert torch.equal(got, reference.peaks(x, keep, neighbours))


@INPUTS
@pytest.mark.parametrize("form", ["paper", "code"])
@pytest.mark.parametrize(("margin", "alpha", "share"), [(0.5, 1.0, 0.5), (0.9, 0.5, 0.8)])
def test_energy(kind, count, dim, form, margin, alpha, share):
    x, keep = example(kind, count, dim), count - int(count * (1 - share))
    got = ours(graph.energy, x, keep, margin=margin, alpha=alpha, form=form)
    assert_as_good(x, got, reference.energy(x, keep, margin, alpha, form), keep)


@INPUTS
@pytest.mark.parametrize("linkage", ["average", "single", "complete", "ward"])
def test_agglomerative(kind, count, dim, linkage):
    x, keep = example(kind, count, dim), count // 4
    assert_as_good(
        x, ours(graph.agglomerative, x, keep, linkage=linkage), reference.agglomerative(x, keep, linkage), keep
    )


@INPUTS
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_ward_along_the_chain(kind, count, dim, share):
    x, keep = example(kind, count, dim), int(count * share)
    assert_as_good(
        x, ours(graph.agglomerative, x, keep, linkage="ward", chain=True), reference.ward_chain(x, keep), keep
    )


@pytest.mark.parametrize("form", ["paper", "code"])
def test_energy_by_hand(form):
    """Energies 1.21 > 1.20 > 1.19 > -2.32 for tokens 1, 2, 0, 3 (paper): token 1 leaves, and 2 is all it may join."""
    x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [-1.0, 0.1]], dtype=torch.float64)
    assert reference.energy(x, 3, form=form).tolist() == [0, 1, 1, 2]


def test_names_of_groups_do_not_matter():
    assert reference.canonical(torch.tensor([4, 2, 4, 0, 2])).tolist() == [0, 1, 0, 2, 1]


def test_the_error_of_a_merge():
    x = torch.tensor([[3.0], [5.0], [2.0]])
    assert reference.reconstruction_error(x, torch.tensor([0, 1, 2])) == 0
    assert reference.reconstruction_error(x, torch.tensor([0, 0, 1])) == pytest.approx((2 / 38) ** 0.5)
