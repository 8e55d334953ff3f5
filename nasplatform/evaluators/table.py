"""Answers from a tabular benchmark: a search that costs nothing and can be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, nan
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.benchmarks.registry import load_table
from nasplatform.errors import ArchitectureError, DataError
from nasplatform.evaluators.base import Evaluation, Evaluator
from nasplatform.spaces.base import Population, Space


class TableOptions(BaseModel):
    """Which column of which table is the score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str = Field(description="name of a table, or the path of its parquet file")
    metric: str | None = Field(
        None,
        description="the searched metric, by default the table's own score; its negative is the "
        "score where the table says that less of it is better",
    )
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
        there, here = self.table.space.describe(), space.describe()
        if here != there:
            names = ("name",) if here["name"] != there["name"] else here.keys() | there.keys()
            differing = [
                f"{name} is {there.get(name)} there, {here.get(name)} here"
                for name in sorted(names)
                if here.get(name) != there.get(name)
            ]
            raise DataError(
                f"table {self.table.name!r} was measured in another space: {'; '.join(differing)}"
            )
        self.metric = options.metric or self.table.score
        self._sign = -1.0 if self.table.direction(self.metric) == "minimize" else 1.0
        measured = np.isfinite(self.table.values(self.metric, options.fidelity))
        if not measured.any():
            raise DataError(f"table {self.table.name!r} has no value of {self.metric!r}")
        self._measured = measured
        self.candidates = self.table.architectures[measured]
        self.fidelities = self.table.fidelities
        self.score_metric = f"-{self.metric}" if self._sign < 0 else self.metric
        digest = self.table.digest[:12]
        self.task = f"{self.table.name}/{self.score_metric}/{options.seeds}@{digest}"

    @classmethod
    def implied_space(cls, options: BaseModel) -> Space[Any]:
        """Return the space that the table was measured in."""
        return load_table(TableOptions.model_validate(options).table).space

    def metrics(self) -> tuple[str, ...]:
        """Return the names of all that was measured."""
        return self.table.metrics

    def attribute_names(self) -> tuple[str, ...]:
        """Return ``params``, ``flops`` and the names of the table's attributes."""
        return tuple(dict.fromkeys((*super().attribute_names(), *self.table.attributes)))

    def attributes(self, architectures: Population[Any]) -> Mapping[str, NDArray[Any]]:
        """Return the table's attributes of B architectures, and what the space knows: (B,) each.

        Raises ArchitectureError for one that was not measured.
        """
        found = self.table.attributes
        if not {"params", "flops"} <= found.keys():
            found = {**super().attributes(architectures), **found}
        if architectures is self.candidates:
            rows = np.flatnonzero(self._measured)
        else:
            rows = self.table.rows(architectures)
        return {
            name: values[rows] if name in self.table.attributes else values
            for name, values in found.items()
        }

    def words(self) -> str:
        """Say in a few words what the score is, and of what."""
        whose = "mean of the seeds" if self.options.seeds == "mean" else "one seed"
        epochs = f"{self.target_fidelity} epochs"
        return f"{self.score_metric} at {epochs} in the table {self.table.name}, {whose}"

    @property
    def target_fidelity(self) -> int:
        """The option ``fidelity``, or the full training."""
        chosen = self.options.fidelity
        return super().target_fidelity if chosen is None else chosen

    def known_scores(self, seed: int = 0) -> NDArray[np.float64]:
        """Return (B,) the searched score of each of the ``candidates``."""
        if self.options.seeds == "mean":
            return self.table.scores(self.metric, self.options.fidelity)[self._measured]
        f = self.table.fidelity_index(self.options.fidelity)
        runs = self.table.measurements[self.metric][self._measured, f].astype(np.float64)
        made = np.isfinite(runs)
        wanted = seed % made.sum(axis=1)
        place = (made & (made.cumsum(axis=1) == wanted[:, None] + 1)).argmax(axis=1)
        picked: NDArray[np.float64] = self._sign * runs[np.arange(len(runs)), place]
        return picked

    def evaluate(self, architecture: Any, fidelity: int, seed: int) -> Evaluation:
        """Answer from the table; ``seconds`` is the training time that was spent making it.

        With ``seeds: single`` the repetition is ``seed`` modulo those of the architecture.
        """
        row = self.table.row(architecture)
        f = self.table.fidelity_index(fidelity)
        # Plain floats: numpy takes ten times as long for a handful of numbers.
        runs = {name: array[row, f].tolist() for name, array in self.table.measurements.items()}
        made = [s for s, value in enumerate(runs[self.metric]) if isfinite(value)]
        if not made:
            raise ArchitectureError(
                f"{self.space.format(architecture)} has no {self.metric!r} at "
                f"{fidelity} epochs in table {self.table.name!r}"
            )
        used = set(made if self.options.seeds == "mean" else [made[seed % len(made)]])
        metrics = {}
        for name, values in runs.items():
            answers = [v for s, v in enumerate(values) if s in used and isfinite(v)]
            metrics[name] = sum(answers) / len(answers) if answers else nan
        seconds = [v for s, v in enumerate(runs.get("seconds", ())) if s in used and isfinite(v)]
        total = float(sum(seconds))
        attributes = {name: float(values[row]) for name, values in self.table.attributes.items()}
        score = self._sign * metrics[self.metric]
        return Evaluation(score, metrics | attributes, total)
