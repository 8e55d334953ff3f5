"""Several runs side by side, and what their seeds say about the difference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from nasplatform.errors import RunError
from nasplatform.foreign import require_list
from nasplatform.runs import frames
from nasplatform.runs.folder import RunFolder
from nasplatform.runs.walk import stage_walk

_ALIKE = ["search", "sampler", "predictor", "budget"]


def compare_runs(paths: Sequence[Path | str]) -> pd.DataFrame:
    """Return one row per run: what was searched, when, and what it came to.

    paths: runs, or folders of runs.
    Columns: run, search, metric, started, sampler, predictor, seed, evaluations, budget, score, and
    for the network at the start and after each stage its test accuracy, ``accuracy_STAGE``.
    Raises RunError where no run stands, or where scores are of different tasks.
    """
    require_list(paths, RunError, "paths of runs")
    folders = {run.path.resolve(): run for path in paths for run in frames.find_runs(path)}
    if not folders:
        raise RunError("expected a list of paths of runs, it is empty")
    rows = [_row(run) for run in folders.values()]
    tasks = sorted({row.pop("task") for row in rows if row["score"] is not None})
    if len(tasks) > 1:
        raise RunError(f"scores of different tasks cannot be compared: {' and '.join(tasks[:2])}")
    return pd.DataFrame(rows).drop(columns="task", errors="ignore")


def compare_settings(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per setting: runs that differ by nothing but the seed.

    runs: of ``compare_runs``.
    Columns: search, sampler, predictor, budget, seeds (how many); for the score and the accuracy
    after the last stage the ``_mean`` and its standard error ``_sem``; and against the first
    setting, over the seeds that both have, the mean difference ``_gain`` and ``_p``, the two-sided
    p-value of the paired t-test (NaN for fewer than two shared seeds).
    """
    if runs.duplicated([*_ALIKE, "seed"]).any():
        runs = runs.drop_duplicates([*_ALIKE, "seed"], keep="last")
    last = [name for name in runs if str(name).startswith("accuracy_")]
    found = runs.assign(accuracy=runs[last].ffill(axis=1).iloc[:, -1] if last else np.nan)
    groups = list(found.groupby(_ALIKE, dropna=False, sort=False))
    first = groups[0][1].set_index("seed")
    rows = []
    for setting, group in groups:
        row: dict[str, Any] = dict(zip(_ALIKE, setting, strict=True)) | {"seeds": len(group)}
        for name in ("score", "accuracy"):
            row |= _summary(name, group.set_index("seed")[name], first[name])
        rows.append(row)
    return pd.DataFrame(rows)


def _summary(name: str, values: pd.Series[Any], first: pd.Series[Any]) -> dict[str, float]:
    values, first = values.astype(float).dropna(), first.astype(float).dropna()
    shared = values.index.intersection(first.index)
    gaps = (values[shared] - first[shared]).to_numpy(np.float64)
    spread = len(gaps) > 1 and bool(np.ptp(gaps) > 0)
    each = values.to_numpy(np.float64)
    return {
        f"{name}_mean": float(values.mean()),
        f"{name}_sem": float(stats.sem(each)) if len(each) > 1 else float("nan"),
        f"{name}_gain": float(gaps.mean()) if len(gaps) else float("nan"),
        f"{name}_p": float(stats.ttest_1samp(gaps, 0.0).pvalue) if spread else float("nan"),
    }


def _row(run: RunFolder) -> dict[str, Any]:
    kept = ("run", "search", "task", "metric", "started", "sampler", "predictor", "seed")
    overview = frames.overview(run)
    walk = stage_walk(frames.stages(run))
    accuracies = {f"accuracy_{row['network']}": row["accuracy"] for row in walk.to_dict("records")}
    counted = ("evaluations", "budget", "score")
    return {name: overview[name] for name in (*kept, *counted)} | accuracies
