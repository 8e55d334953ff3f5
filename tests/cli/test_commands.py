"""The command line as a user meets it."""

import json
from pathlib import Path

import pytest
import yaml

from nasplatform.cli import main

SEARCH = {
    "name": "toy",
    "space": {"name": "bits", "n": 8},
    "evaluator": {"name": "bits"},
    "predictor": {"name": "ridge"},
    "search": {"budget": 12, "sampler": {"name": "predictor", "initial": 4}},
}
pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(SEARCH))
    return file


def test_run_then_look_at_it(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(search)]) == 0
    said = capsys.readouterr()
    assert "best of 12 evaluations" in said.out
    assert "search 12/12" in said.err
    assert main(["results", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["run"], row["state"], row["evaluations"]) == ("toy", "finished", 12)
    assert main(["results", "show", "runs/toy"]) == 0
    assert "predicted" in capsys.readouterr().out
    assert main(["results", "export", "runs", "--out", "all.csv"]) == 0
    assert len(Path("all.csv").read_text().splitlines()) == 13
    best = row["architecture"]
    assert main(["predict", "-p", "runs/toy", best, "00000000", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["mean"] > second["mean"]
    assert main(["predictors", "show", "runs/toy", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["n_labels"] == 12
    assert "about" in card
    assert set(card["labels"]) == {"measured", "metric", "epochs", "unit"}


def test_predictors_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predictors", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"default", "renas", "assessor", "gp-trees"} <= set(rows)
    for name in ("default", "renas", "assessor", "gp-trees"):
        assert rows[name]["summary"].endswith(".")
        assert all(rows[name]["meanings"][option] for option in rows[name]["options"])
    assert main(["predictors", "list"]) == 0
    assert "batch_size = 128  # architectures whose pairs" in capsys.readouterr().out


def test_set_and_json(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", str(search), "--set", "search.budget=6", "--set", "name=b", "--json"]
    assert main(command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["evaluations"] == 6
    assert summary["run"] == "runs/b"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "missing.yaml"], "missing.yaml: no such file"),
        (["run", "toy.yaml", "--set", "search.budget=x"], "search.budget"),
        (["run", "toy.yaml", "--set", "search.budget"], "KEY=VALUE"),
        (["run", "toy.yaml", "--set", "evaluator.name=tabel"], "did you mean 'table'"),
        (["run", "toy.yaml", "--set", "evaluator.name=tabel"], ": --set evaluator.name=tabel: "),
        (["run", "toy.yaml", "--set", "space.n=1"], " with --set space.n=1: space: "),
        (
            ["run", "toy.yaml", "--set", "search.budget=3"],
            "--set search.budget=3: search.budget: 3 evaluations do not pay for the 4 initial",
        ),
        (
            ["run", "toy.yaml", "--set", "search={sampler: {name: tpe}, budget: 3}"],
            "error: --set search={'sampler': {'name': 'tpe'}, 'budget': 3}: search.budget: ",
        ),
        (
            ["run", "toy.yaml", "--set", "search.objectives={flop: minimize}"],
            "with --set search.objectives={'flop': 'minimize'}: search: objectives: ",
        ),
        (["run", "toy.yaml", "--resume", "--force"], "exclude each other"),
        (["run"], "Missing argument"),
        (["rum"], "No such command"),
        (["results", "show", "nowhere"], "no run stands here"),
        (["results", "export", "runs", "--out", "x.xls"], "unknown format 'xls'"),
        (["predict", "-p", "nowhere", "0"], "no predictor stands here"),
        (["data", "build", "cells-digit"], "did you mean 'cells-digits'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    search: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    complaint = said.err.splitlines()[-1]
    assert complaint.startswith("error: ")
    assert words in complaint
    assert not Path("runs").exists()


def test_broken_architecture_is_named(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(search)]) == 0
    capsys.readouterr()
    assert main(["predict", "-p", "runs/toy", "00000000", "0102"]) == 2
    assert "architecture 2: expected 8 bits, found '0102'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "broken YAML"),
        ("name: a\nname: b\n", "stands in line 1 already"),
        ("just words", "expected keys and values"),
        ("", "expected keys and values"),
    ],
)
def test_broken_yaml(
    search: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    search.write_text(text)
    assert main(["run", str(search)]) == 2
    assert words in capsys.readouterr().err


def test_plugins_lists_what_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nasplatform import plugins

    folder = tmp_path / "broken-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[nasplatform.stages]\nodd = no_such_module:Odd\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins._entries.cache_clear()
    assert main(["plugins", "--json"]) == 0
    rows = {(row["kind"], row["name"]): row for row in json.loads(capsys.readouterr().out)}
    assert rows["spaces", "bits"]["origin"] == "nasplatform-toy"
    assert "no_such_module" in rows["stages", "odd"]["error"]
    assert rows["spaces", "nasbench101"]["error"] is None


def test_two_plugins_of_one_name_disable_that_name_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nasplatform import plugins

    folder = tmp_path / "clash-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: clash\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[nasplatform.spaces]\nbits = other:Bits\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins._entries.cache_clear()
    assert main(["plugins", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    errors = {row["name"]: row["error"] for row in told if row["kind"] == "spaces"}
    assert "two spaces are called 'bits'" in errors["bits"]
    assert errors["nasbench201"] is None


def test_export_keeps_what_stands(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(search)]) == 0
    Path("all.csv").write_text("mine")
    for out, words in [
        ("all.csv", "stands there already; --force"),
        ("new/all.csv", "there is no folder new"),
        ("runs", "expected a name such as all.csv"),
    ]:
        assert main(["results", "export", "runs", "--out", out]) == 2
        assert words in capsys.readouterr().err
    assert Path("all.csv").read_text() == "mine"
    assert not Path("new").exists()
    assert main(["results", "export", "runs", "--out", "all.csv", "--force"]) == 0
    assert len(Path("all.csv").read_text().splitlines()) == 13


@pytest.mark.parametrize("command", ["run", "serve", "predictors fit", "data import"])
def test_flags_have_no_type_in_the_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    told = capsys.readouterr().out
    assert "--help" in told
    assert "Show this message" in told
    assert "<bool>" not in told
    assert "BOOLEAN" not in told
