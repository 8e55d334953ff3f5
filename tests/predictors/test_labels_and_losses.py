from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from nasplatform.predictors.calibration import Rows, cross_fitted, slope_and_spread
from nasplatform.predictors.losses import PairLoss, pairwise_ranking_loss, refinement_loss
from nasplatform.predictors.target_maps import Floats, MonotoneMap, log_gaps, normal_scores


def test_log_gaps_do_not_depend_on_the_unit() -> None:
    labels = np.random.default_rng(0).gamma(2, size=50)
    np.testing.assert_allclose(log_gaps(labels), log_gaps(100 * labels - 3))


def test_log_gaps_are_logarithms_of_quartile_ranges() -> None:
    labels = np.array([0.0, 0.5, 0.75, 0.8, 0.85, 0.875, 0.9, 1.0])
    spread = np.subtract(*np.percentile(labels, [75, 25]))
    logs = -np.log(1 + (1.0 - labels) / (2 * spread))
    low = np.median(logs) - 0.5 * np.subtract(*np.percentile(logs, [75, 25]))
    np.testing.assert_allclose(log_gaps(labels, scale=2.0, floor=0.5), np.maximum(logs, low))
    assert (logs < low).sum() == 2


def test_normal_scores_are_quantiles_of_middle_ranks() -> None:
    labels = np.array([3.0, 1.0, 2.0, 2.0])
    expected = norm.ppf((np.array([4, 1, 2.5, 2.5]) - 0.5) / 4)
    np.testing.assert_allclose(normal_scores(labels), expected)


def test_a_deviation_is_half_the_way_between_its_ends() -> None:
    ranks = MonotoneMap(np.array([-1.0, 0.0, 1.0]), np.array([0.0, 3.0, 4.0]))
    said = ranks.prediction(np.array([0.0, 0.5, 2.0]), np.array([0.5, 0.5, 0.1]))
    np.testing.assert_allclose(said.mean, [3.0, 3.5, 6.0])  # 2 a unit beyond the ends
    np.testing.assert_allclose(said.std, [(3.5 - 1.5) / 2, (4.0 - 3.0) / 2, 0.2])


def test_log_gaps_keep_the_order_and_lift_failures() -> None:
    labels = np.array([0.1, 0.2, 0.85, 0.9, 0.91, 0.92, 0.93, 0.94])
    gaps = log_gaps(labels)
    assert gaps[0] == gaps[1]
    assert (np.diff(gaps[1:]) > 0).all()
    assert gaps[-1] == 0


def test_monotone_map_goes_through_its_labels() -> None:
    labels = np.array([0.3, 0.1, 0.2, 0.9])
    ranks = MonotoneMap.of(labels)
    np.testing.assert_allclose(ranks.label(normal_scores(labels)), labels)
    far = ranks.label(np.array([-9.0, -8.0, 8.0, 9.0]))
    assert (np.diff(far) > 0).all()
    restored = MonotoneMap.restore(ranks.state())
    np.testing.assert_array_equal(restored.label(far), ranks.label(far))


def test_labels_that_share_the_lowest_score_widen_the_spread() -> None:
    labels = np.array([0.1, 0.3, 0.8, 0.9, 1.0])
    scores = np.array([-1.0, -1.0, 0.0, 0.5, 1.0])
    ranks = MonotoneMap.through(scores, labels)
    low, high = ranks.prediction(np.array([-1.0, 1.0]), np.array([0.01, 0.01])).std
    assert low == pytest.approx(np.sqrt(0.5) * 0.1, rel=0.1)
    assert high < 0.02


@pytest.mark.parametrize(
    ("kind", "phi"),
    [
        ("logistic", lambda z: np.log1p(np.exp(-z))),
        ("hinge", lambda z: max(0.0, 1 - z)),
        ("exponential", lambda z: np.exp(-z)),
    ],
)
def test_pairwise_loss_is_a_loop_over_pairs(kind: PairLoss, phi: Callable[[float], float]) -> None:
    scores, targets = [0.3, -1.0, 0.5, 2.0], [0.1, 0.4, 0.4, 0.9]
    terms = [
        phi((scores[i] - scores[j]) * np.sign(targets[i] - targets[j]))
        for i in range(4)
        for j in range(4)
        if targets[i] != targets[j]
    ]
    loss = pairwise_ranking_loss(torch.tensor(scores), torch.tensor(targets), kind)
    assert float(loss) == pytest.approx(np.mean(terms), rel=1e-5)


def test_refinement_is_zero_where_distances_agree() -> None:
    targets = torch.tensor([0.0, 1.0, 3.0, 7.0])
    along = targets[:, None] * torch.tensor([[3.0, 4.0]])
    assert float(refinement_loss(along, targets)) == pytest.approx(0, abs=1e-9)
    features = torch.rand(4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = refinement_loss(features, targets)
    pairs = list(combinations(range(4), 2))
    near = np.array([float((features[i] - features[j]).detach().norm()) for i, j in pairs])
    apart = np.array([abs(float(targets[i] - targets[j])) for i, j in pairs])
    by_hand = np.mean((near / near.mean() - apart / apart.mean()) ** 2)
    assert float(loss.detach()) == pytest.approx(by_hand, rel=1e-4)
    loss.backward()
    assert float(loss.detach()) > 0.01
    assert torch.isfinite(features.grad).all()


def test_cross_fitting_never_scores_what_it_learnt() -> None:
    targets = np.arange(9.0)
    seen = []

    def score(learnt: Rows, asked: Rows, turn: int) -> Floats:
        assert not set(learnt) & set(asked)
        seen.append((turn, len(learnt)))
        return targets[asked] * 2

    np.testing.assert_array_equal(cross_fitted(score, targets, 0), 2 * targets)
    assert seen == [(0, 5), (1, 4)]
    alike = np.array([0.0] * 8 + [1.0])  # of one half nothing can be learnt
    found = cross_fitted(lambda learnt, asked, turn: np.full(len(asked), 7.0), alike, 0)
    assert sorted(set(found.tolist())) == [0.0, 7.0]


def test_slope_and_spread_of_a_noisy_line() -> None:
    rng = np.random.default_rng(0)
    held_out = rng.standard_normal(20_000)
    slope, spread = slope_and_spread(
        held_out, 0.7 * held_out + 0.3 * norm.rvs(size=20_000, random_state=1)
    )
    assert slope == pytest.approx(0.7, abs=0.02)
    assert spread == pytest.approx(0.3, abs=0.01)
    assert slope_and_spread(held_out, -held_out)[0] == 0.05  # the order is kept, however weak
