"""The edit ``signed-activations``: a network whose maps keep the signs that binary layers read.

Behind a rectifier everything is positive and no sign is left to take. So rectifiers in front of
binary layers go, and each binary convolution is followed by a PReLU, before its normalisation, as
in the release of FDA-BNN; where it is asked for, a shortcut without parameters leads around it
(Bi-Real Net). The payload:

    rectifiers: names of the modules that become identities
    functions:  names of the calls of ``relu`` in the traced graph that go (empty: not traced)
    convolutions: name -> ``channels``, and with a shortcut ``stride`` of the pooling around it
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from nasplatform.errors import NetworkError
from nasplatform.models.binary import put_layers
from nasplatform.training.seeding import seeded

SLOPE = 0.25
"""Of the PReLU at the start (release)."""
_RELUS = (torch.relu, torch.relu_, functional.relu, functional.relu_, functional.relu6)
_METHODS = ("relu", "relu_")
_PRODUCTS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
_IMAGES = 3
"""On which a traced graph is compared with the network."""


class SignedConvolution(nn.Sequential):
    """A convolution and the PReLU after it."""

    def __init__(self, layer: nn.Module, channels: int) -> None:
        super().__init__(layer, nn.PReLU(channels, SLOPE))


class WithShortcut(nn.Module):
    """(B, c, h, w) -> (B, channels, h / stride, w / stride), with the input added.

    The input is averaged over windows of the stride; channels that it lacks are zeros.
    """

    def __init__(self, inner: nn.Module, channels: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.inner, self.channels, self.stride = inner, channels, tuple(stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the layer and add the shortcut."""
        around = inputs
        if max(self.stride) > 1:
            around = functional.avg_pool2d(
                inputs, self.stride, ceil_mode=True, count_include_pad=False
            )
        missing = self.channels - inputs.shape[1]
        if missing:
            around = functional.pad(around, (0, 0, 0, 0, 0, missing))
        made: Tensor = self.inner(inputs)
        return made + around


def sign_activations(module: nn.Module, payload: Mapping[str, Any]) -> nn.Module:
    """Perform the edit ``signed-activations``, version 1."""
    if payload["functions"]:
        module = _without_calls(module, payload["functions"])
    made: dict[nn.Module, nn.Module] = {}
    for name in payload["rectifiers"]:
        made[module.get_submodule(name)] = nn.Identity()
    for name, entry in payload["convolutions"].items():
        convolution = module.get_submodule(name)
        layer: nn.Module = SignedConvolution(convolution, entry["channels"])
        if "stride" in entry:
            layer = WithShortcut(layer, entry["channels"], entry["stride"])
        made[convolution] = layer
    return put_layers(module, made)


def layer_within(name: str, entry: Mapping[str, Any]) -> str:
    """Return the name that a convolution has after the edit."""
    return f"{name}.inner.0" if "stride" in entry else f"{name}.0"


def rectifying_calls(
    module: nn.Module, layers: Sequence[str], weighted: Sequence[str], shape: tuple[int, int, int]
) -> list[str]:
    """Return the calls of ``relu`` whose result some layers read, as ``functions`` names them.

    layers:   names of the reading layers; weighted: of all layers that end the way back.
    Returns none where the network cannot be traced to a graph that computes the same.
    """
    try:
        graph = fx.symbolic_trace(copy.deepcopy(module)).graph
        found = list(dict.fromkeys(_before(graph, set(layers), {*layers, *weighted})))
        same = found and _same(module, shape)
    except Exception:  # whatever a network of a third party does when it is traced
        return []
    return sorted(found) if same else []


def _before(graph: fx.Graph, layers: set[str], weighted: set[str]) -> Iterator[str]:
    stack = [node for node in graph.nodes if node.op == "call_module" and node.target in layers]
    seen: set[fx.Node] = set(stack)
    while stack:
        reading = stack.pop()
        if reading.target in _PRODUCTS:
            continue  # a factor may be a gate, whose rectifier means something else
        for node in reading.all_input_nodes:
            if node in seen or (node.op == "call_module" and node.target in weighted):
                continue
            seen.add(node)
            stack.append(node)
            function = node.op == "call_function" and node.target in _RELUS
            if function or (node.op == "call_method" and node.target in _METHODS):
                yield node.name


def _same(module: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Return whether the traced graph computes what the network does, in both modes."""
    traced = fx.symbolic_trace(copy.deepcopy(module))
    images = torch.rand(_IMAGES, *shape, generator=torch.Generator().manual_seed(0))

    def made(net: nn.Module, training: bool) -> Tensor:
        with seeded(0), torch.no_grad():
            logits: Tensor = copy.deepcopy(net).train(training)(images)
        return logits

    return all(torch.equal(made(module, mode), made(traced, mode)) for mode in (True, False))


def _without_calls(module: nn.Module, names: Sequence[str]) -> nn.Module:
    traced = fx.symbolic_trace(module)
    nodes = {node.name: node for node in traced.graph.nodes}
    for name in names:
        if name not in nodes:
            raise NetworkError(f"the graph of the network has no call {name!r} to take out")
        node = nodes[name]
        node.replace_all_uses_with(node.all_input_nodes[0])
        traced.graph.erase_node(node)
    traced.recompile()
    return traced
