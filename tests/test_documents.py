"""What the documents show works as typed."""

import importlib
import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from nasplatform.training.recipe import Recipe

ROOT = Path(__file__).parents[1]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def test_documents_name_files_that_exist() -> None:
    for document in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text()
        named = re.findall(r"`((?:analysis|searches|nasplatform|data|docs|tests)/[\w/.-]+)`", text)
        for path in named:
            assert (ROOT / path).exists(), f"{document} names {path}"


def test_links_lead_to_files() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} leads to {link}"


def test_python_of_the_readme_runs_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "searches", tmp_path / "searches")
    monkeypatch.chdir(tmp_path)
    shown: dict[str, object] = {}
    exec(blocks("README.md", "python")[0], shown)
    assert len(shown["frame"]) == 20  # type: ignore[arg-type]
    assert len(shown["prediction"]) == 1000  # type: ignore[arg-type]


def test_pruning_of_a_network_runs_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown: dict[str, object] = {}
    exec(
        next(text for text in blocks("docs/networks.md", "python") if "Network.named" in text),
        shown,
    )
    last = shown["records"][-1]  # type: ignore[index]
    assert last["after"]["macs"] <= 0.45 * last["before"]["macs"]


def test_docs_on_training_work_as_typed() -> None:
    recipe = yaml.safe_load(blocks("docs/training.md", "yaml")[0])["recipe"]
    assert set(recipe) == set(Recipe.model_fields)  # every option is shown
    Recipe.model_validate(recipe)
    shown: dict[str, Any] = {}
    exec(blocks("docs/training.md", "python")[0], shown)
    columns = ["epoch", "train_loss", "valid_accuracy", "learning_rate", "seconds", "teacher_loss"]
    assert list(shown["history"].frame().columns) == columns


def reference() -> list[str]:
    """Return what the reference of Python shows, by its full name."""
    text = (ROOT / "docs/reference/python.md").read_text()
    return re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)


def found(path: str) -> object | None:
    """Return what a dotted path below ``nasplatform`` leads to, None where it leads nowhere."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def test_everything_in_the_reference_is_there() -> None:
    assert [path for path in reference() if path != "nasplatform" and not documented(path)] == []


def documented(path: str) -> bool:
    made = found(path) or importlib.import_module(path)
    return bool(inspect.getdoc(made))


def test_every_class_that_contributing_names_is_in_the_reference() -> None:
    """Whoever writes a plug-in finds there what its base promises."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = re.findall(r"`((?:\w+\.)*[A-Z]\w+)(?:\([^`]*\))?`", text)
    rooms = ("", "spaces.", "spaces.graph.", "stages.base.", "models.edits.", "evaluators.base.")
    rooms += ("testing.", "runtimes.base.", "training.task.", "search.", "encodings.")
    classes = {
        name: kind
        for name in table
        for room in rooms
        if inspect.isclass(kind := found(f"nasplatform.{room}{name}"))
    }
    assert {"spaces.Space", "evaluators.base.Evaluator", "Edit", "GraphBatch"} <= classes.keys()
    shown = {found(path) for path in reference()}
    assert [name for name, kind in classes.items() if kind not in shown] == []
