"""What stands between a run and the world: signals, other processes in its folder, memory that runs out, chance."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from tokred_sci.errors import InputError
from tokred_sci.training import checkpoint


def number_of(*parts: int) -> int:
    """A random number that depends on these alone."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_all(device: torch.device, number: int) -> None:
    """Set the global generators of this process: that of the CPU, and that of its device."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory, on a device or here."""
    told = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in told or "can't allocate" in told
    )


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """The folder for this process alone, swept of what killed ones left half-written."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise InputError(f"Expected {folder} for this run alone (another process trains in it): wait.") from error
    except OSError as error:
        raise InputError(
            f"Expected a folder that can be written to (got {folder}: {error}): choose another."
        ) from error
    try:
        checkpoint.sweep(folder / "checkpoints")
        yield
    finally:
        lock.release()


@contextmanager
def heed_signals(note: Callable[[int], None]) -> Iterator[None]:
    """SIGTERM and Ctrl-C are noted, as the exit code they ask for; a second one does not wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def heed(number: int, frame: FrameType | None) -> None:
        note(128 + number)
        signal.signal(number, before[signal.Signals(number)])

    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, heed)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
