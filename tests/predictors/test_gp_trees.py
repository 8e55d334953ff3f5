"""What `gp-trees` says is put together from its two parts."""

import numpy as np
import pytest

from nasplatform.predictors import get_predictor
from nasplatform.predictors.gp_trees import GPTrees
from nasplatform.testing.predictors import known_cells, known_scores, other_cells


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_trees_have_their_share(share: float) -> None:
    predictor = get_predictor("gp-trees", trees=20, tree_weight=share)
    assert isinstance(predictor, GPTrees)
    cells = other_cells()[:30]
    found = predictor.fit(known_cells(), known_scores()).predict(cells).mean
    x = predictor._scaling(cells)
    mean = (1 - share) * predictor._process.predict(x)[0] + share * predictor._forest(x)
    np.testing.assert_allclose(found, predictor._labels.label(mean), rtol=1e-6)
