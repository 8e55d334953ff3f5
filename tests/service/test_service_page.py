"""A real browser at the real page."""

from __future__ import annotations

import pytest

pytest.importorskip("selenium")

from pages import NEEDS_CHROMIUM, By, Keys, by_id, picture, size, started_browser, wait

pytestmark = [pytest.mark.browser, NEEDS_CHROMIUM]


@pytest.fixture(scope="module")
def browser():
    yield from started_browser()


def opened(browser, service, text):
    browser.get("about:blank")
    browser.get(f"{service.url}/#predictor=demo&architecture={text}")
    wait(browser, lambda: by_id(browser, "hash").text.isalnum())
    wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#scatter svg"))


def test_a_cell_is_built_and_its_prediction_read(browser, service, fitted):
    size(browser, 1280, 900)
    opened(browser, service, "[3M]101/10/1")
    for name in ("edge_0_2", "edge_2_6"):  # the pooling now leads nowhere
        browser.find_element(By.NAME, name).click()
    browser.find_element(By.NAME, "edge_1_6").click()
    params = fitted.space.to_params(fitted.space.parse("[3M]101/10/1"))
    changed = {"edge_0_2": 1, "edge_2_6": 0, "edge_1_6": 1}
    expected = fitted.space.from_params({**params, **changed})
    wait(browser, lambda: by_id(browser, "hash").text == expected.hash)
    graphs = fitted.space.graphs([expected])
    said = fitted.predictor.predict(graphs)
    assert float(by_id(browser, "mean").text) == pytest.approx(said.mean[0], abs=1e-4)
    assert float(by_id(browser, "std").text) == pytest.approx(said.std[0], abs=1e-4)
    assert by_id(browser, "params").text == f"{graphs.total_params[0]:,}"
    assert by_id(browser, "text").get_attribute("value") == fitted.space.format(expected)
    nodes = browser.find_elements(By.CSS_SELECTOR, "#drawing .node")
    assert len(nodes) == graphs.ops.shape[1] - int((graphs.ops < 0).sum())
    picture(browser, "light")


def test_a_pasted_text_is_drawn_and_a_bad_one_explained(browser, service, fitted):
    size(browser, 1280, 900)
    opened(browser, service, "[]1")
    field = by_id(browser, "text")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("[3M]101/10/")
    wait(browser, lambda: "4 vertices need rows" in by_id(browser, "text-error").text)
    field.send_keys("1")
    wait(browser, lambda: by_id(browser, "hash").text == fitted.space.parse("[3M]101/10/1").hash)
    assert by_id(browser, "text-error").text == ""
    boxes = browser.find_elements(By.CSS_SELECTOR, ".matrix input:checked")
    assert [box.get_attribute("name") for box in boxes] == [
        "edge_0_1", "edge_0_6", "edge_1_2", "edge_2_6"
    ]  # fmt: skip


def test_everything_is_reached_by_keyboard(browser, service):
    size(browser, 1280, 900)
    opened(browser, service, "[3M]101/10/1")
    browser.execute_script("document.activeElement.blur()")
    reached = set()
    for _ in range(60):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        reached.add(active.get_attribute("id") or active.get_attribute("name"))
        if active.get_attribute("name") == "edge_0_2":
            before = by_id(browser, "hash").text
            active.send_keys(Keys.SPACE)
            wait(browser, lambda before=before: by_id(browser, "hash").text != before)
    wanted = {"predictor", "text", "random", "best", "op_1", "op_5", "edge_0_1", "edge_5_6"}
    assert wanted | {"max-params", "max-flops"} <= reached


def test_suggestions_are_shown_and_taken(browser, service):
    size(browser, 1280, 900)
    opened(browser, service, "[]1")
    by_id(browser, "max-params").send_keys("5")
    browser.find_element(By.CSS_SELECTOR, "#suggest-form button").click()
    buttons = wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#suggestions button"))
    assert len(buttons) == 10
    text = buttons[3].text
    buttons[3].click()
    wait(browser, lambda: by_id(browser, "text").get_attribute("value") == text)
    assert int(by_id(browser, "params").text.replace(",", "")) <= 5_000_000


@pytest.mark.parametrize(("name", "width", "dark"), [("dark", 1280, True), ("phone", 375, False)])
def test_it_fits_in_the_dark_and_on_a_phone(browser, service, name, width, dark):
    size(browser, width, 800, dark)
    opened(browser, service, "[3M1]1011/110/01/1")
    inside = "return document.documentElement.scrollWidth <= innerWidth"
    assert browser.execute_script(inside), "the page is wider than the window"
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    light = sum(int(part) for part in colour[4:-1].split(",")) > 380
    assert light is not dark
    picture(browser, name)


def test_the_api_is_described_without_a_network(browser, service):
    size(browser, 1280, 900)
    browser.get(f"{service.url}/docs")
    found = wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".operation"))
    assert len(found) > 15
    found[2].find_element(By.TAG_NAME, "summary").click()
    assert "architectures" in found[2].text
    picture(browser, "docs")


def test_the_console_is_quiet_and_nothing_comes_from_elsewhere(browser, service):
    opened(browser, service, "[3M]101/10/1")
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    # A space that is still being ranked, and a text that is no cell, are answers of the tests.
    assert not [e for e in severe if "503" not in e["message"] and "422" not in e["message"]]
    script = "return performance.getEntriesByType('resource').map(e => e.name)"
    assert all(name.startswith(service.url) for name in browser.execute_script(script))
