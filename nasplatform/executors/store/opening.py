"""Which store stands behind a target."""

from __future__ import annotations

from pathlib import Path

from nasplatform.executors.store.base import EvaluationStore
from nasplatform.executors.store.database import journal_file
from nasplatform.executors.store.sql import SQLEvaluationStore


def open_store(target: Path | str, max_attempts: int = 3) -> EvaluationStore:
    """Open a store, made where there is none.

    target: an SQLite file (Path), ``:memory:``, an SQLAlchemy URL of SQLite or PostgreSQL, where
            its tables stand beside the study's, or ``journal:///FILE`` on a disk that several
            machines share, where it is FILE.measurements.
    Raises RunError where there is no such database, or its tables are of another version.
    """
    if (file := journal_file(target)) is None:
        return SQLEvaluationStore(target, max_attempts)
    from nasplatform.executors.store.journal import JournalEvaluationStore

    return JournalEvaluationStore(file, max_attempts)
