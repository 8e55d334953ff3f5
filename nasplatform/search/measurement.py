"""One measurement from claim to record: the store says who makes it, the executor makes it."""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, Self

from nasplatform.errors import EvaluationError
from nasplatform.evaluators.base import Evaluation, Evaluator, Report
from nasplatform.executors.base import EvaluationRequest, EvaluatorSpec, Executor
from nasplatform.executors.store import Busy, Claim, EvaluationKey, EvaluationStore, LeaseKeeper
from nasplatform.spaces.base import A


@dataclass(frozen=True)
class Measurement:
    """A measurement that is being made here."""

    request: EvaluationRequest
    report: Report | None
    claim: Claim
    future: Future[Evaluation]


class Measurer(Generic[A]):
    """Has architectures measured at the evaluator's target fidelity, each once in the whole world.

    Used as a context manager: what is not finished at the end is given back to the store.

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
    ) -> None:
        """Take what measures; ``lease`` is the seconds after which a silent process counts as dead.

        spec: how workers make the evaluator.
        """
        self.paid = 0
        self.capacity = executor.capacity
        self._evaluator = evaluator
        self._spec = spec
        self._space = json.dumps(evaluator.space.describe(), sort_keys=True)
        self._store = store
        self._executor = executor
        self._seed = seed
        self._lease = lease
        self._leases = LeaseKeeper(store, lease)

    def begin(
        self, architecture: A, report: Report | None = None
    ) -> Evaluation | Busy | Measurement:
        """Look a measurement up, or begin it unless somebody else is making it."""
        request = EvaluationRequest(
            spec=self._spec,
            architecture=self._evaluator.space.format(architecture),
            fidelity=self._evaluator.target_fidelity,
            seed=self._seed,
        )
        key = EvaluationKey(
            self._space, self._evaluator.task, architecture.hash, request.fidelity, self._seed
        )
        return self._begin(key, request, report)

    def end(self, made: Measurement) -> Evaluation | Busy | Measurement:
        """Record a measurement whose future is done, and return what stands in the store.

        One that failed for the moment is begun again. Where the lease was lost the record is
        another's, or the other is still at it. Raises EvaluationError for a failure that is not
        the architecture's, and whatever the report raised.
        """
        found = made.future.result()
        self._leases.drop(made.claim)
        if found.error_class in (None, "architecture"):
            if self._store.finish(made.claim, found):
                self.paid += 1
                return found
        else:
            self._store.fail(made.claim, found.error_class, found.error or "")
        if found.error_class == "fatal":
            raise _broken(made.request, found)
        return self._begin(made.claim.key, made.request, made.report)

    def _begin(
        self, key: EvaluationKey, request: EvaluationRequest, report: Report | None
    ) -> Evaluation | Busy | Measurement:
        claim = self._store.claim(key, self._lease)
        if not isinstance(claim, Claim):
            return claim
        self._leases.hold(claim)
        return Measurement(request, report, claim, self._executor.submit(request, report))

    def __enter__(self) -> Self:
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
