"""What makes reading many runs quick gives what the plain way gives."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

import nasplatform
from nasplatform.runs.events import Event
from nasplatform.yaml_source import plain_yaml, quick_yaml

TEXTS = [
    "a: 1\nb: [1, 2.5, null]\nc: {d: yes, e: 2001-12-14}\n",
    "a: 1e5\nb: 1_000\nc: 0x1F\nd: .nan\ne: .inf\n",
    'a: "\\ud800"',
    "a: 010",
    "a: 1:30",
    "a: b: c",
    "a: &a [*a]",
    "&a [1, *a]",
    "a: !!python/object:os.x {}",
    "[" * 5000,
    "- " * 3000,
    "\u0001",
    "",
]


def told(read: object, text: str) -> str:
    try:
        return repr(read(text))  # type: ignore[operator]  # either reader
    except yaml.YAMLError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_both_readers_of_yaml_say_the_same(text: str) -> None:
    assert told(quick_yaml, text) == told(plain_yaml, text)


def test_shipped_files_are_read_alike() -> None:
    for file in Path("searches").glob("*.yaml"):
        text = file.read_text()
        assert quick_yaml(text) == plain_yaml(text)


@pytest.mark.usefixtures("toy")
def test_a_frame_has_the_same_dtypes_live_finished_and_of_many_runs(tmp_path: Path) -> None:
    file = tmp_path / "toy.yaml"
    bits = {"name": "bits", "n": 8}
    content = {"name": "toy", "space": bits, "evaluator": {"name": "bits"}}
    file.write_text(yaml.safe_dump(content | {"search": {"sampler": {"name": "random"}}}))
    live: list[pd.DataFrame] = []

    def look(event: Event) -> None:
        if event.phase == "search" and event.done == 3:
            live.append(nasplatform.read_runs(tmp_path / "runs" / "a"))

    nasplatform.run(file, tmp_path / "runs" / "a", {"search.budget": 4}, watch=look)
    one = nasplatform.read_runs(tmp_path / "runs" / "a")
    assert len(live[0]) == 3
    assert dict(live[0].dtypes) == dict(one.dtypes)
    pd.testing.assert_frame_equal(live[0], one.iloc[:3])
    two = {"search.budget": 20, "seed": 1, "search.objectives": {"ones": "minimize"}}
    nasplatform.run(file, tmp_path / "runs" / "b", two | {"search.sampler.name": "nsga2"})
    both = nasplatform.read_runs(tmp_path / "runs")
    assert both["run"].tolist() == ["a"] * 4 + ["b"] * 20
    assert dict(both[one.columns].dtypes) == dict(one.dtypes)
    assert both["pareto"].isna().tolist() == [True] * 4 + [False] * 20
