"""Candidates of several pools compete as if they had come in one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from nasplatform_toy import Ridge
from search_toys import toy_evaluator
from threadpoolctl import threadpool_limits

from nasplatform.config import SearchOptions
from nasplatform.search import History, OptimizationConfig
from nasplatform.search.acquisition import Acquisition
from nasplatform.search.candidates import CandidateBatch
from nasplatform.search.surrogate import CandidatePredictions, SurrogateModel

EVALUATOR = toy_evaluator(10)
SPACE = EVALUATOR.space


def history(objectives: int, limited: bool) -> History[Any]:
    drawn = SPACE.sample(30, np.random.default_rng(0))
    scores = np.array([EVALUATOR.evaluate(one, 1, 0).score for one in drawn])
    ones = drawn.matrix.sum(1).astype(float)
    values = np.stack([scores, -ones, -ones - 1], axis=1)[:, :objectives]
    limits = {"max_ones: 4": ones - 4} if limited else {}
    return History(drawn.keys, drawn, values, limits, np.arange(len(drawn)), drawn[:0])


@pytest.mark.parametrize("acquisition", get_args(Acquisition))
@pytest.mark.parametrize(("objectives", "limited"), [(1, False), (1, True), (2, False), (3, True)])
def test_one_pool_or_two_have_the_same_winner(
    acquisition: Acquisition, objectives: int, limited: bool
) -> None:
    every = SPACE.enumerate()
    assert every is not None
    poor = np.argsort(EVALUATOR.known_scores())  # pools of other ranges: the worst half apart
    parts = [every[np.sort(part)] for part in np.array_split(poor, 2)]
    whole = SPACE.from_codes(np.concatenate([part.codes for part in parts]))
    asked = SearchOptions(
        budget=40,
        objectives=dict.fromkeys(("ones", "params")[: objectives - 1], "minimize"),
        constraints={"max_ones": 4} if limited else {},
    )
    surrogate = SurrogateModel.fit(
        SPACE,
        Ridge(),
        history(objectives, limited),
        SPACE.graphs(every),
        OptimizationConfig.of(asked, EVALUATOR),
        (acquisition,),
        1.0,
        np.random.default_rng(5),
    )
    found = []
    for pools in ([whole], parts):
        batches = [CandidateBatch(pool, SPACE.graphs(pool)) for pool in pools]
        with threadpool_limits(1):  # several round otherwise where a batch is cut otherwise
            told = CandidatePredictions.joined([surrogate.predict(batch) for batch in batches])
        found.append(surrogate.score(told, np.random.default_rng(7)))
    assert (surrogate.limit != ()) == limited
    np.testing.assert_allclose(found[0].acquisition, found[1].acquisition, rtol=1e-6, atol=1e-9)
    assert found[0].acquisition.argmax() == found[1].acquisition.argmax()
    np.testing.assert_allclose(found[0].mean, found[1].mean)


def fitted(known: History[Any], *acquisitions: Acquisition) -> SurrogateModel[Any]:
    every = SPACE.enumerate()
    assert every is not None
    rng = np.random.default_rng(5)
    graphs = SPACE.graphs(every)
    return SurrogateModel.fit(SPACE, Ridge(), known, graphs, None, acquisitions, 1.0, rng)


@pytest.mark.parametrize("objectives", [1, 2])
def test_a_bootstrap_draw_is_what_a_random_part_of_the_labels_holds_for_best(
    objectives: int,
) -> None:
    every, known = SPACE.enumerate(), history(objectives, limited=False)
    assert every is not None
    model = fitted(known, "bootstrap_thompson", "greedy")
    assert model.drawn is not None
    rows = np.sort(np.random.default_rng(5).permutation(30)[:12])  # two fifths
    np.testing.assert_array_equal(model.drawn[1], known.scores[rows])
    graphs = SPACE.graphs(every)
    alone = Ridge().fit(SPACE.graphs(known.architectures[rows]), known.scores[rows], graphs)
    found = model.predict(CandidateBatch(every, graphs))
    drawn, greedy = model.score(found, np.random.default_rng(0)).values
    if objectives == 1:
        assert drawn.argmax() == alone.predict(graphs).mean.argmax()
    assert not np.allclose(drawn, greedy)
    assert fitted(known, "greedy").drawn is None


def test_a_part_of_equal_labels_leaves_the_draw_to_all_labels() -> None:
    every, known = SPACE.enumerate(), history(1, limited=False)
    assert every is not None
    rows = np.random.default_rng(5).permutation(30)[:12]
    values = known.values.copy()
    values[rows] = 0.5
    model = fitted(replace(known, values=values), "bootstrap_thompson", "greedy")
    assert model.drawn is None
    found = model.predict(CandidateBatch(every, SPACE.graphs(every)))
    drawn, greedy = model.score(found, np.random.default_rng(0)).values
    np.testing.assert_array_equal(drawn, greedy)


class Named(Ridge):
    """A predictor of its own construction, and with state that no option holds."""

    def __init__(self, options: Any = None, *, seed: int = 0, name: str = "") -> None:
        super().__init__(options, seed)
        self.called = name


def test_a_draw_copies_a_predictor_however_it_was_made() -> None:
    every = SPACE.enumerate()
    assert every is not None
    graphs, rng = SPACE.graphs(every), np.random.default_rng(5)
    mine = Named(seed=3, name="mine")
    known = history(1, limited=False)
    model = SurrogateModel.fit(SPACE, mine, known, graphs, None, ("bootstrap_thompson",), 1.0, rng)
    assert model.drawn is not None
    learner = model.drawn[0]
    assert isinstance(learner, Named)
    assert (learner.called, learner.seed) == ("mine", 3)
    assert learner is not mine
    assert mine.n_labels == 30
