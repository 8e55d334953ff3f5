"""Who is coupled with whom: the channel groups of a network, and what they cost.

A *group* is a set of channels, of any number of layers and parameters, that can only be removed
together. Every entry names the axis on which its channels lie.
"""

from __future__ import annotations

import math
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
class Contraction:
    """A product of computed matrices, of as many pairs as stand in a batch.

    lengths: of all axes: those of what is made, then the one over which is summed.
    sides:   groups of the places on each of them; None where none can go.
    images:  that were multiplied together.
    """

    lengths: tuple[int, ...]
    sides: tuple[Groups | None, ...]
    images: int

    def macs(self, removed: Groups) -> int:
        """Count the multiply-adds for one image that are left."""
        left = [
            length if side is None else int((~np.isin(side, removed)).sum())
            for length, side in zip(self.lengths, self.sides, strict=True)
        ]
        return math.prod(left) // self.images


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
    parts:  for groups that are products, such as a place in a head, the groups with one of which
            they go, such as the head, and this place of all heads.
    loose:     parameters and buffers that go with groups and belong to no layer, by name.
    pins:      what stays though no result demands it, and why.
    statistics: calls that see all channels at once, such as normalisations and sums over channels.
    contractions: products of computed matrices that are followed.
    numbers: attributes that count groups, (module, attribute) -> the groups.
    """

    layers: Mapping[str, Layer]
    maps: Mapping[str, Groups]
    norms: Mapping[str, str]
    removable: Groups
    coupling_classes: Groups
    loose: Mapping[str, Loose] = field(default_factory=dict)
    pins: tuple[Pin, ...] = ()
    statistics: tuple[Statistic, ...] = ()
    parts: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    contractions: tuple[Contraction, ...] = ()
    numbers: Mapping[tuple[str, str], Groups] = field(default_factory=dict)

    @property
    def producers(self) -> list[Layer]:
        """Convolutions and linear layers that make a removable group."""
        return [
            layer
            for layer in self.layers.values()
            if layer.area and np.isin(self.units(layer.outputs)[1], self.removable).any()
        ]

    def gone(self, removed: Groups) -> Groups:
        """Return what goes with groups that are removed: they, and what they are part of."""
        products, parts = self._products
        return np.concatenate([removed, products[np.isin(parts, removed)]])

    def units(self, groups: Groups) -> tuple[NDArray[np.int64], Groups]:
        """Return with which groups each channel goes: the place of the channel, and the group."""
        products, parts = self._products
        first = np.searchsorted(products, groups, "left")
        counts = np.searchsorted(products, groups, "right") - first
        whole = np.flatnonzero(counts == 0)
        channels = np.repeat(np.arange(len(groups)), counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        places = np.repeat(first, counts) + np.arange(len(channels)) - before
        return np.concatenate([whole, channels]), np.concatenate([groups[whole], parts[places]])

    @cached_property
    def _products(self) -> tuple[Groups, Groups]:
        """Products, ascending, and a part of each; as many pairs as there are parts."""
        pairs = [(one, part) for one, parts in sorted(self.parts.items()) for part in parts]
        array = np.array(pairs, np.int64).reshape(-1, 2)
        return array[:, 0], array[:, 1]

    def channel_sets(self) -> list[Groups]:
        """Return the groups of everything that must keep a channel."""
        sides = [side for layer in self.layers.values() for side in (layer.inputs, layer.outputs)]
        return [*sides, *self.maps.values(), *(loose.groups for loose in self.loose.values())]

    def without_emptying(self, groups: Groups) -> Groups:
        """Leave out the groups that would, after those before them, empty a layer or map."""
        members, sets, kept = self._members, self.channel_sets(), []
        there = [np.ones(len(channels), bool) for channels in sets]
        left = [len(channels) for channels in sets]
        for group in groups.tolist():
            places = members.get(group, [])
            counts = [int(there[index][channels].sum()) for index, channels in places]
            if all(left[i] > n for (i, _), n in zip(places, counts, strict=True)):
                for (index, channels), count in zip(places, counts, strict=True):
                    left[index] -= count
                    there[index][channels] = False
                kept.append(group)
        return np.array(kept, np.int64)

    @cached_property
    def _members(self) -> dict[int, list[tuple[int, NDArray[np.int64]]]]:
        """In which sets of channels each group is, and where."""
        members: dict[int, list[tuple[int, NDArray[np.int64]]]] = {}
        for index, groups in enumerate(self.channel_sets()):
            channels, units = self.units(groups)
            order = np.argsort(units, kind="stable")
            found, starts = np.unique(units[order], return_index=True)
            parts = np.split(channels[order], starts[1:])
            for unit, places in zip(found.tolist(), parts, strict=True):
                members.setdefault(unit, []).append((index, places))
        return members


class Cost(NamedTuple):
    """Multiply-adds for one image, and parameters, of the layers that were traced."""

    macs: int
    params: int


def cost(graph: ChannelGraph, removed: Groups) -> Cost:
    """Count what is left of the traced layers and products when groups are removed."""
    removed = graph.gone(removed)
    macs = sum(one.macs(removed) for one in graph.contractions)
    params = 0
    for layer in graph.layers.values():
        outputs = int((~np.isin(layer.outputs, removed)).sum())
        params += layer.vectors * outputs
        if not layer.area:  # a normalisation
            continue
        inputs = int((~np.isin(layer.inputs, removed)).sum())
        groups = inputs if layer.groups == len(layer.inputs) else layer.groups
        weights = outputs * inputs // groups * layer.window
        macs += weights * layer.area
        params += 0 if layer.tied else weights
    for loose in graph.loose.values():
        params += loose.each * int((~np.isin(loose.groups, removed)).sum())
    return Cost(macs, params)
