"""What is known of a trial, and the books of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from optuna.trial import FrozenTrial

from nasplatform.errors import RunError

ATTRIBUTE = "nasplatform"


@dataclass(frozen=True)
class TrialRecord:
    """All there is to know about one trial; stored as a single user attribute.

    architecture: text form.
    hash:         canonical identity.
    fidelity:     epochs.
    seed:         which repetition was measured.
    score:        None where the measurement gave no finite number.
    seconds:      of training.
    source:       why the sampler proposed it (see ``Proposal``).
    mean, std:    what the predictor expected when it proposed the architecture.
    repeats:      number of the earlier trial with the same architecture, which paid for it.
    metrics:      what else was measured, by name.
    attributes:   what is known of the architecture before it is measured, by name.
    values:       the objectives, the score first, each in its own direction.
    violation:    by how much each limit is broken; at most 0 where it is kept.
    error:        why the measurement failed, None where it did not.
    stopped:      epochs after which it was given up as hopeless; its score is that of then.
    """

    architecture: str
    hash: str
    fidelity: int
    seed: int
    score: float | None
    seconds: float
    source: str
    mean: float | None = None
    std: float | None = None
    repeats: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, float] = field(default_factory=dict)
    values: Sequence[float] = ()
    violation: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    stopped: int | None = None

    @classmethod
    def of(cls, trial: FrozenTrial) -> Self | None:
        """Read the record of a trial; None where none were written, RunError for another's."""
        found = trial.user_attrs.get(ATTRIBUTE)
        if found is None:
            return None
        try:
            return cls(**found)
        except TypeError:
            raise RunError(f"trial {trial.number} holds no record of this version") from None

    @property
    def counts(self) -> bool:
        """Whether its score may be the best: measured to the end, and all limits kept."""
        kept = all(value <= 0 for value in self.violation.values())
        return self.score is not None and self.stopped is None and kept


@dataclass(frozen=True)
class Step:
    """What a search tells its watcher after each evaluation.

    done, budget: unique evaluations.
    best:         highest score so far; None while there is none.
    record:       of the trial that just ended.
    """

    done: int
    budget: int
    best: float | None
    record: TrialRecord


@dataclass
class BudgetTracker:
    """What a study has spent so far.

    first:      hash -> number of the trial that paid for it.
    best:       highest score that counts; None while there is none.
    repeats:    trials in a row that brought nothing new.
    succeeded:  trials with a score.
    last_error: why the latest failure failed.
    entered:    numbers of the trials in the books.
    """

    first: dict[str, int] = field(default_factory=dict)
    best: float | None = None
    repeats: int = 0
    succeeded: int = 0
    last_error: str | None = None
    entered: set[int] = field(default_factory=set)

    def enter(self, number: int, record: TrialRecord | None) -> None:
        """Take in a trial that ended; one without a record (not ours) counts for nothing."""
        self.entered.add(number)
        if record is None:
            return
        self.repeats = self.repeats + 1 if record.hash in self.first else 0
        self.first.setdefault(record.hash, number)
        if record.score is None:
            self.last_error = record.error
            return
        self.succeeded += 1
        if record.counts:
            self.best = record.score if self.best is None else max(self.best, record.score)

    def goes_on(self, budget: int, target: float | None) -> bool:
        """Return whether there is budget left and the target was not reached."""
        reached = target is not None and self.best is not None and self.best >= target
        return len(self.first) < budget and not reached
