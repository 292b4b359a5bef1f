"""The training loop: plain torch, seeded, interruptible. It knows no domain and no reduction."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokred_sci.errors import InputError
from tokred_sci.tokens import Tokens, stack


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        steps: optimiser steps.
        batch: records per step.
        learning_rate: peak; warmed up linearly over `warm_up` steps, then cosine to zero.
        weight_decay: of AdamW.
        clip: largest gradient norm.
        warm_up: steps.
        seed: of the order of records and of dropout.
    """

    steps: int = 500
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    warm_up: int = 50
    seed: int = 0


def train(
    model: nn.Module,
    records: list[Tokens],
    labels: Tensor,
    config: TrainConfig,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[float]:
    """Train a classifier in place and return the loss of every step.

    Law: the same seed, records and model give bit-equal weights on a CPU; the global random state is not touched.

    Args:
        records: batches of one record each.
        labels: class of each record, (len(records),) int64.
        progress: wraps the step numbers, e.g. `tqdm`.

    Raises:
        InputError: records and labels that do not match, or a loss that is no longer finite.
    """
    if not records or len(records) != len(labels):
        raise InputError(f"Expected one label per record (got {len(records)} records, {len(labels)} labels).")
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    model.train()
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        order = _endless_order(len(records), torch.Generator().manual_seed(config.seed))
        for step in progress(range(config.steps)):
            chosen = [next(order) for _ in range(config.batch)]
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * schedule(step, config.steps, config.warm_up)
            loss = F.cross_entropy(model(stack([records[i] for i in chosen])), labels[chosen])
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise InputError(f"The loss became {losses[-1]} at step {step}: lower 'learning_rate' or 'clip'.")
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimiser.step()
    return losses


@torch.no_grad()
def predict(model: nn.Module, records: list[Tokens], batch: int = 16) -> Tensor:
    """Outputs of a model for every record, in order; none is dropped."""
    model.eval()
    return torch.cat([model(stack(records[i : i + batch])) for i in range(0, len(records), batch)])


def schedule(step: int, steps: int, warm_up: int) -> float:
    """Share of the peak learning rate: linear warm-up, then cosine to zero.

    Example:
        >>> [round(schedule(s, 100, 10), 2) for s in (0, 9, 50, 99)]
        [0.1, 0.98, 0.5, 0.0]
    """
    return min(1.0, (step + 1) / max(1, warm_up)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _endless_order(count: int, generator: torch.Generator) -> Iterator[int]:
    """Every record once in random order, then again in another."""
    while True:
        yield from torch.randperm(count, generator=generator).tolist()
