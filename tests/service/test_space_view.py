from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasplatform.service.view import Reference, SpaceView, ViewBuilder

SIZE = 300


@pytest.fixture(scope="module")
def view(fitted):
    builder = ViewBuilder(fitted.predictor, fitted.space, Reference.of(fitted.space, SIZE))
    while builder.step():
        pass
    return builder.view


def test_a_view_holds_what_the_predictor_says(view, fitted):
    assert len(view.mean) == SIZE
    graphs = fitted.space.graphs(view.reference.population)
    np.testing.assert_allclose(view.mean, fitted.predictor.predict(graphs).mean, rtol=1e-6)
    np.testing.assert_array_equal(view.params, graphs.total_params)
    np.testing.assert_array_equal(view.flops, graphs.total_flops)
    assert not view.complete


def test_a_part_of_the_view_is_shown_early(fitted):
    builder = ViewBuilder(fitted.predictor, fitted.space, Reference.of(fitted.space, 2500))
    while builder.view is None:
        assert builder.step()
    assert 1024 <= len(builder.view.mean) < 2500
    assert builder.done == len(builder.view.mean)


def test_ranks_count_the_better_ones(view):
    means = np.array([*view.mean[:20], -1.0, 2.0])
    slow = [1 + sum(other > mean for other in view.mean) for mean in means]
    assert view.ranks(means).tolist() == slow
    assert slow[-2:] == [SIZE + 1, 1]


@given(
    k=st.integers(1, SIZE + 5),
    seen=st.sets(st.integers(0, SIZE - 1), max_size=50),
    limit=st.one_of(st.none(), st.integers(0, 40_000_000)),
    kappa=st.sampled_from([-1.0, 0.0, 2.0]),
)
def test_suggestions_are_the_best_allowed_unseen_ones(view, k, seen, limit, kappa):
    found = view.suggest(
        k, view.reference.keys[sorted(seen)], {"params": limit, "flops": None}, kappa
    )
    allowed = [
        i for i in range(SIZE) if i not in seen and (limit is None or view.params[i] <= limit)
    ]
    values = view.mean + kappa * view.std
    assert len(found) == min(k, len(allowed))
    assert set(found.tolist()) <= set(allowed)
    expected = sorted((values[i] for i in allowed), reverse=True)[:k]
    assert values[found].tolist() == expected


def test_the_front_is_what_nothing_dominates(view):
    def dominated(i):
        return any(
            view.flops[j] <= view.flops[i]
            and view.mean[j] >= view.mean[i]
            and (view.flops[j] < view.flops[i] or view.mean[j] > view.mean[i])
            for j in range(SIZE)
        )

    slow = {(view.flops[i], view.mean[i]) for i in range(SIZE) if not dominated(i)}
    front = view.front
    assert {(view.flops[i], view.mean[i]) for i in front} == slow
    assert (np.diff(view.flops[front]) > 0).all()
    assert (np.diff(view.mean[front]) > 0).all()


def test_the_picture_counts_everything(view):
    picture = view.picture
    assert sum(picture["counts"]) == SIZE == picture["size"]
    assert len(picture["edges"]) == len(picture["counts"]) + 1
    assert len(picture["points"]["mean"]) == SIZE


def test_equal_predictions_make_a_picture_too(view):
    flat = SpaceView(view.reference, np.full(SIZE, 0.5), view.std, view.params, view.flops)
    assert sum(flat.picture["counts"]) == SIZE
    assert len(flat.front) == 1


def test_what_is_in_the_view_is_found_by_its_code(view, fitted):
    inside = view.reference.population.codes[[5, 3, 299]]
    others = fitted.space.sample(400, np.random.default_rng(7)).codes
    codes = np.concatenate([inside, others, [np.uint64(0)], [~np.uint64(0)]])
    known, rows = view.find(codes)
    assert known.tolist() == np.isin(codes, view.reference.population.codes).tolist()
    assert rows[:3, 0].tolist() == view.mean[[5, 3, 299]].tolist()
    assert rows[:3, 2:].tolist() == [[view.params[i], view.flops[i]] for i in (5, 3, 299)]
