"""Who is near whom: exact searches over all pairs of tokens that never hold N x N.

A score is a product `left @ right.mT` of two factors with a few extra columns that carry norms and padding, so one
product is cosine similarity, or minus half a squared distance. The product is made in blocks of rows and each block
reduced at once, while it is in the cache.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from tokred_sci.reduction.rows import Rows, dots, last_chosen, places, smaller, take
from tokred_sci.tokens import can_look

CHUNK = 64  # columns whose maximum is taken together: a vectorised pass, where max with an index is a scalar one
LONG = 4096  # tokens from which a symmetric search is worth its second step
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
    return _factors([left], [one], half), _factors([right], [shift], half)


def closeness(x: Tensor, real: Tensor, half: bool) -> tuple[Tensor, Tensor]:
    """Factors of x with itself whose product is minus half the squared distance; padding is infinitely far.

    With `half` the norms are split into three bfloat16 pieces, so that what is lost is lost in the product alone.
    """
    norms = dots(x, x).div(2).masked_fill(~real, FAR)[..., None]
    own = norms.masked_fill(~real[..., None], 0)
    pieces, own_pieces = (_pieces(norms), _pieces(own)) if half else (norms, own)
    one = torch.ones_like(pieces)
    return _factors([x, own_pieces], [one], half), _factors([x, -one], [-pieces], half)


def product(left: Tensor, right: Tensor, records: slice, part: slice, room: Tensor | None = None) -> Tensor:
    """Scores of one block: rows `part` of `left` with all of `right`, in some records; made in `room` if given."""
    one = records.stop - records.start == 1  # a batch of one would copy `right` turned
    rows, columns = (left[records.start, part], right[records.start]) if one else (left[records, part], right[records])
    if room is not None:
        room = room[: rows.shape[:-1].numel() * columns.shape[-2]].view(*rows.shape[:-1], columns.shape[-2])
    scores = torch.matmul(rows, columns.mT, out=room)
    return scores[None] if one else scores


def nearest(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The highest score of each row and the first column that has it: (B, n) and (B, n)."""
    if torch.compiler.is_compiling():
        found, index = product(left, right, slice(0, left.shape[0]), slice(0, left.shape[1])).max(-1)
        return found.to(_wide(left)), index
    value = left.new_full(left.shape[:2], torch.finfo(left.dtype).min, dtype=_wide(left))
    index = torch.zeros_like(value, dtype=torch.long)
    room = left.new_empty((8 << 20) // left.element_size())  # a block lies where the last one lay, in the cache
    for first in range(0, right.shape[1], 2048):
        some = right[:, first : first + 2048]
        for records, part in blocks(left.shape[0], left.shape[1], some.shape[1], 2 * left.element_size()):
            found, place = _max_rows(product(left, some, records, part, room))
            better = found > value[records, part]
            value[records, part] = torch.where(better, found.to(value.dtype), value[records, part])
            index[records, part] = torch.where(better, place + first, index[records, part])
    return value, index


def highest(left: Tensor, right: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` highest scores of each row and their columns, (B, N, count) both, from the highest.

    The scores must be symmetric: of long records half of them are made.
    """
    length = left.shape[1]
    width = CHUNK
    while can_look(left) and length > 256 * width:  # at most 256 chunks of columns: memory stays linear in length
        width *= 2
    if can_look(left) and length >= LONG and 16 * count * width <= length:
        found = [_highest_of_long(x, y, count, width) for x, y in zip(left, right, strict=True)]
        return torch.stack([value for value, _ in found]), torch.stack([index for _, index in found])
    values = left.new_empty(*left.shape[:2], count, dtype=_wide(left))
    index = torch.empty_like(values, dtype=torch.long)
    for records, part in blocks(left.shape[0], length, length, left.element_size()):
        values[records, part], index[records, part] = _top_rows(product(left, right, records, part), count)
    return values, index


def _highest_of_long(left: Tensor, right: Tensor, count: int, width: int) -> tuple[Tensor, Tensor]:
    """`highest` of one record: the best chunks of columns of each row, then the product with those alone."""
    length = left.shape[0]
    maxima = _pair_maxima(left, right, width)
    values = left.new_empty(length, count, dtype=_wide(left))
    index = torch.empty_like(values, dtype=torch.long)
    for _, part in blocks(1, length, count * width, left.element_size()):
        chunk = _top_few(maxima[part], count)[1]
        few = left.new_full((chunk.numel(), width), -torch.inf)
        sizes = chunk.flatten().bincount(minlength=maxima.shape[1]).tolist()
        for rows, columns in zip(chunk.flatten().argsort().split(sizes), right.split(width), strict=True):
            few[rows, : len(columns)] = left[part][rows // count] @ columns.T
        values[part], place = _top_few(few.view(-1, count * width), count)
        index[part] = chunk.gather(1, place // width) * width + place % width
    return values, index


def _pair_maxima(left: Tensor, right: Tensor, width: int) -> Tensor:
    """The highest score of each row in each chunk of `width` columns, (N, chunks): each block is read both ways."""
    length, chunks = left.shape[0], -(-left.shape[0] // width)
    maxima, step = left.new_empty(length, chunks), max(2048, width)
    for i in range(0, length, step):
        for j in range(i, length, step):
            scores = left[i : i + step] @ right[j : j + step].T
            n, m = scores.shape
            if n % width or m % width:
                scores = F.pad(scores, (0, -m % width, 0, -n % width), value=-torch.inf)
            here, there = slice(i // width, (i + step) // width), slice(j // width, (j + step) // width)
            maxima[i : i + n, there] = _chunk_maxima(scores.unflatten(1, (-1, width)), 2)[:n]
            if i < j:
                maxima[j : j + m, here] = _chunk_maxima(scores.unflatten(0, (-1, width)), 1).T[:m]
    return maxima


def sum_pairs(left: Tensor, right: Tensor, weights: Tensor, form: Callable[[Tensor], Tensor]) -> Tensor:
    """Sum over columns j of form(score of i with j) times the weight of j, (B, N), for scores that are symmetric.

    Each pair of blocks is made once and read both ways.
    """
    total = torch.zeros_like(weights)
    step = -(-right.shape[1] // 8)  # few shapes of blocks: some matrix libraries keep memory for each they have seen
    for records, part in blocks(left.shape[0], left.shape[1], right.shape[1], size=8):  # scores and what `form` makes
        first = part.start // step * step
        scores = product(left, right[:, first:], records, part)[..., part.start - first :]
        scores = form(scores.to(weights.dtype))
        total[records, part] += (scores @ weights[records, part.start :, None]).squeeze(-1)
        beyond = part.stop - part.start
        if beyond < scores.shape[2]:
            total[records, part.stop :] += (weights[records, None, part] @ scores[..., beyond:]).squeeze(1)
    return total


def join_chosen(
    left: Tensor,
    right: Tensor,
    chosen: Tensor,
    open_: Tensor,
    rows: Rows,
    near: Tensor | None = None,
    index: Tensor | None = None,
) -> Tensor:
    """Labels (B, N) in which every token that is not chosen joins the chosen and open one it scores highest with.

    Ties go to the one before it in token order.

    Args:
        left, right: factors of the score, (B, N, K); the last column of `left` is 1.
        chosen: tokens that make a group each, (B, N): `rows.keep` of them.
        open_: those of them that others may join.
        near, index: if known, the highest scores of each token and where, from `highest`: most find theirs there.
    """
    own = chosen.long().cumsum(1) - 1
    score = left.new_full(own.shape, -torch.inf, dtype=_wide(left))
    host = torch.zeros_like(own)
    if near is not None and index is not None:
        listed = open_.gather(1, index.flatten(1)).view_as(index)
        score, place = near.masked_fill(~listed, -torch.inf).max(2)
        host = index.gather(2, place[..., None]).squeeze(2)
    lost = score.isinf() & ~chosen & rows.mask
    number = int(lost.sum(1).max()) if can_look(left) else own.shape[1]
    if number:
        rest = places(lost, number)
        value, found = _nearest_open(take(left, rest), right, open_, rows.num_groups)
        score = score.scatter(1, rest, value)
        host = host.scatter(1, rest, torch.where(lost.gather(1, rest), found, host.gather(1, rest)))
    before = last_chosen(open_)
    before = torch.where(open_.gather(1, before), before, host)
    joined = keep_ties(left, right, score, host, before)
    return own.gather(1, torch.where(chosen, rows.places(), joined))


def _nearest_open(left: Tensor, right: Tensor, open_: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The highest score of each row of `left` with the open rows of `right`, and the place of that row."""
    most = max(1, int(open_.sum(1).max())) if can_look(left) else smaller(most, open_.shape[1])
    at = places(open_, most)
    columns = take(right, at)
    closed = ~open_.gather(1, at)[..., None]
    columns = torch.cat([columns[..., :-1], columns[..., -1:].masked_fill(closed, -FAR)], -1)
    value, found = nearest(left, columns)
    return value, at.gather(1, found)


def keep_ties(left: Tensor, right: Tensor, score: Tensor, near: Tensor, favourite: Tensor) -> Tensor:
    """The column `near` of each row, or its favourite one if that scores as high up to rounding.

    Equal tokens then share out evenly instead of all joining the first of their equals.
    """
    wide = score.dtype
    alike = dots(left.to(wide), take(right, favourite).to(wide))
    slack = 4 * torch.finfo(left.dtype).eps * score.abs() + 8 * torch.finfo(wide).eps
    return torch.where(alike >= score - slack, favourite, near)


def _max_rows(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum over the last axis and its first index: by NumPy, whose argmax is vectorised where that of torch is not.

    Numbers that are bfloat16 are compared as integers, see `_bits`.
    """
    if torch.compiler.is_compiling() or scores.device.type != "cpu":
        value, index = scores.max(-1)
        return value, index
    if scores.dtype == torch.bfloat16:
        index = torch.from_numpy(_bits(scores).numpy().argmin(-1))
    else:
        index = torch.from_numpy(scores.numpy().argmax(-1))
    return scores.gather(-1, index[..., None]).squeeze(-1), index


def blocks(batch: int, rows: int, columns: int, size: int = 4) -> Iterator[tuple[slice, slice]]:
    """Cut a (batch, rows, columns) product of numbers of `size` bytes into (records, rows) blocks of about 16 MB.

    Many short records share a block, one long record gets many: no method ever holds N x N. A traced graph gets one
    block, since its lengths are not known.
    """
    if torch.compiler.is_compiling() or rows * columns == 0:
        yield slice(0, batch), slice(0, rows)
        return
    floats = (16 << 20) // size
    records = max(1, floats // (rows * columns))
    height = rows if records > 1 else max(16, min(rows, floats // columns))
    for record in range(0, batch, records):
        for row in range(0, rows, height):
            yield slice(record, min(record + records, batch)), slice(row, min(row + height, rows))


def _top_rows(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` highest of the last axis and their places: chunks by their maximum first, then inside those."""
    columns = scores.shape[-1]
    whole = columns - columns % CHUNK
    if torch.compiler.is_compiling() or whole <= 2 * CHUNK * count:
        return _top_few(scores, count)
    chunked = scores[..., :whole].unflatten(-1, (-1, CHUNK))
    chunk = _top_few(_chunk_maxima(chunked), count)[1]
    few = chunked.gather(-2, chunk[..., None].expand(*chunk.shape, CHUNK)).flatten(-2)
    value, place = _top_few(torch.cat([few, scores[..., whole:]], -1), count)
    inside = chunk.gather(-1, (place // CHUNK).clamp(max=count - 1)) * CHUNK + place % CHUNK
    return value, torch.where(place < count * CHUNK, inside, place - count * CHUNK + whole)


def _chunk_maxima(chunked: Tensor, axis: int = -1) -> Tensor:
    """Maximum over an axis; in bfloat16 on a CPU that pass would cost more than the product."""
    if chunked.dtype != torch.bfloat16 or chunked.device.type != "cpu":
        return chunked.amax(axis)
    return _bits(chunked).amin(axis).view(torch.bfloat16)


def _bits(scores: Tensor) -> Tensor:
    """The bits of bfloat16 scores as integers, in place.

    The scores are at most 0 but for rounding, and negative numbers are ordered as their bits are, the other way round.
    """
    return scores.view(torch.int16).bitwise_or_(-(1 << 15))


def _top_few(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """As `topk`, but by taking the maximum out again and again: far less work for a few of a short row."""
    if torch.compiler.is_compiling():
        found = scores.topk(count, -1)
        return found.values, found.indices
    values, places = [], []
    for _ in range(count):
        value, place = _max_rows(scores)
        scores.scatter_(-1, place[..., None], -torch.inf)
        values.append(value)
        places.append(place)
    return torch.stack(values, -1), torch.stack(places, -1)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _factors(columns: list[Tensor], last: list[Tensor], half: bool) -> Tensor:
    """Columns side by side, `last` at the end; in bfloat16 filled up to the multiple of 32 that its units work in."""
    if not half:
        return torch.cat([*columns, *last], -1)
    width = sum(column.shape[-1] for column in (*columns, *last))
    fill = columns[0].new_zeros(*columns[0].shape[:2], -width % 32)
    return torch.cat([column.bfloat16() for column in (*columns, fill, *last)], -1)


def _pieces(norms: Tensor) -> Tensor:
    """A float32 column as three bfloat16 columns that sum to it."""
    pieces = []
    for _ in range(3):
        pieces.append(norms.bfloat16().to(norms.dtype))
        norms = norms - pieces[-1]
    return torch.cat(pieces, -1)
