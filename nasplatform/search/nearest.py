"""From an architecture that nobody can measure to one that a table knows."""

from __future__ import annotations

from typing import Generic

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.base import A, Population, Space
from nasplatform.spaces.graph import GraphBatch


class Nearest(Generic[A]):
    """Moves an architecture to the measurable one that differs in the fewest places."""

    def __init__(self, space: Space[A], candidates: Population[A]) -> None:
        """Take the space and the (B,) architectures that can be measured."""
        self._space = space
        self._candidates = candidates
        self._places = _places(space.graphs(candidates))

    def to(
        self, architecture: A, rng: np.random.Generator, seen: NDArray[np.uint64] | None = None
    ) -> A:
        """Return the nearest candidate, one of them at random where several are.

        seen: (T,) uint64 keys of those that will not do, as long as there are others.
        """
        wanted = _places(self._space.graphs([architecture]))
        distance = (self._places != wanted).sum(1)
        known = np.isin(self._candidates.keys, [] if seen is None else seen)
        if not known.all():
            distance[known] = self._places.shape[1] + 1
        return self._candidates[int(rng.choice(np.flatnonzero(distance == distance.min())))]


def _places(graphs: GraphBatch) -> NDArray[np.float32]:
    """Return (B, P) edges, operations and attributes side by side."""
    b = len(graphs)
    parts = [graphs.adjacency.reshape(b, -1).astype(np.float32), graphs.ops.astype(np.float32)]
    if graphs.attributes is not None:
        parts.append(np.nan_to_num(graphs.attributes.reshape(b, -1)))
    return np.concatenate(parts, axis=1)
