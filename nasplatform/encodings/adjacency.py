"""The adjacency matrix and one-hot operations, the field's plainest encoding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.base import Encoding
from nasplatform.encodings.node_numbers import scaled_attributes
from nasplatform.spaces.graph import GraphBatch


def adjacency_one_hot(graphs: GraphBatch) -> NDArray[np.float32]:
    """Return (B, N (N - 1) / 2 + (N - 2) V + 2 N A) float32, each number from 0 to 1.

    Upper triangle, one-hot inner nodes, then the attributes of each node over their range and
    where they are told. V is the size of the vocabulary; padding has an all-zero row.
    """
    rows, columns = np.triu_indices(graphs.n_nodes, k=1)
    edges = graphs.adjacency[:, rows, columns]
    one_hot = graphs.ops[:, 1:-1, None] == np.arange(len(graphs.vocabulary), dtype=np.int8)
    parts = [edges, one_hot, *scaled_attributes(graphs)]
    flat = [part.reshape(len(graphs), int(np.prod(part.shape[1:]))) for part in parts]
    return np.concatenate(flat, axis=1).astype(np.float32)


adjacency = Encoding(adjacency_one_hot)
