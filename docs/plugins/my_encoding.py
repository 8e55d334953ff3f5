"""An encoding in one file: what was chosen at each node of a chain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings import Encoding
from nasplatform.spaces import GraphBatch


def node_choices(graphs: GraphBatch) -> NDArray[np.float32]:
    """Return (B, N (V + A)): one-hot operation and attributes of each node, 0 for what is none."""
    one_hot = graphs.ops[:, :, None] == np.arange(len(graphs.vocabulary))
    numbers = [] if graphs.attributes is None else [np.nan_to_num(graphs.attributes)]
    parts = np.concatenate([one_hot, *numbers], axis=2)  # (B, N, V + A)
    return parts.reshape(len(graphs), parts.shape[1] * parts.shape[2]).astype(np.float32)


def not_a_chain(graphs: GraphBatch) -> str | None:
    """An encoding says what it cannot see: this one reads no edges."""
    chain = np.eye(graphs.n_nodes, k=1, dtype=np.uint8)
    return None if (graphs.adjacency == chain).all() else "they are wired in different ways"


encoding = Encoding(node_choices, not_a_chain)
