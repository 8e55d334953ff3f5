"""Which channels of which feature map a layer reads.

A walk goes backwards from what a layer takes, through sums, poolings, concatenations, slices and
changes of layout, and keeps track of where its channels lie.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import nn

from nasplatform.stages.dataflow.nodes import (
    PRODUCTS,
    WEIGHTED,
    Edge,
    Node,
    axis,
    inputs_of,
    is_a,
)
from nasplatform.stages.dataflow.record import Call, Layer

_RESHAPING = (
    "ViewBackward",
    "UnsafeView",
    "ReshapeAlias",
    "Unsqueeze",
    "Squeeze",
    "SelectBackward",
)


@dataclass(frozen=True)
class Reader:
    """A layer that reads ``length`` channels of a feature map.

    layer:  the layer.
    start:  the first of its input channels that come from the map.
    first:  the first channel of the map that it reads.
    """

    layer: Layer
    start: int
    first: int
    length: int


@dataclass(frozen=True)
class Step:
    """Channels [here, here + length) on an axis of a tensor become input channels from start."""

    edge: Edge
    axis: int
    start: int
    here: int
    length: int


def sources(
    call: Call, layers: Collection[Edge], pooled: Mapping[Node, bool | None]
) -> Iterator[Step]:
    """Walk back from what a layer takes; do not go past another layer or a global pooling."""
    if not call.given:
        return
    place = 1 if isinstance(call.module, nn.Conv2d | nn.ConvTranspose2d) else call.taken.dim() - 1
    stack = [Step(call.given[0], place, 0, 0, call.taken.shape[place])]
    seen: set[Step] = set()
    while stack:
        step = stack.pop()
        if step in seen:
            continue
        seen.add(step)
        yield step
        node = step.edge.node
        if step.edge in layers or pooled[node] is not False or is_a(node, (*WEIGHTED, *PRODUCTS)):
            continue
        stack.extend(_before(step))


def _before(step: Step) -> list[Step]:
    """Return where the channels of a step come from; empty where that cannot be told."""
    node, dims = step.edge.node, len(step.edge.shape)
    given = inputs_of(node)
    if is_a(node, ("CatBackward",)) and axis(node._saved_dim, dims) == step.axis:
        return _before_concatenation(step, len(node.next_functions))
    if is_a(node, ("SliceBackward",)) and axis(node._saved_dim, dims) == step.axis:
        shifted = replace(step, edge=given[0], here=step.here + node._saved_start)
        return [shifted] if node._saved_step == 1 else []
    if is_a(node, ("SplitBackward", "SplitWithSizes")) and axis(node._saved_dim, dims) == step.axis:
        return [replace(step, edge=given[0], here=step.here + _offset(node, step.edge.output))]
    if is_a(node, ("GluBackward",)) and axis(node._saved_dim, dims) == step.axis:
        other = step.here + step.edge.shape[step.axis]  # the half that gates
        return [replace(step, edge=given[0], here=here) for here in (step.here, other)]
    if is_a(node, ("StackBackward",)):
        place = axis(node._saved_dim, dims)
        before = step.axis - (place < step.axis)
        return [replace(step, edge=edge, axis=before) for edge in given if place != step.axis]
    if is_a(node, ("SumBackward1", "MeanBackward1")) and not node._saved_keepdim:
        before = step.axis
        for place in sorted(axis(dim, dims + len(node._saved_dim)) for dim in node._saved_dim):
            before += place <= before
        return [replace(step, edge=given[0], axis=before)]
    if is_a(node, ("TransposeBackward",)):
        swapped = {axis(node._saved_dim0, dims): node._saved_dim1}
        swapped[axis(node._saved_dim1, dims)] = node._saved_dim0
        place = axis(swapped.get(step.axis, step.axis), dims)
        return [replace(step, edge=given[0], axis=place)]
    if is_a(node, ("PermuteBackward",)):
        return [replace(step, edge=given[0], axis=axis(node._saved_dims[step.axis], dims))]
    if is_a(node, _RESHAPING):
        places = [_same_axis(step, edge) for edge in given]
    else:
        places = [_place(step, edge) for edge in given]
    return [
        replace(step, edge=edge, axis=place)
        for edge, place in zip(given, places, strict=True)
        if place is not None
    ]


def _place(step: Step, edge: Edge) -> int | None:
    """Return the axis of the channels before an operation that leaves axes where they are."""
    now, before = step.edge.shape, edge.shape
    same = len(now) == len(before) and now[step.axis] == before[step.axis]
    return step.axis if same else None


def _same_axis(step: Step, edge: Edge) -> int | None:
    """Return the axis that has as many channels, and as many elements after it or before it."""
    now, before = step.edge.shape, edge.shape
    for place, length in enumerate(before):
        inner = math.prod(before[place + 1 :]) == math.prod(now[step.axis + 1 :])
        outer = math.prod(before[:place]) == math.prod(now[: step.axis])
        if length == now[step.axis] and (inner or outer):
            return place
    return None


def _offset(node: Node, output: int) -> int:
    """Return the first channel of one of the parts that a tensor was split into."""
    if is_a(node, ("SplitWithSizes",)):
        return int(sum(node._saved_split_sizes[:output]))
    return int(node._saved_split_size) * output


def _before_concatenation(step: Step, parts: int) -> list[Step]:
    given = inputs_of(step.edge.node)
    if len(given) < parts:
        return []  # a constant of unknown width: what follows it cannot be placed
    found, offset = [], 0
    for edge in given:
        channels = edge.shape[step.axis]
        low = max(step.here, offset)
        high = min(step.here + step.length, offset + channels)
        if low < high:
            start = step.start + low - step.here
            found.append(Step(edge, step.axis, start, low - offset, high - low))
        offset += channels
    return found
