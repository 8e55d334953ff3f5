"""The part of each graph that computes: what lies on a path from the input to the output."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.graph import GraphBatch, Operation

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
_NOT_INTERIOR = ("input", "output", "zero")


@dataclass(frozen=True)
class ActiveSubgraphs:
    """B graphs without dead nodes, nodes first and architectures last, as sweeps want them.

    Nodes keep their places; a node of kind ``zero`` and a node on no path from input to output
    have no edges and no operation. The input and the output always stay.

    vocabulary: what an op id means.
    classes:    ids of the K operations that an interior node can have, ascending.
    edges:      (N, N, B) float32, 1 where an edge runs from the first to the second node.
    has:        (K, N, B) float32, 1 where the node is active and has the operation.
    active:     (N, B) bool.
    shares:     (N, B) float32, channels of the first cell divided by those of its output.
    """

    vocabulary: tuple[Operation, ...]
    classes: tuple[int, ...]
    edges: Floats
    has: Floats
    active: Bools
    shares: Floats

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Every (source, target) between which any of the graphs has an edge, targets ascending."""
        n = len(self.edges)
        used: Bools = np.asarray((self.edges > 0).any(axis=2))
        return [(i, j) for j in range(1, n) for i in range(j) if used[i, j]]

    @cached_property
    def sources(self) -> list[list[int]]:
        """For each node, those from which any of the graphs has an edge to it."""
        return [[i for i, j in self.pairs if j == node] for node in range(len(self.edges))]

    @cached_property
    def op_counts(self) -> Floats:
        """(T, N, B): 1 where a node's operation is in each set of ``operation_sets``."""
        sets = operation_sets(self.vocabulary, self.classes)
        return np.stack([self.has[list(chosen)].sum(0) for chosen in sets])

    def where(self, **traits: object) -> Floats:
        """Return (N, B) float32: 1 where an active interior node's operation has all these."""
        chosen = [
            k
            for k, op in enumerate(self.classes)
            if all(getattr(self.vocabulary[op], key) == value for key, value in traits.items())
        ]
        total: Floats = self.has[chosen].sum(0)
        return total


def is_connected(graphs: GraphBatch) -> Bools:
    """Return (B,): whether a signal gets from the input to the output.

    Only where an operation gives nothing can there be architectures that none crosses; whatever
    their input, such networks answer the same.
    """
    if all(operation.kind != "zero" for operation in graphs.vocabulary):
        return np.ones(len(graphs), bool)
    found: Bools = np.asarray(active_subgraphs(graphs).edges.any(axis=(0, 1)))
    return found


def interior_classes(vocabulary: tuple[Operation, ...]) -> tuple[int, ...]:
    """Return the op ids that an interior node which computes something can have."""
    return tuple(i for i, op in enumerate(vocabulary) if op.kind not in _NOT_INTERIOR)


def operation_sets(
    vocabulary: tuple[Operation, ...], classes: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """Return the sets of operations worth counting together, as indices into ``classes``.

    Each operation alone, those that mix channels, those with a window wider than one pixel, and
    all; sets that are empty or the same are left out.
    """
    singles = [(k,) for k in range(len(classes))]
    mixing = tuple(k for k, op in enumerate(classes) if vocabulary[op].mixes_channels)
    spatial = tuple(k for k, op in enumerate(classes) if vocabulary[op].kernel > 1)
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
    has = np.stack([(ops == op) & active for op in classes]).astype(np.float32)
    first = np.ascontiguousarray(graphs.channels[:, 0].T).astype(np.float32)
    shares = np.where(active, first / np.maximum(first[-1], 1), 0).astype(np.float32)
    return ActiveSubgraphs(vocabulary, classes, edges.astype(np.float32), has, active, shares)


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
