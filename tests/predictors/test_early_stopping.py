"""Early stopping: which labels are held out, which weights are kept, when a training ends."""

import numpy as np
import pytest
import torch

import nasplatform
from nasplatform.benchmarks.registry import load_table
from nasplatform.predictors.early_stopping import EarlyStopping, held_apart


def test_held_out_labels_are_not_learnt_from() -> None:
    learnt, held_out = held_apart(np.arange(20.0), 0.25, np.random.default_rng(0))
    assert len(held_out) == 5
    assert sorted([*learnt, *held_out]) == list(range(20))


@pytest.mark.parametrize(
    ("targets", "share"),
    [
        (np.arange(20.0), 0.0),
        (np.arange(20.0), 0.1),  # two labels have an order by chance
        (np.arange(20.0), 0.9),
        (np.repeat([0.0, 1.0], [19, 1]), 0.25),  # on one of the sides all are alike
    ],
)
def test_nothing_is_held_out_where_it_would_say_nothing(targets: np.ndarray, share: float) -> None:
    learnt, held_out = held_apart(targets, share, np.random.default_rng(0))
    assert len(held_out) == 0
    assert list(learnt) == list(range(20))


def test_the_weights_that_rank_best_are_kept() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    inputs, targets = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), np.arange(4.0)

    def score() -> np.ndarray:
        assert not network.training
        return (network(inputs) % 4)[:, 0].numpy()

    stopping = EarlyStopping(network, score, targets)
    ended = []
    for weight in (3.0, 1.0, *[2.0] * 30):
        network.weight.data.fill_(weight)
        ended.append(stopping.enough())
        assert network.training
    assert ended.index(True) == 1 + 20  # the second epoch was the best
    stopping.restore()
    assert network.weight.item() == 1.0


@pytest.mark.parametrize("name", ["renas", "assessor"])
def test_a_training_ends_early_and_counts_all_labels(name: str) -> None:
    table = load_table("cells-digits")
    rows = np.random.default_rng(0).choice(len(table.architectures), 60, replace=False)
    graphs = table.space.graphs(table.architectures[rows])
    scores = table.values("valid_accuracy", 10, None)[rows]
    seen: list[tuple[int, int]] = []
    predictor = nasplatform.get_predictor(name, epochs=300, early_stopping=0.3)
    predictor.fit(graphs, scores, progress=lambda done, of: seen.append((done, of)))
    assert predictor.n_labels == 60
    assert len(seen) < 0.7 * 900
    assert seen[-1] == (900, 900)
    assert seen == sorted(seen)
    with pytest.raises(ValueError, match="early_stopping"):
        nasplatform.get_predictor(name, early_stopping=1.0)
