"""Textbook models: what they see, and that they learn from ranks."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from nasplatform.predictors.baselines import BASELINES, OF_NUMBERS, baselines_of
from nasplatform.testing.predictors import samples


def test_flat_numbers_have_baselines_of_their_own() -> None:
    assert baselines_of(samples("nasbench101").known).keys() == BASELINES.keys()
    assert baselines_of(samples("vit").known).keys() == BASELINES.keys() | OF_NUMBERS.keys()
    graphs = samples("vit").other
    width = OF_NUMBERS["width"](graphs[:2], np.arange(2.0), graphs, 0)
    np.testing.assert_array_equal(width, graphs.channels[:, -1, -1])


def test_costs_and_chance() -> None:
    given = samples("vit")
    for name, costs in (
        ("params", given.other.total_params),
        ("flops", given.other.total_flops),
    ):
        said = BASELINES[name](given.known, given.scores, given.other, 0)
        np.testing.assert_array_equal(said, costs)
    first, other = (
        BASELINES["random"](given.known, given.scores, given.other, seed) for seed in (0, 1)
    )
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["one-hot-gp", "one-hot-trees", "flat-gp", "flat-trees"])
def test_textbook_models_learn_ranks(name: str) -> None:
    given = samples("vit" if name.startswith("flat") else "nasbench101")
    model = baselines_of(given.known)[name]
    said = model(given.known, given.scores, given.other, 0)
    assert kendalltau(said, given.truth)[0] > 0.6
    stretched = model(given.known, np.exp(20 * given.scores), given.other, 0)
    np.testing.assert_allclose(stretched, said, rtol=1e-6, atol=1e-9)
