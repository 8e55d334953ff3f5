"""Architectures that the user wants first."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from search_toys import SAMPLERS, toy_evaluator, toy_sampler

from nasplatform.config import load_config
from nasplatform.errors import ConfigError
from nasplatform.evaluators.base import EvaluationContext
from nasplatform.executors.store import open_store
from nasplatform.runs.driver import run
from nasplatform.runs.events import Event
from nasplatform.runs.experiment import make_experiment
from nasplatform.search import TrialRecord, open_study, search

FIRST = ["11110000", "10101010", "00000001"]


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("breaks", [(12,), (2, 3, 12)])
def test_are_evaluated_first_by_every_sampler(
    tmp_path: Path, kind: Any, breaks: tuple[int, ...]
) -> None:
    for budget in breaks:
        evaluator = toy_evaluator()
        sampler = toy_sampler(kind, evaluator)
        sampler.enqueue([evaluator.space.parse(text) for text in FIRST])
        with (
            open_study(tmp_path / "s.db", "s", sampler) as study,
            open_store(tmp_path / "m.db") as store,
        ):
            search(study, evaluator, store, budget)
            records = [TrialRecord.of(trial) for trial in study.get_trials()]
    found = [record for record in records if record is not None]
    assert [record.architecture for record in found[:3]] == FIRST
    assert [record.source for record in found[:3]] == ["enqueued"] * 3
    assert "enqueued" not in {record.source for record in found[3:]}
    assert len({record.hash for record in found}) == 12


def test_in_a_search_file_they_count_once_and_are_said(tmp_path: Path, toy: Path) -> None:
    file = tmp_path / "search.yaml"
    mirrored = FIRST[0][::-1]
    wanted = {"sampler": {"name": "random"}, "budget": 5, "enqueue": [*FIRST, mirrored]}
    told = {"name": "toy", "space": {"name": "bits"}, "evaluator": {"name": "bits"}}
    file.write_text(yaml.safe_dump({**told, "search": wanted}))
    events: list[Event] = []
    done = run(file, tmp_path / "run", watch=events.append)
    assert done.evaluations["architecture"].tolist()[:3] == FIRST
    assert len(done.evaluations) == 5
    words = "enqueue.3 is the architecture of enqueue.0: evaluated once"
    assert words in [event.words for event in events]


@pytest.mark.parametrize(("text", "said"), [("134322", 1), ("naslib:134322", 0)])
def test_how_digits_are_read_that_mean_another_cell_elsewhere_is_said(
    tmp_path: Path, text: str, said: int
) -> None:
    file = tmp_path / "search.yaml"
    told = {"name": "t", "space": {"name": "nasbench201"}, "task": {"dataset": "digits"}}
    wanted = {"sampler": {"name": "random"}, "budget": 5, "enqueue": [text]}
    file.write_text(yaml.safe_dump({**told, "evaluator": {"name": "trained"}, "search": wanted}))
    experiment = make_experiment(*load_config(file), EvaluationContext())
    assert len(experiment.notes) == said
    assert all("enqueue: six digits are read as" in note for note in experiment.notes)


def test_what_a_table_does_not_hold_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    told = {"name": "t", "evaluator": {"name": "table", "table": "cells-digits"}}
    wanted = {"sampler": {"name": "random"}, "budget": 5, "enqueue": ["[3]11/1", "[33333]" + "1"]}
    file.write_text(yaml.safe_dump({**told, "search": wanted}))
    with pytest.raises(ConfigError, match=r"yaml:\d+: search.enqueue.1: "):
        run(file, tmp_path / "run")
    assert not (tmp_path / "run").exists()
