from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasplatform.service.space_ranking import RankingBuilder, Reference, SpaceRanking

SIZE = 300


@pytest.fixture(scope="module")
def ranking(fitted):
    builder = RankingBuilder(fitted.predictor, fitted.space, Reference.of(fitted.space, SIZE))
    while builder.step():
        pass
    return builder.ranking


def test_a_ranking_holds_what_the_predictor_says(ranking, fitted):
    assert len(ranking.mean) == SIZE
    graphs = fitted.space.graphs(ranking.reference.population)
    np.testing.assert_allclose(ranking.mean, fitted.predictor.predict(graphs).mean, rtol=1e-6)
    np.testing.assert_array_equal(ranking.params, graphs.total_params)
    np.testing.assert_array_equal(ranking.flops, graphs.total_flops)
    assert not ranking.complete


def test_a_part_of_the_ranking_is_shown_early(fitted):
    builder = RankingBuilder(fitted.predictor, fitted.space, Reference.of(fitted.space, 2500))
    while builder.ranking is None:
        assert builder.step()
    assert 1024 <= len(builder.ranking.mean) < 2500
    assert builder.done == len(builder.ranking.mean)


def test_ranks_count_the_better_ones(ranking):
    means = np.array([*ranking.mean[:20], -1.0, 2.0])
    slow = [1 + sum(other > mean for other in ranking.mean) for mean in means]
    assert ranking.ranks(means).tolist() == slow
    assert slow[-2:] == [SIZE + 1, 1]


@given(
    k=st.integers(1, SIZE + 5),
    seen=st.sets(st.integers(0, SIZE - 1), max_size=50),
    limit=st.one_of(st.none(), st.integers(0, 40_000_000)),
    kappa=st.sampled_from([-1.0, 0.0, 2.0]),
)
def test_suggestions_are_the_best_allowed_unseen_ones(ranking, k, seen, limit, kappa):
    found = ranking.suggest(
        k, ranking.reference.keys[sorted(seen)], {"params": limit, "flops": None}, kappa
    )
    allowed = [
        i for i in range(SIZE) if i not in seen and (limit is None or ranking.params[i] <= limit)
    ]
    values = ranking.mean + kappa * ranking.std
    assert len(found) == min(k, len(allowed))
    assert set(found.tolist()) <= set(allowed)
    expected = sorted((values[i] for i in allowed), reverse=True)[:k]
    assert values[found].tolist() == expected


def test_the_front_is_what_nothing_dominates(ranking):
    def dominated(i):
        return any(
            ranking.flops[j] <= ranking.flops[i]
            and ranking.mean[j] >= ranking.mean[i]
            and (ranking.flops[j] < ranking.flops[i] or ranking.mean[j] > ranking.mean[i])
            for j in range(SIZE)
        )

    slow = {(ranking.flops[i], ranking.mean[i]) for i in range(SIZE) if not dominated(i)}
    front = ranking.front
    assert {(ranking.flops[i], ranking.mean[i]) for i in front} == slow
    assert (np.diff(ranking.flops[front]) > 0).all()
    assert (np.diff(ranking.mean[front]) > 0).all()


def test_the_picture_counts_everything(ranking):
    picture = ranking.picture
    assert sum(picture["counts"]) == SIZE == picture["size"]
    assert len(picture["edges"]) == len(picture["counts"]) + 1
    assert len(picture["points"]["mean"]) == SIZE


def test_equal_predictions_make_a_picture_too(ranking):
    flat = SpaceRanking(
        ranking.reference, np.full(SIZE, 0.5), ranking.std, ranking.params, ranking.flops
    )
    assert sum(flat.picture["counts"]) == SIZE
    assert len(flat.front) == 1


def test_what_is_in_the_ranking_is_found_by_its_code(ranking, fitted):
    inside = ranking.reference.population.codes[[5, 3, 299]]
    others = fitted.space.sample(400, np.random.default_rng(7)).codes
    codes = np.concatenate([inside, others, [[np.uint64(0)], [~np.uint64(0)]]])
    asked = fitted.space.from_codes(codes)
    known, rows = ranking.find(asked)
    assert known.tolist() == np.isin(asked.labels, ranking.reference.population.labels).tolist()
    assert rows[:3, 0].tolist() == ranking.mean[[5, 3, 299]].tolist()
    assert rows[:3, 2:].tolist() == [[ranking.params[i], ranking.flops[i]] for i in (5, 3, 299)]
