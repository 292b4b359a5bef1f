"""Where this process runs: its device, and how many train together. Accelerate finds both out."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

WAIT = timedelta(days=1)  # at most, of processes for one another: while the first one evaluates, the others do nothing


@dataclass(frozen=True)
class Processes:
    """One process among those that train together (started by `torchrun`, or alone).

    Args:
        device: where its tensors live.
        index: its number.
        count: how many there are.
    """

    device: torch.device
    index: int = 0
    count: int = 1

    @classmethod
    def here(cls, device: torch.device | None = None) -> "Processes":
        """As accelerate finds them; with a device given, this process alone."""
        if device is not None:
            return cls(device)
        from accelerate import PartialState

        cpu = not torch.accelerator.is_available()  # else it would not see torchrun on CPUs
        state = PartialState(cpu=cpu, timeout=WAIT)
        return cls(state.device, state.process_index, state.num_processes)

    @property
    def first(self) -> bool:
        """Whether it is this one that writes."""
        return self.index == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes, the same in each."""
        if self.count > 1:
            value = value.to(self.device)
            torch.distributed.all_reduce(value)
        return value

    @torch.no_grad()
    def share(self, values: Iterable[Tensor]) -> None:
        """What the first process has, in all of them, in place."""
        if self.count == 1:
            return
        for value in values:
            told = value.contiguous()
            torch.distributed.broadcast(told, 0)
            value.copy_(told)

    def gather(self, value: Any) -> list[Any]:
        """What each process has, in all of them."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Add up gradients in one message; what no process has a gradient for stays without one."""
        if self.count == 1:
            return
        some = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
        some = self.sum(some) > 0
        chosen = [p for p, there in zip(parameters, some.tolist(), strict=True) if there]
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in chosen])
        for parameter, part in zip(chosen, self.sum(flat).split([p.numel() for p in chosen]), strict=True):
            parameter.grad = part.view_as(parameter)
