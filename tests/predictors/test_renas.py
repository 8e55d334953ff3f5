"""What each option of `renas` changes, and the network with its normalisation folded in."""

from typing import Any

import numpy as np
import pytest
import torch

from nasplatform.encodings.node_permutation import reordered
from nasplatform.encodings.renas import renas_tensor
from nasplatform.predictors import get_predictor, renas
from nasplatform.predictors.losses import pairwise_ranking_loss, refinement_loss
from nasplatform.predictors.renas import ReNAS, ReNASNetwork, _folded, _Ranker
from nasplatform.testing.predictors import known_cells, known_scores, other_cells


def test_published_network_has_its_published_size() -> None:
    network = ReNASNetwork(19, 7)
    assert sum(p.numel() for p in network.parameters()) == 19 * 38 * 9 + 38 * 128 * 9 + 2 * (
        38 + 128
    ) + (6272 * 120 + 120) + (120 * 84 + 84) + (84 + 1)


def test_folding_the_normalisation_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, 19, 7, 7, generator=generator)
    network = ReNASNetwork(19, 7)
    network(inputs)  # the running statistics are no longer 0 and 1
    network.eval()
    with torch.inference_mode():
        expected = network(inputs).numpy()
        found = _folded(network)(inputs).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


PLAIN: dict[str, Any] = {"relabel": False, "averaged": False, "weight_decay": 0.0, "epochs": 1}


def trained(**options: Any) -> ReNAS:
    made = get_predictor("renas", **{**PLAIN, **options})
    made.fit(known_cells(), known_scores())
    assert isinstance(made, ReNAS)
    return made


def weights(predictor: ReNAS) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in predictor._ranker.network.parameters()]


class Spy:
    """Calls a function and keeps its arguments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.calls: list[tuple[Any, ...]] = []
        function = getattr(renas, name)

        def spied(*given: Any) -> Any:
            self.calls.append(given)
            return function(*given)

        monkeypatch.setattr(renas, name, spied)


@pytest.mark.parametrize("kind", ["logistic", "hinge", "exponential"])
def test_the_loss_is_the_one_that_is_asked_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch, "pairwise_ranking_loss")
    trained(loss=kind)
    assert {call[2] for call in spy.calls} == {kind}


def test_refinement_counts_by_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of plain descent on ranking + 0.7 refinement, against the same by hand."""
    losses = []

    class Once(renas.Descent):
        def train(self, network, batches, loss, after_epoch=lambda epoch: False):  # type: ignore
            network.train()
            batch = next(iter(batches(0)))
            losses.append((network, batch, float(loss(batch).detach())))

    monkeypatch.setattr(renas, "Descent", Once)
    for refinement in (0.0, 0.7):
        losses.clear()
        trained(refinement=refinement)
        for network, (shown, wanted), found in losses:
            network.train()
            hidden = torch.nn.Sequential(*list(network)[:-1])(shown)
            ranking = pairwise_ranking_loss(network[-1](hidden)[:, 0], wanted)
            by_hand = ranking + refinement * refinement_loss(hidden, wanted)
            assert found == pytest.approx(float(by_hand.detach()), rel=1e-5)


def test_a_batch_has_the_size_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch, "pairwise_ranking_loss")
    trained(batch_size=7)
    assert {len(call[1]) for call in spy.calls} == {7, 6, 5}  # of halves of 20 and of all 40


def test_decay_shrinks_the_weights() -> None:
    plain, decayed = (weights(trained(weight_decay=decay, epochs=3)) for decay in (0.0, 30.0))
    norms = [sum(float(w.norm()) for w in found) for found in (plain, decayed)]
    assert norms[1] < 0.99 * norms[0]


def test_every_epoch_shows_each_cell_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch, "permute_nodes")
    trained(relabel=True, epochs=5)
    assert len(spy.calls) == 3 * (8 + 5)  # three trainings: views for the scales, then epochs
    spy.calls.clear()
    trained(relabel=False, epochs=5)
    assert not spy.calls


def test_the_weights_are_the_mean_of_those_of_the_second_half() -> None:
    third, fourth = weights(trained(epochs=3)), weights(trained(epochs=4))
    found = weights(trained(epochs=4, averaged=True))
    for one, other, mean in zip(third, fourth, found, strict=True):
        torch.testing.assert_close(mean, (one + other) / 2, rtol=1e-4, atol=1e-6)
    assert not all(torch.allclose(one, other) for one, other in zip(third, fourth, strict=True))


def test_statistics_of_the_mean_weights_are_learnt_anew() -> None:
    """Running statistics of the average are those of the cells under the averaged weights."""
    ranker = trained(epochs=4, averaged=True)._ranker
    arrays = ranker.arrays
    images = renas._images((renas.renas_tensor(known_cells()) - arrays["centre"]) / arrays["scale"])
    made = ranker.network[0](images)
    torch.testing.assert_close(
        ranker.network[1].running_mean, made.mean((0, 2, 3)), rtol=1e-3, atol=1e-4
    )


def test_a_cell_is_scored_in_two_orders_where_orders_mean_nothing() -> None:
    cells = other_cells()[:30]
    ranker = trained(relabel=True)._ranker
    falling = np.arange(cells.n_nodes)[::-1] / cells.n_nodes
    alone = [ranker._seen(reordered(cells, order)) for order in (falling, falling[::-1])]
    assert not np.allclose(*alone)
    np.testing.assert_allclose(ranker._raw(cells), (alone[0] + alone[1]) / 2, rtol=1e-5)
    once = trained(relabel=False)._ranker
    np.testing.assert_allclose(once._raw(cells), once._seen(cells), rtol=1e-5)


def test_scores_are_standardised_and_brought_to_ranks_by_what_was_held_out() -> None:
    predictor = trained(epochs=3)
    ranker: _Ranker = predictor._ranker
    told = ranker.score(known_cells())
    assert told.mean() == pytest.approx(0, abs=1e-5)
    assert told.std() == pytest.approx(1, rel=1e-5)
    cells = other_cells()[:30]
    expected = predictor._ranks.prediction(
        predictor._slope * ranker.score(cells), np.full(30, predictor._spread)
    )
    np.testing.assert_allclose(predictor.predict(cells).mean, expected.mean)
    np.testing.assert_allclose(predictor.predict(cells).std, expected.std)


def test_mean_weights_are_normalised_by_statistics_of_their_own() -> None:
    """Maps of the labelled cells leave the first normalisation with mean 0 and deviation 1."""
    ranker = trained(averaged=True, epochs=6)._ranker
    seen = (renas_tensor(known_cells()) - ranker.arrays["centre"]) / ranker.arrays["scale"]
    convolve, normalise = ranker.network[0], ranker.network[1]
    with torch.inference_mode():
        maps = convolve(torch.from_numpy(seen))
        plain = (maps - normalise.running_mean.view(-1, 1, 1)) / (
            normalise.running_var + normalise.eps
        ).sqrt().view(-1, 1, 1)
    assert float(plain.mean((0, 2, 3)).abs().max()) < 0.05
    assert float((plain.std((0, 2, 3)) - 1).abs().max()) < 0.1
