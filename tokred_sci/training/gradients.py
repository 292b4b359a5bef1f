"""Gradients of a batch: in parts that fit into memory, added up over processes, clipped, and looked at."""

import gc
import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tokred_sci.datasets.loader import Batch
from tokred_sci.errors import InputError
from tokred_sci.training import guard, hooks
from tokred_sci.training.config import TrainConfig
from tokred_sci.training.processes import Processes
from tokred_sci.training.state import Progress
from tokred_sci.training.tasks import Loss

RECENT = 50  # good losses that a spike is measured against
NOTHING = "nothing asked"  # the reason for no step where no process's share of a batch asks anything
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Gradients:
    """What a batch says of the parameters, in their `grad`.

    Args:
        merges: what `hooks.watch_merges` sees; emptied where a batch is begun anew.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[nn.Module, Batch], Loss],
        config: TrainConfig,
        processes: Processes,
        merges: dict[str, list[Tensor]],
    ):
        self.model, self.loss, self.config, self.processes, self.merges = model, loss, config, processes, merges
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.generators = hooks.generators(model)

    def add_up(self, batch: Batch, at: Progress) -> tuple[float, float]:
        """Loss and number of terms of this process's share; where memory runs out, once more in parts half as large."""
        rows = range(self.processes.index, len(batch.records), self.processes.count)
        before = hooks.states(self.generators)
        while True:
            for seen in self.merges.values():
                seen.clear()
            part = min(at.micro or self.config.micro_batch or len(rows), len(rows)) or 1
            try:
                return self._accumulate(batch, rows, part, at)
            except (RuntimeError, MemoryError) as error:
                if not guard.is_out_of_memory(error):
                    raise
                told = str(error).partition("\n")[0]
            self._forget()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if part == 1:
                length = batch.tokens.features.shape[1]
                raise InputError(
                    f"Expected a record of {length} tokens to fit into memory (got: {told}): use shorter records, a "
                    "smaller model, a smaller budget or precision='bf16'."
                )
            at.micro = -(-part // 2)
            hooks.restore(self.generators, before)
            warnings.warn(
                f"Out of memory with {part} records at a time; from now on {at.micro}, with the same {len(rows)} "
                f"a step ({told}).",
                RuntimeWarning,
                stacklevel=2,
            )

    def _accumulate(self, batch: Batch, rows: Sequence[int], part: int, at: Progress) -> tuple[float, float]:
        device, kind = self.processes.device, TYPES[self.config.precision]
        guard.seed_all(device, guard.number_of(self.config.seed, at.batches, 1 + self.processes.index))
        self._forget()
        total = count = 0.0
        for start in range(0, len(rows), part):
            some = batch.take(rows[start : start + part]).to(device)
            with torch.autocast(device.type, kind, enabled=kind != torch.float32):
                told = self.loss(self.model, some)
            if told.total.requires_grad:
                (told.total * (at.scale / len(batch.records))).backward()
            total, count = total + told.total.item(), count + float(told.number)
        return total, count

    def _forget(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def average(self, total: float, count: float, records: int, at: Progress) -> tuple[float, float]:
        """Mean loss and norm of the mean gradient over all processes; gradients are clipped to `config.clip`."""
        self.processes.sum_gradients(self.parameters)
        if not count:
            return math.nan, math.nan
        factor = records / count / at.scale
        if factor != 1:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad *= factor
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        return total / count, norm.item()

    def fault(self, loss: float, count: float, norm: float, at: Progress) -> str:
        """Why no step is made with them, or nothing."""
        if not count:
            return NOTHING
        if not math.isfinite(loss):
            return f"loss {loss}"
        if not math.isfinite(norm):
            return "scale" if at.scale > 1 else f"gradient {norm}"
        if len(at.recent) == RECENT and loss > self.config.spike * max(at.recent) > 0:
            return f"spike: {loss:.4g} where {max(at.recent):.4g} was the largest of {RECENT}"
        return ""
