"""Path encoding (BANANAS, White et al., AAAI 2021): which sequences of operations are there?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.active_subgraph import active_subgraphs
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


def sequence_lengths(n_operations: int, n_interior: int) -> list[int]:
    """Return the lengths of path that are encoded."""
    return [k for k in range(n_interior + 1) if n_operations**k <= LARGEST]


def _encode(graphs: GraphBatch) -> NDArray[np.uint8]:
    active = active_subgraphs(graphs)
    edges, has = active.edges > 0, active.has > 0
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
            (arriving[length][:, None] & has[:, j]).reshape(-1, b)
            for length in range(len(lengths) - 1)
        ]
        ending.append([np.zeros((1, b), bool), *longer])
    raise AssertionError("a graph has at least an input and an output")
