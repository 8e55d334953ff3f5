"""The store in a file that only grows, for disks that several machines share (NFS, Lustre).

Such disks break the locks that SQLite needs. Optuna's journal keeps to what works there, the
creation of a link, and appends; so does this store, in a file of its own beside the study's.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import uuid4

from optuna.storages.journal import JournalFileBackend

from nasplatform.errors import RunError
from nasplatform.evaluators.base import ErrorClass, Evaluation
from nasplatform.executors.store.base import Busy, Claim, EvaluationKey, EvaluationStore
from nasplatform.executors.store.ledger import Ledger, Measurement
from nasplatform.executors.store.outage import StorageAwayError

_REFUSALS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR})


class JournalEvaluationStore(EvaluationStore):
    """One line per request; what comes of a request follows from the lines before it.

    The time of leases is the disk's: of a file that is touched before each line. Raises
    StorageAwayError where the disk does not answer, and RunError where it refuses.
    """

    def __init__(self, study: Path, max_attempts: int = 3) -> None:
        """Open the measurements beside a study's journal, made where there are none."""
        self.max_attempts = max_attempts
        self.owner = f"{socket.gethostname()[:30]}:{os.getpid()}:{uuid4().hex[:8]}"
        self.file = measurements_beside(study)
        self._clock = self.file.with_name(f"{self.file.name}.clock")
        self._lock = threading.RLock()
        self._read = 0
        self.ledger = Ledger()
        try:
            self._backend = JournalFileBackend(str(self.file))
            self._catch_up()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{self.file}: not a journal of measurements ({error})") from None

    def claim(self, key: EvaluationKey, ttl: float) -> Claim | Evaluation | Busy:
        """Ask for a measurement; of several who ask at once, one gets the claim."""
        known = self.get(key)
        if known is not None:
            return known
        asked = {"key": key.digest, "of": vars(key), "ttl": ttl, "most": self.max_attempts}
        with self._lock:
            answer = self._ask("claim", **asked)
            if isinstance(answer, Measurement):
                return answer.result
            if answer is not None:
                return Busy(float(answer))
            row = self.ledger.measurements[key.digest]
            return Claim(key, row.attempt, ttl, smaller=row.result.error_class == "memory")

    def heartbeat(self, claim: Claim) -> bool:
        """Prolong a lease to ``ttl`` seconds from now."""
        return bool(self._ask("heartbeat", **_named(claim), ttl=claim.ttl))

    def finish(self, claim: Claim, evaluation: Evaluation) -> bool:
        """Record what was measured; True also where this very claim recorded it before."""
        result = {field.name: getattr(evaluation, field.name) for field in fields(evaluation)}
        result |= {name: dict(result[name]) for name in ("metrics", "curve")}
        return bool(self._ask("finish", **_named(claim), result=result))

    def fail(
        self, claim: Claim, error_class: ErrorClass, message: str, traceback: str | None = None
    ) -> bool:
        """Record that the measurement broke."""
        result = {"score": float("nan"), "error": message, "error_class": error_class}
        result["traceback"] = traceback
        more = {"result": result, "smaller": claim.smaller, "most": self.max_attempts}
        return bool(self._ask("fail", **_named(claim), **more))

    def release(self, claim: Claim) -> bool:
        """Give a claim back, as if it had not been made."""
        return bool(self._ask("release", **_named(claim)))

    def release_all(self) -> None:
        """Take every claim back; for whoever knows that nobody else is at work."""
        self._ask("release_all")

    def requeue(self, error_class: ErrorClass | None = None) -> list[str]:
        """Set free what is dead, of one class of error or of all; return the hashes."""
        freed: list[str] = self._ask("requeue", error_class=error_class)
        return freed

    def admit(self, search: str, hash: str, budget: int) -> bool:
        """Let a search pay for an architecture; False where others spent its budget."""
        return bool(self._ask("admit", search=search, hash=hash, budget=budget))

    def forget(self, search: str, known: Collection[str]) -> None:
        """Take back what was admitted, is not ``known`` and is not measured now."""
        self._ask("forget", search=search, known=sorted(known))

    def join(self, search: str, ttl: float, budget: int, resolved: str | None = None) -> None:
        """Put this process down as a worker of a search; its file stands in the study."""
        here = {"host": socket.gethostname(), "pid": os.getpid()}
        self._ask("join", search=search, ttl=ttl, budget=budget, **here)

    def alive(self) -> None:
        """Say that this worker lives."""
        self._ask("alive", left=False)

    def leave(self) -> None:
        """Say that this worker has ended."""
        self._ask("alive", left=True)

    def ring(self) -> None:
        """Do nothing: nobody hears it on a disk."""

    def wait(self, seconds: float) -> None:
        """Wait so long."""
        time.sleep(seconds)

    def get(self, key: EvaluationKey) -> Evaluation | None:
        """Return the record, None where there is none."""
        with self._lock:
            self.look()
            row = self.ledger.measurements.get(key.digest)
            return row.result if row is not None and row.is_record else None

    def __len__(self) -> int:
        with self._lock:
            self.look()
            return sum(row.is_record for row in self.ledger.measurements.values())

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def look(self) -> Ledger:
        """Read what others have written; return the ledger."""
        try:
            self._catch_up()
        except OSError as error:
            raise self._told(error) from None
        return self.ledger

    def _ask(self, what: str, **given: Any) -> Any:
        entry = {"ask": what, "owner": self.owner, "id": uuid4().hex, **given}
        with self._lock:
            try:
                self._backend.append_logs([{**entry, "at": self.time()}])
                return self._catch_up(entry["id"])
            except OSError as error:
                raise self._told(error) from None

    def _catch_up(self, mine: str | None = None) -> Any:
        """Enter the lines that are new; return what came of ours."""
        answer = None
        for entry in self._backend.read_logs(self._read):
            found = self.ledger.enter(entry)
            self._read += 1
            if entry["id"] == mine:
                answer = found
        return answer

    def time(self) -> float:
        """Return what time it is for the disk, seconds since 1970."""
        self._clock.touch()
        return self._clock.stat().st_mtime

    def _told(self, error: OSError) -> Exception:
        if error.errno in _REFUSALS:
            return RunError(f"{self.file}: {error.strerror}")
        return StorageAwayError(str(error))


def measurements_beside(study: Path) -> Path:
    """Return the file of the measurements of a study's journal."""
    return study.absolute().with_name(f"{study.name}.measurements")


def _named(claim: Claim) -> dict[str, Any]:
    return {"key": claim.key.digest, "attempt": claim.attempt}
