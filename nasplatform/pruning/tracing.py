"""The channel groups of a network: traced in one forward pass, then tried out.

Every channel of every feature map carries the number of the *group* that it belongs to. A
convolution gives its outputs new groups; sums and products make the groups of what they combine
one; concatenations, slices, poolings, activations, normalisations and flattening hand groups on.
So residual sums, concatenated branches and cells that drop a channel of a wider tensor come out
exact to the single channel. What cannot be followed pins the groups that it touches: they stay.
So does what is followed but does not work with fewer channels, such as a width that is written
into the code: some groups of every coupling class are removed from a copy of the network with
random weights, which must then compute what it does when their readers are silenced.

(torch-pruning's dependency graph gives the same on ResNets, but maps whole layers by offsets: of
searched cells that concatenate, sum and cut it leaves networks that do not run, 39 of 64 cuts in
the NAS-Bench-101 networks of ``tests/pruning/test_registered_networks.py``; hence this.)
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from nasplatform.errors import StageError
from nasplatform.pruning.equality import check_equal, check_trains, masked
from nasplatform.pruning.graph import ChannelGraph, Groups, Layer, Pin
from nasplatform.pruning.surgery import kept_channels, remove
from nasplatform.pruning.trace import BATCH, Trace
from nasplatform.pruning.tracer import run_traced

TRIED_SHARE = 1 / 3
TRIED_IMAGES = 3
TRIED_TOLERANCE = 1e-4


def channel_graph(module: nn.Module, input_shape: tuple[int, int, int]) -> ChannelGraph:
    """Return the channel groups of a network (c, h, w) -> classes that may be removed, and pins.

    Raises StageError where the network cannot be run, or has no channel that can be removed.
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    trace = run_traced(module, torch.zeros(BATCH, *input_shape, device=device))
    graph = _checked(_graph(trace))
    rng = torch.Generator().manual_seed(0)
    images = torch.randn((TRIED_IMAGES, *input_shape), generator=rng).to(device)
    return _checked(_tried_out(stirred(module), graph, images))


def stirred(module: nn.Module) -> nn.Module:
    """Return a copy in which no number is 0 or 1, so that a wrong channel shows."""
    copied, rng = copy.deepcopy(module).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*copied.parameters(), *copied.buffers()):
            if tensor.is_floating_point():
                factor, shift = torch.rand((2, *tensor.shape), generator=rng)
                tensor.nan_to_num_().mul_((factor + 0.5).to(tensor)).add_((shift / 10).to(tensor))
    return copied


def _checked(graph: ChannelGraph) -> ChannelGraph:
    if not len(graph.removable):
        why = f": {graph.pins[0].reason}" if graph.pins else ""
        raise StageError(f"the network has no channel that can be removed{why}")
    return graph


def _graph(trace: Trace) -> ChannelGraph:
    loose, numbers = trace.loose, trace.arrangements.numbers()
    roots, parts = trace.couplings.roots, _Parts(trace)
    layers = {
        name: replace(layer, inputs=roots(layer.inputs), outputs=roots(layer.outputs))
        for name, layer in trace.layers.items()
    }
    pinned = trace.couplings.pinned
    producers: dict[int, list[str]] = {}
    for layer in layers.values():
        if layer.area:
            for group in parts.of(layer.outputs):
                producers.setdefault(group, []).append(layer.name)
    removable = sorted(producers.keys() - pinned)
    classes: dict[tuple[int, tuple[str, ...]], int] = {}
    classed = [
        classes.setdefault((parts.place(group), tuple(producers[group])), len(classes))
        for group in removable
    ]
    graph = ChannelGraph(
        layers,
        {name: roots(groups) for name, groups in trace.maps.items()},
        trace.norms,
        np.array(removable, np.int64),
        np.array(classed, np.int64),
        {name: replace(entry, groups=roots(entry.groups)) for name, entry in loose.items()},
        _pins(trace, list(layers.values()), parts),
        tuple(entry._replace(groups=roots(entry.groups)) for entry in trace.statistics),
        contractions=tuple(
            replace(one, sides=tuple(s if s is None else roots(s) for s in one.sides))
            for one in trace.contractions
        ),
        numbers={(one.module, one.attribute): roots(one.groups) for one in numbers},
    )
    return replace(graph, parts=parts.products(graph))


class _Parts:
    """The groups with one of which a product goes."""

    def __init__(self, trace: Trace) -> None:
        self._couplings = trace.couplings
        self._places: dict[int, int] = {}

    def of(self, groups: Groups) -> list[int]:
        """Return the groups with which some channels go, ascending."""
        found: set[int] = set()
        for group in np.unique(groups).tolist():
            parts = self._couplings.parts(group)
            if parts != (group,):
                self._places |= {part: i for i, part in enumerate(parts)}
            found.update(parts)
        return sorted(found)

    def place(self, group: int) -> int:
        """Return which part of products a group is; -1 for one that is none."""
        return self._places.get(group, -1)

    def products(self, graph: ChannelGraph) -> dict[int, tuple[int, ...]]:
        """Return the products among all groups of a graph, and their parts."""
        sides = [side for one in graph.contractions for side in one.sides]
        every = [
            *graph.channel_sets(),
            *(one.groups for one in graph.statistics),
            *(side for side in sides if side is not None),
            *graph.numbers.values(),
        ]
        distinct = np.unique(np.concatenate(every)).tolist()
        parts = {group: tuple(sorted(set(self._couplings.parts(group)))) for group in distinct}
        return {group: own for group, own in parts.items() if own != (group,)}


def _pins(trace: Trace, layers: Sequence[Layer], parts: _Parts) -> tuple[Pin, ...]:
    reasons: dict[str, set[int]] = {}
    demanded = {n for groups in trace.logits for n in parts.of(trace.couplings.roots(groups))}
    for reason, pinned in trace.couplings.reasons:
        found = parts.of(trace.couplings.roots(pinned))
        reasons.setdefault(reason, set()).update(set(found) - demanded)
    pins = []
    for reason, groups in reasons.items():
        made = [
            layer.name
            for layer in layers
            if layer.area and not groups.isdisjoint(parts.of(layer.outputs))
        ]
        if made:
            pins.append(Pin(reason, tuple(made)))
    return tuple(pins)


def _tried_out(module: nn.Module, graph: ChannelGraph, images: Tensor) -> ChannelGraph:
    """Pin the coupling classes that do not work with fewer channels."""
    classes = np.unique(graph.coupling_classes).tolist()
    failed = _failing(module, graph, images, classes)
    if not failed:
        return graph
    gone = np.isin(graph.coupling_classes, list(failed))
    pins: dict[str, tuple[str, ...]] = {}
    for number, reason in failed.items():
        group = graph.removable[graph.coupling_classes == number][0]
        makers = [layer.name for layer in graph.producers if group in graph.units(layer.outputs)[1]]
        pins[reason] = (*pins.get(reason, ()), *makers)
    left = replace(
        graph,
        removable=graph.removable[~gone],
        coupling_classes=graph.coupling_classes[~gone],
        pins=(*graph.pins, *(Pin(reason, makers) for reason, makers in pins.items())),
    )
    return _tried_out(module, left, images)


def _failing(
    module: nn.Module, graph: ChannelGraph, images: Tensor, classes: list[int]
) -> dict[int, str]:
    """Return the classes that cannot be cut, and why, by halving what fails."""
    reason = _failure(module, graph, images, classes)
    if reason is None:
        return {}
    if len(classes) == 1:
        return {classes[0]: reason}
    middle = len(classes) // 2
    parts = [_failing(module, graph, images, part) for part in (classes[:middle], classes[middle:])]
    return parts[0] | parts[1] or dict.fromkeys(classes, reason)  # only together do they fail


def _failure(
    module: nn.Module, graph: ChannelGraph, images: Tensor, classes: list[int]
) -> str | None:
    removed = graph.without_emptying(_some(graph, classes))
    if not len(removed):
        return None
    try:
        small = remove(copy.deepcopy(module), kept_channels(graph, removed))
        check_equal(small, masked(module, graph, removed), images, TRIED_TOLERANCE)
        check_trains(small, images)
    except StageError as error:
        return str(error)
    return None


def _some(graph: ChannelGraph, classes: list[int]) -> Groups:
    """Return some groups of each class, drawn at random."""
    rng, found = np.random.Generator(np.random.PCG64(0)), []
    for number in classes:
        members = graph.removable[graph.coupling_classes == number]
        found.append(rng.permutation(members)[: max(1, int(len(members) * TRIED_SHARE))])
    return np.concatenate([np.zeros(0, np.int64), *found])
