"""How many tokens to keep: a budget looks at each record's real tokens and answers with a number for each.

A grouping function takes `keep` to the letter and refuses what a record cannot give; a budget fits itself to each
record, so that one rule serves a batch of unequal lengths. Padding never counts.
"""

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.reduction.rows import Keep, Rows, smaller
from tokred_sci.tokens import Tokens

Budget = Callable[[Tensor, Tokens], Tensor | Keep]
"""`(metric, tokens) -> keep`: groups each record should end with, (B,) int64, alone or with its bounds as a `Keep`."""


def constant(most: int) -> Budget:
    """Keep `most` tokens of every record, whatever its length; a record that has no more stays as it is.

    The budget of long-sequence stability: length becomes a change of resolution, not of attention statistics.

    Example:
        >>> import torch
        >>> from tokred_sci.tokens import Tokens
        >>> tokens = Tokens(torch.zeros(1, 5, 1), torch.zeros(1, 5, 1), torch.ones(1, 5), torch.arange(5)[None])
        >>> constant(3)(tokens.features, tokens).each, constant(8)(tokens.features, tokens).each
        (tensor([3]), tensor([5]))
    """
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise InputError(f"Expected a constant budget as a whole number >= 1 (got {most!r}).")

    def keep(metric: Tensor, tokens: Tokens) -> Keep:
        length = tokens.sizes.shape[1]
        return Keep(tokens.counts.clamp(max=most), smaller(most, length), max(1.0, length / most))

    return keep


def ratio(share: float) -> Budget:
    """Keep this share of every record's real tokens, rounded up; 1.0 keeps all.

    Example:
        >>> import torch
        >>> from tokred_sci.tokens import Tokens
        >>> tokens = Tokens(torch.zeros(1, 5, 1), torch.zeros(1, 5, 1), torch.ones(1, 5), torch.arange(5)[None])
        >>> ratio(0.5)(tokens.features, tokens).each
        tensor([3])
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise InputError(f"Expected a ratio in (0, 1] (got {share!r}): it is the share of tokens to keep.")

    def keep(metric: Tensor, tokens: Tokens) -> Keep:
        # less a hair, so that ratio(0.1) keeps 1 of 10 and not 2: 0.1 is a little more than a tenth
        each = (tokens.counts.double() * share - 1e-9).ceil().long().clamp(min=1).minimum(tokens.counts)
        return Keep(each, max(1, math.ceil(tokens.sizes.shape[1] * share - 1e-9)), 1 / share)

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
        return tokens.counts - ((rows.neighbours() >= similarity) & rows.mask[:, 1:]).sum(1)

    return keep


def complexity(rate: float = 1.0, least: int = 1, most: int | None = None) -> Budget:
    """Keep more tokens where the record is busy: `rate` times the number of boundaries it is expected to have.

    Between neighbours in token order there is a boundary with probability (1 - cosine similarity) / 2, as in dynamic
    chunking (Hwang et al., 2025, https://arxiv.org/abs/2507.07955). A flat record keeps little whatever its length,
    one that changes at every step keeps in proportion to it: the budget that the position paper asks for
    (https://arxiv.org/abs/2505.18227).

    Args:
        rate: tokens to keep per expected boundary.
        least, most: bounds for each record; a record with fewer tokens keeps all it has.

    Raises:
        InputError: bounds or a rate that make no budget.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0, 0.0]] * 6, [[1.0, 0.0], [-1.0, 0.0]] * 3])
        >>> tokens = Tokens(x, torch.zeros(2, 6, 1), torch.ones(2, 6), torch.arange(6).expand(2, 6))
        >>> complexity()(x, tokens)
        tensor([1, 6])
    """
    if not 0 < rate < math.inf or least < 1 or (most is not None and most < least):
        raise InputError(f"Expected 'rate' > 0 and 1 <= 'least' <= 'most' (got {rate!r}, {least!r}, {most!r}).")

    def keep(metric: Tensor, tokens: Tokens) -> Tensor:
        rows = Rows.of(metric, tokens, tokens.counts)
        boundary = ((1 - rows.neighbours()) / 2).clamp(0, 1).masked_fill(~rows.mask[:, 1:], 0)
        wanted = (rate * (1 + boundary.double().sum(1)) - 1e-6).ceil().nan_to_num(1).clamp(least, most).long()
        return wanted.minimum(tokens.counts)

    return keep


def schedule(budget: int | float, blocks: Sequence[int]) -> dict[int, Budget]:
    """Reach a budget in equal proportions over several blocks: what `Encoder(reduce=...)` needs for each.

    With k blocks to go, a block keeps the share (budget / tokens) ** (1 / k) of what it gets: halving and halving
    again, not a cliff. A share is rounded up in every block, so a short record may end a token or two above it.

    Args:
        budget: tokens to keep in the end, or the share of the record's tokens.
        blocks: numbers of the blocks, in order.

    Raises:
        InputError: no such budget, or blocks that are not in order.

    Example:
        >>> import torch
        >>> tokens = Tokens(torch.zeros(1, 64, 1), torch.zeros(1, 64, 1), torch.ones(1, 64), torch.arange(64)[None])
        >>> steps = schedule(16, blocks=[1, 3])
        >>> steps[1](tokens.features, tokens).each, steps[3](tokens.features, tokens).each
        (tensor([32]), tensor([16]))
    """
    if callable(budget):
        raise InputError(f"Expected 'budget' as a number of tokens or a share of them (got {budget!r}).")
    if not blocks or list(blocks) != sorted(set(blocks)):
        raise InputError(f"Expected 'blocks' as increasing numbers (got {list(blocks)!r}).")
    as_budget(budget)  # refuses what is none
    if not isinstance(budget, int):
        return dict.fromkeys(blocks, ratio(budget ** (1 / len(blocks))))
    return {block: _towards(budget, len(blocks) - i) for i, block in enumerate(blocks)}


def _towards(most: int, steps: int) -> Budget:
    def keep(metric: Tensor, tokens: Tokens) -> Keep:
        length, counts = tokens.sizes.shape[1], tokens.counts
        aim = counts.clamp(max=most).double()
        each = (
            (aim * (counts.clamp(min=1) / aim.clamp(min=1)) ** (1 - 1 / steps) - 1e-9).ceil().long().clamp(max=counts)
        )
        bound = min(most, length) * (length / min(most, length)) ** (1 - 1 / steps)
        return Keep(each, min(length, math.ceil(bound)), max(1.0, (length / most) ** (1 / steps)))

    return keep


def as_budget(budget: int | float | Budget) -> Budget:
    """A whole number means `constant`, a fraction means `ratio`; a budget passes through."""
    if callable(budget):
        return budget
    return constant(budget) if isinstance(budget, int) else ratio(budget)
