"""Random walks through the active subgraph: which operations does a typical path meet?

Four weightings of the paths: all alike; a walk back from the output that takes each incoming
edge alike; the same, but the last step in proportion to the channels that arrive over it; and a
walk forth from the input that takes each outgoing edge alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.active_subgraph import ActiveSubgraphs
from nasplatform.encodings.path_statistics import MOST

Floats = NDArray[np.floating[Any]]
_UNCROWDED = 60  # nodes up to which fewer than ``MOST`` paths lead: each has twice as many
OnEdges = Sequence[Floats] | Floats  # (..., B) for each of the P ``pairs``


def walk_features(graphs: ActiveSubgraphs) -> tuple[Floats, Floats]:
    """Return statistics of the walks (4 (3 T + 1), B) and flows on edges (4 (K + 1)^2, B).

    Statistics of a weighting: mean and standard deviation of the counts of each set of
    operations, weight of the paths without it, entropy. Flows: the expected number of times that
    a path takes an edge from one operation to another, input and output among them.
    """
    weights = _weightings(graphs)
    statistics = _statistics(graphs, weights, graphs.op_counts)
    flows = _flows(graphs, _traffic(graphs, weights), (4,))
    return np.concatenate(statistics), np.concatenate(flows)


def edge_counts(graphs: ActiveSubgraphs) -> Floats:
    """Return ((K + 1)^2, B): number of edges by operations of their two ends.

    The first source is the input, the last target the output.
    """
    return _flows(graphs, [graphs.edges[pair] for pair in graphs.pairs], ())


def _flows(graphs: ActiveSubgraphs, traffic: OnEdges, lead: tuple[int, ...]) -> Floats:
    """Return (*lead, (K + 1)^2, B): traffic (*lead, B) summed by operations, as ``edge_counts``."""
    k, n, b = graphs.has.shape
    sums = np.zeros((*lead, k + 1, k + 1, b), np.float32)
    for j, pairs in enumerate(graphs.pairs_into):
        if not pairs:
            continue
        arriving = np.zeros((*lead, k + 1, b), np.float32)
        for i, pair in pairs:
            taken = traffic[pair]
            if i == 0:
                arriving[..., 0, :] += taken
            else:
                arriving[..., 1:, :] += graphs.has[:, i] * taken[..., None, :]
        if j == n - 1:
            sums[..., k, :] += arriving
        else:
            sums[..., :k, :] += arriving[..., None, :] * graphs.has[:, j]
    return sums.reshape(*lead, (k + 1) ** 2, b)


def _weightings(graphs: ActiveSubgraphs) -> Floats:
    """Return (P, 4, B): the factor that each edge puts on a path."""
    edges, (sources, targets) = graphs.edges, _ends(graphs)
    entering, leaving = np.maximum(edges.sum(0), 1), np.maximum(edges.sum(1), 1)
    widths = edges[:, -1] * graphs.shares
    all_widths = np.maximum(widths.sum(0), np.float32(1e-6))
    taken = edges[sources, targets]
    weights = np.empty((len(taken), 4, edges.shape[2]), np.float32)
    weights[:, 0] = taken
    weights[:, 1] = weights[:, 2] = taken / entering[targets]
    last = targets == len(edges) - 1
    weights[last, 2] = widths[sources[last]] / all_widths
    weights[:, 3] = taken / leaving[sources]
    return weights


def _ends(graphs: ActiveSubgraphs) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the sources and the targets (P,) of the ``pairs``."""
    sources, targets = np.array(graphs.pairs, np.intp).reshape(-1, 2).T
    return sources, targets


def _statistics(graphs: ActiveSubgraphs, weights: Floats, found: Floats) -> Floats:
    """Return (4, 3 T + 1, B) for four weights of the edges and op counts (T, N, B).

    What is known of the paths to a node are rows of one array (4, 1 + 3 T, B), since they are
    added alike: mass, sums of counts and of their squares, mass of the paths without each set.
    """
    (t, n, b), lead = found.shape, 4
    first, second, without = slice(1, 1 + t), slice(1 + t, 1 + 2 * t), slice(1 + 2 * t, None)
    start: Floats = np.zeros((lead, 1 + 3 * t, b), np.float32)
    start[:, 0] = start[:, without] = 1
    known, entropy = [start], [np.zeros_like(start[:, 0])]
    logarithms = np.where(weights > 0, weights, 1)
    np.log(logarithms, out=logarithms)
    for j in range(1, n):
        rows: Floats = np.zeros(start.shape, np.float32)
        surprise: Floats = np.zeros((lead, b), np.float32)
        for i, pair in graphs.pairs_into[j]:
            w = weights[pair]
            rows += w[:, None] * known[i]
            surprise += w * (entropy[i] - known[i][:, 0] * logarithms[pair])
        if j < n - 1:
            here, mass = found[:, j], rows[:, :1]
            rows[:, second] += here * (2 * rows[:, first] + mass)
            rows[:, first] += here * mass
            rows[:, without] *= 1 - here
        if j > _UNCROWDED and rows[:, 0].max(initial=0) > MOST:
            scale = np.minimum(1, MOST / np.maximum(rows[:, 0], 1))
            rows, surprise = rows * scale[:, None], surprise * scale
        known.append(rows)
        entropy.append(surprise)
    total = np.maximum(known[-1][:, :1], np.float32(1e-6))
    mean, squares, rest = (known[-1][:, rows] / total for rows in (first, second, without))
    spread = np.sqrt(np.maximum(squares - mean**2, 0))
    uncertain = entropy[-1][:, None] / total + np.log(total)
    return np.concatenate([mean, spread, rest, uncertain], axis=1)


def _traffic(graphs: ActiveSubgraphs, weights: Floats) -> Floats:
    """Return (P, 4, B): share of the paths, by weight, that take each edge."""
    n, _, b = graphs.edges.shape
    ahead, behind = np.zeros((2, n, 4, b), np.float32)
    ahead[0] = behind[n - 1] = 1
    for j in range(1, n):
        for i, pair in graphs.pairs_into[j]:
            ahead[j] += weights[pair] * ahead[i]
        np.minimum(ahead[j], MOST, out=ahead[j])
    for j in range(n - 1, 0, -1):
        np.minimum(behind[j], MOST, out=behind[j])
        for i, pair in graphs.pairs_into[j]:
            behind[i] += weights[pair] * behind[j]
    total = np.maximum(ahead[n - 1], np.float32(1e-6))
    sources, targets = _ends(graphs)
    shares: Floats = ahead[sources]
    shares *= weights
    shares *= behind[targets]
    shares /= total
    return shares
