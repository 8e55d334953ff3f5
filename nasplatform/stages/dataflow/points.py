"""The feature maps of a network: where they can be changed, and who reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from nasplatform.stages.dataflow.layout import Layout, layout_of
from nasplatform.stages.dataflow.nodes import Edge, Node, pooled_nodes
from nasplatform.stages.dataflow.readers import Reader, sources
from nasplatform.stages.dataflow.record import Call, Layer, record
from nasplatform.stages.dataflow.roles import makes_features, roles

_Pooling = nn.modules.pooling._MaxPoolNd | nn.modules.pooling._AvgPoolNd


@dataclass(frozen=True)
class FeaturePoint:
    """A feature map, or a vector of hidden features: what leaves a module in one of its calls.

    name, module: the layer, or the last of the normalisation and activation modules after it.
    call:    which call of the module in a forward pass; None where there is but one.
    shape:   (channels, height, width); (channels, 1, 1) of a vector.
    layout:  how the module's output holds it.
    vector:  whether it has no places: what a linear layer makes of (B, n).
    readers: the layers that read it with no other layer in between, in the order of computation.
    """

    name: str
    module: nn.Module
    call: int | None
    shape: tuple[int, int, int]
    layout: Layout
    vector: bool
    readers: tuple[Reader, ...]


def feature_points(
    module: nn.Module, input_shape: tuple[int, int, int], after_activation: bool = True
) -> list[FeaturePoint]:
    """Return the feature maps and hidden vectors of a network in the order of computation.

    after_activation: the map is what leaves the modules that follow the layer and take exactly
        what it made (normalisation, activation); otherwise what leaves the layer itself.
    No feature maps are the logits, gates and what computes them, what is computed of a map that was
    pooled over all places, and queries, keys and values of attention.
    """
    found = record(module, input_shape)
    layers, names = found.layers, {child: name for name, child in module.named_modules()}
    pooled = pooled_nodes(found.nodes, found.images)
    role_of = roles(found, pooled)
    readers = _readers({end: layers[end] for end in layers if end in role_of}, layers, pooled)
    times = Counter(call.module for call in found.calls)
    points = []
    for end, call in layers.items():
        vector = call.made.dim() == 2
        if not makes_features(role_of.get(end)) or (pooled[end.node] and not vector):
            continue
        layout = layout_of(call, found.calls, found.images)
        if layout is None:
            continue
        last = _end_of(call, found.calls) if after_activation else call
        channels, height, width = layout.read(last.made).shape[1:]
        points.append(
            FeaturePoint(
                name=names[last.module],
                module=last.module,
                call=last.index if times[last.module] > 1 else None,
                shape=(channels, height, width),
                layout=layout,
                vector=vector,
                readers=tuple(readers.get(last.end, ())),
            )
        )
    return points


def _readers(
    reading: Mapping[Edge, Call], layers: Mapping[Edge, Call], pooled: Mapping[Node, bool | None]
) -> dict[Edge, list[Reader]]:
    """Return who reads what, in the order of computation."""
    found: dict[Edge, list[Reader]] = {}
    for call in reading.values():
        for step in sources(call, layers.keys(), pooled):
            assert isinstance(call.module, Layer)
            reader = Reader(call.module, step.start, step.here, step.length)
            found.setdefault(step.edge, []).append(reader)
    return found


def _end_of(call: Call, calls: Sequence[Call]) -> Call:
    """Follow normalisations and activations that take exactly what the call made."""
    following = next(
        (
            other
            for other in calls
            if other.given[:1] == (call.end,) and other.end != call.end and _keeps_places(other)
        ),
        None,
    )
    return call if following is None else _end_of(following, calls)


def _keeps_places(call: Call) -> bool:
    """Say whether a module works element by element or channel by channel."""
    return (
        not isinstance(call.module, Layer | _Pooling)
        and call.taken.shape == call.made.shape
        and all(parameter.dim() <= 1 for parameter in call.module.parameters())
    )
