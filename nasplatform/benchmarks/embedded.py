"""The platform's own tabular benchmarks: every network really trained, on one CPU core each.

Two set-ups, both with NAS-Bench-101 cells in a small skeleton (8 stem channels, 3 stacks of one
module): ``cells-digits`` on 8x8 digits under fixed noise, ``cells-fashion`` on Fashion-MNIST
averaged down to 7x7. A build is resumable (parts are written as they are finished), uses all
cores, and is bit-reproducible: the kernel's arithmetic does not depend on the machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.atomic_io import replace_file, write_text
from nasplatform.benchmarks import cellnet
from nasplatform.benchmarks.statistics import describe_table
from nasplatform.benchmarks.table import BenchmarkTable, save_table
from nasplatform.errors import DataError, did_you_mean
from nasplatform.spaces.nasbench101 import Cell, Cells, NASBench101, Skeleton
from nasplatform.spaces.nasbench101.cells import CONV3X3
from nasplatform.spaces.nasbench101.enumeration import enumerate_cells
from nasplatform.training.datasets import load_task

Progress = Callable[[int, int], None]
_RECORD = np.dtype(
    [("train_loss", "f4"), ("valid_accuracy", "f4"), ("test_accuracy", "f4"), ("seconds", "f4")]
)
_CELLS_PER_PART = 8


@dataclass(frozen=True)
class CellGroup:
    """Which cells are trained with how many seeds.

    vertices: smallest and largest number of vertices.
    sample:   how many of them, drawn at random without replacement; None for all.
    seeds:    repetitions: other initial weights and batch order, same data.
    """

    vertices: tuple[int, int]
    seeds: int
    sample: int | None = None

    def cells(self) -> Cells:
        """Return the cells of the group, in the order of the enumeration."""
        low, high = self.vertices
        every = enumerate_cells(high)
        chosen = every[len(enumerate_cells(low - 1)) if low > 2 else 0 :]
        if self.sample is None:
            return chosen
        rng = np.random.Generator(np.random.PCG64(0))
        return chosen[np.sort(rng.choice(len(chosen), self.sample, replace=False))]


@dataclass(frozen=True)
class Setup:
    """Everything that decides what a build measures."""

    name: str
    dataset: str
    options: Mapping[str, Any]
    skeleton: Skeleton
    recipe: cellnet.Recipe
    groups: tuple[CellGroup, ...]
    licence: str
    notes: str = ""

    def description(self) -> dict[str, Any]:
        """Return the set-up as it stands on the card, plain JSON."""
        return {
            "dataset": {"name": self.dataset, **self.options},
            "recipe": asdict(self.recipe),
            "groups": [asdict(group) for group in self.groups],
        }


_SMALL = {"stem_channels": 8, "stacks": 3, "modules_per_stack": 1, "classes": 10}
SETUPS = {
    setup.name: setup
    for setup in (
        Setup(
            name="cells-digits",
            dataset="digits",
            options={"noise": 1.0, "seed": 0},
            skeleton=Skeleton(**_SMALL, input_shape=(1, 8, 8)),
            recipe=cellnet.Recipe(epochs=10, evaluate_at=(2, 4, 7, 10)),
            groups=(CellGroup((2, 5), seeds=4), CellGroup((6, 7), seeds=4, sample=5000)),
            licence="digits: UCI ML repository via scikit-learn (CC BY 4.0); table: Apache-2.0",
        ),
        Setup(
            name="cells-fashion",
            dataset="fashion-mnist",
            options={"pool": 4, "train_size": 4000, "valid_size": 5000, "test_size": 5000},
            skeleton=Skeleton(**_SMALL, input_shape=(1, 7, 7)),
            recipe=cellnet.Recipe(epochs=4, evaluate_at=(1, 2, 4)),
            groups=(CellGroup((2, 5), seeds=4),),
            licence="Fashion-MNIST: Zalando (MIT); table: Apache-2.0",
        ),
    )
}


def get_setup(name: str) -> Setup:
    """Return a set-up by name; raise DataError for an unknown one."""
    if name not in SETUPS:
        raise DataError(f"no set-up is called {name!r}{did_you_mean(name, SETUPS)}")
    return SETUPS[name]


def build(setup: Setup, folder: Path, workers: int = 1, progress: Progress | None = None) -> Path:
    """Train every cell of a set-up and write ``folder/NAME.parquet`` with its card.

    Parts go to ``folder/.build-NAME`` as they are finished; a build that was stopped goes on
    from there, and the parts are removed when the table stands. Returns the path of the table.
    """
    work = folder / f".build-{setup.name}"
    _claim(work, setup)
    _prepare(setup)  # errors of the data or the compiler come before any process is started
    jobs = list(_jobs(setup))
    waiting = [job for job in jobs if not job.path(work).exists()]
    done = len(jobs) - len(waiting)
    report = progress or (lambda done, total: None)
    report(done, len(jobs))
    for _ in _finished(setup, waiting, work, workers):
        done += 1
        report(done, len(jobs))
    table = _assemble(setup, jobs, work)
    path = folder / f"{setup.name}.parquet"
    save_table(table, path)
    shutil.rmtree(work)
    return path


def train_one(setup: Setup, cell: Cell, seed: int) -> NDArray[Any]:
    """Train one network; return a record (train_loss, accuracies, seconds) per fidelity, (F,)."""
    train, valid, test = _prepare(setup)
    matrix, ops = cell.arrays
    curve = cellnet.train_cell(
        matrix, (ops - CONV3X3).astype(np.int8), train, valid, test, setup.recipe, seed
    )
    records = np.empty(len(curve.epochs), _RECORD)
    records["train_loss"] = curve.train_loss
    records["valid_accuracy"] = curve.valid_correct / len(valid.labels)
    records["test_accuracy"] = curve.test_correct / len(test.labels)
    records["seconds"] = curve.seconds
    return records


@dataclass(frozen=True)
class _Job:
    """Some cells of a group, trained by one call in one process."""

    number: int
    start: int
    codes: tuple[int, ...] = field(repr=False)
    seeds: int

    def path(self, work: Path) -> Path:
        return work / f"{self.number:05d}.npy"


def _jobs(setup: Setup) -> Iterable[_Job]:
    number = start = 0
    for group in setup.groups:
        codes = group.cells().codes.tolist()
        for first in range(0, len(codes), _CELLS_PER_PART):
            part = tuple(codes[first : first + _CELLS_PER_PART])
            yield _Job(number, start + first, part, group.seeds)
            number += 1
        start += len(codes)


def _finished(setup: Setup, jobs: list[_Job], work: Path, workers: int) -> Iterable[None]:
    """Do the jobs, in this process or in several, and yield once for each."""
    if workers == 1:
        for job in jobs:
            _train_part(setup, job, work)
            yield
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_train_part, setup, job, work) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _train_part(setup: Setup, job: _Job, work: Path) -> None:
    records = [
        [train_one(setup, Cell(code), seed) for seed in range(job.seeds)] for code in job.codes
    ]
    with replace_file(job.path(work)) as temporary, temporary.open("wb") as file:
        np.save(file, np.array(records), allow_pickle=False)


def _assemble(setup: Setup, jobs: list[_Job], work: Path) -> BenchmarkTable:
    cells = Cells(np.array([code for job in jobs for code in job.codes], np.uint64))
    fidelities = setup.recipe.evaluate_at
    seeds = max(group.seeds for group in setup.groups)
    cube = {
        name: np.full((len(cells), len(fidelities), seeds), np.nan, np.float32)
        for name in _RECORD.names or ()
    }
    for job in jobs:
        part = np.load(job.path(work), allow_pickle=False)  # (cells, seeds, fidelities)
        for name, array in cube.items():
            rows = slice(job.start, job.start + len(part))
            array[rows, :, : part.shape[1]] = part[name].transpose(0, 2, 1)
    space = NASBench101(setup.skeleton)
    graphs = space.graphs(cells)
    table = BenchmarkTable(
        name=setup.name,
        space=space,
        architectures=cells,
        fidelities=fidelities,
        measurements=cube,
        attributes={"params": graphs.total_params, "flops": graphs.total_flops},
    )
    made_by = f"nasplatform data build {setup.name}"
    facts = {"command": made_by, "licence": setup.licence, **setup.description()}
    facts["data_digest"] = load_task(setup.dataset, dict(setup.options), setup.name).digest
    return replace(table, card=facts | describe_table(table))


@cache
def _images(name: str, options: str) -> tuple[cellnet.Images, cellnet.Images, cellnet.Images]:
    task = load_task(name, json.loads(options), name)
    train, valid, test = (
        cellnet.Images(split.inputs[:].numpy(), split.labels.numpy())
        for split in (task.train, task.valid, task.test)
    )
    return train, valid, test


def _prepare(setup: Setup) -> tuple[cellnet.Images, cellnet.Images, cellnet.Images]:
    return _images(setup.dataset, json.dumps(dict(setup.options)))


def _claim(work: Path, setup: Setup) -> None:
    """Make the folder of the parts, or see that the one that stands is of the same set-up."""
    stamp = work / "setup.json"
    text = json.dumps(setup.description(), indent=2)
    if stamp.exists() and stamp.read_text(encoding="utf-8") != text:
        raise DataError(f"{work}: holds parts of another set-up; remove it to build afresh")
    write_text(stamp, text)
