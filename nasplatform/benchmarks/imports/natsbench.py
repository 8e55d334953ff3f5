"""The archive of NATS-Bench's topology space: a folder of ``NNNNNN.pickle.pbz2``, one per cell.

A record is a mapping of the hyper-parameter set ("12" or "200" epochs) to the cell's index, its
text and the trainings, by (data set, seed): parameters in millions, multiply-adds in millions,
latency in seconds, and per epoch the accuracies in percent of each evaluation set under keys such
as ``x-valid@199``.
"""

from __future__ import annotations

import bz2
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.benchmarks.imports.safe_pickle import loads
from nasplatform.errors import DataError
from nasplatform.foreign import read_bytes

SEEDS = 3
"""Most trainings of one cell on one data set."""
METRICS = {
    "c10_valid_accuracy": ("cifar10-valid", "x-valid"),
    "c10_test_accuracy": ("cifar10", "ori-test"),
    "c100_valid_accuracy": ("cifar100", "x-valid"),
    "c100_test_accuracy": ("cifar100", "x-test"),
    "in16_valid_accuracy": ("ImageNet16-120", "x-valid"),
    "in16_test_accuracy": ("ImageNet16-120", "x-test"),
}
"""Metric -> data set as trained on, evaluation set; the pairs that the benchmark's authors use."""
_TIMED = "cifar10-valid"
_TEN_CLASSES = ("cifar10", "cifar10-valid")
_TRAININGS = 2 * len(_TEN_CLASSES) * SEEDS
_LATENCIES = {
    "c10_latency_ms": "cifar10-valid",
    "c100_latency_ms": "cifar100",
    "in16_latency_ms": "ImageNet16-120",
}
_LARGEST = 1 << 26  # bytes of one unpacked record; the official ones have 0.4 MB
_CELLS_PER_JOB = 64

Report = Callable[[int, int], None]
_Runs = dict[str, list[dict[str, Any]]]  # the trainings of each data set, by ascending seed


@dataclass(frozen=True)
class Archive:
    """B cells.

    costs:        (B, K, 2) parameters and multiply-adds as K trainings on CIFAR-10 state them, NaN
                  where there are fewer; some trainings of the archive state another cell's.
    measurements: metric -> (B, F, 3) float32 fractions (``seconds``: seconds), NaN = no training.
    latencies:    name -> (B,) milliseconds, NaN where not measured.
    """

    texts: list[str]
    costs: NDArray[np.float64]
    measurements: dict[str, NDArray[np.float32]]
    latencies: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class _Cell:
    text: str
    costs: NDArray[np.float64]  # (K, 2)
    values: dict[str, NDArray[np.float32]]  # metric -> (F, 3)
    latencies: dict[str, float]


def read_archive(
    folder: Path, fidelities: Sequence[int], report: Report, workers: int = 1
) -> Archive:
    """Read every record of a folder, in the order of the official index.

    Raises DataError that names the file and what is wrong in it.
    """
    files = sorted(path for path in folder.glob("*.pickle.pbz2") if path.name[0].isdigit())
    if not files:
        raise DataError(
            f"{folder} has no files such as 000000.pickle.pbz2: expected the unpacked archive "
            f"NATS-tss-v1_0-3ffb9-simple"
        )
    cells: list[_Cell] = []
    report(0, len(files))
    for cell in _cells(files, tuple(fidelities), workers):
        cells.append(cell)
        if len(cells) % _CELLS_PER_JOB == 0:
            report(len(cells), len(files))
    report(len(files), len(files))
    metrics = (*METRICS, "seconds")
    return Archive(
        texts=[cell.text for cell in cells],
        costs=np.stack([cell.costs for cell in cells]),
        measurements={name: np.stack([cell.values[name] for cell in cells]) for name in metrics},
        latencies={
            name: np.array([cell.latencies[name] for cell in cells], np.float32)
            for name in _LATENCIES
        },
    )


def _cells(files: list[Path], fidelities: tuple[int, ...], workers: int) -> Iterable[_Cell]:
    read = partial(_read_some, fidelities=fidelities)
    starts = range(0, len(files), _CELLS_PER_JOB)
    jobs = [files[start : start + _CELLS_PER_JOB] for start in starts]
    if workers == 1 or len(jobs) == 1:
        yield from chain.from_iterable(map(read, jobs))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from chain.from_iterable(pool.map(read, jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _read_some(files: list[Path], fidelities: tuple[int, ...]) -> list[_Cell]:
    return [_read_cell(file, fidelities) for file in files]


def _read_cell(file: Path, fidelities: tuple[int, ...]) -> _Cell:
    record = loads(_unpacked(file), str(file))
    try:
        return _cell(record, fidelities)
    except _MissingError as error:
        raise DataError(f"{file}: {error}") from None


def _unpacked(file: Path) -> bytes:
    try:
        machine = bz2.BZ2Decompressor()
        data = machine.decompress(read_bytes(file, _LARGEST), max_length=_LARGEST)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} cannot be unpacked as bzip2: {error}") from None
    if not machine.eof:
        size = f"more than {_LARGEST >> 20} MiB" if len(data) == _LARGEST else "truncated"
        raise DataError(f"{file} cannot be unpacked as bzip2: it is {size}")
    return data


class _MissingError(Exception):
    """A record that is plain data but not that of a cell."""


def _get(mapping: Any, key: Any, kind: type | tuple[type, ...]) -> Any:
    """Return an entry of a record, of the kind that it must be."""
    if not isinstance(mapping, dict) or key not in mapping:
        raise _MissingError(f"no entry {key!r}: it is no record of NATS-Bench's topology space")
    value = mapping[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _MissingError(f"entry {key!r} is a {type(value).__name__}")
    return value


def _cell(record: Any, fidelities: tuple[int, ...]) -> _Cell:
    sets = {epochs: _get(record, str(epochs), dict) for epochs in fidelities}
    texts = {_get(found, "arch_str", str) for found in sets.values()}
    if len(texts) > 1:
        raise _MissingError(f"two architectures in one record: {' and '.join(sorted(texts))}")
    runs = {epochs: _runs(_get(found, "all_results", dict)) for epochs, found in sets.items()}
    values = {
        name: np.full((len(fidelities), SEEDS), np.nan, np.float32)
        for name in (*METRICS, "seconds")
    }
    for f, epochs in enumerate(fidelities):
        for name, (dataset, evaluation) in METRICS.items():
            for seed, run in enumerate(runs[epochs].get(dataset, [])):
                values[name][f, seed] = _accuracy(run, evaluation, epochs)
        for seed, run in enumerate(runs[epochs].get(_TIMED, [])):
            values["seconds"][f, seed] = _seconds(run)
    longest = runs[fidelities[-1]]
    latencies = {name: _latency(longest.get(data, [])) for name, data in _LATENCIES.items()}
    return _Cell(texts.pop(), _costs(runs.values()), values, latencies)


def _runs(results: Mapping[Any, Any]) -> _Runs:
    """Return the trainings of each data set, in the order of their seeds."""
    found: _Runs = {}
    for key in results:
        if not (isinstance(key, tuple) and [type(part) for part in key] == [str, int]):
            raise _MissingError(f"a training is filed under {key!r:.60}, not (data set, seed)")
    for dataset, seed in sorted(results):
        runs = found.setdefault(dataset, [])
        runs.append(_get(results, (dataset, seed), dict))
        if len(runs) > SEEDS:
            raise _MissingError(f"more than {SEEDS} trainings on {dataset}")
    return found


def _accuracy(run: Mapping[str, Any], evaluation: str, epochs: int) -> float:
    percent = _get(_get(run, "eval_acc1es", dict), f"{evaluation}@{epochs - 1}", (float, int))
    if not 0 <= percent <= 100:
        raise _MissingError(f"accuracy {evaluation}@{epochs - 1} is {percent}, expected percent")
    return float(percent) / 100


def _seconds(run: Mapping[str, Any]) -> float:
    times = _get(run, "train_times", (dict, type(None)))
    if not times:
        return float("nan")
    return float(sum(_get(times, epoch, (float, int)) for epoch in times))


def _costs(sets: Iterable[_Runs]) -> NDArray[np.float64]:
    """Return (K, 2): parameters and multiply-adds that the trainings on CIFAR-10 state."""
    found = np.full((_TRAININGS, 2), np.nan)
    trainings = (run for runs in sets for name in _TEN_CLASSES for run in runs.get(name, []))
    for row, run in enumerate(trainings):
        for column, name in enumerate(("params", "flop")):
            found[row, column] = 1e6 * _get(run, name, (float, int))
    if np.isnan(found).all():
        raise _MissingError("no training on CIFAR-10")
    return found


def _latency(runs: list[dict[str, Any]]) -> float:
    """Return the mean latency in milliseconds, NaN where it was not measured."""
    measured = [_get(run, "latency", (list, type(None))) for run in runs]
    if not all(isinstance(time, float | int) for times in measured for time in times or []):
        raise _MissingError("entry 'latency' has something else than numbers")
    means = [float(np.mean(times)) for times in measured if times]
    positive = [mean for mean in means if mean > 0]
    return 1e3 * float(np.mean(positive)) if positive else float("nan")
