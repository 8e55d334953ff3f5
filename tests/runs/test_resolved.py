"""Runs read back from their folders, whole ones and others."""

from pathlib import Path

import pytest
import yaml

import nasplatform
from nasplatform.cli import main
from nasplatform.errors import RunError
from nasplatform.runs.driver import run
from nasplatform.runs.folder import RunFolder
from nasplatform.runs.resolved import ResolvedSearch
from nasplatform.runs.run import Run

pytestmark = pytest.mark.usefixtures("toy")
SEARCH = {
    "name": "toy",
    "space": {"name": "bits", "n": 6},
    "evaluator": {"name": "bits"},
    "search": {"sampler": {"name": "random"}, "budget": 3},
}
OLD = {**SEARCH, "search": {"sampler": "random", "budget": 3}}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One run as it should be."""
    file = tmp_path / "search.yaml"
    file.write_text(yaml.safe_dump(SEARCH))
    run(file, tmp_path / "runs" / "whole")
    return tmp_path / "runs"


def put(folder: Path, text: str) -> None:
    folder.mkdir()
    RunFolder(folder).resolved.write_text(text)


def test_a_resolved_file_is_read_with_every_default(runs: Path) -> None:
    config = RunFolder(runs / "whole").read()
    assert isinstance(config, ResolvedSearch)
    assert config.space.options == {"n": 6, "enumerable": True}
    assert config.search.objectives == {}
    assert config.provenance.measured == "ones"
    assert "torch" in config.provenance.versions


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (yaml.safe_dump(OLD), r"resolved.yaml: not of this version, or damaged .*force=True"),
        ("name: [", r"resolved.yaml:1: broken YAML"),
        ("just words", r"resolved.yaml: holds no run"),
        ("network: {name: resnet}\nname: x\n", r"not of this version, or damaged"),
    ],
)
def test_what_is_no_run_of_this_version_is_refused_in_a_line(
    tmp_path: Path, text: str, words: str
) -> None:
    put(tmp_path / "odd", text)
    for read in (Run, nasplatform.list_runs, nasplatform.read_runs):
        with pytest.raises(RunError, match=words) as caught:
            read(tmp_path / "odd")
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("default::UserWarning")  # that name what is left out
def test_a_damaged_run_never_takes_the_list_down(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(runs / "older", yaml.safe_dump(OLD))
    put(runs / "unread", (runs / "whole" / "resolved.yaml").read_text())
    RunFolder(runs / "unread").evaluations.write_bytes(b"garbage")
    put(runs / "unknown", (runs / "whole" / "resolved.yaml").read_text().replace("bits", "bats"))
    RunFolder(runs / "unknown").study.write_bytes((runs / "whole" / "study.db").read_bytes())
    with pytest.warns(UserWarning, match="a run is left out: ") as warned:
        listed = nasplatform.list_runs(runs)
    assert listed["run"].tolist() == ["whole"]
    told = [str(one.message) for one in warned]
    for name in ("older", "unread", "unknown"):
        assert sum(f"{name}" in text for text in told) == 1
    with pytest.warns(UserWarning, match="left out"):
        assert set(nasplatform.read_runs(runs)["run"]) == {"whole"}
    assert main(["results", "list", str(runs)]) == 0
    said = capsys.readouterr()
    assert "whole" in said.out
    assert said.err.count("warning: a run is left out: ") == 3
