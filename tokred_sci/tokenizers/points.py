"""Point clouds as tokens: neighbourhoods around centres that cover the cloud."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.tokenizers import record
from tokred_sci.tokens import Tokens

_LIMIT = float(np.finfo(np.float32).max) / 4
_BITS = 21  # per axis of a Morton key: three of them fill 63 bits
_CHUNK = 1 << 20  # points per nearest-centre query: bounds the memory


@dataclass(frozen=True)
class PointTokenizer:
    """One cloud of shape (n, channels) -> `Tokens`; first three coordinates, in any unit and offset.

    Law: every point is owned by exactly one token: the one with the nearest centre (ties: the lower token), or
    with "runs" that of its run. `source` is in input order; positions are means of the owned points. While no
    token owns more than `neighbours` points, `detokenize(tokens)` gives every point back. For "fps", which points
    share a token does not depend on their order.

    Layout of a token's features: `neighbours` slots of [present, dx, dy, dz, extra channels...], coordinates
    relative to the token's position. First the owned points in input order (of more than `neighbours` the
    nearest to the position), then the nearest points that others own, nearest first (with "runs" those before and
    after on the curve), then slots of zeros.

    Tokens come in Morton order of their centres. Centres that own nothing are dropped: a cloud of n <
    `tokens` distinct points gives one token per point ("fps", "voxel", "runs"), one of duplicates a single token
    (but with "runs", which cuts them as all others).

    Args:
        tokens: the most tokens to make.
        neighbours: slots per token.
        method: how centres are chosen. "fps": farthest point sampling from the point nearest the mean, n *
            tokens steps; "voxel": means of the occupied cells of the finest cubic grid with at most `tokens`
            of them;
            "curve": means of equal runs along a Morton curve (21 bits per axis), for large clouds; "runs": no
            centres, those runs themselves are the tokens: sorting is all the work, for tens of millions of points.
        ratio: makes ceil(ratio * n) the most tokens, in (0, 1], in place of `tokens`.
        channels: numbers per point, at least 3.

    Raises:
        InputError: settings out of range.

    Reference:
        PointNet++ (Qi et al., 2017), https://arxiv.org/abs/1706.02413 for farthest point sampling and
        grouping.

    Example:
        >>> import torch
        >>> tokenizer = PointTokenizer(tokens=2, neighbours=2)
        >>> cloud = torch.tensor([[0.0, 0, 0], [9, 0, 0], [1, 0, 0], [10, 0, 0]])
        >>> tokens = tokenizer(cloud)
        >>> tokens.source, tokens.positions[0, :, 0]
        (tensor([[0, 1, 0, 1]]), tensor([0.5000, 9.5000], dtype=torch.float64))
        >>> bool((tokenizer.detokenize(tokens) == cloud).all())
        True
    """

    tokens: int = 512
    neighbours: int = 32
    method: str = "fps"
    ratio: float | None = None
    channels: int = 3

    def __post_init__(self) -> None:
        record.check_integer("tokens", self.tokens, 1)
        record.check_integer("neighbours", self.neighbours, 1)
        record.check_choice("method", self.method, ("fps", "voxel", "curve", "runs"))
        record.check_integer("channels", self.channels, 3)
        ratio = self.ratio
        if ratio is not None and (isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1):
            raise InputError(f"Expected 'ratio' in (0, 1] or None (got {ratio!r}): use 'tokens' for a fixed number.")
        if ratio is not None:
            object.__setattr__(self, "ratio", float(ratio))  # 1 and 1.0 are one setting, with one fingerprint

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name the settings: tokens of different fingerprints do not mix."""
        return record.fingerprint(self)

    @property
    def dim(self) -> int:
        """Width D of the features: neighbours * (channels + 1)."""
        return self.neighbours * (self.channels + 1)

    def most_tokens(self, length: int) -> int:
        """Tokens that a cloud of so many points becomes at most."""
        return min(length, self.tokens if self.ratio is None else math.ceil(round(self.ratio * length, 9)))

    def __call__(self, points: Any) -> Tokens:
        """Tokenize one cloud.

        Args:
            points: (n, channels) finite numbers, n >= 1.

        Raises:
            InputError: no points, another shape, NaN or infinity, or a cloud outside the range of float32.
        """
        cloud = _cloud(points, self.channels)
        places = cloud[:, :3].astype(np.float64)
        unit = _unit(places)
        if self.method == "runs":
            order, starts = _curve(unit, self.most_tokens(len(cloud)))
            source = np.empty(len(cloud), np.int64)
            source[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(cloud)))
        else:
            centres = {"fps": _farthest, "voxel": _voxels, "curve": _runs}[self.method](
                unit, self.most_tokens(len(cloud))
            )
            centres = np.unique(centres, axis=0)  # sorted: what follows does not depend on the order of the points
            source = _nearest(unit, centres[np.argsort(_morton(centres, _reach(unit)), kind="stable")])
        tokens = record.assemble(np.zeros((int(source.max()) + 1, 0)), source, places)
        positions = tokens.positions[0].numpy()
        token, slot, point = self._own(places, source, positions)
        features = np.zeros((len(positions), self.neighbours, self.channels + 1), np.float32)
        self._put(features, cloud, positions, token, slot, point)
        held = np.minimum(np.bincount(source), self.neighbours)
        if self.method == "runs":
            others = _along(order, starts, held, self.neighbours)
        else:
            others = self._around(places, source, positions, held)
        self._put(features, cloud, positions, *others)
        content = torch.from_numpy(features.reshape(1, len(positions), self.dim))
        return Tokens(content, tokens.positions, tokens.sizes, tokens.source)

    def _put(
        self,
        features: np.ndarray,
        cloud: np.ndarray,
        positions: np.ndarray,
        token: np.ndarray,
        slot: np.ndarray,
        point: np.ndarray,
    ) -> None:
        for start in range(0, len(point), _CHUNK):
            t, s, p = (index[start : start + _CHUNK] for index in (token, slot, point))
            features[t, s, 0] = 1
            features[t, s, 1:4] = cloud[p, :3].astype(np.float64) - positions[t]
            features[t, s, 4:] = cloud[p, 3:]

    def detokenize(self, tokens: Tokens) -> Tensor:
        """The cloud behind the tokens of one record, (n, channels) float64, in input order.

        Coordinates are right to float32 precision of a token's extent, extra channels to float32.

        Raises:
            InputError: a token that owns more points than it has slots, several records, merged tokens, or
                another tokenizer's.
        """
        record.check_single(tokens)
        record.check_dim(tokens, self.dim)
        features = tokens.features[0].reshape(-1, self.neighbours, self.channels + 1)
        source, sizes = tokens.source[0], tokens.sizes[0].long()
        most = int(sizes.max())
        if most > self.neighbours:
            raise InputError(
                f"Expected at most {self.neighbours} points per token (got {most}): the rest is gone; "
                "tokenize "
                f"with neighbours={most} or more, or with more tokens."
            )
        order = source.argsort(stable=True)[int((source < 0).sum()) :]
        token = source[order]
        slot = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[token]
        content = features[token, slot].double()
        if len(order) != len(source) or not bool((content[:, 0] == 1).all()):
            raise InputError(
                "Expected tokens as they were born (got merged or pruned ones, or another "
                "tokenizer's): compare "
                "fingerprints, and undo merges with 'unmerge' first."
            )
        self._check_centred(content[:, 1:4], token, tokens)
        content[:, 1:4] += tokens.positions[0, token]
        return torch.empty_like(content[:, 1:]).index_copy(0, order, content[:, 1:])

    def _check_centred(self, own: Tensor, token: Tensor, tokens: Tokens) -> None:
        """Owned points are spread around their own mean; after a merge the slots hold something else."""
        sizes, places = tokens.sizes[0].double(), tokens.positions[0].abs().amax()
        drift = torch.zeros(len(sizes), 3, dtype=own.dtype, device=own.device).index_add(0, token, own)
        reach = torch.zeros(len(sizes), dtype=own.dtype, device=own.device)
        reach = reach.scatter_reduce(0, token, own.abs().amax(1), "amax")
        slack = torch.finfo(tokens.features.dtype).eps * reach + torch.finfo(torch.float64).eps * (places + reach.max())
        if bool((drift.abs().amax(1) > 8 * slack * sizes).any()):
            raise InputError(
                "Expected tokens as they were born (got points off their token's position): they are merged or another "
                "tokenizer's; tokenize the cloud again."
            )

    def _own(self, places: np.ndarray, source: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, ...]:
        """Which of its own points fills which slot of each token, three of (filled slots,)."""
        sizes = np.bincount(source)
        own = np.argsort(source, kind="stable")
        if sizes.max() > self.neighbours:
            order = np.lexsort((((places - positions[source]) ** 2).sum(1), source))
            rank = np.arange(len(source)) - (np.cumsum(sizes) - sizes)[source[order]]
            own = np.sort(order[rank < self.neighbours])
            own = own[np.argsort(source[own], kind="stable")]
        held = np.minimum(sizes, self.neighbours)
        return source[own], np.arange(len(own)) - (np.cumsum(held) - held)[source[own]], own

    def _around(
        self, places: np.ndarray, source: np.ndarray, positions: np.ndarray, held: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Which of the nearest points of others fills which slot that is left, three of (filled slots,)."""
        wanting = np.flatnonzero(held < self.neighbours)
        if len(wanting) == 0 or len(held) == 1:
            return (np.zeros(0, np.int64),) * 3
        # of the `neighbours` nearest points at most m are the token's own m: enough others are among them
        tree = _tree(places, balanced_tree=False, compact_nodes=False)
        far, point = tree.query(positions[wanting], k=np.arange(1, min(self.neighbours, len(places)) + 1))
        point = np.take_along_axis(point, np.lexsort((point, far), axis=1), 1)
        others = source[point] != wanting[:, None]
        place = held[wanting, None] + np.cumsum(others, 1) - 1
        row, column = np.nonzero(others & (place < self.neighbours))
        return wanting[row], place[row, column], point[row, column]


def _cloud(points: Any, channels: int) -> np.ndarray:
    cloud = record.to_numpy(points, "points")
    if cloud.ndim != 2 or cloud.shape[1] != channels:
        raise InputError(
            f"Expected 'points' of shape (n, {channels}) (got {cloud.shape}): one cloud a call, "
            "coordinates first; "
            "set 'channels' to the numbers per point."
        )
    if len(cloud) == 0:
        raise InputError("Expected at least one point (got 0): leave empty clouds out.")
    finite = np.isfinite(cloud).all(1)
    if not finite.all():
        row = int(finite.argmin())
        raise InputError(
            f"Expected finite numbers (got {cloud[row].tolist()} in row {row}, and "
            f"{(~finite).sum() - 1} more such "
            "rows): drop them, points[np.isfinite(points).all(1)]."
        )
    extra = max(float(cloud[:, 3:].max(initial=0)), -float(cloud[:, 3:].min(initial=0)))
    if extra > _LIMIT:
        raise InputError(f"Expected extra channels within float32 (got {extra:.3g}): change their unit.")
    return cloud


def _unit(places: np.ndarray) -> np.ndarray:
    """The cloud moved to the origin and scaled into [-1, 1] by a power of two: only the shift rounds."""
    unit = places - record.middle(places)
    half = float(max(unit.max(), -unit.min()))
    if half > _LIMIT or 0 < half < 1e-30:
        raise InputError(f"Expected an extent within float32 (got {2 * half:.3g}): change the coordinates' unit.")
    return np.ldexp(unit, -math.frexp(half)[1], out=unit)


def _farthest(unit: np.ndarray, count: int) -> np.ndarray:
    """Exact farthest point sampling in float64, (<= count, 3); ties go to the lowest coordinates."""
    unit = unit[np.lexsort(unit.T[::-1])]  # the same centres for any order of the points
    axes = np.ascontiguousarray(unit.T)
    distance, step, total = np.full(len(unit), np.inf), np.empty(len(unit)), np.empty(len(unit))
    chosen = [int(((unit - unit.mean(0)) ** 2).sum(1).argmin())]
    while True:
        total.fill(0)
        for axis in axes:
            np.subtract(axis, axis[chosen[-1]], out=step)
            np.multiply(step, step, out=step)
            np.add(total, step, out=total)
        np.minimum(distance, total, out=distance)
        farthest = int(distance.argmax())
        if len(chosen) == count or distance[farthest] == 0:
            return unit[chosen]
        chosen.append(farthest)


def _voxels(unit: np.ndarray, count: int) -> np.ndarray:
    """Mean of each occupied cell of the finest cubic grid found with at most `count` occupied cells."""
    low = unit.min(0)
    width = float((unit.max(0) - low).max()) or 1.0

    def keys(cells: int) -> np.ndarray:
        index = np.minimum((unit - low) * (cells / width), cells - 1).astype(np.int64)
        return (index[:, 0] * cells + index[:, 1]) * cells + index[:, 2]

    fits, fails = 1, 2
    while fails < 1 << _BITS and len(np.unique(keys(fails))) <= count:
        fits, fails = fails, fails * 2
    while fails - fits > 1:
        cells = (fits + fails) // 2
        fits, fails = (cells, fails) if len(np.unique(keys(cells))) <= count else (fits, cells)
    _, cell = np.unique(keys(fits), return_inverse=True)
    sums = [np.bincount(cell, weights=unit[:, axis]) for axis in range(3)]
    return np.stack(sums, 1) / np.bincount(cell)[:, None]


def _runs(unit: np.ndarray, count: int) -> np.ndarray:
    """Mean of each of `count` equal runs along the Morton curve, (count, 3)."""
    order, starts = _curve(unit, count)
    sums = [np.add.reduceat(unit[order, axis], starts) for axis in range(3)]
    return np.stack(sums, 1) / np.diff(starts, append=len(unit))[:, None]


def _curve(unit: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The points in the order of the Morton curve, (n,), and where in it each of `count` equal runs starts."""
    return np.argsort(_morton(unit, _reach(unit)), kind="stable"), np.arange(count) * len(unit) // count


def _along(order: np.ndarray, starts: np.ndarray, held: np.ndarray, slots: int) -> tuple[np.ndarray, ...]:
    """For the slots that runs leave empty the points before and after them on the curve: token, slot, point."""
    ends = np.append(starts[1:], len(order))
    first = np.clip(starts - (slots - held) // 2, 0, max(0, len(order) - slots))
    token = np.repeat(np.arange(len(starts)), np.minimum(slots, len(order)) - held)
    slot = held[token] + np.arange(len(token)) - np.searchsorted(token, token)
    place = first[token] + slot - held[token]
    place += np.where(place >= starts[token], (ends - starts)[token], 0)  # the run itself is there already
    return token, slot, order[place]


def _reach(unit: np.ndarray) -> float:
    return float(max(unit.max(), -unit.min())) or 1.0


def _morton(unit: np.ndarray, reach: float) -> np.ndarray:
    """Place along the Morton curve of [-reach, reach]^3, (n,) uint64."""
    key = np.zeros(len(unit), np.uint64)
    spread = (  # put two zero bits between every two bits
        (32, 0x001F00000000FFFF),
        (16, 0x001F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    )
    for axis in range(3):
        bits = np.clip((unit[:, axis] / reach + 1) * (1 << (_BITS - 1)), 0, (1 << _BITS) - 1).astype(np.uint64)
        for shift, mask in spread:
            bits |= bits << np.uint64(shift)
            bits &= np.uint64(mask)
        key |= bits << np.uint64(2 - axis)
    return key


def _nearest(unit: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Nearest centre of each point, ties to the lowest, renumbered without those that own nothing, (n,)."""
    tree, source = _tree(centres), np.zeros(len(unit), np.int64)
    for start in range(0, len(unit) if len(centres) > 1 else 0, _CHUNK):
        rows, near = np.arange(start, min(start + _CHUNK, len(unit))), 2
        while len(rows):
            far, centre = tree.query(unit[rows], k=near)
            tied = far == far[:, :1]
            source[rows] = np.where(tied, centre, len(centres)).min(1)
            rows = rows[tied[:, -1]] if near < len(centres) else rows[:0]  # more ties than were asked for?
            near = min(4 * near, len(centres))
    owns = np.bincount(source, minlength=len(centres)) > 0
    return (np.cumsum(owns) - 1)[source]


def _tree(places: np.ndarray, **options: bool) -> Any:
    from scipy.spatial import cKDTree

    return cKDTree(places, **options)
