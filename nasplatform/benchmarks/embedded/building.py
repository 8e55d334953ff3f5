"""Builds of the embedded tables: in parts, in several processes, resumed after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasplatform.atomic_io import replace_file, write_text
from nasplatform.benchmarks.embedded.setups import Setup
from nasplatform.benchmarks.embedded.trainers import RECORD
from nasplatform.benchmarks.statistics import describe_table
from nasplatform.benchmarks.table import BenchmarkTable, save_table
from nasplatform.errors import DataError
from nasplatform.training.datasets import load_task
from nasplatform.training.task import Task

Progress = Callable[[int, int], None]
_PER_PART = 8  # architectures


def build(setup: Setup, folder: Path, workers: int = 1, progress: Progress | None = None) -> Path:
    """Train every network of a set-up and write ``folder/NAME.parquet`` with its card.

    Parts go to ``folder/.build-NAME`` as they are finished; a build that was stopped goes on
    from there, and the parts are removed when the table stands. Returns the path of the table.
    Raises KernelError where its networks cannot be trained on this machine.
    """
    work = folder / f".build-{setup.name}"
    _claim(work, setup)
    setup.trainer.check()  # errors of machine and data come before any process is started
    _task(setup)
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


@dataclass(frozen=True)
class _Job:
    """Some architectures of a group, trained by one call in one process."""

    number: int
    start: int
    codes: NDArray[np.uint64] = field(repr=False)
    seeds: int

    def path(self, work: Path) -> Path:
        return work / f"{self.number:05d}.npy"


def _jobs(setup: Setup) -> Iterable[_Job]:
    number = start = 0
    space = setup.make_space()
    for group in setup.groups:
        codes = group.draw(space).codes
        for first in range(0, len(codes), _PER_PART):
            part = codes[first : first + _PER_PART]
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
    space, task = setup.make_space(), _task(setup)
    records = [
        [setup.trainer.train(space, architecture, task, seed) for seed in range(job.seeds)]
        for architecture in space.from_codes(job.codes)
    ]
    with replace_file(job.path(work)) as temporary, temporary.open("wb") as file:
        np.save(file, np.array(records), allow_pickle=False)


def _assemble(setup: Setup, jobs: list[_Job], work: Path) -> BenchmarkTable:
    space = setup.make_space()
    architectures = space.from_codes(np.concatenate([job.codes for job in jobs]))
    fidelities = setup.trainer.fidelities
    seeds = max(group.seeds for group in setup.groups)
    cube = {
        name: np.full((len(architectures), len(fidelities), seeds), np.nan, np.float32)
        for name in RECORD.names or ()
    }
    for job in jobs:
        part = np.load(job.path(work), allow_pickle=False)  # (architectures, seeds, fidelities)
        for name, array in cube.items():
            rows = slice(job.start, job.start + len(part))
            array[rows, :, : part.shape[1]] = part[name].transpose(0, 2, 1)
    graphs = space.graphs(architectures)
    table = BenchmarkTable(
        name=setup.name,
        space=space,
        architectures=architectures,
        fidelities=fidelities,
        measurements=cube,
        attributes={"params": graphs.total_params, "flops": graphs.total_flops},
    )
    made_by = f"nasplatform data build {setup.name}"
    facts = {"command": made_by, "licence": setup.licence, **setup.description()}
    facts["data_digest"] = _task(setup).digest
    return replace(table, card=facts | describe_table(table))


def _task(setup: Setup) -> Task:
    return _loaded(setup.dataset, json.dumps(dict(setup.options)))


@cache
def _loaded(dataset: str, options: str) -> Task:
    return load_task(dataset, json.loads(options), dataset)


def _claim(work: Path, setup: Setup) -> None:
    """Make the folder of the parts, or see that the one that stands is of the same set-up."""
    stamp = work / "setup.json"
    text = json.dumps({**setup.description(), "space": setup.space}, indent=2)
    if stamp.exists() and stamp.read_text(encoding="utf-8") != text:
        raise DataError(f"{work}: holds parts of another set-up; remove it to build afresh")
    write_text(stamp, text)
