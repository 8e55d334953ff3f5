"""A training that was lost on one machine goes on on another, wherever its checkpoints lie."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml

from nasplatform.errors import ConfigError, MissingExtraError
from nasplatform.evaluators.base import EvaluationContext
from nasplatform.evaluators.trained import TrainedEvaluator, TrainedOptions
from nasplatform.executors.measure import classify
from nasplatform.runs.driver import run
from nasplatform.spaces import get_space
from nasplatform.testing.tiny import tiny_task
from nasplatform.training.shelf import RemoteShelf, open_shelf

CELL = "[3M1]1011/110/01/1"


class LostError(BaseException):
    """Ends a training as a kill does."""


def evaluator(folder: Path, place: str | None, progress: Any = None) -> TrainedEvaluator:
    """Make the evaluator of one machine, which has a folder of its own."""
    space = get_space("nasbench101", stem_channels=4, modules_per_stack=1)
    options = TrainedOptions.model_validate({"recipe": {"epochs": 3, "batch_size": 16}})
    heard = progress or (lambda done, total, words: None)
    context = EvaluationContext(folder, tiny_task(), progress=heard, checkpoints=place)
    made = TrainedEvaluator.from_options(options, space, context)
    assert isinstance(made, TrainedEvaluator)
    return made


@pytest.mark.parametrize("kind", ["path", "file", "memory"])
def test_another_machine_goes_on_where_one_was_lost(kind: str, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    place = {"path": str(shared), "file": f"file://{shared}", "memory": f"memory://{uuid4().hex}"}

    def lose(done: int, total: int, words: str) -> None:
        if words.startswith("epoch 3"):
            raise LostError

    one = evaluator(tmp_path / "one", place[kind], lose)
    cell = one.space.parse(CELL)
    with pytest.raises(LostError):
        one.evaluate(cell, 3, 0)
    epochs: list[str] = []
    other = evaluator(tmp_path / "other", place[kind], lambda d, t, words: epochs.append(words[:7]))
    found = other.evaluate(cell, 3, 0)
    assert set(epochs) == {"epoch 3"}
    assert found.metrics == evaluator(tmp_path / "whole", None).evaluate(cell, 3, 0).metrics
    files, root = fsspec.core.url_to_fs(place[kind])
    assert len(files.ls(root)) == 1  # nothing half sent is left
    other.evaluate(other.space.neighbours([cell])[0], 3, 0)
    assert len(files.ls(root)) == 1  # the one before it is in the store


def test_a_damaged_checkpoint_behind_a_url_is_thrown_away(tmp_path: Path) -> None:
    place = f"memory://{uuid4().hex}"
    one = evaluator(tmp_path / "one", place)
    wanted = one.evaluate(one.space.parse(CELL), 3, 0)
    files, root = fsspec.core.url_to_fs(place)
    (name,) = files.ls(root, detail=False)
    files.pipe_file(name, b"rubbish")
    other = evaluator(tmp_path / "other", place)
    assert other.evaluate(one.space.parse(CELL), 3, 0).metrics == wanted.metrics


def test_a_place_that_stops_answering_may_answer_again(tmp_path: Path) -> None:
    place = tmp_path / "place"
    shelf = RemoteShelf(f"file://{place}", tmp_path / "here")
    shelf.take("a").write_bytes(b"1")
    place.rmdir()
    place.write_text("no folder any more")
    with pytest.raises(ConnectionError, match="checkpoints 'file://") as found:
        shelf.put("a")
    assert classify(found.value) == "transient"
    place.unlink()
    place.mkdir()
    shelf.put("a")
    assert [file.name for file in place.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("nowhere://x", ConfigError, "checkpoints 'nowhere://x' cannot be used: .*nowhere"),
        ("s3://bucket/x", MissingExtraError, "checkpoints 's3://bucket/x': Install s3fs"),
        ("file:///dev/null/x", ConfigError, "cannot be used: .*/dev/null"),
    ],
)
def test_a_place_that_cannot_be_used_is_said_in_a_line(
    place: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as found:
        open_shelf(place)
    assert len(str(found.value).splitlines()) == 1


def test_without_fsspec_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nasplatform\[remote\]'"):
        open_shelf("memory://x")


def test_a_search_file_names_the_place_and_keeps_no_password(toy: Path, tmp_path: Path) -> None:
    search = {
        "name": "kept",
        "space": {"name": "bits", "n": 4},
        "evaluator": {"name": "bits"},
        "search": {"budget": 2, "sampler": {"name": "random"}},
        "checkpoints": f"memory://me:secret@{uuid4().hex}",
    }
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(search))
    run(file, tmp_path / "run")
    kept = (tmp_path / "run" / "resolved.yaml").read_text()
    assert "checkpoints: memory://me@" in kept
    assert "secret" not in kept
    file.write_text(yaml.safe_dump(search | {"checkpoints": "nowhere://x"}))
    with pytest.raises(ConfigError, match=rf"{file.name}:\d+.*checkpoints"):
        run(file, tmp_path / "other")
