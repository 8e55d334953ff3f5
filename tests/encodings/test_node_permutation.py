import numpy as np

from nasplatform.encodings.node_permutation import permute_nodes, reordered
from nasplatform.spaces import GraphBatch
from nasplatform.spaces.nasbench101.hashing import isomorphism_keys


def test_permuted_graphs_are_isomorphic(some_graphs: GraphBatch) -> None:
    other = permute_nodes(some_graphs, np.random.default_rng(0))
    if some_graphs.space == "nasbench201":  # its nodes are named slots
        assert other is some_graphs
        return
    assert (other.adjacency != some_graphs.adjacency).any()
    assert not np.tril(other.adjacency).any()
    before = isomorphism_keys(some_graphs.adjacency, some_graphs.ops)
    np.testing.assert_array_equal(isomorphism_keys(other.adjacency, other.ops), before)
    assert (np.diff((other.ops[:, :-1] < 0).astype(int)) >= 0).all()  # padding comes last
    names = ("params", "flops", "channels", "resolution")
    for after, given in zip(facts(other, names), facts(some_graphs, names), strict=True):
        assert after == given


def facts(graphs: GraphBatch, names: tuple[str, ...]) -> list[list[tuple[float, ...]]]:
    """What is known of each node of each graph, operation and numbers together, in order."""
    numbers = [
        getattr(graphs, name)[:, cell] for name in names for cell in range(len(graphs.stages))
    ]
    table = np.stack([graphs.ops, *numbers], axis=2)
    return [sorted(map(tuple, rows.tolist())) for rows in table]


def test_priorities_choose_the_order(some_graphs: GraphBatch) -> None:
    falling = np.arange(some_graphs.n_nodes)[::-1] / some_graphs.n_nodes
    as_given, turned = reordered(some_graphs, falling), reordered(some_graphs, falling[::-1])
    np.testing.assert_array_equal(as_given.adjacency, some_graphs.adjacency)
    np.testing.assert_array_equal(as_given.ops, some_graphs.ops)
    one_by_one = [reordered(some_graphs[i : i + 1], falling[::-1]) for i in range(5)]
    for alone, among in zip(one_by_one, turned.adjacency, strict=False):
        np.testing.assert_array_equal(alone.adjacency[0], among)
