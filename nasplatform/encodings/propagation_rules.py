"""What each node of B graphs does to a signal, gathered so that one sweep serves all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.active_subgraph import ActiveSubgraphs
from nasplatform.encodings.responses import Phase, response
from nasplatform.spaces.graph import GraphBatch, Operation

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
Windows = list[tuple[tuple[int, ...], Floats]]  # sides, and (B,) 1 where they are passed


@dataclass(frozen=True)
class Step:
    """A phase that several operations share, but for the windows behind which it happens."""

    phase: Phase
    windows: Windows


@dataclass(frozen=True)
class NodeRule:
    """What happens at a node.

    sources:  nodes that feed it, each with the factors (B,) of what it hands over; None for one.
    windows:  what is passed first, before any phase.
    programs: phases in order, and where (B,) they happen; None for everywhere. The windows of
        the first phase stand in ``windows``, but where a phase adds what entered it.
    residual: (B,) 1 where the operation adds its input if the shapes agree; None for nowhere.
    """

    sources: list[tuple[int, Floats | None]]
    windows: Windows
    programs: list[tuple[Bools | None, list[Step]]]
    residual: Floats | None

    @classmethod
    def at(cls, node: int, graphs: ActiveSubgraphs, weight: Floats) -> NodeRule:
        """Gather what the graphs do at a node; weight: (N, B) on what is handed to the output."""
        output = node == len(graphs.edges) - 1
        sources: list[tuple[int, Floats | None]] = []
        for i in graphs.sources[node]:
            factor = graphs.edges[i, node]
            if output and i:
                factor = factor * weight[i]
            sources.append((i, None if (factor == 1).all() else factor))
        here = graphs.ops[node]
        ids = np.flatnonzero(np.bincount(here[here >= 0])).tolist()
        found = {op: response(graphs.vocabulary[op]) for op in ids}
        alike: dict[tuple[Phase, ...], list[int]] = {}
        for op, phases in found.items():
            alike.setdefault(tuple(_bare(phase) for phase in phases), []).append(op)
        programs: list[tuple[Bools | None, list[Step]]] = []
        for bare, ops in alike.items():
            if any(phase.acts for phase in bare) or len(bare) > 1:
                mask = np.isin(here, ops)
                inside = _adds_its_input(bare)
                later = [
                    Step(phase, _windows(place, found, ops, here) if place or inside else [])
                    for place, phase in enumerate(bare)
                ]
                programs.append((None if mask.all() else mask, later))
        adding = [op for op in ids if graphs.vocabulary[op].residual]
        residual = np.isin(here, adding).astype(np.float32) if adding else None
        first = [op for op in ids if not _adds_its_input(found[op])]
        return cls(sources, _windows(0, found, first, here), programs, residual)

    def passed(self, q: Floats, keeps: Floats | None) -> tuple[Floats, Floats]:
        """Return the variance (B,) that leaves where ``q`` arrives, and the gain of a gradient."""
        out, gain = q, np.ones_like(q)
        for mask, steps in self.programs:
            left, gained = _through(steps, q)
            out = left if mask is None else np.where(mask, left, out)
            gain = gained if mask is None else np.where(mask, gained, gain)
        if keeps is not None:
            out, gain = out + keeps * q, gain + keeps
        return out, gain


def _bare(phase: Phase) -> Phase:
    return replace(phase, windows=())


def _adds_its_input(phases: tuple[Phase, ...]) -> bool:
    """Whether a phase adds what enters the first one, which no window of it may damp."""
    return any(phase.adds == place + 1 for place, phase in enumerate(phases))


def _windows(
    place: int, found: Mapping[int, tuple[Phase, ...]], ops: list[int], here: NDArray[np.int8]
) -> Windows:
    """Return the windows of the phases at a place, over the operations of a node."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for op in ops:
        if found[op][place].windows:
            alike.setdefault(found[op][place].windows, []).append(op)
    return [(sides, np.isin(here, same).astype(np.float32)) for sides, same in alike.items()]


def _through(steps: list[Step], q: Floats) -> tuple[Floats, Floats]:
    gain = np.ones_like(q)
    entered = []
    for step in steps:
        entered.append((q, gain))
        gain = gain * step.phase.slope
        if step.phase.normalised:
            q, gain = np.ones_like(q), gain / np.maximum(q, np.float32(1e-12))
        if step.phase.adds:
            old, direct = entered[-step.phase.adds]
            q, gain = q + old, gain + direct
    return q, gain


@dataclass(frozen=True)
class Rules:
    """The rules of all nodes but the input.

    weight:   (N, B) factor on what a node hands to the output.
    rectifies: (N, B) where a non-linearity is applied.
    inside:   (N, B) channels inside the operation, divided by those that leave it.
    projects: whether what leaves the input passes a convolution of its own.
    """

    nodes: list[NodeRule]
    weight: Floats
    rectifies: Bools
    inside: Floats
    projects: bool

    @classmethod
    def of(cls, graphs: ActiveSubgraphs) -> Rules:
        """Gather the rules of B graphs."""
        vocabulary = graphs.vocabulary
        concat = any(op.kind == "output" and op.merge == "concat" for op in vocabulary)
        weight = graphs.shares if concat else np.ones_like(graphs.shares)
        responses = [response(operation) for operation in vocabulary]
        rectifying = [any(phase.rectified for phase in phases) for phases in responses]
        widths = [_inside(operation) for operation in vocabulary]
        return cls(
            nodes=[NodeRule.at(node, graphs, weight) for node in range(1, len(graphs.edges))],
            weight=weight,
            rectifies=np.array([*rectifying, False])[graphs.ops],
            inside=np.array([*widths, 1.0], np.float32)[graphs.ops],
            projects=any(op.kind == "input" and op.projects for op in vocabulary),
        )


def _inside(operation: Operation) -> float:
    return max([operation.expansion, *(part.expansion for part in operation.parts)], key=_unlike)


def _unlike(expansion: float) -> float:
    return abs(float(np.log(expansion)))


@dataclass(frozen=True)
class CellShapes:
    """Where in a cell of the skeleton maps shrink and shapes agree.

    shrunk: (N, B) side of the map that enters the cell, divided by that of the one that enters
        the node; None where it is one everywhere.
    keeps:  for each node (B,) 1 where it adds its input; None for nowhere.
    """

    shrunk: Floats | None
    keeps: list[Floats | None]

    @classmethod
    def of(cls, cell: int, graphs: GraphBatch, active: ActiveSubgraphs, rules: Rules) -> CellShapes:
        """Look at one cell of B graphs."""
        channels, sides = graphs.channels[:, cell].T, graphs.resolution[:, cell].T
        shrinks = ((sides != sides[0]) & active.active).any()
        residual = any(rule.residual is not None for rule in rules.nodes)
        if not shrinks and not residual:
            return cls(None, [None] * len(sides))
        shrunk, agrees = np.ones((2, *sides.shape), np.float32)
        for node in range(1, len(sides)):
            for i in active.sources[node]:
                there = active.edges[i, node] > 0
                same = (channels[i] == channels[node]) & (sides[i] == sides[node])
                agrees[node] *= same | ~there
                ratio = sides[0] / np.maximum(sides[i], 1)
                shrunk[node] = np.where(there, ratio, shrunk[node])
        keeps = [
            None if rule.residual is None else rule.residual * agrees[node]
            for node, rule in enumerate(rules.nodes, 1)
        ]
        return cls(shrunk if shrinks else None, [None, *keeps])
