"""Pictures show what the frames say."""

import numpy as np
import pandas as pd
import pytest

from nasplatform import visualization
from nasplatform.visualization.searches import best_so_far


@pytest.fixture
def frame():
    """Two runs of one method and one of another, three evaluations each, one of them repeated."""
    rows = []
    told = {
        "a": ("predictor", "gp", [0.1, 0.5, 0.4]),
        "b": ("predictor", "gp", [0.3, 0.2, 0.6]),
        "c": ("random", None, [0.2, 0.2, 0.3]),
    }
    for run, (sampler, predictor, scores) in told.items():
        for number, score in enumerate(scores):
            start = pd.Timestamp("2026-01-01") + pd.Timedelta(seconds=number)
            rows.append(
                {
                    "run": run, "sampler": sampler, "predictor": predictor, "number": number,
                    "hash": f"{run}{number}", "score": score, "feasible": score != 0.4,
                    "mean": score + 0.1, "std": 0.07 if number else 0.01, "flops": 10 - number,
                    "started": start, "ended": start + pd.Timedelta(seconds=1.5),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def test_best_so_far_is_of_feasible_ones(frame):
    curves = best_so_far(frame)
    assert list(curves) == ["predictor + gp", "random"]
    assert curves["predictor + gp"].tolist() == [[0.1, 0.5, 0.5], [0.3, 0.3, 0.6]]


def test_curves_are_means_and_regret_is_the_rest(frame):
    lines = visualization.search_curves(frame).get_lines()
    np.testing.assert_allclose(lines[0].get_ydata(), [0.2, 0.4, 0.55])
    lines = visualization.regret(frame, 0.7).get_lines()
    np.testing.assert_allclose(lines[1].get_ydata(), [0.5, 0.5, 0.4])


def test_nothing_feasible_yet_is_no_point(frame):
    frame["feasible"] = frame["number"] > 0
    (line, _) = visualization.search_curves(frame).get_lines()
    assert line.get_xdata().tolist() == [2, 3]


def test_the_front_and_its_hypervolume(frame):
    axes = visualization.front(frame[frame["run"] == "b"], "flops")
    assert axes.get_title() == "front of 1, hypervolume 0.8"  # (10 - 8) x (.6 - .2)
    axes = visualization.front(frame[frame["run"] == "b"], "flops", minimise=False)
    assert axes.get_title() == "front of 2, hypervolume 0.2"  # (10 - 8) x (.3 - .2), and 0 x .4


def test_predictions_say_how_many_intervals_cover(frame):
    title = visualization.predictions(frame).get_title()
    assert title == "9 evaluations: Kendall's tau 1.00, 67% in 90 % intervals"


def test_evaluations_at_a_time_have_rows_of_their_own(frame):
    axes = visualization.workers(frame[frame["run"] == "a"])
    assert len(axes.get_yticks()) == 2
    assert [bar.get_x() for bar in axes.patches] == [0, 1, 2]


def test_a_method_has_one_colour_everywhere(frame):
    (with_gp, random) = visualization.search_curves(frame).get_lines()
    assert with_gp.get_color() == visualization.colour_of("gp") == visualization.colour_of("gp:x=1")
    assert random.get_color() == visualization.colour_of("random")
    assert with_gp.get_color() != random.get_color()


def test_stages_are_shares_of_the_first_network():
    walk = pd.DataFrame(
        {
            "network": ["start", "train"], "accuracy": [0.1, 0.9], "macs": [200, 100],
            "bytes_on_disk": [50, 25], "latency_64_ms": [np.nan, np.nan],
        }
    )  # fmt: skip
    axes = visualization.stage_walk(walk)
    assert [bar.get_height() for bar in axes.patches] == [1, 0.5, 1, 0.5]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["start\n10.0%", "train\n90.0%"]


def test_tau_has_published_points_beside(tmp_path):
    summary = pd.DataFrame(
        {
            "predictor": ["gp", "gp"], "labels": [100, 50], "kendall_mean": [0.8, 0.7],
            "kendall_std": [0.01, np.nan],
        }
    )  # fmt: skip
    axes = visualization.tau_against_labels(summary, {"PINAT": {100: 0.717}})
    assert [t.get_text() for t in axes.get_xticklabels()] == ["50", "100"]
    visualization.save(axes, tmp_path / "tau.svg")
    text = (tmp_path / "tau.svg").read_text()
    assert "PINAT" in text
    assert "Kendall" in text
