"""Behaviour against length: how well a model trained on short inputs does on longer ones, and at what cost."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.tokens import Tokens, stack
from tokred_sci.training.hooks import at_budget
from tokred_sci.training.records import predict


class AtLength(NamedTuple):
    """What was measured at one length.

    Attributes:
        multiple: length of the records in training lengths.
        accuracy: share of records answered right.
        error: its standard error, sqrt(p (1 - p) / n).
        tokens: tokens of one record that enter the encoder, then after each block.
        seconds: per record, forward pass alone; the median over batches.
        peak_mb: largest resident memory of the process while this length ran, in MB (None where unknown).
    """

    multiple: int
    accuracy: float
    error: float
    tokens: list[int]
    seconds: float
    peak_mb: float | None


def measure(model: Any, records: list[Tokens], labels: Tensor, multiple: int, batch: int) -> AtLength:
    """Accuracy, tokens per layer, time and memory on records of one length.

    Args:
        model: a trained `experiment.Model` (or any module with `embed` and `encoder`) that classifies.
        records: batches of one record each.
        labels: class of each record, (len(records),).
        multiple: their length in training lengths.
        batch: records per forward pass.
    """
    watched = reset_peak()
    answers, seconds = [], []
    for i in range(0, len(records), batch):
        start = time.perf_counter()
        answers.append(predict(model, records[i : i + batch], batch).argmax(1))
        seconds.append((time.perf_counter() - start) / len(answers[-1]))
    accuracy = (torch.cat(answers) == labels).double().mean().item()
    with torch.no_grad():
        layers = model.encoder.trace(model.embed(stack(records[:1])))
    tokens = [int(layer.counts[0]) for layer in layers]
    error = math.sqrt(accuracy * (1 - accuracy) / len(records))
    return AtLength(multiple, accuracy, error, tokens, median(seconds), peak() if watched else None)


def slope_per_octave(multiples: Sequence[int | float], scores: Sequence[int | float]) -> float:
    """Change of the metric per doubling of length: the least-squares slope of score on log2(length); 0 is stable.

    Example:
        >>> slope_per_octave([1, 2, 4], [0.9, 0.8, 0.7])
        -0.1
    """
    if len(multiples) < 2 or len(multiples) != len(scores):
        raise InputError(f"Expected two or more lengths, one score each (got {len(multiples)} and {len(scores)}).")
    octaves = [math.log2(m) for m in multiples]
    mean_x, mean_y = sum(octaves) / len(octaves), sum(scores) / len(scores)
    spread = sum((x - mean_x) ** 2 for x in octaves)
    return round(sum((x - mean_x) * (y - mean_y) for x, y in zip(octaves, scores, strict=True)) / spread, 12)


def effective_length(multiples: Sequence[int], scores: Sequence[float], share: float = 0.856) -> int:
    """Longest length up to which every score stays at or above `share` of the score at the first length; 0 if none.

    RULER (Hsieh et al., 2024, https://arxiv.org/abs/2404.06654) asks for a fixed 85.6 %; here it is relative to
    the training length, since tasks differ.

    Example:
        >>> effective_length([1, 2, 4, 8], [0.9, 0.85, 0.5, 0.8])
        2
    """
    longest = 0
    for multiple, score in zip(multiples, scores, strict=True):
        if score < share * scores[0]:
            break
        longest = multiple
    return longest


def break_even(multiples: Sequence[int | float], seconds: Sequence[float], reference: Sequence[float]) -> float | None:
    """Shortest length from which on something is no slower than the reference, up to the longest; None if it is slower.

    Between two lengths the ratio of times is taken for a straight line in logarithms.

    Args:
        multiples: lengths, rising.
        seconds: at each.
        reference: seconds of what it is compared with, at each.

    Example:
        >>> break_even([1, 2, 4, 8], [4.0, 4.0, 4.0, 4.0], [1.0, 2.0, 4.0, 8.0])
        4.0
        >>> round(break_even([1, 4], [2.0, 2.0], [1.0, 4.0]), 3)
        2.0
    """
    ratios = [math.log(a / b) for a, b in zip(seconds, reference, strict=True)]
    if ratios[-1] > 0:
        return None
    last = max((place for place, ratio in enumerate(ratios) if ratio > 0), default=-1)
    if last < 0:
        return float(multiples[0])
    before, after = math.log(multiples[last]), math.log(multiples[last + 1])
    return math.exp(before + (after - before) * ratios[last] / (ratios[last] - ratios[last + 1]))


def look_back_curve(
    answer: Callable[[list[Any]], Any],
    records: Sequence[Any],
    score: Callable[[Any], float],
    lengths: Sequence[int],
) -> list[float]:
    """Score of the same question when only the last so many elements of each record are shown.

    A model that makes use of a long past does not get worse as it sees more of it: `worst_fall` of the curve is 0.

    Args:
        answer: records -> answers, e.g. forecasts of what follows the record.
        records: series (..., T), time last, or sequences (str or bytes), each at least as long as the longest look.
        score: answers -> one number, larger is better (hand in minus the error for a forecast).
        lengths: elements shown, each at least 1.

    Raises:
        InputError: a length below 1 or longer than some record.

    Reference: Are Transformers Effective for Time Series Forecasting? (Zeng et al., 2023),
    https://arxiv.org/abs/2205.13504, section 5.3: most forecasters of their time got worse with a longer look back.

    Example:
        >>> sees_a_T = lambda records: ["T" in record for record in records]
        >>> look_back_curve(sees_a_T, ["TAAA", "AATA"], lambda said: sum(said) / len(said), [1, 2, 4])
        [0.0, 0.5, 1.0]
    """
    shortest = min(map(_elements, records), default=0)
    if bad := [length for length in lengths if not 1 <= length <= shortest]:
        raise InputError(f"Expected lengths from 1 to {shortest}, the shortest record (got {bad}).")
    return [float(score(answer([_last(record, length) for record in records]))) for length in lengths]


def worst_fall(scores: Sequence[float]) -> float:
    """Largest fall below the best score at any shorter length: 0 if more input never hurts.

    Example:
        >>> worst_fall([0.5, 0.75, 0.625, 1.0])
        0.125
    """
    if not scores:
        raise InputError("Expected one or more scores (got none).")
    best, fall = -math.inf, 0.0
    for score in scores:
        best = max(best, score)
        fall = max(fall, best - score)
    return fall


def answers_at_budgets(model: Any, records: list[Tokens], shares: Sequence[float], batch: int = 16) -> Tensor:
    """Outputs of one model at several token budgets, (len(shares), records, ...).

    Args:
        model: a trained `experiment.Model` that merges.
        records: batches of one record each.
        shares: of a record's tokens left in the end, in (0, 1]; see `training.hooks.at_budget`.
        batch: records per forward pass.

    Raises:
        InputError: no shares, or a model that does not merge.
    """
    if not shares:
        raise InputError("Expected one or more shares of tokens (got none).")
    answers = []
    for share in shares:
        with at_budget(model, share):
            answers.append(predict(model, records, batch))
    return torch.stack(answers)


def agreement(classes: Tensor) -> Tensor:
    """Share of answers on which each two of K variants of a model agree, (K, K), 1 on the diagonal.

    The variants may be token budgets, the two strands of DNA, or a record and its corrupted self.

    Args:
        classes: class that each variant gives each record or element, (K, ...) of whole numbers; -100 and -1 (no
            answer) in any variant leave the place out for all.

    Raises:
        InputError: fewer than two variants, scores in place of classes, or no place with an answer from all.

    Example:
        >>> agreement(torch.tensor([[0, 1, 1, 2], [0, 1, 1, 1], [0, 0, 1, 1]])).tolist()
        [[1.0, 0.75, 0.5], [0.75, 1.0, 0.75], [0.5, 0.75, 1.0]]
    """
    if classes.ndim < 2 or len(classes) < 2 or classes.is_floating_point():
        raise InputError(
            f"Expected whole numbers for two or more variants, (K, ...) (got {classes.dtype} of shape "
            f"{tuple(classes.shape)}): take the argmax of scores first."
        )
    flat = classes.flatten(1)
    flat = flat[:, (flat >= 0).all(0)]
    if not flat.shape[1]:
        raise InputError("Expected at least one place with an answer from every variant (got none).")
    return (flat[:, None] == flat[None]).double().mean(-1)


def largest_change(outputs: Tensor) -> float:
    """Largest |y - y'| over K variants of an input that should change nothing: padding, batch, seed, order of points.

    Args:
        outputs: of each variant, (K, ...); the first is the reference.

    Raises:
        InputError: fewer than two variants, or outputs that are not finite.

    Example:
        >>> largest_change(torch.tensor([[1.0, 2.0], [1.0, 2.5], [0.0, 2.0]]))
        1.0
    """
    if outputs.ndim < 1 or len(outputs) < 2 or not bool(outputs.isfinite().all()):
        raise InputError(f"Expected finite outputs of two or more variants (got shape {tuple(outputs.shape)}).")
    return float((outputs.double() - outputs[:1].double()).abs().max())


def _elements(record: Any) -> int:
    if isinstance(record, str | bytes):
        return len(record)
    if not getattr(record, "shape", ()):
        raise InputError(f"Expected records as text, or arrays with time last (got {type(record).__name__}).")
    return record.shape[-1]


def _last(record: Any, length: int) -> Any:
    return record[-length:] if isinstance(record, str | bytes) else record[..., -length:]


def reset_peak() -> bool:
    """Forget the peak memory so far; False where the system does not let us (not Linux, or a sandbox)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak() -> float:
    """Largest resident memory since `reset_peak` said True, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
