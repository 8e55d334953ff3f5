"""The store in a relational database: a file of SQLite, or the database that holds the study."""

from __future__ import annotations

import json
import math
import os
import socket
import sqlite3
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from nasplatform.errors import RunError
from nasplatform.evaluators.base import ErrorClass, Evaluation
from nasplatform.executors.store import schema
from nasplatform.executors.store.base import Busy, Claim, EvaluationKey, EvaluationStore
from nasplatform.executors.store.bell import Bell
from nasplatform.executors.store.database import alone, engine_of, insert, now
from nasplatform.executors.store.outage import is_outage, outages_named, said, was_cut
from nasplatform.passwords import without_password

_TABLE, _ROW = schema.MEASUREMENTS, schema.MEASUREMENTS.c
_NO_RESULT = {"score": None, "metrics": "{}", "seconds": 0.0, "stopped": None, "curve": None}
_MEMORY = "memory"


class SQLEvaluationStore(EvaluationStore):
    """One row per key; each change of it is one short transaction, none lasts while measuring.

    Any number of processes may use the same database, each with a store of its own, which its
    threads may share. Raises StorageAwayError where the database does not answer, and RunError
    where it refuses, e.g. because it is read-only.
    """

    def __init__(self, target: Path | str, max_attempts: int = 3) -> None:
        """Open or make the tables; raise RunError where there is no such database.

        target: an SQLite file (Path), ``:memory:``, or an SQLAlchemy URL of SQLite or PostgreSQL.
        """
        self.max_attempts = max_attempts
        self.owner = f"{socket.gethostname()[:30]}:{os.getpid()}:{uuid4().hex[:8]}"
        self._where = without_password(str(target))
        self._lock = threading.RLock()
        self._mine: set[str] = set()  # digests of what is claimed here
        self._engine = engine_of(target)
        self._now = now(self._engine)
        self._bell = Bell(self._engine)
        try:
            self._prepare()
        except (SQLAlchemyError, sqlite3.Error) as error:
            self.close()
            kind = "" if is_outage(error) else "not a store of evaluations: "
            raise RunError(f"{self._where}: {kind}{said(error)}") from None
        except RunError:
            self.close()
            raise

    def _prepare(self) -> None:
        try:
            self._prepare_once()
        except DBAPIError as error:
            if not was_cut(error):
                raise
            self._prepare_once()

    def _prepare_once(self) -> None:
        with self._engine.begin() as connection:
            alone(connection)
            schema.prepare(connection, self._where)

    def claim(self, key: EvaluationKey, ttl: float) -> Claim | Evaluation | Busy:
        """Ask for a measurement; of several who ask at once, one gets the claim."""
        with self._transaction() as connection:
            first = self._claim_first(connection, key, ttl)
        if first is not None:
            self._mine.add(key.digest)
            return first
        with self._transaction() as connection:
            row = self._locked_row(connection, key)
            lost_answer = row.owner == self.owner and key.digest not in self._mine
            if row.state == "running" and row.left > 0 and not lost_answer:
                return Busy(row.left)
            failures = row.failures
            if row.state == "running" and not lost_answer:
                failures += 1
                if failures >= self.max_attempts:
                    words = f"whoever measured it was lost, {failures} times"
                    dead = {"state": "dead", "error": words, "error_class": "transient"}
                    self._write(connection, key, **_NO_RESULT, **dead, failures=failures)
                    row = self._locked_row(connection, key)
            if row.state in ("ended", "dead"):
                return _evaluation(row)
            attempt = row.attempt + 1
            lease = {"state": "running", "lease_until": self._now + ttl, "owner": self.owner}
            self._write(connection, key, attempt=attempt, failures=failures, **lease)
        self._mine.add(key.digest)
        return Claim(key, attempt, ttl, smaller=row.error_class == _MEMORY)

    def heartbeat(self, claim: Claim) -> bool:
        """Prolong a lease to ``ttl`` seconds from now."""
        return self._update(claim, lease_until=self._now + claim.ttl)

    def finish(self, claim: Claim, evaluation: Evaluation) -> bool:
        """Record what was measured; True also where this very claim recorded it before."""
        return self._update(
            claim,
            ends=True,
            state="ended",
            score=None if math.isnan(evaluation.score) else evaluation.score,
            metrics=json.dumps(dict(evaluation.metrics)),
            curve=json.dumps(dict(evaluation.curve)) if evaluation.curve else None,
            seconds=evaluation.seconds,
            stopped=evaluation.stopped,
            error=evaluation.error,
            error_class=evaluation.error_class,
            traceback=evaluation.traceback,
        )

    def fail(
        self, claim: Claim, error_class: ErrorClass, message: str, traceback: str | None = None
    ) -> bool:
        """Record that the measurement broke."""
        counted = _ROW.failures + int(error_class == "transient")
        state: Any = {"architecture": "ended", "timeout": "ended", "fatal": "dead"}.get(error_class)
        if error_class == "transient":
            state = sa.case((counted >= self.max_attempts, "dead"), else_="free")
        elif error_class == _MEMORY:
            state = "ended" if claim.smaller else "free"
        why = {"error": message, "error_class": error_class, "traceback": traceback}
        return self._update(claim, ends=True, **_NO_RESULT, **why, failures=counted, state=state)

    def release(self, claim: Claim) -> bool:
        """Give a claim back, as if it had not been made."""
        return self._update(claim, ends=True, state="free")

    def release_all(self) -> None:
        """Take every claim back; for whoever knows that nobody else is at work."""
        with self._transaction() as connection:
            running = sa.update(_TABLE).where(_ROW.state == "running")
            connection.execute(running.values(state="free", changed=self._now))
        self._mine.clear()

    def requeue(self, error_class: ErrorClass | None = None) -> list[str]:
        """Set free what is dead, of one class of error or of all; return the hashes."""
        dead = sa.update(_TABLE).where(_ROW.state == "dead")
        if error_class is not None:
            dead = dead.where(_ROW.error_class == error_class)
        anew = {"state": "free", "failures": 0, "error": None, "error_class": None}
        with self._transaction() as connection:
            freed = dead.values(**anew, traceback=None, changed=self._now).returning(_ROW.hash)
            return list(connection.execute(freed).scalars())

    def admit(self, search: str, hash: str, budget: int) -> bool:
        """Let a search pay for an architecture; False where others spent its budget."""
        admitted, searches = schema.ADMITTED, schema.SEARCHES
        new = self._insert(admitted).values(search=search, hash=hash).on_conflict_do_nothing()
        there_is_room = (searches.c.name == search, searches.c.admitted < budget)
        more = sa.update(searches).where(*there_is_room).values(admitted=searches.c.admitted + 1)
        with self._transaction() as connection:
            if connection.execute(new.returning(admitted.c.hash)).first() is None:
                return True
            if connection.execute(more).rowcount:
                return True
            self._row_of_search(connection, search)  # there may be none yet
            if connection.execute(more).rowcount:
                return True
            mine = (admitted.c.search == search, admitted.c.hash == hash)
            connection.execute(sa.delete(admitted).where(*mine))
            return False

    def forget(self, search: str, known: Collection[str]) -> None:
        """Take back what was admitted, is not ``known`` and is not measured now."""
        admitted, searches = schema.ADMITTED, schema.SEARCHES
        leased = (_ROW.state == "running", _ROW.lease_until > self._now)
        with self._transaction() as connection:
            self._row_of_search(connection, search)
            mine = sa.select(admitted.c.hash).where(admitted.c.search == search)
            there = set(connection.execute(mine).scalars())
            busy = set(connection.execute(sa.select(_ROW.hash).where(*leased)).scalars())
            for hash in there - set(known) - busy:
                lost = (admitted.c.search == search, admitted.c.hash == hash)
                connection.execute(sa.delete(admitted).where(*lost))
            count = len(there & (set(known) | busy))
            counted = sa.update(searches).where(searches.c.name == search)
            connection.execute(counted.values(admitted=count))

    def join(self, search: str, ttl: float, budget: int, resolved: str | None = None) -> None:
        """Put this process down as a worker of a search."""
        host, pid = socket.gethostname(), os.getpid()
        worker = {"id": self.owner, "search": search, "host": host, "pid": pid, "ttl": ttl}
        told = {"budget": budget} | ({} if resolved is None else {"resolved": resolved})
        searches = schema.SEARCHES
        with self._transaction() as connection:
            self._row_of_search(connection, search)
            connection.execute(sa.update(searches).where(searches.c.name == search).values(**told))
            new = self._insert(schema.WORKERS).values(
                **worker, begun=self._now, seen=self._now, left=False
            )
            connection.execute(new.on_conflict_do_nothing())

    def alive(self) -> None:
        """Say that this worker lives."""
        self._tell_of_worker(seen=self._now)

    def leave(self) -> None:
        """Say that this worker has ended."""
        self._tell_of_worker(seen=self._now, left=True)

    def ring(self) -> None:
        """Wake those who wait for a change."""
        with self._transaction() as connection:
            self._bell.ring(connection)

    def wait(self, seconds: float) -> None:
        """Wait for a change of others, at most so long."""
        self._bell.wait(seconds)

    def get(self, key: EvaluationKey) -> Evaluation | None:
        """Return the record, None where there is none."""
        there = _ROW.state.in_(("ended", "dead"))
        wanted = sa.select(_TABLE).where(_ROW.key == key.digest, there)
        with self._transaction() as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else _evaluation(row)

    def __len__(self) -> int:
        there = sa.select(sa.func.count()).where(_ROW.state.in_(("ended", "dead")))
        with self._transaction() as connection:
            return int(connection.execute(there).scalar_one())

    def close(self) -> None:
        """Free the connections."""
        self._bell.close()
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._lock, outages_named():
            try:
                with self._engine.begin() as connection:
                    yield connection
            except sa.exc.DBAPIError as error:
                if error.connection_invalidated or not _refuses(error):
                    raise
                raise RunError(f"{self._where}: {said(error)}") from None

    def _insert(self, table: sa.Table) -> Any:
        return insert(self._engine.dialect.name, table)

    def _row_of_search(self, connection: sa.Connection, search: str) -> None:
        """Hold the row of a search for the transaction; it is made where there is none."""
        searches = schema.SEARCHES
        wanted = sa.select(searches.c.name).where(searches.c.name == search).with_for_update()
        if connection.execute(wanted).one_or_none() is None:
            new = self._insert(searches).values(name=search, admitted=0)
            connection.execute(new.on_conflict_do_nothing())
            connection.execute(wanted).one()

    def _tell_of_worker(self, **values: Any) -> None:
        workers = schema.WORKERS
        with self._transaction() as connection:
            connection.execute(
                sa.update(workers).where(workers.c.id == self.owner).values(**values)
            )

    def _claim_first(
        self, connection: sa.Connection, key: EvaluationKey, ttl: float
    ) -> Claim | None:
        """Claim what nobody has asked for yet, None where somebody has."""
        lease = {"lease_until": self._now + ttl, "owner": self.owner, "changed": self._now}
        new = {**vars(key), "key": key.digest, "state": "running", "attempt": 1, "failures": 0}
        made = self._insert(_TABLE).values(**new, **lease).on_conflict_do_nothing()
        claimed = connection.execute(made.returning(_ROW.key)).first() is not None
        return Claim(key, 1, ttl) if claimed else None

    def _locked_row(self, connection: sa.Connection, key: EvaluationKey) -> sa.Row[Any]:
        """Return the row of a key, and hold it for the transaction."""
        left = (_ROW.lease_until - self._now).label("left")
        wanted = sa.select(_TABLE, left).where(_ROW.key == key.digest)
        return connection.execute(wanted.with_for_update()).one()

    def _write(self, connection: sa.Connection, key: EvaluationKey, **values: Any) -> None:
        changed = sa.update(_TABLE).where(_ROW.key == key.digest)
        connection.execute(changed.values(**values, changed=self._now))

    def _update(self, claim: Claim, ends: bool = False, **values: Any) -> bool:
        """Write where the claim still stands; return whether it does.

        ends: the claim ends with this; where it has ended alike before, the answer got lost.
        """
        ours = (_ROW.key == claim.key.digest, _ROW.attempt == claim.attempt)
        changed = sa.update(_TABLE).where(*ours, _ROW.state == "running")
        with self._transaction() as connection:
            done = connection.execute(changed.values(**values, changed=self._now)).rowcount == 1
            if not done and ends:
                same = sa.select(_ROW.key).where(*ours, _ROW.state == values["state"])
                done = connection.execute(same).first() is not None
        if ends:
            self._mine.discard(claim.key.digest)
        return done


def _refuses(error: sa.exc.DBAPIError) -> bool:
    """Return whether a database says that it may not be written."""
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state in ("25006", "42501")  # read-only, insufficient privilege
    return isinstance(error.orig, sqlite3.OperationalError)


def _evaluation(row: sa.Row[Any]) -> Evaluation:
    return Evaluation(
        score=math.nan if row.score is None else row.score,
        metrics=json.loads(row.metrics),
        seconds=row.seconds,
        error=row.error,
        stopped=row.stopped,
        error_class=row.error_class,
        traceback=row.traceback,
        curve={} if row.curve is None else json.loads(row.curve),
    )
