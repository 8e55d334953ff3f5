import numpy as np

from nasplatform.encodings.active_subgraph import interior_ops
from nasplatform.encodings.paths import path_encoding, sequence_lengths
from nasplatform.encodings.renas import renas_tensor, renas_tensors
from nasplatform.spaces import GraphBatch, get_space


def paths_of(graphs: GraphBatch, row: int) -> set[tuple[int, ...]]:
    classes = interior_ops(graphs.vocabulary)
    ops, edges = graphs.ops[row], graphs.adjacency[row]

    def onward(node: int) -> list[tuple[int, ...]]:
        if node == len(ops) - 1:
            return [()]
        if node and ops[node] not in classes:
            return []
        own = (classes.index(ops[node]),) if node else ()
        return [own + rest for j in np.flatnonzero(edges[node]) for rest in onward(int(j))]

    return set(onward(0))


def test_path_encoding_lists_the_sequences(some_graphs: GraphBatch) -> None:
    encoded = path_encoding(some_graphs)
    k = len(interior_ops(some_graphs.vocabulary))
    lengths = sequence_lengths(k, some_graphs.n_nodes - 2)
    offsets = np.cumsum([0, *(k**length for length in lengths)])
    for row in range(len(some_graphs)):
        expected = {
            int(offsets[len(path)]) + sum(op * k**p for p, op in enumerate(reversed(path)))
            for path in paths_of(some_graphs, row)
            if len(path) in lengths
        }
        assert set(np.flatnonzero(encoded[row]).tolist()) == expected


def test_nasbench101_has_the_published_number_of_paths() -> None:
    space = get_space("nasbench101")
    graphs = space.graphs(space.population([space.parse("[3]11/1")]))
    encoded = path_encoding(graphs)
    assert encoded.shape == (1, 364)
    assert np.flatnonzero(encoded[0]).tolist() == [0, 1]


def test_renas_tensors_stream_the_same_values(some_graphs: GraphBatch) -> None:
    parts = list(renas_tensors(some_graphs, 40))
    assert [len(part) for part in parts[:-1]] == [40] * (len(parts) - 1)
    np.testing.assert_array_equal(np.concatenate(parts), renas_tensor(some_graphs))
