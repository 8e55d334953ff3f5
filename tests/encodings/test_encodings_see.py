"""Every registered encoding tells apart what a space tells apart, or refuses and says why."""

from dataclasses import replace

import numpy as np
import pytest

from nasplatform import plugins
from nasplatform.encodings import get_encoding
from nasplatform.encodings.node_permutation import permute_nodes
from nasplatform.errors import GraphError, PredictorError
from nasplatform.predictors import get_predictor
from nasplatform.predictors.assessor_network import _inputs
from nasplatform.predictors.distilled_gnn import Nodes
from nasplatform.spaces import GraphBatch, get_space
from nasplatform.spaces.graph import Attribute, Operation

MANY = 1001


def chains() -> GraphBatch:
    space = get_space("macro-chain")
    return space.graphs(space.sample(MANY, np.random.default_rng(0)).unique())


def transformers() -> GraphBatch:
    """Blocks that differ in numbers alone; each row another."""
    rng, depth = np.random.default_rng(1), 5
    n = depth + 2
    numbers = np.full((MANY, n, 2), np.nan, np.float32)
    numbers[:, 1:-1, 0] = rng.integers(1, 5, (MANY, depth))
    numbers[:, 1:-1, 1] = rng.choice([3.0, 3.5, 4.0], (MANY, depth))
    numbers[rng.random(MANY) < 0.3, -2] = np.nan  # of depth 4
    ops = np.ones((MANY, n), np.int8)
    ops[:, 0], ops[:, -1] = 0, 2
    nothing = np.zeros((MANY, 1, n), np.int64)
    graphs = GraphBatch(
        space="transformers",
        vocabulary=(
            Operation("input", "input"),
            Operation("block", "attention", nonlinear=True, normalised=True, residual=True),
            Operation("output", "output"),
        ),
        stages=(0,),
        adjacency=np.repeat(np.eye(n, k=1, dtype=np.uint8)[None], MANY, axis=0),
        ops=ops,
        channels=np.full((MANY, 1, n), 192, np.int32),
        flops=nothing,
        params=nothing,
        total_flops=np.ones(MANY, np.int64),
        total_params=np.ones(MANY, np.int64),
        resolution=np.full((MANY, 1, n), 14, np.int32),
        positional=True,
        attribute_schema=(Attribute("heads", "", 1, 4), Attribute("ratio", "", 3, 4)),
        attributes=numbers,
    )
    _, first = np.unique(
        np.nan_to_num(numbers, nan=-1).reshape(MANY, -1), axis=0, return_index=True
    )
    return graphs[first]


def distinct(array: np.ndarray) -> int:
    return len(np.unique(array.reshape(len(array), -1), axis=0))


@pytest.mark.parametrize("make", [chains, transformers])
@pytest.mark.parametrize("name", plugins.names("encodings"))
def test_an_encoding_tells_graphs_apart_or_refuses(make, name: str) -> None:  # type: ignore[no-untyped-def]
    graphs, encoding = make(), get_encoding(name)
    reason = encoding.supports(graphs)
    if reason is None:
        encoded = encoding(graphs)
        assert len(encoded) == len(graphs)
        assert np.isfinite(encoded).all()
        assert distinct(encoded) == len(graphs)
    else:
        with pytest.raises(GraphError, match=f"{graphs.space!r} cannot be encoded"):
            encoding(graphs)
    assert (name == "paths") == (reason is not None)


@pytest.mark.parametrize("make", [chains, transformers])
def test_networks_are_shown_different_graphs(make) -> None:  # type: ignore[no-untyped-def]
    graphs = make()
    assert distinct(Nodes.of(graphs).nodes.numpy()) == len(graphs)
    assert distinct(_inputs(graphs).numpy()) == len(graphs)


def test_paths_say_which_attributes_they_cannot_tell() -> None:
    reason = get_encoding("paths").supports(transformers())
    assert reason is not None
    assert "heads, ratio" in reason


def test_paths_refuse_chains_longer_than_they_encode() -> None:
    graphs = transformers()
    skips = replace(graphs.vocabulary[1], name="other")
    bare = replace(
        graphs,
        vocabulary=(*graphs.vocabulary, *(replace(skips, name=str(i)) for i in range(9))),
        attribute_schema=(),
        attributes=None,
    )
    reason = get_encoding("paths").supports(bare)  # ten operations: at most three in a row
    assert reason is not None
    assert "has 5 operations, and sequences of up to 3 are encoded" in reason


@pytest.mark.parametrize("name", plugins.names("encodings"))
def test_cells_are_supported_by_all(name: str, some_graphs: GraphBatch) -> None:
    assert get_encoding(name).supports(some_graphs) is None
    assert get_encoding(name).supports(some_graphs[:0]) is None


def test_attributes_move_with_their_nodes() -> None:
    graphs = get_space("nasbench101")
    cells = graphs.graphs(graphs.sample(20, np.random.default_rng(0)))
    numbers = np.repeat(cells.ops[:, :, None], 1, axis=2).astype(np.float32)
    numbered = replace(cells, attribute_schema=(Attribute("op", "", -1, 5),), attributes=numbers)
    moved = permute_nodes(numbered, np.random.default_rng(1))
    assert moved.attributes is not None
    np.testing.assert_array_equal(moved.attributes[:, :, 0], moved.ops)
    assert (moved.ops != cells.ops).any()


def test_renas_refuses_graphs_whose_network_would_be_huge() -> None:
    graphs = transformers()
    n = 60
    ops = np.ones((9, n), np.int8)
    ops[:, 0], ops[:, -1] = 0, 2
    long = GraphBatch(
        space="deep",
        vocabulary=graphs.vocabulary,
        stages=(0,),
        adjacency=np.repeat(np.eye(n, k=1, dtype=np.uint8)[None], 9, axis=0),
        ops=ops,
        channels=np.ones((9, 1, n), np.int32),
        flops=np.zeros((9, 1, n), np.int64),
        params=np.zeros((9, 1, n), np.int64),
        total_flops=np.ones(9, np.int64),
        total_params=np.ones(9, np.int64),
        resolution=np.ones((9, 1, n), np.int32),
        positional=True,
    )
    with pytest.raises(PredictorError, match="55 million weights for 60 nodes"):
        get_predictor("renas").fit(long, np.arange(9.0))
