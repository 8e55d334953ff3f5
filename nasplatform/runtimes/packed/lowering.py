"""Networks as programs: what torch computes for some images, followed operation by operation.

A network is run once; every operation on something that depends on the images becomes a step,
whatever Python did in between. What has no step here is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nasplatform.errors import BuildError
from nasplatform.models.binary import binary_layers
from nasplatform.runtimes.packed.following import BATCH, Following, expect, source_of
from nasplatform.runtimes.packed.fusing import fused
from nasplatform.runtimes.packed.program import Map, Program, Step, Window
from nasplatform.runtimes.packed.rules import RULES
from nasplatform.training.flops import unfused_transformers


def lowered(module: nn.Module, input_shape: tuple[int, int, int]) -> Program:
    """Return a network (c, h, w) -> K as a program; raise BuildError for what has no step."""
    channels, height, width = input_shape
    images = torch.randn(BATCH, *input_shape, generator=torch.Generator().manual_seed(0))
    following = Following(images, RULES)
    module.eval()
    with torch.no_grad(), unfused_transformers(), _whole(module, following), following:
        made = module(images)
    if not isinstance(made, Tensor) or following.number(made) is None:
        raise BuildError("the network returns something else than one tensor of its images")
    try:
        program = Program((height, width, channels), tuple(following.steps), following.tensors)
        return fused(program, following.number(made) or 0)
    except ValueError as error:
        raise BuildError(f"the packed runtime cannot express the network: {error}") from None


@contextmanager
def _whole(module: nn.Module, following: Following) -> Iterator[None]:
    """Take binary layers as one step each."""
    handles: list[RemovableHandle] = []

    def before(layer: nn.Module, args: Any) -> None:
        following.silent = True

    def after(layer: nn.Module, args: Any, made: Tensor) -> None:
        following.silent = False
        if following.number(args[0]) is None:
            raise BuildError(f"a binary {layer} takes something that no image is in")
        _binary(following, made, args[0], layer)

    for layer in binary_layers(module).values():
        handles += [
            layer.register_forward_pre_hook(before),
            layer.register_forward_hook(after),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _binary(following: Following, made: Tensor, inputs: Tensor, layer: Any) -> None:
    signs = layer.signs().numpy()
    if layer.kind == "linear":
        expect(inputs.ndim == 2, "a binary linear layer on more than vectors")
        window, groups, signs = Window(), 1, signs[:, :, None, None]
    else:
        window, groups = _window(layer, inputs), layer.groups
    ordered = signs.transpose(0, 2, 3, 1)
    packed = np.packbits(ordered.reshape(len(ordered), -1) > 0, axis=1, bitorder="little")
    maps = [Map(kind="mul", values=following.tensor(layer.scale))]
    if layer.bias is not None:
        maps.append(Map(kind="add", values=following.tensor(layer.bias)))
    following.add(
        made,
        Step(
            op="binary_conv",
            source=source_of(following, inputs),
            window=window,
            weight=following.tensor(packed),
            shift=None if layer.shift is None else following.tensor(layer.shift),
            inputs=ordered.shape[3],
            groups=groups,
            outputs=len(ordered),
            maps=tuple(maps),
        ),
    )


def _window(layer: Any, inputs: Tensor) -> Window:
    """Return the window of a binary convolution, ``same`` padding as torch does it."""
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
