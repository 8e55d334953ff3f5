"""Measures in the process that asks, one after the other."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from nasplatform.evaluators.base import Evaluation, Evaluator, Report
from nasplatform.executors.base import (
    EvaluationRequest,
    EvaluatorSpec,
    Executor,
    ExecutorContext,
)
from nasplatform.executors.measure import measure


class InlineOptions(BaseModel):
    """There is nothing to choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InlineExecutor(Executor):
    """Its futures are finished when ``submit`` returns; an interrupt goes through ``submit``."""

    name: ClassVar[str] = "inline"
    Options: ClassVar[type[InlineOptions]] = InlineOptions

    @classmethod
    def around(cls, evaluator: Evaluator[Any], spec: EvaluatorSpec) -> Self:
        """Return one that works with an evaluator made here, which need not be registered."""
        return cls(InlineOptions(), ExecutorContext(made={spec.key: evaluator}))

    def submit(
        self, request: EvaluationRequest, report: Report | None = None
    ) -> Future[Evaluation]:
        """Measure now."""
        future: Future[Evaluation] = Future()
        future.set_running_or_notify_cancel()
        try:
            made = measure(request, self.context.made, report, self.context.progress)
        except Exception as error:  # the report's
            future.set_exception(error)
        else:
            future.set_result(made)
        return future

    def close(self) -> None:
        """Nothing is ever left unfinished."""
