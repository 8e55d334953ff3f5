"""Objectives and limits: read, refused where they cannot be had, kept by every sampler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from search_toys import SAMPLERS, SEVERAL, toy_evaluator, toy_sampler

from nasplatform.config import SearchOptions
from nasplatform.errors import ConfigError, RunError
from nasplatform.search import OptimizationConfig, open_study
from nasplatform.search.evolution import RegularizedEvolution
from nasplatform.search.objectives import Limit
from nasplatform.search.predictor_sampler import PredictorSampler

every_sampler = pytest.mark.parametrize("kind", SAMPLERS, ids=lambda kind: kind.name)


def optimization(evaluator: Any, **options: Any) -> OptimizationConfig[Any]:
    return OptimizationConfig.of(SearchOptions(budget=100, **options), evaluator)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": {"latncy": "minimize"}}, "objectives: evaluator 'bits' has no 'latncy'"),
        ({"constraints": {"max_param": 3}}, "has no 'param'; did you mean 'params'"),
        ({"constraints": {"params": 3}}, r"constraints\.params: expected max_NAME or min_NAME"),
        (
            {"constraints": {"min_params": 5, "max_params": 4}},
            "none of 136 architectures keeps min_params: 5 and max_params: 4; "
            "params runs from 1 to 9",
        ),
    ],
)
@pytest.mark.parametrize("unknown", [True, False])
def test_what_cannot_be_had_is_refused(options: Any, message: str, unknown: bool) -> None:
    if unknown:
        message = message.replace("none of 136", "none of 20,000")
    with pytest.raises(ConfigError, match=message):
        optimization(toy_evaluator(8, unknown=unknown), **options)


def test_limits_measure_in_units_of_their_bound() -> None:
    assert Limit.parse("max_params", 10).violation(15.0) == pytest.approx(0.5)
    assert Limit.parse("min_test_accuracy", 0.8) == Limit("test_accuracy", 0.8, upper=False)
    assert Limit("a", 0.8, upper=False).violation(np.array([0.4, 0.8])) == pytest.approx([0.5, 0])


def test_a_limit_may_just_be_reached() -> None:
    evaluator = toy_evaluator(4)
    every = evaluator.space.enumerate()
    params = np.asarray(evaluator.attributes(every)["params"])
    wanted = optimization(evaluator, constraints={"max_params": 3, "min_params": 2})
    assert (wanted.feasible_mask(every) == ((params == 2) | (params == 3))).all()
    assert {2, 3} <= set(params.tolist())


@pytest.mark.parametrize("unknown", [True, False])
@every_sampler
def test_known_limits_are_kept_by_every_proposal(run_search: Any, kind: Any, unknown: bool) -> None:
    evaluator = toy_evaluator(8, unknown=unknown)
    records = run_search(
        kind,
        evaluator,
        25,
        optimization=optimization(evaluator, constraints={"max_params": 5, "min_flops": 6}),
    )
    assert len({one.hash for one in records}) == 25
    for one in records:
        params = 1 + one.architecture.count("1")
        assert params <= 5
        assert 2 * params >= 6


@every_sampler
def test_limits_on_what_is_measured_are_told_and_learnt(run_search: Any, kind: Any) -> None:
    evaluator = toy_evaluator(8)
    asked = optimization(evaluator, constraints={"max_ones": 4})
    assert not asked.static_names & {"ones"}
    records = run_search(kind, evaluator, 40, optimization=asked)
    breaks = [one for one in records if one.violation["max_ones: 4"] > 0]
    assert all(one.metrics["ones"] > 4 and not one.counts for one in breaks)
    assert all(one.metrics["ones"] <= 4 and one.counts for one in records if one not in breaks)
    assert breaks  # it is not known beforehand
    if kind is PredictorSampler:
        best = max(s for s, n in every_kept(evaluator) if n <= 4)
        assert max(one.score for one in records if one.counts) == pytest.approx(best)


def every_kept(evaluator: Any) -> list[tuple[float, int]]:
    ones = evaluator.candidates.matrix.sum(1).tolist()
    return list(zip(evaluator.known_scores().tolist(), ones, strict=True))


@pytest.mark.parametrize("objective", ["params", "ones"])
@pytest.mark.parametrize("kind", SEVERAL, ids=lambda kind: kind.name)
def test_several_objectives(run_search: Any, kind: Any, objective: str) -> None:
    evaluator = toy_evaluator(8)
    asked = optimization(evaluator, objectives={objective: "minimize"})
    assert asked.directions == ["maximize", "minimize"]
    records = run_search(kind, evaluator, 20, optimization=asked)
    again = run_search(kind, evaluator, 20, optimization=asked, folder="again")
    assert records == again
    assert all(
        one.values == [one.score, {**one.metrics, **one.attributes}[objective]] for one in records
    )


def test_three_objectives(run_search: Any) -> None:
    evaluator = toy_evaluator(8)
    asked = optimization(evaluator, objectives={"params": "minimize", "ones": "maximize"})
    records = run_search(PredictorSampler, evaluator, 25, optimization=asked)
    assert len({one.hash for one in records}) == 25
    assert all(len(one.values) == 3 for one in records)


def test_the_predictor_grows_the_hypervolume_faster_than_chance(run_search: Any) -> None:
    evaluator = toy_evaluator(10)
    asked = optimization(evaluator, objectives={"params": "minimize"})
    found = {}
    for kind in SEVERAL:
        records = [run_search(kind, evaluator, 30, s, f"{kind.name}{s}", asked) for s in range(3)]
        found[kind.name] = np.mean([area([one.values for one in each]) for each in records])
    assert found["predictor"] > max(found["random"], found["tpe"], found["nsga2"])


def area(values: Any) -> float:
    """Hypervolume above score 0 and below 12 parameters, by a plain sum over strips."""
    best = [max((s for s, p in values if p <= limit), default=0.0) for limit in range(12)]
    return float(sum(max(b, 0.0) for b in best))


def test_a_sampler_of_one_objective_says_so() -> None:
    evaluator = toy_evaluator(8)
    asked = optimization(evaluator, objectives={"params": "minimize"})
    with pytest.raises(ConfigError, match="'regularized-evolution' searches by the score alone"):
        toy_sampler(RegularizedEvolution, evaluator, optimization=asked)


def test_a_study_of_other_objectives_is_refused(tmp_path: Any) -> None:
    with open_study(tmp_path / "s.db", "s"):
        pass
    with (
        pytest.raises(RunError, match="has the objectives maximize, this search has maximize, min"),
        open_study(tmp_path / "s.db", "s", directions=["maximize", "minimize"]),
    ):
        pass


def test_a_pruner_needs_one_objective(tmp_path: Any) -> None:
    with (
        pytest.raises(ConfigError, match="pruner 'median' needs a single objective, 2 given"),
        open_study(tmp_path / "s.db", "s", directions=["maximize", "minimize"], pruner="median"),
    ):
        pass
