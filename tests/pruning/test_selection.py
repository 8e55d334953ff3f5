from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nasplatform.errors import StageError
from nasplatform.pruning.budgets import Budget, Goal
from nasplatform.pruning.graph import ChannelGraph, Layer, cost
from nasplatform.pruning.selection import (
    Step,
    check_reachable,
    enough,
    ranked,
    uniform_rate,
    widths,
)
from nasplatform.stages.scop.stage import ScopOptions


def chain(widths=(3, 8, 6, 2)) -> ChannelGraph:
    """Layers of these widths in a row; the first and the last width stay."""
    starts = np.cumsum([0, *widths])
    groups = [np.arange(a, b) for a, b in pairwise(starts)]
    layers = {
        str(i): Layer(str(i), groups[i], groups[i + 1], window=9, area=4)
        for i in range(len(widths) - 1)
    }
    removable = np.concatenate(groups[1:-1])
    classes = np.repeat(np.arange(len(widths) - 2), widths[1:-1])
    return ChannelGraph(layers, {}, {}, removable, classes)


def order(graph, values, allocation, multiple=1):
    steps = ranked(graph, values, allocation, multiple)
    return np.concatenate([step.groups for step in steps])


def scores(graph, seed=0):
    return np.random.Generator(np.random.PCG64(seed)).normal(size=len(graph.removable))


@given(st.floats(0.17, 0.99), st.integers(0, 99))
def test_rate_takes_the_lowest_share_of_every_layer(rate, seed):
    graph = chain()
    values = scores(graph, seed)
    removed = uniform_rate(graph, values, rate)
    for number, width in ((0, 8), (1, 6)):
        inside = graph.coupling_classes == number
        members = graph.removable[inside]
        expected = members[np.argsort(values[inside])][: int(rate * width)]
        assert sorted(removed[np.isin(removed, members)]) == sorted(expected)


@pytest.mark.parametrize("rate", [k / 10 for k in range(1, 10)])
def test_tenths_of_ten_channels_are_whole_channels(rate):
    graph = chain((3, 10, 2))
    asked = ScopOptions(rate=rate).rate_of_round
    assert len(uniform_rate(graph, scores(graph), asked)) == round(10 * rate)


def test_rate_that_takes_nothing_is_refused():
    with pytest.raises(StageError, match=r"rate 0\.1 of the channels is less than one channel"):
        uniform_rate(chain(), scores(chain()), 0.1)


@given(st.integers(0, 99), st.sampled_from(["uniform", "global"]))
def test_ranking_never_empties_a_layer(seed, allocation):
    graph = chain()
    found = order(graph, scores(graph, seed), allocation)
    assert len(found) == 8 + 6 - 2
    assert len(np.unique(found)) == len(found)
    for layer in graph.layers.values():
        assert (~np.isin(layer.outputs, found)).sum() >= 1


def test_uniform_ranking_takes_the_same_share_of_layers_of_any_scale():
    graph = chain((3, 8, 4, 2))
    values = scores(graph)
    values[graph.coupling_classes == 1] = values[graph.coupling_classes == 1] * 1e6 + 1e9
    half = order(graph, values, "uniform")[:6]
    assert [int((half < 11).sum()), int((half >= 11).sum())] == [4, 2]


def test_global_ranking_compares_scores_in_units_of_their_layer():
    graph = chain((3, 4, 4, 2))
    values = np.array([0.1, 1.0, 1.0, 1.9, 10.0, 100.0, 100.0, 190.0])
    found = order(graph, values, "global")
    assert sorted(found[:2].tolist()) == [3, 7]
    assert set(found[:6].tolist()) == {3, 7, 4, 5, 8, 9}


def test_maps_of_poolings_are_not_emptied_either():
    graph = chain((3, 4, 2, 2))
    graph.maps["pool"] = np.array([3, 4])
    assert not np.isin([3, 4], order(graph, np.arange(6.0), "global")).all()


def test_cost_by_hand():
    graph = chain((3, 8, 6, 2))
    nothing = np.zeros(0, np.int64)
    assert cost(graph, nothing) == (9 * 4 * (24 + 48 + 12), 9 * (24 + 48 + 12))
    assert cost(graph, np.array([3, 11, 12])) == (9 * 4 * (21 + 28 + 8), 9 * (21 + 28 + 8))
    depthwise = Layer("d", np.arange(4), np.repeat(np.arange(4), 2), groups=4, window=9, area=1)
    grouped = Layer("g", np.arange(4), np.tile([4, 5], 2), groups=2, window=1, area=1, vectors=1)
    graph = ChannelGraph({"d": depthwise, "g": grouped}, {}, {}, np.arange(6), np.zeros(6, int))
    assert cost(graph, nothing) == (72 + 8, 72 + 8 + 4)
    assert cost(graph, np.array([0, 4])) == (54 + 3, 54 + 3 + 2)


def fewer_than(length: int) -> Goal:
    return Goal("x", lambda removed: float(length - len(removed)))


@given(st.integers(1, 12), st.integers(0, 99))
def test_fewest_steps_are_found(length, seed):
    steps = ranked(chain(), scores(chain(), seed), "global")
    found = enough(steps, fewer_than(length))
    expected = np.concatenate([step.groups for step in steps[:length]])
    assert found[:-1].tolist() == expected[:-1].tolist()
    assert len(found) == length


def test_last_step_is_the_one_that_meets_the_budget_most_closely():
    steps = [Step(0, np.array([0, 1])), Step(0, np.array([2, 3])), Step(1, np.array([9]))]
    assert enough(steps, fewer_than(3)).tolist() == [0, 1, 9]
    assert enough(steps, fewer_than(4)).tolist() == [0, 1, 2, 3]
    assert enough(steps, fewer_than(5)).tolist() == [0, 1, 2, 3, 9]


def test_budget_out_of_reach_is_refused():
    steps = [Step(0, np.arange(3)), Step(1, np.arange(3, 5))]
    goal = Goal("a budget of 1 %", lambda removed: 1.0)
    with pytest.raises(StageError, match="a budget of 1 % cannot be reached: removing all 5"):
        enough(steps, goal)
    with pytest.raises(StageError, match="a budget of 1 % cannot be reached: removing all 5"):
        check_reachable(steps, goal)
    check_reachable(steps, fewer_than(5))


class TestNoise:
    """Measurements that are not monotone, and differ when they are taken again."""

    STEPS = tuple(Step(index % 3, np.array([index])) for index in range(12))

    @given(st.integers(0, 999), st.floats(0.0, 12.0))
    def test_something_is_always_found_within_the_tolerance(self, seed, length):
        rng, seen = np.random.Generator(np.random.PCG64(seed)), []

        def noisy(removed):
            seen.append(length - len(removed) + float(rng.normal()))
            return seen[-1]

        try:
            found = enough(self.STEPS, Goal("x", noisy, tolerance=0.5))
        except StageError:
            assert seen[0] > 0.5
            return
        assert len(np.unique(found)) == len(found) > 0
        assert min(seen) <= 0.5

    def test_nothing_is_measured_twice(self):
        seen = []

        def counted(removed):
            seen.append(tuple(sorted(removed.tolist())))
            return 6.0 - len(removed)

        enough(self.STEPS, Goal("x", counted))
        assert len(seen) == len(set(seen))

    def test_goal_missed_within_the_tolerance_gets_the_best_that_was_found(self):
        def measured(removed):
            return 0.2 if len(removed) == 12 else 0.1 if len(removed) == 6 else 1.0

        assert len(enough(self.STEPS, Goal("x", measured, tolerance=0.3))) == 6
        with pytest.raises(StageError, match="cannot be reached"):
            enough(self.STEPS, Goal("x", measured, tolerance=0.15))


class TestWidths:
    @pytest.mark.parametrize(
        ("count", "multiple", "expected"),
        [
            (64, 16, [48, 32, 16, 8, 4, 2, 0]),
            (50, 16, [48, 32, 16, 8, 4, 2, 0]),
            (8, 16, [4, 2, 0]),
            (7, 16, [4, 2, 0]),
            (1, 16, [0]),
            (12, 4, [8, 4, 2, 1, 0]),
            (4, 1, [3, 2, 1, 0]),
        ],
    )
    def test_values(self, count, multiple, expected):
        assert widths(count, multiple) == expected

    @given(st.integers(1, 99), st.integers(1, 32))
    def test_they_descend_from_below_the_count_to_nothing(self, count, multiple):
        found = widths(count, multiple)
        assert found == sorted(set(found), reverse=True)
        assert found[0] < count
        assert found[-1] == 0

    def test_steps_end_at_them_and_wide_classes_go_first(self):
        graph = chain((3, 32, 16, 2))
        steps = ranked(graph, scores(graph), "uniform", 16)
        assert [len(step.groups) for step in steps[:3]] == [16, 8, 8]
        assert [step.coupling_class for step in steps[:3]] == [0, 1, 0]
        fine = ranked(graph, scores(graph), "uniform")
        assert all(len(step.groups) == 1 for step in fine)

    @pytest.mark.parametrize("allocation", ["uniform", "global"])
    @pytest.mark.parametrize(("multiple", "before"), [(16, 32), (8, 16)])
    def test_what_leaves_part_of_a_block_goes_later(self, allocation, multiple, before):
        """Half of 16 channels saves time where blocks are of 8, and none where they are of 16."""
        graph = chain((3, 64, 16, 2))
        values = np.concatenate([np.repeat([0.2, 0.4, 0.6, 0.8], 16), np.repeat([0.25, 0.7], 8)])
        steps = ranked(graph, values, allocation, multiple)
        first = [step.coupling_class for step in steps].index(1)
        assert sum(len(step.groups) for step in steps[:first]) == before
        assert len(steps[first].groups) == 8

    def test_rate_is_rounded_to_the_nearest(self):
        graph = chain((3, 32, 16, 2))
        removed = uniform_rate(graph, scores(graph), 0.3, 16)
        assert len(removed) == 16  # 32 to 16 rather than 23; 16 stays rather than 12
        assert (removed < 3 + 32).all()
        with pytest.raises(StageError, match="less than one channel in every layer"):
            uniform_rate(graph, scores(graph), 0.2, 16)


@pytest.mark.parametrize("values", [{}, {"keep": 0}, {"keep": 1}, {"keep": 0.5, "metric": "flop"}])
def test_impossible_budgets_are_refused(values):
    with pytest.raises(ValidationError):
        Budget(**values)
