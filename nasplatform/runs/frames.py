"""Runs as tidy pandas frames: one row per evaluation, per stage, per run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from nasplatform.atomic_io import replace_file
from nasplatform.errors import RunError
from nasplatform.runs.folder import RunFolder
from nasplatform.search.loop import TrialRecord
from nasplatform.search.storage import open_study
from nasplatform.spaces import Space, get_space

_RECORDED = (
    "architecture", "hash", "fidelity", "seed", "score", "mean", "std", "source", "cost",
    "repeats", "stopped", "error",
)  # fmt: skip

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_SIZES = ("accuracy", "parameters", "macs", "bytes_on_disk", "latency_ms", "latency_64_ms")
_ENGINE = ("runtime", "latency_threads", "latency_repeats", "latency_64_repeats", "runtime_note")


def read_runs(path: Path | str = "runs") -> pd.DataFrame:
    """Return one row per evaluation of a run, or of every run below a folder.

    Columns: run (folder), search (name), sampler, predictor, run_seed; number (of the trial),
    architecture, hash, fidelity (epochs), seed (repetition), score, mean and std (what the
    predictor expected), source, cost (seconds of training), repeats, stopped (epochs after which a
    hopeless training was given up), error, feasible (all limits kept, and measured to the end),
    params, flops, started, ended; ``metric_`` with the names of what else was measured; with
    several objectives ``pareto``, whether no other evaluation is better in all of them. Runs that
    are not finished show what they have so far. Raises RunError where no run stands.
    """
    return _joined(path, evaluations)


def read_stages(path: Path | str = "runs") -> pd.DataFrame:
    """Return one row per finished stage of a run, or of every run below a folder.

    Columns: run, search, sampler, predictor, run_seed, and those of ``stages_frame``.
    """
    return _joined(path, stages)


def list_runs(path: Path | str = "runs") -> pd.DataFrame:
    """Return one row per run: what was searched, how far it came, the best it found.

    Columns: run, search, space, task, sampler, predictor, seed, state (``searching``, ``stages``
    or ``finished``), evaluations, budget, score, architecture, stages, folder.
    """
    return pd.DataFrame([_overview(folder) for folder in find_runs(path)])


def find_runs(path: Path | str) -> list[RunFolder]:
    """Return the run that stands at a path, or all below it, sorted; RunError for none."""
    root = Path(path)
    here = RunFolder(root)
    if here.exists:
        return [here]
    found = sorted(file.parent for file in root.glob("**/search.yaml"))
    if not found:
        raise RunError(f"{root}: no run stands here or below")
    return [RunFolder(folder) for folder in found]


def evaluations(folder: RunFolder) -> pd.DataFrame:
    """Return the evaluations of one run, finished or not."""
    if folder.evaluations.is_file():
        return _read_frame(folder.evaluations)
    search = folder.read_search()
    storage = search.get("storage") or folder.study
    if isinstance(storage, Path) and not storage.is_file():
        return pd.DataFrame(columns=["number", *_RECORDED])
    directions = ["maximize", *search["search"]["objectives"].values()]
    with open_study(storage, search["name"], directions=directions) as study:
        return study_frame(study, space_of(search))


def stages(folder: RunFolder) -> pd.DataFrame:
    """Return the finished stages of one run."""
    return _read_frame(folder.stages) if folder.stages.is_file() else pd.DataFrame()


def stage_walk(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for the network that the first stage was given and one after each stage.

    frame: of one run. Columns: network (``start`` or the stage), accuracy (test split), parameters,
    macs, bytes_on_disk, latency_ms and latency_64_ms (of one image and of 64), seconds (of the
    stage); runtime, latency_threads, latency_repeats, latency_64_repeats: with what and how often
    was measured; runtime_note: why that runtime where another one was wanted.
    """
    columns = ["network", *_SIZES, "seconds", *_ENGINE]
    if frame.empty:
        return pd.DataFrame(columns=columns)
    measured = (*_SIZES, *_ENGINE)
    start = {"network": "start", **{name: frame[f"before_{name}"].iloc[0] for name in measured}}
    after = frame.rename(columns={"stage": "network"} | {f"after_{n}": n for n in measured})
    return pd.concat([pd.DataFrame([start]), after], ignore_index=True)[columns]


def runtime_words(walk: pd.DataFrame) -> list[str]:
    """Return in words with what, how often and why so the networks of a walk were measured."""
    words: dict[str, list[str]] = {}
    for row in walk.to_dict("records"):
        threads = row["latency_threads"]
        text = (
            f"{row['runtime']}, {threads} thread{'s' if threads > 1 else ''}, medians of "
            f"{row['latency_repeats']} batches of 1 image and {row['latency_64_repeats']} of 64"
        )
        note = row["runtime_note"]
        words.setdefault(f"{text}; {note}" if note else text, []).append(row["network"])
    return [f"{', '.join(networks)}: {text}" for text, networks in words.items()]


def space_of(search: dict[str, Any]) -> Space[Any]:
    """Return the space of a resolved search."""
    return get_space(**search["space"])


def study_frame(study: optuna.Study, space: Space[Any]) -> pd.DataFrame:
    """Return one row per finished trial of a study that a search has filled."""
    rows = list(_rows(study))
    frame = pd.DataFrame(rows, columns=None if rows else ["number", *_RECORDED])
    if rows:
        frame = frame.astype({"score": "float64", "mean": "float64", "std": "float64"})
        frame = frame.astype({"repeats": "Int64", "stopped": "Int64", "error": "string"})
        if len(study.directions) > 1:
            frame["pareto"] = frame["number"].isin([trial.number for trial in study.best_trials])
        graphs = space.graphs(space.population([space.parse(t) for t in frame["architecture"]]))
        frame["params"] = graphs.total_params
        frame["flops"] = graphs.total_flops
        frame = frame.drop(columns=["metric_params", "metric_flops"], errors="ignore")
    return frame


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a parquet file that appears whole or not at all."""
    with replace_file(path) as temporary:
        frame.to_parquet(temporary, index=False)


def _read_frame(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # what pyarrow raises is one of these
        raise RunError(f"{path}: damaged ({error}); remove it and go on with --resume") from None


def _rows(study: optuna.Study) -> Iterator[dict[str, Any]]:
    for trial in study.get_trials(deepcopy=False, states=_ENDED):
        record = TrialRecord.of(trial)
        if record is not None:
            yield {
                "number": trial.number,
                **{name: getattr(record, name) for name in _RECORDED},
                "feasible": record.score is not None and record.counts,
                "started": trial.datetime_start,
                "ended": trial.datetime_complete,
                **{f"metric_{name}": value for name, value in record.metrics.items()},
            }


def _joined(path: Path | str, read: Callable[[RunFolder], pd.DataFrame]) -> pd.DataFrame:
    parts = []
    for folder in find_runs(path):
        search = folder.read_search()
        frame = read(folder)
        place = {
            "run": folder.path.name,
            "search": search["name"],
            "sampler": search["search"]["sampler"],
            "predictor": _name(search.get("predictor")),
            "run_seed": search["seed"],
        }
        for column, value in reversed(place.items()):
            frame.insert(0, column, value)
        if len(frame):
            parts.append(frame)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _overview(folder: RunFolder) -> dict[str, Any]:
    search = folder.read_search()
    frame = evaluations(folder)
    best = best_row(frame)
    searched = "stages" if folder.evaluations.is_file() else "searching"
    return {
        "run": folder.path.name,
        "search": search["name"],
        "space": _name(search["space"]),
        "task": search["provenance"]["measured"],
        "sampler": search["search"]["sampler"],
        "predictor": _name(search.get("predictor")),
        "seed": search["seed"],
        "state": "finished" if folder.report.is_file() else searched,
        "evaluations": int(frame["hash"].nunique()),
        "budget": search["search"]["budget"],
        "score": None if best is None else best["score"],
        "architecture": None if best is None else best["architecture"],
        "stages": len(stages(folder)),
        "folder": str(folder.path),
    }


def best_row(frame: pd.DataFrame) -> dict[str, Any] | None:
    """Return the feasible row of the highest score, the earliest of equals; None for none."""
    scored = frame[frame["feasible"]] if len(frame) else frame
    if scored.empty:
        return None
    order = scored.sort_values(["score", "number"], ascending=[False, True])
    return {str(column): value for column, value in order.iloc[0].to_dict().items()}


def _name(section: dict[str, Any] | None) -> str | None:
    return None if section is None else str(section["name"])
