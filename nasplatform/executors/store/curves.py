"""The curves of trainings out of a store, to be looked at: nothing is claimed or written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from nasplatform.executors.store import schema
from nasplatform.executors.store.journal import JournalEvaluationStore, measurements_beside
from nasplatform.training.curve import Curve


@dataclass(frozen=True)
class StoredCurve:
    """The curve of one measurement; ``hash`` and ``fidelity`` are of its ``EvaluationKey``."""

    hash: str
    fidelity: int
    curve: Curve


def journal_curves(study: Path, space: str, task: str, seed: int) -> Iterator[StoredCurve]:
    """Yield what a journal keeps of the trainings of a search (see ``stored_curves``)."""
    if not measurements_beside(study).is_file():
        return
    for row in JournalEvaluationStore(study).look().measurements.values():
        key = row.key
        if (key.space, key.task, key.seed) == (space, task, seed) and row.result.curve:
            yield StoredCurve(key.hash, key.fidelity, row.result.curve)


def stored_curves(engine: sa.Engine, space: str, task: str, seed: int) -> Iterator[StoredCurve]:
    """Yield what was kept of the trainings of a search; nothing from tables of another version.

    space, task, seed: as of the search's ``EvaluationKey``.
    """
    row = schema.MEASUREMENTS.c
    ours = (row.space == space, row.task == task, row.seed == seed, row.curve.is_not(None))
    with engine.connect() as connection:
        if schema.version_of(connection) != schema.HEAD:
            return
        for found in connection.execute(sa.select(row.hash, row.fidelity, row.curve).where(*ours)):
            yield StoredCurve(found.hash, found.fidelity, json.loads(found.curve))
