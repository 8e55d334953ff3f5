"""The search file that comes with the platform, cut short, and what is said before it is paid."""

from pathlib import Path

import pytest

from nasplatform.errors import ConfigError
from nasplatform.runs import driver

FILE = Path(__file__).parents[3] / "searches" / "unlabelled.yaml"
SHORT = {
    "search.sampler": {"name": "random"},
    "search.budget": 1,
    "search.enqueue": ["[3M1]1011/110/01/1"],
    "stages.0.recipe": {"epochs": 1},
    "stages.1": {"name": "scop", "criterion": "l1", "rate": 0.5, "recipe": {"epochs": 1}},
    "stages.2.recipe": {"epochs": 1},
}


def test_file_runs_from_search_to_distillation(tmp_path):
    found = driver.run(FILE, tmp_path / "run", SHORT)
    last = found.stages.iloc[-1]
    assert last["stage"] == "distill"
    assert last["metric_labelled_images"] == 45
    assert last["metric_unlabelled_images"] == 898
    assert last["after_macs"] < last["before_macs"] * 1.01


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("labels", 0.001, r"unlabelled.yaml:\d+.*: stages.2: labels: 0.001 asks for 0"),
        ("unlabelled", {"folder": "nowhere"}, r"stages.2: unlabelled: nowhere is not a directory"),
        ("teacher", {"onnx": "no.onnx"}, r"stages.2: teacher no.onnx: there is no such file"),
    ],
)
def test_refused_before_the_search(tmp_path, key, value, words):
    with pytest.raises(ConfigError, match=words):
        driver.run(FILE, tmp_path / "run", {f"stages.2.{key}": value})
    assert not (tmp_path / "run").exists()
