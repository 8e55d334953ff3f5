"""Every measurement that was paid for, once: the evaluation cache."""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nasplatform.errors import RunError
from nasplatform.evaluators.base import Evaluation, Evaluator, Report
from nasplatform.spaces.base import A

_TABLE = """
CREATE TABLE IF NOT EXISTS evaluations (
    space TEXT, task TEXT, hash TEXT, fidelity INTEGER, seed INTEGER,
    score REAL, metrics TEXT NOT NULL, cost REAL NOT NULL, error TEXT, stopped INTEGER,
    PRIMARY KEY (space, task, hash, fidelity, seed)
) WITHOUT ROWID
"""
_VALUES = "score, metrics, cost, error, stopped"
_KEY = "space = ? AND task = ? AND hash = ? AND fidelity = ? AND seed = ?"


@dataclass(frozen=True)
class EvaluationKey:
    """What a measurement is the measurement of; equal keys are never paid for twice."""

    space: str
    task: str
    hash: str
    fidelity: int
    seed: int

    @property
    def row(self) -> tuple[str, str, str, int, int]:
        """The values in the order of the table's key."""
        return self.space, self.task, self.hash, self.fidelity, self.seed


class EvaluationStore:
    """Measurements in one SQLite file; safe with several processes, each with its own store.

    A measurement is written in one transaction. Where two processes measured the same thing, the
    first one counts for both.
    """

    def __init__(self, path: Path | str) -> None:
        """Open or make the file; raise RunError where it is no such store."""
        self.path = Path(path)
        try:
            self._connection = connect(self.path)
            with self._connection:
                self._connection.execute(_TABLE)
        except sqlite3.Error as error:
            raise RunError(f"{path}: not a store of evaluations ({error})") from None

    def get(self, key: EvaluationKey) -> Evaluation | None:
        """Return the measurement, None where it was not paid for yet."""
        found = self._connection.execute(
            f"SELECT {_VALUES} FROM evaluations WHERE {_KEY}", key.row
        ).fetchone()
        if found is None:
            return None
        score, metrics, *rest = found
        return Evaluation(math.nan if score is None else score, json.loads(metrics), *rest)

    def put(self, key: EvaluationKey, evaluation: Evaluation) -> Evaluation:
        """Keep a measurement; return the one that stands, which may be another process's."""
        metrics = json.dumps(dict(evaluation.metrics))
        rest = evaluation.cost, evaluation.error, evaluation.stopped
        with self._connection:
            self._connection.execute(
                "INSERT OR IGNORE INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*key.row, evaluation.score, metrics, *rest),
            )
        kept = self.get(key)
        assert kept is not None
        return kept

    def evaluate(
        self,
        evaluator: Evaluator[A],
        architecture: A,
        fidelity: int,
        seed: int,
        report: Report | None = None,
    ) -> Evaluation:
        """Look a measurement up, or have it made and keep it.

        report: hears of the measurement on the way and may stop it; what was stopped, and what
        failed, is kept as such and not tried again.
        """
        space = json.dumps(evaluator.space.describe(), sort_keys=True)
        key = EvaluationKey(space, evaluator.task, architecture.hash, fidelity, seed)
        known = self.get(key)
        if known is not None:
            return known
        if report is None:
            made = evaluator.evaluate(architecture, fidelity, seed)
        else:
            made = evaluator.evaluate_reporting(architecture, fidelity, seed, report)
        return self.put(key, made)

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT COUNT(*) FROM evaluations").fetchone()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open an SQLite file for several processes: write-ahead log, patient, quick to commit.

    Whatever was committed survives a kill of the process at any moment; a power cut may take the
    last commits, never the file.
    """
    connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection
