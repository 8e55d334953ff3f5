"""Other processes at the same study: what they are measuring, and what the dead left behind."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Generic

import optuna
from optuna.trial import FrozenTrial

from nasplatform.spaces.base import A, Space


class Coordinator(Generic[A]):
    """Watches the trials that run elsewhere.

    Who measures an architecture is settled by the store of evaluations; of the study only this
    much is needed: how many trials others hold, and which of them nobody works on any more. A
    trial that has run for longer than ``patience`` is a suspect; whether its measurement is still
    leased, the store knows. Only spans of one clock are compared, never two clocks.
    """

    def __init__(self, study: optuna.Study, space: Space[A], patience: float) -> None:
        """Take the shared study, its space, and the seconds before a running trial is a suspect."""
        self._study = study
        self._space = space
        self._patience = patience
        self._trials: dict[int, FrozenTrial] = {}
        self._hashes: dict[int, str] = {}
        self._since: dict[int, float] = {}

    def look(self, trials: Iterable[FrozenTrial], own: Collection[int]) -> None:
        """Note which trials run elsewhere and have chosen an architecture.

        own: numbers of those that run here.
        """
        self._trials = {
            t.number: t
            for t in trials
            if not t.state.is_finished()
            and t.number not in own
            and self._space.active(t.params) <= t.params.keys()
        }
        now = time.monotonic()
        self._since = {number: self._since.get(number, now) for number in self._trials}
        self._hashes = {
            number: self._hashes.get(number) or self._space.from_params(trial.params).hash
            for number, trial in self._trials.items()
        }

    def running(self) -> set[str]:
        """Return the hashes of what others are measuring."""
        return set(self._hashes.values())

    def holder(self, architecture: A, before: int) -> int | None:
        """Return the first trial below a number that runs with an architecture, None for none."""
        same = [n for n, known in self._hashes.items() if known == architecture.hash and n < before]
        return min(same, default=None)

    def suspect(self) -> FrozenTrial | None:
        """Return a trial that may be left behind; it is asked about once in a while only."""
        now = time.monotonic()
        for number, since in sorted(self._since.items()):
            if now - since > self._patience:
                self._since[number] = now
                return self._trials[number]
        return None
