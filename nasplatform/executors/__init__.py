"""Where measurements are made, and the store that says who makes which."""

from __future__ import annotations

from nasplatform.executors.base import (
    EvaluationRequest,
    EvaluatorSpec,
    Executor,
    ExecutorContext,
)

__all__ = ["EvaluationRequest", "EvaluatorSpec", "Executor", "ExecutorContext"]
