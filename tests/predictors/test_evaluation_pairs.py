"""Differences from a reference, on the draws on which both were measured."""

import pandas as pd

from nasplatform.predictors.evaluation import differences, paired


def test_a_predictor_without_the_reference_has_no_difference() -> None:
    results = pd.DataFrame(
        {
            "predictor": ["own", "own", "reference", "reference", "own"],
            "labels": [10, 10, 10, 10, 20],
            "draw": [0, 1, 0, 1, 0],
            "kendall": [0.5, 0.7, 0.4, 0.4, 0.9],
        }
    )
    asked = pd.DataFrame({"predictor": ["own", "own"], "labels": [20, 10]})
    summary = asked.merge(paired(results, "reference"), how="left")
    assert differences(summary) == ["", "0.2000 ± 0.1000"]
