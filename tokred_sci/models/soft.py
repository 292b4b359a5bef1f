"""Learned grouping: a small embedding made for merging alone, trained through whatever the model is trained for."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tokred_sci.errors import InputError
from tokred_sci.reduction import graph
from tokred_sci.reduction.merge import flat_labels, sum_groups, unmerge
from tokred_sci.reduction.rows import Keep, unit
from tokred_sci.tokens import Grouping, Tokens


class SoftGroups(nn.Module):
    """Decoupled embedding: similarity is measured on a learned view of the metric, and the task's loss trains it.

    The groups are those of bipartite matching on the embedding. In each group the token most like its mean stays, with
    weight 1; a token that joins speaks with weight 1 - strength / 2, where

        strength = sigmoid((similarity to the token that stays - mean similarity of all that joined) / temperature).

    So a firm join leaves the talking to the token that stays, and a doubtful one speaks almost for itself. The labels
    have no gradient, the weights do, and `merge` listens to them: where the loss would rather hear a token that
    joined, its similarity falls, and soon it joins nobody. The other sign (a firm join speaks up) teaches the
    reverse: the loss calls loudest for the token that differs most from its group, which would pull the two together.
    The bar is the record's own mean, with its gradient, so that pairs compete and not all similarities drift one way.

    The metric is detached: the embedding is trained for merging, the encoder's features are not. Training and
    evaluation use the same weights; no random numbers are drawn.

    Law: the groups of `graph.bipartite`, exactly `keep`; weights from 0.5 to 1, 1 for the token that stays, 0 in
    padding; exact duplicates merge as if there were no weights.
    Facts: global; order of kept tokens; count exact; O(N^2 width) time, O(N) memory; learned.

    Args:
        dim: width D of the metric: of one head for an encoder's "keys", of the encoder for its "features".
        width: width of the embedding, and of its hidden layer.
        temperature: cosine similarity above the bar that makes a join firm.

    Call it with:
        metric: (B, N, dim), of any float type.
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,).

    Raises:
        InputError: a width or temperature that is none; (by the call) a metric of another shape, or `keep` outside
            [1, tokens of the record].

    Reference: Learning to Merge Tokens via Decoupled Embedding (Lee & Hong, 2024), https://arxiv.org/abs/2412.10569,
    for the decoupled embedding and its training through soft merging. There a token that joins also stays in part
    while the model is trained, and groups are hard in use; hard groups with soft weights, the same in both, are ours.

    Example:
        >>> import torch
        >>> from tokred_sci.reduction.merge import merge
        >>> x = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
        >>> tokens = Tokens(x, torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> soft = SoftGroups(dim=2, width=8)
        >>> grouping = soft(x, tokens, keep=2)
        >>> grouping.labels, grouping.weights.round(decimals=2).tolist()
        (tensor([[0, 0, 1, 1]]), [[1.0, 0.75, 1.0, 0.75]])
        >>> merge(tokens, grouping).features.requires_grad
        True
    """

    def __init__(self, dim: int, width: int = 32, temperature: float = 0.1):
        super().__init__()
        for name, value in (("dim", dim), ("width", width)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"Expected {name!r} as an int >= 1 (got {value!r}).")
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 < temperature < torch.inf:
            raise InputError(f"Expected 'temperature' as a number > 0 (got {temperature!r}).")
        self.dim, self.temperature = dim, temperature
        self.embed = nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep) -> Grouping:
        wanted = (*tokens.sizes.shape, self.dim)
        if metric.shape != wanted or not metric.is_floating_point():
            raise InputError(
                f"Expected 'metric' as floats of shape {wanted} (got {str(metric.dtype).removeprefix('torch.')} of "
                f"shape {tuple(metric.shape)}): build it with the metric's width."
            )
        embedded = self.embedding(metric, tokens.mask)
        groups = graph.bipartite(embedded, tokens, keep)
        return Grouping(groups.labels, groups.num_groups, self.weights(unit(embedded), tokens, groups))

    def embedding(self, metric: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"]) -> Float[Tensor, "B N W"]:
        """What similarity is measured on, in float32 or better."""
        clean = metric.detach().masked_fill(~mask[..., None], 0)
        embedded = self.embed(clean.to(next(self.embed.parameters()).dtype))
        return embedded.to(torch.promote_types(embedded.dtype, torch.float32))

    def weights(self, x: Float[Tensor, "B N W"], tokens: Tokens, groups: Grouping) -> Float[Tensor, "B N"]:
        """How loudly each token speaks in its group: 1 for the one that stays, less for those that joined it."""
        stays = _most_typical(x.detach(), tokens, groups)
        joined = tokens.mask & ~stays
        index = flat_labels(groups.labels, groups.num_groups)
        hosts = sum_groups(x * stays[..., None], index, groups.num_groups)
        alike = (x * unmerge(hosts, groups)).sum(-1)
        bar = (alike * joined).sum(1, keepdim=True) / joined.sum(1, keepdim=True).clamp(min=1)
        strength = torch.sigmoid((alike - bar) / self.temperature)
        return torch.where(joined, 1 - strength / 2, 1).masked_fill(~tokens.mask, 0)


def _most_typical(x: Tensor, tokens: Tokens, groups: Grouping) -> Bool[Tensor, "B N"]:
    """Mark the token of each group that is most like the group's mean; of those within about 0.001, the first."""
    count = groups.num_groups
    index = flat_labels(groups.labels, count)
    means = unit(sum_groups(x * tokens.sizes[..., None], index, count))
    alike = ((x * unmerge(means, groups)).sum(-1) * 1000).round().flatten()  # two of one size are equally alike
    top = alike.new_zeros(len(x) * count + 1).scatter_reduce(0, index, alike, "amax", include_self=False)
    place = torch.arange(len(alike), device=x.device)
    first = index.new_full((len(top),), len(alike))
    first = first.scatter_reduce(0, index, torch.where(alike == top[index], place, len(alike)), "amin")
    return (first[index] == place).view_as(groups.labels) & tokens.mask
