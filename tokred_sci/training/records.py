"""Training on records in memory, and answers for them: what needs no folder and no loader of its own."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tokred_sci.datasets.loader import Batch
from tokred_sci.errors import InputError
from tokred_sci.tokens import Tokens, stack
from tokred_sci.training.config import TrainConfig
from tokred_sci.training.loop import fit
from tokred_sci.training.tasks import Classify


class _Drawn:
    """Records in memory, in an endless random order, in batches of one size."""

    def __init__(self, records: list[Tokens], labels: Tensor, batch: int, seed: int):
        self.records, self.labels, self.batch, self.seed = records, labels, batch, seed

    def __iter__(self) -> Iterator[Batch]:
        order = _endless_order(len(self.records), torch.Generator().manual_seed(self.seed))
        while True:
            chosen = [next(order) for _ in range(self.batch)]
            yield Batch(stack([self.records[i] for i in chosen]), self.labels[chosen], None, torch.tensor(chosen))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to go on from: `train` keeps no checkpoints."""


def train(
    model: nn.Module,
    records: list[Tokens],
    labels: Tensor,
    config: TrainConfig,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[float]:
    """Train a classifier in place, where it is, and return the loss of every step; `fit` with records in memory.

    Law: the same seed, records and model give bit-equal weights on a CPU; the global random state is not touched.

    Args:
        records: batches of one record each.
        labels: class of each record, (len(records),) int64.
        progress: wraps the step numbers, e.g. `tqdm`.

    Raises:
        InputError: records and labels that do not match, or a loss that stays not finite.
    """
    if not records or len(records) != len(labels):
        raise InputError(f"Expected one label per record (got {len(records)} records, {len(labels)} labels).")
    ticks = iter(progress(range(config.steps)))
    loader = _Drawn(records, labels, config.batch, config.seed)
    device = next(model.parameters()).device
    history = fit(
        model, Classify().loss, loader, config, None, None, (), False, None, device, lambda row: next(ticks, None)
    )
    for _ in ticks:
        pass
    return history.losses


@torch.no_grad()
def predict(model: nn.Module, records: list[Tokens], batch: int = 16) -> Tensor:
    """Outputs of a model for every record, in order; none is dropped."""
    model.eval()
    return torch.cat([model(stack(records[i : i + batch])) for i in range(0, len(records), batch)])


def _endless_order(count: int, generator: torch.Generator) -> Iterator[int]:
    """Every record once in random order, then again in another."""
    while True:
        yield from torch.randperm(count, generator=generator).tolist()
