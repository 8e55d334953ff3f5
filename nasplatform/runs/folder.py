"""Where a run keeps what, and who may write there.

search.yaml           the search as resolved: every option, seeds, versions, data digests
study.db              Optuna's study
measurements.db       every measurement that was paid for
evaluations.parquet   one row per evaluation
predictor/            the predictor, fitted to all labels of the run
models/               one folder per stage, the last one's ``network`` is the result
stages.parquet        one row per stage
report.html           written last: the run is finished
.lock                 held by the process that works on the run
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from nasplatform.atomic_io import write_text
from nasplatform.errors import RunError
from nasplatform.search.identity import differences, identity_of, stopping_rules


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run; every file in it has its name here and nowhere else."""

    path: Path

    @property
    def search(self) -> Path:
        """The search as resolved."""
        return self.path / "search.yaml"

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
    def exists(self) -> bool:
        """Whether a run stands here."""
        return self.search.is_file()

    def read_search(self) -> dict[str, Any]:
        """Return the search as resolved; raise RunError where none can be read."""
        try:
            found = yaml.safe_load(self.search.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path}: no run stands here (search.yaml is missing)") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            words = " ".join(str(error).split())
            raise RunError(f"{self.search}: cannot be read ({words})") from None
        if not isinstance(found, dict):
            raise RunError(f"{self.search}: holds no search")
        return found

    def begin_stages(self, winner: str) -> None:
        """Make room for the stages of a winner; those of another, found with less budget, go."""
        known = self.models / "winner"
        if known.is_file() and known.read_text(encoding="utf-8") != winner:
            shutil.rmtree(self.models)
        self.models.mkdir(parents=True, exist_ok=True)
        write_text(known, winner)

    @contextmanager
    def claimed(
        self, resolved: dict[str, Any], resume: bool = False, force: bool = False
    ) -> Iterator[None]:
        """Hold the folder for one process, with ``resolved`` written as its search.

        resume: the folder may hold this very search already; it goes on. Its stopping rules may
                have changed and stages may have been added.
        force:  the run that stands there is removed first.
        Raises RunError where the folder is in the way, belongs to another search, or is held.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path}: is a file, expected the folder of a run")
        self._check(resolved, resume, force)
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.lock)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise RunError(f"{self.path}: another process works on this run") from None
        try:
            self._check(resolved, resume, force)  # another process may have been here meanwhile
            if force:
                self._remove()
            self._adapt(resolved)
            write_text(self.search, yaml.safe_dump(resolved, sort_keys=False))
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

    def _check(self, resolved: dict[str, Any], resume: bool, force: bool) -> None:
        if not self.exists:
            if self.path.is_dir() and self._contents():
                raise RunError(f"{self.path}: a folder with other files; give another --out")
            return
        if force:
            return
        if not resume:
            raise RunError(
                f"{self.path}: a run stands here already; go on with it by --resume, remove it "
                f"by --force, or give another --out"
            )
        differing = _foreign(self.read_search(), resolved)
        if differing:
            raise RunError(
                f"{self.path}: belongs to another search: {differing[0]}; "
                f"give another --out or the settings it was started with"
            )

    def _adapt(self, resolved: dict[str, Any]) -> None:
        """Remove what does not hold any more where a search goes on with other stopping rules."""
        if not self.exists:
            return
        known = self.read_search()
        if stopping_rules(known) != stopping_rules(resolved):
            self.report.unlink(missing_ok=True)
            shutil.rmtree(self.predictor, ignore_errors=True)
            self.evaluations.unlink(missing_ok=True)
        if not self.evaluations.is_file() or known.get("stages") != resolved.get("stages"):
            self.report.unlink(missing_ok=True)
            self.stages.unlink(missing_ok=True)


def _foreign(known: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """Return what makes two resolved searches different ones."""
    left, right = (identity_of(one) | {"storage": one.get("storage")} for one in (known, given))
    there, here = known.get("stages") or [], given.get("stages")
    if there:  # others may have been added behind them
        left["stages"], right["stages"] = there, here and here[: len(there)]
    return list(differences(left, right))
