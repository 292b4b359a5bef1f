"""Merging inside a traced graph: compiled with lengths left open, and exported for a range of lengths."""

from functools import partial

import pytest
import torch

from tokred_sci.reduction import budget, chain, control, density, graph, where
from tokred_sci.reduction.merge import merge
from tokred_sci.tokens import Tokens

GROUPS = {  # tensors all the way; the others leave torch for SciPy, scikit-learn or a heap
    "links": chain.links,
    "chunks": partial(chain.chunks, threshold=0.5),
    "stride": control.stride,
    "truncate": control.truncate,
    "topk": control.topk,
    "topk by attention": partial(control.topk, by="attention"),
    "local": chain.local,
    "local, width 4": partial(chain.local, width=4),
    "bipartite": graph.bipartite,
    "energy": graph.energy,
    "rank": graph.rank,
    "peaks": density.peaks,
    "peaks in windows": where.within(density.peaks, where.windows(8)),
    "links, some protected": where.protect(chain.links, where.loudest(0.1)),
}
LENGTHS = (40, 30)  # down to 12 takes two rounds of pairs from 25 to 48 tokens: rounds are unrolled in a graph

pytestmark = pytest.mark.filterwarnings("ignore")  # what the tracer itself warns of differs between releases
IN_ROUNDS = ["local", "local, width 4", "bipartite", "energy"]  # their graph depends on the kind of budget
COVERED = ["chunks", "truncate", "topk by attention", "local, width 4", "peaks"]  # by links, topk, rank, local, windows
COMPILED = [name for name in GROUPS if name not in COVERED]


def fields(length):
    """Two records, the second with padding at its end."""
    x = torch.randn(2, length, 6, generator=torch.Generator().manual_seed(length), dtype=torch.float64)
    places = torch.arange(length).double().view(1, length, 1).repeat(2, 1, 1)
    real = torch.arange(length) < torch.tensor([[length], [length - 3]])
    return x, places, real.float(), torch.arange(length).expand(2, length).masked_fill(~real, -1)


class Step(torch.nn.Module):
    """One merging step as a function of plain tensors."""

    def __init__(self, group, wanted):
        super().__init__()
        self.group, self.wanted = group, wanted

    def forward(self, features, positions, sizes, source):
        tokens = Tokens(features, positions, sizes, source)
        keep = self.wanted if isinstance(self.wanted, int) else budget.ratio(self.wanted)(features, tokens)
        merged = merge(tokens, self.group(features, tokens, keep))
        return merged.features, merged.positions, merged.sizes, merged.source


def same(got, expected):
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_step_is_the_plain_one_and_serves_other_lengths_without_compiling_again(name):
    torch._dynamo.reset()
    step = Step(GROUPS[name], 12)
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    same(compiled(*fields(LENGTHS[0])), step(*fields(LENGTHS[0])))
    with torch.compiler.set_stance("fail_on_recompile"):
        same(compiled(*fields(LENGTHS[1])), step(*fields(LENGTHS[1])))


@pytest.mark.parametrize(("name", "wanted"), [*((name, 0.5) for name in GROUPS), *((name, 12) for name in IN_ROUNDS)])
def test_an_exported_step_is_the_plain_one_at_every_length_of_its_range(name, wanted):
    """Guards that hold for every length, but that the solver cannot prove, become checks at run time."""
    step, shapes = Step(GROUPS[name], wanted), {1: torch.export.Dim("tokens", min=25, max=48)}
    exported = torch.export.export(
        step, fields(LENGTHS[0]), dynamic_shapes=(shapes,) * 4, prefer_deferred_runtime_asserts_over_guards=True
    ).module()
    for length in (*LENGTHS, 25, 48):
        same(exported(*fields(length)), step(*fields(length)))
