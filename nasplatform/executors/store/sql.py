"""The store in a relational database: a file of SQLite, or the database that holds the study."""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from nasplatform.errors import RunError
from nasplatform.evaluators.base import ErrorClass, Evaluation
from nasplatform.executors.store.base import Busy, Claim, EvaluationKey, EvaluationStore
from nasplatform.executors.store.database import engine_of, now
from nasplatform.passwords import without_password

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_SCHEMA_LOCK = 0x6E6173  # any number that all processes agree on
_METADATA = sa.MetaData()
_TABLE = sa.Table(
    "nasplatform_measurements",
    _METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("space", "task", "hash")),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("fidelity", "seed")),
    sa.Column("state", sa.String(8), nullable=False),  # free, running or ended
    sa.Column("attempt", sa.BigInteger, nullable=False),
    sa.Column("failures", sa.BigInteger, nullable=False),
    sa.Column("lease_until", sa.Double),
    sa.Column("changed", sa.Double, nullable=False),
    sa.Column("score", sa.Double),
    sa.Column("metrics", sa.Text),
    sa.Column("cost", sa.Double),
    sa.Column("stopped", sa.BigInteger),
    sa.Column("error", sa.Text),
    sa.Column("error_class", sa.String(16)),
)
_ROW = _TABLE.c


class SQLEvaluationStore(EvaluationStore):
    """One row per key; each change of it is one short transaction, none lasts while measuring.

    Any number of processes may use the same database, each with a store of its own, which its
    threads may share.
    """

    def __init__(self, target: Path | str, max_attempts: int = 3) -> None:
        """Open or make the table; raise RunError where there is no such database.

        target: see ``open_store``.
        """
        self.max_attempts = max_attempts
        self._lock = threading.RLock()
        self._engine = engine_of(target)
        self._now = now(self._engine)
        try:
            with self._transaction() as connection:
                if self._engine.dialect.name == "postgresql":  # SQLite's is locked already
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
                _METADATA.create_all(connection)
        except (SQLAlchemyError, sqlite3.Error) as error:
            self.close()
            words = str(error).splitlines()[0]
            raise RunError(
                f"{without_password(str(target))}: not a store of evaluations ({words})"
            ) from None

    def claim(self, key: EvaluationKey, ttl: float) -> Claim | Evaluation | Busy:
        """Ask for a measurement; of several who ask at once, one gets the claim."""
        with self._transaction() as connection:
            row = self._locked_row(connection, key)
            if row.state == "running" and row.left > 0:
                return Busy(row.left)
            failures = row.failures
            if row.state == "running":
                failures += 1
                if failures >= self.max_attempts:
                    words = f"whoever measured it was lost, {failures} times"
                    self._write(connection, key, **self._ended(words, "transient", failures))
                    row = self._locked_row(connection, key)
            if row.state == "ended":
                return _evaluation(row)
            attempt = row.attempt + 1
            lease = {"state": "running", "lease_until": self._now + ttl}
            self._write(connection, key, attempt=attempt, failures=failures, **lease)
            return Claim(key, attempt, ttl)

    def heartbeat(self, claim: Claim) -> bool:
        """Prolong a lease to ``ttl`` seconds from now."""
        return self._update(claim, lease_until=self._now + claim.ttl)

    def finish(self, claim: Claim, evaluation: Evaluation) -> bool:
        """Record what was measured."""
        return self._update(
            claim,
            state="ended",
            score=None if math.isnan(evaluation.score) else evaluation.score,
            metrics=json.dumps(dict(evaluation.metrics)),
            cost=evaluation.cost,
            stopped=evaluation.stopped,
            error=evaluation.error,
            error_class=evaluation.error_class,
        )

    def fail(self, claim: Claim, error_class: ErrorClass, message: str) -> bool:
        """Record that the measurement broke."""
        counted = _ROW.failures + int(error_class == "transient")
        last = sa.case((counted >= self.max_attempts, "ended"), else_="free")
        state = {"architecture": "ended", "transient": last, "fatal": "free"}[error_class]
        return self._update(claim, **self._ended(message, error_class, counted) | {"state": state})

    def release(self, claim: Claim) -> bool:
        """Give a claim back, as if it had not been made."""
        return self._update(claim, state="free")

    def release_all(self) -> None:
        """Take every claim back; for whoever knows that nobody else is at work."""
        with self._transaction() as connection:
            running = sa.update(_TABLE).where(_ROW.state == "running")
            connection.execute(running.values(state="free", changed=self._now))

    def get(self, key: EvaluationKey) -> Evaluation | None:
        """Return the record, None where there is none."""
        wanted = sa.select(_TABLE).where(_ROW.key == key.digest, _ROW.state == "ended")
        with self._transaction() as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else _evaluation(row)

    def __len__(self) -> int:
        ended = sa.select(sa.func.count()).where(_ROW.state == "ended")
        with self._transaction() as connection:
            return int(connection.execute(ended).scalar_one())

    def close(self) -> None:
        """Free the connections."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._lock, self._engine.begin() as connection:
            yield connection

    def _locked_row(self, connection: sa.Connection, key: EvaluationKey) -> sa.Row[Any]:
        """Return the row of a key, made where there is none, and hold it for the transaction."""
        wanted = (
            sa.select(_TABLE, (_ROW.lease_until - self._now).label("left"))
            .where(_ROW.key == key.digest)
            .with_for_update()
        )
        row = connection.execute(wanted).one_or_none()
        if row is None:
            new = {**vars(key), "key": key.digest, "state": "free", "attempt": 0, "failures": 0}
            made = _INSERT[self._engine.dialect.name](_TABLE).values(**new, changed=self._now)
            connection.execute(made.on_conflict_do_nothing())
            row = connection.execute(wanted).one()
        return row

    def _write(self, connection: sa.Connection, key: EvaluationKey, **values: Any) -> None:
        changed = sa.update(_TABLE).where(_ROW.key == key.digest)
        connection.execute(changed.values(**values, changed=self._now))

    def _update(self, claim: Claim, **values: Any) -> bool:
        """Write where the claim still stands; return whether it does."""
        with self._transaction() as connection:
            ours = (
                _ROW.key == claim.key.digest,
                _ROW.attempt == claim.attempt,
                _ROW.state == "running",
            )
            changed = sa.update(_TABLE).where(*ours).values(**values, changed=self._now)
            return connection.execute(changed).rowcount == 1

    def _ended(self, error: str, error_class: ErrorClass, failures: Any) -> dict[str, Any]:
        """Return the values of a row that ends with a failure."""
        nothing = {"score": None, "metrics": "{}", "cost": 0.0, "stopped": None}
        why = {"error": error, "error_class": error_class, "failures": failures}
        return {"state": "ended", **nothing, **why}


def open_store(target: Path | str, max_attempts: int = 3) -> EvaluationStore:
    """Open a store, made where there is none.

    target: an SQLite file (Path), ``:memory:``, or an SQLAlchemy URL of SQLite or PostgreSQL;
            its table stands beside the study's there.
    Raises RunError where there is no such database.
    """
    return SQLEvaluationStore(target, max_attempts)


def _evaluation(row: sa.Row[Any]) -> Evaluation:
    return Evaluation(
        score=math.nan if row.score is None else row.score,
        metrics=json.loads(row.metrics),
        cost=row.cost,
        error=row.error,
        stopped=row.stopped,
        error_class=row.error_class,
    )
