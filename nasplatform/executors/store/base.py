"""The contract of an evaluation store: measured at least once, recorded exactly once."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
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
    """

    key: EvaluationKey
    attempt: int
    ttl: float


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
    ``architecture``  never: the failure is the result;
    ``transient``     until ``max_attempts`` failed or were lost, then the failure is the result;
    ``fatal``         whenever it is claimed again: the architecture was not to blame.
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
    def fail(self, claim: Claim, error_class: ErrorClass, message: str) -> bool:
        """Record that the measurement broke."""

    @abstractmethod
    def release(self, claim: Claim) -> bool:
        """Give a claim back, as if it had not been made."""

    @abstractmethod
    def release_all(self) -> None:
        """Take every claim back; for whoever knows that nobody else is at work."""

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
