"""Which convolutions of a network read which feature maps, found from one forward pass.

The graph that autograd records is walked backwards from the input of each convolution, through
sums, poolings, concatenations and slices of channels, to the feature maps that flow into it. So
it works for searched cells, whose modules are not called in the order in which they are listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Node = Any  # torch.autograd.graph.Node, whose saved attributes are not typed

_SAME_MAP = (
    nn.BatchNorm2d,
    nn.GroupNorm,
    nn.InstanceNorm2d,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
)


@dataclass(frozen=True)
class Reader:
    """A convolution that reads ``length`` channels of a feature map.

    conv:   the convolution.
    start:  the first of its input channels that come from the map.
    first:  the first channel of the map that it reads.
    """

    conv: nn.Conv2d
    start: int
    first: int
    length: int


@dataclass(frozen=True)
class FeaturePoint:
    """A feature map: what leaves a convolution and the normalisation and activation after it.

    name, module: the last of these modules; the map is its output, (B, *shape).
    readers:      the convolutions that read it with no other convolution in between.
    """

    name: str
    module: nn.Module
    shape: tuple[int, int, int]
    readers: tuple[Reader, ...]


@dataclass(frozen=True)
class _Call:
    module: nn.Module
    given: Tensor
    made: Tensor
    node: Node


@dataclass(frozen=True)
class _Step:
    """Channels [here, here + length) of an output of ``node`` become conv channels from start."""

    node: Node
    output: int
    start: int
    here: int
    length: int


def feature_points(module: nn.Module, input_shape: tuple[int, int, int]) -> list[FeaturePoint]:
    """Return the feature maps of a network in the order in which they are computed.

    A convolution that is called more than once in a forward pass is left out; an activation
    module that is shared does not count as following any of them.
    """
    calls = _calls(module, input_shape)
    names = {child: name for name, child in module.named_modules()}
    ends = [_end_of(call, calls) for call in calls if isinstance(call.module, nn.Conv2d)]
    readers: dict[Node, list[Reader]] = {end.node: [] for end in ends}
    convs = {call.node: call.module for call in calls if isinstance(call.module, nn.Conv2d)}
    for node, conv in convs.items():
        for step in _sources(node, conv.in_channels, set(convs)):
            if step.node in readers:
                readers[step.node].append(Reader(conv, step.start, step.here, step.length))
    return [
        FeaturePoint(
            name=names[end.module],
            module=end.module,
            shape=(end.made.shape[1], end.made.shape[2], end.made.shape[3]),
            readers=tuple(readers[end.node]),
        )
        for end in ends
    ]


def _calls(module: nn.Module, input_shape: tuple[int, int, int]) -> list[_Call]:
    """Run one image through the module and note each leaf that is called exactly once."""
    calls: list[_Call] = []

    def note(leaf: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        if given and isinstance(given[0], Tensor) and isinstance(made, Tensor):
            calls.append(_Call(leaf, given[0], made, made.grad_fn))

    leaves = [child for child in module.modules() if not any(child.children())]
    handles = [leaf.register_forward_hook(note) for leaf in leaves]
    was_training = module.training
    try:
        with torch.enable_grad():
            module.eval()(torch.zeros(1, *input_shape, requires_grad=True))
    finally:
        module.train(was_training)
        for handle in handles:
            handle.remove()
    times = Counter(call.module for call in calls)
    return [call for call in calls if times[call.module] == 1]


def _end_of(call: _Call, calls: list[_Call]) -> _Call:
    """Follow normalisations and activations that take exactly what the call made."""
    later = calls[next(i for i, other in enumerate(calls) if other is call) + 1 :]
    followers = (
        other
        for other in later  # what works in place takes what it makes, so order must tell
        if isinstance(other.module, _SAME_MAP) and other.given is call.made
    )
    following = next(followers, None)
    return call if following is None else _end_of(following, calls)


def _sources(conv: Node, in_channels: int, convs: set[Node]) -> Iterator[_Step]:
    """Walk back from the input of a convolution; do not go past another one."""
    node, output = conv.next_functions[0]
    stack = [_Step(node, output, 0, 0, in_channels)]
    seen: set[_Step] = set()
    while stack:
        step = stack.pop()
        if step.node is None or step in seen:
            continue
        seen.add(step)
        yield step
        if step.node not in convs:
            stack.extend(_before(step))


def _before(step: _Step) -> list[_Step]:
    """Return where the channels of a step come from; empty where that cannot be told."""
    inputs = [(n, i, _channels(n, i)) for n, i in step.node.next_functions]
    kind = step.node.name()
    if kind.startswith("CatBackward") and step.node._saved_dim == 1:
        return _before_concatenation(step, inputs)
    own = _channels(step.node, step.output)
    here = step.here
    if kind.startswith("SliceBackward") and step.node._saved_dim == 1:
        if step.node._saved_step != 1:
            return []
        here, own = here + step.node._saved_start, None
    return [
        _Step(node, output, step.start, here, step.length)
        for node, output, channels in inputs
        if channels is not None and own in (None, channels)
    ]


def _before_concatenation(step: _Step, inputs: list[tuple[Node, int, int | None]]) -> list[_Step]:
    found, offset = [], 0
    for node, output, channels in inputs:
        if channels is None:
            return []  # a constant of unknown width: what follows it cannot be placed
        low = max(step.here, offset)
        high = min(step.here + step.length, offset + channels)
        if low < high:
            start = step.start + low - step.here
            found.append(_Step(node, output, start, low - offset, high - low))
        offset += channels
    return found


def _channels(node: Node, output: int) -> int | None:
    """Return the channels of the map that a node made; None where it made no map."""
    if node is None:
        return None
    shape = node._input_metadata[output].shape
    return int(shape[1]) if len(shape) == 4 else None
