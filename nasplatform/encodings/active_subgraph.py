"""The part of each graph that computes: what lies on a path from the input to the output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.graph import GraphBatch, Operation

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
T = TypeVar("T")
FAR = np.float32(1e6)
"""Stands for infinity in sweeps of maxima and minima."""
_NOT_INTERIOR = ("input", "output", "zero")
_TOLD_APART = 8  # operations; of a larger vocabulary families are told apart in the graph


@dataclass(frozen=True)
class ActiveSubgraphs:
    """B graphs without dead nodes, nodes first and architectures last, as sweeps want them.

    Nodes keep their places; a node of kind ``zero`` and a node on no path from input to output
    have no edges and no operation. The input and the output always stay.

    vocabulary: what an op id means.
    classes:    the K classes of operations of an interior node, each the op ids in it.
    ops:        (N, B) int8, op of an active interior node, -1 elsewhere.
    edges:      (N, N, B) float32, 1 where an edge runs from the first to the second node.
    has:        (K, N, B) float32, 1 where the node is active and has an operation of the class.
    active:     (N, B) bool.
    shares:     (N, B) float32, channels of the first cell divided by those of its output.
    """

    vocabulary: tuple[Operation, ...]
    classes: tuple[tuple[int, ...], ...]
    ops: NDArray[np.int8]
    edges: Floats
    has: Floats
    active: Bools
    shares: Floats

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Every (source, target) between which any of the graphs has an edge, targets ascending."""
        n = len(self.edges)
        used: list[list[bool]] = np.any(self.edges > 0, axis=2).tolist()
        return [(i, j) for j in range(1, n) for i in range(j) if used[i][j]]

    @cached_property
    def pairs_into(self) -> list[list[tuple[int, int]]]:
        """For each node, the sources of its ``pairs``, each with the place of the pair."""
        found: list[list[tuple[int, int]]] = [[] for _ in self.edges]
        for place, (i, j) in enumerate(self.pairs):
            found[j].append((i, place))
        return found

    @cached_property
    def sources(self) -> list[list[int]]:
        """For each node, those from which any of the graphs has an edge to it."""
        return [[i for i, _ in pairs] for pairs in self.pairs_into]

    @cached_property
    def detours(self) -> Floats:
        """(N, N, B): 0 where an edge runs, ``FAR`` elsewhere."""
        return (1 - self.edges) * FAR

    @cached_property
    def op_counts(self) -> Floats:
        """(T, N, B): 1 where a node's operation is in each set of ``operation_sets``."""
        sets = operation_sets(self.vocabulary, self.classes)
        return self.within(sets)

    def derived(self, make: Callable[[ActiveSubgraphs], T]) -> T:
        """Return ``make(graphs)``, made once for all that read it."""
        kept: dict[object, T] = self.__dict__.setdefault("_derived", {})
        if make not in kept:
            kept[make] = make(self)
        return kept[make]

    def within(self, sets: Sequence[tuple[int, ...]]) -> Floats:
        """Return (S, N, B): 1 where a node's operation is of a class in each set of classes."""
        chosen = np.zeros((len(sets), len(self.classes)), np.float32)
        for row, members in enumerate(sets):
            chosen[row, list(members)] = 1
        found: Floats = np.tensordot(chosen, self.has, axes=1)
        return found


def is_connected(graphs: GraphBatch) -> Bools:
    """Return (B,): whether a signal gets from the input to the output.

    Only where an operation gives nothing can there be architectures that none crosses; whatever
    their input, such networks answer the same.
    """
    if all(operation.kind != "zero" for operation in graphs.vocabulary):
        return np.ones(len(graphs), bool)
    found: Bools = np.asarray(active_subgraphs(graphs).edges.any(axis=(0, 1)))
    return found


def learns_inside(graphs: GraphBatch) -> Bools:
    """Return (B,): whether a signal meets an operation that mixes channels on its way.

    An architecture in which it meets none, as where nothing reaches the output or all is pooling,
    learns in stem, projections and classifier alone.
    """
    mixes = np.array([operation.mixes_channels for operation in graphs.vocabulary] + [False])
    found: Bools = np.asarray(mixes[active_subgraphs(graphs).ops].any(axis=0))
    return found


def interior_ops(vocabulary: tuple[Operation, ...]) -> tuple[int, ...]:
    """Return the op ids that an interior node which computes something can have."""
    return tuple(i for i, op in enumerate(vocabulary) if op.kind not in _NOT_INTERIOR)


def interior_classes(vocabulary: tuple[Operation, ...]) -> tuple[tuple[int, ...], ...]:
    """Return which operations graph statistics tell apart, as sets of op ids.

    Each for itself; of more than eight those that differ in more than a number: in kind, in
    whether they mix channels, look through a window or add their input.
    """
    ids = interior_ops(vocabulary)
    if len(ids) <= _TOLD_APART:
        return tuple((op,) for op in ids)
    families: dict[tuple[object, ...], list[int]] = {}
    for op in ids:
        known = vocabulary[op]
        family = known.kind, known.mixes_channels, known.kernel > 1, known.residual
        families.setdefault(family, []).append(op)
    return tuple(tuple(members) for members in families.values())


def operation_sets(
    vocabulary: tuple[Operation, ...], classes: tuple[tuple[int, ...], ...]
) -> list[tuple[int, ...]]:
    """Return the sets of operations worth counting together, as indices into ``classes``.

    Each class alone, those that mix channels, those with a window wider than one pixel, and
    all; sets that are empty or the same are left out.
    """
    singles = [(k,) for k in range(len(classes))]
    mixing = tuple(k for k, ops in enumerate(classes) if vocabulary[ops[0]].mixes_channels)
    spatial = tuple(k for k, ops in enumerate(classes) if vocabulary[ops[0]].kernel > 1)
    every = tuple(range(len(classes)))
    return [s for s in dict.fromkeys([*singles, mixing, spatial, every]) if s]


def active_subgraphs(graphs: GraphBatch) -> ActiveSubgraphs:
    """Cut what does not compute out of B graphs; no loop over architectures."""
    vocabulary = graphs.vocabulary
    ops = np.ascontiguousarray(graphs.ops.T)
    computes = np.array([op.kind != "zero" for op in vocabulary] + [False])[ops]
    edges = np.ascontiguousarray(graphs.adjacency.transpose(1, 2, 0)).astype(bool)
    edges &= computes[:, None] & computes[None, :]
    active = _on_a_path(edges)
    edges &= active[:, None] & active[None, :]
    active[0] = active[-1] = True
    classes = interior_classes(vocabulary)
    inner = np.where(active, ops, np.int8(-1))
    inner[[0, -1]] = -1
    member = np.zeros((len(classes), len(vocabulary) + 1), np.float32)  # the last: no operation
    for row, known in enumerate(classes):
        member[row, list(known)] = 1
    first = np.ascontiguousarray(graphs.channels[:, 0].T).astype(np.float32)
    shares = np.where(active, first / np.maximum(first[-1], 1), 0).astype(np.float32)
    return ActiveSubgraphs(
        vocabulary,
        classes,
        inner,
        edges.astype(np.float32),
        member.take(inner, axis=1),
        active,
        shares,
    )


def _on_a_path(edges: Bools) -> Bools:
    """Return (N, B): nodes that the input reaches and that reach the output."""
    n = len(edges)
    reached, reaches = np.zeros((2, *edges.shape[1:]), bool)
    reached[0] = reaches[-1] = True
    for node in range(1, n):
        reached[node] = (reached[:node] & edges[:node, node]).any(0)
    for node in range(n - 2, -1, -1):
        reaches[node] = (reaches[node + 1 :] & edges[node, node + 1 :]).any(0)
    both: Bools = reached & reaches
    return both
