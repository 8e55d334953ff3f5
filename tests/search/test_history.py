"""What a sampler is told of a study, whoever wrote its trials."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from search_toys import toy_evaluator

from nasplatform.search.history import Memory


def study_of(rows: list[Any], direction: str = "maximize") -> tuple[optuna.Study, Memory[Any]]:
    """rows: (bits, state, value, learning_curve)."""
    space = toy_evaluator(4).space
    study = optuna.create_study(direction=direction)
    for bits, state, value, learning_curve in rows:
        study.add_trial(
            optuna.create_trial(
                state=optuna.trial.TrialState[state],
                params=space.to_params(space.parse(bits)),
                distributions=space.distributions(),
                value=value,
                intermediate_values=learning_curve,
            )
        )
    return study, Memory(space)


def test_failed_and_running_trials_are_seen_but_teach_nothing() -> None:
    study, memory = study_of(
        [("0001", "COMPLETE", 0.5, {}), ("0011", "FAIL", None, {}), ("0111", "RUNNING", None, {})]
    )
    found = memory.before(study, 3)
    assert len(found.seen) == 3
    assert found.scores.tolist() == [0.5]
    assert found.numbers.tolist() == [0]
    assert [one.hash for one in found.pending] == ["0111"]


def test_lower_is_turned_to_higher_is_better() -> None:
    study, memory = study_of([("0001", "COMPLETE", 0.5, {})], "minimize")
    assert memory.before(study, 1).scores.tolist() == [-0.5]


def test_trials_without_an_architecture_are_passed_over() -> None:
    study, memory = study_of([("0001", "COMPLETE", 0.5, {})])
    study.add_trial(optuna.create_trial(value=9.0))
    assert memory.before(study, 2).scores.tolist() == [0.5]


def test_only_what_came_before_is_told() -> None:
    rows = [("0001", "COMPLETE", 0.5, {}), ("0011", "COMPLETE", 0.6, {})]
    study, memory = study_of(rows)
    assert memory.before(study, 1).scores.tolist() == [0.5]
    assert memory.before(study, 2).scores.tolist() == [0.5, 0.6]
    overtaken = memory.before(study, 0)
    assert (len(overtaken), overtaken.seen.tolist()) == (
        0,
        memory.before(study, 2).seen[1:].tolist(),
    )
    other, _ = study_of(rows[:1])
    assert memory.before(other, 5).scores.tolist() == [0.5]  # another study: all is read anew


def test_a_training_that_was_given_up_is_estimated_by_its_place_among_the_others() -> None:
    study, memory = study_of(
        [
            ("0000", "PRUNED", None, {1: 0.3}),  # nothing to compare with yet
            ("0001", "COMPLETE", 0.8, {1: 0.2, 2: 0.4}),
            ("0011", "COMPLETE", 0.9, {1: 0.4, 2: 0.7}),
            ("0101", "PRUNED", None, {1: 0.1, 2: 0.55}),
            ("0111", "PRUNED", None, {1: 0.0}),
            ("1111", "COMPLETE", 0.1, {1: 0.0, 2: 0.0}),
        ]
    )
    found = memory.before(study, 6)
    assert found.numbers.tolist() == [1, 2, 3, 4, 5]
    assert found.scores == pytest.approx([0.8, 0.9, 0.85, 0.8, 0.1])
    assert memory.before(study, 5).scores == pytest.approx(found.scores[:4])
    assert np.array_equal(memory.before(study, 6).seen, found.seen)


def test_what_is_infinite_counts_as_the_worst_or_best_that_is_finite() -> None:
    rows = [("0001", -np.inf), ("0011", 0.5), ("0111", 0.7), ("1111", np.inf)]
    study, memory = study_of([(bits, "COMPLETE", value, {}) for bits, value in rows])
    assert memory.before(study, 4).scores.tolist() == [0.5, 0.5, 0.7, 0.7]
