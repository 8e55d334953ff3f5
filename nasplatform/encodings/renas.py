"""The feature tensor of ReNAS (Xu et al., CVPR 2021, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.base import Encoding
from nasplatform.encodings.node_numbers import scaled_attributes
from nasplatform.spaces.graph import GraphBatch

# Scales of the independent re-implementation AlbertiPot/nar; the authors' own are not published.
FLOPS_SCALE = 1e7
PARAMS_SCALE = 1e5


def renas_tensor(graphs: GraphBatch) -> NDArray[np.float32]:
    """Return (B, 1 + 2 C + A, N, N) float32: node types, FLOPs and parameters, attributes.

    Each vector over nodes runs along the columns and is masked by the adjacency matrix, so that
    an edge carries the value of the node that it enters. Channel 0 holds the node types (index
    in the vocabulary + 1), channels 1 + 2 c and 2 + 2 c the FLOPs / 1e7 and the parameters / 1e5
    of cell c. Padding stands at the last row and column but one, as in the paper. For
    NAS-Bench-101's own skeleton of nine cells this is the paper's 19 x 7 x 7.

    The paper knows no attributes: of each a channel holds 1 to 2 over its range and 0 where there
    is none, on the diagonal too, since no edge enters the input.
    """
    n_channels = 1 + 2 * graphs.n_cells
    values = np.empty((len(graphs), n_channels, graphs.n_nodes), np.float32)
    values[:, 0] = graphs.ops + 1
    values[:, 1::2] = graphs.flops / FLOPS_SCALE
    values[:, 2::2] = graphs.params / PARAMS_SCALE
    mask = graphs.adjacency[:, None].astype(np.float32)
    images = values[:, :, None, :] * mask
    if graphs.attributes is None:
        return images
    scaled, told = scaled_attributes(graphs)
    numbers = (scaled + told).transpose(0, 2, 1)[:, :, None, :]
    return np.concatenate([images, numbers * (mask + np.eye(graphs.n_nodes, dtype=np.float32))], 1)


renas = Encoding(renas_tensor)


def renas_tensors(graphs: GraphBatch, chunk: int = 2048) -> Iterator[NDArray[np.float32]]:
    """Yield the tensors of a large batch in parts of at most ``chunk`` architectures, in order.

    All of NAS-Bench-101 at once would take 1.6 GB, a part of the default size 8 MB.
    """
    for start in range(0, len(graphs), chunk):
        yield renas_tensor(graphs[start : start + chunk])
