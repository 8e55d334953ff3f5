"""Which groups of channels go: the same share of every layer, or until a budget is met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.errors import StageError
from nasplatform.stages.scop.channels import ChannelGraph
from nasplatform.stages.scop.criteria import Scores
from nasplatform.stages.scop.tracer import Groups

Allocation = Literal["uniform", "global"]


class Budget(BaseModel):
    """What the network may cost afterwards, as a share of what it costs before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Literal["macs", "parameters", "latency"] = "macs"
    """Multiply-adds, parameters, or the measured time of one image on one thread of the CPU."""
    keep: float = Field(gt=0, lt=1)
    """Share that may be left, e.g. 0.45 for a cut by 55 %."""


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
        parameters += weights
    return Cost(macs, parameters)


def by_rate(graph: ChannelGraph, scores: Scores, rate: float) -> Groups:
    """Return the ``int(rate x n)`` lowest of the n groups of every kind (the paper's rule).

    scores: of the removable groups, (G,). Raises StageError where that is none at all.
    """
    chosen = []
    for kind in np.unique(graph.kinds):
        members = np.flatnonzero(graph.kinds == kind)
        order = members[np.argsort(scores[members], kind="stable")]
        chosen.append(order[: int(rate * len(members) + 1e-9)])
    found = graph.removable[np.concatenate(chosen)]
    if not len(found):
        raise StageError(f"rate {rate} of the channels is less than one channel in every layer")
    return found


def ranked(graph: ChannelGraph, scores: Scores, allocation: Allocation) -> Groups:
    """Return the removable groups, the most dispensable first.

    uniform: by the rank within their kind, so that every prefix takes about the same share of
             each; the scores of different layers are never compared.
    global:  by the score, divided by the mean magnitude of the scores of its kind.
    Groups without which a layer would be empty, given those before them, are left out.
    """
    key = np.empty(len(scores))
    for kind in np.unique(graph.kinds):
        members = graph.kinds == kind
        if allocation == "uniform":
            ranks = np.argsort(np.argsort(scores[members], kind="stable"), kind="stable")
            key[members] = (ranks + 0.5) / len(ranks)
        else:
            key[members] = scores[members] / max(float(np.abs(scores[members]).mean()), 1e-12)
    return _without_emptying(graph, graph.removable[np.argsort(key, kind="stable")])


def shortest(order: Groups, fits: Callable[[Groups], bool], words: str) -> Groups:
    """Return the shortest prefix of ``order`` that fits, which is found by bisection.

    fits:  whether removing these groups meets the budget; more groups never fit worse.
    words: what the budget is, for the message.
    Raises StageError where even all of them do not fit.
    """
    if not len(order) or not fits(order):
        raise StageError(
            f"{words} cannot be reached: removing all {len(order)} groups of channels that may "
            f"go does not suffice"
        )
    low, high = 0, len(order)  # order[:low] does not fit, order[:high] does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(order[:middle]) else (middle, high)
    return order[:high]


def _without_emptying(graph: ChannelGraph, order: Groups) -> Groups:
    """Drop from an order the groups that would take the last channel of a layer or map."""
    members: dict[int, list[tuple[int, int]]] = {}
    left: list[int] = []
    for channels in _channel_sets(graph):
        groups, counts = np.unique(channels, return_counts=True)
        for group, count in zip(groups.tolist(), counts.tolist(), strict=True):
            members.setdefault(group, []).append((len(left), count))
        left.append(len(channels))
    kept = []
    for group in order.tolist():
        if all(left[index] > count for index, count in members[group]):
            for index, count in members[group]:
                left[index] -= count
            kept.append(group)
    return np.array(kept, np.int64)


def _channel_sets(graph: ChannelGraph) -> list[NDArray[np.int64]]:
    sets = [
        channels for layer in graph.layers.values() for channels in (layer.inputs, layer.outputs)
    ]
    return [*sets, *graph.maps.values()]
