"""The tensor of ReNAS against one that is filled in edge by edge, and how much faster it is."""

import numpy as np
import pytest

from nasplatform.encodings.renas import FLOPS_SCALE, PARAMS_SCALE, renas_tensor, renas_tensors
from nasplatform.spaces import GraphBatch, get_space


def tensor_of_one(graphs: GraphBatch, row: int) -> np.ndarray:
    """Fill in the tensor of one architecture, the plain way."""
    n, cells = graphs.n_nodes, graphs.n_cells
    tensor = np.zeros((1 + 2 * cells, n, n), np.float32)
    for source in range(n):
        for target in range(n):
            if graphs.adjacency[row, source, target]:
                tensor[0, source, target] = graphs.ops[row, target] + 1
                for cell in range(cells):
                    tensor[1 + 2 * cell, source, target] = (
                        graphs.flops[row, cell, target] / FLOPS_SCALE
                    )
                    tensor[2 + 2 * cell, source, target] = (
                        graphs.params[row, cell, target] / PARAMS_SCALE
                    )
    return tensor


def test_equals_the_plain_way(some_graphs: GraphBatch) -> None:
    bulk = renas_tensor(some_graphs)
    for row in range(0, len(some_graphs), 7):
        np.testing.assert_allclose(bulk[row], tensor_of_one(some_graphs, row), rtol=1e-6)


def test_shape_is_the_papers() -> None:
    space = get_space("nasbench101")
    graphs = space.graphs([space.parse("[3M1]1011/110/01/1")])
    assert renas_tensor(graphs).shape == (1, 19, 7, 7)


@pytest.mark.parametrize("chunk", [1, 10, 1000])
def test_streamed_in_parts_it_is_the_same(some_graphs: GraphBatch, chunk: int) -> None:
    parts = list(renas_tensors(some_graphs, chunk))
    assert max(len(part) for part in parts) <= chunk
    assert np.array_equal(np.concatenate(parts), renas_tensor(some_graphs))


def test_speed_streamed(benchmark) -> None:  # type: ignore[no-untyped-def]
    """Tensors of all 423,624 cells, one part at a time."""
    space = get_space("nasbench101")
    graphs = space.graphs(space.enumerate())
    benchmark.pedantic(lambda: sum(len(part) for part in renas_tensors(graphs)), rounds=1)


def test_speed_one_by_one(benchmark) -> None:  # type: ignore[no-untyped-def]
    """Tensors of a hundredth of the cells, one after the other."""
    space = get_space("nasbench101")
    graphs = space.graphs(space.enumerate()[::100])
    every = range(len(graphs))
    benchmark.pedantic(lambda: [tensor_of_one(graphs, row) for row in every], rounds=1)
