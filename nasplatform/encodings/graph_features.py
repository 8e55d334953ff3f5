"""Hand-made features of the graph: how many of which operations stand where, and what they cost.

After GRAF (Kadlecova et al., ICML 2024) and, for the flows and walks, our own. All are invariant
to a relabelling of the nodes, except where graphs are positional: there the operation and the
numbers of each place are features too. Of more than eight operations families are told apart
(``interior_classes``); what they differ in is in the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.active_subgraph import (
    ActiveSubgraphs,
    active_subgraphs,
    interior_ops,
)
from nasplatform.encodings.base import Encoding
from nasplatform.encodings.node_numbers import has_numbers, node_numbers
from nasplatform.encodings.path_statistics import (
    extreme_counts,
    extreme_path_features,
    path_features,
    subset_features,
)
from nasplatform.encodings.random_walks import edge_counts, walk_features
from nasplatform.encodings.signal_propagation import depth_features, gradient_features
from nasplatform.spaces.graph import GraphBatch

Floats = NDArray[np.floating[Any]]
_WINDOWS = 4  # along the nodes
_CHUNK = 4096  # architectures encoded at once: what a sweep touches stays in the cache
_PAIRS = 2**20  # of nodes, in all architectures that are encoded at once


def graph_features(graphs: GraphBatch) -> Floats:
    """Return (B, F) float32: all groups of ``feature_groups`` side by side."""
    return np.concatenate(list(feature_groups(graphs).values()), axis=1)


def feature_groups(graphs: GraphBatch, without: Collection[str] = ()) -> dict[str, Floats]:
    """Return the features by group, each (B, F_g) float32; each row depends on its graph alone.

    without:  names of groups that are not wanted, and not computed.

    count:    active nodes, edges, nodes of each operation.
    edges:    edges by operation of source and target.
    cost:     logarithms of parameters and FLOPs, in all and by operation.
    width:    channels by operation, relative to the cell's output.
    paths:    extremes and means over all paths; subsets: paths that use few operations.
    extremes: the longest and the shortest paths.
    walks:    a random path; flows: the edges it takes.
    depth:    longest and shortest way to what feeds the output, by channels.
    differences, modes, gradients: closed-form propagation, see ``signal_propagation``.
    slots:    operation at each place, only where graphs are positional.
    numbers:  attributes and further numbers of the nodes, over all of them, only where
              ``has_numbers``; and where graphs are positional
    profile:  the same as means over windows along the nodes; places: at each place.
    """
    chunk = max(1, min(_CHUNK, _PAIRS // graphs.n_nodes**2))
    if len(graphs) <= chunk:
        return _groups_of_chunk(graphs, without)
    starts = range(0, len(graphs), chunk)
    parts = [_groups_of_chunk(graphs[start : start + chunk], without) for start in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _groups_of_chunk(graphs: GraphBatch, without: Collection[str]) -> dict[str, Floats]:
    active = active_subgraphs(graphs)
    groups: dict[str, Floats] = {}
    for names, make in _MAKERS:
        if not all(name in without for name in names):
            groups |= zip(names, make(active, graphs), strict=True)
    groups |= _slots(active, graphs)
    return {
        name: np.ascontiguousarray(rows.T, dtype=np.float32)
        for name, rows in groups.items()
        if name not in without
    }


def _counts(active: ActiveSubgraphs) -> Floats:
    """Return (K + 2, B)."""
    nodes = active.active[1:-1].sum(0, dtype=np.float32)
    return np.concatenate([nodes[None], active.edges.sum((0, 1))[None], active.has.sum(1)])


def _costs(active: ActiveSubgraphs, graphs: GraphBatch) -> Floats:
    """Return (2 K + 5, B): what is dead costs nothing."""
    params = graphs.params.sum(1).T * active.active
    flops = graphs.flops.sum(1).T * active.active
    by_op = (active.has * params).sum(1)
    total = params.sum(0)
    share = by_op / np.maximum(total, 1)
    outside = graphs.total_params - graphs.params.sum((1, 2))
    outside_flops = graphs.total_flops - graphs.flops.sum((1, 2))
    rows = [
        np.log(np.maximum(total + outside, 1)),
        np.log(np.maximum(flops.sum(0) + outside_flops, 1)),
        np.log1p(params.max(0)),
        np.log1p(params[-1]),
        share.max(0) if len(share) else total,
    ]
    return np.concatenate([np.stack(rows), np.log1p(by_op), share]).astype(np.float32)


def _widths(active: ActiveSubgraphs) -> Floats:
    """Return (2 K + 3, B)."""
    inner = np.where(active.active[1:-1], active.shares[1:-1], 0)
    thinnest = np.where(active.active[1:-1], active.shares[1:-1], np.inf).min(0, initial=1)
    feeding = active.edges[1:-1, -1]
    rows = [inner.max(0, initial=0), thinnest, feeding.sum(0)]
    by_op = (active.has * active.shares).sum(1)
    output = (active.has * active.shares * active.edges[:, -1]).sum(1)
    return np.concatenate([np.stack(rows), by_op, output]).astype(np.float32)


def _depths(active: ActiveSubgraphs) -> Floats:
    """Return (2 T, B): extreme counts on the way to each node, mean over what feeds the output."""
    arriving = active.edges[:, -1] * active.shares
    weight = arriving / np.maximum(arriving.sum(0), np.float32(1e-6))
    most, least = active.derived(extreme_counts)
    rows = []
    for best in (most, least):
        mean = np.zeros(best[0].shape, np.float32)
        for j in range(1, len(weight) - 1):
            mean += weight[j] * best[j]
        rows.append(mean)
    return np.concatenate(rows)


def _slots(active: ActiveSubgraphs, graphs: GraphBatch) -> Mapping[str, Floats]:
    groups: dict[str, Floats] = {}
    if graphs.positional:
        inner = active.ops[1:-1]
        present = [inner == op for op in interior_ops(graphs.vocabulary)]
        groups["slots"] = np.concatenate(present).astype(np.float32)
    if has_numbers(graphs):
        groups |= _numbers(active, graphs)
    return groups


def _numbers(active: ActiveSubgraphs, graphs: GraphBatch) -> Mapping[str, Floats]:
    """Return sums, means and largest over the nodes (4 D, B), and each by place."""
    values = node_numbers(graphs).transpose(1, 2, 0) * active.active[:, None]
    inner = values[1:-1]
    means = inner.sum(0) / np.maximum(active.active[1:-1].sum(0), 1)
    groups = {"numbers": np.concatenate([values.sum(0), means, values.max(0), values[0]])}
    if graphs.positional:
        groups["profile"] = np.concatenate(_smoothed(inner))
        groups["places"] = np.concatenate(inner)
    return groups


def _smoothed(values: Floats) -> Floats:
    """Return (R, D, B) for values (N, D, B): means over overlapping windows along the nodes.

    What a number does changes but slowly from node to node along a chain.
    """
    places = (np.arange(len(values)) + 0.5) / max(len(values), 1)
    centres = (np.arange(_WINDOWS) + 0.5) / _WINDOWS
    weights = np.exp(-(((places - centres[:, None]) * _WINDOWS) ** 2) / 2)
    weights /= weights.sum(1, keepdims=True)
    smoothed: Floats = np.tensordot(weights.astype(np.float32), values, axes=1)
    return smoothed


_Maker = Callable[[ActiveSubgraphs, GraphBatch], tuple[Floats, ...]]
_MAKERS: tuple[tuple[tuple[str, ...], _Maker], ...] = (
    (("count",), lambda active, graphs: (_counts(active),)),
    (("edges",), lambda active, graphs: (edge_counts(active),)),
    (("cost",), lambda active, graphs: (_costs(active, graphs),)),
    (("width",), lambda active, graphs: (_widths(active),)),
    (("paths",), lambda active, graphs: (path_features(active),)),
    (("subsets",), lambda active, graphs: (subset_features(active),)),
    (("extremes",), lambda active, graphs: (extreme_path_features(active),)),
    (("walks", "flows"), lambda active, graphs: walk_features(active)),
    (("depth",), lambda active, graphs: (_depths(active),)),
    (("differences", "modes"), lambda active, graphs: depth_features(active, graphs)),
    (("gradients",), lambda active, graphs: (gradient_features(active, graphs),)),
)

features = Encoding(graph_features)
