"""The contract of an evaluator: architecture -> measured score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel

from nasplatform.errors import ConfigError
from nasplatform.spaces.base import A, Population, Space
from nasplatform.training.curve import Curve
from nasplatform.training.task import Task

Report = Callable[[int, float], bool]
"""(epochs so far, score so far) -> whether the measurement is hopeless and should stop."""

ErrorClass = Literal["architecture", "memory", "timeout", "transient", "fatal"]
"""What a failed measurement says: the architecture cannot be measured; not in this memory; not in
the time that is allowed; not at this moment; the evaluator or its options are wrong, whatever the
architecture."""


@dataclass(frozen=True)
class Evaluation:
    """One measurement of one architecture.

    score:       the searched metric, higher is better; NaN where the measurement failed.
    metrics:     everything else that was measured, by name.
    seconds:     of training that it took (or took when the table was made).
    error:       why it failed, in one line; None where it did not.
    stopped:     epochs after which it was given up as hopeless; None where it ran to its end.
    error_class: whether another try would help; None where nothing failed.
    traceback:   where it broke, for whoever mends the evaluator.
    curve:       how the training went, epoch by epoch; empty where nothing was trained.
    """

    score: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
    stopped: int | None = None
    error_class: ErrorClass | None = None
    traceback: str | None = None
    curve: Curve = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationContext:
    """What an evaluator may work with beside its options.

    folder:   its own, for what it keeps between measurements; None where nothing is kept.
    checkpoints: a path or URL for what any machine may go on with; None for the folder.
    task:     the data of the search file; None where it names none.
    device:   ``cpu`` or ``cuda``.
    runtime:  in which runtime latency counts; None for the best that is available.
    progress: called with (steps done, steps in all, a few words) from time to time.
    """

    folder: Path | None = None
    task: Task | None = None
    device: str = "cpu"
    runtime: str | None = None
    progress: Callable[[int, int, str], None] = lambda done, total, words: None
    checkpoints: str | None = None


class Evaluator(ABC, Generic[A]):
    """Measures architectures of one space on one task.

    ``evaluate`` is a pure function of its arguments, so that its results can be cached under
    (space, task, canonical hash, fidelity, seed) and a search never pays twice. A measurement
    that cannot succeed (it diverges, memory runs out) is an ``Evaluation`` with an ``error``.

    needs_task:  whether it trains on the ``task`` of the search file.
    stops_early: whether ``evaluate_reporting`` reports on the way.
    task:       name of what is measured, part of the cache key (data set, metric, label kind).
    score_metric: which metric the score is; with a minus where the score is its negative.
    fidelities: training lengths it can be asked for, epochs, ascending; the last is the full one.
    candidates: the only architectures that it can measure, or None for the whole space.
    """

    name: ClassVar[str]
    Options: ClassVar[type[BaseModel]]
    needs_task: ClassVar[bool] = False
    stops_early: ClassVar[bool] = False
    score_metric: str = "score"
    task: str
    fidelities: tuple[int, ...]
    candidates: Population[A] | None = None

    def __init__(self, options: BaseModel, space: Space[A]) -> None:
        """Take the options (an instance of ``Options``) and the space that it measures."""
        self.options = options
        self.space = space

    @classmethod
    def implied_space(cls, options: BaseModel) -> Space[Any] | None:
        """Return the space that these options imply (a table's own), None where any would do."""
        return None

    @classmethod
    def from_options(
        cls, options: BaseModel, space: Space[Any], context: EvaluationContext
    ) -> Self:
        """Make the evaluator that a search file describes, with what it may work with.

        Raises ConfigError where it needs a task and there is none.
        """
        if cls.needs_task and context.task is None:
            raise ConfigError(f"evaluator {cls.name!r} trains networks: it needs a task")
        return cls(options, space)

    def metrics(self) -> tuple[str, ...]:
        """Return the names of what ``evaluate`` measures beside the score."""
        return ()

    def attribute_names(self) -> tuple[str, ...]:
        """Return the names of what ``attributes`` knows."""
        return ("params", "flops")

    def attributes(self, architectures: Population[A]) -> Mapping[str, NDArray[Any]]:
        """Return what is known of B architectures before they are measured: name -> (B,).

        params: trainable parameters. flops: floating-point operations per image.
        """
        graphs = self.space.graphs(architectures)
        return {"params": graphs.total_params, "flops": graphs.total_flops}

    def words(self) -> str:
        """Say in a few words what the score is, and of what."""
        return f"{self.score_metric} by evaluator {self.name}"

    @property
    def target_fidelity(self) -> int:
        """The training length that is searched at, epochs; the full one unless an option says."""
        return self.fidelities[-1]

    def known_scores(self, seed: int = 0) -> NDArray[np.float64] | None:
        """Return (B,) the scores of ``candidates`` where they are known unmeasured, else None.

        They are those that ``evaluate`` gives at the target fidelity with this seed.
        """
        return None

    def with_smaller_batch(self) -> Self | None:
        """Return an evaluator that needs less memory at a time; None where there is none.

        It is asked once for an architecture that ran out of memory. What it measures says in a
        metric how it differs, and stands for the measurement that was wanted.
        """
        return None

    @abstractmethod
    def evaluate(self, architecture: A, fidelity: int, seed: int) -> Evaluation:
        """Measure one architecture.

        fidelity: epochs, one of ``fidelities``.
        seed:     which repetition is wanted; a table answers with the run of that number.
        Raises ArchitectureError where the architecture is not among ``candidates``.
        """

    def evaluate_reporting(
        self, architecture: A, fidelity: int, seed: int, report: Report
    ) -> Evaluation:
        """Measure as ``evaluate`` does, and give up as soon as ``report`` answers True."""
        return self.evaluate(architecture, fidelity, seed)


def out_of_memory(error: Exception) -> bool:
    """Return whether an exception says that memory ran out, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    return "out of memory" in text or "can't allocate memory" in text
