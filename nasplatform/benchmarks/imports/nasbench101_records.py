"""The records of NAS-Bench-101's official file, read as a stream into arrays."""

from __future__ import annotations

import json
import math
from array import array
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.benchmarks.imports.model_metrics import EvaluationData, parse_model_metrics
from nasplatform.benchmarks.tfrecord import FRAME, read_records
from nasplatform.errors import DataError
from nasplatform.spaces.nasbench101 import Cells
from nasplatform.spaces.nasbench101.cells import MAX_EDGES, MAX_VERTICES, OP_IDS, pack

METRICS = ("valid_accuracy", "test_accuracy", "seconds")
_FINAL = 2  # evaluations of a training: at its start, at its half, at its end
_EPOCHS_LIMIT = 1 << 16
_REPORT_EVERY = 1 << 14


@dataclass(frozen=True)
class Trainings:
    """T trainings of B cells, in the order of the file.

    cells:    the B cells as the file labels them, in the order of their first record.
    hashes:   (B,) the md5 that the file gives each.
    params:   (B,) the trainable parameters that the file gives each.
    where:    (B,) number of the first record of each, from 1.
    rows:     (T,) which cell was trained.
    epochs:   (T,) for how long.
    measured: metric -> (T,) float32: accuracies in [0, 1], seconds.
    """

    cells: Cells
    hashes: list[str]
    params: NDArray[np.int64]
    where: NDArray[np.uint32]
    rows: NDArray[np.uint32]
    epochs: NDArray[np.uint16]
    measured: dict[str, NDArray[np.float32]]


def read_trainings(path: Path, report: Callable[[float], None]) -> Trainings:
    """Read every record; ``report`` is told the share of the file that was read.

    Takes about 30 bytes for each training and 200 for each cell. Raises DataError, naming the
    file and the record, for anything that is no record of NAS-Bench-101.
    """
    size, done = path.stat().st_size, 0
    reader = _Reader()
    number = 0
    for number, payload in enumerate(read_records(path), 1):
        try:
            reader.add(payload, number)
        except _NotOursError as error:
            raise DataError(
                f"{path}: record {number} is not one of NAS-Bench-101: {error}"
            ) from None
        done += len(payload) + FRAME
        if number % _REPORT_EVERY == 0:
            report(done / size)
    if not number:
        raise DataError(f"{path} holds no record")
    report(1.0)
    return reader.trainings(path)


class _NotOursError(Exception):
    """A payload that is no record of the benchmark; says why."""


class _Reader:
    """Takes records one by one and keeps their facts in typed arrays."""

    def __init__(self) -> None:
        self._row_of: dict[str, int] = {}
        self._wirings: dict[str, int] = {}
        self._labellings: dict[str, int] = {}
        self._wiring, self._labelling = array("I"), array("I")
        self._params, self._where = array("q"), array("I")
        self._rows, self._epochs = array("I"), array("H")
        self._measured = {metric: array("f") for metric in METRICS}

    def add(self, payload: bytes, number: int) -> None:
        """Take one payload; ``number`` is that of its record."""
        digest, epochs, wiring, labelling, metrics = _record(payload)
        try:
            found = parse_model_metrics(b64decode(metrics.replace("\n", ""), validate=True))
        except ValueError as error:
            raise _NotOursError(f"its metrics cannot be decoded: {error}") from None
        if len(found.evaluations) <= _FINAL or found.trainable_parameters is None:
            raise _NotOursError("its metrics lack an evaluation or the number of parameters")
        _check_values(found.evaluations[_FINAL])
        row = self._row_of.setdefault(digest, len(self._row_of))
        wiring_id = self._wirings.setdefault(wiring, len(self._wirings))
        labelling_id = self._labellings.setdefault(labelling, len(self._labellings))
        if row == len(self._where):
            self._wiring.append(wiring_id)
            self._labelling.append(labelling_id)
            self._params.append(found.trainable_parameters)
            self._where.append(number)
        facts = (wiring_id, labelling_id, found.trainable_parameters)
        if facts != (self._wiring[row], self._labelling[row], self._params[row]):
            raise _NotOursError(
                f"it describes cell {digest} otherwise than record {self._where[row]}"
            )
        self._rows.append(row)
        self._epochs.append(epochs)
        final = found.evaluations[_FINAL]
        self._measured["valid_accuracy"].append(final.validation_accuracy)
        self._measured["test_accuracy"].append(final.test_accuracy)
        self._measured["seconds"].append(final.training_time)

    def trainings(self, path: Path) -> Trainings:
        """Return what was taken, with the cells packed."""
        return Trainings(
            cells=self._cells(path),
            hashes=list(self._row_of),
            params=np.array(self._params, np.int64),
            where=np.array(self._where, np.uint32),
            rows=np.array(self._rows, np.uint32),
            epochs=np.array(self._epochs, np.uint16),
            measured={
                name: np.array(values, np.float32) for name, values in self._measured.items()
            },
        )

    def _cells(self, path: Path) -> Cells:
        """Pack the cells; the few wirings and labellings that there are are parsed once each."""
        wiring, labelling = np.array(self._wiring), np.array(self._labelling)
        matrices, n_of_matrix = _parsed(self._wirings, _matrix)
        labels, n_of_labels = _parsed(self._labellings, _labels)
        wrong = np.flatnonzero(
            (n_of_matrix[wiring] != n_of_labels[labelling]) | (n_of_matrix[wiring] == 0)
        )
        if len(wrong):
            raise DataError(
                f"{path}: record {self._where[wrong[0]]} is not one of NAS-Bench-101: its "
                f"adjacency and operations are no cell of the space"
            )
        return Cells(pack(matrices[wiring], labels[labelling]))


def _record(payload: bytes) -> tuple[str, int, str, str, str]:
    try:
        values = json.loads(payload)
    except ValueError:
        raise _NotOursError("its payload is not JSON") from None
    kinds = (str, int, str, str, str)
    if not isinstance(values, list) or tuple(map(type, values)) != kinds:
        raise _NotOursError("expected [hash, epochs, adjacency, operations, metrics]")
    digest, epochs, wiring, labelling, metrics = values
    if not 0 < epochs < _EPOCHS_LIMIT:
        raise _NotOursError(f"{epochs} epochs")
    return digest, epochs, wiring, labelling, metrics


def _check_values(final: EvaluationData) -> None:
    for name in ("validation_accuracy", "test_accuracy"):
        if not 0 <= getattr(final, name) <= 1:
            raise _NotOursError(f"{name} is {getattr(final, name)}, expected a value in [0, 1]")
    if not 0 <= final.training_time < math.inf:
        raise _NotOursError(f"training_time is {final.training_time}, expected seconds")


def _parsed(
    texts: dict[str, int], parse: Callable[[str], tuple[NDArray[Any], int]]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Parse each text; return the stacked arrays and the vertex number of each, 0 = no cell."""
    arrays, counts = zip(*map(parse, texts), strict=True)
    return np.stack(arrays), np.array(counts)


def _matrix(text: str) -> tuple[NDArray[np.uint8], int]:
    """Return the padded matrix (7, 7) of V x V digits, and V; 0 where they are none."""
    padded = np.zeros((MAX_VERTICES, MAX_VERTICES), np.uint8)
    n = math.isqrt(len(text))
    if n * n != len(text) or not 2 <= n <= MAX_VERTICES or set(text) - set("01"):
        return padded, 0
    matrix = np.array(list(text), np.uint8).reshape(n, n)
    where = [*range(n - 1), MAX_VERTICES - 1]
    padded[np.ix_(where, where)] = matrix
    full = matrix[:-1].any(1).all() and matrix[:, 1:].any(0).all()
    valid = full and not np.tril(matrix).any() and matrix.sum() <= MAX_EDGES
    return padded, n if valid else 0


def _labels(text: str) -> tuple[NDArray[np.int8], int]:
    """Return the padded op ids (7,) of V names, and V; 0 where a name is unknown."""
    padded = np.full(MAX_VERTICES, -1, np.int8)
    names = text.split(",")
    n = len(names)
    interior = set(names[1:-1])
    known = interior <= OP_IDS.keys() - {"input", "output"}
    if not 2 <= n <= MAX_VERTICES or [names[0], names[-1]] != ["input", "output"] or not known:
        return padded, 0
    padded[[*range(n - 1), MAX_VERTICES - 1]] = [OP_IDS[name] for name in names]
    return padded, n
