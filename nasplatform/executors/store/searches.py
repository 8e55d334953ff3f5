"""The searches of a storage with their files, to be looked at: nothing is made or written."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from nasplatform.errors import ConfigError, RunError
from nasplatform.executors.store import schema
from nasplatform.executors.store.database import engine_of, journal_file, require_there
from nasplatform.executors.store.outage import said
from nasplatform.passwords import without_password


def stored_searches(storage: str) -> dict[str, Any]:
    """Return the name of each search in a database and its file as resolved, None where unknown.

    Raises RunError where there is no such database, none of our tables, or another version of
    them; ConfigError for a journal, which keeps no files of searches.
    """
    where = without_password(storage)
    if journal_file(storage) is not None:
        raise ConfigError(f"{where}: a journal keeps no files of its searches: name their folders")
    require_there(storage)
    engine = engine_of(storage)
    row = schema.SEARCHES.c
    try:
        with engine.connect() as connection:
            found = schema.version_of(connection)
            if found is None:
                raise RunError(f"{where}: holds no search; begin with `nasplatform run`")
            if found != schema.HEAD:
                raise RunError(f"{where}: {schema.other_version(found)}")
            rows = connection.execute(sa.select(row.name, row.resolved).order_by(row.name)).all()
        return {
            one.name: None if one.resolved is None else json.loads(one.resolved) for one in rows
        }
    except SQLAlchemyError as error:
        raise RunError(f"{where}: {said(error)}") from None
    finally:
        engine.dispose()
