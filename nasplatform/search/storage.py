"""Where Optuna keeps a study: SQLite in the run folder, or whatever URL the search file names."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
import sqlalchemy as sa
from optuna.exceptions import DuplicatedStudyError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from nasplatform.errors import ConfigError, RunError, did_you_mean
from nasplatform.executors.store.database import (
    alone,
    connect,
    engine_of,
    journal_file,
    missing_file,
    server_options,
)
from nasplatform.executors.store.outage import is_outage, said
from nasplatform.passwords import without_password
from nasplatform.search.identity import differences
from nasplatform.search.objectives import Direction
from nasplatform.search.study_storage import StudyStorage

Pruner = Literal["none", "median", "halving"]
_IDENTITY = "nasplatform:search"
_PATIENCE = 3.0  # seconds, for a process that made a study and has not said which search it is
_TRIES, _PAUSE = 10, 0.5  # to open an SQLite file, and seconds between them
_NAMED = 3  # differences that a message names


@contextmanager
def open_study(
    storage: Path | str,
    name: str,
    sampler: BaseSampler | None = None,
    *,
    directions: Sequence[Direction] = ("maximize",),
    pruner: Pruner = "none",
    identity: Mapping[str, Any] | None = None,
) -> Iterator[optuna.Study]:
    """Open a study, made where it does not exist yet; its connections close with the block.

    storage:    an SQLite file, an SQLAlchemy URL such as ``postgresql://...``, or
                ``journal:///FILE`` on a disk that several machines share.
    directions: of the objectives, the score's first (see ``OptimizationConfig.directions``).
    pruner:     which of Optuna's pruners stops hopeless trainings early.
    identity:   of the search (see ``identity_of``), kept with the study when it is made.
    Raises RunError for a file that is no study or the study of another search, ConfigError for a
    URL that does not work and for a pruner with several objectives.
    """
    if pruner != "none" and len(directions) > 1:
        raise ConfigError(f"pruner {pruner!r} needs a single objective, {len(directions)} given")
    database = _sqlite(storage) if isinstance(storage, Path) else _remote(storage)
    if isinstance(database, StudyStorage):
        database.reports = pruner != "none"
    where = f"study {name!r} in {without_password(str(storage))}"
    try:
        with _quietly():
            study, new = _create_or_load(database, name, sampler, directions, pruner)
        if identity is not None:
            _require_identity(study, identity, new, where)
        known = [direction.name.lower() for direction in study.directions]
        if known != list(directions):
            raise RunError(
                f"{where} has the objectives {', '.join(known)}, "
                f"this search has {', '.join(directions)}"
            )
        yield study
    finally:
        _close(database)


def _create_or_load(
    database: BaseStorage,
    name: str,
    sampler: BaseSampler | None,
    directions: Sequence[Direction],
    pruner: Pruner,
) -> tuple[optuna.Study, bool]:
    """Return a study, and whether it was made here: of several processes, by one alone."""
    try:
        new = optuna.create_study(
            storage=database,
            study_name=name,
            sampler=sampler,
            pruner=make_pruner(pruner),
            directions=list(directions),
        )
        return new, True
    except DuplicatedStudyError:
        known = optuna.load_study(
            storage=database, study_name=name, sampler=sampler, pruner=make_pruner(pruner)
        )
        return known, False


def _require_identity(
    study: optuna.Study, identity: Mapping[str, Any], new: bool, where: str
) -> None:
    """Keep the identity of a new study; raise RunError where an old one has another."""
    given = json.loads(json.dumps(identity))
    if new:
        study.set_user_attr(_IDENTITY, given)
        return
    until = time.monotonic() + _PATIENCE
    while (known := study.user_attrs.get(_IDENTITY)) is None and time.monotonic() < until:
        time.sleep(0.1)  # whoever made it is about to say
    if known is None:
        if study.get_trials(deepcopy=False):
            raise RunError(f"{where} was not made by a search; give another name or storage")
        study.set_user_attr(_IDENTITY, given)
    elif differing := list(differences(known, given)):
        raise RunError(
            f"{where} is another search: {'; '.join(differing[:_NAMED])}; "
            f"give another name, or the settings it was started with"
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep Optuna from saying that a study was created or found."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def make_pruner(name: Pruner) -> BasePruner:
    """Return one of Optuna's pruners, set for trainings of a few epochs to a few dozen."""
    if name == "median":
        return MedianPruner(n_startup_trials=8, n_warmup_steps=1)
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    return NopPruner()


def _sqlite(file: Path) -> StudyStorage:
    try:
        return StudyStorage(f"sqlite:///{file}", engine_kwargs={"creator": lambda: connect(file)})
    except (SQLAlchemyError, sqlite3.DatabaseError) as error:
        raise RunError(f"{file}: not a study ({said(error)})") from None


def require_study(file: Path, name: str, directions: Sequence[Direction]) -> None:
    """Raise RunError where an SQLite file is missing, damaged, or no study of that name."""
    if not file.is_file():
        raise RunError(f"{file}: is missing; start anew with force=True")
    with open_study(file, name, directions=directions) as study:
        if not study.get_trials(deepcopy=False):
            raise RunError(f"{file}: holds no trial of study {name!r}; start anew with force=True")


@contextmanager
def open_storage(url: str) -> Iterator[BaseStorage]:
    """Open what Optuna keeps at a URL; raise ConfigError for one that does not work."""
    database = _remote(url)
    try:
        yield database
    finally:
        _close(database)


def _close(database: BaseStorage) -> None:
    if isinstance(database, StudyStorage):
        database.remove_session()
        database.engine.dispose()


def require_storage(url: str) -> None:
    """Raise ConfigError where a storage URL does not open, or may not be written.

    A file that is not there yet is not made: the search may still be refused.
    """
    if (file := missing_file(url)) is not None:
        if not (file.absolute().parent.is_dir() and os.access(file.absolute().parent, os.W_OK)):
            raise ConfigError(f"{_named(url)} cannot be written: no folder for {file.name} there")
        return
    try:
        with open_storage(url) as database:
            _require_writable(database, url)
    except SQLAlchemyError as error:
        raise ConfigError(f"{_named(url)} cannot be written: {said(error)}") from None


def _require_writable(database: BaseStorage, url: str) -> None:
    if isinstance(database, StudyStorage):
        with database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE studies SET study_name = study_name WHERE 1 = 0")
    elif (file := journal_file(url)) is not None and not os.access(file, os.W_OK):
        raise ConfigError(f"{_named(url)} cannot be written")


def await_study(url: str, name: str, seconds: float) -> None:
    """Wait until a storage has a study of that name; raise RunError where it still has none."""
    until = time.monotonic() + seconds
    while name not in (names := _study_names(url)):
        if time.monotonic() >= until:
            raise RunError(
                f"nobody has started a search {name!r} in {without_password(url)}"
                f"{did_you_mean(name, sorted(names))}: begin with `nasplatform run`"
            )
        time.sleep(_PAUSE)


def _study_names(url: str) -> set[str]:
    if missing_file(url) is not None:
        return set()
    with open_storage(url) as database:
        return {each.study_name for each in database.get_all_studies()}


def _remote(url: str) -> BaseStorage:
    if (file := journal_file(url)) is not None:
        return _journal(file)
    try:
        engine = engine_of(url)
        if engine.dialect.name == "sqlite":
            return _sqlite_of_several(url)
        try:
            with engine.begin() as connection:
                alone(connection)  # one process makes the tables, the others find them
                return StudyStorage(url, engine_kwargs=server_options(engine.url))
        finally:
            engine.dispose()
    except ImportError:
        raise ConfigError(
            f"{_named(url)} needs a driver that is not installed; for PostgreSQL: "
            f"pip install 'nasplatform[postgres]' and begin the URL with postgresql+psycopg://"
        ) from None
    except ConfigError:
        raise
    except (SQLAlchemyError, ValueError, RuntimeError) as error:  # the last: an older Optuna's
        kind = "" if is_outage(error) else "does not open: "
        raise ConfigError(f"{_named(url)} {kind}{said(error)}") from None


def _journal(file: Path) -> JournalStorage:
    """Open a journal by its whole path, for its lock is a link to it."""
    try:
        return JournalStorage(JournalFileBackend(str(file.absolute())))
    except OSError as error:
        raise RunError(f"{file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file}: not a study ({said(error)})") from None


def _sqlite_of_several(url: str) -> StudyStorage:
    file = sa.make_url(url).database
    options = {"creator": lambda: connect(Path(file))} if file else {}
    for _ in range(_TRIES):
        try:
            return StudyStorage(url, engine_kwargs=options)
        except (OperationalError, IntegrityError, ProgrammingError) as error:
            if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_CANTOPEN:
                raise
        time.sleep(_PAUSE)  # another process may be making the tables at this moment
    return StudyStorage(url, engine_kwargs=options)


def _named(url: str) -> str:
    return f"storage {without_password(url)!r}"
