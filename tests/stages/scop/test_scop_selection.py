from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nasplatform.errors import StageError
from nasplatform.stages.scop.channels import ChannelGraph
from nasplatform.stages.scop.selection import Budget, by_rate, cost, ranked, shortest
from nasplatform.stages.scop.stage import ScopOptions
from nasplatform.stages.scop.tracer import Layer


def chain(widths=(3, 8, 6, 2)) -> ChannelGraph:
    """Layers of these widths in a row; the first and the last width stay."""
    starts = np.cumsum([0, *widths])
    groups = [np.arange(a, b) for a, b in pairwise(starts)]
    layers = {
        str(i): Layer(str(i), groups[i], groups[i + 1], window=9, area=4)
        for i in range(len(widths) - 1)
    }
    removable = np.concatenate(groups[1:-1])
    kinds = np.repeat(np.arange(len(widths) - 2), widths[1:-1])
    return ChannelGraph(layers, {}, {}, removable, kinds)


def scores(graph, seed=0):
    return np.random.Generator(np.random.PCG64(seed)).normal(size=len(graph.removable))


@given(st.floats(0.17, 0.99), st.integers(0, 99))
def test_rate_takes_the_lowest_share_of_every_layer(rate, seed):
    graph = chain()
    values = scores(graph, seed)
    removed = by_rate(graph, values, rate)
    for kind, width in ((0, 8), (1, 6)):
        members = graph.removable[graph.kinds == kind]
        expected = members[np.argsort(values[graph.kinds == kind])][: int(rate * width)]
        assert sorted(removed[np.isin(removed, members)]) == sorted(expected)


@pytest.mark.parametrize("rate", [k / 10 for k in range(1, 10)])
def test_tenths_of_ten_channels_are_whole_channels(rate):
    graph = chain((3, 10, 2))
    asked = ScopOptions(rate=rate).rate_of_round
    assert len(by_rate(graph, scores(graph), asked)) == round(10 * rate)


def test_rate_that_takes_nothing_is_refused():
    with pytest.raises(StageError, match=r"rate 0\.1 of the channels is less than one channel"):
        by_rate(chain(), scores(chain()), 0.1)


@given(st.integers(0, 99), st.sampled_from(["uniform", "global"]))
def test_ranking_never_empties_a_layer(seed, allocation):
    graph = chain()
    order = ranked(graph, scores(graph, seed), allocation)
    assert len(order) == 8 + 6 - 2
    assert len(np.unique(order)) == len(order)
    for layer in graph.layers.values():
        assert (~np.isin(layer.outputs, order)).sum() >= 1


def test_uniform_ranking_takes_the_same_share_of_layers_of_any_scale():
    graph = chain((3, 8, 4, 2))
    values = scores(graph)
    values[graph.kinds == 1] = values[graph.kinds == 1] * 1e6 + 1e9
    half = ranked(graph, values, "uniform")[:6]
    assert [int((half < 11).sum()), int((half >= 11).sum())] == [4, 2]


def test_global_ranking_compares_scores_in_units_of_their_layer():
    graph = chain((3, 4, 4, 2))
    values = np.array([0.1, 1.0, 1.0, 1.9, 10.0, 100.0, 100.0, 190.0])
    order = ranked(graph, values, "global")
    assert order[:2].tolist() == [3, 7]
    assert set(order[:6].tolist()) == {3, 7, 4, 5, 8, 9}


def test_maps_of_poolings_are_not_emptied_either():
    graph = chain((3, 4, 2, 2))
    graph.maps["pool"] = np.array([3, 4])
    order = ranked(graph, np.arange(6.0), "global")
    assert not np.isin([3, 4], order).all()


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


@given(st.integers(1, 12), st.integers(0, 99))
def test_shortest_prefix_is_found(length, seed):
    order = ranked(chain(), scores(chain(), seed), "global")
    found = shortest(order, lambda removed: len(removed) >= length, "x")
    assert found.tolist() == order[:length].tolist()


def test_budget_out_of_reach_is_refused():
    with pytest.raises(StageError, match="a budget of 1 % cannot be reached: removing all 5"):
        shortest(np.arange(5), lambda removed: False, "a budget of 1 %")


@pytest.mark.parametrize("values", [{}, {"keep": 0}, {"keep": 1}, {"keep": 0.5, "metric": "flop"}])
def test_impossible_budgets_are_refused(values):
    with pytest.raises(ValidationError):
        Budget(**values)
