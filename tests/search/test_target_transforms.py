"""Labels on several scales: which predictor learns on which, and what it comes to."""

from __future__ import annotations

import numpy as np
import pytest
from nasplatform_toy import Ridge

from nasplatform.predictors.base import Prediction
from nasplatform.predictors.gp import GP, GPOptions
from nasplatform.predictors.target_maps import MonotoneMap, log_gaps, normal_scores
from nasplatform.search.target_transforms import (
    Scale,
    TargetTransform,
    best_of,
    combine,
    variants,
)

LABELS = 1 - np.random.default_rng(0).lognormal(-2, 1.5, 30)
KEPT = np.ones(30, bool)


def test_a_predictor_that_can_be_told_the_scale_is_copied_for_the_others() -> None:
    given = GP(GPOptions(labels="gaps", steps=7), seed=3)
    (first, ranks), (second, gaps) = variants(given, ("ranks", "gaps"))
    assert (ranks, gaps) == ("ranks", "gaps")
    assert second is given
    assert (first.options.labels, first.options.steps, first.seed) == ("ranks", 7, 3)


def test_any_other_predictor_is_weighed_on_the_first_scale() -> None:
    ridge = Ridge()
    assert variants(ridge, ("ranks", "gaps")) == [(ridge, "ranks")]
    assert variants(GP(GPOptions(labels="ranks")), ("gaps",))[0][1] == "gaps"


@pytest.mark.parametrize("scale", ["ranks", "gaps"])
def test_a_transform_takes_predictions_back_to_targets_of_unit_variance(scale: Scale) -> None:
    targets = normal_scores(LABELS) if scale == "ranks" else log_gaps(LABELS)
    transform = TargetTransform.of(Ridge(), scale, LABELS, KEPT)
    rng = np.random.default_rng(1)
    mean, std = rng.normal(0, 1, 50), rng.uniform(0.05, 1, 50)
    told = MonotoneMap.through(targets, LABELS).prediction(
        mean * targets.std() + targets.mean(), std * targets.std()
    )
    found = combine([transform], [told])
    assert found[0] == pytest.approx(mean, abs=1e-6)
    assert found[1] == pytest.approx(std, abs=5e-3)
    assert best_of([transform]) == pytest.approx((targets.max() - targets.mean()) / targets.std())


def test_transforms_are_averaged_and_the_best_keeps_the_limits() -> None:
    kept = np.median(LABELS) > LABELS
    transforms = [TargetTransform.of(Ridge(), scale, LABELS, kept) for scale in ("ranks", "gaps")]
    told = Prediction(np.array([0.5, 0.9]), np.array([0.1, 0.02]))
    alone = [combine([transform], [told]) for transform in transforms]
    both = combine(transforms, [told, told])
    assert both[0] == pytest.approx((alone[0][0] + alone[1][0]) / 2)
    bests = [best_of([transform]) for transform in transforms]
    assert best_of(transforms) == pytest.approx(sum(bests) / 2)
    whole = [TargetTransform.of(Ridge(), scale, LABELS, KEPT).best for scale in ("ranks", "gaps")]
    assert all(one < best for one, best in zip(bests, whole, strict=True))
