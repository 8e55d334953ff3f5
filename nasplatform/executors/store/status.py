"""What goes on in a storage that several machines share: searches, workers, leases, the dead."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from nasplatform.errors import RunError
from nasplatform.executors.store import schema
from nasplatform.executors.store.database import engine_of, journal_file, now, require_there
from nasplatform.executors.store.journal import JournalEvaluationStore, measurements_beside
from nasplatform.executors.store.ledger import Measurement, Worker
from nasplatform.executors.store.outage import said
from nasplatform.passwords import without_password

_SPANS = {"last_minute": 60.0, "last_ten_minutes": 600.0, "last_hour": 3600.0}
_FORGOTTEN = 3600.0  # seconds after which a worker that left is not listed any more
_ROW = schema.MEASUREMENTS.c
Row = dict[str, Any]


def status_of(storage: Path | str) -> Status | JournalStatus:
    """Return what looks at a storage; raise RunError where there is none."""
    require_there(storage)
    file = journal_file(storage)
    return Status(storage) if file is None else JournalStatus(file)


class Status:
    """Looks at a storage and changes nothing; all times are the database's."""

    def __init__(self, storage: Path | str) -> None:
        """Take the storage; raise RunError where ``look`` could not read it."""
        self._where = without_password(str(storage))
        self._engine = engine_of(storage)
        self._now = now(self._engine)

    def look(self) -> Row:
        """Return what is there now.

        searches:   name, budget, and admitted: architectures that were begun at least.
        workers:    id, search, host, pid, state (``alive``, ``lost`` or ``left``), seconds since it
                    began and since it was seen, measured: records that it made.
        leases:     hash, owner, attempt, and seconds for which it still holds; negative: run out.
        dead:       hash, error_class, error, attempts.
        throughput: records made in the last minute, ten minutes and hour.
        records:    all of them.
        Raises RunError where there is no such database, or its tables are of another version.
        """
        try:
            with self._engine.begin() as connection:
                found = schema.version_of(connection)
                if found is None:
                    raise RunError(f"{self._where}: holds no search; begin with `nasplatform run`")
                if found != schema.HEAD:
                    raise RunError(f"{self._where}: {schema.other_version(found)}")
                return {
                    "storage": self._where,
                    "searches": self._searches(connection),
                    "workers": self._workers(connection),
                    "leases": self._leases(connection),
                    "dead": self._dead(connection),
                    **self._throughput(connection),
                }
        except SQLAlchemyError as error:
            raise RunError(f"{self._where}: {said(error)}") from None

    def close(self) -> None:
        """Free the connections."""
        self._engine.dispose()

    def _searches(self, connection: sa.Connection) -> list[Row]:
        row = schema.SEARCHES.c
        wanted = sa.select(row.name, row.budget, row.admitted).order_by(row.name)
        return _rows(connection, wanted)

    def _workers(self, connection: sa.Connection) -> list[Row]:
        row = schema.WORKERS.c
        measured = (
            sa.select(_ROW.owner, sa.func.count().label("measured"))
            .where(_ROW.state == "ended")
            .group_by(_ROW.owner)
            .subquery()
        )
        unseen = self._now - row.seen
        state = sa.case((row.left, "left"), (unseen > row.ttl, "lost"), else_="alive")
        wanted = (
            sa.select(
                *(row.id, row.search, row.host, row.pid, state.label("state")),
                (self._now - row.begun).label("begun"),
                unseen.label("seen"),
                sa.func.coalesce(measured.c.measured, 0).label("measured"),
            )
            .outerjoin_from(schema.WORKERS, measured, measured.c.owner == row.id)
            .where(sa.or_(sa.not_(row.left), unseen < _FORGOTTEN))
            .order_by(row.begun)
        )
        return _rows(connection, wanted)

    def _leases(self, connection: sa.Connection) -> list[Row]:
        wanted = (
            sa.select(
                *(_ROW.hash, _ROW.owner, _ROW.attempt),
                (_ROW.lease_until - self._now).label("seconds"),
            )
            .where(_ROW.state == "running")
            .order_by(_ROW.lease_until)
        )
        return _rows(connection, wanted)

    def _dead(self, connection: sa.Connection) -> list[Row]:
        attempts = _ROW.attempt.label("attempts")
        wanted = sa.select(_ROW.hash, _ROW.error_class, _ROW.error, attempts)
        return _rows(connection, wanted.where(_ROW.state == "dead").order_by(_ROW.changed))

    def _throughput(self, connection: sa.Connection) -> Row:
        age = self._now - _ROW.changed
        counts = [
            sa.func.count(sa.case((age < span, 1))).label(name) for name, span in _SPANS.items()
        ]
        wanted = sa.select(sa.func.count().label("records"), *counts).where(_ROW.state == "ended")
        row = dict(connection.execute(wanted).one()._mapping)
        return {"records": row.pop("records"), "throughput": row}


class JournalStatus:
    """Looks at the measurements of a journal; all times are the disk's."""

    def __init__(self, study: Path) -> None:
        """Take the study's file; raise RunError where no search has measured beside it."""
        if not measurements_beside(study).is_file():
            raise RunError(f"{study}: holds no search; begin with `nasplatform run`")
        self._where = f"journal:///{study}"
        self._store = JournalEvaluationStore(study)

    def look(self) -> Row:
        """Return what ``Status.look`` does."""
        ledger, now = self._store.look(), self._store.time()
        rows = ledger.measurements.values()
        ages = [now - row.changed for row in rows if row.state == "ended"]
        return {
            "storage": self._where,
            "searches": [
                {"name": name, "budget": one.budget, "admitted": len(one.admitted)}
                for name, one in sorted(ledger.searches.items())
            ],
            "workers": [
                _worker(owner, one, now, rows)
                for owner, one in ledger.workers.items()
                if not one.left or now - one.seen < _FORGOTTEN
            ],
            "leases": [
                {"hash": r.key.hash, "owner": r.owner, "attempt": r.attempt}
                | {"seconds": r.lease_until - now}
                for r in sorted(rows, key=lambda r: r.lease_until)
                if r.state == "running"
            ],
            "dead": [
                {"hash": r.key.hash, "error_class": r.result.error_class, "error": r.result.error}
                | {"attempts": r.attempt}
                for r in sorted(rows, key=lambda r: r.changed)
                if r.state == "dead"
            ],
            "records": len(ages),
            "throughput": {name: sum(a < span for a in ages) for name, span in _SPANS.items()},
        }

    def close(self) -> None:
        """Free nothing: no file stays open."""


def _worker(id: str, one: Worker, now: float, rows: Collection[Measurement]) -> Row:
    return {
        **{"id": id, "search": one.search, "host": one.host, "pid": one.pid},
        "state": one.state(now),
        "begun": now - one.begun,
        "seen": now - one.seen,
        "measured": sum(row.state == "ended" and row.owner == id for row in rows),
    }


def _rows(connection: sa.Connection, wanted: sa.Select[Any]) -> list[Row]:
    return [dict(row._mapping) for row in connection.execute(wanted)]
