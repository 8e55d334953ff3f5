"""Accuracy against a cost: the hypervolume that each sampler finds, many seeds.

    python analysis/search_fronts.py nasbench201 c10_valid_accuracy c10_edgegpu_latency_ms

Searches a table for a metric and a cost at once, every sampler through the same loop. Broken off,
the same command goes on. ``--cost measured``: a cost is told with the accuracy, so that the
predictor has to predict both and all samplers know the same. ``--cost known``: all see the cost of
every architecture beforehand, as where it can be counted or a device is at hand. Each of the others
then says 16 times what it would take, and of these that is taken which is expected to grow the
hypervolume most by what its cost tells of it: the predictor's own acquisition, with a Gaussian
process of the accuracy on the logarithm of the cost in place of a predictor (``CostInformed``).
Isomorphic architectures are one network, so each has the mean of what was measured of all of them:
else a sampler that does not know them as one would draw the luckiest measurement of several.
Hypervolume is the share of that of the table's own front, measured from the table's lowest accuracy
and highest cost, and from its medians, where both objectives are good. Prints the Markdown table
of docs/benchmarks/search.md: means and standard errors, and the lead of the predictor over the best
of the others, seed by seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from kept import keep_options
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from nasplatform import plugins
from nasplatform.atomic_io import replace_file
from nasplatform.benchmarks.registry import load_table
from nasplatform.benchmarks.table import BenchmarkTable, save_table
from nasplatform.config import SearchOptions
from nasplatform.evaluators.table import TableEvaluator, TableOptions
from nasplatform.executors.store import open_store
from nasplatform.search import (
    OptimizationConfig,
    SamplerContext,
    TrialRecord,
    search,
)
from nasplatform.search.acquisition import expected_hypervolume_improvement, expected_improvement
from nasplatform.search.base import ArchitectureSampler, Proposal
from nasplatform.search.history import History
from nasplatform.search.posterior import Posterior
from nasplatform.spaces.base import Population

ASKED = 16  # times, of what knows costs and chooses among its own proposals
MARGIN = 0.1  # of the measured range, by which a corner lies below the worst
SAMPLERS = ("predictor", "nsga2", "tpe", "random")
ALONE = "predictor without source tasks"
PREDICTOR = "default"
OPTIONS: dict[str, Any] = {"trees": 0, "steps": 30}
DESIGN = {"design": "spread"}  # of the predictor: a front's ends are wanted too
Array = NDArray[np.float64]


def one_of_each(table: BenchmarkTable) -> BenchmarkTable:
    """Return the table with the first of isomorphic architectures, and the mean of all of them."""
    _, first, group = np.unique(table.architectures.keys, return_index=True, return_inverse=True)
    sizes = np.bincount(group)

    def mean(values: NDArray[Any]) -> NDArray[Any]:
        flat = values.reshape(len(values), -1).astype(np.float64)
        total = np.stack([np.bincount(group, column) for column in flat.T], axis=1)
        return (total / sizes[:, None]).reshape(-1, *values.shape[1:])

    return dataclasses.replace(
        table,
        architectures=table.architectures[first],
        attributes={name: mean(values) for name, values in table.attributes.items()},
        measurements={name: mean(values) for name, values in table.measurements.items()},
    )


class CostInformed(ArchitectureSampler[Any]):
    """Several samplers of a kind; of what they propose the best by its known cost alone is taken.

    Without it a baseline would not know what the predictor is told. The first trials are left to
    the first sampler.
    """

    name = "cost-informed"
    several_objectives = True

    def __init__(self, samplers: Sequence[ArchitectureSampler[Any]], cost: str) -> None:
        first = samplers[0]
        super().__init__(
            first.space,
            seed=first.seed,
            candidates=first.candidates,
            optimization=first.optimization,
        )
        self.samplers, self.cost, self.initial = samplers, cost, first.initial

    def propose(self, number: int, history: History[Any]) -> Proposal[Any]:
        """Leave it to the first: ``choose`` looks at the study."""
        return self.samplers[0].propose(number, history)

    def choose(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, history: History[Any]
    ) -> Proposal[Any]:
        """Choose among the proposals of all."""
        if trial.number < max(self.initial, 3):
            return self.samplers[0].choose(study, trial, history)
        every = [one.choose(study, trial, history) for one in self.samplers]
        told = self._costs(self.space.population([one.architecture for one in every]))
        gains = gain_by_cost(history.values, self._costs(history.architectures), told)
        return every[int(np.argmax(gains))]

    def _costs(self, architectures: Population[Any]) -> Array:
        assert self.optimization is not None
        return np.asarray(self.optimization.attributes(architectures)[self.cost], np.float64)


def gain_by_cost(values: Array, known: Array, asked: Array) -> Array:
    """Return by how much candidates are expected to grow the hypervolume (B,), by costs alone.

    values: (L, 2) accuracy and negative cost of what was measured. known, asked: (L,) and (B,)
    costs of what was measured and of the candidates.
    """
    accuracy = values[:, 0]
    centre, spread = accuracy.mean(), max(float(accuracy.std()), 1e-12)
    kernel = ConstantKernel() * RBF(1.0, (0.1, 10.0)) + WhiteKernel(0.1, (1e-3, 10.0))
    process = GaussianProcessRegressor(kernel, normalize_y=False)
    place, width = np.log(known).mean(), max(float(np.log(known).std()), 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound of the kernel is reached
        process.fit((np.log(known)[:, None] - place) / width, (accuracy - centre) / spread)
    mean, std = process.predict((np.log(asked)[:, None] - place) / width, return_std=True)
    mean, std = mean * spread + centre, std * spread

    def gained(thresholds: Array) -> Array:
        return expected_improvement(mean[:, None], std[:, None], thresholds)

    best, span = values.max(0), np.maximum(np.ptp(values, axis=0), 1e-12)
    middle = np.array([np.median(mean), np.median(-asked)])
    total = np.zeros(len(asked))
    for corner in (values.min(0) - MARGIN * span, middle):
        box = np.maximum(best - corner, MARGIN * span).prod()
        excess = (gained, Posterior.known(-asked).excess)
        total += expected_hypervolume_improvement(excess, values, corner) / box
    return total


def run(
    evaluator: TableEvaluator, cost: str, name: str, seed: int, budget: int, cost_known: bool
) -> pd.DataFrame:
    """Run one search in memory; return accuracy and cost of each evaluation, in order."""
    predicts = name in ("predictor", ALONE)
    kind = plugins.get("samplers", "predictor" if predicts else name)
    wanted = SearchOptions(budget=budget, objectives={cost: "minimize"})
    optimization: OptimizationConfig[Any] = OptimizationConfig.of(wanted, evaluator)
    if not cost_known:
        known = optimization.static_names - {cost}
        optimization = dataclasses.replace(optimization, static_names=known)
    predictor_kind = plugins.get("predictors", PREDICTOR)
    chosen = predictor_kind.Options(**OPTIONS, pretrained=name != ALONE)
    predictor = predictor_kind(chosen, seed=seed)

    def made(seed: int) -> ArchitectureSampler[Any]:
        context = SamplerContext(
            evaluator.space, seed, evaluator.candidates, predictor, optimization
        )
        sampler: ArchitectureSampler[Any] = kind.from_options(
            kind.Options(**(DESIGN if predicts else {})), context
        )
        return sampler

    sampler = made(seed)
    if cost_known and not predicts:
        further = [made(1000 * (seed + 1) + place) for place in range(1, ASKED)]
        sampler = CostInformed([sampler, *further], cost)
    study = optuna.create_study(directions=optimization.directions, sampler=sampler)
    with open_store(":memory:") as store:
        search(study, evaluator, store, budget, seed, optimization=optimization)
    found = [
        record for trial in study.get_trials() if (record := TrialRecord.of(trial)) is not None
    ]
    values = np.array([record.values for record in found if record.repeats is None])
    return pd.DataFrame(
        {
            "sampler": name,
            "seed": seed,
            "budget": budget,
            "evaluation": np.arange(1, len(values) + 1),
            "accuracy": values[:, 0],
            "cost": values[:, 1],
        }
    )


def gather(
    evaluator: TableEvaluator,
    cost: str,
    file: Path,
    samplers: Sequence[str],
    seeds: int,
    budget: int,
    cost_known: bool,
) -> pd.DataFrame:
    """Run what the file does not hold yet and return all of these samplers."""
    known = pd.read_parquet(file) if file.exists() else pd.DataFrame()
    for seed in range(seeds):
        for name in samplers:
            mine = len(known) and ((known["sampler"] == name) & (known["seed"] == seed)).any()
            if not mine:
                found = run(evaluator, cost, name, seed, budget, cost_known)
                known = pd.concat([known, found], ignore_index=True)
                with replace_file(file) as temporary:
                    known.to_parquet(temporary)
                print(f"{name} {seed}", end="    \r", flush=True)
    return known[(known["seed"] < seeds) & known["sampler"].isin(samplers)]


def hypervolume(accuracy: Array, cost: Array, corner: tuple[float, float]) -> float:
    """Return the area that points (n,) dominate above a corner (accuracy, cost)."""
    order = np.argsort(cost, kind="stable")
    height = np.maximum(np.maximum.accumulate(accuracy[order]) - corner[0], 0.0)
    edges = np.minimum(np.append(cost[order], corner[1]), corner[1])
    return float(height @ np.diff(edges))


def shares(found: pd.DataFrame, accuracy: Array, cost: Array, marks: list[int]) -> pd.DataFrame:
    """Return one row per search: shares of the table's hypervolume after so many evaluations."""
    corners = {
        "worst": (float(accuracy.min()), float(cost.max())),
        "median": (float(np.median(accuracy)), float(np.median(cost))),
    }
    rows = []
    for (sampler, seed), part in found.groupby(["sampler", "seed"], sort=False):
        row: dict[str, Any] = {"sampler": sampler, "seed": seed}
        for name, corner in corners.items():
            whole = hypervolume(accuracy, cost, corner)
            for n in marks:
                first = part[part["evaluation"] <= n]
                mine = first["accuracy"].to_numpy(), first["cost"].to_numpy()
                row[f"{name} {n}"] = hypervolume(*mine, corner) / whole
        rows.append(row)
    return pd.DataFrame(rows)


def leads(table: pd.DataFrame, predictor: str, columns: list[str]) -> list[str]:
    """Return, by column, a predictor's lead over the sampler that is best among the others."""
    cells = []
    for column in columns:
        wide = table.pivot_table(index="seed", columns="sampler", values=column)
        rival = str(wide.drop(columns=["predictor", ALONE], errors="ignore").mean().idxmax())
        lead = (wide[predictor] - wide[rival]).to_numpy(float)
        cells.append(f"{lead.mean():+.3f} ± {error_of(lead):.3f} ({rival})")
    return cells


def error_of(values: NDArray[np.float64]) -> float:
    """Return the standard error of the mean."""
    return float(values.std(ddof=1) / len(values) ** 0.5)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table")
    parser.add_argument("metric")
    parser.add_argument("objective", help="the cost: an attribute of the table, or a metric")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--cost", choices=("measured", "known"), default="measured")
    parser.add_argument("--alone", action="store_true", help=f"run the {ALONE}, too")
    parser.add_argument("--out", type=Path, default=Path("runs/search-fronts"))
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    source = load_table(given.table)
    merged = given.out / f"{source.name}-merged.parquet"
    given.out.mkdir(parents=True, exist_ok=True)
    if not merged.exists():
        save_table(one_of_each(source), merged)
    options = TableOptions(table=str(merged), metric=given.metric)
    evaluator = TableEvaluator(options, TableEvaluator.implied_space(options))
    assert evaluator.candidates is not None
    countable = sorted(evaluator.attributes(evaluator.candidates[:1]))
    if given.cost == "known" and given.objective not in countable:
        parser.error(f"{given.objective} is measured: beforehand known are {', '.join(countable)}")
    file = given.out / f"fronts-{source.name}-{given.metric}-{given.objective}-{given.cost}.parquet"
    choosing = ("table", "metric", "objective", "cost", "seeds", "alone", "out")
    keep_options(file, given, choosing)
    known = given.cost == "known"
    samplers = [*SAMPLERS, ALONE] if given.alone else SAMPLERS
    found = gather(evaluator, given.objective, file, samplers, given.seeds, given.budget, known)
    cost = costs(evaluator, given.objective)
    usable = np.isfinite(cost)
    accuracy = evaluator.known_scores()[usable]
    marks = [n for n in (25, 50, 100) if n <= given.budget] or [given.budget]
    table = shares(found, accuracy, cost[usable], marks)
    columns = [str(column) for column in table if column not in ("sampler", "seed")]
    print(f"| sampler | seeds | {' | '.join(columns)} |")
    print("|---|---|" + "---|" * len(columns))
    for sampler, part in table.groupby("sampler", sort=False):
        cells = [f"{x.mean():.3f} ± {error_of(x):.3f}" for x in part[columns].to_numpy(float).T]
        print("| " + " | ".join([str(sampler), str(len(part)), *cells]) + " |")
    for name, told in (("predictor", "lead"), (ALONE, "lead without source tasks")):
        if name in samplers:
            lead = " | ".join(leads(table, name, columns))
            print(f"| **{told}** | {given.seeds} | {lead} |")


def costs(evaluator: TableEvaluator, name: str) -> Array:
    """Return the cost (B,) of each architecture of the table."""
    assert evaluator.candidates is not None
    known = evaluator.attributes(evaluator.candidates)
    if name in known:
        return np.asarray(known[name], np.float64)
    chosen = TableOptions(table=evaluator.options.table, metric=name)
    return np.abs(TableEvaluator(chosen, evaluator.space).known_scores())


if __name__ == "__main__":
    main()
