"""The state of an evaluation store, rebuilt from the log of what was asked: no file, no clock.

Whoever reads the same log has the same ledger: the order of the log decides who got a claim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nasplatform.evaluators.base import Evaluation
from nasplatform.executors.store.base import EvaluationKey

_NONE = Evaluation(math.nan)
_ASKED = frozenset(
    {"claim", "heartbeat", "finish", "fail", "release", "release_all", "requeue"}
    | {"admit", "forget", "join", "alive"}
)


@dataclass
class Measurement:
    """What is known of a key: ``state`` is ``free``, ``running``, ``ended`` or ``dead``."""

    key: EvaluationKey
    state: str = "free"
    attempt: int = 0
    failures: int = 0
    owner: str | None = None
    lease_until: float = 0.0
    changed: float = 0.0
    result: Evaluation = _NONE

    @property
    def is_record(self) -> bool:
        """Whether there is a result that answers every claim."""
        return self.state in ("ended", "dead")


@dataclass
class Search:
    """What a search was admitted to pay for."""

    budget: int | None = None
    admitted: set[str] = field(default_factory=set)


@dataclass
class Worker:
    """A process that works on a search."""

    search: str
    host: str
    pid: int
    ttl: float
    begun: float
    seen: float
    left: bool = False

    def state(self, now: float) -> str:
        """Return ``left``, ``lost`` where it was silent for too long, or ``alive``."""
        return "left" if self.left else "lost" if now - self.seen > self.ttl else "alive"


class Ledger:
    """What a log says so far; ``now`` is the latest time in it, seconds since 1970."""

    def __init__(self) -> None:
        self.now = 0.0
        self.measurements: dict[str, Measurement] = {}
        self.searches: dict[str, Search] = {}
        self.workers: dict[str, Worker] = {}

    def enter(self, entry: Mapping[str, Any]) -> Any:
        """Enter what was asked; return what comes of it, for whoever asked.

        entry: ``ask``, one of the methods below, ``at``, ``owner``, and its arguments by name.
        Raises ValueError, KeyError or TypeError for what no store has written.
        """
        if entry["ask"] not in _ASKED:
            raise ValueError(f"unknown request {entry['ask']!r}")
        self.now = max(self.now, float(entry["at"]))
        given = {k: v for k, v in entry.items() if k not in ("ask", "at", "id")}
        return getattr(self, f"_{entry['ask']}")(**given)

    def _claim(
        self, owner: str, key: str, of: Mapping[str, Any], ttl: float, most: int
    ) -> Measurement | float | None:
        """Return seconds where somebody measures it, its record, or None: it is the owner's."""
        row = self.measurements.setdefault(key, Measurement(EvaluationKey(**of)))
        if row.state == "running" and row.lease_until > self.now:
            return row.lease_until - self.now
        if row.state == "running":
            row.failures += 1
            if row.failures >= most:
                words = f"whoever measured it was lost, {row.failures} times"
                lost = Evaluation(math.nan, error=words, error_class="transient")
                row.state, row.result, row.changed = "dead", lost, self.now
        if row.is_record:
            return row
        row.state, row.attempt, row.owner = "running", row.attempt + 1, owner
        row.lease_until, row.changed = self.now + ttl, self.now
        return None

    def _heartbeat(self, owner: str, key: str, attempt: int, ttl: float) -> bool:
        row = self._running(key, attempt)
        if row is not None:
            row.lease_until = self.now + ttl
        return row is not None

    def _finish(self, owner: str, key: str, attempt: int, result: Mapping[str, Any]) -> bool:
        return self._end(key, attempt, "ended", Evaluation(**result))

    def _fail(
        self,
        owner: str,
        key: str,
        attempt: int,
        result: Mapping[str, Any],
        smaller: bool,
        most: int,
    ) -> bool:
        found = Evaluation(**result)
        row = self._running(key, attempt)
        count = (row.failures if row else 0) + int(found.error_class == "transient")
        state = {
            "transient": "dead" if count >= most else "free",
            "memory": "ended" if smaller else "free",
            "fatal": "dead",
        }.get(str(found.error_class), "ended")
        if row is not None:
            row.failures = count
        return self._end(key, attempt, state, found)

    def _release(self, owner: str, key: str, attempt: int) -> bool:
        row = self.measurements[key]
        return self._end(key, attempt, "free", row.result)

    def _release_all(self, owner: str) -> None:
        for row in self.measurements.values():
            if row.state == "running":
                row.state, row.changed = "free", self.now

    def _requeue(self, owner: str, error_class: str | None) -> list[str]:
        freed = []
        for row in self.measurements.values():
            if row.state == "dead" and error_class in (None, row.result.error_class):
                row.state, row.failures, row.result, row.changed = "free", 0, _NONE, self.now
                freed.append(row.key.hash)
        return freed

    def _admit(self, owner: str, search: str, hash: str, budget: int) -> bool:
        admitted = self._search(search).admitted
        if hash not in admitted and len(admitted) >= budget:
            return False
        admitted.add(hash)
        return True

    def _forget(self, owner: str, search: str, known: list[str]) -> None:
        rows = self.measurements.values()
        leased = [row for row in rows if row.state == "running" and row.lease_until > self.now]
        busy = {row.key.hash for row in leased}
        self._search(search).admitted &= busy | set(known)

    def _join(self, owner: str, search: str, host: str, pid: int, ttl: float, budget: int) -> None:
        self._search(search).budget = budget
        self.workers.setdefault(owner, Worker(search, host, pid, ttl, self.now, self.now))

    def _alive(self, owner: str, left: bool) -> None:
        if owner in self.workers:
            self.workers[owner].seen, self.workers[owner].left = self.now, left

    def _search(self, name: str) -> Search:
        return self.searches.setdefault(name, Search())

    def _running(self, key: str, attempt: int) -> Measurement | None:
        row = self.measurements[key]
        return row if row.state == "running" and row.attempt == attempt else None

    def _end(self, key: str, attempt: int, state: str, result: Evaluation) -> bool:
        """End a claim that stands; True also where this very claim ended alike before."""
        row = self.measurements[key]
        if row.attempt == attempt and row.state == "running":
            row.state, row.result, row.changed = state, result, self.now
            return True
        return row.attempt == attempt and row.state == state
