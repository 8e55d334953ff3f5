"""Statistics over all paths from the input to the output, without listing the paths.

Every statistic is a sweep over the nodes in topological order: what is known of the paths that
end in a node follows from what is known of those that end in its predecessors. A node of a graph
is a row of length B, so that one sweep serves all architectures.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.active_subgraph import ActiveSubgraphs

Floats = NDArray[np.floating[Any]]
MOST = np.float32(1e18)  # paths beyond it are not counted: their number doubles with each node
_FAR = np.float32(1e6)  # stands for minus or plus infinity in sweeps of maxima and minima


def path_features(graphs: ActiveSubgraphs) -> Floats:
    """Return (F, B): number of paths, and extremes and means over them of what they hold.

    Rows: number, log1p number; for each set of operations the largest, smallest and mean count
    on a path; for each the number of paths without it; whether input and output are joined.
    """
    found = graphs.op_counts
    n = found.shape[1]
    ways = _sweep_sums(graphs, np.concatenate([np.ones_like(found[:1]), 1 - found]))
    paths, without = ways[n - 1][:1], ways[n - 1][1:]
    total = _sweep_means(graphs, found, ways)
    most, least = _sweep_extremes(graphs, found, found)
    direct = graphs.edges[0, -1][None]
    mean = total / np.maximum(paths, 1)
    some = paths > 0
    most, least = most * some, least * some
    return np.concatenate([paths, np.log1p(paths), most, least, mean, without, direct])


def subset_features(graphs: ActiveSubgraphs) -> Floats:
    """Return (7 Q, B): for each set of one or two operations the paths and degrees inside it.

    Rows for each of the Q sets: number, shortest and longest of the paths that hold nothing else
    (0, N and -1 where there is none), nodes that feed the output, nodes that the input feeds,
    and the sums of in- and outdegrees.
    """
    k = len(graphs.classes)
    sets = [*combinations(range(k), 1), *combinations(range(k), 2)]
    inside = np.stack([graphs.has[list(chosen)].sum(0) for chosen in sets])
    count = _sweep_sums(graphs, inside)[inside.shape[1] - 1]
    # Outside its set a node is infinitely far: no longest or shortest path runs through it.
    apart = (1 - inside) * _FAR
    longest, shortest = _sweep_extremes(graphs, inside - apart, inside + apart)
    longest = np.maximum(longest, -1)
    shortest = np.minimum(shortest, inside.shape[1])
    leaving, entering = graphs.edges.sum(1), graphs.edges.sum(0)
    return np.concatenate(
        [
            count,
            shortest,
            longest,
            (inside * graphs.edges[:, -1]).sum(1),
            (inside * graphs.edges[0]).sum(1),
            (inside * entering).sum(1),
            (inside * leaving).sum(1),
        ]
    )


def extreme_path_features(graphs: ActiveSubgraphs) -> Floats:
    """Return (2 T + 2, B): mean counts on the longest and on the shortest paths, both lengths."""
    lengths, counts = _longest(graphs, graphs.op_counts)
    return np.concatenate([counts[0], lengths[:1], counts[1], lengths[1:]])


def _sweep_sums(graphs: ActiveSubgraphs, through: Floats) -> dict[int, Floats]:
    """Return node -> (R, B): weighted number of paths from the input through allowed nodes."""
    n = len(graphs.edges)
    reached = {0: np.ones_like(through[:, 0])}
    for j in range(1, n):
        reached[j] = np.zeros_like(reached[0])
        for i in graphs.sources[j]:
            reached[j] += graphs.edges[i, j] * reached[i]
        if j < n - 1:
            reached[j] *= through[:, j]
        np.minimum(reached[j], MOST, out=reached[j])
    return reached


def _sweep_means(graphs: ActiveSubgraphs, found: Floats, ways: dict[int, Floats]) -> Floats:
    """Return (R, B): sums over all paths of what they hold; ways[j][0]: paths to node j."""
    n = len(graphs.edges)
    total = {0: np.zeros_like(found[:, 0])}
    for j in range(1, n):
        total[j] = found[:, j] * ways[j][0]
        for i in graphs.sources[j]:
            total[j] += graphs.edges[i, j] * total[i]
        np.minimum(total[j], n * MOST, out=total[j])
    return total[n - 1]


def _sweep_extremes(graphs: ActiveSubgraphs, most: Floats, least: Floats) -> tuple[Floats, Floats]:
    """Return two (R, B): the largest sum of ``most`` and the smallest of ``least`` on a path."""
    n = len(graphs.edges)
    found = np.concatenate([most, -least])  # the smallest sum is the largest of the negatives
    best = {0: np.zeros_like(found[:, 0])}
    for j in range(1, n):
        best[j] = np.full_like(best[0], -_FAR)
        for i in graphs.sources[j]:
            np.maximum(best[j], best[i] - (1 - graphs.edges[i, j]) * _FAR, out=best[j])
        if j < n - 1:
            best[j] += found[:, j]
    return best[n - 1][: len(most)], -best[n - 1][len(most) :]


def _longest(graphs: ActiveSubgraphs, found: Floats) -> tuple[Floats, Floats]:
    """Return lengths (2, B) of the longest and of the shortest paths, mean counts (2, T, B)."""
    n, (t, _, b) = len(graphs.edges), found.shape
    sign = np.array([[1], [-1]], np.float32)
    length = {0: np.zeros((2, b), np.float32)}
    ways = {0: np.ones((2, b), np.float32)}
    counts = {0: np.zeros((2, t, b), np.float32)}
    for j in range(1, n):
        before = graphs.sources[j]
        options = [np.where(graphs.edges[i, j] > 0, length[i] + sign, -_FAR) for i in before]
        length[j] = np.full((2, b), -_FAR)
        for option in options:
            np.maximum(length[j], option, out=length[j])
        ways[j], counts[j] = np.zeros_like(ways[0]), np.zeros_like(counts[0])
        for i, option in zip(before, options, strict=True):
            chosen = (option == length[j]) * graphs.edges[i, j]
            ways[j] += chosen * ways[i]
            counts[j] += chosen[:, None] * counts[i]
        counts[j] += found[:, j] * ways[j][:, None]
        np.minimum(ways[j], MOST, out=ways[j])
        np.minimum(counts[j], n * MOST, out=counts[j])
    some = ways[n - 1] > 0
    steps = np.where(some, sign * length[n - 1] - 1, -1).astype(np.float32)
    return steps, counts[n - 1] / np.maximum(ways[n - 1], 1)[:, None]
