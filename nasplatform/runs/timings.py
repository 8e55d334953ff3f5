"""Where the time of a run went: its own steps, what each trial took, its stages."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from nasplatform.atomic_io import write_text
from nasplatform.errors import RunError
from nasplatform.foreign import blaming, read_json
from nasplatform.runs import frames
from nasplatform.runs.columns import TIMINGS
from nasplatform.runs.folder import RunFolder
from nasplatform.search.trials import SECONDS
from nasplatform.stages.pipeline import RECORD

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_OF_TRIALS = ("proposing", "fitting", "evaluating")


@contextmanager
def clock(folder: RunFolder, part: str) -> Iterator[None]:
    """Time a step of a run, and keep it in its folder; one that breaks off is not kept."""
    begun = time.perf_counter()
    yield
    keep(folder, part, time.perf_counter() - begun)


def keep(folder: RunFolder, part: str, seconds: float) -> None:
    """Add seconds to those that a step took before."""
    known = _kept(folder)
    row = known.get(part, {"count": 0, "seconds": 0.0})
    known[part] = {"count": row["count"] + 1, "seconds": row["seconds"] + seconds}
    write_text(folder.timings, json.dumps(known))


def keep_search(folder: RunFolder, study: optuna.Study) -> None:
    """Keep what the trials of a search took, in place of what was kept of them before."""
    write_text(folder.timings, json.dumps(_kept(folder) | of_trials(study)))


def of_trials(study: optuna.Study) -> dict[str, dict[str, float]]:
    """Return how often and how long the trials of a study, whoever ran them, did what."""
    trials = study.get_trials(deepcopy=False, states=_ENDED)
    each = [_seconds(trial) for trial in trials if SECONDS in trial.system_attrs]
    fitted = [one for one in each if one["fitting"]]
    found = {
        name: {"count": len(each), "seconds": sum(one[name] for one in each)} for name in _OF_TRIALS
    }
    return found | {"fitting": {**found["fitting"], "count": len(fitted)}}


def timings(folder: RunFolder, contact: bool = False) -> pd.DataFrame:
    """Return one row per part of a run, finished or not.

    contact: whether the database that the file of an unfinished run names is asked.
    """
    kept = _kept(folder)
    if not folder.evaluations.is_file():
        with frames.study_so_far(folder, contact) as study:
            if study is not None:
                with blaming(folder.path, RunError, "its study is damaged"):
                    kept |= of_trials(study)
    elif "evaluating" not in kept:
        words = f"{folder.timings.name} tells nothing of its search, so it is left out"
        warnings.warn(f"{folder.path}: {words}", stacklevel=2)
    rows: list[dict[str, Any]] = [{"part": part, **row} for part, row in kept.items()]
    for path in sorted(folder.models.glob(f"*/{RECORD}")):
        with blaming(path, RunError, "the record of a stage is damaged"):
            record = read_json(path)
            stage = {"index": record["index"], "stage": record["stage"], "count": 1}
            rows.append({"part": "stage", **stage, "seconds": record["seconds"]})
            if "measuring" in record:
                rows.append({"part": "measuring", **stage, "seconds": record["measuring"]})
    return pd.DataFrame(rows, columns=list(TIMINGS)).astype(dict(TIMINGS))


def _seconds(trial: FrozenTrial) -> dict[str, float]:
    told = trial.system_attrs[SECONDS]
    asked = float(told["proposing"])
    whole = trial.duration.total_seconds() if trial.duration is not None else asked
    fitting = min(float(told["fitting"]), asked)
    return {"proposing": asked - fitting, "fitting": fitting, "evaluating": max(whole - asked, 0.0)}


def _kept(folder: RunFolder) -> dict[str, dict[str, float]]:
    if not folder.timings.is_file():
        return {}
    with blaming(folder.timings, RunError, "damaged", "; remove it"):
        known: dict[str, dict[str, float]] = read_json(folder.timings)
        return {
            str(part): {"count": int(row["count"]), "seconds": float(row["seconds"])}
            for part, row in known.items()
        }
