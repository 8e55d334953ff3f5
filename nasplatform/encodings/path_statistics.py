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

from nasplatform.encodings.active_subgraph import FAR, ActiveSubgraphs

Floats = NDArray[np.floating[Any]]
MOST = np.float32(1e18)  # paths beyond it are not counted: their number doubles with each node


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
    most, least = (best[-1] for best in graphs.derived(extreme_counts))
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
    inside = graphs.within(sets)
    count = _sweep_sums(graphs, inside)[inside.shape[1] - 1]
    # Outside its set a node is infinitely far: no longest or shortest path runs through it.
    apart = (1 - inside) * FAR
    most, least = _sweep_extremes(graphs, inside - apart, inside + apart)
    longest, shortest = np.maximum(most[-1], -1), np.minimum(least[-1], inside.shape[1])
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


def _sweep_sums(graphs: ActiveSubgraphs, through: Floats) -> list[Floats]:
    """Return node -> (R, B): weighted number of paths from the input through allowed nodes."""
    n = len(graphs.edges)
    reached = [np.ones_like(through[:, 0])]
    for j in range(1, n):
        here = np.zeros(reached[0].shape, np.float32)
        for i in graphs.sources[j]:
            here += graphs.edges[i, j] * reached[i]
        if j < n - 1:
            here *= through[:, j]
        reached.append(np.minimum(here, MOST, out=here))
    return reached


def _sweep_means(graphs: ActiveSubgraphs, found: Floats, ways: list[Floats]) -> Floats:
    """Return (R, B): sums over all paths of what they hold; ways[j][0]: paths to node j."""
    n = len(graphs.edges)
    total = [np.zeros_like(found[:, 0])]
    for j in range(1, n):
        here = found[:, j] * ways[j][0]
        for i in graphs.sources[j]:
            here += graphs.edges[i, j] * total[i]
        total.append(np.minimum(here, n * MOST, out=here))
    return total[-1]


def extreme_counts(graphs: ActiveSubgraphs) -> tuple[list[Floats], list[Floats]]:
    """Return (T, B) for each node: the most and the fewest of ``op_counts`` on a way to it."""
    return _sweep_extremes(graphs, graphs.op_counts, graphs.op_counts)


def _sweep_extremes(
    graphs: ActiveSubgraphs, most: Floats, least: Floats
) -> tuple[list[Floats], list[Floats]]:
    """Return (R, B) for each node: largest sum of ``most``, smallest of ``least`` on its paths."""
    n = len(graphs.edges)
    found = np.concatenate([most, -least])  # the smallest sum is the largest of the negatives
    best = [np.zeros_like(found[:, 0])]
    nowhere = np.full_like(best[0], -FAR)
    for j in range(1, n):
        here = nowhere.copy()
        for i in graphs.sources[j]:
            np.maximum(here, best[i] - graphs.detours[i, j], out=here)
        if j < n - 1:
            here += found[:, j]
        best.append(here)
    return [rows[: len(most)] for rows in best], [-rows[len(most) :] for rows in best]


def _longest(graphs: ActiveSubgraphs, found: Floats) -> tuple[Floats, Floats]:
    """Return lengths (2, B) of the longest and of the shortest paths, mean counts (2, T, B)."""
    n, (t, _, b) = len(graphs.edges), found.shape
    sign = np.array([[1], [-1]], np.float32)
    limits = np.full((1 + t, 1), n * MOST)
    limits[0] = MOST
    length = [np.zeros((2, b), np.float32)]
    known = [np.zeros((2, 1 + t, b), np.float32)]  # number of paths, then counts on all of them
    known[0][:, 0] = 1
    nowhere = np.full((2, b), -FAR)
    for j in range(1, n):
        before = graphs.sources[j]
        options = [np.where(graphs.edges[i, j] > 0, length[i] + sign, -FAR) for i in before]
        best = nowhere.copy()
        for option in options:
            np.maximum(best, option, out=best)
        here = np.zeros(known[0].shape, np.float32)
        for i, option in zip(before, options, strict=True):
            here += ((option == best) * graphs.edges[i, j])[:, None] * known[i]
        here[:, 1:] += found[:, j] * here[:, :1]
        length.append(best)
        known.append(np.minimum(here, limits, out=here))
    ways, counts = known[-1][:, 0], known[-1][:, 1:]
    steps = np.where(ways > 0, sign * length[-1] - 1, -1).astype(np.float32)
    return steps, counts / np.maximum(ways, 1)[:, None]
