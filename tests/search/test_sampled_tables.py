"""Samplers on tables that hold a sample of their space, and on decisions that not all have."""

from typing import Any

import numpy as np
import optuna
import pytest
from search_toys import toy_evaluator, toy_sampler

from nasplatform.search.base import ArchitectureSampler
from nasplatform.search.evolution import RegularizedEvolution
from nasplatform.search.history import History
from nasplatform.search.local_search import LocalSearch
from nasplatform.search.nearest import Nearest
from nasplatform.search.optuna_samplers import NSGA2, TPE
from nasplatform.spaces import get_space


def even_evaluator() -> Any:
    """A table of the strings with an even number of ones: no neighbour of one is another."""
    evaluator = toy_evaluator(8)
    every = evaluator.space.enumerate()
    evaluator.candidates = every[every.matrix.sum(1) % 2 == 0]
    return evaluator


def history_of(evaluator: Any, rows: np.ndarray) -> History[Any]:
    seen = evaluator.candidates[rows]
    scores = seen.matrix.sum(1).astype(np.float64)
    return History(seen.keys, seen, scores[:, None], {}, np.arange(len(rows)), seen[:0])


def distance(one: Any, other: Any) -> int:
    """Bits that differ, whichever way round the strings are read."""
    ways = (other.bits, other.bits[::-1])
    return min(sum(a != b for a, b in zip(one.bits, way, strict=True)) for way in ways)


@pytest.mark.parametrize("kind", [LocalSearch, RegularizedEvolution])
def test_without_measurable_neighbours_the_nearest_is_next(
    kind: type[ArchitectureSampler[Any]],
) -> None:
    evaluator = even_evaluator()
    sampler = toy_sampler(kind, evaluator, initial=3)
    rows = np.random.default_rng(0).permutation(len(evaluator.candidates))[:20]
    history = history_of(evaluator, rows)
    for number in range(20, 30):
        proposal = sampler.propose(number, history)
        found = evaluator.space.population([proposal.architecture])
        assert not np.isin(found.keys, history.seen)[0]
        assert proposal.source in ("neighbour", "evolved")
        assert min(distance(proposal.architecture, one) for one in history.architectures) <= 2
    best = history.architectures[int(np.argmax(history.scores))]
    if kind is LocalSearch:
        assert distance(proposal.architecture, best) == 2


def test_local_search_asks_once_for_neighbours_that_are_all_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All but a few strings were seen, the neighbours of most of them too."""
    evaluator = toy_evaluator(6)
    evaluator.candidates = evaluator.space.enumerate()
    sampler: Any = toy_sampler(LocalSearch, evaluator, initial=3)
    asked: list[str] = []
    step = sampler.step

    def counted(architecture: Any, *rest: Any) -> Any:
        found = step(architecture, *rest)
        if found is None:
            asked.append(architecture.hash)
        return found

    monkeypatch.setattr(sampler, "step", counted)
    rows = np.random.default_rng(0).permutation(len(evaluator.candidates))
    for known in range(20, len(rows)):
        sampler.propose(known, history_of(evaluator, rows[:known]))
    assert len(asked) == len(set(asked)) > 1


def test_a_child_that_the_table_lacks_moves_to_the_nearest_that_it_holds() -> None:
    """Of two parents' neighbours one is in the table: the others are children all the same."""
    space = toy_evaluator(8).space
    evaluator = toy_evaluator(8)
    texts = ("00000000", "00000001", "01100000", "00011000", "01010000", "00101000")
    evaluator.candidates = space.population([space.parse(text) for text in texts])
    sampler = toy_sampler(RegularizedEvolution, evaluator, initial=1)
    history = history_of(evaluator, np.array([0]))
    found = {space.format(sampler.propose(n, history).architecture) for n in range(1, 60)}
    assert len(found) > 3


@pytest.mark.parametrize("kind", [TPE, NSGA2])
def test_what_cannot_be_measured_moves_to_what_was_not_seen(kind: Any) -> None:
    """Nearly all samples are of strings that the table lacks; none ends as a random draw."""
    evaluator = even_evaluator()
    sampler = kind(
        evaluator.space, kind.Options(initial=10), seed=0, candidates=evaluator.candidates
    )
    study = optuna.create_study(sampler=sampler, direction="maximize")
    sources = []
    for _ in range(40):
        trial = study.ask()
        one = evaluator.space.suggest(trial)
        study.tell(trial, float(sum(map(int, one.bits))))
        sources.append(sampler.proposal(trial.number).source)
    assert set(sources[10:]) == {"sampled"}


def test_the_nearest_is_nearest_of_what_was_not_seen() -> None:
    space = toy_evaluator(8).space
    few = space.population([space.parse(t) for t in ("00000000", "00000001", "00111000")])
    nearest, rng = Nearest(space, few), np.random.default_rng(0)
    wanted = space.parse("00001000")
    assert nearest.to(wanted, rng).hash == "00000000"
    assert nearest.to(wanted, rng, few.keys[:2]).hash == few[2].hash
    assert nearest.to(wanted, rng, few.keys).hash == "00000000"  # all were seen


def test_children_inherit_what_not_every_architecture_decides() -> None:
    """All parents have windows of 5 in blocks that few architectures have."""
    options = {"stem_channels": 4, "widths": ((4, 8),), "strides": ((1, 2),), "max_depth": 5}
    space = get_space("macro-chain", **options)
    sampler = NSGA2(space, NSGA2.Options(initial=20, population=20), seed=0)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    rng = np.random.default_rng(0)
    texts = [
        f"w{width}s{stride}:" + "-".join(f"k5e{rng.choice([3, 6])}" for _ in range(depth))
        for width in (4, 8)
        for stride in (1, 2)
        for depth in (1, 2, 3, 4, 5)
    ]
    sampler.enqueue([space.parse(text) for text in texts])
    for number in range(20):
        trial = study.ask()
        space.suggest(trial)
        study.tell(trial, float(number))
    blocks = []
    for _ in range(20):
        trial = study.ask()
        space.suggest(trial)
        proposal = sampler.proposal(trial.number)
        assert proposal is not None
        assert proposal.source == "sampled"
        blocks += space.format(proposal.architecture).partition(":")[2].split("-")[1:]
    # drawn anew, a third of them would have it
    assert len(blocks) > 20
    assert np.mean(["k5" in block for block in blocks]) > 0.8
