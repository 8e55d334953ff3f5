"""The page of a run in Chromium: nothing is cut off, at any width, in light, dark and print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pages import NEEDS_CHROMIUM, picture, size, started_browser

from nasplatform.runs import charts
from nasplatform.runs.confusion import Confusion
from nasplatform.runs.driver import run
from nasplatform.runs.report import page_of
from nasplatform.runs.report_network import Deed, TextTable, class_sections
from nasplatform.spaces import get_space

CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
OUTSIDE = """
const wide = [...document.querySelectorAll('body *')].filter(e => !e.closest('svg, pre'));
return wide.filter(e => {
  const box = e.getBoundingClientRect();
  const cut = getComputedStyle(e).display !== 'inline' && e.scrollWidth > e.clientWidth + 1;
  return box.width && (box.right > innerWidth + 1 || (cut && !e.closest('.matrix')));
}).map(e => `${e.tagName} ${e.className}: ${e.textContent.slice(0, 40)}`);
"""


def crowded() -> dict[str, Any]:
    """Everything that a page may have, with the longest texts that there are."""
    space = get_space("nasbench201")
    rng = np.random.default_rng(0)
    columns = ["network", "test accuracy", "parameters", "multiply-adds", "binary multiply-adds"]
    columns += ["bytes on disk", "ms, 1 image", "ms, 64 images", "seconds", "runtime"]
    sizes = [
        "start",
        "0.9312 ± 0.0123",
        *["123,456,789"] * 4,
        "12.345",
        "1,234.567",
        "",
        "openvino",
    ]
    lines = [charts.Line(f"stage {k}", np.arange(1.0, 9), rng.random(8)) for k in range(3)]
    labels = rng.integers(0, 10, 400)
    names = tuple(f"a class with a long name {k}" for k in range(10))
    confusion = Confusion.of(labels, np.where(rng.random(400) < 0.7, labels, 0), names)
    architecture = TextTable(
        ["architecture", "score", "predicted", "trial (from 0)", "source"],
        [[CELL, "0.9157", "0.9120", "16", "predicted"]] * 4,
    )
    curve = np.maximum.accumulate(rng.random(30))
    scatter = charts.scatter_chart(curve, curve, [CELL] * 30)
    return {
        "title": "a-search-with-a-name-that-is-as-long-as-people-make-them-2026-11-26",
        "lead": "Search in space nasbench201 by sampler predictor with predictor gp, seed 0",
        "about": [("score", "c10_valid_accuracy at 200 epochs in the table nasbench201")],
        "facts": [("FLOPs of the winner (2 per multiply-add)", "243,631,360")] * 6,
        "searched": True,
        "metric": "c10_valid_accuracy",
        "curve": charts.curve_chart(curve, None, "c10_valid_accuracy"),
        "random": False,
        "curve_note": "Best after 30 evaluations.",
        "scatter": scatter,
        "scatter_note": "Kendall tau 0.5.",
        "fronts": [("c10 edgegpu latency ms", scatter)],
        "front": architecture,
        "cell": charts.cell_drawing(space.graphs([space.parse(CELL)])),
        "architecture": CELL,
        "best": architecture,
        "trainings": charts.learning_chart(lines, "validation accuracy", emphasis=2),
        "learning": [("Validation accuracy", charts.learning_chart(lines, "x"), ["a", "b", "c"])],
        "deeds": [Deed("scop", "Remove channels.", "accuracy 0.1 to 0.2; parameters -71%")],
        "classes": class_sections(confusion),
        "stages": TextTable(columns, [sizes] * 3),
        "runtimes": ["start: onnxruntime, 1 thread, medians of 40 batches of 1 image"],
        "resolved": f"name: x\narchitecture: {CELL * 3}\n",
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from started_browser()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(page_of(crowded()), encoding="utf-8")
    return file


@pytest.mark.browser
@NEEDS_CHROMIUM
@pytest.mark.parametrize(
    ("width", "dark"), [(390, False), (390, True), (768, False), (1280, False), (1280, True)]
)
def test_nothing_is_wider_than_the_window(browser: Any, page: Path, width: int, dark: bool) -> None:
    size(browser, width, 900, dark)
    browser.get(page.as_uri())
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script(OUTSIDE) == []
    browser.execute_script("document.querySelector('details').open = true")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    picture(browser, f"report-{width}{'-dark' if dark else ''}")


@pytest.mark.browser
@NEEDS_CHROMIUM
def test_on_paper_it_is_light_and_whole(browser: Any, page: Path) -> None:
    size(browser, 720, 900, dark=True)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.get(page.as_uri())
    colour = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(colour) == "rgb(255, 255, 255)"
    assert browser.execute_script(OUTSIDE) == []
    picture(browser, "report-print")


def test_trainings_of_a_search_are_drawn_wherever_they_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    search = {
        "name": "trained",
        "space": {"name": "nasbench101", "stem_channels": 4, "modules_per_stack": 1},
        "evaluator": {"name": "trained", "recipe": {"epochs": 2}},
        "search": {"sampler": {"name": "random"}, "budget": 2},
        "task": {"dataset": "digits"},
        "storage": f"journal:///{tmp_path / 'shared.log'}",
    }
    file.write_text(yaml.safe_dump(search))
    text = run(file, tmp_path / "run").folder.report.read_text()
    assert "Trainings of the search" in text
    assert all(f"<title>trial {number}</title>" in text for number in (0, 1))
    assert "valid_accuracy after 2 epochs on digits" in text
    assert "digits: 1,797 images of 1 x 8 x 8, 10 classes" in text
