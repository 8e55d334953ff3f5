"""All 423,624 unique cells, each in the labelling of the official file."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.nasbench101.cells import (
    CONV3X3,
    INPUT,
    INTERIOR_OPS,
    MAX_EDGES,
    MAX_VERTICES,
    OUTPUT,
    Cells,
    pack,
)
from nasplatform.spaces.nasbench101.hashing import isomorphism_keys

_CHUNK = 1 << 18


@cache
def enumerate_cells(max_vertices: int = MAX_VERTICES) -> Cells:
    """Return the unique cells of 2 to ``max_vertices`` vertices, ordered by vertex number.

    Graphs and labels are visited in the order of the benchmark's ``generate_graphs.py`` and the
    first of each isomorphism class is kept, so that the labelling, and with it the parameter
    count, is the published one.
    """
    return Cells(np.concatenate([_unique_cells(n).codes for n in range(2, max_vertices + 1)]))


def _unique_cells(n: int) -> Cells:
    graphs = _first_of_each_shape(_full_graphs(n))
    labels = _labellings(n)
    adjacency = np.repeat(graphs, len(labels), axis=0)
    ops = np.tile(labels, (len(graphs), 1))
    return Cells(pack(adjacency, ops)).unique()


def _first_of_each_shape(graphs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep the first of isomorphic graphs: every labelled cell is seen on that one first."""
    blank = np.where(graphs.any(1) | graphs.any(2), CONV3X3, -1).astype(np.int8)
    blank[:, 0], blank[:, -1] = INPUT, OUTPUT
    _, first = np.unique(isomorphism_keys(graphs, blank), return_index=True)
    return graphs[np.sort(first)]


def _full_graphs(n: int) -> NDArray[np.uint8]:
    """Return (G, 7, 7): graphs of n vertices, at most 9 edges, every vertex on some path."""
    pairs = [(x, y) for y in range(n) for x in range(y)]  # bit x + y (y - 1) / 2 is edge x -> y
    where = [*range(n - 1), MAX_VERTICES - 1]
    kept = []
    for start in range(0, 1 << len(pairs), _CHUNK):
        bits = np.arange(start, min(start + _CHUNK, 1 << len(pairs)), dtype=np.uint32)
        bits = bits[np.bitwise_count(bits) <= MAX_EDGES]
        bits = bits[_is_full(bits, n)]
        graphs = np.zeros((len(bits), MAX_VERTICES, MAX_VERTICES), np.uint8)
        for index, (x, y) in enumerate(pairs):
            graphs[:, where[x], where[y]] = (bits >> np.uint32(index)) & 1
        kept.append(graphs)
    return np.concatenate(kept)


def _is_full(bits: NDArray[np.uint32], n: int) -> NDArray[np.bool_]:
    """Every vertex but the output has an edge out, every vertex but the input an edge in."""
    full = np.ones(len(bits), bool)
    for vertex in range(n):
        into = sum(1 << (x + vertex * (vertex - 1) // 2) for x in range(vertex))
        out = sum(1 << (vertex + y * (y - 1) // 2) for y in range(vertex + 1, n))
        if vertex > 0:
            full &= (bits & np.uint32(into)) != 0
        if vertex < n - 1:
            full &= (bits & np.uint32(out)) != 0
    return full


def _labellings(n: int) -> NDArray[np.int8]:
    """Return (3 ** (n - 2), 7) op ids, the last interior vertex changing fastest."""
    interior = n - 2
    count = len(INTERIOR_OPS) ** interior
    labels = np.full((count, MAX_VERTICES), -1, np.int8)
    labels[:, 0], labels[:, -1] = INPUT, OUTPUT
    digits = np.indices((len(INTERIOR_OPS),) * interior).reshape(interior, count)
    labels[:, 1 : 1 + interior] = digits.T + CONV3X3
    return labels
