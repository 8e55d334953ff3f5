"""From a request to an evaluation, wherever it is worked on."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

from nasplatform import plugins
from nasplatform.errors import ArchitectureError, TrainingError
from nasplatform.evaluators.base import (
    ErrorClass,
    Evaluation,
    EvaluationContext,
    Evaluator,
    Report,
    out_of_memory,
)
from nasplatform.executors.base import EvaluationRequest, EvaluatorSpec
from nasplatform.spaces import get_space
from nasplatform.training.datasets import load_task

Progress = Callable[[int, int, str], None]
_TRANSIENT = (ConnectionError, TimeoutError)
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE})  # full, broken or gone


def measure(
    request: EvaluationRequest,
    made: dict[str, Evaluator[Any]],
    report: Report | None = None,
    progress: Progress = lambda done, total, words: None,
) -> Evaluation:
    """Work on a request; whatever breaks becomes a failed evaluation with its class.

    made: the evaluators of this process by the key of their spec; a new one is added.
    """
    key = request.spec.key
    try:
        evaluator = made.get(key)
        if evaluator is None:
            evaluator = made[key] = make_evaluator(request.spec, progress)
        if request.smaller_batch:
            evaluator = evaluator.with_smaller_batch()
            if evaluator is None:
                return failure("memory", "out of memory, and there is no smaller batch to try")
        architecture = evaluator.space.parse(request.architecture)
        if report is None:
            found = evaluator.evaluate(architecture, request.fidelity, request.seed)
        else:
            found = evaluator.evaluate_reporting(
                architecture, request.fidelity, request.seed, _checked(report)
            )
    except _ReportFailed as failed:
        raise failed.error from None
    except Exception as error:
        return failure(classify(error), _one_line(error), traceback.format_exc())
    wrong = _wrong(found) or _undelivered(found, evaluator)
    if wrong is not None:
        return failure("fatal", wrong)
    if found.error is None and not isfinite(found.score):
        return failure("architecture", f"the score is {found.score}")
    if found.error is not None and found.error_class is None:
        return replace(found, error_class="architecture")
    return found


def _wrong(found: object) -> str | None:
    """Return in what an evaluator's answer is no measurement; None where it is one."""
    if not isinstance(found, Evaluation):
        return f"evaluate returned a {type(found).__name__}, expected an Evaluation"
    for name, value in {"score": found.score, "seconds": found.seconds, **found.metrics}.items():
        if not isinstance(value, float | int):
            return f"{name} is a {type(value).__name__}, expected a float"
    return None


def _undelivered(found: Evaluation, evaluator: Evaluator[Any]) -> str | None:
    """Return which metrics an evaluator promises and did not measure; None where there is none."""
    lacking = [name for name in evaluator.metrics() if name not in found.metrics]
    if lacking and found.error is None:
        return (
            f"evaluator {evaluator.name!r} measured no {', '.join(lacking)}, which its metrics() "
            f"promises: expected a number for each, NaN where there is none"
        )
    return None


def make_evaluator(spec: EvaluatorSpec, progress: Progress) -> Evaluator[Any]:
    """Make the evaluator that a spec describes; raise InputError where it names what is not."""
    name, options = _split(spec.evaluator, "name")
    kind: type[Evaluator[Any]] = plugins.get("evaluators", name)
    space_name, space_options = _split(spec.space, "name")
    task = None
    if spec.task is not None:
        dataset, task_options = _split(spec.task, "dataset")
        task = load_task(dataset, task_options, "task")
    context = EvaluationContext(
        folder=Path(spec.folder) if spec.folder is not None else None,
        task=task,
        device=spec.device,
        runtime=spec.runtime,
        progress=progress,
        checkpoints=spec.checkpoints,
    )
    chosen = plugins.make_options(kind.Options, options, "evaluator")
    space = get_space(space_name, **space_options)
    evaluator: Evaluator[Any] = plugins.make(
        "evaluators", name, chosen, space, context, by="from_options"
    )
    return evaluator


def classify(error: Exception) -> ErrorClass:
    """Say whose fault an exception is: the architecture's, the moment's, or the search's."""
    if isinstance(error, ArchitectureError | TrainingError):
        return "architecture"
    if out_of_memory(error):
        return "memory"
    full = isinstance(error, OSError) and error.errno in _DISK
    return "transient" if full or isinstance(error, _TRANSIENT) else "fatal"


def failure(error_class: ErrorClass, words: str, trace: str | None = None) -> Evaluation:
    """Return the evaluation of a measurement that broke."""
    return Evaluation(float("nan"), error=words, error_class=error_class, traceback=trace)


class _ReportFailed(BaseException):
    """Carries an error of the report, which is no fault of the measurement, past evaluators."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _checked(report: Report) -> Report:
    def call(epochs: int, score: float) -> bool:
        try:
            return report(epochs, score)
        except Exception as error:
            raise _ReportFailed(error) from None

    return call


def _one_line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _split(described: dict[str, Any], key: str) -> tuple[str, dict[str, Any]]:
    return str(described[key]), {name: value for name, value in described.items() if name != key}
