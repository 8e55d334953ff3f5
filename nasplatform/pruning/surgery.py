"""Taking channels out of a network for good, and doing it again from a description.

The description (``PruningSpec``) is JSON: for each module that changes, which of its input and
output channels are kept. ``remove`` cuts parameters and buffers accordingly, so that a network
that is built anew, cut in the same way and given the saved weights is the network that was saved.
It is registered as the edit ``channels-removed``, version 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplatform.errors import StageError
from nasplatform.pruning.graph import ChannelGraph, Groups
from nasplatform.pruning.trace import held
from nasplatform.pruning.tracer import SlicesChannels

PruningSpec = Mapping[str, Mapping[str, Any]]
"""Module name -> ``outputs``, the kept channels, ascending. Of a layer with weights also
``inputs`` and ``groups``, those of a convolution afterwards, ``transposed`` where it is, and
``weight``, the parameter below it of which its weight is computed, where it is.
``vectors`` names what is cut with the outputs; ``loose`` gives for parameters that belong to no
layer the axis and what is kept of it; ``numbers`` are attributes that count channels or heads."""


def kept_channels(graph: ChannelGraph, removed: Groups) -> dict[str, dict[str, Any]]:
    """Describe what is left of each layer when groups are removed.

    removed: numbers of groups, all of them removable.
    Raises StageError where a layer would be left without channels.
    """
    described: dict[str, dict[str, Any]] = {}
    removed = graph.gone(removed)
    for name, layer in graph.layers.items():
        inputs, outputs = _kept(layer.inputs, removed), _kept(layer.outputs, removed)
        _check_left(name, inputs, outputs)
        if len(inputs) == len(layer.inputs) and len(outputs) == len(layer.outputs):
            continue
        described[name] = {"outputs": outputs.tolist(), "vectors": list(layer.vector_names)}
        each = layer.groups == len(layer.inputs)  # a group for each channel
        groups = len(inputs) if each else layer.groups
        if layer.area or layer.groups > 1:
            described[name] |= {"groups": groups}
        if layer.area:
            described[name] |= {"inputs": inputs.tolist()}
        if layer.transposed:
            described[name] |= {"transposed": True}
        if layer.weight_name != "weight":
            described[name] |= {"weight": layer.weight_name}
    for name, channels in graph.maps.items():
        outputs = _kept(channels, removed)
        _check_left(name, outputs)
        if len(outputs) < len(channels):
            described[name] = {"outputs": outputs.tolist()}
    for name, loose in graph.loose.items():
        places = _kept(loose.groups, removed)
        _check_left(name, places)
        if len(places) < len(loose.groups):
            module, _, parameter = name.rpartition(".")
            entry = described.setdefault(module, {}).setdefault("loose", {})
            entry[parameter] = [loose.axis, places.tolist()]
    for (name, attribute), counted in graph.numbers.items():
        places = _kept(counted, removed)
        if len(places) < len(counted):
            described.setdefault(name, {}).setdefault("numbers", {})[attribute] = len(places)
    return described


def remove(module: nn.Module, kept: PruningSpec) -> nn.Module:
    """Cut a network to what is kept, in place, and return it; what was shared stays shared.

    Raises StageError where the description is not one of this network.
    """
    cuts = _Cuts()
    for name, entry in kept.items():
        try:
            layer = module.get_submodule(name)
            if "inputs" in entry or isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
                _cut_weight(layer, entry, cuts)
            for vector in entry.get("vectors", ()):
                cuts.cut(layer, vector, {0: entry["outputs"]})
            for parameter, (axis, places) in entry.get("loose", {}).items():
                cuts.cut(layer, parameter, {axis: places})
            _set_widths(layer, entry)
            _set_numbers(layer, entry.get("numbers", {}))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise StageError(f"layer {name!r} cannot be cut as described: {error!r}") from None
    cuts.share(module)
    for name, child in module.named_modules():
        if isinstance(child, SlicesChannels):
            child.fit_widths(_below(name, kept))
    return module


class _Cuts:
    """Tensors that were cut, so that those who share one go on sharing it."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[Tensor, Tensor]] = {}

    def cut(self, module: nn.Module, name: str, kept: Mapping[int, Sequence[int]]) -> None:
        """Keep these places on each axis of a parameter or buffer."""
        tensor = getattr(module, name)
        if id(tensor) not in self._done:
            cut = tensor.detach()
            for axis, places in kept.items():
                cut = cut.index_select(axis, torch.tensor(places, device=cut.device))
            if isinstance(tensor, nn.Parameter):
                cut = nn.Parameter(cut, requires_grad=tensor.requires_grad)
            self._done[id(tensor)] = tensor, cut

    def share(self, module: nn.Module) -> None:
        """Put what was cut in the place of what it was cut from, wherever that is held."""
        for child in module.modules():
            for name, tensor in held(child).items():
                if id(tensor) in self._done:
                    setattr(child, name, self._done[id(tensor)][1])


def _cut_weight(layer: nn.Module, entry: Mapping[str, Any], cuts: _Cuts) -> None:
    name = entry.get("weight", "weight")
    weight = layer.get_parameter(name)
    rows, columns = (1, 0) if entry.get("transposed") else (0, 1)
    inputs = [channel for channel in entry["inputs"] if channel < weight.shape[columns]]
    if weight.shape[columns] == 1:  # depthwise: a channel that is kept keeps its own filter
        inputs = [0]
    owner, _, name = name.rpartition(".")
    cuts.cut(layer.get_submodule(owner), name, {rows: entry["outputs"], columns: inputs})


def _set_widths(layer: nn.Module, entry: Mapping[str, Any]) -> None:
    """Set the numbers by which torch's modules say how wide they are."""
    values: dict[str, Any] = {}
    count = len(entry.get("outputs", ()))
    if "inputs" in entry:
        values |= dict.fromkeys(("in_channels", "in_features"), len(entry["inputs"]))
        values |= dict.fromkeys(("out_channels", "out_features"), count)
        values |= {"groups": entry["groups"]}
    elif "vectors" in entry or isinstance(layer, nn.modules.instancenorm._InstanceNorm):
        values |= dict.fromkeys(("num_features", "num_channels"), count)
        values |= {"normalized_shape": (count,), "num_groups": entry.get("groups", 1)}
    elif isinstance(layer, nn.PReLU) and "loose" in entry:
        values |= {"num_parameters": count}
    for name, value in values.items():
        if hasattr(layer, name):
            setattr(layer, name, value)


def _set_numbers(layer: nn.Module, numbers: Mapping[str, int]) -> None:
    for attribute, value in numbers.items():
        if type(getattr(layer, attribute)) is not int or type(value) is not int:
            raise TypeError(f"{attribute} is no number of channels")
        setattr(layer, attribute, value)


def _kept(channels: Groups, removed: Groups) -> NDArray[np.int64]:
    return np.flatnonzero(~np.isin(channels, removed))


def _check_left(name: str, *kept: NDArray[np.int64]) -> None:
    if not all(len(channels) for channels in kept):
        raise StageError(f"removing so many channels would leave layer {name!r} empty")


def _below(name: str, kept: PruningSpec) -> dict[str, Mapping[str, Any]]:
    prefix = f"{name}." if name else ""
    return {key.removeprefix(prefix): v for key, v in kept.items() if key.startswith(prefix)}
