"""Have dead measurements made again, and the trials that they failed begun again."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from nasplatform.evaluators.base import ErrorClass
from nasplatform.executors.store import open_store
from nasplatform.executors.store.database import require_there
from nasplatform.search.storage import open_storage
from nasplatform.search.trial_record import TrialRecord


def requeue(url: str, error_class: ErrorClass | None = None) -> int:
    """Set the dead of a storage free; return how many there were.

    A trial that failed by one of them has ended for good; a new one with the same decisions waits
    in its study, to be begun by the next worker. It costs nothing of the budget.
    """
    require_there(url)
    with open_store(url) as store:
        hashes = store.requeue(error_class)
    with open_storage(url) as database:
        for name in [study.study_name for study in database.get_all_studies()]:
            _begin_again(optuna.load_study(study_name=name, storage=database), set(hashes))
    return len(hashes)


def _begin_again(study: optuna.Study, hashes: set[str]) -> None:
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        record = TrialRecord.of(trial)
        if record is not None and record.hash in hashes:
            study.enqueue_trial(trial.params, skip_if_exists=False)
            hashes.discard(record.hash)
