"""Settings of the predictor's sampler on many tasks, judged where they had no part in the choice.

    python analysis/search_settings.py FOLDER --seeds 6

FOLDER holds ``nb201.parquet`` and ``transnas_micro.parquet`` (docs/benchmarks/tables.md);
``nasbench101-measured`` is imported, the embedded tables come along. A task is a column of a table;
for each seed a search sees another random part of its cells, so that the best is another one each
time. A setting is judged by the mean decadic logarithm of the rank of the best cell found so far,
over evaluations 10 to the budget: 0 where the best is found at once. For each data set the setting
is chosen by all others (all columns of a data set are left out together), and what it does on the
data set is told; then, task by task, what the setting that stands does. Rows are kept in
``settings-SIZE-BUDGET.parquet`` below --out; broken off, the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nasplatform import plugins
from nasplatform.atomic_io import replace_file
from nasplatform.benchmarks.registry import load_table
from nasplatform.search.candidates import CandidatePool
from nasplatform.search.history import History
from nasplatform.search.predictor_sampler import PredictorSampler
from nasplatform.spaces import get_space
from nasplatform.spaces.base import Population, Space

Array = NDArray[np.float64]
FIRST = 10  # evaluation from which ranks count
RNG = np.random.default_rng(0)  # of a pool that takes everything nothing is drawn
COST_WEIGHT = 0.5  # of the logarithm of the multiply-adds, in units of the better half's scores

DATASETS: Mapping[str, tuple[str, ...]] = {
    "CIFAR-10": (
        "nb201:c10_valid_e200",
        "nb201:c10_valid_e12",
        "nb201:analognb_qat_acc",
        "nb201:analognb_noisy_acc",
        "nb201-cost:c10_test_e200",
        "nasbench101-measured:valid_accuracy",
    ),
    "CIFAR-100": ("nb201:c100_test_e200", "nb201:c100_valid_e12", "nb201-cost:c100_test_e200"),
    "TransNAS": ("transnas:valid_accuracy",),
    "digits": ("cells-digits:valid_accuracy", "chains-digits:valid_accuracy"),
    "fashion": ("cells-fashion:valid_accuracy",),
}
_EI, _TS, _UCB = "expected_improvement", "thompson", "upper_confidence_bound"
_BS = "bootstrap_thompson"
STANDING = "as it stands"
SETTINGS: Mapping[str, dict[str, Any]] = {
    STANDING: {},
    "EI only": {"acquisition": _EI},
    "every 8th bootstrap": {"acquisition": (*[_EI] * 7, _BS)},
    "every 8th Thompson": {"acquisition": (*[_EI] * 7, _TS)},
    "every 4th UCB": {"acquisition": (*[_EI] * 3, _UCB), "beta": 2.0},
    "a 10th at random": {"exploration": 0.1},
    "6 labels first": {"initial": 6},
    "unlike each other first": {"design": "spread"},
}


@dataclass(frozen=True)
class Task:
    """Unique architectures with the score of each, higher is better."""

    space: Space[Any]
    architectures: Population[Any]
    scores: Array

    @classmethod
    def of(cls, space: Space[Any], architectures: Population[Any], scores: Array) -> Task:
        """Keep what was measured, the first of isomorphic architectures."""
        measured = np.flatnonzero(np.isfinite(scores))
        keys = architectures.keys[measured]
        first = measured[np.sort(np.unique(keys, return_index=True)[1])]
        return cls(space, architectures[first], scores[first])

    def part(self, size: int, seed: int) -> Task:
        """Draw some of the architectures at random."""
        rng = np.random.default_rng([seed, len(self.scores)])
        rows = np.sort(rng.permutation(len(self.scores))[:size])
        return Task(self.space, self.architectures[rows], self.scores[rows])


@cache
def load(name: str, folder: Path) -> Task:
    """Read a task ``TABLE:COLUMN``."""
    table, column = name.split(":")
    if table in ("nb201", "nb201-cost", "transnas"):
        space = get_space("nasbench201")
        file = "transnas_micro" if table == "transnas" else "nb201"
        rows = pd.read_parquet(folder / f"{file}.parquet")
        texts = rows["arch_ops" if table == "transnas" else "arch"]
        scores = rows[column].to_numpy(np.float64)
        if table == "nb201-cost":
            effort = np.log(rows["macs_c10"].to_numpy(np.float64))
            spread = scores[scores > np.median(scores)].std()
            scores = scores - COST_WEIGHT * spread * (effort - effort.mean()) / effort.std()
        return Task.of(space, space.parse_many(texts)[0], scores)
    known = load_table(table)
    return Task.of(known.space, known.architectures, known.scores(column, None))


class Shared(PredictorSampler[Any]):
    """A sampler that is handed its pool: features of the candidates are computed once."""

    pool: CandidatePool[Any]

    def _candidates(self) -> CandidatePool[Any]:
        return self.pool


def run(task: Task, pool: CandidatePool[Any], setting: str, seed: int, budget: int) -> Array:
    """Search until the best is found; return the scores in order."""
    kind = plugins.get("predictors", "default")
    sampler = Shared(
        task.space,
        kind(kind.Options(trees=0), seed=seed),
        seed=seed,
        candidates=task.architectures,
        **SETTINGS[setting],
    )
    sampler.pool = pool
    rows = {int(key): row for row, key in enumerate(task.architectures.keys)}
    tried: list[int] = []
    while len(tried) < budget and (not tried or task.scores[tried[-1]] < task.scores.max()):
        known = task.architectures[np.array(tried, np.intp)]
        values = task.scores[tried][:, None] if tried else np.empty((0, 1))
        history = History(known.keys, known, values, {}, np.arange(len(tried)), known[:0])
        found = sampler.propose(len(tried), history).architecture
        tried.append(rows[int(task.space.population([found]).keys[0])])
    return task.scores[tried]


def everything(architectures: Population[Any]) -> NDArray[np.bool_]:
    """All may be proposed."""
    return np.ones(len(architectures), bool)


def judged(task: Task, scores: Array, budget: int) -> tuple[float, float]:
    """Return the mean logarithm of the rank of the best so far, and the evaluations needed."""
    best = np.maximum.accumulate(scores)
    ranks = 1 + np.searchsorted(np.sort(-task.scores), -best)
    logs = np.log10(np.append(ranks, np.full(budget - len(ranks), ranks[-1])))
    hit = best[-1] >= task.scores.max()
    return float(logs[FIRST - 1 :].mean()), float(len(scores) if hit else np.inf)


def gather(file: Path, folder: Path, seeds: int, size: int, budget: int) -> pd.DataFrame:
    """Run what the file does not hold yet and return all of it."""
    known = pd.read_parquet(file) if file.exists() else pd.DataFrame()
    done = set()
    if len(known):
        done = set(known[["task", "setting", "seed"]].itertuples(index=False, name=None))
    for seed in range(seeds):
        for dataset, names in DATASETS.items():
            for name in names:
                left = [setting for setting in SETTINGS if (name, setting, seed) not in done]
                if not left:
                    continue
                task = load(name, folder).part(size, seed)
                every = task.architectures
                pool = CandidatePool.of(task.space, every, everything, len(every), 0, RNG)
                rows = []
                for setting in left:
                    scores = run(task, pool, setting, seed, budget)
                    logs, needed = judged(task, scores, budget)
                    row = {"dataset": dataset, "task": name, "setting": setting, "seed": seed}
                    rows.append({**row, "log_rank": logs, "needed": needed})
                known = pd.concat([known, pd.DataFrame(rows)], ignore_index=True)
                with replace_file(file) as temporary:
                    known.to_parquet(temporary)
    return known[(known["seed"] < seeds) & known["setting"].isin(list(SETTINGS))]


def by_dataset(found: pd.DataFrame) -> pd.DataFrame:
    """Return (setting, data set) the mean of the tasks' mean logarithms."""
    by_task = found.groupby(["setting", "dataset", "task"])["log_rank"].mean()
    return by_task.groupby(["setting", "dataset"]).mean().unstack()


def differences(found: pd.DataFrame) -> dict[str, str]:
    """Return by setting the mean difference of the logarithms from what stands, task by task."""
    wide = found.pivot_table(index=["task", "seed"], columns="setting", values="log_rank")
    away = wide.sub(wide[STANDING], axis=0)
    errors = away.std() / len(away) ** 0.5
    return {str(name): f"{away[name].mean():+.3f} ± {errors[name]:.3f}" for name in away}


def told(found: pd.DataFrame) -> str:
    """Return median, 95 % and misses of the evaluations until the best was found."""
    needed = np.sort(found["needed"].to_numpy())
    shown = [needed[(len(needed) - 1) // 2], needed[int(np.ceil(0.95 * len(needed))) - 1]]
    marks = " / ".join("-" if np.isinf(x) else f"{x:.0f}" for x in shown)
    return f"{marks} | {int(np.isinf(needed).sum())} of {len(needed)}"


def main() -> None:
    """Run and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--size", type=int, default=2000, help="cells that a search sees")
    parser.add_argument("--budget", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("runs/search-settings"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / f"settings-{given.size}-{given.budget}.parquet"
    found = gather(file, given.folder, given.seeds, given.size, given.budget)
    means = by_dataset(found)
    away = differences(found)
    print(
        f"| setting | {' | '.join(means.columns)} | mean | against {STANDING!r} "
        "| best: median / 95 % | not found |"
    )
    print("|---|" + "---|" * (len(means.columns) + 4))
    for setting in means.mean(axis=1).sort_values().index:
        cells = [f"{value:.3f}" for value in (*means.loc[setting], means.loc[setting].mean())]
        cells.append(away[setting])
        rows = found[found["setting"] == setting]
        print(f"| {setting} | {' | '.join(cells)} | {told(rows)} |")
    print(
        "\n| left out | chosen by the others | log rank there | best: median / 95 % | not found |"
    )
    print("|---|---|---|---|---|")
    for dataset in means.columns:
        chosen = str(means.drop(columns=dataset).mean(axis=1).idxmin())
        rows = found[(found["setting"] == chosen) & (found["dataset"] == dataset)]
        there = means[dataset].to_dict()[chosen]
        print(f"| {dataset} | {chosen} | {there:.3f} | {told(rows)} |")
    print(f"\n| task, {STANDING!r} | best: median / 95 % | not found |\n|---|---|---|")
    for task, rows in found[found["setting"] == STANDING].groupby("task", sort=False):
        print(f"| {task} | {told(rows)} |")


if __name__ == "__main__":
    main()
