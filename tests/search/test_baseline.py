"""What random search finds: the closed form against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from nasplatform.search.baseline import random_search_curve


def test_agrees_with_simulated_searches() -> None:
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=60), 1)  # with ties
    curve = random_search_curve(scores, 20)
    orders = np.array([rng.permutation(scores)[:20] for _ in range(20_000)])
    best = np.maximum.accumulate(orders, axis=1)
    assert curve.mean == pytest.approx(best.mean(0), abs=0.02)
    low, high = np.percentile(best, [25, 75], axis=0)
    assert np.abs(curve.low - low).max() <= 0.1 + 1e-9  # one step of the rounded scores
    assert np.abs(curve.high - high).max() <= 0.1 + 1e-9


def test_ends_at_the_best_and_begins_at_the_mean() -> None:
    scores = np.array([0.3, 0.1, 0.7, 0.2])
    curve = random_search_curve(scores, 4)
    assert curve.mean[0] == pytest.approx(scores.mean())
    assert curve.mean[-1] == curve.low[-1] == curve.high[-1] == pytest.approx(0.7)
    assert (np.diff(curve.mean) > 0).all()


def test_stands_a_large_table() -> None:
    scores = np.random.default_rng(1).random(423_624)
    curve = random_search_curve(scores, 3)
    assert curve.mean == pytest.approx([0.5, 2 / 3, 0.75], abs=2e-3)


@pytest.mark.parametrize("budget", [0, 5])
def test_more_draws_than_scores_are_refused(budget: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and the 4 scores, got {budget}"):
        random_search_curve(np.arange(4.0), budget)
