"""Who has a child, who is too old for one, and whose neighbours a local search looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from search_toys import toy_evaluator, toy_sampler

from nasplatform.search import History
from nasplatform.search.evolution import RegularizedEvolution, best_first
from nasplatform.search.local_search import LocalSearch

SPACE = toy_evaluator(12).space
# far from each other: no two have a neighbour in common
STRINGS = ("000000000000", "111111000000", "000011110011", "110011001111", "101010101010")


def history(scores: list[float], limit: list[float] | None = None) -> History[Any]:
    """The strings in the order of their trials, with these scores."""
    strings = SPACE.population([SPACE.parse(text) for text in STRINGS[: len(scores)]])
    values = np.array(scores)[:, None]
    limits = {} if limit is None else {"max_ones: 1": np.array(limit)}
    return History(strings.keys, strings, values, limits, np.arange(len(scores)), strings[:0])


def parent(child: Any, known: History[Any]) -> int:
    """Return which string the child is one flip away from."""
    keys = [
        SPACE.neighbours(known.architectures[i : i + 1]).keys.tolist() for i in range(len(known))
    ]
    (found,) = [i for i, around in enumerate(keys) if SPACE.population([child]).keys[0] in around]
    return found


def parents(known: History[Any], seeds: int = 12, **options: Any) -> set[int]:
    found = set()
    for seed in range(seeds):
        sampler = toy_sampler(RegularizedEvolution, toy_evaluator(12), seed, initial=1, **options)
        proposal = sampler.propose(50, known)
        assert proposal.source == "evolved"
        found.add(parent(proposal.architecture, known))
    return found


def test_the_best_of_a_tournament_has_the_child() -> None:
    known = history([0.1, 0.5, 0.9, 0.3, 0.2])
    assert parents(known, population=5, tournament=5) == {2}


def test_the_oldest_die_however_good_they_are() -> None:
    known = history([0.9, 0.8, 0.1, 0.3, 0.2])
    assert parents(known, population=3, tournament=3) == {3}
    assert parents(known, population=1, tournament=5) == {4}


def test_a_small_tournament_lets_others_win() -> None:
    known = history([0.1, 0.5, 0.9, 0.3, 0.2])
    assert len(parents(known, 40, population=5, tournament=1)) == 5
    assert 0 not in parents(known, 40, population=5, tournament=2)  # the worst loses to anybody


def test_who_breaks_a_limit_loses() -> None:
    known = history([0.9, 0.5, 0.8, 0.3, 0.7], limit=[0.5, 0.0, 0.1, -1.0, np.nan])
    assert best_first(known) == [4, 1, 3, 2, 0]
    assert parents(known, population=5, tournament=5) == {4}


def test_children_are_new_and_the_first_are_random() -> None:
    known = history([0.1, 0.5])
    sampler = toy_sampler(RegularizedEvolution, toy_evaluator(12), initial=3)
    assert sampler.propose(2, known).source == "initial"
    around = SPACE.neighbours(known.architectures[1:2])
    seen = np.concatenate([known.seen, around.keys[:-1]])
    told = History(seen, known.architectures, known.values, {}, known.numbers, known.pending)
    child = sampler.propose(3, told).architecture
    assert SPACE.population([child]).keys[0] == around.keys[-1]


def test_local_search_looks_around_the_best_and_then_around_the_next() -> None:
    known = history([0.1, 0.5, 0.9, 0.3, 0.2])
    for seed in range(6):
        sampler = toy_sampler(LocalSearch, toy_evaluator(12), seed, initial=1)
        assert parent(sampler.propose(20, known).architecture, known) == 2
        around = SPACE.neighbours(known.architectures[2:3])
        seen = np.concatenate([known.seen, around.keys])
        told = History(seen, known.architectures, known.values, {}, known.numbers, known.pending)
        proposal = sampler.propose(21, told)
        assert proposal.source == "neighbour"
        assert parent(proposal.architecture, known) == 1


@pytest.mark.parametrize("kind", [RegularizedEvolution, LocalSearch])
def test_neighbours_keep_to_what_can_be_measured(kind: Any) -> None:
    evaluator = toy_evaluator(12)
    known = history([0.1, 0.5, 0.9])
    around = SPACE.neighbours(known.architectures[2:3])
    rows = np.isin(evaluator.candidates.keys, np.append(around.keys[:2], known.seen))
    evaluator.candidates = evaluator.candidates[rows]
    for seed in range(6):
        sampler = toy_sampler(kind, evaluator, seed, initial=1)
        child = sampler.propose(9, known).architecture
        assert SPACE.population([child]).keys[0] in around.keys[:2]
