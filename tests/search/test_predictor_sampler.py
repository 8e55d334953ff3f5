"""The predictor's sampler: pure, refitted on schedule, at home in small and large spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nasplatform_toy import Ridge
from search_toys import toy_evaluator

from nasplatform.encodings.active_subgraph import learns_inside
from nasplatform.errors import ConfigError
from nasplatform.search import History, SamplerContext
from nasplatform.search.candidates import CandidatePool, farthest_point_sampling
from nasplatform.search.predictor_sampler import PredictorOptions, PredictorSampler
from nasplatform.spaces import get_space


def history(evaluator: Any, n: int, pending: int = 0, seed: int = 0) -> History[Any]:
    """What a study knows after n random trials, of which the last ones still run."""
    space = evaluator.space
    drawn = space.sample(n, np.random.default_rng(seed))
    done, running = drawn[: n - pending], drawn[n - pending :]
    scores = np.array([evaluator.evaluate(one, 1, 0).score for one in done])
    return History(drawn.keys, done, scores[:, None], {}, np.arange(n - pending), running)


def sampler(evaluator: Any, **options: Any) -> PredictorSampler[Any]:
    return PredictorSampler(
        evaluator.space, Ridge(), candidates=evaluator.candidates, **{"initial": 4, **options}
    )


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize(
    "acquisition",
    ["greedy", "expected_improvement", "upper_confidence_bound", "thompson", "bootstrap_thompson"],
)
def test_a_proposal_follows_from_seed_number_and_history_alone(
    acquisition: str, unknown: bool
) -> None:
    evaluator = toy_evaluator(12, enumerable=not unknown, unknown=unknown)
    options = {"acquisition": acquisition, "samples": 50, "exploration": 0.2}
    known = history(evaluator, 12)
    busy = sampler(evaluator, **options)
    for number in (5, 9, 12, 7):
        busy.propose(number, known.before(number))
    fresh = sampler(evaluator, **options)
    assert busy.propose(12, known) == fresh.propose(12, known)
    assert fresh.propose(12, known) == fresh.propose(12, known)


def test_finds_the_best_of_a_large_space_by_local_search() -> None:
    evaluator = toy_evaluator(20, enumerable=False, unknown=True)
    one = sampler(evaluator, samples=200, rounds=3, acquisition="greedy", batch=1)
    known = history(evaluator, 30)
    found = one.propose(30, known)
    score = evaluator.evaluate(found.architecture, 1, 0).score
    assert found.source == "predicted"
    assert score > known.scores.max()


@pytest.mark.parametrize("design", ["random", "spread"])
def test_the_initial_design_is_the_same_for_a_seed(design: str) -> None:
    evaluator = toy_evaluator(8)
    nothing = history(evaluator, 0)

    def first(seed: int) -> list[Any]:
        one = sampler(evaluator, seed=seed, design=design)
        return [one.propose(number, nothing).architecture for number in range(4)]

    assert first(0) == first(0) != first(2)
    assert len(set(first(0))) == 4


def test_a_design_that_was_seen_is_replaced() -> None:
    evaluator = toy_evaluator(8)
    wanted = sampler(evaluator).propose(0, history(evaluator, 0)).architecture
    seen = evaluator.space.population([wanted])
    known = History(seen.keys, seen, np.ones((1, 1)), {}, np.array([0]), seen[:0])
    assert sampler(evaluator).propose(0, known).architecture != wanted


@pytest.mark.parametrize("design", ["spread", "random"])
@pytest.mark.parametrize(
    ("name", "dull"),
    [("nasbench101", "[M]11/1"), ("nasbench201", "010404")],  # pooling alone, nothing at all
)
def test_no_first_label_is_paid_for_a_cell_that_learns_nothing(
    name: str, dull: str, design: str
) -> None:
    space = get_space(name)
    pools = space.population([space.parse(dull), *space.sample(300, np.random.default_rng(0))])
    learns = learns_inside(space.graphs(pools))
    assert 0 < learns.sum() < len(pools)
    assert not learns[0]
    for seed in range(3):
        one = PredictorSampler(
            space, Ridge(), seed=seed, candidates=pools, initial=40, design=design
        )
        known = space.population([])
        for number in range(40):
            nothing = History(known.keys, known[:0], np.empty((0, 1)), {}, np.arange(0), known[:0])
            found = space.population([one.propose(number, nothing).architecture])
            assert learns_inside(space.graphs(found))[0]
            assert not np.isin(found.keys, known.keys)[0]
            known = space.population([*known, *found])


def test_farthest_point_sampling_takes_the_corners_first() -> None:
    points = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]], np.float32)
    for seed in range(10):
        chosen = farthest_point_sampling(points, 4, np.random.default_rng(seed))
        assert len(set(chosen) - {4}) >= 3
    assert len(farthest_point_sampling(points, 9, np.random.default_rng(0))) == 5


@pytest.mark.parametrize(
    ("batch", "firsts"),
    [(1, [4, 5, 6, 7]), (3, [4, 4, 4, 7]), (None, [4, 5, 6, 7])],
)
def test_it_is_fitted_anew_once_per_batch(batch: int | None, firsts: list[int]) -> None:
    one = sampler(toy_evaluator(6), batch=batch)
    assert [one._first_of_batch(number) for number in range(4, 8)] == firsts


def test_the_default_batch_grows_with_the_labels() -> None:
    one = sampler(toy_evaluator(6))
    fits = {one._first_of_batch(number) for number in range(4, 504)}
    assert 60 < len(fits) < 110
    assert one._first_of_batch(503) > 503 - 26


def test_the_trials_of_a_batch_differ_and_take_turns() -> None:
    evaluator = toy_evaluator(8)
    one = sampler(evaluator, batch=4)
    known = history(evaluator, 8)
    proposed = []
    for number in range(8, 12):
        found = one.propose(number, known)
        proposed.append(found.architecture)
        seen = np.append(known.seen, evaluator.space.population([found.architecture]).keys)
        known = History(seen, known.architectures, known.values, {}, known.numbers, known.pending)
    assert len(set(proposed)) == 4


def test_what_others_measure_now_is_believed_and_changes_the_proposal() -> None:
    evaluator = toy_evaluator(10)
    one = sampler(evaluator, acquisition="expected_improvement", batch=1)
    alone = one.propose(20, history(evaluator, 20))
    shared = history(evaluator, 20, pending=6)
    beside = one.propose(20, shared)
    assert not np.isin(evaluator.space.population([beside.architecture]).keys, shared.seen)[0]
    assert (alone.mean, alone.std) != (beside.mean, beside.std)


def test_labels_that_teach_nothing_give_random_proposals() -> None:
    evaluator = toy_evaluator(8)
    known = history(evaluator, 8)
    flat = History(known.seen, known.architectures, 0 * known.values, {}, known.numbers,
                   known.pending)  # fmt: skip
    assert sampler(evaluator).propose(8, flat).source == "random"


def test_a_whole_space_holds_each_isomorphism_class_once() -> None:
    evaluator = toy_evaluator(6)
    twice = evaluator.space.from_codes(np.arange(64, dtype=np.uint64))
    every = CandidatePool.of(
        evaluator.space, twice, lambda p: np.ones(len(p), bool), 100, 10, np.random.default_rng(0)
    )
    assert every.whole
    assert len(every.far) == 36
    assert len(set(every.far.population.keys.tolist())) == 36


def test_isomorphic_candidates_stay_apart_where_what_is_known_of_them_differs() -> None:
    evaluator = toy_evaluator(6)
    twice = evaluator.space.from_codes(np.arange(64, dtype=np.uint64))
    rng = np.random.default_rng(0)
    every = CandidatePool.of(
        evaluator.space, twice, lambda p: np.ones(len(p), bool), 100, 10, rng, labelled=True
    )
    assert len(every.far) == 64


def test_a_search_file_without_a_predictor_is_told() -> None:
    evaluator = toy_evaluator(6)
    with pytest.raises(ConfigError, match="sampler 'predictor' needs a predictor"):
        PredictorSampler.from_options(PredictorOptions(), SamplerContext(evaluator.space, 0))


def test_options_take_one_acquisition_or_several() -> None:
    one = PredictorOptions(acquisition="greedy")
    several = PredictorOptions(acquisition=["greedy", "thompson"])
    assert one.acquisition == ("greedy",)
    assert several.acquisition == ("greedy", "thompson")
    assert PredictorOptions.model_validate(several.model_dump()) == several


def test_a_draw_of_the_labels_is_fitted_for_its_turn_alone() -> None:
    """With a single objective every fourth trial is such a draw; others may take any."""
    one, best, draw = sampler(toy_evaluator(6)), "expected_improvement", "bootstrap_thompson"
    assert one._turns(6) == (best, best, best, best)
    assert one._turns(7) == (best, best, best, draw)
    assert one._turns(40) == (best,) * 4  # 40 and 41 share a fit
    assert one._turns(42) == (best, best, best, draw)  # 42 and 43
    one.shared = True
    assert one._turns(6) == (best, best, best, draw)


def test_every_fourth_proposal_follows_a_part_of_the_labels() -> None:
    evaluator = toy_evaluator(12)
    known = history(evaluator, 23)
    usual, alone = sampler(evaluator), sampler(evaluator, acquisition="expected_improvement")
    same = [
        usual.propose(n, known.before(n)) == alone.propose(n, known.before(n)) for n in range(4, 24)
    ]
    assert all(one for n, one in enumerate(same, 4) if n % 4 != 3)
    assert not all(one for n, one in enumerate(same, 4) if n % 4 == 3)
