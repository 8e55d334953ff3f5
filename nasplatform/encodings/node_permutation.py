"""The same architectures with their nodes in another order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.graph import GraphBatch


def permute_nodes(graphs: GraphBatch, rng: np.random.Generator) -> GraphBatch:
    """Return each graph in a random topological order; padding stays before the output.

    Where graphs are positional the order means something: the batch comes back as it is.
    """
    return reordered(graphs, rng.random(graphs.ops.shape))


def reordered(graphs: GraphBatch, priorities: NDArray[np.float64]) -> GraphBatch:
    """Return each graph in the topological order that takes free nodes of high priority first.

    priorities: (B, N), or (N,) for all graphs alike, in [0, 1). Padding stays before the output,
    and positional graphs as they are, as in ``permute_nodes``.
    """
    if graphs.positional:
        return graphs
    order = _orders(graphs.adjacency.astype(bool), graphs.ops >= 0, priorities)
    moved = np.take_along_axis(graphs.adjacency, order[:, :, None], axis=1)
    cells = order[:, None, :]
    return replace(
        graphs,
        adjacency=np.take_along_axis(moved, cells, axis=2),
        ops=np.take_along_axis(graphs.ops, order, axis=1),
        channels=np.take_along_axis(graphs.channels, cells, axis=2),
        flops=np.take_along_axis(graphs.flops, cells, axis=2),
        params=np.take_along_axis(graphs.params, cells, axis=2),
        resolution=np.take_along_axis(graphs.resolution, cells, axis=2),
        attributes=_moved(graphs.attributes, order),
    )


def _moved(
    attributes: NDArray[np.float32] | None, order: NDArray[np.intp]
) -> NDArray[np.float32] | None:
    return None if attributes is None else np.take_along_axis(attributes, order[:, :, None], axis=1)


def _orders(
    edges: NDArray[np.bool_], real: NDArray[np.bool_], priorities: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Return (B, N): which node comes to each place."""
    b, n = real.shape
    rows = np.arange(b)
    order = np.zeros((b, n), np.intp)
    order[:, -1] = n - 1
    waiting = np.ones((b, n), bool)
    waiting[:, [0, -1]] = False
    for place in range(1, n - 1):
        blocked = (edges & waiting[:, :, None]).any(1)
        # real nodes that wait for nobody first; padding when they are all placed
        priority = priorities + 2.0 * real
        priority[~waiting | (blocked & real)] = -1
        chosen = priority.argmax(1)
        order[:, place] = chosen
        waiting[rows, chosen] = False
    return order
