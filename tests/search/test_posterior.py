"""Predictions on the scale of ranks, and back."""

import numpy as np
import pytest

from nasplatform.predictors.base import Prediction
from nasplatform.predictors.target_maps import MonotoneMap
from nasplatform.search.posterior import Posterior, levels


def test_levels_are_the_inverse_of_what_rank_predictors_do() -> None:
    rng = np.random.default_rng(0)
    scale = MonotoneMap.of(1 - rng.lognormal(-2, 1.5, 30))
    mean, std = rng.normal(0, 1.5, 200), rng.uniform(0.05, 2, 200)
    given = scale.prediction(mean, std)
    found = levels(scale, given.mean, given.std)
    assert found[0] == pytest.approx(mean, abs=1e-9)
    assert found[1] == pytest.approx(std, abs=2e-3)


def test_what_is_known_is_itself_wherever_one_looks() -> None:
    one = Posterior.known(np.array([3.0, 5.0]))
    assert one.at(0.0).tolist() == one.at(2.0).tolist() == [3.0, 5.0]


def test_the_expected_value_is_the_predicted_one_and_more_luck_is_better() -> None:
    labels = np.array([0.1, 0.5, 0.8, 0.88, 0.9, 0.91, 0.915, 0.92])
    mean = np.array([0.3, 0.85, 0.918])
    one = Posterior.of(Prediction(mean, np.full(3, 0.05)), labels)
    assert one.at(0.0) == pytest.approx(mean)
    assert (np.diff([one.at(place) for place in (-2.0, -1.0, 0.0, 1.0, 2.0)], axis=0) > 0).all()


def test_near_a_ceiling_little_can_be_gained_and_much_lost() -> None:
    labels = np.array([0.1, 0.5, 0.8, 0.88, 0.9, 0.91, 0.915, 0.92])
    one = Posterior.of(Prediction(np.array([0.92]), np.array([0.2])), labels)
    gain, loss = one.at(2.0)[0] - 0.92, 0.92 - one.at(-2.0)[0]
    assert 0 < 2 * gain < loss


def test_excess_is_the_mean_of_many_draws() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0.1, 0.5, 0.8, 0.88, 0.9, 0.91, 0.915, 0.92])
    mean, std = rng.uniform(0.0, 0.95, 6), rng.uniform(0.01, 0.3, 6)
    one = Posterior.of(Prediction(mean, std), labels)
    thresholds = np.array([0.9, -0.2, 0.92, 0.6, 0.93])
    drawn = np.stack([one.at(rng.standard_normal(6)) for _ in range(40_000)])
    wanted = np.maximum(drawn[:, :, None] - thresholds, 0.0)
    error = wanted.std(0) / np.sqrt(len(drawn))
    assert (np.abs(one.excess(thresholds) - wanted.mean(0)) < 4.5 * error + 1e-6).all()


def test_excess_of_what_is_known() -> None:
    one = Posterior.known(np.array([3.0, 5.0]))
    assert one.excess(np.array([4.0, 1.0])).tolist() == [[0.0, 2.0], [1.0, 4.0]]
