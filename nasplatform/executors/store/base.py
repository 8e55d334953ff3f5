"""The contract of an evaluation store: measured at least once, recorded exactly once."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Self

from nasplatform.evaluators.base import ErrorClass, Evaluation


@dataclass(frozen=True)
class EvaluationKey:
    """What a measurement is the measurement of; equal keys are never paid for twice.

    space: the space's description as JSON text.
    task:  what is measured (see ``Evaluator.task``).
    hash:  canonical identity of the architecture.
    """

    space: str
    task: str
    hash: str
    fidelity: int
    seed: int

    @property
    def digest(self) -> str:
        """The sha256 of all its parts, as hexadecimal text."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Claim:
    """The right to make one measurement, for as long as its lease is kept.

    attempt: the fencing token, one more with each claim of the key; every later write names it,
             and does nothing once the key was claimed again.
    ttl:     seconds for which the lease holds from the claim or the last heartbeat.
    smaller: whether memory ran out before, so that a smaller batch is due.
    """

    key: EvaluationKey
    attempt: int
    ttl: float
    smaller: bool = False


@dataclass(frozen=True)
class Busy:
    """Somebody else is making the measurement.

    seconds: after which it can be claimed, unless its lease is prolonged.
    """

    seconds: float


class EvaluationStore(ABC):
    """Says of each measurement who makes it, and keeps what came out.

    Life cycle of a key: ``claim`` gives it to one claimant; that one calls ``heartbeat`` several
    times in each ``ttl``, and ends with ``finish``, ``fail`` or ``release``. Each of these returns
    whether it was done: False says that the lease ran out and the key was claimed again, and that
    nothing was written. A claimant that dies is noticed by its lease, and the key is given to the
    next that asks. Time is the database's alone; the clocks of claimants do not matter.

    A measurement that failed may be made again or not, by the class of its error:
    ``architecture``, ``timeout``  never: the failure is the result;
    ``memory``     once, with a smaller batch; then the failure is the result;
    ``transient``  until ``max_attempts`` failed or were lost, then it is dead;
    ``fatal``      it is dead at once: another try would end alike.
    A dead one answers every claim with its failure, until ``requeue`` sets it free.

    Several searches may share a store. A search ``admit``s each architecture that it pays for,
    before it is measured, so that all its workers together keep to one budget.
    """

    max_attempts: int = 3

    @abstractmethod
    def claim(self, key: EvaluationKey, ttl: float) -> Claim | Evaluation | Busy:
        """Ask for a measurement: make it yourself, here it is, or somebody is making it.

        ttl: seconds after which the claim is lost without a heartbeat.
        """

    @abstractmethod
    def heartbeat(self, claim: Claim) -> bool:
        """Prolong a lease to ``ttl`` seconds from now."""

    @abstractmethod
    def finish(self, claim: Claim, evaluation: Evaluation) -> bool:
        """Record what was measured."""

    @abstractmethod
    def fail(
        self, claim: Claim, error_class: ErrorClass, message: str, traceback: str | None = None
    ) -> bool:
        """Record that the measurement broke."""

    @abstractmethod
    def release(self, claim: Claim) -> bool:
        """Give a claim back, as if it had not been made."""

    @abstractmethod
    def release_all(self) -> None:
        """Take every claim back; for whoever knows that nobody else is at work."""

    @abstractmethod
    def requeue(self, error_class: ErrorClass | None = None) -> list[str]:
        """Set free what is dead, of one class of error or of all; return the hashes."""

    @abstractmethod
    def admit(self, search: str, hash: str, budget: int) -> bool:
        """Let a search pay for an architecture; False where others spent its budget.

        One that was admitted before is admitted again, and costs nothing.
        """

    @abstractmethod
    def forget(self, search: str, known: Collection[str]) -> None:
        """Take back what was admitted, is not among the ``known`` hashes and is not measured now.

        For whoever sees that nobody is at work on it: it was admitted by a process that died.
        """

    @abstractmethod
    def join(self, search: str, ttl: float, budget: int, resolved: str | None = None) -> None:
        """Put this process down as a worker of a search; ``alive`` and ``leave`` are about it.

        resolved: the search's file as resolved, JSON; None from whoever does not know it.
        """

    @abstractmethod
    def alive(self) -> None:
        """Say that this worker lives; due several times in each ``ttl``."""

    @abstractmethod
    def leave(self) -> None:
        """Say that this worker has ended."""

    @abstractmethod
    def ring(self) -> None:
        """Wake those who wait for a change."""

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Wait for a change of others, at most so long."""

    @abstractmethod
    def get(self, key: EvaluationKey) -> Evaluation | None:
        """Return the record, None where there is none."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of records."""

    @abstractmethod
    def close(self) -> None:
        """Free the connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
