"""Every registered predictor on spaces of numeric choices: it learns, is kept whole, refuses."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from nasplatform.errors import PredictorError
from nasplatform.predictors import get_predictor, load_predictor
from nasplatform.predictors.base import Predictor
from nasplatform.predictors.gp_ensemble import GPEnsemble
from nasplatform.spaces import GraphBatch, get_space

LABELLED = 100
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {"trees": 40, "steps": 30},
    "gp": {"steps": 30},
    "gp-trees": {"trees": 40},
    "trees": {"trees": 60},
    "renas": {"epochs": 8},
    "assessor": {"epochs": 60, "width": 64, "anchors": 100},
}


@cache
def chains() -> tuple[GraphBatch, np.ndarray]:
    """Chains whose score depends on windows, expansions and strides, and on their place."""
    space = get_space(
        "macro-chain", max_depth=2, widths=((8, 16), (16, 24)), strides=((1, 2), (1, 2))
    )
    graphs = space.graphs(space.sample(400, np.random.default_rng(0)).unique())
    assert graphs.attributes is not None
    kernel, expansion, width, stride = np.nan_to_num(graphs.attributes).transpose(2, 0, 1)
    scores = kernel[:, 1] + 2 * expansion.sum(1) + width[:, -2] / 8 - 3 * stride.max(1)
    return graphs, scores + np.random.default_rng(1).normal(size=len(graphs)) / 2


def fitted(name: str) -> Predictor:
    graphs, scores = chains()
    predictor = get_predictor(name, **OPTIONS[name])
    return predictor.fit(graphs[:LABELLED], scores[:LABELLED], unlabelled=graphs[LABELLED:])


@pytest.mark.parametrize("name", OPTIONS)
def test_a_predictor_learns_from_attributes_and_is_kept(name: str, tmp_path: Path) -> None:
    graphs, scores = chains()
    predictor = fitted(name)
    said = predictor.predict(graphs[LABELLED:])
    tau = kendalltau(said.mean, scores[LABELLED:]).statistic
    assert tau > (0.4 if name in ("renas", "assessor") else 0.7), tau
    predictor.save(tmp_path / "kept")
    loaded = load_predictor(tmp_path / "kept")
    np.testing.assert_allclose(loaded.predict(graphs[LABELLED:]).mean, said.mean, rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in ("renas", "assessor") else [])
        for name in OPTIONS
    ],
)
def test_a_predictor_learns_from_a_pyramid_of_transformers(name: str) -> None:
    space: Any = get_space("vit", subspace="pit-tiny")
    some = space.sample(140, np.random.default_rng(0)).unique()
    graphs = space.graphs(some)
    params = [space.to_params(one) for one in some]
    scores = np.array([one["head_width"] / 8 - one["ratio"] / 2 for one in params])
    predictor = get_predictor(name, **OPTIONS[name])
    said = predictor.fit(graphs[:60], scores[:60], unlabelled=graphs[60:]).predict(graphs[60:])
    tau = kendalltau(said.mean, scores[60:]).statistic
    assert tau > (0.2 if name in ("renas", "assessor") else 0.75), tau
    assert np.isfinite(said.std).all()


@pytest.mark.parametrize("name", OPTIONS)
def test_numbers_alone_change_what_is_said(name: str) -> None:
    """The same operations, costs and shapes, but other attributes."""
    graphs, _ = chains()
    assert graphs.attributes is not None
    low = np.where(np.isnan(graphs.attributes), np.nan, [a.low for a in graphs.attribute_schema])
    changed = replace(graphs, attributes=low.astype(np.float32))
    predictor = fitted(name)
    moved = predictor.predict(graphs).mean - predictor.predict(changed).mean
    assert np.abs(moved).max() > 1e-3


def test_another_schema_is_refused(tmp_path: Path) -> None:
    graphs, _ = chains()
    fitted("gp").save(tmp_path / "kept")
    first, *rest = graphs.attribute_schema
    other = replace(graphs, attribute_schema=(replace(first, high=9.0), *rest))
    with pytest.raises(PredictorError, match="was expected"):
        load_predictor(tmp_path / "kept").predict(other)


def test_default_distils_no_network_for_chains() -> None:
    """The features tell all of a chain; on cells it distils as ever."""
    predictor = fitted("default")
    assert isinstance(predictor, GPEnsemble)
    assert not predictor._distilled
