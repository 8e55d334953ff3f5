"""Engines for the store: how each kind of database is opened, and what time it is there."""

from __future__ import annotations

import math
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import StaticPool

from nasplatform.errors import ConfigError, RunError
from nasplatform.foreign import path_of
from nasplatform.passwords import without_password

_SCHEMA_LOCK = 0x6E6173  # any number that all processes agree on
_REACH = 10  # seconds to reach a server
_FRESH = 2.0  # seconds after its use in which a connection is not tried
_FROZEN = 20  # seconds without a word within a transaction, after which the server ends it
_EPOCH = 2440587.5  # 1970-01-01 as a Julian day
_PATIENCE = 60.0  # seconds for which a writer waits for others


def engine_of(target: Path | str) -> sa.Engine:
    """Return the engine of an SQLite file (Path), of ``:memory:``, or of an SQLAlchemy URL.

    Raises ConfigError for a database of which leases are not known to be safe.
    """
    if isinstance(target, Path):
        return _sqlite(sa.create_engine("sqlite://", creator=lambda: connect(target)))
    if target == ":memory:":
        kept = {"check_same_thread": False}
        return _sqlite(sa.create_engine("sqlite://", poolclass=StaticPool, connect_args=kept))
    url = url_of(target)
    if url.get_backend_name() == "sqlite":
        return engine_of(Path(url.database) if url.database else ":memory:")
    if url.get_backend_name() == "postgresql":
        engine = sa.create_engine(url, **server_options(url))
        replace_broken(engine)
        return engine
    raise ConfigError(
        f"storage {without_password(target)!r}: measurements are shared through SQLite or "
        f"PostgreSQL, not {url.get_backend_name()}: only there leases are proven to be safe; "
        f"on a shared disk journal:///FILE"
    )


def missing_file(target: Path | str) -> Path | None:
    """Return the file that a target means and that is not there; None for all others."""
    file = target if isinstance(target, Path) else journal_file(target)
    if file is None and target != ":memory:":
        url = url_of(str(target))
        named = url.get_backend_name() == "sqlite" and url.database
        file = path_of(named, ConfigError) if named and named != ":memory:" else None
    return None if file is None or file.exists() else file


def journal_file(target: Path | str) -> Path | None:
    """Return the file of ``journal:///FILE``; None for all other targets.

    Raises ConfigError where no file is named.
    """
    if isinstance(target, Path) or not target.startswith("journal:"):
        return None
    url = url_of(target)
    if url.host or not url.database:
        raise ConfigError(
            f"storage {target!r}: expected journal:///FILE, journal:////FOLDER/FILE from the root"
        )
    return path_of(url.database, ConfigError)


def require_there(target: Path | str) -> None:
    """Raise RunError for a file that is not there: to look at it would make it."""
    if (file := missing_file(target)) is not None:
        raise RunError(f"{file}: no such file; the first search with this storage makes it")


def server_options(url: sa.URL) -> dict[str, Any]:
    """Return how a server is reached: not for ever, unless the URL says so."""
    if url.get_backend_name() != "postgresql" or "connect_timeout" in url.query:
        return {}
    return {"connect_args": {"connect_timeout": _REACH}}


def replace_broken(engine: sa.Engine) -> None:
    """Let connections be tried before they are used, and replaced where they broke.

    Only after a while without use, for to ask each time is a seventh of all round trips; one that
    broke just before its use is an outage like any other. The server ends the transaction of a
    process that froze within one, so that the others need not wait for its locks.
    """

    @sa.event.listens_for(engine, "checkin")
    def _note(connection: Any, record: Any) -> None:
        record.info["used"] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def _try(connection: Any, record: Any, proxy: Any) -> None:
        bounded = record.info.get("bounded", False)
        if bounded and time.monotonic() - record.info.get("used", math.inf) < _FRESH:
            return
        try:
            if bounded:
                engine.dialect.do_ping(connection)
            else:
                _bound(connection)
                record.info["bounded"] = True
        except Exception as error:
            raise sa.exc.DisconnectionError from error


def _bound(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_FROZEN}s'")
    connection.commit()


def alone(connection: sa.Connection) -> None:
    """Let one process at a time make tables, for the rest of the transaction.

    An SQLite file is locked by its transaction already.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))


def url_of(text: str) -> sa.URL:
    """Return the parts of an SQLAlchemy URL; raise ConfigError for another text."""
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError(
            f"storage {without_password(text)!r}: no URL of a storage, such as "
            f"postgresql+psycopg://USER@HOST/DATABASE, sqlite:///FILE or journal:///FILE"
        ) from None
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ConfigError(f"storage {text!r}: is lost with the process, expected sqlite:///FILE")
    if "@" in (url.host or ""):
        raise ConfigError(
            f"storage {without_password(text)!r}: an @ inside a password is written %40"
        )
    return url


def insert(dialect: str, table: sa.Table) -> Any:
    """Return an INSERT that may say what it does on a conflict, as the dialect writes it."""
    return {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect](table)


def now(engine: sa.Engine) -> sa.ColumnElement[float]:
    """Return the database's time as SQL: seconds since 1970, of this moment."""
    if engine.dialect.name == "sqlite":
        return (sa.func.julianday("now", type_=sa.Double) - _EPOCH) * 86400.0
    return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Double)


def connect(path: Path) -> sqlite3.Connection:
    """Open an SQLite file for several processes: write-ahead log, patient, quick to commit.

    Whatever was committed survives a kill of the process at any moment; a power cut may take the
    last commits, never the file.
    """
    connection = sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _sqlite(engine: sa.Engine) -> sa.Engine:
    """Let each transaction take the write lock at its beginning: none fails half-way."""

    @sa.event.listens_for(engine, "connect")
    def _by_hand(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction of its own

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
