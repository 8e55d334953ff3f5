"""The graph of relations and its convolutions, against plain loops."""

import numpy as np
import pytest
import torch

import nasplatform
from nasplatform.predictors.assessor_network import AssessorNetwork, Relations


@pytest.fixture
def network() -> AssessorNetwork:
    torch.manual_seed(0)
    return AssessorNetwork(inputs=5, width=6, code=3, neighbours=2).eval()


@pytest.mark.parametrize("own", [True, False])
def test_relations_join_the_nearest_by_similarity(network: AssessorNetwork, own: bool) -> None:
    anchors = torch.randn(7, 3)
    codes = anchors if own else torch.randn(4, 3)
    relations = network.relations(codes, anchors, own)
    for row in range(len(codes)):
        squared = ((codes[row] - anchors) ** 2).sum(1)
        if own:
            squared[row] = torch.inf
        nearest = squared.argsort()[:2]
        similar = torch.exp(-squared[nearest] / (2 * squared[nearest].mean()))
        here = relations.edges[1] == row
        assert relations.edges[0, here].tolist() == nearest.tolist()
        torch.testing.assert_close(relations.weight[here], similar / similar.sum())


def test_both_convolutions_add_what_the_neighbours_say(network: AssessorNetwork) -> None:
    codes = torch.randn(5, 3)
    relations = network.relations(codes, codes, own=True)
    share = torch.zeros(5, 5)
    share[relations.edges[1], relations.edges[0]] = relations.weight
    first, second = network.first, network.second
    near = (share @ codes) @ first.lin_rel.weight.T + first.lin_rel.bias
    hidden = torch.nn.functional.silu(near + codes @ first.lin_root.weight.T)
    torch.testing.assert_close(network.hidden(codes, codes, relations), hidden)
    near = (share @ hidden) @ second.lin_rel.weight.T + second.lin_rel.bias
    assessed = (near + hidden @ second.lin_root.weight.T).squeeze(1)
    torch.testing.assert_close(network.assess(hidden, hidden, relations), assessed)


def test_similarities_pass_gradients_to_the_encoder(network: AssessorNetwork) -> None:
    codes = torch.randn(5, 3, requires_grad=True)
    relations = network.relations(codes, codes, own=True)
    torch.autograd.backward(relations.weight[::2].sum())
    assert codes.grad is not None
    assert bool((codes.grad != 0).any())


def test_without_a_graph_each_architecture_stands_alone(network: AssessorNetwork) -> None:
    codes = torch.randn(5, 3)
    together = network.hidden(codes, codes, Relations.none())
    alone = network.hidden(codes[:1], codes, Relations.none())
    torch.testing.assert_close(together[:1], alone)


def test_an_architecture_is_assessed_alike_in_any_company() -> None:
    space = nasplatform.get_space("nasbench101")
    rng = np.random.default_rng(0)
    graphs = space.graphs(space.sample(60, rng))
    scores = graphs.total_params[:30] + rng.normal(size=30)
    assessor = nasplatform.get_predictor("assessor", epochs=3, width=16, code=8)
    assessor.fit(graphs[:30], scores, unlabelled=graphs[30:])
    together = assessor.predict(graphs).mean
    alone = np.concatenate([assessor.predict(graphs[i : i + 1]).mean for i in range(len(graphs))])
    np.testing.assert_allclose(together, alone, rtol=1e-5)
