"""Which channels of a network can only be removed together, found from one forward pass.

Every channel of every feature map carries the number of the *group* that it belongs to. A
convolution gives its outputs new groups; sums and products make the groups of what they combine
one; concatenations, slices, poolings, activations, normalisations and flattening hand groups on.
So residual sums, concatenated branches and cells that drop a channel of a wider tensor come out
exact to the single channel. What cannot be followed pins the groups that it touches: they stay.

(torch-pruning's dependency graph gives the same on ResNets, but maps whole layers by offsets: of
searched cells that concatenate, sum and cut it leaves networks that do not run, 39 of 64 cuts in
the NAS-Bench-101 networks of ``tests/stages/scop/test_scop_networks.py``; hence this.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nasplatform.errors import StageError
from nasplatform.stages.scop.tracer import Groups, Layer, Tracer


@dataclass(frozen=True)
class ChannelGraph:
    """The channel groups of a network.

    layers:    every layer with weights that is computed, in that order.
    maps:      groups of the output of every other leaf module, by name.
    norms:     for a convolution the normalisation that takes exactly what it makes.
    removable: the groups that may be removed, ascending.
    coupling_classes: for each of them a number; groups of one class are made by the same layers.
    """

    layers: dict[str, Layer]
    maps: dict[str, Groups]
    norms: dict[str, str]
    removable: Groups
    coupling_classes: Groups

    @property
    def producers(self) -> list[Layer]:
        """Convolutions and linear layers that make a removable group."""
        return [
            layer
            for layer in self.layers.values()
            if layer.area and np.isin(layer.outputs, self.removable).any()
        ]


def trace_channels(
    module: nn.Module, input_shape: tuple[int, int, int], flexible: Sequence[type[nn.Module]] = ()
) -> ChannelGraph:
    """Run one image through a network and return the groups of its channels.

    flexible: module classes that still work when the channels that they slice become fewer.
    Raises StageError where the network cannot be run, or has no channel that can be removed.
    """
    tracer = Tracer(module)
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    image = torch.zeros(1, *input_shape, device=device)
    was_training = module.training
    module.eval()
    try:
        with _watched(module, tracer, tuple(flexible)), torch.no_grad(), tracer:
            tracer.enter(image)
            tracer.leave(module(image))
    except StageError:
        raise
    except Exception as error:  # whatever the network of a third party raises
        words = " ".join(str(error).split())[:200]
        raise StageError(
            f"the channels of the network cannot be traced: {tracer.place} raises {words!r}"
        ) from None
    finally:
        module.train(was_training)
    return _graph(tracer)


@contextmanager
def _watched(
    module: nn.Module, tracer: Tracer, flexible: tuple[type[nn.Module], ...]
) -> Iterator[None]:
    """Tell the tracer which module it is in, and what leaves each leaf module."""

    def enter(name: str) -> Callable[..., None]:
        def hook(child: nn.Module, given: Any) -> None:
            tracer.inside.append(name)
            tracer.flexible += isinstance(child, flexible)

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(child: nn.Module, given: Any, made: Any) -> None:
            tracer.inside.pop()
            tracer.flexible -= isinstance(child, flexible)
            if not any(child.children()):
                tracer.note(name, made)

        return hook

    handles: list[Any] = []
    for name, child in module.named_modules():
        handles.append(child.register_forward_pre_hook(enter(name)))
        handles.append(child.register_forward_hook(leave(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _graph(tracer: Tracer) -> ChannelGraph:
    layers, pinned = tracer.layers, tracer.pinned
    producers: dict[int, list[str]] = {}
    for layer in layers.values():
        if layer.area:
            for group in np.unique(layer.outputs):
                producers.setdefault(int(group), []).append(layer.name)
    removable = sorted(producers.keys() - pinned)
    if not removable:
        why = f": {tracer.unfollowed[0]} cannot be followed" if tracer.unfollowed else ""
        raise StageError(f"the network has no channel that can be removed{why}")
    classes: dict[tuple[str, ...], int] = {}
    numbers = [classes.setdefault(tuple(producers[group]), len(classes)) for group in removable]
    return ChannelGraph(
        layers, tracer.maps, tracer.norms, np.array(removable), np.array(numbers, np.int64)
    )
