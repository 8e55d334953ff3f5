"""Random walks through the live graph: which operations does a typical path meet?

Four weightings of the paths: all alike; a walk back from the output that takes each incoming
edge alike; the same, but the last step in proportion to the channels that arrive over it; and a
walk forth from the input that takes each outgoing edge alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.live import LiveGraphs
from nasplatform.encodings.path_statistics import tallies

Floats = NDArray[np.floating[Any]]


def walk_features(graphs: LiveGraphs) -> tuple[Floats, Floats]:
    """Return statistics of the walks (4 (3 T + 1), B) and flows on edges (4 (K + 1)^2, B).

    Statistics of a weighting: mean and standard deviation of the counts of each set of
    operations, weight of the paths without it, entropy. Flows: the expected number of times that
    a path takes an edge from one operation to another, input and output among them.
    """
    found = tallies(graphs)
    statistics, flows = [], []
    for weights in _weightings(graphs):
        statistics.append(_statistics(graphs, weights, found))
        flows.append(edge_flows(graphs, _traffic(graphs, weights)))
    return np.concatenate(statistics), np.concatenate(flows)


def edge_flows(graphs: LiveGraphs, traffic: dict[tuple[int, int], Floats]) -> Floats:
    """Return ((K + 1)^2, B): traffic (pair -> (B,)) summed by operations of source and target.

    The first source is the input, the last target the output.
    """
    k, n, b = graphs.has.shape
    sums = np.zeros((k + 1, k + 1, b), np.float32)
    for j in sorted({j for _, j in traffic}):
        arriving = np.zeros((k + 1, b), np.float32)
        for i in (i for i, target in traffic if target == j):
            if i == 0:
                arriving[0] += traffic[i, j]
            else:
                arriving[1:] += graphs.has[:, i] * traffic[i, j]
        if j == n - 1:
            sums[:, k] += arriving
        else:
            sums[:, :k] += arriving[:, None] * graphs.has[:, j]
    return sums.reshape(-1, b)


def _weightings(graphs: LiveGraphs) -> list[Floats]:
    """Return four arrays (N, N, B): the factor that an edge puts on a path."""
    edges = graphs.edges
    backward = edges / np.maximum(edges.sum(0), 1)
    by_width = backward.copy()
    arriving = edges[:, -1] * graphs.shares
    by_width[:, -1] = arriving / np.maximum(arriving.sum(0), np.float32(1e-6))
    forward = edges / np.maximum(edges.sum(1)[:, None], 1)
    return [edges, backward, by_width, forward]


def _statistics(graphs: LiveGraphs, weights: Floats, found: Floats) -> Floats:
    t, n, b = found.shape
    mass = {0: np.ones(b, np.float32)}
    first, second, entropy = {0: np.zeros((t, b), np.float32)}, {}, {0: np.zeros(b, np.float32)}
    second[0] = first[0]
    without = {0: np.ones((t, b), np.float32)}
    for j in range(1, n):
        mass[j], entropy[j] = np.zeros_like(mass[0]), np.zeros_like(mass[0])
        first[j], second[j] = np.zeros_like(first[0]), np.zeros_like(first[0])
        without[j] = np.zeros_like(first[0])
        for i in graphs.sources[j]:
            w = weights[i, j]
            mass[j] += w * mass[i]
            entropy[j] += w * (entropy[i] - mass[i] * np.log(np.where(w > 0, w, 1)))
            first[j] += w * first[i]
            second[j] += w * second[i]
            without[j] += w * without[i]
        if j < n - 1:
            second[j] += found[:, j] * (2 * first[j] + mass[j])
            first[j] += found[:, j] * mass[j]
            without[j] *= 1 - found[:, j]
    total = np.maximum(mass[n - 1], np.float32(1e-6))
    mean = first[n - 1] / total
    spread = np.sqrt(np.maximum(second[n - 1] / total - mean**2, 0))
    surprise = entropy[n - 1] / total + np.log(total)
    return np.concatenate([mean, spread, without[n - 1] / total, surprise[None]])


def _traffic(graphs: LiveGraphs, weights: Floats) -> dict[tuple[int, int], Floats]:
    """Return pair -> (B,): share of the paths, by weight, that take the edge."""
    n, _, b = weights.shape
    ahead = {0: np.ones(b, np.float32)}
    behind = {n - 1: np.ones(b, np.float32)}
    for j in range(1, n):
        ahead[j] = np.zeros(b, np.float32)
        for i in graphs.sources[j]:
            ahead[j] += weights[i, j] * ahead[i]
    for i in range(n - 2, -1, -1):
        behind[i] = np.zeros(b, np.float32)
    for j in range(n - 1, 0, -1):
        for i in graphs.sources[j]:
            behind[i] += weights[i, j] * behind[j]
    total = np.maximum(ahead[n - 1], np.float32(1e-6))
    return {(i, j): ahead[i] * weights[i, j] * behind[j] / total for i, j in graphs.pairs}
