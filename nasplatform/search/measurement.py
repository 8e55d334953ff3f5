"""One measurement from claim to record: the store says who makes it, the executor makes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Self

from nasplatform.errors import EvaluationError
from nasplatform.evaluators.base import Evaluation, Evaluator, Report
from nasplatform.executors.base import EvaluationRequest, EvaluatorSpec, Executor
from nasplatform.executors.store import (
    Busy,
    Claim,
    EvaluationKey,
    EvaluationStore,
    LeaseKeeper,
    StorageAwayError,
    Unsent,
    patiently,
)
from nasplatform.spaces.base import A


@dataclass(frozen=True)
class Measurement:
    """A measurement that is being made here."""

    request: EvaluationRequest
    report: Report | None
    claim: Claim
    future: Future[Evaluation]


@dataclass(frozen=True)
class Refused:
    """Others have spent the budget."""


Outcome = Evaluation | Busy | Refused | Measurement


class Measurer(Generic[A]):
    """Has architectures measured at the evaluator's target fidelity, each once in the whole world.

    Used as a context manager: what is not finished at the end is given back to the store. While
    the database is away it waits; what was measured meanwhile is kept on disk as well.

    paid: measurements that were made and recorded here.
    """

    def __init__(
        self,
        evaluator: Evaluator[A],
        spec: EvaluatorSpec,
        store: EvaluationStore,
        executor: Executor,
        seed: int,
        lease: float,
        *,
        admit: Callable[[str], bool] = lambda hash: True,
        unsent: Unsent | None = None,
    ) -> None:
        """Take what measures; ``lease`` is the seconds after which a silent process counts as dead.

        spec:   how workers make the evaluator.
        admit:  says of an architecture's hash whether the search may pay for it.
        unsent: where measurements are kept while the database is away.
        """
        self.paid = 0
        self.capacity = executor.capacity
        self.store = store
        self._evaluator = evaluator
        self._spec = spec
        self._space = json.dumps(evaluator.space.describe(), sort_keys=True)
        self._executor = executor
        self._seed = seed
        self._lease = lease
        self._admit = admit
        self._unsent = unsent
        self._leases = LeaseKeeper(store, lease)

    def begin(self, architecture: A, report: Report | None = None) -> Outcome:
        """Look a measurement up, or begin it unless somebody else is making it.

        It is admitted before it is measured, and only where it is not being made elsewhere.
        """
        request = EvaluationRequest(
            spec=self._spec,
            architecture=self._evaluator.space.format(architecture),
            fidelity=self._evaluator.target_fidelity,
            seed=self._seed,
        )
        return self._begin(self._key(architecture), request, report)

    def is_left(self, architecture: A) -> bool:
        """Return whether nobody is measuring an architecture."""
        claim = patiently(lambda: self.store.claim(self._key(architecture), self._lease))
        if isinstance(claim, Claim):
            patiently(lambda: self.store.release(claim))
        return not isinstance(claim, Busy)

    def end(self, made: Measurement) -> Outcome:
        """Record a measurement whose future is done, and return what stands in the store.

        One that failed for the moment is begun again. Where the lease was lost the record is
        another's, or the other is still at it. Raises EvaluationError for a failure that is not
        the architecture's, and whatever the report raised.
        """
        found, claim = made.future.result(), made.claim
        self._leases.drop(claim)
        if found.error_class in (None, "architecture", "timeout"):
            if self._finish(claim, found):
                self.paid += 1
                return found
        else:
            why = (found.error_class, found.error or "", found.traceback)
            patiently(lambda: self.store.fail(claim, *why))
        return self._begin(claim.key, made.request, made.report)

    def _key(self, architecture: A) -> EvaluationKey:
        evaluator = self._evaluator
        fidelity = evaluator.target_fidelity
        return EvaluationKey(self._space, evaluator.task, architecture.hash, fidelity, self._seed)

    def _begin(
        self, key: EvaluationKey, request: EvaluationRequest, report: Report | None
    ) -> Outcome:
        claim = patiently(lambda: self.store.claim(key, self._lease))
        if isinstance(claim, Busy):
            return claim
        if isinstance(claim, Evaluation) and claim.error_class == "fatal":
            raise _broken(request, claim)
        if not patiently(lambda: self._admit(key.hash)):
            if isinstance(claim, Claim):
                patiently(lambda: self.store.release(claim))
            return Refused()
        if isinstance(claim, Evaluation):
            return claim
        self._leases.hold(claim)
        request = request.model_copy(update={"smaller_batch": claim.smaller})
        return Measurement(request, report, claim, self._executor.submit(request, report))

    def _finish(self, claim: Claim, found: Evaluation) -> bool:
        """Record a measurement, at once or when the database is back."""
        try:
            recorded = self.store.finish(claim, found)
        except StorageAwayError:
            if self._unsent is not None:
                with suppress(OSError):  # a full disk: it is kept in memory at least
                    self._unsent.keep(claim, found)
            recorded = patiently(lambda: self.store.finish(claim, found))
        if self._unsent is not None:
            self._unsent.drop(claim)
        return recorded

    def __enter__(self) -> Self:
        for claim, found in self._unsent or ():
            self._finish(claim, found)
        self._leases.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._leases.__exit__(*error)


def _broken(request: EvaluationRequest, found: Evaluation) -> EvaluationError:
    error = EvaluationError(
        f"evaluator {request.spec.evaluator['name']!r} broke on {request.architecture}: "
        f"{found.error}"
    )
    if found.traceback is not None:
        error.add_note(found.traceback)
    return error
