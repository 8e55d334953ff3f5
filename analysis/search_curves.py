"""Best found against networks trained: every sampler through the same loop, many seeds.

    python analysis/search_curves.py cells-digits valid_accuracy --seeds 20 --budget 60
    python analysis/search_curves.py nasbench201 c10_valid_accuracy --seeds 40 --budget 60

A sampler's options may follow its name: ``regularized-evolution:population=10:initial=10``.

Writes ``searches-TABLE-METRIC.parquet`` (a row per evaluation; what is there is not run again),
``.md`` (a table) and ``.svg`` (mean and quartiles of the regret) into the folder of ``--out``.
A search ends where the best of the table was found. Random search is computed in closed form
beside its simulated runs, as a check of the loop. What others published on NAS-Bench-201 is drawn
as points; these are test accuracies, so the curves of that figure are too: of the network that is
best by the searched metric, the test accuracy.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from protocols import parsed
from published import SOURCE, judged_by, regrets_of_others

from nasplatform import plugins
from nasplatform.atomic_io import replace_file, write_text
from nasplatform.evaluators.table import TableEvaluator, TableOptions
from nasplatform.executors.store import open_store
from nasplatform.search import SamplerContext, TrialRecord, search
from nasplatform.search.baseline import random_search_curve
from nasplatform.visualization import new_axes, regret, save

CLOSED_FORM = "random, closed form"
KEYS = ["method", "predictor", "seed", "budget"]
SAMPLERS = ("predictor", "regularized-evolution", "local-search", "tpe", "nsga2", "random")


@dataclass(frozen=True)
class Job:
    """One search."""

    table: str
    metric: str
    sampler: str
    predictor: str
    options: tuple[tuple[str, Any], ...]
    seed: int
    budget: int
    target: float
    judged: str

    @property
    def method(self) -> str:
        """What the curve is called."""
        return self.predictor if self.sampler == "predictor" else self.sampler

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What tells one search of a table from another: ``KEYS``."""
        predicts = parsed(self.sampler)[0] == "predictor"
        learner = f"{self.predictor} {dict(self.options)}" if predicts else ""
        return self.method, learner, self.seed, self.budget


def run(job: Job) -> pd.DataFrame:
    """Run one search in memory; return one row per unique evaluation, in order."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = TableOptions(table=job.table, metric=job.metric)
    home = TableEvaluator.implied_space(options)
    evaluator = TableEvaluator(options, home)
    kind = plugins.get("predictors", job.predictor)
    predictor = kind(kind.Options(**dict(job.options)), seed=job.seed)
    name, sampler_options = parsed(job.sampler)
    sampler_kind = plugins.get("samplers", name)
    context = SamplerContext(home, job.seed, evaluator.candidates, predictor)
    chosen = sampler_kind.Options(**sampler_options)
    sampler = sampler_kind.from_options(chosen, context)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    begun = time.perf_counter()
    with open_store(":memory:") as store:
        search(study, evaluator, store, job.budget, job.seed, target=job.target)
    seconds = time.perf_counter() - begun
    records = [
        found
        for trial in study.get_trials()
        if (found := TrialRecord.of(trial)) is not None and found.repeats is None
    ]
    scores = np.array([one.score for one in records], np.float64)
    best = [int(scores[:n].argmax()) for n in range(1, len(scores) + 1)]
    return pd.DataFrame(
        {
            **dict(zip(KEYS, job.key, strict=True)),
            "evaluation": np.arange(1, len(scores) + 1),
            "score": scores,
            "judged": [records[row].metrics[job.judged] for row in best],
            "seconds": seconds / len(scores),
        }
    )


def gather(jobs: list[Job], file: Path, workers: int) -> pd.DataFrame:
    """Run what the file does not hold yet and return all of it."""
    known = pd.read_parquet(file) if file.exists() else pd.DataFrame()
    done = set(known[KEYS].itertuples(index=False, name=None)) if len(known) else set()
    left = [job for job in jobs if job.key not in done]
    with ProcessPoolExecutor(workers) as pool:
        for count, future in enumerate(as_completed([pool.submit(run, job) for job in left]), 1):
            known = pd.concat([known, future.result()], ignore_index=True)
            with replace_file(file) as temporary:
                known.to_parquet(temporary)
            print(f"{count}/{len(left)} searches", end="\r", flush=True)
    wanted = {job.key for job in jobs}
    return known[[key in wanted for key in known[KEYS].itertuples(index=False, name=None)]]


def regrets(found: pd.DataFrame, best: float) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return method -> (seeds, budget): the distance of the best so far to the table's best."""
    curves = {}
    for method, rows in found.groupby("method", sort=False):
        wide = rows.pivot_table(index="seed", columns="evaluation", values="score")
        whole = wide.reindex(columns=range(1, int(rows["budget"].max()) + 1))
        filled = whole.ffill(axis=1).to_numpy()  # a search ends where the best was found
        curves[str(method)] = best - np.maximum.accumulate(filled, axis=1)
    return curves


def queries(curve: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, Any]:
    """Return (seeds,) the evaluations until the table's best was found, inf where it was not."""
    hit = curve <= 1e-9
    return np.where(hit.any(1), hit.argmax(1) + 1, np.inf)


def table(found: pd.DataFrame, scores: np.ndarray[Any, Any], budget: int) -> str:
    """Return the markdown table."""
    best = float(scores.max())
    marks = [n for n in (25, 50, 100, 150) if n <= budget] or [budget]
    head = ["method", "seeds", *[f"regret at {n}: median (quartiles)" for n in marks]]
    head += ["best found: median / 95 % of seeds", "in top 0.5 %", "s per proposal"]
    top = best - float(np.sort(scores)[::-1][max(0, int(0.005 * len(scores)) - 1)])
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    for method, curve in regrets(found, best).items():
        cells = [method, str(len(curve))]
        for n in marks:
            low, middle, high = np.percentile(curve[:, n - 1], [25, 50, 75])
            cells.append(f"{middle:.4f} ({low:.4f}-{high:.4f})")
        needed = np.sort(queries(curve))
        few, most = needed[(len(needed) - 1) // 2], needed[int(np.ceil(0.95 * len(needed))) - 1]
        cells.append(" / ".join("-" if np.isinf(x) else f"{x:.0f}" for x in (few, most)))
        cells.append(f"{int((curve[:, -1] <= top + 1e-9).sum())} of {len(curve)}")
        seconds = found.loc[found["method"] == method, "seconds"].median()
        cells.append(f"{seconds:.3f}")
        lines.append(" | ".join(cells))
    expected = best - random_search_curve(scores, budget).mean
    cells = [f"{expected[n - 1]:.4f} (mean)" for n in marks]
    lines.append(" | ".join([CLOSED_FORM, "all", *cells, "-", "-", "-"]))
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def draw(
    found: pd.DataFrame,
    scores: np.ndarray[Any, Any],
    budget: int,
    file: Path,
    others: list[tuple[str, int, float]],
    searched: bool,
) -> None:
    """Draw mean and quartiles of the regret of each method, and what others published.

    scores:   of the whole table, in the metric that is drawn.
    searched: whether that is the searched one; random search is known in closed form there.
    """
    best = float(scores.max())
    axes = regret(
        _as_runs(found, budget), best, new_axes(7, 4.2), table=scores if searched else None
    )
    end = max([budget, *(n for _, n, _ in others)])
    axes.set(xlabel="networks trained", xlim=(1, 1.1 * end if others else budget))
    if others:  # many of them have no regret, after more networks than ours
        axes.set_ylabel("regret, test accuracy")
        axes.set_xscale("log")
        axes.plot(*zip(*(point[1:] for point in others), strict=True), "k+", label=SOURCE)
        for place in dict.fromkeys(point[1:] for point in others):
            names = ", ".join(point[0] for point in others if point[1:] == place)
            axes.annotate(names, place, fontsize=5, rotation=60)
    axes.legend(fontsize=8)
    save(axes, file)


def _as_runs(found: pd.DataFrame, budget: int) -> pd.DataFrame:
    """Return the frame that ``read_runs`` would; a search that found the best goes on with it."""
    whole = [
        rows.set_index("evaluation").reindex(range(1, budget + 1)).ffill().reset_index()
        for _, rows in found.groupby(["method", "seed"], sort=False)
    ]
    runs = pd.concat(whole, ignore_index=True)
    method, number = runs["method"], runs["evaluation"]
    name = method + " " + runs["seed"].astype(int).astype(str)
    return runs.assign(
        run=name, sampler=method, predictor=None, number=number, hash=number, feasible=True
    )


def main() -> None:
    """Run the searches and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table")
    parser.add_argument("metric")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--predictor", default="default")
    parser.add_argument(
        "--options", nargs="*", default=["trees=0"], help="of the predictor, e.g. steps=30"
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/search-curves"))
    given = parser.parse_args()
    import yaml

    options = tuple((k, yaml.safe_load(v)) for k, v in (o.split("=", 1) for o in given.options))
    evaluator = TableEvaluator(
        chosen := TableOptions(table=given.table, metric=given.metric),
        TableEvaluator.implied_space(chosen),
    )
    scores = evaluator.known_scores()
    judged = judged_by(given.table, given.metric) or given.metric
    jobs = [
        Job(
            given.table,
            given.metric,
            s,
            given.predictor,
            options,
            seed,
            given.budget,
            float(scores.max()),
            judged,
        )
        for s in given.samplers
        for seed in range(given.first_seed, given.first_seed + given.seeds)
    ]
    stem = given.out / f"searches-{Path(given.table).stem}-{given.metric}"
    given.out.mkdir(parents=True, exist_ok=True)
    found = gather(jobs, stem.with_suffix(".parquet"), given.workers)
    text = table(found, scores, given.budget)
    write_text(stem.with_suffix(".md"), text)
    drawn = TableOptions(table=given.table, metric=judged)
    draw(
        found.assign(score=found["judged"]),
        TableEvaluator(drawn, evaluator.space).known_scores(),
        given.budget,
        stem.with_suffix(".svg"),
        regrets_of_others(given.table, given.metric),
        searched=judged == given.metric,
    )
    print(text)


if __name__ == "__main__":
    main()
