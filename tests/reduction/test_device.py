"""Without an accelerator at hand: tensors that have a device but no values show what would mix devices or wait for one.

A value read back (`.item()`, a loop over a tensor, a mask as an index) makes an accelerator wait; here it fails.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tokred_sci.experiment import REDUCTIONS
from tokred_sci.models.encoder import Encoder
from tokred_sci.reduction.merge import merge, to_source, unmerge
from tokred_sci.tokens import unchecked

READ_BACK = {"knn", "contract", "bins", "agglomerative", "dbscan", "hdbscan"}
"""These count while they work, or leave torch for a library of the processor's."""
FLOATS = [torch.float32, torch.bfloat16]


class OneDevice(TorchDispatchMode):
    """Refuses an operation that takes tensors of two devices (single numbers may lie on the processor)."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        held = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)]
        devices = {tensor.device.type for tensor in held if tensor.ndim}
        assert len(devices) < 2, f"{operation} takes tensors of {devices}"
        return operation(*args, **(kwargs or {}))


def batch(dtype=torch.float32):
    """Two records of 64 tokens of which nothing is known but their shapes."""
    x = torch.zeros(2, 64, 8, dtype=dtype, device="meta", requires_grad=True)
    source = torch.arange(64, device="meta").expand(2, 64)
    return unchecked(x, torch.zeros(2, 64, 1, device="meta"), torch.ones(2, 64, device="meta"), source)


def reduce(name, tokens):
    """Group, merge, undo, and hand back to elements, forward and backward."""
    with OneDevice():
        grouping = REDUCTIONS[name](tokens.features, tokens, 16)
        merged = merge(tokens, grouping)
        answer = to_source(merged)
        (answer.sum() + unmerge(merged.features, grouping).sum()).backward()
    return merged


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [name for name in REDUCTIONS if name not in READ_BACK])
def test_nothing_is_read_back_and_no_tensor_is_made_elsewhere(name, dtype):
    tokens = batch(dtype)
    merged = reduce(name, tokens)
    assert merged.features.device.type == "meta" and merged.features.dtype == dtype
    assert merged.features.shape == (2, 64 if name == "none" else 16, 8)
    assert tokens.features.grad.shape == (2, 64, 8)


@pytest.mark.parametrize("name", sorted(READ_BACK))
def test_methods_that_read_values_back_are_known_by_name(name):
    with pytest.raises((RuntimeError, NotImplementedError), match=r"meta tensor"):
        reduce(name, batch())


@pytest.mark.parametrize("places", ["real", "rank", 64.0])
@pytest.mark.parametrize("name", ["links", "peaks", "cover", "bipartite"])
def test_the_whole_encoder_reads_nothing_back(name, places):
    encoder = Encoder(8, 2, heads=2, reduce={0: (REDUCTIONS[name], 16)}, window=4, places=places).to("meta")
    with OneDevice():
        told = encoder(batch())
    assert told.features.shape == (2, 16, 8)


def test_the_check_sees_an_index_made_on_the_processor():
    with OneDevice(), pytest.raises(AssertionError, match="takes tensors of"):
        torch.zeros(3, device="meta")[torch.arange(2)]
