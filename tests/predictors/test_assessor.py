"""The graph of relations and its convolutions, against plain loops."""

import numpy as np
import pytest
import torch

import nasplatform
from nasplatform.predictors.assessor import AssessorOptions
from nasplatform.predictors.assessor_network import (
    Assessment,
    AssessorNetwork,
    Relations,
    _loss,
)
from nasplatform.testing.predictors import known_cells, known_scores, other_cells


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


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("graph", [True, False])
def test_the_loss_is_regression_of_the_labelled_and_reconstruction_of_all(
    network: AssessorNetwork, share: float, graph: bool
) -> None:
    inputs, wanted = torch.rand(9, 5), torch.randn(4)
    options = AssessorOptions(reconstruction=share, graph=graph)
    codes = network.encoder(inputs)
    relations = network.relations(codes, codes, own=True) if graph else Relations.none()
    hidden = network.hidden(codes, codes, relations)
    said = network.assess(hidden, hidden, relations)
    regression = ((said[:4] - wanted) ** 2).mean()
    likely = torch.sigmoid(network.decoder(codes))
    rebuilt = -(inputs * likely.log() + (1 - inputs) * (1 - likely).log()).mean()
    expected = (1 - share) * regression + share * rebuilt
    torch.testing.assert_close(_loss(network, inputs, wanted, options), expected)
    without = options.model_copy(update={"autoencoder": False})
    torch.testing.assert_close(_loss(network, inputs, wanted, without), regression)


def test_without_the_graph_anchors_do_not_matter(network: AssessorNetwork) -> None:
    anchors, asked = torch.rand(6, 5), torch.rand(3, 5)
    for graph in (True, False):
        options, said = AssessorOptions(graph=graph, neighbours=2), []
        for known in (anchors, anchors + 1):
            one = Assessment(network, known, options)
            with torch.inference_mode():
                codes = network.encoder(asked)
                relations = one._relations(codes, own=False)
                hidden = network.hidden(codes, one._codes, relations)
                said.append(network.assess(hidden, one._hidden, relations))
        assert torch.allclose(*said) == (not graph)


def test_unlabelled_architectures_are_used_where_they_are_wanted() -> None:
    cells, scores, others = known_cells(), known_scores(), other_cells()
    said = {}
    for wanted in (True, False):
        for given in (others, None):
            made = nasplatform.get_predictor(
                "assessor", epochs=1, width=8, code=4, unlabelled=wanted
            )
            said[wanted, given is not None] = made.fit(cells, scores, given).predict(others).mean
    np.testing.assert_array_equal(said[False, True], said[False, False])
    assert not np.array_equal(said[True, True], said[True, False])
