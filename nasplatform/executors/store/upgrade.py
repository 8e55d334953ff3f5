"""Bring the tables of an older version to the one of today; nothing else ever changes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from nasplatform.errors import RunError
from nasplatform.executors.store import schema
from nasplatform.executors.store.database import alone, engine_of, journal_file, missing_file
from nasplatform.executors.store.outage import said
from nasplatform.passwords import without_password


def current(storage: Path | str) -> str | None:
    """Return the version of a database's tables; None where it has none of ours."""
    if missing_file(storage) is not None:
        return None
    with _opened(storage) as connection:
        return schema.version_of(connection)


def upgrade(storage: Path | str) -> str | None:
    """Bring the tables to ``schema.HEAD``, made where there are none; return what they were.

    All or nothing: an upgrade that breaks leaves the database as it was. Raises RunError for a
    version that is not known here.
    """
    config = _config()
    known = {one.revision for one in ScriptDirectory.from_config(config).walk_revisions()}
    with _opened(storage) as connection:
        alone(connection)
        found = schema.version_of(connection)
        if found is not None and found not in known:
            raise RunError(f"{without_password(str(storage))}: {schema.other_version(found)}")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


@contextmanager
def _opened(storage: Path | str) -> Iterator[sa.Connection]:
    if journal_file(storage) is not None:
        raise RunError(f"{storage}: is a journal; it has no tables and no version of them")
    engine = engine_of(storage)
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise RunError(f"{without_password(str(storage))}: {said(error)}") from None
    finally:
        engine.dispose()
