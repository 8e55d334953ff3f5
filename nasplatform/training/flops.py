"""How much arithmetic a network is, and how many threads that is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_SHARED_FROM = 2e8
"""Multiply-adds of a forward pass from which a second thread pays; below, handing the work round
takes longer than the work (8 x 8 digits: four times slower with two threads on busy cores)."""


def count_macs(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Count the multiply-adds of convolutions and matrix products for one image.

    The module is left in evaluation mode.
    """
    module.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(torch.zeros(1, *input_shape))
    return int(counter.get_total_flops()) // 2


def worthwhile_threads(
    module: nn.Module, input_shape: tuple[int, int, int], batch_size: int
) -> int:
    """Return with how many threads a batch is best computed; the module stands on the CPU."""
    small = count_macs(module, input_shape) * batch_size < _SHARED_FROM
    return 1 if small else torch.get_num_threads()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with this many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
