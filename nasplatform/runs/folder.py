"""Where a run keeps what, and who may write there.

resolved.yaml         the file of the run with every option, seeds, versions, data digests
study.db              Optuna's study
measurements.db       every measurement that was paid for
evaluations.parquet   one row per evaluation
epochs.parquet        one row per epoch of what was trained to evaluate it
predictor/            the predictor, fitted to all labels of the run
models/               one folder per stage, the last one's ``network`` is the result
stages.parquet        one row per stage
timings.json          what each step of the run took
report.html           written last: the run is finished
.lock                 held by the process that works on the run
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from nasplatform.atomic_io import recover, write_text
from nasplatform.errors import RunError
from nasplatform.runs.resolved import (
    ResolvedConfig,
    dump_resolved,
    read_resolved,
)
from nasplatform.search.identity import differences, identity_of, stopping_rules
from nasplatform.stages.pipeline import stage_record

RESOLVED = "resolved.yaml"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run; every file in it has its name here and nowhere else."""

    path: Path

    @property
    def resolved(self) -> Path:
        """The file of the run as resolved."""
        return self.path / RESOLVED

    @property
    def study(self) -> Path:
        """Optuna's SQLite file."""
        return self.path / "study.db"

    @property
    def measurements(self) -> Path:
        """The store of evaluations."""
        return self.path / "measurements.db"

    @property
    def evaluations(self) -> Path:
        """The frame of the search."""
        return self.path / "evaluations.parquet"

    @property
    def epochs(self) -> Path:
        """The frame of the trainings that the search paid for."""
        return self.path / "epochs.parquet"

    @property
    def timings(self) -> Path:
        """What each step took."""
        return self.path / "timings.json"

    @property
    def stages(self) -> Path:
        """The frame of the stages."""
        return self.path / "stages.parquet"

    @property
    def predictor(self) -> Path:
        """The fitted predictor."""
        return self.path / "predictor"

    @property
    def models(self) -> Path:
        """The networks after each stage."""
        return self.path / "models"

    @property
    def work(self) -> Path:
        """What an evaluator keeps between measurements, e.g. checkpoints."""
        return self.path / "work"

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.path / "report.html"

    @property
    def lock(self) -> Path:
        """What a process holds while it works here."""
        return self.path / ".lock"

    @property
    def contacted(self) -> bool:
        """Whether the database that its file names may be asked without further ado."""
        return False

    @property
    def exists(self) -> bool:
        """Whether a run stands here."""
        return self.resolved.is_file()

    def read(self) -> ResolvedConfig:
        """Return the file of the run as resolved; raise RunError where none can be read."""
        return read_resolved(self.resolved)

    def begin_stages(self, winner: str) -> None:
        """Make room for the stages of a winner; those of another, found with less budget, go."""
        known = self.models / "winner"
        if known.is_file() and known.read_text(encoding="utf-8") != winner:
            shutil.rmtree(self.models)
        self.models.mkdir(parents=True, exist_ok=True)
        write_text(known, winner)

    def check(self, resolved: ResolvedConfig, resume: bool = False, force: bool = False) -> None:
        """Raise RunError where there is nothing to resume, or the folder is in the way.

        So it is where it belongs to another search, lies within another run, or holds one.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path}: is a file, expected the folder of a run")
        if not resume:
            self._require_apart()
        if not self.exists:
            if self.path.is_dir() and self._contents():
                raise RunError(f"{self.path}: a folder with other files; give another out")
            if resume:
                raise RunError(f"{self.path}: no run stands here that could go on; start it anew")
            return
        if force:
            return
        if not resume:
            raise RunError(
                f"{self.path}: a run stands here already; go on with it by resume=True, remove it "
                f"by force=True, or give another out"
            )
        known, given = dump_resolved(self.read()), dump_resolved(resolved)
        finished = differences(*self._finished_stages(known, given), "stages")
        differing = [*_foreign(known, given), *finished]
        if differing:
            raise RunError(
                f"{self.path}: belongs to another search: {differing[0]}; "
                f"give another out or the settings it was started with"
            )

    @contextmanager
    def claimed(
        self, resolved: ResolvedConfig, resume: bool = False, force: bool = False
    ) -> Iterator[None]:
        """Hold the folder for one process, with ``resolved`` written as its file.

        resume: the folder holds this very search already; it goes on. Its stopping rules may
                have changed, stages may have been added, and those that left no result may be
                others.
        force:  the run that stands there is removed first.
        Raises RunError as ``check`` does, and where the folder is held.
        """
        self.check(resolved, resume, force)
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.lock)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise RunError(f"{self.path}: another process works on this run") from None
        try:
            recover(self.path)
            self.check(resolved, resume, force)  # another process may have been here meanwhile
            if force:
                self._remove()
            self._adapt(resolved)
            write_text(self.resolved, yaml.safe_dump(dump_resolved(resolved), sort_keys=False))
            yield
        finally:
            lock.release()

    def _remove(self) -> None:
        """Remove the run, but not the lock that we hold."""
        for path in self._contents():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _contents(self) -> list[Path]:
        return [path for path in self.path.iterdir() if path != self.lock]

    def _require_apart(self) -> None:
        """Raise RunError where another run would be removed with this one, or this with it."""
        for around in self.path.resolve().parents:
            if (around / RESOLVED).is_file():
                raise RunError(f"{self.path}: lies within the run {around}; give another out")
        for inner in self.path.glob(f"*/**/{RESOLVED}"):
            raise RunError(f"{self.path}: holds another run, {inner.parent}; give another out")

    def _finished_stages(
        self, known: dict[str, Any], given: dict[str, Any]
    ) -> tuple[list[Any], list[Any]]:
        """Return the stages of the run that left a result, and those now in their places."""
        there, here = known.get("stages") or [], given.get("stages") or []
        left = (stage_record(self.models, i, stage["name"]) for i, stage in enumerate(there))
        done = len(list(takewhile(Path.is_file, left)))
        return there[:done], here[:done]

    def _adapt(self, resolved: ResolvedConfig) -> None:
        """Remove what does not hold any more where a run goes on with other rules or stages."""
        if not self.exists:
            return
        known, given = dump_resolved(self.read()), dump_resolved(resolved)
        if _rules(known) != _rules(given):
            self.report.unlink(missing_ok=True)
            shutil.rmtree(self.predictor, ignore_errors=True)
            self.evaluations.unlink(missing_ok=True)
            self.epochs.unlink(missing_ok=True)
        searched = "search" not in given or self.evaluations.is_file()
        if not searched or known.get("stages") != given.get("stages"):
            self.report.unlink(missing_ok=True)
            self.stages.unlink(missing_ok=True)


def _rules(resolved: dict[str, Any]) -> dict[str, Any]:
    return stopping_rules(resolved) if "search" in resolved else {}


def _foreign(known: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """Return what makes two resolved files different runs."""
    begins = ["a search" if "search" in each else "a network" for each in (known, given)]
    if begins[0] != begins[1]:
        return [f"it starts from {begins[0]} there, {begins[1]} given"]
    return list(differences(_identity(known), _identity(given)))


def _identity(resolved: dict[str, Any]) -> dict[str, Any]:
    if "search" in resolved:
        return {**identity_of(resolved), "storage": resolved.get("storage")}
    provenance = {**resolved["provenance"], "versions": None}
    kept = {key: value for key, value in resolved.items() if key != "stages"}
    return {**kept, "provenance": provenance}
