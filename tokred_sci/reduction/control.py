"""Controls: groupings that ignore what tokens say. A method that does not beat these has shown nothing."""

import torch
from torch import Tensor

from tokred_sci.reduction.rows import Rows, best
from tokred_sci.tokens import Grouping, Tokens


def none(metric: Tensor, tokens: Tokens, keep: int | Tensor | None = None) -> Grouping:
    """Every token stays its own group, whatever `keep` says: the reference that reduction is measured against.

    Example:
        >>> import torch
        >>> tokens = Tokens(torch.zeros(1, 3, 1), torch.zeros(1, 3, 1), torch.ones(1, 3), torch.arange(3)[None])
        >>> none(tokens.features, tokens).labels
        tensor([[0, 1, 2]])
    """
    labels = torch.arange(tokens.sizes.shape[1], device=metric.device).expand(tokens.sizes.shape)
    return Grouping(labels.masked_fill(~tokens.mask, -1), tokens.sizes.shape[1])


def stride(metric: Tensor, tokens: Tokens, keep: int | Tensor) -> Grouping:
    """Runs of equal length: what a larger patch would have done. Order kept; O(N).

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
    metric: Tensor, tokens: Tokens, keep: int | Tensor, seed: int = 0, generator: torch.Generator | None = None
) -> Grouping:
    """Runs with random borders: as many groups as asked, chosen without looking. Order kept; O(N log N).

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
        tensor([[0, 1, 1, 1, 1]])
    """
    rows = Rows.of(metric, tokens, keep)
    if generator is not None:
        seed = int(torch.randint(2**62, (), generator=generator))
    draw = torch.rand(rows.mask.shape[1] - 1, generator=torch.Generator().manual_seed(seed)).to(metric.device)
    cut = best(draw.masked_fill(~rows.mask[:, 1:], -torch.inf), (rows.keep - 1).clamp(min=0))
    return rows.grouping(torch.nn.functional.pad(cut.long().cumsum(1), (1, 0)))
