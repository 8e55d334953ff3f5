"""Where Optuna keeps a study: SQLite in the run folder, or whatever URL the search file names."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from nasplatform.errors import ConfigError, RunError
from nasplatform.search.store import connect


@contextmanager
def open_study(
    storage: Path | str, name: str, sampler: BaseSampler | None = None
) -> Iterator[optuna.Study]:
    """Open a study, made where it does not exist yet; its connections close with the block.

    storage: an SQLite file, or an SQLAlchemy URL such as ``postgresql://...``.
    Raises RunError for a file that is no study and ConfigError for a URL that does not work.
    """
    database = _sqlite(storage) if isinstance(storage, Path) else _remote(storage)
    try:
        yield optuna.create_study(
            storage=database,
            study_name=name,
            sampler=sampler,
            direction="maximize",
            load_if_exists=True,
        )
    finally:
        database.remove_session()
        database.engine.dispose()


def _sqlite(file: Path) -> RDBStorage:
    try:
        return RDBStorage(f"sqlite:///{file}", engine_kwargs={"creator": lambda: connect(file)})
    except (SQLAlchemyError, sqlite3.DatabaseError) as error:
        raise RunError(f"{file}: not a study ({_first_line(error)})") from None


def _remote(url: str) -> RDBStorage:
    try:
        return RDBStorage(url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise ConfigError(f"storage {url!r} does not open: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
