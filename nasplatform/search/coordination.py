"""Other processes at the same study: who was the first to choose an architecture."""

from __future__ import annotations

import time
from typing import Generic

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nasplatform.search.trial_record import TrialRecord
from nasplatform.spaces.base import A, Space

_PATIENCE = 60.0  # seconds, for a process that was asked for an architecture and still chooses
_PAUSE = 0.02  # seconds between two looks


class Coordinator(Generic[A]):
    """Finds the trial that chose the same architecture before.

    Optuna gives out numbers before parameters: two processes that choose at the same moment do
    not see each other's choice. So each looks once more when its own choice stands in the
    storage, and waits for the trials before its own that have not chosen yet. Of two trials the
    one with the lower number keeps the architecture, which both sides see alike.
    """

    def __init__(self, study: optuna.Study, space: Space[A]) -> None:
        """Take the study that is shared and the space of its architectures."""
        self._study = study
        self._space = space
        self._names = frozenset(space.distributions())
        self._hashes: dict[int, str | None] = {}  # of the trials that have chosen, or never will
        self._silent: set[int] = set()  # trials that were waited for in vain: killed, it seems

    def same_before(self, trial: Trial) -> FrozenTrial | None:
        """Return the earlier trial that is measuring, or has measured, what this one chose.

        None where there is none. A trial that failed without a measurement does not count.
        """
        own = self._space.from_params(trial.params).hash
        trials = self._chosen(trial.number)
        same = [t for t in trials if self._hashes.get(t.number) == own and _stands(t)]
        return same[0] if same else None

    def _chosen(self, number: int) -> list[FrozenTrial]:
        """Return the trials below a number when all of them have chosen."""
        until = time.monotonic() + _PATIENCE
        while True:
            trials = [t for t in self._study.get_trials(deepcopy=False) if t.number < number]
            choosing = {t.number for t in trials if not self._read(t)} - self._silent
            if not choosing:
                return trials
            if time.monotonic() > until:
                self._silent |= choosing
            time.sleep(_PAUSE)

    def _read(self, trial: FrozenTrial) -> bool:
        """Note what a trial chose; return whether it has chosen or never will."""
        if trial.number not in self._hashes:
            whole = self._names <= trial.params.keys()
            if not whole and not trial.state.is_finished():
                return False
            chosen = self._space.from_params(trial.params).hash if whole else None
            self._hashes[trial.number] = chosen
        return True


def _stands(trial: FrozenTrial) -> bool:
    """Return whether a trial is measuring or was told a measurement."""
    return trial.state != TrialState.FAIL or TrialRecord.of(trial) is not None
