"""Controls and rivals: groupings that ignore what tokens say, and pruning. Who does not beat them has shown nothing."""

from typing import Literal

import torch
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.reduction.graph import attention_received
from tokred_sci.reduction.rows import Keep, Rows, best
from tokred_sci.tokens import Grouping, Tokens


def none(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep | None = None) -> Grouping:
    """Every token stays its own group, whatever `keep` says: the reference that reduction is measured against.

    Facts: local; order kept; count all of them; O(N) time.

    Example:
        >>> import torch
        >>> tokens = Tokens(torch.zeros(1, 3, 1), torch.zeros(1, 3, 1), torch.ones(1, 3), torch.arange(3)[None])
        >>> none(tokens.features, tokens).labels
        tensor([[0, 1, 2]])
    """
    labels = torch.arange(tokens.sizes.shape[1], device=metric.device).expand(tokens.sizes.shape)
    return Grouping(labels.masked_fill(~tokens.mask, -1), tokens.sizes.shape[1])


def stride(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep) -> Grouping:
    """Runs of equal length: what a larger patch would have done.

    Law: exactly `keep` groups, each a run of neighbours, in their order.
    Facts: local; order kept; count exact; O(N) time.

    Raises:
        InputError: `keep` outside [1, tokens of the record].

    Example:
        >>> import torch
        >>> tokens = Tokens(torch.zeros(1, 5, 1), torch.zeros(1, 5, 1), torch.ones(1, 5), torch.arange(5)[None])
        >>> stride(tokens.features, tokens, keep=2).labels
        tensor([[0, 0, 0, 1, 1]])
    """
    rows = Rows.of(metric, tokens, keep)
    index = torch.arange(rows.mask.shape[1], device=metric.device)
    return rows.grouping(index * rows.keep[:, None] // rows.counts.clamp(min=1)[:, None])


def random(
    metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, seed: int = 0, generator: torch.Generator | None = None
) -> Grouping:
    """Runs with random borders: as many groups as asked, chosen without looking.

    Law: exactly `keep` groups, each a run of neighbours, in their order.
    Facts: local; order kept; count exact; O(N) time.

    The borders are a function of the seed and the token's place alone, so a record gets the same groups in any
    batch; the global random state is not touched.

    Args:
        seed: names the pattern of borders.
        generator: if given, draws the seed: another pattern at every call.

    Raises:
        InputError: `keep` outside [1, tokens of the record].

    Example:
        >>> import torch
        >>> tokens = Tokens(torch.zeros(1, 5, 1), torch.zeros(1, 5, 1), torch.ones(1, 5), torch.arange(5)[None])
        >>> random(tokens.features, tokens, keep=2, seed=1).labels
        tensor([[0, 0, 0, 1, 1]])
    """
    rows = Rows.of(metric, tokens, keep)
    if generator is not None:
        seed = int(torch.randint(2**62, (), generator=generator))
    draw = _noise(seed, rows.mask.shape[1] - 1, metric.device)
    cut = best(draw.expand(len(rows.mask), -1).masked_fill(~rows.mask[:, 1:], -torch.inf), (rows.keep - 1).clamp(min=0))
    return rows.runs(cut)


def truncate(metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep) -> Grouping:
    """Prune all but the first tokens: what a fixed context does to a long input.

    Law: exactly `keep` groups of one token; the others get label -1, and after `merge` their elements source -1.
    Facts: local; order kept; count exact, the rest is dropped; O(N) time.

    Raises:
        InputError: `keep` outside [1, tokens of the record].

    Example:
        >>> import torch
        >>> tokens = Tokens(torch.zeros(1, 4, 1), torch.zeros(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> truncate(tokens.features, tokens, keep=2).labels
        tensor([[ 0,  1, -1, -1]])
    """
    rows = Rows.of(metric, tokens, keep)
    index = torch.arange(rows.mask.shape[1], device=metric.device)
    return rows.grouping(torch.where(index < rows.keep[:, None], index, -1))


def topk(
    metric: Tensor, tokens: Tokens, keep: int | Tensor | Keep, by: Literal["norm", "attention"] = "norm"
) -> Grouping:
    """Prune all but the loudest tokens, by norm or by attention received.

    Law: exactly `keep` groups of one token, in their order; the others get label -1, and after `merge` their elements
    source -1.
    Facts: global; order kept; count exact, the rest is dropped; O(N D) time, by attention O(N^2 D), O(N) memory.

    Args:
        metric: (B, N, D), usually the attention keys.
        tokens: the batch; padding is left out.
        keep: groups per record, an int or (B,).
        by: "norm" of the metric, or "attention" that softmax(sqrt(D) cosine) of the metric sends to a token.

    Raises:
        InputError: `keep` outside [1, tokens of the record], or an unknown score.

    Reference: pruning by attention received: Not All Patches are What You Need (Liang et al., 2022),
    https://arxiv.org/abs/2202.07800.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[3.0], [1.0], [2.0]]])
        >>> tokens = Tokens(x, torch.zeros(1, 3, 1), torch.ones(1, 3), torch.arange(3)[None])
        >>> topk(x, tokens, keep=2).labels
        tensor([[ 0, -1,  1]])
    """
    if by not in ("norm", "attention"):
        raise InputError(f"Expected 'by' to be 'norm' or 'attention' (got {by!r}).")
    rows = Rows.of(metric, tokens, keep)
    if by == "norm":
        score = torch.linalg.vector_norm(rows.metric, dim=2).masked_fill(~rows.mask, -torch.inf)
    else:
        score = attention_received(rows, steps=1)
    chosen = best(score, rows.keep)
    return rows.grouping(torch.where(chosen, chosen.long().cumsum(1) - 1, -1))


def _noise(seed: int, count: int, device: torch.device) -> Tensor:
    """Uniform numbers that are a function of seed and place alone, on every device and in a traced graph.

    Reference: the SplitMix64 mixer (Steele et al., 2014), https://doi.org/10.1145/2660193.2660195.
    """
    mixed = (torch.arange(1, count + 1, device=device) + seed % (1 << 62)) * -0x61C8864680B583EB
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        mixed = (mixed ^ (mixed >> shift & (1 << 64 - shift) - 1)) * factor
    return (mixed >> 40 & (1 << 24) - 1).float() / (1 << 24)
