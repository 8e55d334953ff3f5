"""What stands in the folder of a run, finished or not."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from nasplatform.errors import RunError
from nasplatform.models.network import Network
from nasplatform.runs import frames
from nasplatform.runs.folder import RunFolder
from nasplatform.runs.resolved import ResolvedSearch
from nasplatform.training.datasets import load_task
from nasplatform.training.task import Task


class Run:
    """A run, read from its folder; ``config`` is its file as resolved."""

    def __init__(self, folder: Path | str) -> None:
        """Take the folder; raise RunError where no run stands there."""
        self.folder = RunFolder(Path(folder))
        self.config = self.folder.read()

    def __repr__(self) -> str:
        return f"<run {self.config.name} in {self.folder.path}>"

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """One row per evaluation; the columns are those of ``read_runs`` without the run's own."""
        return frames.evaluations(self.folder)

    @cached_property
    def stages(self) -> pd.DataFrame:
        """One row per stage; the columns are those of ``stages_frame``."""
        return frames.stages(self.folder)

    @property
    def best(self) -> dict[str, Any]:
        """The evaluation with the highest score; RunError where there is none."""
        if not isinstance(self.config, ResolvedSearch):
            raise RunError(f"{self.folder.path}: started from a network, nothing was searched")
        found = frames.best_row(self.evaluations)
        if found is None:
            raise RunError(f"{self.folder.path}: nothing was measured yet; go on with resume=True")
        return found

    def network(self) -> Network:
        """Load the network that the last stage left; raise RunError where there is none."""
        if self.stages.empty:
            raise RunError(f"{self.folder.path}: no stage was finished, so there is no network")
        last = self.stages.iloc[-1]
        return Network.load(self.folder.models / f"{last['index']}-{last['stage']}" / "network")

    def task(self) -> Task | None:
        """Load the data that the run's stages were given; None where its file names none."""
        task = self.config.task
        return None if task is None else load_task(task.dataset, task.options, "task")

    def summary(self) -> dict[str, Any]:
        """Return the result in a few plain values; of a search also the best that it found."""
        return {
            "run": str(self.folder.path),
            **self._searched(),
            "stages": self.stages.to_dict("records"),
            "report": str(self.folder.report),
        }

    def _searched(self) -> dict[str, Any]:
        if not isinstance(self.config, ResolvedSearch):
            return {"network": self.config.network.title}
        best = self.best
        kept = ("number", "architecture", "hash", "score", "params", "flops")
        return {
            "evaluations": int(self.evaluations["hash"].nunique()),
            "score": best["score"],
            "best": {name: best[name] for name in kept},
            "front": [
                {name: row[name] for name in kept}
                for row in frames.front(self.evaluations).to_dict("records")
            ],
        }
