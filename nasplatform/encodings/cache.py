"""Features of a batch, computed once as long as the batch is alive.

A search asks one predictor after another about the same candidates; what they look like does not
change between the fits.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.graph_features import feature_groups
from nasplatform.spaces.graph import GraphBatch

LARGEST = 50_000  # architectures; the features of a larger batch are not kept
_lock = threading.Lock()
_known: dict[int, tuple[weakref.ref[GraphBatch], Features]] = {}


@dataclass(frozen=True)
class Features:
    """Features of B architectures side by side.

    values: (B, F) float32, read-only.
    group:  (F,) the group of each column, an index into ``names``.
    names:  names of the groups.
    """

    values: NDArray[np.float32]
    group: NDArray[np.intp]
    names: tuple[str, ...]

    @classmethod
    def of(cls, groups: dict[str, NDArray[np.floating[Any]]]) -> Features:
        """Put groups, each (B, F_g), side by side."""
        values = np.concatenate(list(groups.values()), axis=1, dtype=np.float32)
        values.flags.writeable = False
        sizes = [array.shape[1] for array in groups.values()]
        return cls(values, np.repeat(np.arange(len(sizes)), sizes), tuple(groups))


def features_of(graphs: GraphBatch) -> Features:
    """Return the features of a batch; the same object again for the same batch."""
    key = id(graphs)
    with _lock:
        found = _known.get(key)
    if found is not None and found[0]() is graphs:
        return found[1]
    made = Features.of(feature_groups(graphs))
    if len(graphs) <= LARGEST:
        with _lock:
            _known[key] = weakref.ref(graphs, lambda _: _known.pop(key, None)), made
    return made
