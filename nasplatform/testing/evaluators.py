"""The contract of an evaluator as tests; a plug-in author inherits them in a test module.

class TestMyEvaluator(EvaluatorContract):
    def evaluator(self, folder):
        return MyEvaluator(MyOptions(), space)
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from nasplatform.evaluators.base import Evaluator
from nasplatform.search import EvaluationStore
from nasplatform.spaces.base import Population


class EvaluatorContract:
    """What every evaluator must do; ``evaluator`` makes a new one each time it is called."""

    def evaluator(self, folder: Path) -> Evaluator[Any]:
        """Make the evaluator; ``folder`` is its own, for what it keeps."""
        raise NotImplementedError

    def some(self, evaluator: Evaluator[Any]) -> Population[Any]:
        """Return a few architectures that it can measure."""
        if evaluator.candidates is not None:
            return evaluator.candidates[:3]
        return evaluator.space.sample(3, np.random.default_rng(0))

    def test_fidelities_ascend(self, tmp_path: Path) -> None:
        """The last one is the full training."""
        fidelities = self.evaluator(tmp_path).fidelities
        assert len(fidelities) >= 1
        assert list(fidelities) == sorted(set(fidelities))

    def test_same_arguments_same_measurement(self, tmp_path: Path) -> None:
        """Also by another object in another folder; only the seconds may differ."""
        one, other = self.evaluator(tmp_path / "one"), self.evaluator(tmp_path / "other")
        assert one.task == other.task
        architecture = self.some(one)[0]
        for fidelity in one.fidelities[-2:]:
            first = one.evaluate(architecture, fidelity, 0)
            second = other.evaluate(architecture, fidelity, 0)
            assert first.score == second.score
            assert math.isfinite(first.score)

    def test_measures_what_it_says(self, tmp_path: Path) -> None:
        """Metrics are finite or NaN numbers, under the names that it gave."""
        one = self.evaluator(tmp_path)
        found = one.evaluate(self.some(one)[0], one.fidelities[-1], 0)
        assert set(one.metrics()) <= found.metrics.keys()
        assert all(isinstance(value, float) for value in found.metrics.values())
        assert found.cost >= 0

    def test_knows_attributes_of_many_at_once(self, tmp_path: Path) -> None:
        """One value per architecture, params and FLOPs among them."""
        one = self.evaluator(tmp_path)
        some = self.some(one)
        found = one.attributes(some)
        assert {"params", "flops"} <= set(one.attribute_names()) == set(found)
        assert all(len(values) == len(some) for values in found.values())
        assert (np.asarray(found["params"]) > 0).all()

    def test_reports_on_the_way_and_stops(self, tmp_path: Path) -> None:
        """Where it says that it stops early, it does."""
        one = self.evaluator(tmp_path)
        heard: list[int] = []

        def stop(epochs: int, score: float) -> bool:
            heard.append(epochs)
            return True

        fidelity = one.fidelities[-1]
        found = one.evaluate_reporting(self.some(one)[0], fidelity, 0, stop)
        if one.stops_early and fidelity > 1:
            assert heard == [found.stopped]
        else:
            assert found.stopped is None

    def test_scores_known_unmeasured_are_the_measured(self, tmp_path: Path) -> None:
        """For a table: the score of each candidate, in their order."""
        one = self.evaluator(tmp_path)
        known = one.known_scores()
        if known is None:
            return
        assert one.candidates is not None
        assert len(known) == len(one.candidates)
        for row in (0, len(known) - 1):
            measured = one.evaluate(one.candidates[row], one.fidelities[-1], 0)
            assert measured.score == known[row] or not math.isfinite(known[row])

    def test_a_store_measures_once(self, tmp_path: Path) -> None:
        """The second answer is the first one."""
        one = self.evaluator(tmp_path)
        architecture = self.some(one)[0]
        with EvaluationStore(tmp_path / "measurements.db") as store:
            first = store.evaluate(one, architecture, one.fidelities[-1], 0)
            assert store.evaluate(one, architecture, one.fidelities[-1], 0) == first
            assert len(store) == 1
