"""What the three tokenizers share: checked settings, windows along a sequence, and one record as `Tokens`."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.tokens import Tokens, unchecked

LAYOUT = 2  # part of every fingerprint: raise it when what a feature means changes


def fingerprint(tokenizer: Any) -> str:
    """16 hex digits of the SHA-256 of a tokenizer's settings and vocabulary."""
    told = json.dumps([LAYOUT, type(tokenizer).__name__, asdict(tokenizer)], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def check_integer(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Refuse anything but a Python integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        bound = f">= {low}" if high is None else f"in [{low}, {high}]"
        raise InputError(f"Expected '{name}' as an integer {bound} (got {value!r}): choose a value in that range.")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse a word that is not among `choices`."""
    if value not in choices:
        raise InputError(f"Expected '{name}' as one of {', '.join(map(repr, choices))} (got {value!r}): choose one.")


def to_numpy(values: Any, name: str) -> np.ndarray:
    """A numpy view of numbers that came as numpy, torch or lists."""
    if isinstance(values, Tensor):
        values = values.detach().to("cpu")
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"Expected '{name}' as a rectangular array (got {error}): pad or split it first.") from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"Expected '{name}' as real numbers (got {array.dtype}): convert them to float64 first.")
    return array


def middle(places: np.ndarray) -> np.ndarray:
    """Half way between the lowest and the highest place, (P,), for any order of rows; never overflows."""
    return places.min(0) / 2 + places.max(0) / 2


def assemble(features: np.ndarray, source: np.ndarray, places: np.ndarray) -> Tokens:
    """One record as a batch of one. Law: `sizes == bincount(source)`, positions are means of owned elements.

    Args:
        features: (N, D) float32.
        source: (M,) int64, the token that owns each element; every token owns at least one.
        places: (M, P) float64, the place of each element in the domain's unit.
    """
    count, origin = len(features), middle(places)
    sizes = np.bincount(source, minlength=count)
    sums = [np.bincount(source, weights=places[:, axis] - origin[axis], minlength=count) for axis in range(len(origin))]
    positions = np.stack(sums, 1) / sizes[:, None] + origin
    return Tokens(
        torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))[None],
        torch.from_numpy(positions)[None],
        torch.from_numpy(sizes.astype(np.float32))[None],
        torch.from_numpy(source.astype(np.int64, copy=False))[None],
    )


def assemble_runs(features: np.ndarray, sizes: np.ndarray) -> Tokens:
    """As `assemble`, for tokens that own the elements 0, 1, 2 ... of a sequence in runs of these sizes, (N,) int64."""
    ends = np.cumsum(sizes)
    return unchecked(
        torch.from_numpy(np.ascontiguousarray(features))[None],
        torch.from_numpy((ends - (sizes + 1) / 2)[:, None])[None],
        torch.from_numpy(sizes.astype(np.float32))[None],
        torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))[None],
    )


def window_sizes(length: int, patch: int, stride: int) -> np.ndarray:
    """Elements each window owns, (N,): its first `stride`, the last one all the rest."""
    sizes = np.full(window_count(length, patch, stride), stride)
    sizes[-1] = length - stride * (len(sizes) - 1)
    return sizes


def window_count(length: int, patch: int, stride: int) -> int:
    """Windows of `patch` elements, `stride` apart, that cover `length` elements: never a tail left over."""
    return max(1, -(-(length - patch + stride) // stride))


def window_source(length: int, patch: int, stride: int) -> np.ndarray:
    """Owner of each element, (M,): a window owns its first `stride` elements, the last one all the rest."""
    return np.minimum(np.arange(length) // stride, window_count(length, patch, stride) - 1)


def check_born(tokens: Tokens, dim: int, patch: int, stride: int) -> None:
    """Refuse tokens that these windows cannot have made: another tokenizer's, merged or pruned ones."""
    check_dim(tokens, dim)
    elements = torch.arange(tokens.source.shape[1], device=tokens.source.device)
    lengths = (tokens.source >= 0).sum(1, keepdim=True)
    last = torch.div(lengths - patch + stride + stride - 1, stride, rounding_mode="floor").clamp(min=1) - 1
    born = torch.minimum(elements // stride, last).where(elements < lengths, torch.tensor(-1, device=elements.device))
    if not torch.equal(born, tokens.source):
        raise InputError(
            f"Expected tokens as they were born, {stride} elements each (got merged or pruned tokens, "
            "or another "
            "tokenizer's): compare fingerprints, and undo merges with 'unmerge' first."
        )


def check_indexed(tokens: Tokens) -> None:
    """Refuse one record whose positions are not its element indices: pruned, then renumbered by tokens[i]."""
    source = tokens.source[0].numpy(force=True)
    index = np.arange(len(source), dtype=np.float64)
    count = int(source.max()) + 1
    means = np.bincount(source, weights=index, minlength=count) / np.bincount(source, minlength=count)
    offset = tokens.positions[0, :count, 0].numpy(force=True) - means  # one offset for all is a shifted record
    if np.ptp(offset) > 0.25:
        raise InputError(
            "Expected a record with all its elements (got positions with holes): tokens were pruned; "
            "take the record as it was born."
        )


def check_dim(tokens: Tokens, dim: int) -> None:
    """Refuse tokens whose features have another width than this tokenizer makes."""
    if tokens.features.shape[2] != dim:
        raise InputError(
            f"Expected features of width {dim} (got {tokens.features.shape[2]}): these tokens come "
            "from a tokenizer "
            "with other settings, or from an embedding; compare fingerprints."
        )


def check_single(tokens: Tokens) -> None:
    """Refuse a batch of several records."""
    if len(tokens) != 1:
        raise InputError(f"Expected one record (got a batch of {len(tokens)}): take them one by one with tokens[i].")


def spans(tokens: Tokens) -> Tensor:
    """[first, last + 1) of the run each token owns, (N, 2) int64; [0, 0] for none; gaps are refused."""
    check_single(tokens)
    count, source = tokens.features.shape[1], tokens.source[0]
    elements = torch.nonzero(source >= 0)[:, 0]
    source = source[elements]
    first = torch.full((count,), len(tokens.source[0]), device=source.device).scatter_reduce(
        0, source, elements, "amin"
    )
    end = torch.zeros(count, dtype=torch.int64, device=source.device).scatter_reduce(0, source, elements + 1, "amax")
    first = first.where(end > 0, 0)
    gaps = torch.nonzero(end - first != torch.bincount(source, minlength=count))
    if len(gaps):
        token = int(gaps[0])
        raise InputError(
            f"Expected each token to own one run of elements (got a gap in token {token}, between "
            f"{int(first[token])} and {int(end[token]) - 1}): a grouping that is not local has no spans; "
            "read tokens.source."
        )
    return torch.stack([first, end], 1)
