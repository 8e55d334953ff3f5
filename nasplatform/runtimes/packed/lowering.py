"""Networks as programs: what torch computes for some images, followed operation by operation.

A network is run once; every operation on something that depends on the images becomes a step,
whatever Python did in between. What has no step here is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nasplatform.errors import BuildError
from nasplatform.models.binary import binary_layers
from nasplatform.runtimes.packed.following import BATCH, Following
from nasplatform.runtimes.packed.fusing import fused
from nasplatform.runtimes.packed.maps import Order
from nasplatform.runtimes.packed.program import Program
from nasplatform.runtimes.packed.rules import RULES
from nasplatform.runtimes.packed.rules.weighted import map_of_channels, map_of_rows
from nasplatform.runtimes.packed.rules.windows import layer_window
from nasplatform.runtimes.packed.steps import Map, Step, Window
from nasplatform.training.flops import unfused_transformers


def lowered(module: nn.Module, input_shape: tuple[int, int, int]) -> Program:
    """Return a network (c, h, w) -> K as a program; raise BuildError for what has no step."""
    channels, height, width = input_shape
    images = torch.randn(BATCH, *input_shape, generator=torch.Generator().manual_seed(0))
    following = Following(images, RULES)
    module.eval()
    with ExitStack() as contexts:
        for context in (torch.no_grad(), unfused_transformers(), _whole(module, following)):
            contexts.enter_context(context)
        with _named(module, following), following:
            made = module(images)
    if not isinstance(made, Tensor) or not following.follows(made):
        raise BuildError("the network returns something else than one tensor of its images")
    try:
        logits = following.places(made).reshape(len(made), 1, 1, -1)
        output = following.arranged(logits)
        program = Program((height, width, channels), tuple(following.steps), following.tensors)
        return fused(program, output)
    except ValueError as error:
        raise BuildError(f"the packed runtime cannot express the network: {error}") from None


@contextmanager
def _named(module: nn.Module, following: Following) -> Iterator[None]:
    """Tell which layer computes."""

    def before(name: str, layer: nn.Module, args: Any) -> None:
        following.layers.append(name)

    def after(layer: nn.Module, args: Any, made: Any) -> None:
        following.layers.pop()

    handles: list[RemovableHandle] = []
    for name, layer in module.named_modules():
        handles.append(layer.register_forward_pre_hook(partial(before, name), prepend=True))
        handles.append(layer.register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _whole(module: nn.Module, following: Following) -> Iterator[None]:
    """Take binary layers as one step each."""
    handles: list[RemovableHandle] = []

    def before(layer: nn.Module, args: Any) -> None:
        following.silent = True

    def after(layer: nn.Module, args: Any, made: Tensor) -> None:
        following.silent = False
        if not following.follows(args[0]):
            raise BuildError(f"{following.where()} is binary and takes what no image is in")
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
        source, order = map_of_rows(following, inputs), Order.CHANNELS_LAST
        window, groups, signs = Window(), 1, signs[:, :, None, None]
    else:
        source, order = map_of_channels(following, inputs), Order.CHANNELS_FIRST
        window, groups = layer_window(layer), layer.groups
    ordered = signs.transpose(0, 2, 3, 1)
    packed = np.packbits(ordered.reshape(len(ordered), -1) > 0, axis=1, bitorder="little")
    maps = [Map(kind="mul", values=following.tensor(layer.scale))]
    if layer.bias is not None:
        maps.append(Map(kind="add", values=following.tensor(layer.bias)))
    step = Step(
        op="binary_conv",
        source=source,
        window=window,
        weight=following.tensor(packed),
        shift=None if layer.shift is None else following.tensor(layer.shift),
        inputs=ordered.shape[3],
        groups=groups,
        outputs=len(ordered),
        maps=tuple(maps),
    )
    following.add(made, step, order)
