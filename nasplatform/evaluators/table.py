"""Answers from a tabular benchmark: a search that costs nothing and can be repeated."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.benchmarks.library import load_table
from nasplatform.errors import ArchitectureError, DataError
from nasplatform.evaluators.base import Evaluation, Evaluator
from nasplatform.spaces.base import Space


class TableOptions(BaseModel):
    """Which column of which table is the score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str = Field(description="name of a table, or the path of its parquet file")
    metric: str = Field("valid_accuracy", description="the searched metric, higher is better")
    fidelity: int | None = Field(None, description="epochs; null for the full training")
    seeds: Literal["mean", "single"] = Field(
        "mean", description="score by the mean of all repetitions, or by the one of the seed"
    )


class TableEvaluator(Evaluator[Any]):
    """Looks measurements up in a table; its candidates are the architectures that were measured."""

    name: ClassVar[str] = "table"
    Options: ClassVar[type[TableOptions]] = TableOptions
    options: TableOptions

    def __init__(self, options: TableOptions, space: Space[Any]) -> None:
        """Open the table; raise DataError where it does not fit the space or lacks the column."""
        super().__init__(options, space)
        self.table = load_table(options.table)
        if space.describe() != self.table.space.describe():
            raise DataError(
                f"table {self.table.name!r} was measured in {self.table.space.describe()}, "
                f"the search is set in {space.describe()}"
            )
        scores = self.table.values(options.metric, options.fidelity)
        measured = np.isfinite(scores)
        if not measured.any():
            raise DataError(f"table {self.table.name!r} has no value of {options.metric!r}")
        self.candidates = self.table.architectures[measured]
        self.fidelities = self.table.fidelities
        self.task = f"{self.table.name}/{options.metric}/{options.seeds}@{self.table.digest[:12]}"

    @classmethod
    def home(cls, options: Any) -> Space[Any]:
        """Return the space that the table was measured in."""
        return load_table(options.table).space

    def known_scores(self) -> NDArray[np.float64]:
        """Return (B,) searched score of each of the ``candidates``, mean over the repetitions."""
        scores = self.table.values(self.options.metric, self.options.fidelity)
        return scores[np.isfinite(scores)]

    def evaluate(self, architecture: Any, fidelity: int, seed: int) -> Evaluation:
        """Answer from the table; ``cost`` is the training time that was spent making it.

        With ``seeds: single`` the repetition is ``seed`` modulo those of the architecture.
        """
        row = self.table.row(architecture)
        f = self.table.fidelity_index(fidelity)
        runs = self.table.measurements[self.options.metric][row, f]
        made = np.flatnonzero(np.isfinite(runs))
        if not len(made):
            raise ArchitectureError(
                f"{self.space.format(architecture)} has no {self.options.metric!r} at "
                f"{fidelity} epochs in table {self.table.name!r}"
            )
        used = made if self.options.seeds == "mean" else made[[seed % len(made)]]
        metrics = {
            name: float(np.nanmean(array[row, f, used[used < array.shape[2]]]))
            for name, array in self.table.measurements.items()
            if np.isfinite(array[row, f, used[used < array.shape[2]]]).any()
        }
        attributes = {name: float(values[row]) for name, values in self.table.attributes.items()}
        seconds = self.table.measurements.get("seconds")
        cost = 0.0 if seconds is None else float(np.nansum(seconds[row, f, used]))
        return Evaluation(metrics[self.options.metric], metrics | attributes, cost)
