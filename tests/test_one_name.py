"""A quantity has one key wherever users see it."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

import nasplatform.service
from nasplatform.evaluators.base import Evaluation
from nasplatform.foreign import parse_json
from nasplatform.pruning.budgets import Budget
from nasplatform.runs import columns
from nasplatform.runtimes.base import Costs
from nasplatform.runtimes.measure import Measurements
from nasplatform.spaces import get_space

OTHER_WORDS = {"parameters", "n_params", "multiply_adds", "cost", "duration", "latency", "bytes"}


def test_keys_that_users_see_are_those_of_the_glossary():
    api = json.loads((Path(nasplatform.service.__file__).parent / "openapi.json").read_text())
    keys = {key for one in api["components"]["schemas"].values() for key in one["properties"]}
    for frame in (columns.RUNS, columns.EVALUATIONS, columns.STAGES, columns.EPOCHS):
        keys |= {name.removeprefix("before_").removeprefix("after_") for name in frame}
    for kind in (Measurements, Costs, Evaluation):
        keys |= {field.name for field in fields(kind)}
    keys |= set(Budget.model_json_schema()["properties"]["metric"]["enum"])
    assert {"params", "macs", "seconds", "latency_ms", "bytes_on_disk"} <= keys
    assert not keys & OTHER_WORDS


def test_budget_metrics_are_measurements():
    metrics = set(Budget.model_json_schema()["properties"]["metric"]["enum"])
    assert metrics <= {field.name for field in fields(Measurements)}


def test_a_key_given_twice_is_no_json():
    assert parse_json('{"a": {"b": 1}, "b": 2}') == {"a": {"b": 1}, "b": 2}
    with pytest.raises(ValueError, match="key 'b' stands twice"):
        parse_json('{"a": {"b": 1, "b": 1}}')


def test_a_cell_with_a_key_twice_is_refused():
    with pytest.raises(ValueError, match="key 'ops' stands twice"):
        get_space("nasbench101").parse('{"matrix": [[0]], "ops": [], "ops": ["input"]}')
