"""What people give to commands: input -> the one line that answers. Python's are beside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import nasplatform
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
    (BASE + "seed: 1_0", ":6: 1_0 would be read as 10: write 10, or quote it if it is text"),
    (BASE.replace(BUDGET, "budget: 10_0"), ":5: 10_0 would be read as 100"),
    (BASE + "seed: yes", ":6: seed: expected a whole number, got true"),
    (BASE + "seed: 1:30", ":6: 1:30 would be read as a number in base 60"),
    (BASE + "seed: 1.5", f"seed: {NUMBER}, got 1.5"),
    (BASE + "seed: 3.0", f"seed: {NUMBER}, got 3.0"),
    (BASE.replace(BUDGET, "budget: 12.0"), f"search.budget: {NUMBER}, got 12.0"),
    (BASE.replace("n: 8", "n: 8.0"), "space: space 'bits'.n: expected a whole number, got 8.0"),
    (BASE + "seed: -1", "seed: expected a number of at least 0, got -1"),
    (BASE + "seed: 99999999999", "seed: expected a number less than 2147483648"),
    (BASE.replace("name: toy", "name: no"), f":1: name: {TEXT}, got false"),
    (BASE.replace("name: toy", "name:"), f":1: name: {TEXT}, got nothing"),
    (BASE.replace("name: toy", "name: a/b"), "name: expected letters, digits"),
    (BASE.replace(BUDGET, "budget: .nan"), "search.budget: expected a finite number, got nan"),
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
    ("", "expected keys and values such as 'name: my-search'"),
    ("just words", "expected keys and values such as 'name: my-search'"),
    ("name: t\n\tevaluator: x", ":2: broken YAML, column 1: found character"),
    (BASE + "---\n" + BASE, "found another document"),
    ("name: \0", "broken YAML: character number 7 is not allowed"),
    (BASE.replace("n: 8", "n: eight"), "space: space 'bits'.n: expected a whole number"),
    (BASE.replace("bits, n", "bots, n"), "unknown space 'bots'"),
    (BASE.replace("predictor: {", "predicter: {"), "unknown key 'predicter'; did you mean"),
    (BASE.replace("{name: ridge}", "{}"), "predictor.name: this key is required"),
    (BASE.replace("initial: 4", "initial: 40"), "12 evaluations do not pay for the 40 initial"),
    (BASE.replace("initial: 4", "intial: 4"), "unknown key 'intial'; did you mean 'initial'?"),
    (BASE.replace("budget: 12", "budget: 1e1"), f"search.budget: {NUMBER}, got '1e1'"),
    (BASE.replace("budget: 12", "budget: 0"), "expected a number of at least 1, got 0"),
    (BASE.replace(BUDGET, BUDGET + ", objectives: {params: min}"), "'minimize' or 'maximize', got"),
    (BASE.replace(BUDGET, BUDGET + ", constraints: {params: 3}"), "expected max_NAME or min_NAME"),
    (BASE.replace(BUDGET, BUDGET + ", objectives: {parameters: minimize}"), "mean 'params'?"),
    (BASE.replace(BUDGET, BUDGET + ", constraints: {max_parameters: 3}"), "mean 'params'?"),
    (BASE.replace(BUDGET, BUDGET + ", budget: 13"), ":5: budget: stands twice"),
    (BASE.replace(BUDGET, "budget: 1,000"), ":5: 000: no key: a number has a point, if any, and"),
    (BASE.replace(BUDGET, BUDGET + ", target: 0,5"), ":5: 5: no key: a number has a point, if any"),
    (BASE.replace(BUDGET, "budget: 2020-01-01"), f"search.budget: {NUMBER}, got '2020-01-01'"),
    (BASE.replace(BUDGET, "budget: \uff11\uff12"), f"search.budget: {NUMBER}, got '\uff11\uff12'"),
    (BASE.replace(BUDGET, BUDGET + ", max_seconds: 1h"), "expected a number, got '1h'"),
    (BASE.replace(BUDGET, BUDGET + ", target: -.inf"), "search.target: expected a finite number"),
    (BASE.replace(BUDGET, BUDGET + ", enqueue: [null]"), f"search.enqueue.0: {TEXT}, got nothing"),
    (BASE.replace(BUDGET, BUDGET + ", objectives: {score: minimize}"), "'score' is the score"),
    (BASE.replace(BUDGET, BUDGET + ", objectives: [flops]"), "expected keys and values, got"),
    (
        BASE.replace(BUDGET, BUDGET + ", constraints: {max_params: .inf}"),
        "a finite number, got inf",
    ),
    (
        BASE.replace(BUDGET, BUDGET + ", constraints: {max_params: .nan}"),
        "a finite number, got nan",
    ),
    (BASE.replace(BUDGET, BUDGET + ", constraints: {MAX_params: 3}"), "expected max_NAME or min_N"),
    (BASE.replace("name: toy", 'name: "t\\u202e"'), "name: expected letters, digits"),
    (BASE + "stages:", f"stages: {LIST}, got nothing"),
    (BASE + "seed:", f"seed: {NUMBER}, got nothing"),
    (BASE + "checkpoints: ''", "checkpoints: expected text of at least 1 characters"),
    (BASE + "storage: 'sqlite://'", "is lost with the process, expected sqlite:///FILE"),
    (BASE + "storage: 'sqlite:///:memory:'", "is lost with the process, expected sqlite:///FILE"),
    (BASE + "executor: {name: process, workers: 0}", "executor.workers: expected a number of at l"),
    (BASE.replace(BUDGET, BUDGET + ",\n  budget: 13"), ":6: budget: stands in line 5 already"),
    ('{"name": "toy",\n "name": "toy"}', ":2: name: stands in line 1 already"),
    (
        BASE.replace(BUDGET, BUDGET + ", constraints: {max_params: 1M}"),
        "expected a number, got '1M'",
    ),
    (BASE.replace(BUDGET, BUDGET + ", enqueue: [abc]"), "search.enqueue.0: expected 8 bits"),
    (BASE.replace(BUDGET, BUDGET + ", warm_start: nowhere"), "nowhere: no run stands here"),
    (BASE + "task: {dataset: digit}", "unknown dataset 'digit'; did you mean 'digits'?"),
    (BASE + "stages: [{name: train}]", "stages"),
    (BASE + "stages: [{name: trian}]", "unknown stage 'trian'; did you mean 'train'?"),
    (BASE + "runtime: onnx", "unknown runtime 'onnx'"),
    (BASE + "storage: mysql://h/d", "needs a driver|shared through SQLite or PostgreSQL"),
    (BASE + "storage: journal:x", "no URL of a storage, such as"),
    (BASE + "storage: journal://host/x", "expected journal:///FILE"),
    (BASE + "storage: sqlite:///no/where.db", "cannot be written: no folder for where.db there"),
    (BASE + "executor: {name: slurm}", "unknown executor 'slurm'"),
    (BASE + "network: {name: resnet}", "a file starts from a network or a search"),
]
TYPED = [
    (["--set", "search.budget=yes"], f"search.budget: {NUMBER}, got true"),
    (["--set", "seed=010"], "--set seed=010: 010 would be read as a number in octal"),
    (["--set", "search.budget=10_0"], "10_0 would be read as 100: write 100, or quote it"),
    (["--set", "search={budget: 1, budget: 2}"], "budget: stands twice"),
    (["--set", "=1"], "--set =1: expected KEY=VALUE such as search.budget=20"),
    (["--set", "search.budget=[1"], "what follows '=' is not a YAML value"),
    (["--set", "name.x=1"], "with --set name.x=1: name: expected text"),
    (["--resume", "--out", "nowhere"], "no run stands here that could go on"),
    (["--warm-start", "nowhere"], "search.warm_start: nowhere: no run stands here"),
    (["--set", "search..budget=3"], "expected keys with '.' between them, one is empty"),
    (["--set", ".seed=3"], "expected keys with '.' between them, one is empty"),
    (["--set", "search.budget"], "expected KEY=VALUE such as search.budget=20"),
    (["--set", "search.enqueue.\u00b2=3"], "search.enqueue"),
    (["--set", "device=cuda:\u0663"], "device: expected 'cpu', 'cuda' or 'cuda:NUMBER', got"),
    (["--set", "search.n_trials=3"], "search.n_trials: unknown key 'n_trials'; known are budget"),
    (["--set", "search.rounds=3"], "stand beside its name: sampler: {name: predictor, rounds: 3"),
    (["--set", "search.budget.x=3"], f"search.budget: {NUMBER}"),
    (["--set", "stages.0.name=train"], "stages: expected a list"),
    (["--set", "search.__class__=3"], "search.__class__"),
    (["--set", "\u017fearch.budget=3"], "did you mean 'search'?"),
    (["--set", "name=s\u00fccht"], "name: expected letters, digits"),
    (["--set", "search.enqueue=[00000000, 00000001]"], "in octal"),
    (["--set", "seed=-3"], "seed: expected a number of at least 0, got -3"),
    (["--set", "predictor=null"], "sampler 'predictor' needs a predictor"),
    (["--out", "toy.yaml"], "toy.yaml: is a file, expected the folder of a run"),
    (["--out", "other/inner"], "other/inner: lies within the run "),
    (["--out", "outer", "--force"], "outer: holds another run, outer/models/inner; give another"),
    (["--publish", "st:a/b"], "--publish st:a/b: expected DIR or DIR:NAME, a name of letters"),
    (["--publish", "st:"], "--publish st:: expected DIR or DIR:NAME, a name of letters"),
    (["--out", "toy.yaml/x"], "toy.yaml/x: Not a directory"),
    (["--out", ""], "an empty text after --out: expected a value; a variable of the shell may be"),
    (["--out="], "--out=: expected a value; a variable of the shell may be unset"),
    (["--set", ""], "an empty text after --set: expected a value"),
    (["--set", "predictor.strength='1_0'"], "expected a number, got '1_0'"),
    (["--set", "search.sampler.initial='4'"], "expected a whole number, got '4'"),
    (["--resume", "--force"], "--resume and --force exclude each other"),
    (["--bugdet", "3"], "No such option"),
    (["more"], "unexpected extra argument"),
]
OTHERS = [
    (["run", "nope.yaml"], "nope.yaml: no such file"),
    (["run", "."], "cannot be read as a text file"),
    (["run", "utf16.yaml"], "cannot be read as a text file"),
    (["run", "photo.jpg"], "cannot be read as a text file"),
    (
        ["results", "export", ".", "--out", "x.csv", "--frame", "evaluation"],
        "--frame': 'evaluation' is not one of 'runs', 'evaluations', 'predictions'",
    ),
    (["compress", "toy.yaml"], "starts from a search, not a network: nasplatform run"),
    (["worker", "toy.yaml", "--storage", "sqlite:///missing.db", "--wait", "0"], "nobody has"),
    (["worker", "toy.yaml", "--storage", "journal:///missing.log", "--wait", "0"], "nobody has"),
    (["worker", "toy.yaml", "--storage", "sqlite:///."], "error: storage 'sqlite:///.' does not"),
    (["worker", "toy.yaml", "--storage", "missing.db"], "error: storage 'missing.db': no URL"),
    (["status", "--storage", "sqlite:///missing.db"], "missing.db: no such file"),
    (["status", "--storage", "journal:///missing.log"], "missing.log: no such file"),
    (["requeue", "--storage", "sqlite:///missing.db"], "missing.db: no such file"),
    (["requeue", "--storage", "sqlite:///missing.db", "--class", "fatel"], "did you mean 'fatal'?"),
    (["db", "check", "--storage", "journal:///toy.yaml"], "has no tables and no version"),
    (["results", "list", "nowhere"], "nowhere: no run stands here or below"),
    (["results", "show", "nowhere"], "nowhere: no run stands here"),
    (["results", "compare", "nowhere"], "nowhere: no run stands here"),
    (["results", "export", "nowhere", "--out", "x.csv"], "nowhere: no run stands here"),
    (["predict", "-p", "nowhere", "[3]11/1"], "nowhere: no predictor stands here"),
    (["predict", "-p", "toy.yaml", "[3]11/1"], "no predictor stands here"),
    (["predict", "-p", "nowhere"], "give architectures, or --file FILE"),
    (["predict", "-p", "nowhere", "--file", "x", "[3]11/1"], "one of them"),
    (["predict-images", "nowhere", "photo.jpg"], "nowhere"),
    (["export", "nowhere", "x.onnx"], "nowhere"),
    (["measure", "nowhere"], "nowhere"),
    (
        ["results", "show", "broken"],
        "broken/resolved.yaml:1: broken YAML, column 5: while parsing|"
        "broken/resolved.yaml:1: broken YAML, column 5: expected the node content",
    ),
    (["results", "show", "latin"], "latin/resolved.yaml: cannot be read (byte 0 is no UTF-8 text)"),
    (["results", "show", "--top", "nan"], "expected a whole number, got 'nan'"),
    (["results", "export", ".", "--out", "x.xlsx"], "unknown format 'xlsx'; known are csv, json"),
    (
        ["worker", "toy.yaml", "--storage", "sqlite:///x.db", "--wait", "nan"],
        "expected a number, got 'nan'",
    ),
    (["measure", "none.onnx"], "an ONNX file does not say what it costs, expected the folder"),
    (["serve"], "--predictors: the folder of predictors is missing"),
    (["serve", "--predictors", "toy.yaml"], "is a file, expected a folder of predictors"),
    (["serve", "--predictors", "s", "--host", "0.0.0.0"], "so it needs --api-keys FILE"),
    (["serve", "--predictors", "s", "--add", "toy"], "--add toy: expected NAME=FOLDER"),
    (["serve", "--predictors", "s", "--set", "prot=1"], "unknown key 'prot'"),
    (["options", "stagez"], "unknown kind of plug-in 'stagez'; did you mean 'stages'?"),
    (["options", "stages", "scob"], "unknown stage 'scob'; did you mean 'scop'?"),
    (["options", "stages", "--json-schema"], "--json-schema is of whole files"),
    (["data", "import", "nowhere.csv", "--space", "bits", "--score", "x"], "nowhere.csv"),
    (["data", "verify", "nosuchtable"], "nosuchtable"),
    (["predictors", "evaluate", "--table", "x", "-p", "gp"], "--table needs --labels"),
    (["predictors", "evaluate", "--table", "nosuch", "--labels", "9", "-p", "gp"], "nosuch"),
    (["predictors", "show", "nowhere"], "nowhere"),
    (["spaces", "families", "vot"], "unknown space 'vot'; did you mean 'vit'?"),
    (["serch"], "No such command 'serch'"),
    (["serve", "--predictors", ""], "an empty text after --predictors: expected a value"),
    (["predictors", "show", ""], "an empty text after show: expected a value"),
    (["results", "list", ""], "an empty text after list: expected a value"),
    (["measure", ""], "an empty text after measure: expected a value"),
    (["export", "nowhere", ""], "an empty text after nowhere: expected a value"),
    ([""], "an empty text: expected a value; a variable of the shell may be unset"),
    (["db", "check", "--storage", "sqlite:///toy.yaml"], "toy.yaml: file is not a database"),
    (["db", "upgrade", "--storage", "sqlite:///toy.yaml"], "toy.yaml: file is not a database"),
    (["data", "import", ".", "--space", "bits", "--score", "x"], ". is a folder, expected a file"),
    (["data", "import", "toy.yaml", "--space", "bits", "--score", "x"], "no column is called"),
    (
        ["data", "import", "x.csv", "--space", "bits", "--option", "n=1_0", "--score", "x"],
        "1_0 wou",
    ),
    (["data", "import", "x.csv", "--space", "bits", "--option", "n", "--score", "x"], "KEY=VALUE"),
    (
        ["data", "import", "x.csv", "--space", "bits", "--score", "x", "--name", "../x"],
        "x.csv|name",
    ),
    (["data", "fetch", "nosuch"], "nothing to fetch is called 'nosuch'; known are"),
    (["data", "build", "nosuch"], "no set-up is called 'nosuch'; known are"),
    (
        ["predictors", "evaluate", "--table", "cells-digits", "--labels", "0", "-p", "gp"],
        "0 labels",
    ),
    (
        ["predictors", "evaluate", "--table", "x", "--labels", "1e2", "-p", "gp"],
        "set apart by comm",
    ),
    (
        ["predictors", "evaluate", "--table", "x", "--labels", "9", "-p", "gp", "--draws", "0"],
        "at l",
    ),
    (["predictors", "show", "toy.yaml"], "toy.yaml: no predictor stands here"),
    (["results", "show", "--top", "0"], "expected a number of at least 1, got '0'"),
    (
        ["results", "export", ".", "--out", "x"],
        "unknown format ''; expected a name such as all.csv",
    ),
    (["options", "spaces", "nasbench101", "x"], "unexpected extra argument"),
    (["serve", "--predictors", "s", "--port", "99999"], "at most 65535, got '99999'"),
    (["serve", "--predictors", "s", "--port", "abc"], "expected a whole number, got 'abc'"),
    (["predict-images", "toy.yaml", "toy.yaml"], "reads .onnx and .nasbin files"),
    (["predict-images", "toy.yaml", "none.jpg"], "none.jpg is not there"),
    (["predict-images", "none.onnx", "toy.yaml"], "none.onnx: is no ONNX network that can be run"),
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
    for run in ("other", "outer", "outer/models/inner"):
        Path(run).mkdir(parents=True)
        Path(run, "resolved.yaml").touch()
    assert main(["run", "toy.yaml", *more]) == 2
    _one_line(capsys.readouterr().err, words)
    assert not Path("runs").exists()


@pytest.mark.parametrize(("typed", "words"), OTHERS)
def test_wrong_commands(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(BASE)
    Path("utf16.yaml").write_text(BASE, encoding="utf-16")
    Path("photo.jpg").write_bytes(b"\xff\xd8\xff\xe0 no text")
    for name, data in {"broken": b"a: [", "latin": b"\xe4"}.items():
        Path(name).mkdir()
        Path(name, "resolved.yaml").write_bytes(data)
    there = set(Path().iterdir())
    assert main(typed) == 2
    _one_line(capsys.readouterr().err, words)
    assert set(Path().iterdir()) - there <= {Path("s")}  # the store that serve was told to make


def test_a_budget_below_what_was_measured_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(BASE)
    assert main(["run", "toy.yaml", "--out", "r"]) == 0
    less = ["run", "toy.yaml", "--out", "r", "--resume", "--set", "search.budget=11"]
    assert main(less) == 2
    _one_line(capsys.readouterr().err, "12 architectures are measured already, more than the budg")
    assert Path("r/report.html").is_file()


NONE, OTHER = "asked.csv: holds no architecture", "no column is called 'architecture'"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *[(text, NONE) for text in ("", "\n\n", "architecture\n", "architecture,score\n")],
        ("arch,score\n00000000,0.5\n", f"{OTHER}; known are arch, score; --architecture names"),
        (",text\n0,00000000\n", f"{OTHER}; known are text; --architecture names that of the text"),
        ("bits\n00000000\n", f"{OTHER}; known are bits; --architecture names that of the text"),
    ],
)
def test_a_file_without_architectures_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    file, out = tmp_path / "toy.yaml", str(tmp_path / "run")
    file.write_text(BASE)
    assert main(["run", str(file), "--out", out]) == 0
    (tmp_path / "asked.csv").write_text(text)
    assert main(["predict", "-p", out, "--file", str(tmp_path / "asked.csv")]) == 2
    _one_line(capsys.readouterr().err, words)


@pytest.mark.parametrize("change", ["bom", "crlf", "json"])
def test_the_same_file_in_other_dress_is_read(tmp_path: Path, change: str) -> None:
    values = json.dumps(yaml.safe_load(BASE))
    data = {
        "bom": b"\xef\xbb\xbf" + BASE.encode(),
        "crlf": BASE.replace("\n", "\r\n").encode(),
        "json": values.encode(),
    }[change]
    file = tmp_path / "toy.yaml"
    file.write_bytes(data)
    out = tmp_path / "gr\u00f6\u00dfe \u65e5\u672c"
    assert main(["run", str(file), "--out", str(out), "--set", "search.budget=4"]) == 0
    assert len(nasplatform.read_runs(out)) == 4


def _one_line(said: str, words: str) -> None:
    complaint = said.splitlines()[-1]
    assert complaint.startswith("error: ")
    assert any(each in complaint for each in words.split("|"))
    assert len(complaint) < 700
    assert not any(odd in complaint for odd in ("Input should", "Errno", "pydantic", "None"))
