"""In which order maps and the weights of convolutions lie in memory: it decides how fast they run.

Convolutions run fastest with channels last, on CPUs and on CUDA devices. Code that views a map as
a vector, ``x.view(len(x), -1)``, works with channels first alone.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from nasplatform.training.seeding import seeded

M = TypeVar("M", bound=nn.Module)
_NARROW = 8  # channels


def laid_out(module: M, layout: torch.memory_format = torch.channels_last) -> M:
    """Return the module with its tensors of four axes in a memory format."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=layout)
    return module


def fastest_layout(module: nn.Module, input_shape: tuple[int, int, int]) -> torch.memory_format:
    """Return the memory format in which a network on the CPU is best trained, found by trying."""
    if any(map(_breaks_backward, module.modules())):
        return torch.contiguous_format
    images = torch.zeros(2, *input_shape).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), seeded(0):
        try:
            laid_out(copy.deepcopy(module)).train()(images)
        except RuntimeError:  # a view that this layout does not allow
            return torch.contiguous_format
    return torch.channels_last


def _breaks_backward(layer: nn.Module) -> bool:
    """Say whether torch 2.13 on the CPU writes beyond its memory in the layer's backward pass.

    It does with channels last, in convolutions of 1 x 1 with a stride and few input channels.
    """
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels < _NARROW
    )
