import numpy as np

from nasplatform.encodings.relabel import relabelled
from nasplatform.spaces import GraphBatch
from nasplatform.spaces.nasbench101.hashing import isomorphism_keys


def test_relabelled_graphs_are_isomorphic(some_graphs: GraphBatch) -> None:
    other = relabelled(some_graphs, np.random.default_rng(0))
    if some_graphs.space == "nasbench201":  # its nodes are named slots
        assert other is some_graphs
        return
    assert (other.adjacency != some_graphs.adjacency).any()
    assert not np.tril(other.adjacency).any()
    before = isomorphism_keys(some_graphs.adjacency, some_graphs.ops)
    np.testing.assert_array_equal(isomorphism_keys(other.adjacency, other.ops), before)
    assert (np.diff((other.ops[:, :-1] < 0).astype(int)) >= 0).all()  # padding comes last
    for name in ("params", "flops", "channels"):
        moved, given = getattr(other, name), getattr(some_graphs, name)
        np.testing.assert_array_equal(np.sort(moved, axis=2), np.sort(given, axis=2))
