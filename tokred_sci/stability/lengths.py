"""Behaviour against length: how well a model trained on short inputs does on longer ones, and at what cost."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.tokens import Tokens, stack
from tokred_sci.training.loop import predict


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
