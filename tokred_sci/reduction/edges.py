"""Contracting a sparse graph: choose edges without circles, join along the best of them, and again."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tokred_sci.reduction.merge import merge
from tokred_sci.reduction.rows import Rows, in_token_order, unit
from tokred_sci.tokens import Grouping, Tokens

Edges = tuple[np.ndarray, np.ndarray]
"""Both ends of each edge, as places in the flattened batch (record * N + token)."""


def contracted(
    rows: Rows, edges: Callable[[Tensor, Tensor], Edges], choose: Callable[[Edges, int], np.ndarray]
) -> Grouping:
    """Choose edges without circles and join along the most similar, again until each record has its budget."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    batch = len(rows.mask)
    state = Tokens(rows.unit(), rows.positions, rows.sizes, torch.full((batch, 1), -1, device=rows.mask.device))
    labels = rows.places()
    counts = rows.counts
    while bool((counts > rows.keep).any()):
        width = state.sizes.shape[1]
        x = state.features.flatten(0, 1)
        left, right = edges(state.positions, counts)
        similar = _along(x, left, right)
        order = np.lexsort((left, left % width % 2, -similar))  # best first; of equals the even ones: pairs, not chains
        left, right = left[order], right[order]
        chosen = choose((left, right), batch * width)
        chosen = chosen[_first_of_each(left[chosen] // width, (counts - rows.keep).cpu().numpy())]
        link = coo_array((np.ones(len(chosen), bool), (left[chosen], right[chosen])), (batch * width,) * 2)
        parts = torch.from_numpy(connected_components(link, directed=False)[1]).long().to(labels.device)
        parts = parts.view(batch, width)
        step = in_token_order(parts - parts[:, :1], width)
        labels = step.masked_fill(~state.mask, 0).gather(1, labels)
        counts = counts - torch.from_numpy(np.bincount(left[chosen] // width, minlength=batch)).to(counts)
        state = merge(state, Grouping(step.masked_fill(~state.mask, -1), max(1, int(counts.max()))))
    return rows.grouping(labels)


def _first_of_each(record: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Places of the first `most[b]` entries of each record b."""
    order = np.argsort(record, kind="stable")
    sorted_ = record[order]
    place = np.arange(len(record)) - np.searchsorted(sorted_, sorted_)
    return order[place < most[sorted_]]


def _along(x: Tensor, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosine similarity of both ends of each edge; that with NaN is below all others."""
    x, ends = unit(x), (torch.from_numpy(left), torch.from_numpy(right))
    pairs = zip(*(end.to(x.device).split(1 << 15) for end in ends), strict=True)
    similar = [torch.linalg.vecdot(x[a], x[b]) for a, b in pairs]
    return torch.cat([x.new_empty(0), *similar]).nan_to_num(-2).cpu().numpy()


def chain_edges(positions: Tensor, counts: Tensor) -> Edges:
    batch, length, _ = positions.shape
    at = torch.arange(batch * length).view(batch, length)[:, :-1]
    left = at[torch.arange(1, length) < counts.cpu()[:, None]].numpy()
    return left, left + 1


def space_edges(positions: Tensor, counts: Tensor, neighbours: int) -> Edges:
    """Each token with its nearest in space, every pair once."""
    from scipy.spatial import cKDTree

    length, pairs = positions.shape[1], []
    for record, count in enumerate(counts.tolist()):
        if count > 1:
            places = positions[record, :count].cpu().nan_to_num(0, 0, 0).numpy()
            near = cKDTree(places).query(places, min(neighbours + 1, count))[1]
            own = np.repeat(np.arange(count), near.shape[1])
            low, high = np.minimum(own, near.ravel()), np.maximum(own, near.ravel())
            key = np.unique((low * count + high)[low < high])
            pairs.append(np.stack([key // count, key % count]) + record * length)
    both = np.concatenate(pairs, 1)
    return both[0], both[1]


def _first_edges(edges: Edges, total: int) -> np.ndarray:
    """The first edge at each node, with edges sorted from the best; their number where a node has none."""
    left, right = edges
    first = np.full(total, len(left))
    for end in (left, right):
        seen = np.full(total, len(left))
        seen[end[::-1]] = np.arange(len(end))[::-1]  # written last, so the first edge wins
        first = np.minimum(first, seen)
    return first


def nearest_edges(edges: Edges, total: int) -> np.ndarray:
    """The best edge of every node: a forest, since ranks are unique."""
    first = _first_edges(edges, total)
    return np.unique(first[first < len(edges[0])])


def matching(edges: Edges, total: int) -> np.ndarray:
    """Greedy matching, best edges first: an edge is in if it is the first one left at both ends."""
    left, right = edges
    alive, picked, used = np.arange(len(left)), [], np.zeros(total, bool)
    while len(alive):
        first = _first_edges((left[alive], right[alive]), total)
        here = np.arange(len(alive))
        won = alive[(first[left[alive]] == here) & (first[right[alive]] == here)]
        picked.append(won)
        used[left[won]] = used[right[won]] = True
        alive = alive[~(used[left[alive]] | used[right[alive]])]
    return np.sort(np.concatenate(picked))
