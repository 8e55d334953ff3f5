"""Features of a batch, computed once as long as the batch is alive.

A search asks one predictor after another about the same candidates; what they look like does not
change between the fits. Groups of features that nobody reads are not computed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.graph_features import feature_groups
from nasplatform.spaces.graph import GraphBatch

_Groups = dict[str, NDArray[np.floating[Any]]]
_layouts: dict[tuple[object, ...], _Layout] = {}


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
    def of(cls, groups: _Groups) -> Features:
        """Put groups, each (B, F_g), side by side."""
        values = np.concatenate(list(groups.values()), axis=1, dtype=np.float32)
        values.flags.writeable = False
        sizes = [array.shape[1] for array in groups.values()]
        return cls(values, np.repeat(np.arange(len(sizes)), sizes), tuple(groups))


@dataclass(frozen=True)
class _Layout:
    """Which column of the features belongs to which group: names, and first columns (G + 1,)."""

    names: tuple[str, ...]
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, graphs: GraphBatch) -> _Layout:
        """Return the layout of this kind of graphs, found out once."""
        layout = _layouts.get(graphs.kind)
        if layout is None:
            groups = feature_groups(graphs[:0])
            sizes = [array.shape[1] for array in groups.values()]
            layout = _layouts[graphs.kind] = cls(tuple(groups), np.cumsum([0, *sizes]))
        return layout


class _Table:
    """The groups of one batch that were asked for so far; several threads may ask.

    It belongs to its batch (``GraphBatch.derived``) and is gone with it.
    """

    def __init__(self, graphs: GraphBatch) -> None:
        self._lock = threading.Lock()
        self._layout = _Layout.of(graphs)
        self._groups: _Groups = {}
        self._whole: Features | None = None

    def whole(self, graphs: GraphBatch) -> Features:
        """Return all features."""
        with self._lock:
            if self._whole is None:
                self._complete(graphs, set(self._layout.names))
                names = self._layout.names
                self._whole = Features.of({name: self._groups[name] for name in names})
            return self._whole

    def columns(self, graphs: GraphBatch, columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return some columns of all features."""
        starts = self._layout.starts
        places = np.searchsorted(columns, starts)
        wanted = [
            (name, columns[first:last] - starts[group])
            for group, name in enumerate(self._layout.names)
            if (first := places[group]) < (last := places[group + 1])
        ]
        with self._lock:
            self._complete(graphs, {name for name, _ in wanted})
        parts = [self._groups[name][:, inside] for name, inside in wanted]
        values: NDArray[np.float32] = np.concatenate(parts, axis=1, dtype=np.float32)
        return values

    def _complete(self, graphs: GraphBatch, wanted: set[str]) -> None:
        missing = wanted - self._groups.keys()
        if missing:
            self._groups |= feature_groups(graphs, set(self._layout.names) - missing)


def features_of(graphs: GraphBatch) -> Features:
    """Return the features of a batch; the same object again for the same batch."""
    return graphs.derived(_Table).whole(graphs)


def columns_of(graphs: GraphBatch, columns: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return a new array of some columns of ``features_of(graphs).values``, (B, C) float32.

    columns: (C,) ascending. A group in which none of them lies is not computed.
    """
    return graphs.derived(_Table).columns(graphs, columns)


def width_of(graphs: GraphBatch) -> int:
    """Return the number of columns of ``features_of(graphs).values`` without computing any."""
    return int(_Layout.of(graphs).starts[-1])
