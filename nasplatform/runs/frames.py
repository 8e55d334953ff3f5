"""Runs as tidy pandas frames: one row per evaluation, per stage, per run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
import pandas as pd
import pyarrow as pa
from optuna.trial import TrialState

from nasplatform.errors import InputError, RunError
from nasplatform.foreign import blaming
from nasplatform.passwords import without_password
from nasplatform.runs import tables
from nasplatform.runs.folder import RESOLVED, RunFolder
from nasplatform.runs.resolved import ResolvedCompression
from nasplatform.runs.study_file import read_study
from nasplatform.search.objectives import Direction
from nasplatform.search.storage import open_study
from nasplatform.search.trial_record import TrialRecord
from nasplatform.spaces import Space, get_space

_RECORDED = (
    "architecture", "hash", "fidelity", "seed", "score", "mean", "std", "source", "cost",
    "repeats", "stopped", "error",
)  # fmt: skip

_INTEGERS = frozenset({"repeats", "stopped"})

T = TypeVar("T")
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_SIZES = (
    *("accuracy", "parameters", "macs", "binary_macs", "bytes_on_disk"),
    *("bytes_binary", "bytes_scales", "bytes_full_precision", "latency_ms", "latency_64_ms"),
)
_ENGINE = ("runtime", "latency_threads", "latency_repeats", "latency_64_repeats", "runtime_note")


def read_runs(path: Path | str = "runs", contact: bool = False) -> pd.DataFrame:
    """Return one row per evaluation of a run, or of every run below a folder.

    Columns: run (folder), search (name), sampler, predictor, run_seed; number (of the trial),
    architecture, hash, fidelity (epochs), seed (repetition), score, mean and std (what the
    predictor expected), source, cost (seconds of training), repeats (number of the earlier trial
    of the same architecture, which paid for it), stopped (epochs after which a hopeless training
    was given up), error, feasible (all limits kept, and measured to the end), params (weights of
    the searched network), flops (2 per multiply-add, for one image), started, ended (UTC; trials
    are numbered from 0); ``metric_`` with the names of what else was measured; with
    several objectives ``pareto``, whether no other evaluation is better in all of them. Runs that
    are not finished show what they have so far; one that cannot be read is left out with a
    warning. A database that a run names is asked only with ``contact``. Raises RunError where no
    run stands.
    """
    return _joined(path, partial(_evaluations, contact=contact), _INTEGERS)


def read_stages(path: Path | str = "runs") -> pd.DataFrame:
    """Return one row per finished stage of a run, or of every run below a folder.

    Columns: run, search, sampler, predictor, run_seed, and those of ``stages_frame``.
    """
    return _joined(path, lambda folder: tables.to_table(stages(folder)))


def read_epochs(path: Path | str = "runs", contact: bool = False) -> pd.DataFrame:
    """Return one row per epoch of every training that a run, or every run below a folder, made.

    Columns: run, search, sampler, predictor, run_seed; what was trained: of an evaluation number
    (of the trial that paid for it), hash and fidelity, of a stage index and stage, and the others
    are missing; epoch (from 1), train_loss (mean over its images), valid_accuracy (the metric of
    the task on the validation split), learning_rate (of its last step), seconds (that it took);
    ``metric_`` with the names of what the objective reports. Of a training of more than 200 epochs
    as many are kept. A run that is not finished shows what it has so far; evaluations that a table
    answered have none. ``contact`` is as of ``read_runs``, and so are its errors.
    """
    from nasplatform.runs import epochs

    return _joined(
        path, lambda folder: tables.to_table(epochs.epochs(folder, contact)), epochs.INTEGERS
    )


def list_runs(path: Path | str = "runs", contact: bool = False) -> pd.DataFrame:
    """Return one row per run: what was searched, how far it came, the best it found.

    Columns: run, search (its name), date (when it began, UTC), space, task (what is measured, with
    the digest of the data), metric (of the score), sampler, predictor, seed, state (``searching``,
    ``stages`` or ``finished``), evaluations, budget, score, architecture, front (how many
    architectures stand on the Pareto front; none for a single objective), stages, accuracy (test
    split, of the last network), folder. A run that started from a network has its name as
    architecture, and neither space, sampler nor budget. One that cannot be read is left out with a
    warning.
    """
    frame = pd.DataFrame(_each(path, partial(overview, contact=contact)))
    return frame.astype({"budget": "Int64", "front": "Int64"}) if len(frame) else frame


def find_runs(path: Path | str) -> list[RunFolder]:
    """Return the run that stands at a path, or all below it, sorted; RunError for none."""
    root = Path(path)
    here = RunFolder(root)
    if here.exists:
        return [here]
    found = sorted(file.parent for file in root.glob(f"**/{RESOLVED}") if file.is_file())
    if not found:
        raise RunError(f"{root}: no run stands here or below")
    return [RunFolder(folder) for folder in found]


def newest_run(path: Path | str) -> Path:
    """Return the folder of the run below a path whose file was written last."""
    found = find_runs(path)
    return max(found, key=lambda run: run.resolved.stat().st_mtime_ns).path


def evaluations(folder: RunFolder, contact: bool = False) -> pd.DataFrame:
    """Return the evaluations of one run, finished or not.

    contact: whether the database that the file of an unfinished run names is asked. By default it
             is not, with a warning: reading somebody's folder should not connect to anything.
    """
    if folder.evaluations.is_file():
        return tables.to_frame([_read_evaluations(folder)], _INTEGERS)
    return _evaluations_so_far(folder, contact)


def _evaluations(folder: RunFolder, contact: bool) -> pa.Table:
    if folder.evaluations.is_file():
        return _read_evaluations(folder)
    return tables.to_table(_evaluations_so_far(folder, contact))


def _read_evaluations(folder: RunFolder) -> pa.Table:
    return tables.read_table(folder.evaluations, ("number", "score"), ("hash", "feasible"))


def _evaluations_so_far(folder: RunFolder, contact: bool) -> pd.DataFrame:
    config = folder.read()
    if isinstance(config, ResolvedCompression):
        return pd.DataFrame(columns=["number", *_RECORDED])
    if config.storage is None and not folder.study.is_file():
        return pd.DataFrame(columns=["number", *_RECORDED])
    if config.storage is not None and not contact:
        where = without_password(config.storage)
        warnings.warn(
            f"{folder.path}: its evaluations so far are in {where}, which was not contacted "
            f"(contact=True or --contact asks it)",
            stacklevel=2,
        )
        return pd.DataFrame(columns=["number", *_RECORDED])
    directions: list[Direction] = ["maximize", *config.search.objectives.values()]
    with ExitStack() as stack:
        if config.storage is None:
            study = stack.enter_context(read_study(folder.study, config.name))
        else:
            study = stack.enter_context(
                open_study(config.storage, config.name, directions=directions)
            )
        with blaming(folder.path, RunError, "its study is damaged"):
            return study_frame(study, get_space(config.space.name, **config.space.options))


def stages(folder: RunFolder) -> pd.DataFrame:
    """Return the finished stages of one run."""
    if not folder.stages.is_file():
        return pd.DataFrame()
    return tables.to_frame([tables.read_table(folder.stages, ("after_accuracy",), ("stage",))])


def stage_walk(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for the network that the first stage was given and one after each stage.

    frame: of one run. Columns: network (``start`` or the stage), accuracy (test split), parameters,
    macs and binary_macs, bytes_on_disk, of which bytes_binary, bytes_scales, bytes_full_precision,
    latency_ms and latency_64_ms (of one image and of 64), seconds (of the stage); runtime,
    latency_threads, latency_repeats, latency_64_repeats: with what and how often was measured;
    runtime_note: why that runtime where another one was wanted.
    """
    columns = ["network", *_SIZES, "seconds", *_ENGINE]
    if frame.empty:
        return pd.DataFrame(columns=columns)
    measured = (*_SIZES, *_ENGINE)
    start = {"network": "start", **{name: frame[f"before_{name}"].iloc[0] for name in measured}}
    after = frame.rename(columns={"stage": "network"} | {f"after_{n}": n for n in measured})
    return pd.concat([pd.DataFrame([start]), after], ignore_index=True)[columns]


def without_bits(walk: pd.DataFrame) -> pd.DataFrame:
    """Leave out what only networks of bits have, where none of a walk is one."""
    of_bits = ("binary_macs", "bytes_binary", "bytes_scales", "bytes_full_precision")
    return walk if walk["bytes_binary"].any() else walk.drop(columns=list(of_bits))


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


def study_frame(study: optuna.Study, space: Space[Any]) -> pd.DataFrame:
    """Return one row per finished trial of a study that a search has filled."""
    rows = list(_rows(study))
    frame = pd.DataFrame(rows, columns=None if rows else ["number", *_RECORDED])
    if rows:
        frame = frame.astype({"score": "float64", "mean": "float64", "std": "float64"})
        frame = frame.astype({"repeats": "Int64", "stopped": "Int64", "error": "str"})
        if len(study.directions) > 1:
            frame["pareto"] = frame["number"].isin([trial.number for trial in study.best_trials])
        graphs = space.graphs(space.population([space.parse(t) for t in frame["architecture"]]))
        frame["params"] = graphs.total_params
        frame["flops"] = graphs.total_flops
        frame = frame.drop(columns=["metric_params", "metric_flops"], errors="ignore")
    return frame


def _rows(study: optuna.Study) -> Iterator[dict[str, Any]]:
    for trial in study.get_trials(deepcopy=False, states=_ENDED):
        record = TrialRecord.of(trial)
        if record is not None:
            yield {
                "number": trial.number,
                **{name: getattr(record, name) for name in _RECORDED},
                "feasible": record.score is not None and record.counts,
                "started": _utc(trial.datetime_start),
                "ended": _utc(trial.datetime_complete),
                **{f"metric_{name}": value for name, value in record.metrics.items()},
            }


def _utc(when: datetime | None) -> datetime | None:
    """Return a time that Optuna noted by the clock of this machine, with its zone."""
    return None if when is None else when.astimezone(UTC)


def _joined(
    path: Path | str, read: Callable[[RunFolder], pa.Table], integers: Collection[str] = ()
) -> pd.DataFrame:
    """Return the rows of every run, behind columns that say whose they are."""

    def with_place(folder: RunFolder) -> pa.Table:
        config = folder.read()
        place = {
            "run": folder.path.name,
            "search": config.name,
            "sampler": config.about["sampler"],
            "predictor": config.about["predictor"],
            "run_seed": config.seed,
        }
        return tables.placed(read(folder), place)

    return tables.to_frame([part for part in _each(path, with_place) if len(part)], integers)


def _each(path: Path | str, read: Callable[[RunFolder], T]) -> list[T]:
    """Read every run; one of several that cannot be read is left out with a warning."""
    found = []
    for folder in find_runs(path):
        try:
            with blaming(folder.path, RunError, "cannot be read"):
                found.append(read(folder))
        except InputError as error:
            if folder.path == Path(path):
                raise
            warnings.warn(f"a run is left out: {error}", stacklevel=3)
    return found


def overview(folder: RunFolder, contact: bool = False) -> dict[str, Any]:
    """Return the row of one run in ``list_runs``."""
    config, frame, staged = folder.read(), evaluations(folder, contact), stages(folder)
    best = best_row(frame) or {"score": None, "architecture": None}
    about = config.about
    searched = folder.evaluations.is_file() or isinstance(config, ResolvedCompression)
    unfinished = "stages" if searched else "searching"
    return {
        "run": folder.path.name,
        "search": config.name,
        "date": began(folder, frame),
        "space": about["space"],
        "task": config.provenance.measured,
        "metric": config.provenance.metric,
        "sampler": about["sampler"],
        "predictor": about["predictor"],
        "seed": config.seed,
        "state": "finished" if folder.report.is_file() else unfinished,
        "evaluations": int(frame["hash"].nunique()),
        "budget": about["budget"],
        "score": best["score"],
        "architecture": about["network"] or best["architecture"],
        "front": len(front(frame)) if "pareto" in frame else None,
        "stages": len(staged),
        "accuracy": staged["after_accuracy"].iloc[-1] if len(staged) else None,
        "folder": str(folder.path),
    }


def front(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the evaluations on the Pareto front, each architecture once, by falling score."""
    if "pareto" not in frame:
        return frame.iloc[:0]
    rows = frame[frame["pareto"].fillna(False).astype(bool) & frame["feasible"]]
    return rows.sort_values(["score", "number"], ascending=[False, True]).drop_duplicates("hash")


def began(folder: RunFolder, frame: pd.DataFrame) -> pd.Timestamp:
    """Return when a run began (UTC): its first trial, or where none was, its file."""
    if len(frame) and "started" in frame:
        return pd.Timestamp(frame["started"].min())
    return pd.Timestamp(folder.resolved.stat().st_mtime, unit="s", tz="UTC")


def best_row(frame: pd.DataFrame) -> dict[str, Any] | None:
    """Return the feasible row of the highest score, the earliest of equals; None for none."""
    scored = frame[frame["feasible"]] if len(frame) else frame
    if scored.empty:
        return None
    order = scored.sort_values(["score", "number"], ascending=[False, True])
    return {str(column): value for column, value in order.iloc[0].to_dict().items()}
