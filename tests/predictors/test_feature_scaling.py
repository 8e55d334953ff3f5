"""Features as predictors see them: centred, of unit deviation, none that says nothing."""

import numpy as np

from nasplatform.encodings.cache import features_of
from nasplatform.predictors.feature_scaling import fit_scaling
from nasplatform.testing.predictors import known_cells, other_cells


def test_features_are_centred_and_of_unit_deviation() -> None:
    cells = known_cells()
    values = fit_scaling(cells, None)(cells)
    inside = np.abs(values).max(0) < 8  # what is far out is cut off
    assert inside.mean() > 0.5
    np.testing.assert_allclose(values[:, inside].mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(values[:, inside].std(0), 1, rtol=1e-3)
    assert values.shape[1] < features_of(cells).values.shape[1]  # what is the same is left out


def test_the_scale_is_that_of_what_is_unlabelled_too() -> None:
    many = other_cells()
    values = fit_scaling(known_cells()[:5], many)(many)
    inside = np.abs(values).max(0) < 8
    np.testing.assert_allclose(values[:, inside].std(0), 1, rtol=1e-3)
