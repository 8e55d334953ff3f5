"""Which groups of channels go: the same share of every layer, or until a budget is met."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from nasplatform.errors import StageError
from nasplatform.pruning.budgets import Goal
from nasplatform.pruning.graph import ChannelGraph, Groups
from nasplatform.pruning.importance import Scores

Allocation = Literal["uniform", "global"]
WITHIN_BLOCK = 2.0
"""How much later, by its key, a step goes that leaves less than a whole block of channels: where
blocks are as wide it saves multiply-adds and no time, where they are half as wide it saves both."""


class Step(NamedTuple):
    """Groups of one coupling class that go together."""

    coupling_class: int
    groups: Groups


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
        raise StageError(f"rate {rate:.3g} of the channels is less than one channel in every layer")
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
    Either counts ``WITHIN_BLOCK`` times where fewer than ``multiple`` channels are left.
    Groups without which a layer would be empty, given those before them, are left out.
    """
    steps: list[tuple[tuple[float, int, int], Step]] = []
    for number in np.unique(graph.coupling_classes):
        members = np.flatnonzero(graph.coupling_classes == number)
        order = members[np.argsort(scores[members], kind="stable")]
        producers = sum(
            graph.removable[order[0]] in graph.units(layer.outputs)[1] for layer in graph.producers
        )
        scale = max(float(np.abs(scores[members]).mean()), 1e-12)
        ends = [len(order) - width for width in widths(len(order), multiple)]
        for low, high in pairwise([0, *ends]):
            share = (low + high) / 2 / len(order)
            key = share if allocation == "uniform" else scores[order[low:high]].mean() / scale
            late = WITHIN_BLOCK if len(order) - high < multiple else 1.0
            place = (late * float(key), -len(order), int(producers))
            steps.append((place, Step(int(number), graph.removable[order[low:high]])))
    steps.sort(key=lambda step: step[0])
    return _without_emptying(graph, [step for _, step in steps])


def enough(steps: Sequence[Step], goal: Goal) -> Groups:
    """Return the groups of the fewest first steps that meet a goal, found by bisection.

    The last of them gives way to the next step of another class where that meets it more closely.
    More groups are taken to exceed the goal less; a measurement that says otherwise is noise, so
    nothing is measured twice, and where the goal is missed by no more than its tolerance the best
    that was found is returned.
    Raises StageError where even all steps miss it by more.
    """
    tried: dict[bytes, tuple[float, Groups]] = {}

    def excess(removed: Groups) -> float:
        key = np.sort(removed).tobytes()
        if key not in tried:
            tried[key] = goal.excess(removed), removed
        return tried[key][0]

    def first(count: int) -> Groups:
        return np.concatenate([np.zeros(0, np.int64), *(step.groups for step in steps[:count])])

    everything = first(len(steps))
    if not len(steps) or excess(everything) > goal.tolerance:
        raise StageError(
            f"{goal.words} cannot be reached: removing all {len(everything)} groups of channels "
            f"that may go does not suffice"
        )
    low, high = 0, len(steps)  # the first low do not suffice, the first high do
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(first(middle)) > 0 else (low, middle)
    nexts = {step.coupling_class: step.groups for step in reversed(steps[low:])}
    choices = [np.concatenate([first(low), groups]) for groups in nexts.values()]
    met = [(value, i) for i, value in enumerate(map(excess, choices)) if value <= 0]
    return choices[max(met)[1]] if met else min(tried.values(), key=lambda pair: pair[0])[1]


def check_reachable(steps: Sequence[Step], goal: Goal) -> None:
    """Raise StageError where removing the groups of all steps does not meet a goal."""
    enough([Step(0, np.concatenate([step.groups for step in steps]))] if steps else [], goal)


def _without_emptying(graph: ChannelGraph, steps: Sequence[Step]) -> list[Step]:
    """Drop from steps the groups that would take the last channel of a layer or map."""
    every = np.concatenate([np.zeros(0, np.int64), *(step.groups for step in steps)])
    allowed = graph.without_emptying(every)
    left = [Step(number, groups[np.isin(groups, allowed)]) for number, groups in steps]
    return [step for step in left if len(step.groups)]
