"""Paths at which nothing can stand, folders that are something else, flags that are texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nasplatform
from nasplatform.benchmarks.registry import load_table
from nasplatform.cli import main
from nasplatform.errors import (
    ConfigError,
    DataError,
    InputError,
    NetworkError,
    PredictorError,
    RunError,
)
from nasplatform.models.network import Network
from nasplatform.models.pictures import classify
from nasplatform.models.weights import load_weights
from nasplatform.predictors import load_predictor
from nasplatform.runs import saved
from nasplatform.runs.comparison import compare_runs
from nasplatform.runs.frames import newest_run
from nasplatform.service import PredictorStore
from nasplatform.training.datasets import load_task

LONG, ZERO, HOME = "x" * 5000, "a\0b", "~/photos"
NO_PATH = r"name too long|zero byte|only a shell|expected the path of"
SEARCH = """name: t
space: {name: bits, n: 8}
evaluator: {name: bits}
search: {budget: 3, sampler: {name: random}}
"""
READERS: dict[str, tuple[Callable[[Any], Any], type[InputError]]] = {
    "run": (nasplatform.run, ConfigError),
    "compress": (nasplatform.compress, ConfigError),
    "out": (lambda path: nasplatform.run("t.yaml", path), RunError),
    "Run": (nasplatform.Run, RunError),
    "read_runs": (nasplatform.read_runs, RunError),
    "read_predictions": (nasplatform.read_predictions, RunError),
    "read_stages": (nasplatform.read_stages, RunError),
    "read_epochs": (nasplatform.read_epochs, RunError),
    "read_timings": (nasplatform.read_timings, RunError),
    "list_runs": (nasplatform.list_runs, RunError),
    "newest_run": (newest_run, RunError),
    "compare_runs": (lambda path: compare_runs([path]), RunError),
    "Network.load": (Network.load, RunError),
    "load_predictor": (load_predictor, PredictorError),
    "saved.load_predictor": (saved.load_predictor, PredictorError),
    "learnt_from": (saved.learnt_from, PredictorError),
    "PredictorStore": (PredictorStore, PredictorError),
    "load_weights": (lambda path: load_weights(network().module, path), NetworkError),
    "classify": (lambda path: classify(network(), [path]), DataError),
}
KEYS: dict[str, Callable[[str], Any]] = {
    "search.warm_start": lambda text: ran({"search.warm_start": text}),
    "storage": lambda text: ran({"storage": f"sqlite:///{text}"}),
    "journal": lambda text: ran({"storage": f"journal:///{text}"}),
    "checkpoints": lambda text: ran({"checkpoints": text}),
    "task.path": lambda text: load_task("folder", {"path": text}, "task"),
    "npz": lambda text: load_task("npz", {"path": text}, "task"),
}
WRONG: list[tuple[Callable[[], Any], type[InputError], str]] = [
    (lambda: ran(watch=3), ConfigError, "watch: expected a function of an event, got 3"),
    (lambda: ran(watch="x"), ConfigError, "watch: expected a function of an event, got 'x'"),
    (lambda: ran(watch=None), ConfigError, "watch: expected a function of an event, got nothing"),
    (lambda: ran(resume="no"), ConfigError, "resume: expected True or False, got 'no'"),
    (lambda: ran(force=1), ConfigError, "force: expected True or False, got 1"),
    (lambda: ran(force=None), ConfigError, "force: expected True or False, got nothing"),
    (lambda: ran(resume=True, force=True), ConfigError, "resume and force exclude each other"),
    (lambda: ran({"name": b"x"}), ConfigError, "name: expected text, got b'x'"),
    (lambda: load_table(3), DataError, "the name or the path of a table, got int"),  # type: ignore[arg-type]
    (lambda: load_table(LONG + "/x"), DataError, "File name too long"),
    (lambda: load_table(LONG), DataError, "unknown table 'x{70}"),
    (lambda: compare_runs("r"), RunError, "expected a list of paths of runs, got 'r'"),
    (lambda: compare_runs([]), RunError, "expected a list of paths of runs, it is empty"),
    (lambda: compare_runs(3), RunError, "expected a list of paths of runs, got 3"),  # type: ignore[arg-type]
    (lambda: classify("rc", ["x.png"]), NetworkError, "a network, by Network.load, got 'rc'"),  # type: ignore[arg-type]
    (lambda: classify(network(), "x.png"), DataError, "a list of picture files, got 'x.png'"),
    (lambda: classify(network(), Path("x")), DataError, "a list of picture files"),  # type: ignore[arg-type]
    (lambda: classify(network(), [None]), DataError, "the path of a file .* got NoneType"),  # type: ignore[list-item]
    (lambda: PredictorStore("other"), PredictorError, "other: holds 'pictures' and no predictors"),
]


def network() -> Network:
    found = Network.named("resnet", depth=8, width=4)
    shown = {"shape": [3, 8, 8], "classes": 10, "mean": [0.5] * 3, "std": [0.2] * 3, "white": 1.0}
    return replace(found, structure=replace(found.structure, input=shown))


def ran(overrides: Any = None, **more: Any) -> Any:
    return nasplatform.run("t.yaml", "out", overrides, **more)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: object) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.yaml").write_text(SEARCH)
    Path("other/pictures/cat").mkdir(parents=True)


@pytest.mark.parametrize(
    "path", [LONG, ZERO, HOME, b"bytes", 3], ids=["long", "zero", "home", "bytes", "number"]
)
@pytest.mark.parametrize("reader", READERS)
def test_what_can_be_no_path(reader: str, path: Any) -> None:
    read, kind = READERS[reader]
    with pytest.raises(kind, match=NO_PATH) as refused:
        read(path)
    assert_short(refused.value)


@pytest.mark.parametrize("text", [LONG, ZERO, HOME], ids=["long", "zero", "home"])
@pytest.mark.parametrize("key", KEYS)
def test_keys_that_can_be_no_path(key: str, text: str) -> None:
    words = r"File name too long|zero byte|only a shell|expected a path"
    with pytest.raises(InputError, match=words) as refused:
        KEYS[key](text)
    assert_short(refused.value)


@pytest.mark.parametrize(("call", "kind", "words"), WRONG, ids=range(len(WRONG)))
def test_wrong_arguments(call: Callable[[], Any], kind: type[InputError], words: str) -> None:
    with pytest.raises(kind, match=words) as refused:
        call()
    assert_short(refused.value)


def test_a_flag_may_be_numpys() -> None:
    assert len(ran(resume=np.bool_(False), force=np.True_).evaluations) == 3


@pytest.mark.parametrize("folder", ["/", "other", "."])
def test_a_folder_that_is_no_store_is_not_served(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--predictors", folder]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"error: {folder}: holds '" in said
    assert "and no predictors: expected a store, NAME/VERSION, or a new or empty folder" in said


def test_a_store_without_versions_is_one() -> None:
    for name in ("store", "store/asked"):
        Path(name).mkdir()
    Path("store/asked/aliases.json").write_text("{}")
    Path("store/keys.json").write_text("[]")
    assert PredictorStore("store").names() == []


@pytest.mark.parametrize("words", [b"", b"hello", b"\x80" * 99])
def test_weights_that_are_none_are_named(words: bytes) -> None:
    network().save("net")
    Path("net/weights.safetensors").write_bytes(words)
    Path("w.safetensors").write_bytes(words)
    wanted = "expected a whole file of safetensors"
    with pytest.raises(RunError, match=rf"^net/weights.safetensors: holds no weights \({wanted}"):
        Network.load("net")
    with pytest.raises(NetworkError, match=f"^w.safetensors holds no weights .*{wanted}"):
        load_weights(network().module, "w.safetensors")


def assert_short(error: Exception) -> None:
    assert "\n" not in str(error)
    assert "\0" not in str(error)
    assert len(str(error)) < 700
