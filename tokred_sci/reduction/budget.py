"""How many tokens to keep: a budget looks at each record's real tokens and answers with a (B,) `keep`.

A grouping function takes `keep` to the letter and refuses what a record cannot give; a budget fits itself to each
record, so that one rule serves a batch of unequal lengths. Padding never counts.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.reduction.rows import Rows
from tokred_sci.tokens import Tokens

Budget = Callable[[Tensor, Tokens], Tensor]
"""`(metric, tokens) -> keep`: groups each record should end with, (B,) int64."""


def constant(most: int) -> Budget:
    """Keep `most` tokens of every record, whatever its length; a record that has no more stays as it is.

    The budget of long-sequence stability: length becomes a change of resolution, not of attention statistics.

    Example:
        >>> import torch
        >>> from tokred_sci.tokens import Tokens
        >>> tokens = Tokens(torch.zeros(1, 5, 1), torch.zeros(1, 5, 1), torch.ones(1, 5), torch.arange(5)[None])
        >>> constant(3)(tokens.features, tokens), constant(8)(tokens.features, tokens)
        (tensor([3]), tensor([5]))
    """
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise InputError(f"Expected a constant budget as a whole number >= 1 (got {most!r}).")
    return lambda metric, tokens: tokens.counts.clamp(max=most)


def ratio(share: float) -> Budget:
    """Keep this share of every record's real tokens, rounded up; 1.0 keeps all.

    Example:
        >>> import torch
        >>> from tokred_sci.tokens import Tokens
        >>> tokens = Tokens(torch.zeros(1, 5, 1), torch.zeros(1, 5, 1), torch.ones(1, 5), torch.arange(5)[None])
        >>> ratio(0.5)(tokens.features, tokens)
        tensor([3])
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise InputError(f"Expected a ratio in (0, 1] (got {share!r}): it is the share of tokens to keep.")

    def keep(metric: Tensor, tokens: Tokens) -> Tensor:
        # less a hair, so that ratio(0.1) keeps 1 of 10 and not 2: 0.1 is a little more than a tenth
        return (tokens.counts.double() * share - 1e-9).ceil().long().clamp(min=1).minimum(tokens.counts)

    return keep


def threshold(similarity: float) -> Budget:
    """Keep as many tokens as the record has runs of alike neighbours: the count follows the data.

    Two neighbours in token order belong to one run where their cosine similarity is at least `similarity`.
    With `graph.links` these runs are the groups themselves.

    Example:
        >>> import torch
        >>> from tokred_sci.tokens import Tokens
        >>> x = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
        >>> tokens = Tokens(x, torch.zeros(1, 4, 1), torch.ones(1, 4), torch.arange(4)[None])
        >>> threshold(0.9)(x, tokens)
        tensor([2])
    """
    if isinstance(similarity, bool) or not isinstance(similarity, int | float) or not -1 <= similarity <= 1:
        raise InputError(f"Expected a cosine similarity in [-1, 1] (got {similarity!r}).")

    def keep(metric: Tensor, tokens: Tokens) -> Tensor:
        rows = Rows.of(metric, tokens, tokens.counts)
        unit = rows.unit()
        alike = torch.linalg.vecdot(unit[:, 1:], unit[:, :-1]) >= similarity
        return tokens.counts - (alike & rows.mask[:, 1:]).sum(1)

    return keep


def as_budget(budget: int | float | Budget) -> Budget:
    """A whole number means `constant`, a fraction means `ratio`; a budget passes through."""
    if callable(budget):
        return budget
    return constant(budget) if isinstance(budget, int) else ratio(budget)
