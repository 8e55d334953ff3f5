"""Random walks through the active subgraph: which operations does a typical path meet?

Four weightings of the paths: all alike; a walk back from the output that takes each incoming
edge alike; the same, but the last step in proportion to the channels that arrive over it; and a
walk forth from the input that takes each outgoing edge alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.active_subgraph import ActiveSubgraphs

Floats = NDArray[np.floating[Any]]


def walk_features(graphs: ActiveSubgraphs) -> tuple[Floats, Floats]:
    """Return statistics of the walks (4 (3 T + 1), B) and flows on edges (4 (K + 1)^2, B).

    Statistics of a weighting: mean and standard deviation of the counts of each set of
    operations, weight of the paths without it, entropy. Flows: the expected number of times that
    a path takes an edge from one operation to another, input and output among them.
    """
    weights = _weightings(graphs)
    statistics = _statistics(graphs, weights, graphs.op_counts)
    flows = edge_flows(graphs, _traffic(graphs, weights))
    return np.concatenate(statistics), np.concatenate(flows)


def edge_flows(graphs: ActiveSubgraphs, traffic: Floats) -> Floats:
    """Return (..., (K + 1)^2, B): traffic (..., N, N, B) summed by operations of its two ends.

    The first source is the input, the last target the output.
    """
    k, n, b = graphs.has.shape
    lead = traffic.shape[:-3]
    sums = np.zeros((*lead, k + 1, k + 1, b), np.float32)
    for j in range(1, n):
        if not graphs.sources[j]:
            continue
        arriving = np.zeros((*lead, k + 1, b), np.float32)
        for i in graphs.sources[j]:
            taken = traffic[..., i, j, :]
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
    """Return (4, N, N, B): the factor that an edge puts on a path."""
    edges = graphs.edges
    backward = edges / np.maximum(edges.sum(0), 1)
    by_width = backward.copy()
    arriving = edges[:, -1] * graphs.shares
    by_width[:, -1] = arriving / np.maximum(arriving.sum(0), np.float32(1e-6))
    forward = edges / np.maximum(edges.sum(1)[:, None], 1)
    return np.stack([edges, backward, by_width, forward])


def _statistics(graphs: ActiveSubgraphs, weights: Floats, found: Floats) -> Floats:
    """Return (4, 3 T + 1, B) for weights (4, N, N, B) and op counts (T, N, B).

    What is known of the paths to a node are rows of one array (4, 1 + 3 T, B), since they are
    added alike: mass, sums of counts and of their squares, mass of the paths without each set.
    """
    (t, n, b), lead = found.shape, weights.shape[0]
    first, second, without = slice(1, 1 + t), slice(1 + t, 1 + 2 * t), slice(1 + 2 * t, None)
    logs = np.log(np.where(weights > 0, weights, 1))
    start: Floats = np.zeros((lead, 1 + 3 * t, b), np.float32)
    start[:, 0] = start[:, without] = 1
    known, entropy = [start], [np.zeros_like(start[:, 0])]
    for j in range(1, n):
        rows, surprise = np.zeros_like(start), np.zeros_like(entropy[0])
        for i in graphs.sources[j]:
            w = weights[:, i, j]
            rows += w[:, None] * known[i]
            surprise += w * (entropy[i] - known[i][:, 0] * logs[:, i, j])
        if j < n - 1:
            here, mass = found[:, j], rows[:, :1]
            rows[:, second] += here * (2 * rows[:, first] + mass)
            rows[:, first] += here * mass
            rows[:, without] *= 1 - here
        known.append(rows)
        entropy.append(surprise)
    total = np.maximum(known[-1][:, :1], np.float32(1e-6))
    mean, squares, rest = (known[-1][:, rows] / total for rows in (first, second, without))
    spread = np.sqrt(np.maximum(squares - mean**2, 0))
    surprise = entropy[-1][:, None] / total + np.log(total)
    return np.concatenate([mean, spread, rest, surprise], axis=1)


def _traffic(graphs: ActiveSubgraphs, weights: Floats) -> Floats:
    """Return (4, N, N, B): share of the paths, by weight, that take each edge."""
    lead, n, _, b = weights.shape
    ahead, behind = np.zeros((2, n, lead, b), np.float32)
    ahead[0] = behind[n - 1] = 1
    for j in range(1, n):
        for i in graphs.sources[j]:
            ahead[j] += weights[:, i, j] * ahead[i]
    for j in range(n - 1, 0, -1):
        for i in graphs.sources[j]:
            behind[i] += weights[:, i, j] * behind[j]
    total = np.maximum(ahead[n - 1], np.float32(1e-6))
    traffic = np.zeros_like(weights)
    for i, j in graphs.pairs:
        traffic[:, i, j] = ahead[i] * weights[:, i, j] * behind[j] / total
    return traffic
