"""What each part of `default` adds to the mean, put together by hand from the parts."""

from typing import Any

import numpy as np
import pytest

from nasplatform.predictors import get_predictor
from nasplatform.predictors.gp_ensemble import GPEnsemble, _Reader
from nasplatform.predictors.kernels import Prior
from nasplatform.predictors.pretrained_prior import pretrained_prior_for
from nasplatform.spaces import get_space
from nasplatform.spaces.graph import GraphBatch

Cells = tuple[GraphBatch, np.ndarray]


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Connected cells of NAS-Bench-201 in the official skeleton, for which a prior is shipped."""
    space = get_space("nasbench201")
    graphs = space.graphs(space.sample(300, np.random.default_rng(0)).unique())
    open_ = graphs[graphs.total_flops > graphs.total_flops.min()]
    noise = np.random.default_rng(1).normal(0, 0.3, len(open_))
    return open_, np.log(open_.total_params) + 0.5 * np.log(open_.total_flops) + noise


def fitted(cells: Cells, labels: int = 40, **options: Any) -> GPEnsemble:
    graphs, scores = cells
    made = get_predictor("default", **{"steps": 8, "trees": 30, **options})
    made.fit(graphs[:labels], scores[:labels], unlabelled=graphs)
    assert isinstance(made, GPEnsemble)
    return made


def of_processes(predictor: GPEnsemble, graphs: GraphBatch) -> np.ndarray:
    """The mean of what the processes say, each of the columns that it sees."""
    x, views = predictor._reader(graphs), predictor._reader.views
    said = [p.predict(x[:, v])[0] for p, v in zip(predictor._processes, views, strict=True)]
    return (said[0] + said[1]) / 2


def label(predictor: GPEnsemble, mean: np.ndarray) -> np.ndarray:
    return predictor._labels.label(mean)


@pytest.mark.parametrize("share", [0.2, 0.7, 1.0])
def test_trees_have_their_share_of_the_mean(cells: Cells, share: float) -> None:
    predictor = fitted(cells, tree_weight=share)
    graphs = cells[0][40:90]
    assert predictor._forest is not None
    trees = predictor._forest(predictor._reader(graphs)[:, predictor._reader.views[0]])
    mean = (1 - share) * of_processes(predictor, graphs) + share * trees
    np.testing.assert_allclose(predictor.predict(graphs).mean, label(predictor, mean), rtol=1e-6)


@pytest.mark.parametrize("options", [{"trees": 0}, {"tree_weight": 0.0}])
def test_no_trees_no_share(cells: Cells, options: dict[str, Any]) -> None:
    predictor = fitted(cells, **options)
    graphs = cells[0][40:90]
    assert predictor._forest is None
    mean = of_processes(predictor, graphs)
    np.testing.assert_allclose(predictor.predict(graphs).mean, label(predictor, mean), rtol=1e-6)


def test_networks_have_a_share_that_grows_with_the_labels(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """n labels: half of n / (n + 100), none below a hundred labels."""
    monkeypatch.setattr("nasplatform.predictors.distilled_gnn._IMITATION", _short())
    monkeypatch.setattr("nasplatform.predictors.distilled_gnn._FEW_LABELS", _short())
    predictor = fitted(cells, 120, distilled_gnns=2, trees=0)
    graphs = cells[0][120:]
    first, second = (network.score(graphs) for network in predictor._distilled)
    assert not np.allclose(first, second)
    share = 0.5 * 120 / 220
    mean = (1 - share) * of_processes(predictor, graphs) + share * (first + second) / 2
    np.testing.assert_allclose(predictor.predict(graphs).mean, label(predictor, mean), rtol=1e-6)
    assert not fitted(cells, 99, distilled_gnns=2)._distilled


def _short() -> Any:
    from nasplatform.predictors.distilled_gnn import _Recipe

    return _Recipe(1, 1e-3, 1e-2, 64)


def test_labels_are_learnt_on_the_mean_of_gaps_and_ranks(cells: Cells) -> None:
    from scipy.stats import norm, rankdata

    from nasplatform.predictors.target_maps import log_gaps

    predictor, scores = fitted(cells), cells[1][:40]
    parts = [log_gaps(scores), norm.ppf((rankdata(scores) - 0.5) / 40)]
    common = sum((part - part.mean()) / part.std() for part in parts) / 2
    np.testing.assert_allclose(label(predictor, common), scores, atol=1e-9)
    ranks = fitted(cells)._processes[1].posterior
    assert abs(np.median(ranks.x)) < 2  # standardised features
    np.testing.assert_allclose([p.centre for p in predictor._processes], 0, atol=1e-9)


@pytest.mark.parametrize("name", ["nasbench101", "nasbench201"])
def test_source_tasks_together_weigh_a_third_of_the_features(name: str) -> None:
    space = get_space(name)
    graphs = space.graphs(space.sample(20, np.random.default_rng(0)))
    reader = _Reader.of(graphs, graphs, pretrained=True)
    known = pretrained_prior_for(graphs)
    assert known is not None
    for view in reader.views:
        weights = reader.prior(view, False).weights
        assert weights is not None
        features = len(known.weights)
        np.testing.assert_allclose(weights[:features], known.weights, rtol=1e-6)
        assert np.exp(weights[features:]).sum() == pytest.approx(np.exp(known.weights).sum() / 3)
        assert len(weights) == features + known.source_tasks


def test_source_tasks_guess_the_labels_of_the_first_process_alone(cells: Cells) -> None:
    predictor = fitted(cells)
    known = predictor._reader.pretrained
    assert known is not None
    guesses = [process.posterior.kernel.guesses for process in predictor._processes]
    assert guesses == [known.source_tasks, 0]
    untaught = fitted(cells, pretrained=False)
    assert [process.posterior.kernel.guesses for process in untaught._processes] == [0, 0]


def test_without_pretraining_nothing_of_other_data_is_read(cells: Cells) -> None:
    graphs, _ = cells
    taught, untaught = fitted(cells), fitted(cells, pretrained=False)
    assert taught._reader.pretrained is not None
    assert untaught._reader.pretrained is None
    assert untaught._reader.prior(untaught._reader.views[0], True) == Prior()
    assert any(name.startswith("prior.") for name in taught._state())
    assert not any(name.startswith("prior.") for name in untaught._state())
    assert len(untaught._reader.groups) < len(taught._reader.groups)
    assert not np.allclose(untaught.predict(graphs).mean, taught.predict(graphs).mean)


def test_the_spread_is_that_of_both_processes(cells: Cells) -> None:
    predictor = fitted(cells)
    graphs = cells[0][40:60]
    x, views = predictor._reader(graphs), predictor._reader.views
    spreads = [p.predict(x[:, v])[1] for p, v in zip(predictor._processes, views, strict=True)]
    _, found = predictor._scored(graphs)
    np.testing.assert_allclose(found**2, (spreads[0] ** 2 + spreads[1] ** 2) / 2, rtol=1e-9)
