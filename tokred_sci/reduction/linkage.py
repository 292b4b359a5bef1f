"""Merge trees of all tokens of a record, through SciPy, and cutting them at a count or a distance."""

import numpy as np
import torch
from torch import Tensor

from tokred_sci.reduction.rows import need_memory


def pair_distances(x: Tensor, need: int) -> np.ndarray:
    """Squared Euclidean distances of all pairs of (N, D), in SciPy's condensed order, made row block by row block.

    Args:
        need: bytes per pair (i, j) that the caller will need in all.

    Raises:
        InputError: they do not fit into memory.
    """
    count = len(x)
    need_memory(need * count**2, f"the distances of {count:,} tokens")
    x = x.double() - x.double().mean(0)
    squares = (x * x).sum(1)
    distances, done = np.empty(count * (count - 1) // 2), 0
    for start in range(0, count, 256):
        stop = min(start + 256, count)
        product = squares[start:stop, None] + squares[start:] - 2 * (x[start:stop] @ x[start:].T)
        block = product.masked_fill_(product < 1e-14 * squares.max(), 0).numpy()  # equal tokens are at distance 0
        for row in range(stop - start):
            rest = count - start - row - 1
            distances[done : done + rest] = block[row, row + 1 :]
            done += rest
    return distances


def tree_of(distances: np.ndarray, linkage: str) -> np.ndarray:
    """The merge tree of condensed distances, one row per merge, closest first."""
    from scipy.cluster.hierarchy import linkage as link

    return link(distances, linkage) if len(distances) else np.empty((0, 4))


def cut(tree: np.ndarray, count: int, keep: int, radius: float | None = None) -> Tensor:
    """Labels (count,) after the first `count - keep` merges, or with `radius` also all others up to that distance."""
    from scipy.cluster.hierarchy import DisjointSet

    done = count - keep
    if radius is not None:
        done = max(done, int((tree[:, 2] <= radius).sum()))
    sets, first = DisjointSet(range(count)), list(range(count))
    for a, b in tree[:done, :2].astype(int).tolist():
        sets.merge(first[a], first[b])
        first.append(first[a])  # some token of the new group
    return torch.unique(torch.tensor([sets[i] for i in range(count)]), return_inverse=True)[1]
