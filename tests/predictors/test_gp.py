"""A process says how sure it is: of few labels, of many, on any scale."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau, norm

from nasplatform.errors import PredictorError
from nasplatform.predictors import get_predictor, gp, kernels, load_predictor
from nasplatform.predictors.gp import PROPAGATION, Process, memory_of
from nasplatform.predictors.kernels import Kernel, Posterior, Prior
from nasplatform.testing.predictors import known_cells, known_scores, other_cells, samples

TRUE = Kernel(np.array([0.4, 0.2, 0.05, 0.05]), 1.0, 0.15, 1.6)


def quiet(done: int, total: int) -> None:
    pass


@cache
def covered(labels: int, draws: int) -> float:
    """Return the share of new labels of a known process inside central 90 % intervals."""
    rng = np.random.default_rng(labels)
    inside = []
    for _ in range(draws):
        x = rng.normal(size=(labels + 100, 4)).astype(np.float32)
        wide = x.astype(np.float64)
        covariance = TRUE(wide, wide) + TRUE.noise * np.eye(len(x))
        y = np.linalg.cholesky(covariance) @ rng.normal(size=len(x))
        process = Process.fit(x[:labels], y[:labels], np.zeros(4, np.intp), Prior(), 15, quiet)
        mean, std = process.predict(x[labels:])
        inside.append(np.abs(y[labels:] - mean) <= norm.ppf(0.95) * std)
    return float(np.mean(inside))


@pytest.mark.parametrize(
    ("labels", "draws", "least", "most"),
    [(6, 60, 0.84, 0.97), (15, 40, 0.88, 0.97), (120, 8, 0.88, 0.95)],
)
def test_intervals_hold_what_they_say(labels: int, draws: int, least: float, most: float) -> None:
    assert least < covered(labels, draws) < most


def test_the_stretch_is_what_left_out_labels_ask_for_and_more_where_they_are_few() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(25, 3)).astype(np.float32)
    y = x[:, 0] + rng.standard_t(2, 25)
    process = Process.fit(x, y, np.zeros(3, np.intp), Prior(), 10, quiet)
    standard = (y - y.mean()) / y.std()
    gaps, sure = [], []
    for left in range(25):
        rest = np.arange(25) != left
        kernel, wide = process.posterior.kernel, x.astype(np.float64)
        posterior = Posterior.of(kernel, wide[rest], standard[rest])
        k = kernel(wide[[left]], wide[rest])[0]
        noisy = kernel(wide[rest], wide[rest]) + kernel.noise * np.eye(24)
        gaps.append(standard[left] - k @ posterior.alpha)
        sure.append(kernel.signal + kernel.noise - k @ np.linalg.solve(noisy, k))
    asked = np.quantile(np.abs(gaps) / np.sqrt(sure), 0.9) / norm.ppf(0.95)
    stretch = max(asked, 0.5) ** (25 / 35) * (1 + 1.5 / 5)
    assert process.stretch == pytest.approx(stretch, rel=1e-3)
    assert process.error == pytest.approx(np.mean(np.square(gaps)), rel=1e-3)


@pytest.mark.parametrize("guesses", [0, 1])
def test_mean_and_deviation_are_the_textbooks(guesses: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 3)).astype(np.float32)
    y = 5 + 3 * (x[:, 0] + rng.normal(0, 0.3, 20))
    process = Process.fit(x, y, np.zeros(3, np.intp), Prior(guesses=guesses), 10, quiet)
    asked = rng.normal(size=(7, 3)).astype(np.float32)
    kernel, wide = process.posterior.kernel, x.astype(np.float64)
    noisy = kernel(wide, wide) + kernel.noise * np.eye(20)
    k = kernel(asked.astype(np.float64), wide)
    mean = k @ np.linalg.solve(noisy, (y - y.mean()) / y.std()) * y.std() + y.mean()
    alone = np.diagonal(kernel(asked.astype(np.float64), asked.astype(np.float64)))
    variance = alone + kernel.noise - np.sum(k * np.linalg.solve(noisy, k.T).T, axis=1)
    found = process.predict(asked)
    np.testing.assert_allclose(found[0], mean, rtol=1e-3)
    np.testing.assert_allclose(found[1], np.sqrt(variance) * y.std() * process.stretch, rtol=1e-2)


@pytest.mark.parametrize("labels", ["ranks", "gaps"])
def test_labels_are_learnt_as_ranks_or_as_gaps(labels: str) -> None:
    """Ranks do not change where labels are stretched; gaps do not where their unit is another."""
    graphs, scores, asked = known_cells(), known_scores(), other_cells()[:40]
    made = [
        get_predictor("gp", labels=labels, steps=5).fit(graphs, values).predict(asked).mean
        for values in (scores, np.exp(9 * scores), 3 * scores + 1)
    ]
    stretched = np.corrcoef(np.argsort(np.argsort(made[0])), np.argsort(np.argsort(made[1])))
    assert (stretched[0, 1] == pytest.approx(1)) == (labels == "ranks")
    np.testing.assert_allclose((made[2] - 1) / 3, made[0], rtol=1e-6)


def test_propagation_is_read_where_it_is_asked_for() -> None:
    graphs, scores = known_cells(), known_scores()
    plain, more = (
        get_predictor("gp", steps=2, propagation=asked).fit(graphs, scores)
        for asked in (False, True)
    )
    fewer = len(plain._scaling.columns), len(more._scaling.columns)
    assert fewer[0] < fewer[1]
    assert len(np.unique(more._scaling.group)) - len(np.unique(plain._scaling.group)) == len(
        PROPAGATION
    )


def test_many_labels_are_learnt_through_some_and_the_card_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    graphs, scores, asked = (
        other_cells()[:120],
        samples("nasbench101").truth[:120],
        other_cells()[120:],
    )
    exact = get_predictor("gp", steps=5).fit(graphs, scores)
    assert exact.card()["notes"] == []
    for module in (kernels, gp):
        monkeypatch.setattr(module, "EXACT", 100)
        monkeypatch.setattr(module, "INDUCING", 60)
    many = get_predictor("gp", steps=5).fit(graphs, scores)
    (note,) = many.card()["notes"]
    assert "all 120 count, through their covariances with 60 of them" in note
    assert kendalltau(many.predict(asked).mean, exact.predict(asked).mean)[0] > 0.9
    spread = many.predict(asked).std / exact.predict(asked).std
    assert 0.7 < np.median(spread) < 1.5
    many.save(tmp_path / "kept")
    kept = load_predictor(tmp_path / "kept").predict(asked)
    np.testing.assert_allclose(kept.mean, many.predict(asked).mean, rtol=1e-6)


def test_memory_is_asked_for_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasplatform.memory.available_memory", lambda: 50_000)
    words = "process on 40 labels needs about 0.0 GB of memory, 0.0 GB are free: learn from fewer"
    with pytest.raises(PredictorError, match=words):
        get_predictor("gp").fit(known_cells(), known_scores())
    assert memory_of(5000) == 1_200_000_000
    assert memory_of(10**6) < memory_of(5000)  # whatever the number of labels
