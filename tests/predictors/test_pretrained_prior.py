"""What the source tasks taught still fits the features, and helps."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

import nasplatform
from nasplatform.benchmarks.registry import load_table
from nasplatform.predictors.kernels import Prior, fit_kernel
from nasplatform.predictors.pretrained_prior import PretrainedPrior, pretrained_prior_for
from nasplatform.spaces.graph import GraphBatch


@pytest.fixture(scope="module")
def digits() -> tuple[GraphBatch, np.ndarray]:
    """Measured cells as graphs of the official skeleton, and their accuracies."""
    table = load_table("cells-digits")
    rows = np.random.default_rng(5).choice(len(table.architectures), 500, replace=False)
    space = nasplatform.get_space("nasbench101")
    return space.graphs(table.architectures[rows]), table.values("valid_accuracy", 10, None)[rows]


def prior_for(graphs: GraphBatch) -> PretrainedPrior:
    found = pretrained_prior_for(graphs)
    assert found is not None, "the features have changed: run analysis/pretrained_prior.py"
    return found


def test_source_tasks_repeat_what_the_table_taught(digits: tuple[GraphBatch, np.ndarray]) -> None:
    graphs, accuracy = digits
    prior = prior_for(graphs)
    told = prior(prior.scaling(graphs))
    assert told.shape == (len(graphs), prior.source_tasks)
    tau = kendalltau(told[:, 0], accuracy)[0]
    assert tau > 0.65, f"{tau:.3f}: the features have changed: run analysis/pretrained_prior.py"


@pytest.mark.parametrize("name", ["nasbench101", "nasbench201"])
def test_features_are_on_the_scale_of_the_source_tasks(name: str) -> None:
    space = nasplatform.get_space(name)
    graphs = space.graphs(space.sample(500, np.random.default_rng(5)))
    x = prior_for(graphs).scaling(graphs)
    assert abs(float(np.median(x))) < 0.5
    assert 0.5 < float(x.std()) < 2


def test_source_tasks_of_nasbench201_know_good_cells_from_bad_ones() -> None:
    """Without a convolution a network can hardly learn; all source tasks must say so."""
    space = nasplatform.get_space("nasbench201")
    texts = ["333333", "313333", "331333"], ["444444", "144414", "044404"]
    told = [
        prior(prior.scaling(graphs))
        for graphs in (space.graphs([space.parse(text) for text in part]) for part in texts)
        for prior in [prior_for(graphs)]
    ]
    assert (told[0].min(0) > told[1].max(0)).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nasbench101", {"modules_per_stack": 1}),
        ("nasbench101", {"stem_channels": 64}),
        ("nasbench101", {"input_shape": (3, 64, 64)}),
        ("nasbench201", {"cells_per_stage": 1}),
        ("nasbench201", {"stem_channels": 8}),
        ("nasbench201", {"input_shape": (3, 16, 16)}),
    ],
)
def test_nothing_is_told_about_other_skeletons(name: str, options: dict[str, Any]) -> None:
    """Neither other cells in a row, nor another width, nor another resolution."""
    other = nasplatform.get_space(name, **options)
    assert pretrained_prior_for(other.graphs(other.enumerate()[:3])) is None
    same = nasplatform.get_space(name)
    assert pretrained_prior_for(same.graphs(same.enumerate()[:3])) is not None


def test_restored_priors_are_the_same(digits: tuple[GraphBatch, np.ndarray]) -> None:
    graphs, _ = digits
    prior = prior_for(graphs)
    x = prior.scaling(graphs)
    assert np.array_equal(PretrainedPrior.restore(prior.state())(x), prior(x))


def test_kernel_starts_where_the_prior_says() -> None:
    rng = np.random.default_rng(0)
    x, groups = rng.normal(size=(12, 6)), np.array([0, 0, 0, 1, 1, 1])
    centres = rng.normal(size=6)
    pinned = Prior(group=1e-9, feature=1e-9, weights=centres)
    kernel = fit_kernel(x, rng.normal(size=12), groups, pinned, steps=3, rate=1e-9)
    assert np.allclose(np.log(kernel.weights), centres, atol=1e-6)
