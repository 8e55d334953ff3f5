"""The contract of an executor: where and how measurements are made."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from nasplatform.evaluators.base import Evaluation, Evaluator, Report


class EvaluatorSpec(BaseModel):
    """How to make an evaluator anywhere: names of plug-ins and JSON, nothing else.

    space:     name and options, as ``Space.describe`` writes them.
    evaluator: name and options.
    task:      ``dataset`` and options; None where the search file names none.
    device:    ``cpu`` or ``cuda``.
    runtime:   what times networks; None for the best that is available.
    folder:    where the evaluator may keep what it needs between measurements; None for nowhere.
    checkpoints: a path or URL for trainings that are under way; None for the folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: dict[str, Any]
    evaluator: dict[str, Any]
    task: dict[str, Any] | None = None
    device: str = "cpu"
    runtime: str | None = None
    folder: str | None = None
    checkpoints: str | None = None

    @classmethod
    def of(cls, evaluator: Evaluator[Any], **rest: Any) -> Self:
        """Describe an evaluator; ``rest`` is what it cannot tell: task, device, runtime, folder."""
        options = evaluator.options.model_dump(mode="json") if evaluator.options else {}
        return cls(
            space=evaluator.space.describe(),
            evaluator={"name": evaluator.name, **options},
            **rest,
        )

    @property
    def key(self) -> str:
        """A text that two specs share exactly where they describe the same evaluator."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


class EvaluationRequest(BaseModel):
    """One measurement that is wanted, as data that may be sent anywhere.

    architecture: text form, as the space writes it.
    fidelity:     epochs.
    seed:         which repetition.
    smaller_batch: whether memory ran out at the first try (see ``Evaluator.with_smaller_batch``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: EvaluatorSpec
    architecture: str
    fidelity: int
    seed: int
    smaller_batch: bool = False


@dataclass(frozen=True)
class ExecutorContext:
    """What an executor is given beside its options.

    progress: called with (steps done, steps in all, a few words) from time to time.
    made:     evaluators that this process has already made, by ``EvaluatorSpec.key``.
    """

    progress: Callable[[int, int, str], None] = lambda done, total, words: None
    made: dict[str, Evaluator[Any]] = field(default_factory=dict)


class Executor(ABC):
    """Makes measurements, in this process or elsewhere, one or many at once.

    Life cycle: made once per search and used as a context manager; ``submit`` may be called from
    one thread at any time until ``close``. A request is data: whoever works on it makes the
    evaluator from its spec, and keeps it for the next request. Each future ends with an
    ``Evaluation``: a measurement that broke has an ``error`` and the ``error_class`` that says
    whether to try it again; a future raises only where ``report`` raised, and is cancelled where
    the executor was closed first. A future that nobody works on yet can be cancelled.

    capacity: how many requests are worked on at once; more of them wait.
    """

    name: ClassVar[str]
    Options: ClassVar[type[BaseModel]]
    capacity: int = 1

    def __init__(self, options: BaseModel, context: ExecutorContext | None = None) -> None:
        """Take the options, an instance of ``Options``; nothing is started yet."""
        self.options = options
        self.context = context or ExecutorContext()

    @abstractmethod
    def submit(
        self, request: EvaluationRequest, report: Report | None = None
    ) -> Future[Evaluation]:
        """Have a measurement made.

        report: hears of it on the way, maybe in another thread, and may stop it.
        """

    def call(self, function: str, payload: dict[str, Any]) -> dict[str, Any] | None:
        """Have other work than a measurement done, and wait for it; None where the caller does it.

        function: ``module:function`` of (payload, progress), importable wherever it is done.
        payload:  values that JSON can hold, as is what the function returns. It must do no harm to
                  call it again with the same payload where it broke off.
        Raises what the function raises, and RunError where whoever did it was lost.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Give up what is not finished, and free what is held; may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
