"""Accuracy against latency: the hypervolume that each sampler finds, many seeds.

    python analysis/search_fronts.py --seeds 10 --cost measured --out runs/search-fronts

Searches NAS-Bench-201 (the table must be imported) for CIFAR-10 accuracy and latency on an edge GPU
at once, every sampler through the same loop. Broken off, the same command goes on. ``--cost
measured``: a latency is told with the accuracy, so that the predictor has to predict both and all
samplers know the same. ``--cost known``: the predictor sees the latency of every cell beforehand,
as where a device is at hand; the others cannot use it, so this is no fair comparison. Hypervolume
is the share of that of the table's own front, measured from the table's lowest accuracy and longest
latency, and from its medians, where both objectives are good. Prints the Markdown table of
docs/benchmarks/search.md.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray

from nasplatform import plugins
from nasplatform.atomic_io import replace_file
from nasplatform.config import SearchOptions
from nasplatform.evaluators.table import TableEvaluator, TableOptions
from nasplatform.executors.store import open_store
from nasplatform.search import (
    OptimizationConfig,
    SamplerContext,
    TrialRecord,
    search,
)

SAMPLERS = ("predictor", "nsga2", "tpe", "random")
METRIC, LATENCY = "c10_valid_accuracy", "c10_edgegpu_latency_ms"
Array = NDArray[np.float64]


def run(
    evaluator: TableEvaluator, name: str, seed: int, budget: int, cost_known: bool
) -> pd.DataFrame:
    """Run one search in memory; return accuracy and latency of each evaluation, in order."""
    kind = plugins.get("samplers", name)
    wanted = SearchOptions(budget=budget, objectives={LATENCY: "minimize"})
    optimization: OptimizationConfig[Any] = OptimizationConfig.of(wanted, evaluator)
    if not cost_known:
        known = optimization.static_names - {LATENCY}
        optimization = dataclasses.replace(optimization, static_names=known)
    gp = plugins.get("predictors", "gp")
    predictor = gp(gp.Options(propagation=True, steps=30), seed=seed)
    context = SamplerContext(evaluator.space, seed, evaluator.candidates, predictor, optimization)
    study = optuna.create_study(
        directions=optimization.directions, sampler=kind.from_options(kind.Options(), context)
    )
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
            "latency": values[:, 1],
        }
    )


def gather(
    evaluator: TableEvaluator, file: Path, seeds: int, budget: int, cost_known: bool
) -> pd.DataFrame:
    """Run what the file does not hold yet and return all of it."""
    known = pd.read_parquet(file) if file.exists() else pd.DataFrame()
    for seed in range(seeds):
        for name in SAMPLERS:
            mine = len(known) and ((known["sampler"] == name) & (known["seed"] == seed)).any()
            if not mine:
                found = run(evaluator, name, seed, budget, cost_known)
                known = pd.concat([known, found], ignore_index=True)
                with replace_file(file) as temporary:
                    known.to_parquet(temporary)
                print(f"{name} {seed}", end="    \r", flush=True)
    return known[known["seed"] < seeds]


def hypervolume(accuracy: Array, latency: Array, corner: tuple[float, float]) -> float:
    """Return the area that points (n,) dominate above a corner (accuracy, latency)."""
    order = np.argsort(latency, kind="stable")
    height = np.maximum(np.maximum.accumulate(accuracy[order]) - corner[0], 0.0)
    edges = np.minimum(np.append(latency[order], corner[1]), corner[1])
    return float(height @ np.diff(edges))


def shares(found: pd.DataFrame, accuracy: Array, latency: Array, marks: list[int]) -> pd.DataFrame:
    """Return one row per search: shares of the table's hypervolume after so many evaluations."""
    corners = {
        "worst": (float(accuracy.min()), float(latency.max())),
        "median": (float(np.median(accuracy)), float(np.median(latency))),
    }
    rows = []
    for (sampler, seed), part in found.groupby(["sampler", "seed"], sort=False):
        row: dict[str, Any] = {"sampler": sampler, "seed": seed}
        for name, corner in corners.items():
            whole = hypervolume(accuracy, latency, corner)
            for n in marks:
                first = part[part["evaluation"] <= n]
                mine = first["accuracy"].to_numpy(), first["latency"].to_numpy()
                row[f"{name} {n}"] = hypervolume(*mine, corner) / whole
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--table", default="nasbench201")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--cost", choices=("measured", "known"), default="measured")
    parser.add_argument("--out", type=Path, default=Path("runs/search-fronts"))
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = TableOptions(table=given.table, metric=METRIC)
    evaluator = TableEvaluator(options, TableEvaluator.implied_space(options))
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / f"fronts-{given.cost}.parquet"
    found = gather(evaluator, file, given.seeds, given.budget, given.cost == "known")
    assert evaluator.candidates is not None
    latency = np.asarray(evaluator.attributes(evaluator.candidates)[LATENCY], np.float64)
    usable = np.isfinite(latency)
    accuracy = evaluator.known_scores()[usable]
    marks = [n for n in (25, 50, 100) if n <= given.budget] or [given.budget]
    table = shares(found, accuracy, latency[usable], marks)
    columns = [str(column) for column in table if column not in ("sampler", "seed")]
    print(f"| sampler | seeds | {' | '.join(columns)} |")
    print("|---|---|" + "---|" * len(columns))
    for sampler, part in table.groupby("sampler", sort=False):
        cells = [f"{part[c].mean():.3f} ± {part[c].std():.3f}" for c in columns]
        print(f"| {sampler} | {len(part)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
