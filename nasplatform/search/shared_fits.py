"""Several processes at one study: one of them fits at a time, and the others need not wait.

What a fit found comes with the trial that it was made for, in an attribute of its own, and reaches
everybody with its decisions. A trial that runs and has not decided yet is one whose process may be
fitting at this moment; while there is one, the trials after it take what the fit before found.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from nasplatform.search.surrogate import CandidateScores
from nasplatform.spaces.base import A, Population, Space

KEY = "nasplatform:candidates"
_MOST = 256  # of the most promising candidates by each acquisition are told to others
_PATIENCE = 120.0  # seconds after which a trial that does not decide counts as left by the dead


@dataclass(frozen=True)
class ScoredCandidates(Generic[A]):
    """Candidates of one fit with what was found of them."""

    population: Population[A]
    scores: CandidateScores

    def to_text(self) -> str:
        """Write the most promising ones, as JSON."""
        values = np.stack(self.scores.values)
        rows = np.unique(np.argsort(-values, axis=1, kind="stable")[:, :_MOST])
        found = np.vstack([self.scores.mean, self.scores.std, values])[:, rows]
        codes = self.population.codes[rows]
        return json.dumps(
            {
                "codes": base64.b64encode(codes.astype("<u8").tobytes()).decode(),
                "scores": base64.b64encode(found.astype("<f8").tobytes()).decode(),
                "candidates": len(rows),
            }
        )

    @classmethod
    def from_text(cls, text: str, space: Space[A]) -> ScoredCandidates[A]:
        """Read what ``to_text`` wrote."""
        told = json.loads(text)
        codes, found = _array(told["codes"], "<u8"), _array(told["scores"], "<f8")
        mean, std, *values = found.reshape(-1, told["candidates"])
        population = space.from_codes(codes.astype(np.uint64).reshape(told["candidates"], -1))
        return cls(population, CandidateScores(mean, std, tuple(values)))


class SharedFits(Generic[A]):
    """What a process knows of the fits of all."""

    def __init__(self, space: Space[A]) -> None:
        """Take the space of the candidates."""
        self._space = space
        self._since: dict[int, float] = {}  # trials that have not decided, by number
        self._read: tuple[int, ScoredCandidates[A]] | None = None

    def newest(self, trials: Sequence[FrozenTrial]) -> tuple[int, ScoredCandidates[A]] | None:
        """Return the latest trial with a fit and what it found, None where there is none."""
        for trial in reversed(trials):
            if self._read is not None and trial.number == self._read[0]:
                return self._read
            text = trial.system_attrs.get(KEY)
            if text is not None:
                self._read = trial.number, ScoredCandidates.from_text(text, self._space)
                return self._read
        return None

    def somebody_fits(self, trials: Sequence[FrozenTrial], number: int) -> bool:
        """Return whether a trial before this one may be being proposed, by one who lives."""
        now = time.monotonic()
        undecided = [
            trial.number
            for trial in trials
            if trial.number < number and trial.state == TrialState.RUNNING and not trial.params
        ]
        self._since = {each: self._since.get(each, now) for each in undecided}
        return any(now - since < _PATIENCE for since in self._since.values())


def _array(text: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), kind)
