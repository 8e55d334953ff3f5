"""Path encoding (BANANAS, White et al., AAAI 2021): which sequences of operations are there?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.active_subgraph import active_subgraphs, interior_ops
from nasplatform.encodings.base import Encoding
from nasplatform.spaces.graph import GraphBatch

LARGEST = 4096  # most sequences of one length; longer paths than that allows are not encoded
_CHUNK = 4096  # architectures encoded at once


def path_encoding(graphs: GraphBatch) -> NDArray[np.uint8]:
    """Return (B, P) uint8: 1 where a path from input to output has the sequence of operations.

    For K operations there are K^L sequences of length L, ordered by length and then as numbers
    with base K, the operation next to the input first. L runs from 0 to the number of interior
    nodes, or to where K^L exceeds ``LARGEST``: NAS-Bench-101 has the published 364 columns.
    """
    starts = range(0, max(len(graphs), 1), _CHUNK)
    return np.concatenate([_encode(graphs[start : start + _CHUNK]) for start in starts])


def _why_not(graphs: GraphBatch) -> str | None:
    if graphs.attributes is not None:
        names = ", ".join(attribute.name for attribute in graphs.attribute_schema)
        return f"paths are sequences of operations, which do not tell the attributes {names}"
    longest = sequence_lengths(len(interior_ops(graphs.vocabulary)), graphs.n_nodes - 2)[-1]
    shortest = _shortest(graphs)
    unseen = np.flatnonzero((shortest > longest) & np.isfinite(shortest))
    if not len(unseen):
        return None
    return (
        f"the shortest path of graph {unseen[0]} has {shortest[unseen[0]]:.0f} operations, and "
        f"sequences of up to {longest} are encoded: it would look like any other so long"
    )


def _shortest(graphs: GraphBatch) -> NDArray[np.float64]:
    """Return (B,) the number of operations on the shortest path; infinite where there is none."""
    edges = active_subgraphs(graphs).edges > 0
    steps = np.full((graphs.n_nodes, len(graphs)), np.inf)
    steps[0] = -1
    for node in range(1, graphs.n_nodes):
        steps[node] = np.where(edges[:node, node], steps[:node] + 1, np.inf).min(0)
    return steps[-1]


paths = Encoding(path_encoding, _why_not)


def sequence_lengths(n_operations: int, n_interior: int) -> list[int]:
    """Return the lengths of path that are encoded."""
    return [k for k in range(n_interior + 1) if n_operations**k <= LARGEST]


def _encode(graphs: GraphBatch) -> NDArray[np.uint8]:
    active = active_subgraphs(graphs)
    edges = active.edges > 0
    has = np.stack([active.ops == op for op in interior_ops(graphs.vocabulary)])
    (k, n, b) = has.shape
    lengths = sequence_lengths(k, n - 2)
    # ending[j][l]: (K^l, B), the sequences of the first l interior nodes of paths that end in j
    ending: list[list[NDArray[np.bool_]]] = [[np.ones((1, b), bool)]]
    for j in range(1, n):
        arriving = [np.zeros((k**length, b), bool) for length in lengths]
        for i in range(j):
            for length, known in enumerate(ending[i]):
                arriving[length] |= known & edges[i, j]
        if j == n - 1:
            return np.concatenate(arriving).T.astype(np.uint8)
        longer = [
            (arriving[length][:, None] & has[:, j]).reshape(k ** (length + 1), b)
            for length in range(len(lengths) - 1)
        ]
        ending.append([np.zeros((1, b), bool), *longer])
    raise AssertionError("a graph has at least an input and an output")
