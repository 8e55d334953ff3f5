"""Taking channels out of a network for good, and doing it again from a description.

The description (``PruningSpec``) is JSON: for each layer that changes, which of its input and
output channels are kept. ``remove`` cuts parameters and buffers accordingly, so that a network
that is built anew, cut in the same way and given the saved weights is the network that was saved.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from nasbench_pytorch.model.model import Cell
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplatform.errors import StageError
from nasplatform.stages.scop.channels import ChannelGraph, trace_channels
from nasplatform.stages.scop.tracer import Groups, Layer

PruningSpec = Mapping[str, Mapping[str, Any]]
"""Layer name -> ``inputs`` and ``outputs``, the kept channels, ascending, and ``groups``, those of
a convolution afterwards. Normalisations and modules without weights have ``outputs`` only."""

TOLERANCE = 1e-5
CHECKED_IMAGES = 8


def channel_graph(module: nn.Module, input_shape: tuple[int, int, int]) -> ChannelGraph:
    """Trace a network; raise StageError where it has no channel that can be removed."""
    return trace_channels(module, input_shape, tuple(_ADAPTERS))


def kept_channels(graph: ChannelGraph, removed: Groups) -> dict[str, dict[str, Any]]:
    """Describe what is left of each layer when groups are removed.

    removed: numbers of groups, all of them removable.
    Raises StageError where a layer would be left without channels.
    """
    described: dict[str, dict[str, Any]] = {}
    for name, layer in graph.layers.items():
        inputs, outputs = _kept(layer.inputs, removed), _kept(layer.outputs, removed)
        _check_left(name, inputs, outputs)
        if len(inputs) == len(layer.inputs) and len(outputs) == len(layer.outputs):
            continue
        described[name] = {"outputs": outputs.tolist()}
        if layer.area:
            depthwise = layer.groups == len(layer.inputs)
            groups = len(inputs) if depthwise else layer.groups
            described[name] |= {"inputs": inputs.tolist(), "groups": groups}
    for name, channels in graph.maps.items():
        outputs = _kept(channels, removed)
        _check_left(name, outputs)
        if len(outputs) < len(channels):
            described[name] = {"outputs": outputs.tolist()}
    return described


def remove(module: nn.Module, kept: PruningSpec) -> nn.Module:
    """Cut a network to what is kept, in place, and return it.

    Raises StageError where the description is not one of this network.
    """
    for name, entry in kept.items():
        try:
            layer = module.get_submodule(name)
            cut = next((cut for kind, cut in _CUTS.items() if isinstance(layer, kind)), None)
            if cut is not None:
                cut(layer, entry)
        except (AttributeError, IndexError, KeyError, TypeError, RuntimeError) as error:
            raise StageError(f"layer {name!r} cannot be cut as described: {error!r}") from None
    for name, child in module.named_modules():
        for kind, adapt in _ADAPTERS.items():
            if isinstance(child, kind):
                adapt(child, _below(name, kept))
    return module


def masked(module: nn.Module, graph: ChannelGraph, removed: Groups) -> nn.Module:
    """Return a copy in which every weight that reads a removed channel is 0."""
    copied = copy.deepcopy(module)
    with torch.no_grad():
        for name, layer in graph.layers.items():
            if layer.area:
                _silence(copied.get_submodule(name), layer, np.isin(layer.inputs, removed))
    return copied


def check_equal(module: nn.Module, expected: nn.Module, images: Tensor) -> float:
    """Return the largest difference of logits, as a share of the largest logit.

    Raises StageError where the networks cannot be run or the difference exceeds 1e-5, which means
    that the network does with its channels what tracing did not see.
    """
    with torch.inference_mode():
        logits = expected.eval()(images)
        difference = float((_logits(module.eval(), images) - logits).abs().max())
    share = difference / max(float(logits.abs().max()), 1.0)
    if not share <= TOLERANCE:
        raise StageError(
            f"removing channels changes the logits by {share:.1e} more than masking them does: "
            f"the network uses its channels in a way that cannot be traced"
        )
    return share


def _logits(module: nn.Module, images: Tensor) -> Tensor:
    """Compute; raise StageError that names the layer where the network does not work any more."""
    inside: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        return lambda child, given: inside.append(name)

    def leave(child: nn.Module, given: Any, made: Any) -> None:
        inside.pop()

    hooks: list[Any] = []
    for name, child in module.named_modules():
        hooks.append(child.register_forward_pre_hook(enter(name)))
        hooks.append(child.register_forward_hook(leave))
    try:
        logits: Tensor = module(images)
    except Exception as error:  # whatever the network of a third party raises
        words = " ".join(str(error).split())[:200]
        place = f"layer {inside[-1]!r}" if inside and inside[-1] else "the network itself"
        raise StageError(
            f"the network does not work with fewer channels: {place} raises {words!r}"
        ) from None
    finally:
        for hook in hooks:
            hook.remove()
    return logits


def _kept(channels: Groups, removed: Groups) -> NDArray[np.int64]:
    return np.flatnonzero(~np.isin(channels, removed))


def _check_left(name: str, *kept: NDArray[np.int64]) -> None:
    if not all(len(channels) for channels in kept):
        raise StageError(f"removing so many channels would leave layer {name!r} empty")


def _below(name: str, kept: PruningSpec) -> dict[str, Mapping[str, Any]]:
    prefix = f"{name}." if name else ""
    return {key.removeprefix(prefix): v for key, v in kept.items() if key.startswith(prefix)}


def _silence(layer: nn.Module, described: Layer, gone: NDArray[np.bool_]) -> None:
    weight = layer.get_parameter("weight")
    if described.groups == 1:
        weight[:, torch.from_numpy(gone)] = 0
        return
    per_group = weight.shape[0] // described.groups
    for group, columns in enumerate(gone.reshape(described.groups, -1)):
        rows = slice(group * per_group, (group + 1) * per_group)
        weight[rows, torch.from_numpy(columns)] = 0


def _cut_convolution(layer: nn.Conv2d, entry: Mapping[str, Any]) -> None:
    inputs, groups = entry["inputs"], entry["groups"]
    columns = [channel for channel in inputs if channel < layer.in_channels // layer.groups]
    if groups < layer.groups:  # depthwise: a channel that is kept keeps its own group
        columns = [0]
    _cut_parameter(layer, "weight", entry["outputs"], columns)
    _cut_parameter(layer, "bias", entry["outputs"])
    layer.in_channels, layer.out_channels = len(inputs), len(entry["outputs"])
    layer.groups = groups


def _cut_linear(layer: nn.Linear, entry: Mapping[str, Any]) -> None:
    _cut_parameter(layer, "weight", entry["outputs"], entry["inputs"])
    _cut_parameter(layer, "bias", entry["outputs"])
    layer.in_features, layer.out_features = len(entry["inputs"]), len(entry["outputs"])


def _cut_normalisation(layer: nn.BatchNorm2d, entry: Mapping[str, Any]) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        _cut_parameter(layer, name, entry["outputs"])
    layer.num_features = len(entry["outputs"])


def _cut_parameter(
    layer: nn.Module, name: str, rows: Sequence[int], columns: Sequence[int] | None = None
) -> None:
    tensor = getattr(layer, name)
    if tensor is None:
        return
    cut = tensor.detach()[list(rows)]
    if columns is not None:
        cut = cut[:, list(columns)]
    if isinstance(tensor, nn.Parameter):
        cut = nn.Parameter(cut.clone(), requires_grad=tensor.requires_grad)
    setattr(layer, name, cut)


def _adapt_cell(cell: Cell, kept: PruningSpec) -> None:
    """Tell a NAS-Bench-101 cell the new widths of its vertices, to which it cuts what flows in."""
    for vertex in range(1, cell.num_vertices - 1):
        entries = _below(f"vertex_op.{vertex}", kept).values()
        widths = [len(entry["inputs"]) for entry in entries if "inputs" in entry]
        widths += [len(entry["outputs"]) for entry in entries]  # of a pooling, which has no inputs
        if widths:
            cell.vertex_channels[vertex] = widths[0]


_CUTS: dict[type, Callable[..., None]] = {
    nn.Conv2d: _cut_convolution,
    nn.Linear: _cut_linear,
    nn.BatchNorm2d: _cut_normalisation,
    nn.BatchNorm1d: _cut_normalisation,
}
_ADAPTERS: dict[type[nn.Module], Callable[..., None]] = {Cell: _adapt_cell}
