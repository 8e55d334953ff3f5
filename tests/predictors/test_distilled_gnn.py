"""Distilled graph networks: what they see does not depend on the order of nodes, and they learn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

import nasplatform
from nasplatform.benchmarks.registry import load_table
from nasplatform.encodings.node_permutation import permute_nodes
from nasplatform.predictors import get_predictor, load_predictor
from nasplatform.predictors.base import Predictor
from nasplatform.predictors.distilled_gnn import (
    DistilledGNN,
    GatedGNN,
    Nodes,
    distill,
    soft_ranking_loss,
)
from nasplatform.spaces.graph import GraphBatch


@pytest.fixture(scope="module")
def cells() -> tuple[GraphBatch, np.ndarray]:
    table = load_table("cells-digits")
    rows = np.random.default_rng(3).choice(len(table.architectures), 900, replace=False)
    scores = table.values("valid_accuracy", 10, None)[rows]
    return table.space.graphs(table.architectures[rows]), scores


@pytest.mark.parametrize("name", ["nasbench101", "nasbench201"])
def test_score_does_not_depend_on_the_order_of_nodes(name: str) -> None:
    space = nasplatform.get_space(name)
    graphs = space.graphs(space.sample(40, np.random.default_rng(0)))
    shown, turned = Nodes.of(graphs), Nodes.of(permute_nodes(graphs, np.random.default_rng(1)))
    torch.manual_seed(0)
    network = GatedGNN(shown.nodes.shape[2], 5).eval()
    with torch.inference_mode():
        assert torch.allclose(network(shown), network(turned), atol=1e-5)


def test_dead_nodes_say_nothing() -> None:
    space = nasplatform.get_space("nasbench201")
    dead = space.parse(
        "|none~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_1x1~0|skip_connect~1|none~2|"
    )
    shown = Nodes.of(space.graphs([dead]))
    assert float(shown.active.sum()) == 3  # input, conv 1x1, output


def test_loss_agrees_with_a_slow_one() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(2, 7, generator=generator)
    slow = []
    for i in range(7):
        for j in range(i + 1, 7):
            sure = 1 / (1 + np.exp(-1.7 * float(targets[i] - targets[j]) / 0.3))
            said = 1 / (1 + np.exp(-3 * float(scores[i] - scores[j])))
            slow.append(-sure * np.log(said) - (1 - sure) * np.log(1 - said))
    assert float(soft_ranking_loss(scores, targets)) == pytest.approx(np.mean(slow), rel=1e-4)


def test_distilled_gnn_imitates_and_comes_back_from_arrays(
    cells: tuple[GraphBatch, np.ndarray],
) -> None:
    graphs, scores = cells
    asked, taught = graphs[600:], graphs[:500]
    steps: list[int] = []
    network = distill(
        (graphs[500:600], scores[500:600]), (taught, scores[:500]), 0, lambda: steps.append(1)
    )
    said = network.score(asked)
    assert kendalltau(said, scores[600:])[0] > 0.45
    assert network.score(taught).mean() == pytest.approx(scores[:500].mean(), abs=1e-3)
    assert np.array_equal(DistilledGNN.restore(network.state()).score(asked), said)
    assert len(steps) == 52


def test_default_with_distilled_gnns_is_kept_whole(
    cells: tuple[GraphBatch, np.ndarray], tmp_path: Path
) -> None:
    graphs, scores = cells
    folder = tmp_path / "model"
    told: list[tuple[int, int]] = []
    fitted = get_predictor("default", steps=10, trees=20, distilled_gnns=1).fit(
        graphs[:120], scores[:120], unlabelled=graphs[120:], progress=lambda *at: told.append(at)
    )
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    fitted.save(folder)
    loaded = load_predictor(folder)
    expected = fitted.predict(graphs[120:])
    assert np.array_equal(loaded.predict(graphs[120:]).mean, expected.mean)
    without: Predictor = get_predictor("default", steps=10, trees=20, distilled_gnns=0).fit(
        graphs[:120], scores[:120], unlabelled=graphs[120:]
    )
    assert not np.allclose(without.predict(graphs[120:]).mean, expected.mean)


def test_a_search_gets_a_predictor_without_distilled_gnns() -> None:
    quick = get_predictor("default", seed=7).quick()
    assert quick.options.distilled_gnns == 0
    assert quick.seed == 7
