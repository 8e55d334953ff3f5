"""Numbers and paths typed at the command line: read by the rule of the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasplatform.cli import main

WHOLE = [
    "1_0",
    "\u0663",
    "\uff15",
    "1e3",
    "5.0",
    "0x10",
    "010",
    "1,5",
    "nan",
    "inf",
    "\u00b2",
    "9" * 5000,
]
REAL = ["1_0", "\u0663", "1,5", "nan", "inf", "0x1p3", "1e999", "1 0", "1e", "."]
OF_WHOLE = {
    "--port": ["serve", "--predictors", "s", "--port"],
    "--top": ["results", "show", "--top"],
    "--draws": ["predictors", "evaluate", "-p", "gp", "--table", "x", "--draws"],
    "--fidelity": ["predictors", "evaluate", "-p", "gp", "--table", "x", "--fidelity"],
    "--labels": ["predictors", "fit", "--predictor", "gp", "--out", "p", "--labels"],
    "--seed": ["predictors", "fit", "--predictor", "gp", "--out", "p", "--seed"],
    "--workers": ["data", "build", "nosuch", "--workers"],
}
OF_REAL = {
    "--every": ["status", "--storage", "sqlite:///x.db", "--every"],
    "--wait": ["worker", "toy.yaml", "--storage", "sqlite:///x.db", "--wait"],
}

OF_PATH = {
    "run --out": ["run", "toy.yaml", "--out"],
    "export out": ["export", "network"],
    "results export --out": ["results", "export", "--out"],
    "serve --predictors": ["serve", "--predictors"],
    "serve --api-keys": ["serve", "--api-keys"],
    "predictors fit --out": ["predictors", "fit", "--predictor", "gp", "--out"],
    "data import --out": ["data", "import", "nasbench201", "nofile", "--out"],
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", WHOLE, ids=range(len(WHOLE)))
@pytest.mark.parametrize("option", OF_WHOLE)
def test_no_whole_numbers(option: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*OF_WHOLE[option], text]) == 2
    assert_line(capsys, f"Invalid value for '{option}': expected a whole number, got '{text[:9]}")


@pytest.mark.parametrize("text", REAL)
@pytest.mark.parametrize("option", OF_REAL)
def test_no_numbers(option: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*OF_REAL[option], text]) == 2
    assert_line(capsys, f"Invalid value for '{option}': expected a number, got '{text}'")


@pytest.mark.parametrize("text", ["1_0", "\u0663", "1e2", "10,,20", "10.0", "10;20", "9" * 5000])
def test_no_counts_of_labels(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predictors", "evaluate", "-p", "gp", "--table", "x", "--labels", text]) == 2
    assert_line(capsys, "expected numbers set apart by commas, e.g. 100,172")


@pytest.mark.parametrize("text", ["5", " 5", "+5", "5\n"])
def test_whole_numbers_are_read_as_in_files(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*OF_WHOLE["--top"], text]) == 2
    assert_line(capsys, "runs: no run stands here or below")


@pytest.mark.parametrize("text", ["5", ".5", "5.", "1e3", "2.5E-1", " 5"])
def test_numbers_are_read_as_in_files(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*OF_REAL["--every"], text]) == 2
    assert_line(capsys, "x.db: no such file")


@pytest.mark.parametrize("option", OF_PATH)
def test_no_shell_has_written_the_home_out(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = option.rpartition(" ")[2]
    assert main([*OF_PATH[option], "~/mine"]) == 2
    assert_line(capsys, f"for '{name}': '~/mine': only a shell writes ~ out: give the whole path")


def test_a_name_with_a_wave_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "show", "~nobody-of-that-name"]) == 2
    assert_line(capsys, "~nobody-of-that-name")


def assert_line(capsys: pytest.CaptureFixture[str], words: str) -> None:
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("error: ")
    assert words in complaint
    assert not list(Path().iterdir())
