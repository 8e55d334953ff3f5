"""Who is coupled with whom: the channel groups of a network, and what they cost.

A *group* is a set of channels, of any number of layers and parameters, that can only be removed
together. Every entry names the axis on which its channels lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Groups = NDArray[np.int64]


@dataclass(frozen=True)
class Layer:
    """A layer with weights, and the groups of its channels.

    name:    the module's name in the network.
    inputs:  group of each input channel (of each input feature of a linear layer), (in,).
    outputs: group of each output channel, (out,); inputs and outputs of a normalisation are one.
    groups:  groups of a convolution or a group normalisation, in torch's sense of the word.
    window:  size of its window; 1 for other layers.
    area:    places where it is computed for one image; 0 for a normalisation.
    vectors: parameters per output channel beside the window: bias, scale and shift.
    tied:    whether its weight is an earlier layer's.
    vector_names: what of the layer goes with its outputs beside the weight of a convolution.
    transposed: whether inputs lie on axis 0 of the weight and outputs on axis 1.
    weight_name: the parameter below the module that holds the weight, or of which it is computed.
    """

    name: str
    inputs: Groups
    outputs: Groups
    groups: int = 1
    window: int = 1
    area: int = 0
    vectors: int = 0
    tied: bool = False
    vector_names: tuple[str, ...] = ()
    transposed: bool = False
    weight_name: str = "weight"


class Statistic(NamedTuple):
    """A call that sees all channels at once and shall see those that are left.

    operation: of torch, by name; call: how many calls of it came before.
    axis:      of its first tensor, on which the groups lie.
    """

    operation: str
    call: int
    axis: int
    groups: Groups


@dataclass(frozen=True)
class Loose:
    """A parameter or buffer that no layer explains, such as a scale per channel.

    groups: of its places on the axis, (n,).
    each:   numbers per place that are parameters; 0 for a buffer.
    """

    axis: int
    groups: Groups
    each: int


@dataclass(frozen=True)
class Pin:
    """Why channels stay.

    reason: what cannot be followed or cut, and where.
    layers: the layers that make these channels.
    """

    reason: str
    layers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.layers)}: {self.reason}"


@dataclass(frozen=True)
class ChannelGraph:
    """The channel groups of a network.

    layers:    every layer with weights that is computed, in that order.
    maps:      groups of the output of every other leaf module, by name.
    norms:     for a convolution the normalisation that takes exactly what it makes.
    removable: the groups that may be removed, ascending.
    coupling_classes: for each of them a number; groups of one class are made by the same layers.
    loose:     parameters and buffers that go with groups and belong to no layer, by name.
    pins:      what stays though no result demands it, and why.
    statistics: calls that see all channels at once, such as normalisations over channels.
    """

    layers: Mapping[str, Layer]
    maps: Mapping[str, Groups]
    norms: Mapping[str, str]
    removable: Groups
    coupling_classes: Groups
    loose: Mapping[str, Loose] = field(default_factory=dict)
    pins: tuple[Pin, ...] = ()
    statistics: tuple[Statistic, ...] = ()

    @property
    def producers(self) -> list[Layer]:
        """Convolutions and linear layers that make a removable group."""
        return [
            layer
            for layer in self.layers.values()
            if layer.area and np.isin(layer.outputs, self.removable).any()
        ]

    def channel_sets(self) -> list[Groups]:
        """Return the groups of everything that must keep a channel."""
        sides = [side for layer in self.layers.values() for side in (layer.inputs, layer.outputs)]
        return [*sides, *self.maps.values(), *(loose.groups for loose in self.loose.values())]

    def without_emptying(self, groups: Groups) -> Groups:
        """Leave out the groups that would, after those before them, empty a layer or map."""
        members, left = self._members
        left, kept = left.copy(), []
        for group in groups.tolist():
            places = members.get(group, [])
            if all(left[index] > count for index, count in places):
                for index, count in places:
                    left[index] -= count
                kept.append(group)
        return np.array(kept, np.int64)

    @cached_property
    def _members(self) -> tuple[dict[int, list[tuple[int, int]]], list[int]]:
        """In which sets of channels each group is how often, and the sizes of the sets."""
        members: dict[int, list[tuple[int, int]]] = {}
        sizes: list[int] = []
        for channels in self.channel_sets():
            groups, counts = np.unique(channels, return_counts=True)
            for group, count in zip(groups.tolist(), counts.tolist(), strict=True):
                members.setdefault(group, []).append((len(sizes), count))
            sizes.append(len(channels))
        return members, sizes


class Cost(NamedTuple):
    """Multiply-adds for one image, and parameters, of the layers that were traced."""

    macs: int
    parameters: int


def cost(graph: ChannelGraph, removed: Groups) -> Cost:
    """Count what is left of the traced layers when groups are removed."""
    macs = parameters = 0
    for layer in graph.layers.values():
        outputs = int((~np.isin(layer.outputs, removed)).sum())
        parameters += layer.vectors * outputs
        if not layer.area:  # a normalisation
            continue
        inputs = int((~np.isin(layer.inputs, removed)).sum())
        groups = inputs if layer.groups == len(layer.inputs) else layer.groups
        weights = outputs * inputs // groups * layer.window
        macs += weights * layer.area
        parameters += 0 if layer.tied else weights
    for loose in graph.loose.values():
        parameters += loose.each * int((~np.isin(loose.groups, removed)).sum())
    return Cost(macs, parameters)
