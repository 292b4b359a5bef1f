"""What merging costs in content: the share of variance that is gone after merging and handing back."""

from typing import NamedTuple

import torch

from tokred_sci.reduction.merge import merge, unmerge
from tokred_sci.tokens import Grouping, Tokens


class Variance(NamedTuple):
    """Squares summed over elements: all that differs from the records' means, and what of it merging lost.

    Attributes:
        lost: squared distance of tokens to what `unmerge` gives back, each times its size.
        total: squared distance of tokens to their record's mean, each times its size.
    """

    lost: float
    total: float

    @property
    def share(self) -> float:
        """Lost of all, 0 where there is nothing to lose."""
        return self.lost / self.total if self.total else 0.0


def variance_lost(tokens: Tokens, grouping: Grouping) -> Variance:
    """The variance of the tokens' features that merging by this grouping loses.

    Laws: 0 where only equal tokens share a group; all of it where a record becomes one token; never less when groups
    are joined further. A pruned token counts as if only its record's mean were known of it.

    Args:
        tokens: (B, N, D) tokens with features that are floats.
        grouping: of these very tokens.

    Raises:
        InputError: the grouping is for another batch, or features are codes.

    Example:
        >>> x = torch.tensor([[[0.0], [2.0], [10.0]]])
        >>> tokens = Tokens(x, torch.zeros(1, 3, 1), torch.ones(1, 3), torch.arange(3)[None])
        >>> told = variance_lost(tokens, Grouping(torch.tensor([[0, 0, 1]]), 2))
        >>> told.lost, told.total, round(told.share, 3)
        (2.0, 56.0, 0.036)
    """
    merged = merge(tokens, grouping)
    mask, sizes = tokens.mask[..., None], tokens.sizes.double()[..., None]
    x = tokens.features.double().masked_fill(~mask, 0)
    mean = (x * sizes).sum(1, keepdim=True) / sizes.sum(1, keepdim=True).clamp(min=1)
    back = torch.where((grouping.labels < 0)[..., None], mean, unmerge(merged.features.double(), grouping))
    lost, total = ((sizes * (x - other).masked_fill(~mask, 0).square()).sum().item() for other in (back, mean))
    return Variance(lost, total)
