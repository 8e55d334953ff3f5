"""Attributes of nodes on one scale, and what stands where there are none."""

from dataclasses import replace

import numpy as np
import pytest

from nasplatform.encodings.adjacency import adjacency_one_hot
from nasplatform.encodings.node_numbers import flat_numbers, node_numbers, scaled_attributes
from nasplatform.spaces import GraphBatch, get_space


@pytest.fixture(scope="module")
def graphs() -> GraphBatch:
    space = get_space("macro-chain")
    return space.graphs(space.sample(12, np.random.default_rng(0)))


def test_attributes_run_from_zero_to_one_over_their_range(graphs: GraphBatch) -> None:
    assert graphs.attributes is not None
    values, told = scaled_attributes(graphs)
    for place, attribute in enumerate(graphs.attribute_schema):
        given = graphs.attributes[:, :, place]
        expected = (given - attribute.low) / (attribute.high - attribute.low)
        np.testing.assert_allclose(values[:, :, place], np.nan_to_num(expected), rtol=1e-6)
        np.testing.assert_array_equal(told[:, :, place], np.isfinite(given))
    assert 0 < told.mean() < 1


def test_flat_numbers_are_the_decisions_in_a_row(graphs: GraphBatch) -> None:
    values, told = scaled_attributes(graphs)
    found = flat_numbers(graphs)
    n, a = graphs.n_nodes, len(graphs.attribute_schema)
    assert found.shape == (12, 3 + n + n * a)
    np.testing.assert_allclose(found[:, 0], np.log(graphs.total_params + 1.0), rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], np.log(graphs.total_flops + 1.0), rtol=1e-6)
    np.testing.assert_array_equal(found[:, 3 : 3 + n], graphs.ops)
    numbers = found[:, 3 + n :].reshape(12, n, a)
    np.testing.assert_allclose(numbers[told > 0], values[told > 0])
    assert (numbers[told == 0] == -1).all()


def test_padding_has_no_numbers(graphs: GraphBatch) -> None:
    ops = graphs.ops.copy()
    ops[:, 5] = -1
    padded = replace(graphs, ops=ops, attributes=np.full_like(graphs.attributes, np.nan))
    found = node_numbers(padded)
    assert not found[:, 5].any()
    wider = node_numbers(replace(padded, channels=2 * padded.channels)) - found
    assert wider[ops >= 0].max() == pytest.approx(0.1)  # a tenth for a doubling
    assert not wider[ops < 0].any()


def test_adjacency_is_the_triangle_and_one_hot_operations() -> None:
    space = get_space("nasbench101")
    graphs = space.graphs([space.parse("[3M1]1011/110/01/1")])
    found = adjacency_one_hot(graphs)[0]
    n, k = graphs.n_nodes, len(graphs.vocabulary)
    edges = [graphs.adjacency[0, i, j] for i in range(n) for j in range(i + 1, n)]
    ops = [float(op == known) for op in graphs.ops[0, 1:-1] for known in range(k)]
    np.testing.assert_array_equal(found, [*edges, *ops])
