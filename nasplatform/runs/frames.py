"""Runs as tidy pandas frames: one row per evaluation, per stage, per run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
import pandas as pd
import pyarrow as pa
from optuna.trial import TrialState

from nasplatform.errors import InputError, RunError
from nasplatform.foreign import blaming, path_of, require_flags
from nasplatform.passwords import without_password
from nasplatform.runs import tables
from nasplatform.runs.columns import (
    EPOCHS,
    EVALUATIONS,
    PLACE,
    RUNS,
    STAGES,
    TIMINGS,
    Columns,
    empty_frame,
    missing_columns,
    with_missing,
)
from nasplatform.runs.folder import RESOLVED, RunFolder
from nasplatform.runs.resolved import ResolvedCompression
from nasplatform.runs.study_file import read_study
from nasplatform.search.objectives import Direction
from nasplatform.search.storage import open_study
from nasplatform.search.trial_record import TrialRecord
from nasplatform.spaces import Space, get_space

_RECORDED = (
    "architecture", "hash", "fidelity", "seed", "score", "mean", "std", "source", "seconds",
    "repeats", "stopped", "error",
)  # fmt: skip

_COSTS = ("params", "flops")

T = TypeVar("T")
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def read_runs(path: Path | str = "runs", contact: bool = False) -> pd.DataFrame:
    """Return one row per evaluation of a run, or of every run below a folder.

    Columns: run (folder), search (name), sampler, predictor, run_seed; number (of the trial),
    architecture, hash, fidelity (epochs), seed (repetition), score, mean and std (what the
    predictor expected), source, seconds (of training), repeats (number of the earlier trial
    of the same architecture, which paid for it), stopped (epochs after which a hopeless training
    was given up), error, feasible (all limits kept, and measured to the end), params (weights of
    the searched network), flops (2 per multiply-add, for one image), started, ended (UTC; trials
    are numbered from 0); ``attribute_`` with the names of what else was known before it was
    measured, ``metric_`` with those of what else was measured; with several objectives
    ``pareto``, whether no other evaluation is better in all of them. Runs that are not finished
    show what they have so far; one that cannot be read is left out with a warning, and so is named
    what a run of an older version lacks. A database that a run names is asked only with
    ``contact``; ``path`` may be the URL of a storage too, and its searches are read there, each as
    a run. Raises RunError where no run stands.
    """
    return _joined(path, partial(_evaluations, contact=contact), EVALUATIONS)


def read_predictions(path: Path | str = "runs", contact: bool = False) -> pd.DataFrame:
    """Return one row per prediction that was made before its measurement, of a run or of many.

    Columns: run, search, sampler, predictor, run_seed; number, architecture, hash, source, score
    (missing where the measurement failed), mean and std (of the posterior) as in ``read_runs``;
    residual (score - mean), within90 (whether the score lies in the central 90 % of a normal
    posterior). Initial draws and samplers without a predictor predict nothing and have no rows.
    ``contact`` is as of ``read_runs``, and so are its errors.
    """
    from nasplatform.runs import predictions

    return predictions.predictions(read_runs(path, contact))


def read_stages(path: Path | str = "runs") -> pd.DataFrame:
    """Return one row per finished stage of a run, or of every run below a folder.

    Columns: run, search, sampler, predictor, run_seed, and those of ``stages_frame``.
    """
    return _joined(path, _read_stages, STAGES)


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

    return _joined(path, lambda folder: tables.to_table(epochs.epochs(folder, contact)), EPOCHS)


def read_timings(path: Path | str = "runs", contact: bool = False) -> pd.DataFrame:
    """Return where the time of a run, or of every run below a folder, went: one row per part.

    Columns: run, search, sampler, predictor, run_seed; part, index and stage (missing for what is
    no stage), count (how often it was done), seconds (in all). Parts: ``setup``; of the search's
    trials ``proposing``, ``fitting`` the predictor for that, and ``evaluating`` (from the proposal
    to the record, waiting included); ``predictor`` (the last fit), ``stage``, ``measuring`` after
    a stage, ``report``. Trials that are under way together are counted each, so that with several
    workers the seconds of a search are more than those of the clock. ``contact`` is as of
    ``read_runs``, and so are its errors.
    """
    from nasplatform.runs import timings

    return _joined(path, lambda folder: tables.to_table(timings.timings(folder, contact)), TIMINGS)


def list_runs(path: Path | str = "runs", contact: bool = False) -> pd.DataFrame:
    """Return one row per run: what was searched, how far it came, the best it found.

    Columns (see docs/reference/frames.md): run, search (its name), started (its first trial, UTC),
    space, table, task (what is measured, with the digest of the data), metric (of the score),
    sampler, predictor, seed, state (``searching``, ``stages`` or ``finished``), evaluations,
    budget, score, architecture, front (how many architectures stand on the Pareto front; missing
    for a single objective), stages, accuracy (test split, of the last network), versions (JSON),
    folder. A run that started from a network has its name as
    architecture, and neither space, sampler nor budget. One that cannot be read is left out with a
    warning.
    """
    rows = _each(path, partial(overview, contact=contact))
    return pd.DataFrame(rows).astype(dict(RUNS)) if rows else empty_frame(RUNS)


def find_runs(path: Path | str) -> Sequence[RunFolder]:
    """Return the run that stands at a path, or all below it, sorted; RunError for none.

    path: also the URL of a storage, of which these are the searches.
    """
    if "://" in str(path):
        from nasplatform.runs.stored import stored_runs

        return stored_runs(str(path))
    root = path_of(path, RunError)
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
        table = with_missing(_read_evaluations(folder), EVALUATIONS)
        return tables.to_frame([table], EVALUATIONS)
    return _evaluations_so_far(folder, contact)


def _evaluations(folder: RunFolder, contact: bool) -> pa.Table:
    if folder.evaluations.is_file():
        return _read_evaluations(folder)
    return tables.to_table(_evaluations_so_far(folder, contact))


def _read_evaluations(folder: RunFolder) -> pa.Table:
    needed = ("number", "score"), ("hash", "feasible")
    return tables.read_table(folder.evaluations, EVALUATIONS, *needed)


@contextmanager
def study_so_far(folder: RunFolder, contact: bool) -> Iterator[optuna.Study | None]:
    """Open the study of a search that is not finished; None where there is none to read."""
    require_flags(RunError, contact=contact)
    config = folder.read()
    if isinstance(config, ResolvedCompression):
        yield None
    elif config.storage is None:
        if not folder.study.is_file():
            yield None
            return
        with read_study(folder.study, config.name) as study:
            yield study
    elif not (contact or folder.contacted):
        where = without_password(config.storage)
        warnings.warn(
            f"{folder.path}: its evaluations so far are in {where}, which was not contacted "
            f"(contact=True or --contact asks it)",
            stacklevel=2,
        )
        yield None
    else:
        directions: list[Direction] = ["maximize", *config.search.objectives.values()]
        with open_study(config.storage, config.name, directions=directions) as study:
            yield study


def _evaluations_so_far(folder: RunFolder, contact: bool) -> pd.DataFrame:
    with study_so_far(folder, contact) as study:
        if study is None:
            return empty_frame(EVALUATIONS)
        space = folder.read().space  # type: ignore[union-attr]  # a study is of a search
        with blaming(folder.path, RunError, "its study is damaged"):
            return study_frame(study, get_space(space.name, **space.options))


def stages(folder: RunFolder) -> pd.DataFrame:
    """Return the finished stages of one run."""
    return tables.to_frame([with_missing(_read_stages(folder), STAGES)], STAGES)


def _read_stages(folder: RunFolder) -> pa.Table:
    if not folder.stages.is_file():
        return tables.to_table(empty_frame(STAGES))
    return tables.read_table(folder.stages, STAGES, ("after_accuracy",), ("stage",))


def study_frame(study: optuna.Study, space: Space[Any]) -> pd.DataFrame:
    """Return one row per finished trial of a study that a search has filled."""
    rows = list(_rows(study))
    if not rows:
        return empty_frame(EVALUATIONS)
    frame = pd.DataFrame(rows)
    frame = frame.astype({"score": "float64", "mean": "float64", "std": "float64"})
    frame = frame.astype({"repeats": "Int64", "stopped": "Int64", "error": "str"})
    if len(study.directions) > 1:
        frame["pareto"] = frame["number"].isin([trial.number for trial in study.best_trials])
    graphs = space.graphs(space.population([space.parse(t) for t in frame["architecture"]]))
    return frame.assign(params=graphs.total_params, flops=graphs.total_flops)


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
                **{
                    f"attribute_{name}": value
                    for name, value in record.attributes.items()
                    if name not in _COSTS  # columns of their own, of the whole population at once
                },
                **{f"metric_{name}": value for name, value in record.metrics.items()},
            }


def _utc(when: datetime | None) -> datetime | None:
    """Return a time that Optuna noted by the clock of this machine, with its zone."""
    return None if when is None else when.astimezone(UTC)


def _joined(
    path: Path | str, read: Callable[[RunFolder], pa.Table], columns: Columns
) -> pd.DataFrame:
    """Return the rows of every run, behind columns that say whose they are."""
    known = pa.schema([])

    def with_place(folder: RunFolder) -> pa.Table:
        nonlocal known
        config = folder.read()
        place = {
            "run": folder.path.name,
            "search": config.name,
            "sampler": config.about["sampler"],
            "predictor": config.about["predictor"],
            "run_seed": config.seed,
        }
        table = _whole(read(folder), folder, columns)
        if len(table):
            known = tables.joined(known, table.schema)
        return tables.placed(table, place)

    # no name for the parts: what is turned into columns of pandas is to be given back at once
    return tables.to_frame(
        [part for part in _each(path, with_place) if len(part)], {**PLACE, **columns}
    )


def _whole(table: pa.Table, folder: RunFolder, columns: Columns) -> pa.Table:
    """Warn of columns that an older version did not write, and leave their values empty."""
    if len(table) and (lacking := missing_columns(table, columns)):
        words = f"columns are missing, so their values are empty: {', '.join(lacking)}"
        warnings.warn(f"{folder.path}: {words}", stacklevel=2)
        return with_missing(table, columns)
    return table


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
        "started": began(folder, frame),
        "space": about["space"],
        "table": about["table"],
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
        "versions": json.dumps(config.provenance.versions, sort_keys=True),
        "folder": str(folder.path),
    }


def column_of(frame: pd.DataFrame, name: str) -> str:
    """Return the column of an objective: a cost, an attribute or a metric of its evaluator."""
    return next(c for c in (name, f"attribute_{name}", f"metric_{name}") if c in frame)


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
    if not folder.resolved.is_file():
        return pd.Timestamp("NaT")
    return pd.Timestamp(folder.resolved.stat().st_mtime, unit="s", tz="UTC")


def best_row(frame: pd.DataFrame) -> dict[str, Any] | None:
    """Return the feasible row of the highest score, the earliest of equals; None for none."""
    scored = frame[frame["feasible"]] if len(frame) else frame
    if scored.empty:
        return None
    order = scored.sort_values(["score", "number"], ascending=[False, True])
    return {str(column): value for column, value in order.iloc[0].to_dict().items()}
