"""Where Optuna keeps a study: SQLite in the run folder, or whatever URL the search file names."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from nasplatform.errors import ConfigError, RunError
from nasplatform.search.objectives import Direction
from nasplatform.search.store import connect

Pruner = Literal["none", "median", "halving"]


@contextmanager
def open_study(
    storage: Path | str,
    name: str,
    sampler: BaseSampler | None = None,
    *,
    directions: Sequence[Direction] = ("maximize",),
    pruner: Pruner = "none",
) -> Iterator[optuna.Study]:
    """Open a study, made where it does not exist yet; its connections close with the block.

    storage:    an SQLite file, or an SQLAlchemy URL such as ``postgresql://...``.
    directions: of the objectives, the score's first (see ``OptimizationConfig.directions``).
    pruner:     which of Optuna's pruners stops hopeless trainings early.
    Raises RunError for a file that is no study or a study of other objectives, ConfigError for a
    URL that does not work and for a pruner with several objectives.
    """
    if pruner != "none" and len(directions) > 1:
        raise ConfigError(f"pruner {pruner!r} needs a single objective, {len(directions)} given")
    database = _sqlite(storage) if isinstance(storage, Path) else _remote(storage)
    try:
        with _quietly():
            study = optuna.create_study(
                storage=database,
                study_name=name,
                sampler=sampler,
                pruner=make_pruner(pruner),
                directions=list(directions),
                load_if_exists=True,
            )
        known = [direction.name.lower() for direction in study.directions]
        if known != list(directions):
            raise RunError(
                f"study {name!r} in {storage} has the objectives {', '.join(known)}, "
                f"this search has {', '.join(directions)}"
            )
        yield study
    finally:
        database.remove_session()
        database.engine.dispose()


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


def _sqlite(file: Path) -> RDBStorage:
    try:
        return RDBStorage(f"sqlite:///{file}", engine_kwargs={"creator": lambda: connect(file)})
    except (SQLAlchemyError, sqlite3.DatabaseError) as error:
        raise RunError(f"{file}: not a study ({_first_line(error)})") from None


def require_study(file: Path, name: str, directions: Sequence[Direction]) -> None:
    """Raise RunError where an SQLite file is missing, damaged, or no study of that name."""
    if not file.is_file():
        raise RunError(f"{file}: is missing; start anew with --force")
    with open_study(file, name, directions=directions) as study:
        if not study.get_trials(deepcopy=False):
            raise RunError(f"{file}: holds no trial of study {name!r}; start anew with --force")


def require_storage(url: str) -> None:
    """Raise ConfigError where a storage URL does not open."""
    _close(_remote(url))


def _close(database: RDBStorage) -> None:
    database.remove_session()
    database.engine.dispose()


def _remote(url: str) -> RDBStorage:
    try:
        return RDBStorage(url)
    except ImportError:
        raise ConfigError(
            f"storage {url!r} needs a driver that is not installed; for PostgreSQL: "
            f"pip install 'nasplatform[postgres]' and begin the URL with postgresql+psycopg://"
        ) from None
    except (SQLAlchemyError, ValueError) as error:
        raise ConfigError(f"storage {url!r} does not open: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
