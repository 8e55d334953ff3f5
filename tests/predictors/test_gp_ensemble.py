"""What `default` knows without a label."""

import numpy as np
import pytest
from scipy.stats import kendalltau

import nasplatform
from nasplatform.encodings.active_subgraph import is_connected
from nasplatform.predictors import get_predictor, load_predictor
from nasplatform.spaces.graph import GraphBatch

DEAD = (
    "|none~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|none~2|",
    "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|avg_pool_3x3~2|",
)


@pytest.fixture(scope="module")
def cells() -> GraphBatch:
    space = nasplatform.get_space("nasbench201")
    alive = space.graphs(space.sample(120, np.random.default_rng(0)))
    return alive[is_connected(alive)]


@pytest.fixture(scope="module")
def dead() -> GraphBatch:
    space = nasplatform.get_space("nasbench201")
    return space.graphs([space.parse(text) for text in DEAD])


def test_a_signal_crosses_what_has_a_path(cells: GraphBatch, dead: GraphBatch) -> None:
    assert not is_connected(dead).any()
    space = nasplatform.get_space("nasbench201")
    skip = space.parse("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    assert is_connected(space.graphs([skip])).all()
    every = space.graphs(space.enumerate())
    ways = np.linalg.matrix_power(_open(every), every.n_nodes - 1)  # of an edge or none each
    assert np.array_equal(is_connected(every), ways[:, 0, -1] > 0)
    cells101 = nasplatform.get_space("nasbench101")
    assert is_connected(cells101.graphs(cells101.sample(50, np.random.default_rng(0)))).all()


def _open(graphs: GraphBatch) -> np.ndarray:
    """Return (B, N, N) edges between nodes that compute, and from each such node to itself."""
    kinds = np.array([operation.kind for operation in graphs.vocabulary] + ["zero"])[graphs.ops]
    steps = graphs.adjacency + np.eye(graphs.n_nodes)
    return np.where((kinds != "zero")[:, :, None] & (kinds != "zero")[:, None], steps, 0)


def test_what_no_signal_crosses_is_as_bad_as_the_worst(
    cells: GraphBatch, dead: GraphBatch, tmp_path
) -> None:
    scores = cells.total_params + np.random.default_rng(0).normal(0, 1e4, len(cells))
    fitted = get_predictor("default", steps=10, trees=20).fit(cells, scores)
    said = fitted.predict(dead).mean
    assert (said <= scores.min()).all()
    fitted.save(tmp_path / "kept")
    assert np.array_equal(load_predictor(tmp_path / "kept").predict(dead).mean, said)


def test_labels_of_disconnected_architectures_are_believed(
    cells: GraphBatch, dead: GraphBatch
) -> None:
    scores = -cells.total_params.astype(float)  # the smallest is the best: nothing beats nothing
    known = nasplatform.spaces.graph.concatenate([cells, dead])
    labels = np.concatenate([scores, -dead.total_params])
    fitted = get_predictor("default", steps=10, trees=20).fit(known, labels)
    assert (fitted.predict(dead).mean > np.median(scores)).all()


def test_flat_numbers_count_by_what_they_foretell(cells: GraphBatch) -> None:
    """Heads and ratios add up, each layer for itself: the decisions in one row say all of it."""
    space = nasplatform.get_space("vit", subspace="autoformer-tiny")
    some = space.sample(200, np.random.default_rng(0))
    graphs = space.graphs(some)
    rng = np.random.default_rng(1)
    worth = dict.fromkeys(space.distributions(), 0.0)
    worth = {name: float(rng.normal()) for name in worth if name.startswith("layer")}
    scores = np.array(
        [
            sum(worth[name] * float(value) for name, value in params.items() if name in worth)
            for params in map(space.to_params, some)
        ]
    )
    predictor = get_predictor("default", steps=30, trees=0)
    predictor.fit(graphs[:80], scores[:80], unlabelled=graphs)
    features, flat = (process.error for process in predictor._processes)
    told = predictor.predict(graphs[80:]).mean
    assert kendalltau(told, scores[80:]).statistic > 0.75
    assert flat < features
    weights = predictor._weights
    assert weights is not None
    assert weights[1] > weights[0]
    predictor.fit(cells, np.arange(len(cells), dtype=np.float64))
    assert predictor._weights is None  # cells have no flat numbers
