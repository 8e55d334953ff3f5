"""Sweeps over all architectures at once, against a slow walk over the paths of each."""

import itertools
import math
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from nasplatform.encodings.active_subgraph import ActiveSubgraphs, active_subgraphs, operation_sets
from nasplatform.encodings.cache import columns_of, features_of
from nasplatform.encodings.graph_features import feature_groups, graph_features
from nasplatform.encodings.path_statistics import (
    extreme_path_features,
    path_features,
    subset_features,
)
from nasplatform.encodings.random_walks import walk_features
from nasplatform.spaces import GraphBatch, get_space


@dataclass
class Slow:
    """One architecture, by recursion."""

    edges: list[list[bool]]
    ops: list[int]
    shares: list[float]
    sets: list[list[int]]

    @property
    def paths(self) -> list[list[int]]:
        def onward(node: int) -> list[list[int]]:
            if node == len(self.ops) - 1:
                return [[node]]
            ends = [j for j in range(len(self.ops)) if self.edges[node][j]]
            return [[node, *rest] for j in ends for rest in onward(j)]

        return onward(0)

    def tally(self, path: list[int]) -> list[int]:
        return [sum(self.ops[v] in chosen for v in path[1:-1]) for chosen in self.sets]


def slow(graphs: GraphBatch, row: int) -> Slow:
    """Cut dead nodes by listing the paths, without the package's help."""
    vocabulary = graphs.vocabulary
    dead = [op < 0 or vocabulary[op].kind == "zero" for op in graphs.ops[row]]
    raw = [
        [bool(e) and not dead[i] and not dead[j] for j, e in enumerate(line)]
        for i, line in enumerate(graphs.adjacency[row])
    ]
    channels = graphs.channels[row, 0]
    first = Slow(raw, graphs.ops[row].tolist(), [], [])
    used = {(a, b) for path in first.paths for a, b in itertools.pairwise(path)}
    n = graphs.n_nodes
    active = active_subgraphs(graphs[:1])
    return Slow(
        [[(i, j) in used for j in range(n)] for i in range(n)],
        graphs.ops[row].tolist(),
        [float(c) / float(channels[-1]) for c in channels],
        [
            [op for k in s for op in active.classes[k]]
            for s in operation_sets(vocabulary, active.classes)
        ],
    )


@pytest.fixture(scope="module")
def active(some_graphs: GraphBatch) -> ActiveSubgraphs:
    return active_subgraphs(some_graphs)


def test_active_edges_are_those_on_paths(some_graphs: GraphBatch, active: ActiveSubgraphs) -> None:
    for row in range(len(some_graphs)):
        assert (active.edges[:, :, row] > 0).tolist() == slow(some_graphs, row).edges


def test_path_features(some_graphs: GraphBatch, active: ActiveSubgraphs) -> None:
    fast = path_features(active)
    for row in range(len(some_graphs)):
        cell = slow(some_graphs, row)
        counts = np.array([cell.tally(p) for p in cell.paths]).reshape(-1, len(cell.sets))
        if not len(counts):
            assert not fast[:, row].any()
            continue
        extremes = [counts.max(0), counts.min(0), counts.mean(0), (counts == 0).sum(0)]
        expected = [len(counts), np.log1p(len(counts)), *np.concatenate(extremes)]
        np.testing.assert_allclose(fast[:-1, row], expected, rtol=1e-5, atol=1e-5)
        assert fast[-1, row] == cell.edges[0][-1]


def test_subset_features_count_paths_inside_a_set(
    some_graphs: GraphBatch, active: ActiveSubgraphs
) -> None:
    fast = subset_features(active)
    k = len(active.classes)
    singles = [set(ops) for ops in active.classes]
    sets = [*singles, *(a | b for i, a in enumerate(singles) for b in singles[i + 1 :])]
    assert len(fast) == 7 * (k + k * (k - 1) // 2)
    for row in range(0, len(some_graphs), 3):
        cell = slow(some_graphs, row)
        inside = [[p for p in cell.paths if {cell.ops[v] for v in p[1:-1]} <= s] for s in sets]
        lengths = [[len(p) - 2 for p in found] for found in inside]
        blocks = fast[:, row].reshape(7, len(sets))
        assert blocks[0].tolist() == [len(found) for found in inside]
        assert blocks[1].tolist() == [min(found, default=len(cell.ops)) for found in lengths]
        assert blocks[2].tolist() == [max(found, default=-1) for found in lengths]


def test_extreme_path_features(some_graphs: GraphBatch, active: ActiveSubgraphs) -> None:
    fast = extreme_path_features(active)
    for row in range(len(some_graphs)):
        cell = slow(some_graphs, row)
        if not cell.paths:
            continue
        expected: list[float] = []
        for extreme in (max, min):
            length = extreme(len(p) for p in cell.paths)
            found = np.array([cell.tally(p) for p in cell.paths if len(p) == length])
            expected += [*found.mean(0), length - 2]
        np.testing.assert_allclose(fast[:, row], expected, rtol=1e-5)


def path_weights(cell: Slow) -> list[np.ndarray]:
    """The weight of each path by the four weightings, one factor for each edge."""
    n = len(cell.ops)
    into = [sum(cell.edges[i][j] for i in range(n)) for j in range(n)]
    out_of = [sum(cell.edges[i]) for i in range(n)]
    arriving = sum(cell.shares[i] for i in range(n) if cell.edges[i][-1])

    def backward(a: int, b: int) -> float:
        return 1 / into[b]

    def by_width(a: int, b: int) -> float:
        return cell.shares[a] / arriving if b == n - 1 else backward(a, b)

    factors = (lambda a, b: 1.0, backward, by_width, lambda a, b: 1 / out_of[a])
    return [
        np.array([math.prod(factor(a, b) for a, b in itertools.pairwise(p)) for p in cell.paths])
        for factor in factors
    ]


def test_walks_are_weighted_paths(some_graphs: GraphBatch, active: ActiveSubgraphs) -> None:
    statistics, flows = walk_features(active)
    for row in range(0, len(some_graphs), 2):
        cell = slow(some_graphs, row)
        if not cell.paths:
            continue
        counts = np.array([cell.tally(p) for p in cell.paths])
        blocks = np.split(statistics[:, row], 4)
        for weight, found in zip(path_weights(cell), blocks, strict=True):
            share = weight / weight.sum()
            mean = share @ counts
            spread = np.sqrt(np.maximum(share @ counts**2 - mean**2, 0))
            expected = [*mean, *spread, *(share @ (counts == 0)), -(share @ np.log(share))]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)
    # A path takes one edge into the output, whatever its weighting.
    k = len(active.classes) + 1
    arriving = flows.reshape(4, k, k, -1)[:, :, -1].sum(1)
    np.testing.assert_allclose(arriving[:, active.active.sum(0) > 2], 1, rtol=1e-4)


def test_rows_do_not_depend_on_the_batch(some_graphs: GraphBatch) -> None:
    whole = graph_features(some_graphs)
    alone = np.concatenate([graph_features(some_graphs[i : i + 1]) for i in range(0, 20)])
    np.testing.assert_allclose(whole[:20], alone, rtol=1e-4, atol=1e-4)
    assert np.isfinite(whole).all()


def test_isomorphic_cells_have_equal_features() -> None:
    space = get_space("nasbench101")
    # The same cell with its two branches in another order; both feed a third vertex.
    one = space.parse("[3M1]1100/010/10/1")
    other = space.parse("[M31]1100/010/10/1")
    assert one == other
    features = graph_features(space.graphs(space.population([one, other])))
    np.testing.assert_allclose(features[0], features[1], rtol=1e-4, atol=1e-4)


def test_slots_are_features_only_where_they_have_names(some_graphs: GraphBatch) -> None:
    assert ("slots" in feature_groups(some_graphs)) == some_graphs.positional


def test_features_are_remembered_while_the_batch_lives(some_graphs: GraphBatch) -> None:
    batch = some_graphs[:5]
    first = features_of(batch)
    assert features_of(batch) is first
    assert features_of(some_graphs[:5]) is not first
    np.testing.assert_array_equal(first.values, graph_features(batch))


def test_features_go_with_their_batch() -> None:
    """Nothing but the batch holds them, so that they are gone with it."""
    space = get_space("nasbench101")
    batch = space.graphs(space.sample(5, np.random.default_rng(0)))
    known = weakref.ref(features_of(batch))
    assert known() is not None
    del batch
    assert known() is None


def test_threads_compute_a_group_once(
    some_graphs: GraphBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[set[str]] = []

    def watched(graphs: GraphBatch, without: set[str] = frozenset()) -> dict[str, np.ndarray]:
        time.sleep(0.02)  # time for the others to ask as well
        groups = feature_groups(graphs, without)
        made.append(set(groups))
        return groups

    whole = features_of(some_graphs)
    monkeypatch.setattr("nasplatform.encodings.cache.feature_groups", watched)
    batch = some_graphs[:]
    halves = np.array_split(np.arange(whole.values.shape[1]), 2)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda turn: columns_of(batch, halves[turn % 2]), range(8)))
    for turn, values in enumerate(found):
        np.testing.assert_array_equal(values, whole.values[:, halves[turn % 2]])
    assert sum(map(len, made)) == len(whole.names)  # none of them twice


def test_some_columns_are_those_of_all_and_cost_only_their_groups(
    some_graphs: GraphBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = features_of(some_graphs)
    made: list[set[str]] = []

    def watched(graphs: GraphBatch, without: set[str] = frozenset()) -> dict[str, np.ndarray]:
        groups = feature_groups(graphs, without)
        made.append(set(groups))
        return groups

    monkeypatch.setattr("nasplatform.encodings.cache.feature_groups", watched)
    for wanted in (["count"], ["walks", "count"], [whole.names[-1]], list(whole.names)):
        batch = some_graphs[:]
        inside = np.isin(whole.group, [whole.names.index(name) for name in wanted])
        columns = np.flatnonzero(inside)[::2]
        for _ in range(2):
            found = columns_of(batch, columns)
            np.testing.assert_array_equal(found, whole.values[:, columns])
        found += 1  # belongs to the caller
        np.testing.assert_array_equal(columns_of(batch, columns), whole.values[:, columns])
        assert made == [{whole.names[group] for group in whole.group[columns]}]
        made.clear()


def _features_of_one(cell: Slow) -> list[float]:
    """What ``path_features`` says, the plain way, for the comparison of speeds."""
    counts = [cell.tally(p) for p in cell.paths]
    columns = list(zip(*counts, strict=True)) or [(0,)] * len(cell.sets)
    found: list[float] = [len(counts)]
    for column in columns:
        found += [max(column), min(column), sum(column) / len(column)]
    return found


def test_speed_vectorised(benchmark, some_graphs: GraphBatch) -> None:  # type: ignore[no-untyped-def]
    many = some_graphs[np.arange(8192) % len(some_graphs)]
    active = active_subgraphs(many)
    benchmark(path_features, active)


def test_speed_one_by_one(benchmark, some_graphs: GraphBatch) -> None:  # type: ignore[no-untyped-def]
    cells = [slow(some_graphs, row) for row in np.arange(8192) % len(some_graphs)]
    benchmark.pedantic(lambda: [_features_of_one(cell) for cell in cells], rounds=1)
