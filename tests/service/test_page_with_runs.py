"""The page of a predictor of NAS-Bench-201, with one run that has ended and one that goes on."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("selenium")

from pages import NEEDS_CHROMIUM, By, by_id, picture, size, started_browser, wait
from served import serving

from nasplatform.predictors import get_predictor
from nasplatform.runs.driver import run
from nasplatform.service import PredictorStore
from nasplatform.spaces import get_space

pytestmark = [pytest.mark.browser, NEEDS_CHROMIUM]
SEARCH = """
name: small
evaluator: {name: table, table: cells-digits, metric: valid_accuracy}
search: {sampler: {name: regularized-evolution}, budget: 25}
"""


@pytest.fixture(scope="module")
def browser():
    yield from started_browser()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The search file, and the folder of three runs of it: one broken off after ten evaluations."""
    folder = tmp_path_factory.mktemp("runs")
    file = folder / "small.yaml"
    file.write_text(SEARCH)
    run(file, folder / "runs" / "ended")
    other = {"evaluator.metric": "test_accuracy", "search.sampler": {"name": "random"}}
    run(file, folder / "runs" / "other", {**other, "search.budget": 5})

    def break_off(event):
        if event.phase == "search" and event.done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(file, folder / "runs" / "going", watch=break_off)
    return file, folder / "runs"


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    space = get_space("nasbench201")
    cells = space.sample(80, np.random.default_rng(0))
    graphs = space.graphs(cells)
    scores = 0.5 + 0.4 * np.tanh(graphs.total_params / graphs.total_params.mean() - 1)
    store = PredictorStore(tmp_path_factory.mktemp("nb201") / "store")
    store.publish("cifar", get_predictor("gp", steps=20).fit(graphs, scores), space)
    with serving(store, runs=runs[1], reference=10_000) as running:
        yield running


def table(browser):
    """Run -> the other columns, read at once, since the page writes the table anew."""
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#run-table tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )
    return {row[0]: row[1:] for row in rows}


def opened(browser, page, width=1280, dark=False):
    size(browser, width, 900, dark)
    browser.get("about:blank")
    browser.get(page.url)
    wait(browser, lambda: by_id(browser, "hash").text.isalnum())
    wait(browser, lambda: "6,466" in by_id(browser, "rank").text)
    wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#scatter svg"))


def test_another_space_has_a_builder_of_its_own(browser, page):
    opened(browser, page)
    selects = browser.find_elements(By.CSS_SELECTOR, "#decisions select")
    assert len(selects) == 6
    assert not browser.find_elements(By.CSS_SELECTOR, "#decisions table")
    text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
    field = by_id(browser, "text")
    browser.execute_script("arguments[0].value = ''", field)
    field.send_keys(text)
    expected = get_space("nasbench201").parse(text).hash
    wait(browser, lambda: by_id(browser, "hash").text == expected)
    names = [select.get_attribute("name") for select in selects]
    chosen = [
        select.find_element(By.CSS_SELECTOR, "option:checked").text
        for select in browser.find_elements(By.CSS_SELECTOR, "#decisions select")
    ]
    assert dict(zip(names, chosen, strict=True))["edge_2_3"].startswith("avg pool")
    drawn = [node.text for node in browser.find_elements(By.CSS_SELECTOR, "#drawing text.name")]
    assert drawn[0] == "input"
    assert drawn[-1] == "output"
    assert len(drawn) == 2 + 3  # of four operations; that from 0 to 1 has no way to the output
    local, space = page.store.load(page.store.find("cifar"))
    mean = local.predict(space.graphs([space.parse(text)])).mean[0]
    assert float(by_id(browser, "mean").text) == pytest.approx(mean, abs=6e-4)
    picture(browser, "nb201")


def test_runs_are_shown_and_followed(browser, page, runs):
    opened(browser, page)
    found = wait(browser, lambda: table(browser))
    states = {name.rpartition("/")[2]: row for name, row in found.items()}
    assert states["ended"][:3] == ["finished", "regularized-evolution", "25 of 25"]
    assert states["going"][0] == "searching"
    assert states["going"][2] in ("9 of 25", "10 of 25")
    lines = browser.find_elements(By.CSS_SELECTOR, "#runs path.line")
    assert len(lines) == 3
    charts = browser.find_elements(By.CSS_SELECTOR, "#runs .chart")
    assert [len(one.find_elements(By.CSS_SELECTOR, "path.line")) for one in charts] == [2, 1]
    titles = [one.text for one in browser.find_elements(By.CSS_SELECTOR, "#runs h3")]
    assert titles == ["valid_accuracy: ended, going", "test_accuracy: other"]
    picture(browser, "runs")
    run(runs[0], runs[1] / "going", resume=True)
    wait(browser, lambda: {row[0] for row in table(browser).values()} == {"finished"}, 30)


@pytest.mark.parametrize(
    ("name", "width", "dark"), [("nb201-dark", 1280, True), ("nb201-phone", 375, False)]
)
def test_it_fits_in_the_dark_and_on_a_phone(browser, page, name, width, dark):
    opened(browser, page, width, dark)
    wait(browser, lambda: table(browser))
    inside = "return document.documentElement.scrollWidth <= innerWidth"
    assert browser.execute_script(inside), "the page is wider than the window"
    picture(browser, name)
