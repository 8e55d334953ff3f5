"""Windows as torch writes them."""

from __future__ import annotations

from typing import Any

import torch

from nasplatform.runtimes.packed.steps import Window


def pair_window(kernel: Any, stride: Any, padding: Any, dilation: Any) -> Window:
    """Return a window of which each argument is a number, or one for rows and one for columns."""
    kernel, stride, padding, dilation = map(_pair, (kernel, stride, padding, dilation))
    return Window(kernel=kernel, stride=stride, padding=padding * 2, dilation=dilation)


def layer_window(layer: Any) -> Window:
    """Return the window of a convolution, ``same`` padding as torch does it."""
    if isinstance(layer.padding, str):
        over = [0, 0]
        if layer.padding == "same":
            pairs = zip(layer.dilation, layer.kernel_size, strict=True)
            over = [d * (k - 1) for d, k in pairs]
        top, left = (each // 2 for each in over)
        padding = (top, left, over[0] - top, over[1] - left)
    else:
        padding = (*layer.padding, *layer.padding)
    return Window(
        kernel=layer.kernel_size, stride=layer.stride, padding=padding, dilation=layer.dilation
    )


def _pair(value: Any) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, list | tuple | torch.Size) else (value,)
    return (values[0], values[-1])
