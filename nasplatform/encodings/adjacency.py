"""The adjacency matrix and one-hot operations, the field's plainest encoding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.graph import GraphBatch


def adjacency_one_hot(graphs: GraphBatch) -> NDArray[np.float32]:
    """Return (B, N (N - 1) / 2 + (N - 2) V) float32: upper triangle, then one-hot inner nodes.

    V is the size of the vocabulary; padding has an all-zero row.
    """
    rows, columns = np.triu_indices(graphs.n_nodes, k=1)
    edges = graphs.adjacency[:, rows, columns]
    one_hot = graphs.ops[:, 1:-1, None] == np.arange(len(graphs.vocabulary), dtype=np.int8)
    flat = one_hot.reshape(len(graphs), -1)
    return np.concatenate([edges, flat], axis=1).astype(np.float32)
