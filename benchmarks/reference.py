"""Published groupings in their plain form: the N x N matrix written out, one record, no padding. For comparison only.

Every function is written from the formulas of its paper and returns labels (N,) int64 in [0, keep). Groups are numbered
in token order of the token where they live (the one that stayed, the centre); ties go to the lower index.
"""

import torch
import torch.nn.functional as F
from scipy.sparse import diags
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor


def bipartite(metric: Tensor, keep: int) -> Tensor:
    """The odd tokens most alike to an even one join it. One round: keep >= N / 2.

    Token Merging: Your ViT But Faster (Bolya et al., 2023), https://arxiv.org/abs/2210.09461.
    """
    unit = F.normalize(metric, dim=-1)
    similarity = unit[1::2] @ unit[::2].T
    return _join_even(similarity, keep)


def local(metric: Tensor, keep: int, width: int = 1) -> Tensor:
    """As `bipartite`, but odd token 2i + 1 sees only even tokens 2(i + s) with s in [1 - width, width].

    Efficient Time Series Processing for Transformers and State-Space Models through Token Merging (Goetz et al., 2025),
    https://arxiv.org/abs/2405.17951.
    """
    unit = F.normalize(metric, dim=-1)
    similarity = unit[1::2] @ unit[::2].T
    odd, even = (torch.arange(count) for count in similarity.shape)
    shift = even - odd[:, None]
    return _join_even(similarity.masked_fill((shift < 1 - width) | (shift > width), -torch.inf), keep)


def energy(metric: Tensor, keep: int, margin: float = 0.5, alpha: float = 1.0, form: str = "paper") -> Tensor:
    """The 2 (N - keep) tokens of highest energy are split in turn into A and B; each of A joins its likest of B.

    The energy of a token is the mean over all others of f(cosine), Eq. 4: f(x) = x from the margin on, and
    alpha (exp(x - margin) - 1) below it. With `form="code"` f is an ELU: x - margin from the margin on. keep >= N / 2.

    Accelerating Transformers with Spectrum-Preserving Token Merging (PiToMe; Tran et al., 2024),
    https://arxiv.org/abs/2405.16148.
    """
    count = len(metric)
    unit = F.normalize(metric, dim=-1)
    cosine = unit @ unit.T
    above = cosine if form == "paper" else cosine - margin
    value = torch.where(cosine >= margin, above, alpha * (torch.exp(cosine - margin) - 1))
    mean = value.fill_diagonal_(0).sum(1) / (count - 1)
    mergeable = mean.argsort(descending=True, stable=True)[: 2 * (count - keep)]
    leave, stay = mergeable[::2], mergeable[1::2]
    home = torch.arange(count)
    if keep < count:
        home[leave] = stay[(unit[leave] @ unit[stay].T).argmax(1)]
    return _number(home)


def peaks(metric: Tensor, keep: int, neighbours: int = 5) -> Tensor:
    """Tokens that are dense and far from denser ones become centres; the others join the nearest centre.

    Density: exp(-mean squared distance to the nearest `neighbours` tokens, itself included), in units of the record's
    root-mean-square spread. Separation: distance to the nearest denser token; for the densest, to the farthest token.

    Clustering by fast search and find of density peaks (Rodriguez & Laio, 2014), https://doi.org/10.1126/science.1242072;
    with k nearest neighbours: TCFormer (Zeng et al., 2022), https://arxiv.org/abs/2204.08680.
    """
    centred = metric - metric.mean(0)
    scaled = centred / centred.square().sum(1).mean().sqrt()
    distance = torch.cdist(scaled, scaled)
    nearest = distance.topk(neighbours, largest=False)[0]
    density = torch.exp(-nearest.square().mean(1))
    index = torch.arange(len(metric))
    denser = (density > density[:, None]) | ((density == density[:, None]) & (index < index[:, None]))
    separation = torch.where(denser, distance, torch.inf).amin(1)
    separation = torch.where(separation.isinf(), distance.max(), separation)
    centres = (separation * density).argsort(descending=True, stable=True)[:keep].sort()[0]
    home = centres[distance[:, centres].argmin(1)]
    home[centres] = centres
    return _number(home)


def links(metric: Tensor, keep: int) -> Tensor:
    """Cut the `keep - 1` weakest cosine similarities between neighbours.

    Minimum spanning trees and single linkage cluster analysis (Gower & Ross, 1969), https://doi.org/10.2307/2346439:
    on a chain the chain is the tree.
    """
    unit = F.normalize(metric, dim=-1)
    similarity = (unit[:-1] * unit[1:]).sum(1)
    labels = torch.zeros(len(metric), dtype=torch.int64)
    labels[1 + similarity.argsort(stable=True)[: keep - 1]] = 1
    return labels.cumsum(0)


def agglomerative(metric: Tensor, keep: int, linkage: str = "average") -> Tensor:
    """Join the two nearest groups until `keep` are left, by cosine distance ("ward": Euclidean on unit vectors).

    scikit-learn's, numbered by first token. Agglomerative Token Clustering (Haurum et al., 2024),
    https://arxiv.org/abs/2409.11923; Ward (1963), https://doi.org/10.1080/01621459.1963.10500845.
    """
    distance = "euclidean" if linkage == "ward" else "cosine"
    model = AgglomerativeClustering(n_clusters=keep, metric=distance, linkage=linkage)
    return canonical(torch.from_numpy(model.fit_predict(F.normalize(metric, dim=-1).numpy())))


def ward_chain(metric: Tensor, keep: int) -> Tensor:
    """Ward's clustering of unit vectors where only neighbouring runs may join. scikit-learn's, numbered in order.

    Hierarchical grouping to optimize an objective function (Ward, 1963), https://doi.org/10.1080/01621459.1963.10500845.
    """
    ones = [1.0] * (len(metric) - 1)
    model = AgglomerativeClustering(n_clusters=keep, linkage="ward", connectivity=diags([ones, ones], [-1, 1]))
    return canonical(torch.from_numpy(model.fit_predict(F.normalize(metric, dim=-1).numpy())))


def canonical(labels: Tensor) -> Tensor:
    """The same partition with groups numbered by their first token, (N,)."""
    group = torch.unique(labels, return_inverse=True)[1]
    place = torch.arange(len(labels))
    first = torch.full((int(group.max()) + 1,), len(labels)).scatter_reduce(0, group, place, "amin")
    return _number(first[group])


def reconstruction_error(x: Tensor, labels: Tensor) -> float:
    """||x - unmerge(merge(x))|| / ||x|| of tokens (N, D) of size 1."""
    groups = int(labels.max()) + 1
    means = x.new_zeros(groups, x.shape[1]).index_add(0, labels, x)
    means /= labels.bincount(minlength=groups).clamp(min=1)[:, None]
    return float((x - means[labels]).norm() / x.norm())


def example(kind: str, count: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Tokens (count, dim): "random" Gaussian, "clusters" (64 tight ones, shuffled) or "smooth" (waves and a walk)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    if kind == "clusters":
        centres = torch.randn(64, dim, generator=generator, dtype=torch.float64)
        noise = centres[torch.randint(64, (count,), generator=generator)] + 0.1 * noise
    if kind == "smooth":
        waves = torch.linspace(0, 40, count, dtype=torch.float64)[:, None] + torch.linspace(0, 6, dim)
        noise = noise.cumsum(0) / count + waves.sin()
    return noise.to(dtype)


def _join_even(similarity: Tensor, keep: int) -> Tensor:
    """Labels after the odd tokens (rows) with the highest similarity have joined their best even token (column)."""
    count = sum(similarity.shape)
    value, partner = similarity.max(1)
    gone = value.argsort(descending=True, stable=True)[: count - keep]
    home = torch.arange(count)
    home[1 + 2 * gone] = 2 * partner[gone]
    return _number(home)


def _number(home: Tensor) -> Tensor:
    """Labels from the token each token lives with, (N,): groups in the order of those tokens."""
    return torch.unique(home, return_inverse=True)[1]
