"""A stranger's measurements from end to end: import, search, evaluate, fit, predict."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nasplatform.benchmarks.registry import load_table
from nasplatform.cli import main
from nasplatform.spaces import get_space

SPACE = get_space("nasbench101", stem_channels=4, modules_per_stack=1)
OPTIONS = ["--option", "stem_channels=4", "--option", "modules_per_stack=1"]
OWN = ["--space", "nasbench101", *OPTIONS, "--score", "accuracy"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NASPLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def scores() -> Path:
    """120 cells, more of them good the more parameters they have."""
    cells = SPACE.sample(120, np.random.default_rng(0)).unique()
    graphs = SPACE.graphs(cells)
    noise = np.random.default_rng(1).normal(0, 0.02, len(cells))
    frame = pd.DataFrame(
        {
            "architecture": [SPACE.format(cell) for cell in cells],
            "accuracy": np.log(graphs.total_params) / 20 + noise,
            "latency": graphs.total_flops / 1e6,
        }
    )
    frame.to_csv("mine.csv", index=False)
    return Path("mine.csv")


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> object:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_from_measurements_to_a_search(
    scores: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "import", str(scores), *OWN, "--attribute", "latency"]
    made = answer(capsys, *command)
    assert made == {"name": "mine", "kind": "table", "path": str(home / "mine.parquet")}
    rows = {row["name"]: row for row in answer(capsys, "data", "list")}  # type: ignore[attr-defined]
    assert rows["mine"]["metrics"] == "accuracy"
    assert main(["data", "verify", "mine"]) == 0
    assert main(command) == 2
    assert "a table is called 'mine' already" in capsys.readouterr().err
    assert main([*command, "--force", "--minimize"]) == 0
    assert load_table("mine").direction("accuracy") == "minimize"


def test_evaluate_on_any_table_is_deterministic_and_paired(
    scores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "import", str(scores), *OWN]) == 0
    command = ["predictors", "evaluate", "--table", "mine", "--labels", "10,20", "--draws", "3"]
    command += ["-p", "trees,gp"]
    first, again = answer(capsys, *command), answer(capsys, *command)
    summary = pd.DataFrame(first["summary"])  # type: ignore[index]
    names = {"random", "params", "flops", "one-hot-gp", "one-hot-trees", "gp-trees"}
    assert set(summary["predictor"]) == {*names, "trees", "gp"}
    timed = [name for name in summary if "seconds" in name]
    pd.testing.assert_frame_equal(
        summary.drop(columns=timed),
        pd.DataFrame(again["summary"]).drop(columns=timed),  # type: ignore[index]
    )
    draws = pd.DataFrame(first["draws"])  # type: ignore[index]
    wide = draws[draws["labels"] == 10].pivot(index="draw", columns="predictor", values="kendall")
    gap = wide["params"] - wide["trees"]
    row = summary.set_index(["predictor", "labels"]).loc[("params", 10)]
    assert row["difference"] == pytest.approx(gap.mean())
    assert row["difference_sem"] == pytest.approx(gap.std() / np.sqrt(3))
    assert row["kendall_sem"] == pytest.approx(wide["params"].std() / np.sqrt(3))
    assert wide["params"].mean() > 0.6 > 0.3 > abs(wide["random"].mean())
    assert main([*command[:4], "--labels", "10", "--draws", "1", "-p", "trees", "--csv"]) == 0
    written = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert set(written["predictor"]) == {*names, "trees"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--table", "mine"], "--table needs --labels"),
        (["--table", "mine", "--labels", "119"], "expected 2 to 1"),
        (["--table", "mine", "--labels", "9", "--metric", "acuracy"], "did you mean 'accuracy'"),
        (["--table", "mine", "--labels", "9", "--fidelity", "3"], "no measurements at 3 epochs"),
        (["--table", "min", "--labels", "9"], "unknown table 'min'"),
        (["--table", "mine", "--protocol", "digits"], "one of them"),
        ([], "one of them"),
        (["--protocol", "digits", "--metric", "x"], "a protocol has its own"),
        (["--table", "mine", "--labels", "9", "-p", "gp,x"], "unknown predictor 'x'"),
        (["--table", "mine", "--labels", "9", "-p", "gp,trees", "--set", "steps=1"], "--set is"),
    ],
)
def test_requests_that_cannot_be(
    scores: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "import", str(scores), *OWN]) == 0
    assert main(["predictors", "evaluate", *arguments]) == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("error: ")
    assert words in complaint


@pytest.fixture
def fitted(scores: Path) -> str:
    command = ["predictors", "fit", "--csv", str(scores), *OWN, "--predictor", "trees"]
    assert main([*command, "--out", "model"]) == 0
    return "model"


def test_fit_to_a_file_and_score_a_file(fitted: str, capsys: pytest.CaptureFixture[str]) -> None:
    card = answer(capsys, "predictors", "show", fitted)
    assert card["space"]["stem_channels"] == 4  # type: ignore[index]
    known = {"file": "mine.csv", "metric": "accuracy", "epochs": None}
    assert card["labels"] == known | {"unit": "that of column 'accuracy'"}
    Path("ask.txt").write_text("[3]11/1\nnonsense\n\n[]1\n[3]11/1\n")
    capsys.readouterr()
    assert main(["predict", "-p", fitted, "--file", "ask.txt"]) == 2
    said = capsys.readouterr()
    rows = pd.read_csv(io.StringIO(said.out))
    assert rows["line"].tolist() == [1, 2, 4, 5]
    assert rows["rank"].fillna(0).tolist() == [1, 0, 3, 1]
    assert rows["mean"].isna().tolist() == [False, True, False, False]
    assert "expected '[OPS]BITS'" in rows["error"][1]
    assert said.err.splitlines()[-1].startswith("error: line 2: expected")
    alone = answer(capsys, "predict", "-p", fitted, "[3]11/1")
    assert alone[0]["mean"] == pytest.approx(rows["mean"][0])  # type: ignore[index]


def test_stdin_csv_and_json(
    fitted: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\ufeffid;arch\n1;[3]11/1\n2\n3;[]1\n"
    stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    capsys.readouterr()
    command = ["predict", "-p", fitted, "--file", "-", "--architecture", "arch", "--json"]
    assert main(command) == 2
    rows = json.loads(capsys.readouterr().out)
    assert [row["line"] for row in rows] == [2, 3, 4]
    assert [row["architecture"] for row in rows] == ["[3]11/1", None, "[]1"]
    assert rows[1]["error"] == "1 cells, the header has 2"
    pd.DataFrame({"architecture": ["[3]11/1", "[]1"]}).to_parquet("ask.parquet")
    rows = answer(capsys, "predict", "-p", fitted, "--file", "ask.parquet")  # type: ignore[assignment]
    assert [row["rank"] for row in rows] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "-p", "model"], "one of them"),
        (["predict", "-p", "model", "--file", "none.txt"], "none.txt is not a file"),
        (["predict", "-p", "model", "--file", "mine.csv", "--architecture", "x"], "column is call"),
        (["predictors", "fit", "--predictor", "gp", "--out", "x"], "--csv with --space and"),
        (
            ["predictors", "fit", "--predictor", "gp", "--out", "x", "--csv", "mine.csv"],
            "--csv with --space and",
        ),
        (["data", "import", "mine.csv"], "own measurements need --space and --score"),
        (["data", "import", "mine.csv", "--space", "nasbench101"], "--space S --score C"),
        (["data", "import", "mine.csv", *OWN, "--option", "x"], "expected KEY=VALUE"),
        (["data", "import", "mine.csv", *OWN, "--option", "stem=3"], "unknown key 'stem'"),
        (["data", "import", "mine.csv", *OWN, "--name", "a/b"], "a name has letters"),
    ],
)
@pytest.mark.usefixtures("fitted")
def test_bad_requests_are_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    complaint = said.err.splitlines()[-1]
    assert complaint.startswith("error: ")
    assert words in complaint
