"""Every key is told with type, default and meaning; editors get a schema that fits the files."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from nasplatform import catalogue, plugins
from nasplatform.cli import main
from nasplatform.file_schema import file_schema
from nasplatform.options import options_in

SEARCHES = sorted((Path(__file__).parents[2] / "searches").glob("*.yaml"))


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    found = file_schema()
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


@pytest.mark.parametrize("file", SEARCHES, ids=lambda file: file.stem)
def test_the_schema_fits_every_search_file(schema: Draft202012Validator, file: Path) -> None:
    assert schema.is_valid(yaml.safe_load(file.read_text()))


@pytest.mark.parametrize(
    "changes",
    [
        {"serch": {}},
        {"predictor": {"name": "gp", "step": 3}},
        {"predictor": {"name": "gpp"}},
        {"search": {"budget": 0}},
        {"search": {"budget": 9, "sampler": {"name": "predictor", "inital": 3}}},
        {"stages": [{"name": "scop", "rate": 2}]},
        {"stages": {"name": "scop"}},
        {"task": {"dataset": "digit"}},
        {"runtime": "onnx"},
    ],
)
def test_the_schema_marks_what_a_run_refuses(schema: Draft202012Validator, changes: dict) -> None:
    (file,) = [each for each in SEARCHES if each.stem == "quickstart"]
    assert not schema.is_valid(yaml.safe_load(file.read_text()) | changes)


def test_every_key_of_every_plugin_is_explained() -> None:
    for entry in (one for one in catalogue.catalogue() if one.origin == "nasplatform"):
        assert entry.summary, entry.name
        for option in options_in(entry.schema or {}):
            assert option.meaning or option.key.endswith("name"), (entry.name, option.key)
            assert option.type != "any value" or option.meaning


def test_options_are_told_for_files_kinds_and_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options"]) == 0
    told = capsys.readouterr().out
    assert "search.budget = required  (whole number at least 1)" in told
    assert "at least 0, below 2,147,483,648)" in told
    assert "see `nasplatform options stages`" in told
    assert main(["options", "stages"]) == 0
    assert "scop: Remove the channels" in capsys.readouterr().out
    assert main(["options", "stage", "scop"]) == 0
    told = capsys.readouterr().out
    assert "budget.keep = required  (number above 0, below 1)" in told
    assert "recipe.optimizer{sgd}.momentum = 0.9" in told
    assert main(["options", "stages", "scop", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert {"key", "type", "default", "required", "meaning"} == set(row["options"][0])
    assert main(["options", "stages", "scopp"]) == 2
    assert "did you mean 'scop'" in capsys.readouterr().err
    assert main(["options", "stagse"]) == 2
    assert "did you mean 'stages'" in capsys.readouterr().err
    assert main(["options", "--json-schema"]) == 0
    assert "$defs" in json.loads(capsys.readouterr().out)


def test_what_was_found_once_is_not_imported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NASPLATFORM_CACHE", str(tmp_path))
    said: list[str] = []
    first = catalogue.catalogue(said.append)
    assert said == [
        f"importing {len(first)} plug-in(s), once; those that work are kept in {tmp_path}"
    ]
    monkeypatch.setattr(plugins, "get", None)  # whoever imports one fails
    began = time.process_time()
    assert catalogue.catalogue(said.append) == first
    assert len(said) == 1
    assert time.process_time() - began < 0.5
    (file,) = tmp_path.glob("plugins-*.json")
    file.write_text("[{}]")  # damaged: made anew
    monkeypatch.undo()
    monkeypatch.setenv("NASPLATFORM_CACHE", str(tmp_path))
    assert catalogue.catalogue() == first
