"""What answers cost: tokens left, seconds, floating-point operations; and a picture of the score against them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from tokred_sci.datasets.loader import Batch
from tokred_sci.errors import InputError
from tokred_sci.training import hooks
from tokred_sci.training.metrics import Answer, collect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = {
    "tokens": ("tokens left in the end", 1.0),
    "seconds": ("milliseconds a record", 1e3),
    "flops": ("MFLOP a record", 1e-6),
}
REPEATS = 3


class Cost(NamedTuple):
    """Of one record's answer, on average.

    Args:
        tokens: left after the last merge; of a model that does not merge, those that enter it.
        seconds: the forward pass, of the fastest of three tries at each batch.
        flops: of matrix products, convolutions and attention, as `torch.utils.flop_counter` counts them (2 for a
            multiplication and an addition); padding and the search for groups are counted, what only adds is not.
    """

    tokens: float
    seconds: float
    flops: float


def measure(model: nn.Module, batches: Sequence[Batch], answer: Answer) -> Cost:
    """What the model's answers to these batches cost, at the budget it has, where it is.

    Law: tokens and FLOPs are the same at every call; neither the model nor the random state is changed.

    Raises:
        InputError: no records.

    Example:
        >>> from tokred_sci.experiment import Model, ModelConfig
        >>> from tokred_sci.training.tasks import Classify
        >>> model = Model(ModelConfig("dna", {"patch": 4}, dim=8, depth=1, heads=2))
        >>> batch = Batch(model.tokenize("ACGT" * 8), torch.zeros(1), None, torch.zeros(1))
        >>> cost = measure(model, [batch], Classify().answer)
        >>> cost.tokens, cost.seconds > 0, cost.flops > 1000
        (8.0, True, True)
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    records = sum(len(batch.records) for batch in batches)
    if not records:
        raise InputError("Expected at least one record to measure the cost of answers on (got none).")
    before = hooks.states(hooks.generators(model))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), _kept(model) as kept:
        collect(model, batches, answer)
    tokens = sum(int(count) for count in kept) or sum(int(batch.tokens.mask.sum()) for batch in batches)
    seconds = sum(min(_seconds(model, batch, answer) for _ in range(REPEATS)) for batch in batches)
    hooks.restore(hooks.generators(model), before)
    return Cost(tokens / records, seconds / records, counter.get_total_flops() / records)


@contextmanager
def _kept(model: nn.Module) -> Iterator[list[Tensor]]:
    """Tokens that leave the last merge, a number for each forward pass in the block."""
    with hooks.watch_merges(model) as seen:
        yield [numbers for name, numbers in seen.items() if name.startswith("kept")][-1] if seen else []


def _seconds(model: nn.Module, batch: Batch, answer: Answer) -> float:
    _wait(model)
    start = time.perf_counter()
    collect(model, [batch], answer)
    _wait(model)
    return time.perf_counter() - start


def _wait(model: nn.Module) -> None:
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()


def draw_budgets(told: Mapping[str, Mapping[str, float]], metric: str) -> "Figure":
    """Score against tokens, seconds and FLOPs, one curve for each run.

    Args:
        told: for each name of a curve, scores and costs by "NAME@BUDGET", as `metrics.json` has them.
        metric: name of the score.

    Raises:
        InputError: a run without budgets, or without this score.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.2, 3.3), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    for name, numbers in told.items():
        budgets = sorted({key.partition("@")[2] for key in numbers if key.startswith(f"{metric}@")}, key=float)
        if not budgets:
            raise InputError(
                f"Expected {metric!r} at budgets in {name!r} (got {', '.join(sorted(numbers)) or 'none'})."
            )
        for panel, (axis, (_, unit)) in zip(panels, AXES.items(), strict=True):
            x = [numbers[f"{axis}@{budget}"] * unit for budget in budgets]
            panel.plot(x, [numbers[f"{metric}@{budget}"] for budget in budgets], ".-", label=name)
    for panel, (label, _) in zip(panels, AXES.values(), strict=True):
        panel.set(xlabel=label, xlim=(0, None))
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    low, high = panels[0].get_ylim()
    margin = max(0.0, 0.05 * abs(low + high) - (high - low)) / 2  # small differences look small
    panels[0].set(ylabel=metric, ylim=(low - margin, high + margin))
    if len(told) > 1:
        panels[0].legend(fontsize=8)
    return figure
