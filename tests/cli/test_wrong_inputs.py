"""What people type wrong, and the one line that answers: input -> outcome."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasplatform.cli import main

pytestmark = pytest.mark.usefixtures("toy")
BASE = """name: toy
space: {name: bits, n: 8}
evaluator: {name: bits}
predictor: {name: ridge}
search: {budget: 12, sampler: {name: predictor, initial: 4}}
"""
NUMBER, TEXT, LIST = "expected a whole number", "expected text", "expected a list"
BUDGET = "budget: 12"
FILES = [
    (BASE + "seed: 010", ":6: 010 would be read as a number in octal: quote it"),
    (BASE + "seed: yes", ":6: seed: expected a whole number, got true"),
    (BASE + "seed: 1:30", ":6: 1:30 would be read as a number in base 60"),
    (BASE + "seed: 1.5", f"seed: {NUMBER}, got 1.5"),
    (BASE + "seed: -1", "seed: expected a number of at least 0, got -1"),
    (BASE + "seed: 99999999999", "seed: expected a number less than 2147483648"),
    (BASE.replace("name: toy", "name: no"), f":1: name: {TEXT}, got false"),
    (BASE.replace("name: toy", "name:"), f":1: name: {TEXT}, got nothing"),
    (BASE.replace("name: toy", "name: a/b"), "name: expected letters, digits"),
    (BASE.replace(BUDGET, "budget: .nan"), f"search.budget: {NUMBER}, got nan"),
    (BASE.replace(BUDGET, "budget: '12'"), f"search.budget: {NUMBER}, got '12'"),
    (BASE.replace(BUDGET, "budget: [1]"), f"search.budget: {NUMBER}, got [1]"),
    (BASE.replace(BUDGET, BUDGET + ", target: .inf"), "search.target: expected a finite number"),
    (BASE.replace(BUDGET, BUDGET + ", max_seconds: -1"), "max_seconds: expected a number greater"),
    (BASE.replace(BUDGET, BUDGET + ", pruner: x"), "expected 'none', 'median' or 'halving', got"),
    (BASE.replace(BUDGET, BUDGET + ", enqueue: [01010101]"), "in octal: quote it if it is text"),
    (BASE.replace(BUDGET, BUDGET + ", enqueue: x"), f"search.enqueue: {LIST}, got 'x'"),
    (BASE.replace(BUDGET, BUDGET + ", enqueue: [5]"), f"search.enqueue.0: {TEXT}, got 5"),
    (BASE + "stages: {name: train}", f"stages: {LIST}, got {{'name': 'train'}}"),
    (BASE + "stages: train", f"stages: {LIST}, got 'train'"),
    (BASE + "stages: [3]", "stages.0: expected keys and values, got 3"),
    (BASE + "task: digits", "expected keys and values such as {dataset: digits}, got 'digits'"),
    (BASE.replace("{name: ridge}", "ridge"), "such as {name: ridge}, got 'ridge'"),
    (BASE + "device: gpu", "device: expected 'cpu', 'cuda' or 'cuda:NUMBER', got 'gpu'"),
    (BASE + "x: !!python/object:os.x {}", "tags with '!' are not read: plain values only"),
    (BASE + "seed: *nope", "found undefined alias 'nope'"),
    (BASE + "name: b", "name: stands in line 1 already"),
    ("- a", "expected keys and values such as 'name: my-search'"),
    ("a: " + "[" * 3000, "nested"),
]
TYPED = [
    (["--set", "search.budget=yes"], f"search.budget: {NUMBER}, got true"),
    (["--set", "seed=010"], "--set seed=010: 010 would be read as a number in octal"),
    (["--set", "=1"], "--set =1: expected KEY=VALUE such as search.budget=20"),
    (["--set", "search.budget=[1"], "what follows '=' is not a YAML value"),
    (["--set", "name.x=1"], "with --set name.x=1: name: expected text"),
    (["--resume", "--out", "nowhere"], "no run stands here that could go on"),
    (["--warm-start", "nowhere"], "search.warm_start: nowhere: no run stands here"),
]


@pytest.mark.parametrize(("text", "words"), FILES)
def test_wrong_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    file = tmp_path / "toy.yaml"
    file.write_text(text)
    assert main(["run", str(file), "--out", str(tmp_path / "run")]) == 2
    _one_line(capsys.readouterr().err, words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("more", "words"), TYPED)
def test_wrong_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(BASE)
    assert main(["run", "toy.yaml", *more]) == 2
    _one_line(capsys.readouterr().err, words)
    assert not Path("runs").exists()


def _one_line(said: str, words: str) -> None:
    complaint = said.splitlines()[-1]
    assert complaint.startswith("error: ")
    assert words in complaint
    assert len(complaint) < 700
    assert not any(odd in complaint for odd in ("Input should", "Errno", "pydantic", "None"))
