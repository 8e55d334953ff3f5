"""What hand-made features say of costs, widths and depths, against a slow count for each graph."""

from dataclasses import replace

import numpy as np
import pytest

from nasplatform.encodings.active_subgraph import active_subgraphs, operation_sets
from nasplatform.encodings.graph_features import feature_groups
from nasplatform.encodings.signal_propagation import FREQUENCIES, STARTS
from nasplatform.spaces import GraphBatch, get_space


@pytest.fixture(scope="module")
def with_dead_nodes() -> GraphBatch:
    """Convolutions that reach no output, or that nothing reaches."""
    space = get_space("nasbench201")
    text = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
    conv, none, skip = "nor_conv_3x3", "none", "skip_connect"
    dead_end = [conv, none, none, skip, none, none]
    unreached = [none, skip, none, none, conv, skip]
    alive = [conv, skip, none, none, conv, skip]
    forms = [text.format(*ops) for ops in (dead_end, unreached, alive)]
    return space.graphs(space.population([space.parse(form) for form in forms]))


def on_paths(graphs: GraphBatch, row: int) -> set[int]:
    """Nodes on a path from input to output, by recursion."""
    last = graphs.n_nodes - 1
    dead = {
        i for i, op in enumerate(graphs.ops[row]) if op < 0 or graphs.vocabulary[op].kind == "zero"
    }

    def onward(node: int) -> list[list[int]]:
        if node == last:
            return [[node]]
        ends = [j for j in range(last + 1) if graphs.adjacency[row, node, j] and j not in dead]
        return [[node, *rest] for j in ends for rest in onward(j)]

    return {node for path in onward(0) for node in path} | {0, last}


def test_what_is_dead_costs_nothing(with_dead_nodes: GraphBatch) -> None:
    graphs = with_dead_nodes
    costs = feature_groups(graphs)["cost"]
    for row in range(len(graphs)):
        used = on_paths(graphs, row)
        spared = [node for node in range(graphs.n_nodes) if node not in used]
        for column, total, of_nodes in (
            (0, graphs.total_params, graphs.params),
            (1, graphs.total_flops, graphs.flops),
        ):
            expected = total[row] - of_nodes[row][:, spared].sum()
            assert costs[row, column] == pytest.approx(np.log(expected), rel=1e-6)
    assert costs[0, 0] < costs[2, 0]  # a dead convolution is no convolution


def test_operations_that_give_nothing_have_no_edges(with_dead_nodes: GraphBatch) -> None:
    every = np.triu(np.ones_like(with_dead_nodes.adjacency), 1)
    for graphs in (with_dead_nodes, replace(with_dead_nodes, adjacency=every)):
        active = active_subgraphs(graphs)
        for row in range(len(graphs)):
            assert set(np.flatnonzero(active.active[:, row])) == on_paths(graphs, row)


def test_depths_of_what_feeds_the_output_are_weighed_by_its_width() -> None:
    """Of 128 channels two branches have 43, the third 42; one goes through two convolutions."""
    space = get_space("nasbench101")
    graphs = space.graphs(space.population([space.parse("[3333]11110/0100/001/01/1")]))
    active = active_subgraphs(graphs)
    feeding = np.flatnonzero(active.edges[:, -1, 0])
    longest = {2: 1, 3: 2, 4: 1}  # operations on the way, by vertex
    widths = graphs.channels[0, 0, feeding]
    assert widths.tolist() == [43, 43, 42]
    expected = widths @ [longest[int(node)] for node in feeding] / widths.sum()
    everything = len(operation_sets(active.vocabulary, active.classes)) - 1
    depth = feature_groups(graphs)["depth"][0]
    assert depth[everything] == pytest.approx(expected, rel=1e-5)


def test_what_is_put_side_by_side_is_weighed_by_its_width() -> None:
    """Two branches of unit variance are one signal of unit variance, as one branch is."""
    space = get_space("nasbench101", stacks=1, modules_per_stack=1)
    texts = ("[3]10/1", "[33]110/01/1", "[3333]11110/0100/001/01/1")
    graphs = space.graphs(space.population([space.parse(text) for text in texts]))
    variance = feature_groups(graphs)["differences"][:, len(STARTS)]
    np.testing.assert_allclose(variance, variance[0], atol=1e-5)


def test_waves_are_twice_as_fast_where_maps_are_halved() -> None:
    space = get_space("nasbench101", stacks=2, modules_per_stack=1)
    graphs = space.graphs(space.population([space.parse(text) for text in ("[1]10/1", "[3]10/1")]))
    shape = 2, len(STARTS), len(FREQUENCIES), 2  # cells, starts, waves, graphs
    modes = feature_groups(graphs)["modes"].T.reshape(shape)
    lost = modes[:, :, 1:, 0] - modes[:, :, 1:, 1]
    waves = np.array(FREQUENCIES[1:])
    first, second = (-np.log(np.abs(1 + 2 * np.cos(k * waves)) / 3) for k in (1, 2))
    seen = np.abs(second) < 5  # a wave that a window takes away is lost to the last bit
    np.testing.assert_allclose(lost[0, 0], first, rtol=1e-3)
    np.testing.assert_allclose(lost[1, 0][seen], (first + second)[seen], rtol=1e-2)
    assert seen.any()
