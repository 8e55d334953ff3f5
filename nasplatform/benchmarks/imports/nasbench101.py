"""NAS-Bench-101: the official TFRecord file, or a parquet file of some of its measurements.

The official file (google-research/nasbench, Apache-2.0) holds one record per training: JSON
``[module_hash, epochs, raw_adjacency, raw_operations, base64(ModelMetrics)]``, three trainings of
each of the 423,624 cells at 108 epochs, or at 4, 12, 36 and 108. It becomes the table
``nasbench101``; of a shorter file, with ``complete: false`` on its card. ``nb101_measured.parquet``
becomes ``nasbench101-measured``.

Whatever the file says of a cell is checked: its md5 against its matrix, its parameter count
against the space's. Nothing is written unless everything agrees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.atomic_io import sha256
from nasplatform.benchmarks.imports.nasbench101_measured import MEASURED, is_parquet, read_measured
from nasplatform.benchmarks.imports.nasbench101_records import Trainings, read_trainings
from nasplatform.benchmarks.table import BenchmarkTable, save_table
from nasplatform.benchmarks.tfrecord import is_tfrecord
from nasplatform.errors import DataError
from nasplatform.spaces.nasbench101 import Cells, NASBench101, Skeleton

Progress = Callable[[int, int], None]
CELLS, RUNS = 423_624, 3
"""What the complete benchmark has: unique cells, trainings of each at each fidelity."""
BEST = {"valid_accuracy": 0.9506, "test_accuracy": 0.9432}
"""Published mean accuracies at 108 epochs of the best cells."""
_TOLERANCE = 1e-4
_CHUNK = 1 << 14
_STEPS = 1000
_READ, _HASHED = 0.4, 0.85  # shares of the time after reading and after hashing


@dataclass(frozen=True)
class _Cells:
    """Cells as a file gives them, with what it says of them.

    hashes, params: (B,) the md5 and the parameter count that stand in the file.
    where:          (B,) number of the record or the row, from 1, for messages.
    """

    cells: Cells
    hashes: list[str]
    params: NDArray[np.int64]
    where: NDArray[np.int64]


def import_nasbench101(file: Path, out_folder: Path, progress: Progress | None = None) -> Path:
    """Turn a file of NAS-Bench-101 into a table in ``out_folder``; return the table's path.

    The kind of file is told from its content. ``progress`` is called with (done, total).
    Raises DataError, in one line and without having written anything, for a file that is damaged
    or is something else.
    """
    report = progress or (lambda done, total: None)
    report(0, _STEPS)
    if not file.is_file():
        raise DataError(f"{file} is not a file")
    if is_parquet(file):
        table, hashes = _measured(file, report)
    elif is_tfrecord(file):
        table, hashes = _official(file, report)
    else:
        raise DataError(
            f"{file} is neither NAS-Bench-101's TFRecord file nor {MEASURED} (told by its content)"
        )
    path = out_folder / f"{table.name}.parquet"
    save_table(table, path, hashes)
    report(_STEPS, _STEPS)
    return path


def _official(file: Path, report: Progress) -> tuple[BenchmarkTable, list[str]]:
    trainings = read_trainings(file, lambda share: report(int(_READ * share * _STEPS), _STEPS))
    fidelities = tuple(np.unique(trainings.epochs).tolist())
    measurements = _cubes(trainings, fidelities, file)
    stated = _Cells(
        trainings.cells, trainings.hashes, trainings.params, trainings.where.astype(np.int64)
    )
    space = NASBench101(Skeleton())
    attributes = _attributes(space, stated, file, "record", report)
    complete = len(trainings.cells) == CELLS and all(
        bool(np.isfinite(cube).all()) and cube.shape[2] == RUNS for cube in measurements.values()
    )
    table = BenchmarkTable(
        name="nasbench101",
        space=space,
        architectures=trainings.cells,
        fidelities=fidelities,
        measurements=measurements,
        attributes=attributes,
        card={
            **_card(file),
            "complete": complete,
            "architectures_of_the_whole": CELLS,
            "trainings": len(trainings.epochs),
        },
    )
    if complete:
        check_bests(table, file)
    return table, trainings.hashes


def _measured(file: Path, report: Progress) -> tuple[BenchmarkTable, list[str]]:
    rows = read_measured(file)
    where = np.arange(1, len(rows.cells) + 1)
    space = NASBench101(Skeleton())
    stated = _Cells(rows.cells, rows.hashes, rows.params, where)
    attributes = _attributes(space, stated, file, "row", report)
    table = BenchmarkTable(
        name="nasbench101-measured",
        space=space,
        architectures=rows.cells,
        fidelities=rows.fidelities,
        measurements=rows.measurements,
        attributes=attributes,
        card={
            **_card(file),
            "complete": False,
            "architectures_of_the_whole": CELLS,
            "notes": "test_accuracy_mean3 and seconds_mean3 are means of three trainings",
        },
    )
    return table, rows.hashes


def check_bests(table: BenchmarkTable, file: Path) -> None:
    """Raise DataError unless a complete table's best mean accuracies are the published ones."""
    for metric, published in BEST.items():
        best = float(np.nanmax(table.values(metric, 108)))
        if abs(best - published) > _TOLERANCE:
            raise DataError(
                f"{file}: has all {len(table):,} cells, but its best mean {metric} is {best:.4f} "
                f"where {published:.4f} is published: not the official measurements"
            )


def _card(file: Path) -> dict[str, Any]:
    return {
        "source": "NAS-Bench-101, Ying et al. 2019, google-research/nasbench",
        "licence": "Apache-2.0",
        "command": f"nasplatform data import nasbench101 {file.name}",
        "file": file.name,
        "file_sha256": sha256(file),
    }


def _cubes(
    trainings: Trainings, fidelities: tuple[int, ...], file: Path
) -> dict[str, NDArray[np.float32]]:
    """Arrange T trainings as metric -> (B, F, S); repetitions keep the order of the file."""
    place = np.searchsorted(fidelities, trainings.epochs)
    group = trainings.rows.astype(np.int64) * len(fidelities) + place
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    sizes = np.diff(first, append=len(ordered))
    if sizes.max() > RUNS:
        row, f = divmod(int(ordered[first[sizes.argmax()]]), len(fidelities))
        raise DataError(
            f"{file}: cell {trainings.hashes[row]} has {sizes.max()} trainings of "
            f"{fidelities[f]} epochs, expected at most {RUNS}"
        )
    seed = np.arange(len(ordered)) - np.repeat(first, sizes)
    shape = (len(trainings.hashes), len(fidelities), int(sizes.max()))
    cubes = {}
    for metric, values in trainings.measured.items():
        cube = np.full(shape, np.nan, np.float32)
        cube.reshape(-1, shape[2])[ordered, seed] = values[order]
        cubes[metric] = cube
    return cubes


def _attributes(
    space: NASBench101, stated: _Cells, file: Path, unit: str, report: Progress
) -> dict[str, NDArray[np.int64]]:
    """Count parameters and FLOPs (B,), and see that the file's cells are what it says they are."""
    params = np.empty(len(stated.cells), np.int64)
    flops = np.empty(len(stated.cells), np.int64)
    for start in range(0, len(stated.cells), _CHUNK):
        part = slice(start, start + _CHUNK)
        graphs = space.graphs(stated.cells[part])
        params[part], flops[part] = graphs.total_params, graphs.total_flops
        _check_hashes(stated, part, file, unit)
        share = min(1.0, (start + _CHUNK) / len(stated.cells))
        report(int((_READ + (_HASHED - _READ) * share) * _STEPS), _STEPS)
    wrong = np.flatnonzero(params != stated.params)
    if len(wrong):
        row = wrong[0]
        raise DataError(
            f"{file}: {unit} {stated.where[row]} says {stated.params[row]:,} parameters, "
            f"its matrix has {params[row]:,}"
        )
    keys, counts = np.unique(stated.cells.labels, return_counts=True)
    if len(keys) != len(stated.cells):
        row = int(np.flatnonzero(stated.cells.labels == keys[counts.argmax()])[1])
        raise DataError(f"{file}: {unit} {stated.where[row]} repeats an earlier cell")
    return {"params": params, "flops": flops}


def _check_hashes(stated: _Cells, part: slice, file: Path, unit: str) -> None:
    for row, found in enumerate(stated.cells[part].hashes, part.start):
        if found != stated.hashes[row]:
            raise DataError(
                f"{file}: {unit} {stated.where[row]} calls its cell {stated.hashes[row]}, "
                f"its matrix is that of {found}"
            )
