"""Who is near whom: exact searches over all pairs of tokens that never hold N x N.

A score is a product `left @ right.mT` of two factors with a few extra columns that carry norms and padding, so one
product is cosine similarity, or minus half a squared distance. The product is made in blocks of rows that fit in the
second-level cache and reduced there at once.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tokred_sci.reduction.rows import Rows, places, take
from tokred_sci.tokens import Grouping, can_look

CHUNK = 64  # columns whose maximum is taken together: a vectorised pass, where max with an index is a scalar one
FAR = 1e30  # half a squared distance to padding


def cosines(left: Tensor, right: Tensor, real: Tensor | None, half: bool) -> tuple[Tensor, Tensor]:
    """Factors whose product is cosine similarity, from unit vectors.

    Args:
        left: (B, n, D) unit vectors, or zeros.
        right: (B, m, D) likewise.
        real: (B, m), False where `right` is padding and must never be chosen; None = all real.
        half: take the product in bfloat16, of similarity minus 1: so differences near similarity 1 keep their digits.
    """
    if real is None and not half:
        return left, right
    one = left.new_ones(*left.shape[:2], 1)
    shift = right.new_full((*right.shape[:2], 1), -1.0 if half else 0.0)
    if real is not None:
        shift = shift.masked_fill(~real[..., None], -8.0)
    factors = torch.cat([left, one], -1), torch.cat([right, shift], -1)
    return (factors[0].bfloat16(), factors[1].bfloat16()) if half else factors


def closeness(x: Tensor, real: Tensor, half: bool) -> tuple[Tensor, Tensor]:
    """Factors of x with itself whose product is minus half the squared distance; padding is infinitely far.

    With `half` the norms are split into three bfloat16 pieces, so that what is lost is lost in the product alone.
    """
    norms = torch.linalg.vecdot(x, x).div(2).masked_fill(~real, FAR)[..., None]
    own = norms.masked_fill(~real[..., None], 0)
    one = torch.ones_like(norms)
    if not half:
        return torch.cat([x, own, one], -1), torch.cat([x, -one, -norms], -1)
    own_pieces, pieces = _pieces(own), _pieces(norms)
    ones = one.expand_as(pieces)
    return (
        torch.cat([x, own_pieces, ones], -1).bfloat16(),
        torch.cat([x, -ones, -pieces], -1).bfloat16(),
    )


def nearest(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The highest score of each row and the first column that has it: (B, n) and (B, n)."""
    value = torch.empty(left.shape[:2], dtype=torch.promote_types(left.dtype, torch.float32), device=left.device)
    index = torch.empty_like(value, dtype=torch.long)
    for records, part in blocks(len(left), left.shape[1], right.shape[1]):
        value[records, part], index[records, part] = _max_rows(left[records, part] @ right[records].mT)
    return value, index


def join_chosen(left: Tensor, right: Tensor, chosen: Tensor, open_: Tensor, rows: Rows) -> Grouping:
    """The grouping in which every token that is not chosen joins the chosen and open token it scores highest with.

    Ties go to the one before it in token order.

    Args:
        left, right: factors of the score, (B, N, K); the last column of `left` is 1.
        chosen: tokens that make a group each, (B, N): `rows.keep` of them.
        open_: those of them that others may join.
    """
    own = chosen.long().cumsum(1) - 1
    most = min(rows.num_groups, own.shape[1])
    if can_look(left):
        most = max(1, int(open_.sum(1).max()))
    at = places(open_, most)
    columns = take(right, at)
    closed = ~open_.gather(1, at)
    columns = torch.cat([columns[..., :-1], columns[..., -1:].masked_fill(closed[..., None], -FAR)], -1)
    rest = places(~chosen & rows.mask, own.shape[1])
    if can_look(left):
        rest = rest[:, : int((~chosen & rows.mask).sum(1).max())]
    score, near = nearest(take(left, rest), columns)
    before = (open_.long().cumsum(1) - 1).clamp(min=0).gather(1, rest).clamp(max=most - 1)
    near = keep_ties(take(left, rest), columns, score, near, before)
    joined = own.gather(1, at.gather(1, near))
    spare = (~chosen & rows.mask).gather(1, rest)
    return rows.grouping(own.scatter(1, rest, torch.where(spare, joined, own.gather(1, rest))))


def keep_ties(left: Tensor, right: Tensor, score: Tensor, near: Tensor, favourite: Tensor) -> Tensor:
    """The column `near` of each row, or its favourite one if that scores as high up to rounding.

    Equal tokens then share out evenly instead of all joining the first of their equals.
    """
    wide = score.dtype
    alike = torch.linalg.vecdot(left.to(wide), take(right, favourite).to(wide))
    slack = 8 * torch.finfo(left.dtype).eps
    return torch.where(alike >= score - slack, favourite, near)


def highest(left: Tensor, right: Tensor, count: int) -> Tensor:
    """The `count` highest scores of each row, (B, n, count), in no order."""
    wide = torch.promote_types(left.dtype, torch.float32)
    values = torch.empty(*left.shape[:2], count, dtype=wide, device=left.device)
    for records, part in blocks(len(left), left.shape[1], right.shape[1]):
        values[records, part] = _top_rows(left[records, part] @ right[records].mT, count)
    return values


def _max_rows(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum over the last axis and its first index: the best chunk by a vectorised pass, then the place in it."""
    columns = scores.shape[-1]
    whole = columns - columns % CHUNK
    if torch.compiler.is_compiling() or whole < 2 * CHUNK:
        value, index = scores.max(-1)
        return value, index
    chunked = scores[..., :whole].unflatten(-1, (-1, CHUNK))
    value, chunk = chunked.amax(-1).max(-1)
    place = chunked.gather(-2, chunk[..., None, None].expand(*chunk.shape, 1, CHUNK)).squeeze(-2).argmax(-1)
    index = chunk * CHUNK + place
    if whole < columns:
        rest, place = scores[..., whole:].max(-1)
        index = torch.where(rest > value, place + whole, index)
        value = torch.maximum(value, rest)
    return value, index


def blocks(batch: int, rows: int, columns: int, floats: int = 1 << 21) -> Iterator[tuple[slice, slice]]:
    """Cut a (batch, rows, columns) product into (records, rows) blocks of at most about `floats` numbers.

    Many short records share a block, one long record gets many: no method ever holds N x N. A traced graph gets one
    block, since its lengths are not known.
    """
    if torch.compiler.is_compiling() or rows * columns == 0:
        yield slice(0, batch), slice(0, rows)
        return
    records = max(1, floats // (rows * columns))
    height = rows if records > 1 else max(16, min(rows, floats // columns))
    for record in range(0, batch, records):
        for row in range(0, rows, height):
            yield slice(record, min(record + records, batch)), slice(row, min(row + height, rows))


def _top_rows(scores: Tensor, count: int) -> Tensor:
    columns = scores.shape[-1]
    whole = columns - columns % CHUNK
    if torch.compiler.is_compiling() or whole <= 2 * CHUNK * count:
        return scores.topk(count, -1, sorted=False).values
    chunked = scores[..., :whole].unflatten(-1, (-1, CHUNK))
    best = chunked.amax(-1).topk(count, -1, sorted=False).indices
    few = chunked.gather(-2, best[..., None].expand(*best.shape, CHUNK)).flatten(-2)
    return torch.cat([few, scores[..., whole:]], -1).topk(count, -1, sorted=False).values


def _pieces(norms: Tensor) -> Tensor:
    """A float32 column as three bfloat16 columns that sum to it."""
    pieces = []
    for _ in range(3):
        pieces.append(norms.bfloat16().to(norms.dtype))
        norms = norms - pieces[-1]
    return torch.cat(pieces, -1)
