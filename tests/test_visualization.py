"""Pictures show what the frames say."""

import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from nasplatform import visualization
from nasplatform.benchmarks.registry import load_table
from nasplatform.search.baseline import random_search_curve
from nasplatform.spaces import get_space
from nasplatform.visualization.axes import PALETTE
from nasplatform.visualization.drawing import page_colours
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


def test_random_search_is_drawn_beside_in_closed_form(frame):
    scores = np.linspace(0, 0.9, 10)
    expected = random_search_curve(scores, 3).mean
    *_, line = visualization.search_curves(frame, table=scores).get_lines()
    np.testing.assert_allclose(line.get_ydata(), expected)
    *_, line = visualization.regret(frame, 0.9, table=np.append(scores, np.nan)).get_lines()
    np.testing.assert_allclose(line.get_ydata(), 0.9 - expected)
    *_, line = visualization.search_curves(frame, table=scores[:2]).get_lines()
    assert len(line.get_ydata()) == 2  # there is no third one to draw


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


def test_a_calibrated_posterior_lies_on_the_diagonal():
    rng = np.random.default_rng(0)
    told = pd.DataFrame({"run": "a", "mean": 0.5, "std": 0.1}, index=range(4000))
    told["score"] = 0.5 + 0.1 * rng.normal(size=4000)
    (line, diagonal) = visualization.calibration(told).get_lines()
    np.testing.assert_allclose(line.get_xdata(), line.get_ydata(), atol=0.02)
    assert list(diagonal.get_xdata()) == [0, 1]
    (narrow, _) = visualization.calibration(told.assign(std=0.05)).get_lines()
    assert (narrow.get_ydata() < line.get_ydata()).all()
    # of a normal posterior half as wide, the central 90 % hold 2 Phi(1.645 / 2) - 1 = 59 %
    assert narrow.get_ydata()[35] == pytest.approx(0.59, abs=0.02)
    assert visualization.calibration(told.iloc[:0]).get_lines()


def test_stages_are_lines_in_colour_and_trainings_of_a_search_grey():
    rows = [
        ("a", 0, None, None, 1, 0.2), ("a", 0, None, None, 2, 0.4), ("a", 1, None, None, 1, 0.3),
        ("a", None, 0, "train", 1, 0.5), ("a", None, 0, "train", 2, 0.7),
    ]  # fmt: skip
    names = ["run", "number", "index", "stage", "epoch", "valid_accuracy"]
    axes = visualization.learning_curves(pd.DataFrame(rows, columns=names))
    lines = axes.get_lines()
    assert [list(line.get_ydata()) for line in lines] == [[0.2, 0.4], [0.3], [0.5, 0.7], []]
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color() == PALETTE[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "train", "trainings of the search"
    ]  # fmt: skip
    assert axes.get_ylabel() == "validation accuracy"


def test_the_card_of_a_table_shows_its_best_and_the_noise_of_a_training():
    table = load_table("vit-digits")
    axes = visualization.benchmark_card(table)
    runs = table.measurements[table.score][:, -1].astype(float)
    twice = runs[np.isfinite(runs).all(axis=1)]
    noise = np.sqrt(twice.var(axis=1, ddof=1).mean())
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [
        f"best {table.values(table.score).max():.4f}",
        f"noise of a training ± {noise:.4f}",
    ]
    assert axes.get_title() == "vit-digits: 500 architectures, 4 epochs, up to 2 seeds"
    assert len(axes.collections[0].get_offsets()) == 500


@pytest.mark.parametrize(
    ("space", "text"),
    [("nasbench101", "[3]11/1"), ("macro-chain", None), ("vit", None), ("nasbench201", None)],
)
def test_an_architecture_is_a_file_of_svg_with_its_colours(space, text):
    home = get_space(space)
    rng = np.random.default_rng(0)
    one = home.sample(1, rng)[0] if text is None else home.parse(text)
    drawn = ElementTree.fromstring(visualization.architecture_drawing(home.graphs([one])))
    names = [node.text for node in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert names[0] == "input"
    assert len(names) == len(list(drawn.iter("{http://www.w3.org/2000/svg}rect"))) >= 2
    assert "--conv" in drawn.findtext("{http://www.w3.org/2000/svg}style")


def test_pages_have_the_palette_of_the_axes():
    light, _, _dark = page_colours().partition("@media")
    for place in range(6):
        assert f"--c{place}: {PALETTE[place].lower()};" in light
        assert contrast(PALETTE[place], "#ffffff") >= 3


def contrast(one, other):
    """Return the contrast ratio of two colours (WCAG 2)."""

    def luminance(colour):
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted([luminance(one), luminance(other)], reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_evaluations_at_a_time_have_rows_of_their_own(frame):
    axes = visualization.workers(frame[frame["run"] == "a"])
    assert len(axes.get_yticks()) == 2
    assert [bar.get_x() for bar in axes.patches] == [0, 1, 2]


def test_methods_of_one_colour_have_dashes_of_their_own():
    rows = [(name, n, 0.5, 0.1) for name in ("flops", "params", "gp", "gp:x=1") for n in (50, 100)]
    columns = ["predictor", "labels", "kendall_mean", "kendall_std"]
    axes = visualization.tau_against_labels(pd.DataFrame(rows, columns=columns))
    drawn = [one for one in axes.get_lines() if one.get_linestyle() != "None"]
    assert [one.get_linestyle() for one in drawn] == ["-", "--", "-", "--"]
    assert [one.get_color() for one in drawn[2:]] == [visualization.colour_of("gp")] * 2


def test_a_method_has_one_colour_everywhere(frame):
    (with_gp, random) = visualization.search_curves(frame).get_lines()
    assert with_gp.get_color() == visualization.colour_of("gp") == visualization.colour_of("gp:x=1")
    assert random.get_color() == visualization.colour_of("random")
    assert with_gp.get_color() != random.get_color()
    shipped = ("default", "gp", "gp-trees", "local-search", "nsga2", "random", "tpe")
    others = [visualization.colour_of(name) for name in (*shipped, "regularized-evolution")]
    assert len(set(others)) == len(others)  # what the figures of the documents compare


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


@pytest.mark.parametrize("text", ["[3M1]1011/110/01/1", "[333]1101/110/10/1", "[33]111/11/1"])
def test_no_edge_runs_behind_a_box(text):
    home = get_space("nasbench101")
    drawn = ElementTree.fromstring(
        visualization.architecture_drawing(home.graphs([home.parse(text)]))
    )
    svg = "{http://www.w3.org/2000/svg}"
    boxes = [
        tuple(float(box.get(name)) for name in ("x", "y", "width", "height"))
        for box in drawn.iter(f"{svg}rect")
    ]
    left, top, width, height = map(float, drawn.get("viewBox").split())
    for x, y, w, h in boxes:
        assert left <= x <= x + w <= left + width
        assert top <= y <= y + h <= top + height
    for edge in (one for one in drawn.iter(f"{svg}path") if one.get("marker-end")):
        p = np.array([float(n) for n in re.findall(r"-?\d+", edge.get("d"))]).reshape(4, 2)
        t = np.linspace(0.02, 0.98, 200)[:, None]
        curve = (1 - t) ** 3 * p[0] + 3 * t * (1 - t) ** 2 * p[1]
        curve = curve + 3 * t**2 * (1 - t) * p[2] + t**3 * p[3]
        assert (curve[:, 0] > left).all()
        assert (curve[:, 0] < left + width).all()
        for x, y, w, h in boxes:
            inside = (abs(curve - (x + w / 2, y + h / 2)) < (w / 2, h / 2)).all(axis=1)
            assert not inside.any(), (text, x, y)
