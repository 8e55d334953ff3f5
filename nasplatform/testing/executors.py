"""The contract of an executor as tests; a plug-in author inherits them in a test module.

class TestMyExecutor(ExecutorContract):
    executor_name = "my-executor"
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import wait
from typing import Any, ClassVar

import numpy as np
import pytest

from nasplatform import plugins
from nasplatform.evaluators.base import Evaluation
from nasplatform.executors import EvaluationRequest, EvaluatorSpec, Executor, ExecutorContext
from nasplatform.spaces import get_space

_CELL: dict[str, Any] = {"name": "nasbench101", "stem_channels": 4, "modules_per_stack": 1}
_RECIPE = {"epochs": 3, "batch_size": 256}


def training(text: str, seed: int = 0, **changes: Any) -> EvaluationRequest:
    """Return a request for a training of a second or less on the digits."""
    spec = EvaluatorSpec(
        space=_CELL,
        evaluator={"name": "trained", "recipe": _RECIPE},
        task={"dataset": "digits"},
    )
    whole = {"spec": spec, "architecture": text, "fidelity": 3, "seed": seed, **changes}
    return EvaluationRequest.model_validate(whole)


def cells(count: int) -> list[str]:
    """Return the texts of so many random cells."""
    space = get_space(**_CELL)
    return [space.format(cell) for cell in space.sample(count, np.random.default_rng(0))]


class ExecutorContract:
    """What every executor must do, shown on real trainings.

    executor_name: the name under which the executor is registered.
    options:       its options.
    """

    executor_name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}

    @classmethod
    def make(cls, context: ExecutorContext | None = None) -> Executor:
        """Make the executor as a search file does."""
        kind: type[Executor] = plugins.get("executors", cls.executor_name)
        return kind(kind.Options(**cls.options), context)

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls) -> Iterator[Executor]:
        """Share one executor between the tests that do not end it."""
        with cls.make() as executor:
            yield executor

    def test_measures_what_the_evaluator_measures(self, executor: Executor) -> None:
        """The request is all that is needed, also as JSON; only the seconds may differ."""
        from nasplatform.executors.measure import measure

        request = training(cells(1)[0])
        again = EvaluationRequest.model_validate_json(request.model_dump_json())
        found = executor.submit(again).result(120)
        alone = measure(request, {})
        assert (found.score, found.metrics) == (alone.score, alone.metrics)
        assert found.error is None
        assert found.seconds > 0

    def test_many_at_once_are_told_apart(self, executor: Executor) -> None:
        """More requests than it works on at a time; each future has its own answer."""
        texts = cells(3)
        wanted = {(text, seed) for text in texts for seed in (0, 1)}
        futures = {one: executor.submit(training(*one)) for one in wanted}
        assert not wait(futures.values(), 120).not_done
        again = {one: executor.submit(training(*one)) for one in wanted}
        for one in wanted:
            assert futures[one].result().metrics == again[one].result(120).metrics
        losses = {future.result().metrics["train_loss"] for future in futures.values()}
        assert len(losses) == len(wanted)

    def test_capacity_is_a_number(self, executor: Executor) -> None:
        """A search keeps so many requests in flight."""
        assert executor.capacity >= 1

    def test_errors_are_evaluations_with_a_class(self, executor: Executor) -> None:
        """What is no architecture is its own fault; what is no evaluator is the search's."""
        bad = self.failed(executor, training("rubbish"))
        assert bad.error_class == "architecture"
        assert "ArchitectureError" in str(bad.error)
        assert "\n" not in str(bad.error)
        spec = EvaluatorSpec(space=_CELL, evaluator={"name": "no-such-thing"})
        lost = self.failed(executor, training(cells(1)[0], spec=spec))
        assert lost.error_class == "fatal"
        assert "unknown evaluator 'no-such-thing'" in str(lost.error)
        assert "Traceback" in str(lost.traceback)

    def failed(self, executor: Executor, request: EvaluationRequest) -> Evaluation:
        """Return an evaluation that must have failed."""
        found = executor.submit(request).result(120)
        assert math.isnan(found.score)
        return found

    def test_a_report_is_heard_and_obeyed(self, executor: Executor) -> None:
        """It may stop the measurement; without one nobody is asked."""
        heard: list[tuple[int, float]] = []

        def stop(epochs: int, score: float) -> bool:
            heard.append((epochs, score))
            return epochs == 2

        found = executor.submit(training(cells(1)[0]), stop).result(120)
        assert [epochs for epochs, _ in heard] == [1, 2]
        assert (found.stopped, found.score) == (2, heard[-1][1])

    def test_an_error_of_the_report_is_raised_by_the_future(self, executor: Executor) -> None:
        """It is no failure of the measurement; the executor works on."""

        def fail(epochs: int, score: float) -> bool:
            raise KeyError("of the study")

        with pytest.raises(KeyError, match="of the study"):
            executor.submit(training(cells(1)[0]), fail).result(120)
        assert executor.submit(training(cells(1)[0])).result(120).error is None

    def test_tells_progress(self) -> None:
        """Steps done, steps in all, a few words."""
        told: list[tuple[int, int, str]] = []
        context = ExecutorContext(progress=lambda *step: told.append(step))
        with self.make(context) as executor:
            executor.submit(training(cells(1)[0])).result(120)
            end = time.monotonic() + 20  # from another machine it may come behind the result
            while not told and time.monotonic() < end:
                time.sleep(0.05)
        assert told
        assert all(0 <= done <= total and words for done, total, words in told)

    def test_closing_ends_every_future(self) -> None:
        """With a measurement or cancelled; and it may be closed twice."""
        executor = self.make()
        futures = [executor.submit(training(text)) for text in cells(4)]
        executor.close()
        executor.close()
        assert not wait(futures, 60).not_done
