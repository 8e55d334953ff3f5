"""A study read where it lies: nothing is created, written or contacted by looking at a run."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage

from nasplatform.errors import RunError
from nasplatform.foreign import blaming, require_regular


@contextmanager
def read_study(file: Path, name: str) -> Iterator[optuna.Study]:
    """Open a study of an SQLite file to read it; RunError where it is none, or is damaged.

    So is whatever the block raises that reads it: a file may be damaged anywhere.
    """
    with _read_only(file, "not a study") as (connect, stack):
        database = RDBStorage(
            "sqlite://", engine_kwargs={"creator": connect}, skip_table_creation=True
        )
        stack.callback(database.engine.dispose)
        stack.callback(database.remove_session)
        yield optuna.load_study(study_name=name, storage=database)


@contextmanager
def reading_engine(file: Path, fault: str) -> Iterator[sa.Engine]:
    """Open an SQLite file to read it; RunError with the fault where it is none, or is damaged."""
    with _read_only(file, fault) as (connect, stack):
        engine = sa.create_engine("sqlite://", creator=connect)
        stack.callback(engine.dispose)
        yield engine


@contextmanager
def _read_only(
    file: Path, fault: str
) -> Iterator[tuple[Callable[[], sqlite3.Connection], ExitStack]]:
    """Yield what connects to a file, and a stack of what is to be closed before it is left."""
    advice = "; go on with resume=True, or begin anew"
    with blaming(file, RunError, fault, advice), ExitStack() as stack:
        require_regular(file)
        address = _address(file, stack)
        yield lambda: _connect(address), stack


def _address(file: Path, stack: ExitStack) -> str:
    """Return how SQLite reads a file and leaves no file beside it.

    Without a write-ahead log nothing is under way. With one, its index is there as long as
    somebody works, or was killed at it; a log that came without its index is read from a copy.
    """
    log, index = (file.with_name(file.name + end) for end in ("-wal", "-shm"))
    if not log.is_file() or not log.stat().st_size:
        return f"{file.absolute().as_uri()}?mode=ro&immutable=1"
    if index.is_file():
        return f"{file.absolute().as_uri()}?mode=ro"
    folder = Path(stack.enter_context(TemporaryDirectory()))
    for each in (file, log):
        shutil.copyfile(each, folder / each.name)
    return (folder / file.name).as_uri()


def _connect(address: str) -> sqlite3.Connection:
    return sqlite3.connect(address, uri=True, timeout=5, check_same_thread=False)
