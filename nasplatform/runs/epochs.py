"""The epochs of a run as a tidy frame: of every training that its search and stages have made."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from nasplatform.errors import RunError
from nasplatform.executors.store.curves import StoredCurve, journal_curves, stored_curves
from nasplatform.executors.store.database import engine_of, journal_file
from nasplatform.foreign import blaming, read_json
from nasplatform.runs import frames, tables
from nasplatform.runs.columns import EPOCHS
from nasplatform.runs.folder import RunFolder
from nasplatform.runs.resolved import ResolvedSearch
from nasplatform.runs.study_file import reading_engine
from nasplatform.spaces import get_space
from nasplatform.stages.pipeline import RECORD
from nasplatform.training.curve import Curve

_TRAINING = ("number", "hash", "fidelity", "index", "stage")
_EPOCH = ("epoch", "train_loss", "valid_accuracy", "learning_rate", "seconds")


def epochs(folder: RunFolder, contact: bool = False) -> pd.DataFrame:
    """Return one row per epoch of every training of a run, finished or not.

    contact: whether the database that the file of an unfinished run names is asked.
    """
    parts = [_of_search(folder, contact), _of_stages(folder)]
    found = [part for part in parts if len(part)]
    return pd.concat(found, ignore_index=True) if found else _frame(())


def of_search(store: Path | str, config: ResolvedSearch, found: pd.DataFrame) -> pd.DataFrame:
    """Return the epochs of a search out of the store of its measurements.

    store: the file, or the URL that its workers share.
    found: its evaluations. An architecture has those of the trial that paid for it.
    """
    space = get_space(config.space.name, **config.space.options)
    described = json.dumps(space.describe(), sort_keys=True)
    first = found.drop_duplicates("hash")
    keys = zip(first["hash"], first["fidelity"], strict=True)
    numbers = dict(zip(keys, first["number"], strict=True))
    rows = [
        ({"number": numbers[key], "hash": one.hash, "fidelity": one.fidelity}, one.curve)
        for one in _kept(store, described, config.provenance.measured, config.seed)
        if (key := (one.hash, one.fidelity)) in numbers
    ]
    return _frame(sorted(rows, key=lambda row: row[0]["number"]))


def _kept(store: Path | str, *of: Any) -> Iterator[StoredCurve]:
    if (journal := journal_file(store)) is not None:
        yield from journal_curves(journal, *of)
        return
    with _engine(store) as engine:
        yield from stored_curves(engine, *of)


def _of_search(folder: RunFolder, contact: bool) -> pd.DataFrame:
    if folder.epochs.is_file():
        table = tables.read_table(folder.epochs, EPOCHS, ("epoch",), ("hash",))
        return tables.to_frame([table], EPOCHS)
    config = folder.read()
    if not isinstance(config, ResolvedSearch):
        return _frame(())
    if folder.evaluations.is_file():
        _warn(folder, f"{folder.epochs.name} is missing, so nothing is known of its epochs")
        return _frame(())
    found = frames.evaluations(folder, contact)
    if found.empty:
        return _frame(())
    return of_search(config.storage or folder.measurements, config, found)


def _of_stages(folder: RunFolder) -> pd.DataFrame:
    rows = []
    for path in sorted(folder.models.glob(f"*/{RECORD}")):
        with blaming(path, RunError, "the record of a stage is damaged"):
            record = read_json(path)
            keys = {"index": record["index"], "stage": record["stage"]}
            if "curve" in record:
                rows.append((keys, record["curve"]))
            else:
                _warn(folder, f"its stage {record['stage']!r} kept no epochs: an older version")
    return _frame(sorted(rows, key=lambda row: row[0]["index"]))


def _frame(trainings: Iterable[tuple[Mapping[str, Any], Curve]]) -> pd.DataFrame:
    """Return a row per epoch; of what names a training, what it has not is missing."""
    made = [(keys, curve) for keys, curve in trainings if curve]
    counts = [len(curve["epoch"]) for _, curve in made]
    columns: dict[str, Any] = {
        name: np.repeat(np.array([keys.get(name) for keys, _ in made], object), counts)
        for name in _TRAINING
    }
    others = dict.fromkeys(name for _, curve in made for name in curve if name not in _EPOCH)
    for name in (*_EPOCH, *others):
        parts = [
            np.asarray(curve.get(name, [None] * n), np.float64)
            for (_, curve), n in zip(made, counts, strict=True)
        ]
        told = name if name in _EPOCH else f"metric_{name}"
        columns[told] = np.concatenate(parts) if parts else np.zeros(0)
    return pd.DataFrame(columns).astype(dict(EPOCHS))


@contextmanager
def _engine(store: Path | str) -> Iterator[sa.Engine]:
    """Open a store to read it."""
    if isinstance(store, Path):
        with reading_engine(store, "not a store of evaluations") as engine:
            yield engine
        return
    engine = engine_of(store)
    try:
        yield engine
    finally:
        engine.dispose()


def _warn(folder: RunFolder, words: str) -> None:
    warnings.warn(f"{folder.path}: {words}", stacklevel=2)
