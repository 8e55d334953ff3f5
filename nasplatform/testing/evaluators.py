"""The contract of an evaluator as tests; a plug-in author inherits them in a test module.

class TestMyEvaluator(EvaluatorContract):
    variants = ({"fidelity": 2}, {"metric": "other"})

    def evaluator(self, folder, **options):
        return MyEvaluator(MyOptions(**options), space)
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna

from nasplatform.evaluators.base import Evaluation, Evaluator
from nasplatform.executors.store import open_store
from nasplatform.search import RandomSampler, TrialRecord, search
from nasplatform.spaces.base import Population


class EvaluatorContract:
    """What every evaluator must do.

    variants: options beside the default ones under which it must do the same; one for each option
              that decides what is measured, so that none is obeyed by half of the code.
    """

    variants: ClassVar[tuple[dict[str, Any], ...]] = ()

    def evaluator(self, folder: Path, **options: Any) -> Evaluator[Any]:
        """Make a new evaluator; ``folder`` is its own, for what it keeps."""
        raise NotImplementedError

    def every(self, folder: Path) -> list[Evaluator[Any]]:
        """Make it with the default options, and with each of the variants."""
        made = []
        for index, options in enumerate(({}, *self.variants)):
            (folder / str(index)).mkdir(parents=True)
            made.append(self.evaluator(folder / str(index), **options))
        return made

    def some(self, evaluator: Evaluator[Any]) -> Population[Any]:
        """Return a few architectures that it can measure."""
        if evaluator.candidates is not None:
            return evaluator.candidates[:3]
        return evaluator.space.sample(3, np.random.default_rng(0))

    def test_fidelities_ascend(self, tmp_path: Path) -> None:
        """The last one is the full training; the one that is searched at is among them."""
        for one in self.every(tmp_path):
            assert len(one.fidelities) >= 1
            assert list(one.fidelities) == sorted(set(one.fidelities))
            assert one.target_fidelity in one.fidelities

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
        assert found.seconds >= 0

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
        """For a table: the score of each candidate, in their order, whatever the options."""
        for one in self.every(tmp_path):
            for seed in (0, 1):
                known = one.known_scores(seed)
                if known is None:
                    continue
                assert one.candidates is not None
                assert len(known) == len(one.candidates)
                for row in {0, len(known) // 2, len(known) - 1}:
                    measured = one.evaluate(one.candidates[row], one.target_fidelity, seed)
                    assert measured.score == known[row] or not math.isfinite(known[row])

    def test_a_search_obeys_the_options(self, tmp_path: Path) -> None:
        """Its trials hold what ``evaluate`` gives at the target fidelity and the search's seed."""
        for one in self.every(tmp_path):
            (record,) = searched(one, seed=1)
            assert (record.fidelity, record.seed) == (one.target_fidelity, 1)
            again = one.evaluate(one.space.parse(record.architecture), one.target_fidelity, 1)
            assert record.score == again.score
            assert set(one.metrics()) <= record.metrics.keys()

    def test_a_search_measures_once(self, tmp_path: Path) -> None:
        """A second one with the same store pays for nothing."""
        one = self.evaluator(tmp_path)
        with open_store(tmp_path / "measurements.db") as store:
            study = optuna.create_study(direction="maximize", sampler=sampler(one))
            assert search(study, one, store, 1) == 1
            study = optuna.create_study(direction="maximize", sampler=sampler(one))
            assert search(study, one, store, 1) == 0

    def test_equal_keys_mean_equal_measurements(self, tmp_path: Path) -> None:
        """Options that change what is measured change the task or the fidelity."""
        found: dict[tuple[str, int], Evaluation] = {}
        for one in self.every(tmp_path):
            measured = one.evaluate(self.some(one)[0], one.target_fidelity, 1)
            first = found.setdefault((one.task, one.target_fidelity), measured)
            assert first.score == measured.score
            assert first.metrics.keys() == measured.metrics.keys()


def sampler(evaluator: Evaluator[Any]) -> RandomSampler[Any]:
    """Return a sampler of what an evaluator can measure."""
    return RandomSampler(evaluator.space, candidates=evaluator.candidates)


def searched(evaluator: Evaluator[Any], seed: int) -> list[TrialRecord]:
    """Return the record of a search of one trial."""
    study = optuna.create_study(direction="maximize", sampler=sampler(evaluator))
    with open_store(":memory:") as store:
        search(study, evaluator, store, 1, seed)
    return [record for trial in study.trials if (record := TrialRecord.of(trial)) is not None]
