"""A folder of stages whose files are damaged, of an older version or lost."""

import json

import pytest

from nasplatform.errors import RunError
from nasplatform.stages.pipeline import run_pipeline
from nasplatform.testing.tiny import tiny_network, tiny_task


def run(folder):
    train = ("train", {"recipe": {"epochs": 2, "batch_size": 16}})
    return run_pipeline(tiny_network(), tiny_task(), [train], folder, 3)


def shortened(text: str) -> str:
    return text[: len(text) // 2]


def without(*keys: str):
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k not in keys})


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("start.json", shortened),
        ("start.json", without("measurements")),
        ("start.json", lambda text: "7"),
        ("0-train/stage.json", shortened),
        ("0-train/record.json", shortened),
        ("0-train/record.json", without("key")),
        ("0-train/record.json", without("after")),
        ("0-train/record.json", without("metrics")),
        ("0-train/record.json", lambda text: json.dumps(json.loads(text) | {"after": {"a": 1}})),
    ],
)
def test_damaged_records_are_one_clear_line(tmp_path, file, change):
    run(tmp_path)
    (tmp_path / file).write_text(change((tmp_path / file).read_text()))
    with pytest.raises(RunError, match="is damaged") as caught:
        run(tmp_path)
    assert str(tmp_path / file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "place"), [("start.json", "measurements"), ("0-train/record.json", "after")]
)
def test_records_of_an_older_version_are_named_as_such(tmp_path, file, place):
    run(tmp_path)
    values = json.loads((tmp_path / file).read_text())
    del values[place]["latency_64_ms"]
    (tmp_path / file).write_text(json.dumps(values))
    words = r"json is of an older version, which did not measure latency_64_ms; go on with that"
    with pytest.raises(RunError, match=words):
        run(tmp_path)


def test_lost_network_is_one_clear_line(tmp_path):
    run(tmp_path)
    (tmp_path / "0-train" / "network" / "weights.safetensors").unlink()
    with pytest.raises(RunError, match="holds no network that can be loaded"):
        run(tmp_path)
