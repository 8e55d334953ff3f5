"""The contract of a sampler as tests; a plug-in author inherits them in a test module.

class TestMySampler(SamplerContract):
    sampler_name = "my-sampler"

Optuna's own contract tests (``optuna.testing.pytest_samplers``) apply beside these.
"""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
from optuna.storages import InMemoryStorage
from pydantic import BaseModel

from nasplatform import plugins
from nasplatform.errors import ConfigError
from nasplatform.evaluators.base import Evaluation, Evaluator
from nasplatform.executors.store import open_store
from nasplatform.predictors.base import Predictor
from nasplatform.search import (
    ArchitectureSampler,
    OptimizationConfig,
    SamplerContext,
    TrialRecord,
    search,
)
from nasplatform.spaces import get_space
from nasplatform.spaces.base import Space


class CostOptions(BaseModel):
    """None."""


class CostEvaluator(Evaluator[Any]):
    """Scores by the arrays alone, in no time: many edges and a middling weight are good."""

    name = "cost"
    Options = CostOptions
    task = "cost"
    fidelities = (1,)

    def __init__(self, space: Space[Any], candidates: int | None = None) -> None:
        """Take the space; measure so many random architectures only, or all."""
        super().__init__(self.Options(), space)
        if candidates is not None:
            drawn = space.sample(candidates, np.random.default_rng(0))
            self.candidates = drawn[np.sort(np.unique(drawn.keys, return_index=True)[1])]

    def evaluate(self, architecture: Any, fidelity: int, seed: int) -> Evaluation:
        """Score one architecture."""
        graphs = self.space.graphs([architecture])
        edges = float(graphs.adjacency.sum())
        weight = math.log(float(graphs.total_params[0]))
        return Evaluation(edges - abs(weight - 8.0), {"edges": edges}, seconds=1.0)


class SamplerContract:
    """What every sampler must do, on architectures that cost nothing to measure.

    sampler_name:  the name under which the sampler is registered.
    options:       its own options.
    space_options: name and options of the space that is searched.
    """

    sampler_name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    space_options: ClassVar[dict[str, Any]] = {
        "name": "nasbench101",
        "stem_channels": 4,
        "modules_per_stack": 1,
    }

    def space(self) -> Space[Any]:
        """Return the space."""
        return get_space(**self.space_options)

    def predictor(self) -> Predictor | None:
        """Return a new predictor for samplers that need one."""
        kind = plugins.get("predictors", "gp")
        made: Predictor = kind(kind.Options(steps=5))
        return made

    def sampler(
        self,
        evaluator: CostEvaluator,
        seed: int = 0,
        optimization: OptimizationConfig[Any] | None = None,
    ) -> ArchitectureSampler[Any]:
        """Make the sampler as a search file does."""
        kind: type[ArchitectureSampler[Any]] = plugins.get("samplers", self.sampler_name)
        first = {"initial": 5} if "initial" in kind.Options.model_fields else {}
        options = kind.Options(**{**first, **self.options})
        context = SamplerContext(
            evaluator.space, seed, evaluator.candidates, self.predictor(), optimization
        )
        made: ArchitectureSampler[Any] = plugins.make(
            "samplers", self.sampler_name, options, context, by="from_options"
        )
        return made

    def run(
        self,
        folder: Path,
        budgets: tuple[int, ...],
        seed: int = 0,
        candidates: int | None = 400,
        optimization: OptimizationConfig[Any] | None = None,
    ) -> list[TrialRecord]:
        """Search in one go, or broken off after each budget and resumed by a new sampler."""
        space = self.space()
        storage = InMemoryStorage()
        folder.mkdir(exist_ok=True)
        for budget in budgets:
            evaluator = CostEvaluator(space, candidates)
            study = optuna.create_study(
                storage=storage,
                study_name="contract",
                directions=optimization.directions if optimization else ["maximize"],
                sampler=self.sampler(evaluator, seed, optimization),
                load_if_exists=True,
            )
            with open_store(folder / "measurements.db") as store:
                search(study, evaluator, store, budget, seed, optimization=optimization)
        return [
            found for trial in study.get_trials() if (found := TrialRecord.of(trial)) is not None
        ]

    def test_proposes_each_architecture_once(self, tmp_path: Path) -> None:
        """As long as there is something new, nothing is proposed again."""
        for candidates in (400, None):
            records = self.run(tmp_path / str(candidates), (14,), candidates=candidates)
            assert [one.repeats for one in records] == [None] * 14

    def test_proposes_only_what_can_be_measured(self, tmp_path: Path) -> None:
        """A table holds some architectures and not others."""
        space = self.space()
        known = CostEvaluator(space, 400).candidates
        assert known is not None
        records = self.run(tmp_path / "run", (14,))
        found = space.population([space.parse(one.architecture) for one in records])
        assert np.isin(found.keys, known.keys).all()

    def test_same_seed_same_search(self, tmp_path: Path) -> None:
        """And another seed another."""
        first = self.run(tmp_path / "first", (14,))
        assert self.run(tmp_path / "again", (14,)) == first
        assert self.run(tmp_path / "other", (14,), seed=1) != first

    def test_resumed_is_unbroken(self, tmp_path: Path) -> None:
        """What a sampler proposes follows from its seed, the trial's number and the history."""
        unbroken = self.run(tmp_path / "unbroken", (14,))
        assert self.run(tmp_path / "resumed", (3, 7, 8, 14)) == unbroken

    def test_keeps_limits_that_are_known(self, tmp_path: Path) -> None:
        """Limits on parameters and FLOPs are kept by every proposal."""
        space = self.space()
        optimization = _optimization(CostEvaluator(space), {"max_params": 4000.0})
        for candidates in (400, None):
            records = self.run(
                tmp_path / str(candidates), (12,), candidates=candidates, optimization=optimization
            )
            assert all(one.attributes["params"] <= 4000 for one in records)

    def test_several_objectives_are_searched_or_refused(self, tmp_path: Path) -> None:
        """A sampler that knows one objective only says so before anything is measured."""
        space = self.space()
        optimization = _optimization(CostEvaluator(space), {}, {"flops": "minimize"})
        kind: type[ArchitectureSampler[Any]] = plugins.get("samplers", self.sampler_name)
        if kind.several_objectives:
            assert len(self.run(tmp_path / "run", (12,), optimization=optimization)) >= 12
            return
        complaint = ""
        with suppress(ConfigError):
            self.run(tmp_path / "run", (12,), optimization=optimization)
            complaint = "one objective only, yet the search ran with two"
        assert not complaint, complaint


def _optimization(
    evaluator: CostEvaluator, constraints: dict[str, float], objectives: Any = None
) -> OptimizationConfig[Any]:
    from nasplatform.config import SearchOptions

    options = SearchOptions(budget=30, constraints=constraints, objectives=objectives or {})
    return OptimizationConfig.of(options, evaluator)
