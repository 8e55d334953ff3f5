"""Which groups of channels go: the same share of every layer, or until a budget is met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
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


class Step(NamedTuple):
    """Groups of one coupling class that go together."""

    coupling_class: int
    groups: Groups


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


def widths(count: int, multiple: int) -> list[int]:
    """Return the numbers of channels to which ``count`` may be cut, descending.

    They are multiples of ``multiple`` and, below it, its half, quarter and eighth: what is computed
    in blocks gains nothing from a block that is filled in part, and the half of a block of 16 is a
    whole one where blocks are of 8. 16 gives 48, 32, 16, 8, 4, 2, 0 for 64; 1 gives every number.
    """
    if multiple == 1:
        return list(range(count - 1, -1, -1))
    whole = (width for width in range(count - 1, 0, -1) if not width % multiple)
    parts = (multiple // part for part in (2, 4, 8))
    return [*whole, *(width for width in parts if 0 < width < count), 0]


def uniform_rate(graph: ChannelGraph, scores: Scores, rate: float, multiple: int = 1) -> Groups:
    """Return the ``int(rate x n)`` lowest of the n groups of every class (the paper's rule).

    scores:   of the removable groups, (G,).
    multiple: what is left is rounded to the nearest of ``widths``, the wider of two.
    Raises StageError where that is none at all, or where a layer would be left empty.
    """
    chosen = []
    for number in np.unique(graph.coupling_classes):
        members = np.flatnonzero(graph.coupling_classes == number)
        order = members[np.argsort(scores[members], kind="stable")]
        left = len(members) - int(rate * len(members) + 1e-9)
        allowed = [width for width in (len(members), *widths(len(members), multiple)) if width]
        nearest = min(allowed, key=lambda width: abs(width - left)) if left else 0
        chosen.append(order[: len(members) - nearest])
    found = graph.removable[np.concatenate(chosen)]
    if not len(found):
        raise StageError(f"rate {rate} of the channels is less than one channel in every layer")
    return found


def ranked(
    graph: ChannelGraph, scores: Scores, allocation: Allocation, multiple: int = 1
) -> list[Step]:
    """Return the removable groups in the steps in which they go, the most dispensable first.

    A step takes the lowest groups of one class, down to the next of its ``widths``.

    uniform: by the rank within their class, so that the first steps take about the same share of
             each; the scores of different layers are never compared. Of equal shares those of
             wide classes go first, and those inside of a block before those of sums.
    global:  by the mean score of the step, divided by the mean magnitude of those of its class.
    Groups without which a layer would be empty, given those before them, are left out.
    """
    steps: list[tuple[tuple[float, int, int], Step]] = []
    for number in np.unique(graph.coupling_classes):
        members = np.flatnonzero(graph.coupling_classes == number)
        order = members[np.argsort(scores[members], kind="stable")]
        producers = sum(
            np.isin(graph.removable[order[0]], layer.outputs) for layer in graph.producers
        )
        scale = max(float(np.abs(scores[members]).mean()), 1e-12)
        ends = [len(order) - width for width in widths(len(order), multiple)]
        for low, high in pairwise([0, *ends]):
            share = (low + high) / 2 / len(order)
            key = share if allocation == "uniform" else scores[order[low:high]].mean() / scale
            place = (float(key), -len(order), int(producers))
            steps.append((place, Step(int(number), graph.removable[order[low:high]])))
    steps.sort(key=lambda step: step[0])
    return _without_emptying(graph, [step for _, step in steps])


def enough(steps: Sequence[Step], excess: Callable[[Groups], float], words: str) -> Groups:
    """Return the groups of the fewest first steps that meet a budget, found by bisection.

    The last of them gives way to the next step of another class where that meets it more closely.

    excess: by how much the budget is exceeded when these groups are removed, at most 0 where it
            is met; more groups never exceed it more.
    words:  what the budget is, for the message.
    Raises StageError where even all steps do not meet it.
    """

    def first(count: int) -> Groups:
        return np.concatenate([np.zeros(0, np.int64), *(step.groups for step in steps[:count])])

    if not len(steps) or excess(first(len(steps))) > 0:
        raise StageError(
            f"{words} cannot be reached: removing all {len(first(len(steps)))} groups of channels "
            f"that may go does not suffice"
        )
    low, high = 0, len(steps)  # the first low do not suffice, the first high do
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(first(middle)) > 0 else (low, middle)
    nexts = {step.coupling_class: step.groups for step in reversed(steps[low:])}
    choices = [np.concatenate([first(low), groups]) for groups in nexts.values()]
    met = [(value, i) for i, value in enumerate(map(excess, choices)) if value <= 0]
    return choices[max(met)[1]]


def _without_emptying(graph: ChannelGraph, steps: Sequence[Step]) -> list[Step]:
    """Drop from steps the groups that would take the last channel of a layer or map."""
    members: dict[int, list[tuple[int, int]]] = {}
    left: list[int] = []
    for channels in _channel_sets(graph):
        groups, counts = np.unique(channels, return_counts=True)
        for group, count in zip(groups.tolist(), counts.tolist(), strict=True):
            members.setdefault(group, []).append((len(left), count))
        left.append(len(channels))
    found = []
    for step in steps:
        kept = []
        for group in step.groups.tolist():
            if all(left[index] > count for index, count in members[group]):
                for index, count in members[group]:
                    left[index] -= count
                kept.append(group)
        if kept:
            found.append(Step(step.coupling_class, np.array(kept, np.int64)))
    return found


def _channel_sets(graph: ChannelGraph) -> list[NDArray[np.int64]]:
    sets = [
        channels for layer in graph.layers.values() for channels in (layer.inputs, layer.outputs)
    ]
    return [*sets, *graph.maps.values()]
