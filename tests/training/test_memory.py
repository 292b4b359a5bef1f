"""Freed memory stays while training goes on, and no longer."""

import ctypes
import sys

import pytest
import torch

from tokred_sci.training.memory import keep_memory

MB = 1 << 20


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="needs glibc"
)
def test_freed_memory_stays_in_the_block_and_goes_back_after_it():
    def take() -> None:
        torch.ones(256 * MB // 4)

    take()
    before = resident()
    with keep_memory():
        take()
        assert resident() - before > 200 * MB
    assert resident() - before < 100 * MB
    take()
    assert resident() - before < 100 * MB
