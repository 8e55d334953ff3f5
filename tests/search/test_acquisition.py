"""Closed forms against numerical integration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume
from scipy.integrate import quad
from scipy.stats import norm

from nasplatform.search.acquisition import (
    Excess,
    acquire,
    expected_hypervolume_improvement,
    expected_improvement,
    hypervolume_improvement,
    probability_below,
    scalarised_improvement,
    thompson,
    upper_confidence_bound,
)

numbers = st.floats(-3, 3)
spreads = st.floats(0.05, 2)


@settings(deadline=None, max_examples=50)
@given(mean=numbers, std=spreads, best=numbers)
def test_expected_improvement_is_the_integral(mean: float, std: float, best: float) -> None:
    found = expected_improvement(np.array([mean]), np.array([std]), best)[0]
    density = norm(mean, std).pdf
    high = max(best, mean + 10 * std)
    wanted = quad(lambda y: (y - best) * density(y), best, high, points=[mean], limit=200)[0]
    assert found == pytest.approx(wanted, abs=1e-7)


def test_expected_improvement_of_a_sure_thing() -> None:
    found = expected_improvement(np.array([1.0, 3.0]), np.zeros(2), 2.0)
    assert found.tolist() == [0.0, 1.0]


@settings(deadline=None, max_examples=30)
@given(mean=numbers, std=spreads, bound=numbers)
def test_probability_below(mean: float, std: float, bound: float) -> None:
    found = probability_below(np.array([mean, mean]), np.array([std, 0.0]), bound)
    assert found[0] == pytest.approx(norm.cdf(bound, mean, std))
    assert found[1] == float(mean <= bound)


def test_the_simple_ones() -> None:
    mean, std = np.array([0.0, 1.0]), np.array([2.0, 0.5])
    rng = np.random.default_rng(0)
    assert upper_confidence_bound(mean, std, 2.0).tolist() == [4.0, 2.0]
    assert acquire("greedy", mean, std, 9.0, 1.0, rng).tolist() == mean.tolist()
    assert acquire("upper_confidence_bound", mean, std, 9.0, 2.0, rng).tolist() == [4.0, 2.0]
    draws = np.array([thompson(mean, std, rng) for _ in range(4000)])
    assert draws.mean(0) == pytest.approx(mean, abs=0.15)
    assert draws.std(0) == pytest.approx(std, rel=0.1)


def test_far_below_the_best_the_mean_breaks_the_tie() -> None:
    mean, std = np.array([-50.0, -40.0]), np.full(2, 1e-3)
    values = acquire("expected_improvement", mean, std, 0.0, 1.0, np.random.default_rng(0))
    assert values[1] > values[0]


REFERENCE = np.array([0.0, 0.0])
FRONT = np.array([[0.2, 0.9], [0.5, 0.6], [0.8, 0.3], [0.4, 0.4], [0.9, -0.5]])


def hypervolume(points: np.ndarray) -> float:
    inside = points[(points > REFERENCE).all(1)]
    return float(compute_hypervolume(-inside, -REFERENCE)) if len(inside) else 0.0


@settings(deadline=None, max_examples=60)
@given(x=st.floats(-0.3, 2), y=st.floats(-0.6, 2))
def test_hypervolume_improvement_is_optunas(x: float, y: float) -> None:
    found = hypervolume_improvement(np.array([[x, y]]), FRONT, REFERENCE)[0]
    wanted = hypervolume(np.vstack([FRONT, (x, y)])) - hypervolume(FRONT)
    assert found == pytest.approx(wanted, abs=1e-12)


def test_hypervolume_improvement_without_a_front() -> None:
    found = hypervolume_improvement(np.array([[0.5, 0.4]]), np.empty((0, 2)), REFERENCE)
    assert found == pytest.approx([0.2])


@pytest.mark.parametrize("front", [FRONT, FRONT[[0, 0, 1]], np.empty((0, 2))])
def test_expected_hypervolume_improvement_is_the_mean_of_many_draws(front: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    mean, std = rng.uniform(-0.3, 1.2, (7, 2)), rng.uniform(0.02, 0.5, (7, 2))
    mean[0], std[0] = (0.85, 0.85), 0.0  # a sure thing

    def excess(objective: int) -> Excess:
        of = mean[:, objective, None], std[:, objective, None]
        return lambda thresholds: expected_improvement(*of, thresholds)

    found = expected_hypervolume_improvement((excess(0), excess(1)), front, REFERENCE)
    draws = mean + std * rng.standard_normal((4000, 7, 2))
    gains = hypervolume_improvement(draws.reshape(-1, 2), front, REFERENCE).reshape(4000, 7)
    error = gains.std(0) / np.sqrt(len(gains))
    assert (np.abs(found - gains.mean(0)) < 4.5 * error + 1e-9).all()


def test_scalarised_improvement_prefers_what_dominates() -> None:
    measured = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.5]])
    points = np.array([[0.2, 0.2, 0.2], [0.9, 0.9, 0.9], [0.5, 0.5, 0.5]])
    for seed in range(5):
        weights = np.random.default_rng(seed).dirichlet(np.ones(3))
        values = scalarised_improvement(points, measured, weights)
        assert np.argsort(values).tolist() == [0, 2, 1]
        assert (scalarised_improvement(measured, measured, weights) <= 0).all()


def test_a_draw_is_each_candidates_own() -> None:
    drawn = thompson(np.zeros(500), np.ones(500), np.random.default_rng(0))
    assert len(np.unique(drawn)) == 500
    assert drawn.std() == pytest.approx(1, abs=0.1)


def test_a_scalarisation_looks_at_the_worst_objective() -> None:
    """Of what two points win over (0, 0) in one objective each, and both a little, the even one."""
    points = np.array([[1.0, -1.0], [0.4, 0.4], [-1.0, 1.0]])
    measured = np.array([[0.0, 0.0]])
    gains = scalarised_improvement(points, measured, np.array([0.5, 0.5]))
    assert int(gains.argmax()) == 1
    assert gains[1] == pytest.approx(0.5 * 0.4 + 0.05 * 0.5 * 0.8, abs=1e-6)
    assert gains[[0, 2]] == pytest.approx([0, 0], abs=1e-6)
