"""``nb101_measured.parquet``: measurements of some tens of thousands of NAS-Bench-101's cells.

Columns: ``hash``, ``n_vertices``, ``adj_bits`` (bit k, lowest first, is the k-th entry of the
row-major strict upper triangle of the V x V matrix), ``ops`` (letters 3, 1, M of the interior
vertices), ``params``, the validation accuracy of run 0 at 4, 12, 36 and 108 epochs, its training
time, and the means over three runs of test accuracy and training time; NaN where not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nasplatform.benchmarks.imports.parquet import read_parquet
from nasplatform.errors import DataError
from nasplatform.spaces.nasbench101 import Cells
from nasplatform.spaces.nasbench101.cells import (
    CONV1X1,
    CONV3X3,
    INPUT,
    MAX_VERTICES,
    MAXPOOL3X3,
    OUTPUT,
    pack,
    prune,
)

MEASURED = "nb101_measured.parquet"
FIDELITIES = (4, 12, 36, 108)
_COLUMNS = {
    ("valid_accuracy", 4): "val_acc_e4_r0",
    ("valid_accuracy", 12): "val_acc_e12_r0",
    ("valid_accuracy", 36): "val_acc_e36_r0",
    ("valid_accuracy", 108): "val_acc_e108_r0",
    ("seconds", 108): "train_time_e108_r0",
    ("test_accuracy_mean3", 108): "test_acc_e108_mean3",
    ("seconds_mean3", 108): "train_time_e108_mean3",
}
_CELL = ("hash", "n_vertices", "adj_bits", "ops", "params")
_LETTERS = {"3": CONV3X3, "1": CONV1X1, "M": MAXPOOL3X3}
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class MeasuredCells:
    """B cells with what the file says of them; measurements are (B, F, 1), NaN = not measured."""

    cells: Cells
    hashes: list[str]
    params: NDArray[np.int64]
    measurements: dict[str, NDArray[np.float32]]
    fidelities: tuple[int, ...] = FIDELITIES


def is_parquet(path: Path) -> bool:
    """Tell whether a file begins as a parquet file does; raise DataError if unreadable."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def read_measured(path: Path) -> MeasuredCells:
    """Read the file; raise DataError that says what is missing or which row is no cell."""
    wanted = [*_CELL, *_COLUMNS.values()]
    columns = _read(path, wanted)
    n = columns["n_vertices"].astype(np.int64)
    adjacency, inside = _adjacency(columns["adj_bits"].astype(np.uint64), n)
    ops, spelled = _ops(columns["ops"], n)
    _refuse(path, ~inside, "n_vertices and adj_bits are no matrix of a cell")
    _refuse(path, ~spelled, "ops is not one of the letters 3, 1, M for each interior vertex")
    pruned, _, connected = prune(adjacency, ops)
    whole = connected & (pruned.sum((1, 2)) == adjacency.sum((1, 2)))
    _refuse(path, ~whole, "the matrix has vertices that lead nowhere")
    measurements: dict[str, NDArray[np.float32]] = {}
    for (metric, epochs), column in _COLUMNS.items():
        values = columns[column].astype(np.float32)
        largest = np.inf if metric.startswith("seconds") else 1.0
        known = ~np.isnan(values)
        _refuse(path, known & ~((values >= 0) & (values <= largest)), f"{column} is out of range")
        shape = (len(n), len(FIDELITIES), 1)
        cube = measurements.setdefault(metric, np.full(shape, np.nan, np.float32))
        cube[:, FIDELITIES.index(epochs), 0] = values
    return MeasuredCells(
        cells=Cells(pack(adjacency, ops)),
        hashes=columns["hash"].tolist(),
        params=columns["params"].astype(np.int64),
        measurements=measurements,
    )


def _read(path: Path, wanted: list[str]) -> dict[str, NDArray[Any]]:
    try:
        known = pq.read_schema(path).names
        missing = [name for name in wanted if name not in known]
        if missing:
            raise DataError(
                f"{path} has no column {missing[0]!r}: it is not NAS-Bench-101's {MEASURED}"
            )
    except (OSError, pa.ArrowException) as error:
        words = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as parquet: {words}") from None
    table = read_parquet(path, wanted)
    if not len(table):
        raise DataError(f"{path} has no rows")
    columns = {}
    for name in wanted:
        text = pa.types.is_string(table[name].type) or pa.types.is_large_string(table[name].type)
        if text != (name in ("hash", "ops")):
            raise DataError(f"{path}: column {name!r} has type {table[name].type}")
        if table[name].null_count and name in _CELL:
            raise DataError(f"{path}: column {name!r} has empty entries")
        columns[name] = table[name].to_numpy()
    return columns


def _adjacency(
    bits: NDArray[np.uint64], n: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return padded matrices (B, 7, 7) and which of them (B,) are of 2 to 7 vertices."""
    adjacency = np.zeros((len(bits), MAX_VERTICES, MAX_VERTICES), np.uint8)
    inside = (n >= 2) & (n <= MAX_VERTICES)
    for vertices in range(2, MAX_VERTICES + 1):
        chosen = np.flatnonzero(n == vertices)
        where = np.array([*range(vertices - 1), MAX_VERTICES - 1])
        rows, columns = np.triu_indices(vertices, k=1)
        shifts = np.arange(len(rows), dtype=np.uint64)
        entries = (bits[chosen, None] >> shifts) & np.uint64(1)
        adjacency[chosen[:, None], where[rows], where[columns]] = entries
        inside[chosen] &= bits[chosen] >> np.uint64(len(rows)) == 0
    return adjacency, inside


def _ops(texts: NDArray[Any], n: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Return padded op ids (B, 7) and which rows (B,) have a known letter per interior vertex."""
    width = MAX_VERTICES - 1  # one more than fits, so that a text that is too long is seen
    letters = np.array(texts, f"U{width}").view(np.uint32).reshape(len(texts), width)
    table = np.full(128, -2, np.int8)
    table[0] = -1
    for letter, op in _LETTERS.items():
        table[ord(letter)] = op
    ids = table[np.where(letters < len(table), letters, 1)]
    expected = np.arange(width) < (n - 2)[:, None]
    spelled = ((ids >= 0) == expected).all(1) & (ids >= -1).all(1)
    ops = np.full((len(texts), MAX_VERTICES), -1, np.int8)
    ops[:, 0], ops[:, -1] = INPUT, OUTPUT
    ops[:, 1:-1] = np.where(spelled[:, None], ids[:, : MAX_VERTICES - 2], -1)
    return ops, spelled


def _refuse(path: Path, wrong: NDArray[np.bool_], why: str) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        raise DataError(f"{path}: row {rows[0] + 1}: {why}")
