"""What the predictor of a search said before each measurement, beside what was measured."""

from __future__ import annotations

import pandas as pd
from scipy.stats import norm

from nasplatform.runs.columns import EVALUATIONS, PLACE, PREDICTIONS

HALF90 = float(norm.ppf(0.95))
"""Standard deviations from the mean of a normal distribution to the ends of its central 90 %."""
_KEPT = [name for name in (*PLACE, *PREDICTIONS) if name in {**PLACE, **EVALUATIONS}]


def predictions(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return the evaluations that were predicted, with residual and within90.

    evaluations: of ``read_runs``. See ``read_predictions``.
    """
    known = evaluations.loc[evaluations["mean"].notna(), _KEPT].reset_index(drop=True)
    residual = known["score"] - known["mean"]
    inside = residual.abs() <= HALF90 * known["std"]
    told = residual.notna() & known["std"].notna()
    return known.assign(residual=residual, within90=inside.astype("boolean").where(told))
