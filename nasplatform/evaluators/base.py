"""The contract of an evaluator: architecture -> measured score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic

from pydantic import BaseModel

from nasplatform.spaces.base import A, Population, Space


@dataclass(frozen=True)
class Evaluation:
    """One measurement of one architecture.

    score:   the searched metric, higher is better.
    metrics: everything else that was measured, by name.
    cost:    seconds of training that the measurement took (or took when the table was made).
    """

    score: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    cost: float = 0.0


class Evaluator(ABC, Generic[A]):
    """Measures architectures of one space on one task.

    ``evaluate`` is a pure function of its arguments, so that its results can be cached under
    (space, task, canonical hash, fidelity, seed) and a search never pays twice.

    task:       name of what is measured, part of the cache key (data set, metric, label kind).
    fidelities: training lengths it can be asked for, in epochs, ascending; the last is the full one.
    candidates: the only architectures that it can measure, or None for the whole space.
    """

    name: ClassVar[str]
    Options: ClassVar[type[BaseModel]]
    task: str
    fidelities: tuple[int, ...]
    candidates: Population[A] | None = None

    def __init__(self, options: Any, space: Space[A]) -> None:
        """Take the options (an instance of ``Options``) and the space that it measures."""
        self.options = options
        self.space = space

    @abstractmethod
    def evaluate(self, architecture: A, fidelity: int, seed: int) -> Evaluation:
        """Measure one architecture.

        fidelity: epochs, one of ``fidelities``.
        seed:     which repetition is wanted; a table answers with the run of that number.
        Raises ArchitectureError where the architecture is not among ``candidates``.
        """
