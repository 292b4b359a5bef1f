"""The one central type. A batch is a `Tokens`; an answer to "which token goes where" is a `Grouping`.

Everything else in the library is a step `Tokens -> Tokens`, or a plain function that returns a `Grouping`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from tokred_sci.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A batch of records, each a list of tokens that remember which source elements they stand for.

    Source elements are what the domain counts: bases, points, time steps. Law: at birth, and after any number
    of merges, every source element is held by at most one token, and `sizes == bincount(source)`.

    Args:
        features: what each token says, (B, N, D): raw content from a tokenizer, hidden states after the embedding.
            Floats; or uint8, codes that mean something to an embedding only: they cannot be averaged, so not merged.
        positions: size-weighted mean place, (B, N, P), P = 1 or 3, in the domain's unit (bases; steps or seconds;
            the cloud's own unit). Tokenizers emit float64: float32 cannot tell neighbouring bases of a genome
            or seconds of a calendar date apart.
        sizes: source elements inside each token, (B, N) float32; 0 = padding.
        source: for each source element the token that holds it, (B, M) int64; -1 = padding, or dropped by pruning.

    Raises:
        InputError: shapes, types, devices or values that do not fit together.

    Example:
        >>> import torch
        >>> Tokens(features=torch.zeros(1, 2, 8), positions=torch.tensor([[[1.0], [4.5]]]),
        ...        sizes=torch.tensor([[3.0, 4.0]]), source=torch.tensor([[0, 0, 0, 1, 1, 1, 1]]))
        Tokens(B=1 N=2 D=8 P=1 M=7, torch.float32 on cpu, 3.5 elements per token)
    """

    features: Float[Tensor, "B N D"] | UInt8[Tensor, "B N D"]
    positions: Float[Tensor, "B N P"]
    sizes: Float[Tensor, "B N"]
    source: Int[Tensor, "B M"]

    def __post_init__(self) -> None:
        features, positions, sizes, source = self.features, self.positions, self.sizes, self.source
        if features.ndim != 3 or not (features.is_floating_point() or features.dtype == torch.uint8):
            raise InputError(
                f"Expected 'features' as floats, or uint8 codes, of shape (B, N, D) (got {_tell(features)})."
            )
        batch, tokens, _ = features.shape
        if batch == 0 or tokens == 0:
            raise InputError(
                f"Expected at least one record with one token (got features of shape {tuple(features.shape)}): "
                "leave empty records out of the batch."
            )
        if positions.shape not in ((batch, tokens, 1), (batch, tokens, 3)) or not positions.is_floating_point():
            raise InputError(
                f"Expected 'positions' as floats of shape ({batch}, {tokens}, 1 or 3) (got {_tell(positions)})."
            )
        if sizes.shape != (batch, tokens) or sizes.dtype != torch.float32:
            raise InputError(f"Expected 'sizes' as float32 of shape ({batch}, {tokens}) (got {_tell(sizes)}).")
        if source.ndim != 2 or source.shape[0] != batch or source.dtype != torch.int64:
            raise InputError(f"Expected 'source' as int64 of shape ({batch}, M) (got {_tell(source)}).")
        devices = {t.device for t in (features, positions, sizes, source)}
        if len(devices) > 1:
            raise InputError(f"Expected all fields on one device (got {sorted(map(str, devices))}): use .to(device).")
        if can_look(sizes):  # bool(tensor) would stall a GPU stream; there the kernels check indices
            if not bool((sizes >= 0).all()):
                raise InputError(f"Expected 'sizes' >= 0 (got a minimum of {sizes.min().item()}).")
            _check_range("source", source, tokens)

    @property
    def mask(self) -> Bool[Tensor, "B N"]:
        """True where a token is real, False where it is padding."""
        return self.sizes > 0

    @property
    def counts(self) -> Int[Tensor, " B"]:
        """Real tokens in each record."""
        return self.mask.sum(1)

    def __len__(self) -> int:
        """Number of records, so that `len(tokens)` and `tokens[i]` work as for a list."""
        return len(self.features)

    def __getitem__(self, record: int) -> "Tokens":
        """One record without its padding, as a batch of one: the inverse of `stack`.

        Elements that pruning dropped are left out with the padding.
        """
        if not -len(self) <= record < len(self):
            raise IndexError(f"record {record} of a batch of {len(self)}")
        keep, source = self.mask[record], self.source[record]
        if not keep.any():
            raise InputError(f"Record {record} is all padding: there is nothing to take out.")
        renamed = keep.cumsum(0) - 1
        source = renamed[source[source >= 0]]
        return Tokens(
            self.features[record, keep][None],
            self.positions[record, keep][None],
            self.sizes[record, keep][None],
            source[None],
        )

    def to(self, target: torch.device | torch.dtype | str) -> "Tokens":
        """Move to a device, or change the type of `features` (sizes stay float32, positions keep their own)."""
        if isinstance(target, torch.dtype):
            check_floats(self)
            return replace(self, features=self.features.to(target))
        fields = (self.features, self.positions, self.sizes, self.source)
        return Tokens(*(field.to(target) for field in fields))

    def __repr__(self) -> str:
        (batch, count, dim), places, elements = self.features.shape, self.positions.shape[2], self.source.shape[1]
        mean = (self.sizes.sum() / self.mask.sum().clamp(min=1)).item()
        return (
            f"Tokens(B={batch} N={count} D={dim} P={places} M={elements}, "
            f"{self.features.dtype} on {self.features.device}, {mean:.4g} elements per token)"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """Which group each token joins: the answer of every reduction function, as data.

    Args:
        labels: group of each token, (B, N) int64 in [0, num_groups); -1 = in no group (padding, or pruned).
        num_groups: the padded maximum over the batch. Groups nobody joins get size 0, which is padding:
            a record with a smaller budget needs nothing new.
        weights: how loudly each token speaks in its group's features, (B, N), from 0 to 1 and with a gradient: what
            a learned method says beside its labels. None = all alike. Sizes, positions and source do not listen.

    Raises:
        InputError: labels of the wrong shape or type, or outside [-1, num_groups); weights of another shape.

    Example:
        >>> import torch
        >>> Grouping(torch.tensor([[0, 0, 1, 2, 2]]), num_groups=3)
        Grouping(B=1 N=5 -> 3 groups)
    """

    labels: Int[Tensor, "B N"]
    num_groups: int
    weights: Float[Tensor, "B N"] | None = None

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.dtype != torch.int64:
            raise InputError(f"Expected 'labels' as int64 of shape (B, N) (got {_tell(self.labels)}).")
        if self.num_groups < 1:
            raise InputError(f"Expected 'num_groups' >= 1 (got {self.num_groups}).")
        if self.weights is not None and self.weights.shape != self.labels.shape:
            raise InputError(f"Expected 'weights' of shape {tuple(self.labels.shape)} (got {_tell(self.weights)}).")
        if can_look(self.labels):
            _check_range("labels", self.labels, self.num_groups)

    def __repr__(self) -> str:
        batch, count = self.labels.shape
        return f"Grouping(B={batch} N={count} -> {self.num_groups} groups)"


def stack(records: Sequence[Tokens]) -> Tokens:
    """Pad records to common lengths and join them into one batch. Padding has size 0 and source -1.

    Args:
        records: batches (usually of one record each) with equal D and P; lengths N and M may differ.

    Raises:
        InputError: no records, or records that differ in D, P, dtype or device.

    Example:
        >>> import torch
        >>> short = Tokens(torch.ones(1, 1, 4), torch.zeros(1, 1, 1), torch.ones(1, 1), torch.zeros(1, 1).long())
        >>> long = Tokens(torch.ones(1, 2, 4), torch.zeros(1, 2, 1), torch.ones(1, 2), torch.tensor([[0, 1]]))
        >>> batch = stack([short, long])
        >>> batch.sizes
        tensor([[1., 0.],
                [1., 1.]])
        >>> batch[0]
        Tokens(B=1 N=1 D=4 P=1 M=1, torch.float32 on cpu, 1 elements per token)
    """
    if not records:
        raise InputError("Expected at least one record to stack (got an empty list).")
    first = records[0]
    for index, record in enumerate(records):
        got = (record.features.shape[2], record.positions.shape[2], record.features.dtype, record.positions.dtype)
        want = (first.features.shape[2], first.positions.shape[2], first.features.dtype, first.positions.dtype)
        if got != want:
            raise InputError(
                f"Expected every record with (D, P, features, positions) = {want} as the first one "
                f"(record {index} has {got}): use one tokenizer, and .to(dtype), for a batch."
            )
    if len(records) == 1:
        return first
    tokens = max(record.features.shape[1] for record in records)
    elements = max(record.source.shape[1] for record in records)

    def pad(field: Tensor, length: int, value: int = 0) -> Tensor:
        trailing = [0, 0] * (field.ndim - 2)
        return F.pad(field, [*trailing, 0, length - field.shape[1]], value=value)

    return Tokens(
        torch.cat([pad(record.features, tokens) for record in records]),
        torch.cat([pad(record.positions, tokens) for record in records]),
        torch.cat([pad(record.sizes, tokens) for record in records]),
        torch.cat([pad(record.source, elements, -1) for record in records]),
    )


def unchecked(features: Tensor, positions: Tensor, sizes: Tensor, source: Tensor) -> Tokens:
    """`Tokens` of values that are right by construction, or were checked before: looking again costs as much as making.

    Same arguments; that they fit together is the caller's word.
    """
    tokens = object.__new__(Tokens)
    for name, value in zip(Tokens.__slots__, (features, positions, sizes, source), strict=True):
        object.__setattr__(tokens, name, value)
    return tokens


def check_floats(tokens: Tokens) -> None:
    """Refuse codes: as numbers they mean nothing."""
    if not tokens.features.is_floating_point():
        raise InputError(
            "Expected features as floats (got uint8 codes): embed the tokens first, or spell the codes out with the "
            "tokenizer's 'spell_out'."
        )


def _tell(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


def can_look(value: Tensor) -> bool:
    """Whether values can be read without stalling a device or breaking a traced graph."""
    return value.device.type == "cpu" and not torch.compiler.is_compiling()


def _check_range(name: str, indices: Tensor, end: int) -> None:
    low, high = torch.aminmax(indices) if indices.numel() else (-1, -1)
    if int(low) < -1 or int(high) >= end:
        raise InputError(f"Expected '{name}' in [-1, {end}) (got values from {int(low)} to {int(high)}).")
