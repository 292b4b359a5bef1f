"""Long records a piece at a time where only the answer is kept: less memory, and the cache still has it."""

from collections.abc import Callable

import torch
from torch import Tensor

from tokred_sci.tokens import Tokens, can_look, unchecked

ROWS = 4096  # of all records together in one piece: some MB of features


def in_pieces(
    function: Callable[..., tuple[Tensor, ...]], *parts: Tensor, rows: int = ROWS, halo: int = 0
) -> tuple[Tensor, ...]:
    """`function(*parts)`, on a CPU without gradients worked out on consecutive pieces along dimension 1.

    Law: the same answer, up to rounding. With gradients everything would be kept anyway, and a GPU would rather have
    all rows at once: there, and in a traced graph, it is called once.

    Args:
        function: from tensors (B, n, ...) to tensors (B, n, ...); each row may depend on rows at most `halo` away.
        parts: tensors (B, N, ...).
        rows: of a piece, of all records together.
        halo: rows that are handed on at both sides of a piece, where there are some.

    Example:
        >>> x = torch.arange(6.0).view(1, 6, 1)
        >>> with torch.no_grad():
        ...     in_pieces(lambda x: (x * 2,), x, rows=4)[0].flatten().tolist()
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    batch, length = parts[0].shape[:2]
    if torch.is_grad_enabled() or not can_look(parts[0]) or batch * length <= rows:
        return function(*parts)
    step = max(1, rows // batch)
    pieces = []
    for start in range(0, length, step):
        low = max(0, start - halo)
        answer = function(*(part[:, low : start + step + halo] for part in parts))
        pieces.append([one[:, start - low : start - low + step] for one in answer])
    return tuple(torch.cat(one, 1) for one in zip(*pieces, strict=True))


def with_features(tokens: Tokens, features: Tensor) -> Tokens:
    """The same tokens with other features; what was checked of them before is not looked at again."""
    make = unchecked if can_look(features) else Tokens
    return make(features, tokens.positions, tokens.sizes, tokens.source)
