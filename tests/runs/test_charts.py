"""Pictures: what they say about the numbers."""

import re

import numpy as np
import pytest

from nasplatform.search.baseline import random_search_curve
from nasplatform.spaces import get_space
from nasplatform.visualization.drawing import cell_drawing
from nasplatform.visualization.svg import Axes, curve_chart, scatter_chart, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 30.0, [0, 5, 10, 15, 20, 25, 30]), (0.61, 0.79, [0.65, 0.7, 0.75]), (-1, 1, None)],
)
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float] | None) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    if expected is not None:
        assert found == pytest.approx(expected)


def test_axes_put_the_highest_value_on_top() -> None:
    axes = Axes((0.0, 1.0), (0.0, 1.0))
    assert axes.top(1.0) < axes.top(0.0)
    assert axes.left(1.0) > axes.left(0.0)


def test_curve_never_falls_on_the_page() -> None:
    best = np.array([0.5, 0.5, 0.7, 0.72])
    chart = curve_chart(best, random_search_curve(np.linspace(0, 1, 50), 4))
    run = re.findall(r'<polyline points="([^"]+)"', chart)[-1]
    heights = [float(point.split(",")[1]) for point in run.split()]
    assert heights == sorted(heights, reverse=True)
    assert "NaN" not in chart
    assert "nan" not in chart


def test_curve_begins_where_scores_begin() -> None:
    assert "nan" not in curve_chart(np.array([np.nan, 0.5, 0.6]), None)


def test_scatter_names_each_point_safely() -> None:
    chart = scatter_chart(np.array([0.1, 0.2]), np.array([0.1, 0.3]), ["<b>", "a"])
    assert chart.count("<circle") == 2
    assert "<b>" not in chart
    assert "&lt;b&gt;: predicted 0.1000, measured 0.1000" in chart


def test_cell_has_a_box_per_vertex_and_a_line_per_edge() -> None:
    space = get_space("nasbench101", stem_channels=8)
    for cell in space.sample(20, np.random.default_rng(0)):
        graphs = space.graphs([cell])
        drawing = cell_drawing(graphs)
        assert drawing.count("<rect") == (graphs.ops >= 0).sum()
        assert drawing.count("marker-end") == graphs.adjacency.sum()
