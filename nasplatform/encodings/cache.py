"""Features of a batch, computed once as long as the batch is alive.

A search asks one predictor after another about the same candidates; what they look like does not
change between the fits. Groups of features that nobody reads are not computed.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.graph_features import feature_groups
from nasplatform.spaces.graph import GraphBatch

LARGEST = 50_000  # architectures; the features of a larger batch are not kept
_Groups = dict[str, NDArray[np.floating[Any]]]
_lock = threading.Lock()
_known: dict[int, _Known] = {}
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


@dataclass
class _Known:
    """What was computed of a batch so far."""

    batch: weakref.ref[GraphBatch]
    groups: _Groups = field(default_factory=dict)
    whole: Features | None = None


@dataclass(frozen=True)
class _Layout:
    """Which column of the features belongs to which group: names, and first columns (G + 1,)."""

    names: tuple[str, ...]
    starts: NDArray[np.intp]


def features_of(graphs: GraphBatch) -> Features:
    """Return the features of a batch; the same object again for the same batch."""
    known = _of_batch(graphs)
    if known.whole is None:
        layout = _layout_of(graphs)
        groups = _groups(known, graphs, layout, layout.names)
        known.whole = Features.of({name: groups[name] for name in layout.names})
    return known.whole


def columns_of(graphs: GraphBatch, columns: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return a new array of some columns of ``features_of(graphs).values``, (B, C) float32.

    columns: (C,) ascending. A group in which none of them lies is not computed.
    """
    layout = _layout_of(graphs)
    places = np.searchsorted(columns, layout.starts)
    wanted = [
        (name, columns[first:last] - layout.starts[group])
        for group, name in enumerate(layout.names)
        if (first := places[group]) < (last := places[group + 1])
    ]
    groups = _groups(_of_batch(graphs), graphs, layout, tuple(name for name, _ in wanted))
    parts = [groups[name][:, inside] for name, inside in wanted]
    values: NDArray[np.float32] = np.concatenate(parts, axis=1, dtype=np.float32)
    return values


def width_of(graphs: GraphBatch) -> int:
    """Return the number of columns of ``features_of(graphs).values`` without computing any."""
    return int(_layout_of(graphs).starts[-1])


def _of_batch(graphs: GraphBatch) -> _Known:
    key = id(graphs)
    with _lock:
        found = _known.get(key)
        if found is not None and found.batch() is graphs:
            return found
        made = _Known(weakref.ref(graphs, lambda _: _known.pop(key, None)))
        if len(graphs) <= LARGEST:
            _known[key] = made
        return made


def _groups(known: _Known, graphs: GraphBatch, layout: _Layout, wanted: tuple[str, ...]) -> _Groups:
    """Return the groups computed so far, the wanted ones among them."""
    missing = {name for name in wanted if name not in known.groups}
    if missing:
        without = {name for name in layout.names if name not in missing}
        known.groups |= feature_groups(graphs, without)
    return known.groups


def _layout_of(graphs: GraphBatch) -> _Layout:
    """Return the layout of this kind of graphs, found out once."""
    width = None if graphs.attributes is None else graphs.attributes.shape[2]
    kind = graphs.vocabulary, graphs.stages, graphs.n_nodes, width
    layout = _layouts.get(kind)
    if layout is None:
        groups = feature_groups(graphs[:0])
        sizes = [array.shape[1] for array in groups.values()]
        layout = _layouts[kind] = _Layout(tuple(groups), np.cumsum([0, *sizes]))
    return layout
