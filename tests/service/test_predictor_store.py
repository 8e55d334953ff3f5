from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nasplatform.errors import PredictorError
from nasplatform.runs.saved import save_predictor
from nasplatform.service.labels import Labels, ReportedResults, read_labels
from nasplatform.service.refit import refit
from nasplatform.service.store import PredictorStore


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_published_version_loads_as_it_was(store, fitted):
    version = store.find("demo")
    predictor, space = store.load(version)
    graphs = space.graphs(space.parse_many(fitted.labels.texts)[0])
    expected = fitted.predictor.predict(graphs)
    np.testing.assert_array_equal(predictor.predict(graphs).mean, expected.mean)
    assert space.describe() == fitted.space.describe()
    assert store.labels(version).texts == fitted.labels.texts
    assert version.facts.n_labels == 60


def test_versions_count_up_and_never_change(store, fitted):
    before = contents(store.find("demo").folder)
    second = store.publish("demo", fitted.predictor, fitted.space)
    assert (second.number, store.versions("demo")) == (2, [1, 2])
    assert contents(store.find("demo", 1).folder) == before
    assert store.find("demo").number == 2
    assert store.find("demo", "1").number == 1
    assert not store.has_labels(second)


def test_latest_can_step_back_and_moves_on_with_the_next_publication(store, fitted):
    store.publish("demo", fitted.predictor, fitted.space)
    store.point("demo", "latest", 1)
    store.point("demo", "stable", 1)
    assert PredictorStore(store.folder).find("demo").number == 1
    assert store.publish("demo", fitted.predictor, fitted.space).number == 3
    assert store.aliases("demo") == {"latest": 3, "stable": 1}
    assert store.find("demo", "stable").number == 1


@pytest.mark.parametrize(("alias", "number"), [("latest", 9), ("7", 1), ("../x", 1), ("", 1)])
def test_an_alias_that_cannot_be_is_refused(store, alias, number):
    with pytest.raises(PredictorError, match="alias"):
        store.point("demo", alias, number)


@pytest.mark.parametrize(
    "name", ["../demo", "demo/1", "", ".", "..", "/etc", "a" * 65, "é", "demo\n"]
)
def test_no_name_leaves_the_store(store, fitted, name):
    with pytest.raises(PredictorError):
        store.find(name)
    with pytest.raises(PredictorError, match="no name for a predictor"):
        store.publish(name, fitted.predictor, fitted.space)


@pytest.mark.parametrize("version", ["2", "0", "-1", "01x", "../1", "²", "1" * 5000, "nix"])
def test_an_unknown_version_is_told_with_those_there_are(store, version):
    with pytest.raises(PredictorError, match="it has 1 and 'latest'"):
        store.find("demo", version)


def test_an_unknown_name_is_told_with_a_near_one(store):
    with pytest.raises(PredictorError, match="did you mean 'demo'"):
        store.find("dema")


@pytest.mark.parametrize("file", ["card.json", "state.safetensors", "space.json", "labels.parquet"])
def test_a_changed_file_is_found_out(store, file):
    version = store.find("demo")
    path = version.folder / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(PredictorError, match=f"{file}: is missing or was changed"):
        store.load(store.find("demo"))


def test_leftovers_of_a_dead_writer_are_never_seen_and_removed(store, fitted):
    left = store.folder / "demo" / ".new-dead" / "content"
    left.mkdir(parents=True)
    (left / "card.json").write_text("{")
    assert PredictorStore(store.folder).versions("demo") == [1]
    assert not left.exists()


def test_a_torn_alias_file_is_as_none(store):
    (store.folder / "demo" / "aliases.json").write_text('{"latest": ')
    assert store.find("demo").number == 1


def test_writers_at_once_get_different_numbers(store, fitted):
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(
                PredictorStore(store.folder).publish, "demo", fitted.predictor, fitted.space
            )
            for _ in range(6)
        ]
        numbers = sorted(job.result().number for job in jobs)
    assert numbers == [2, 3, 4, 5, 6, 7]


def test_a_folder_of_save_predictor_is_version_one(tmp_path, fitted):
    save_predictor(fitted.predictor, fitted.space, tmp_path / "store" / "plain")
    store = PredictorStore(tmp_path / "store")
    assert (store.names(), store.versions("plain")) == (["plain"], [1])
    store.load(store.find("plain"))
    assert store.publish("plain", fitted.predictor, fitted.space).number == 2
    assert store.versions("plain") == [1, 2]


def test_a_run_is_published_with_its_labels(tmp_path, store, fitted):
    run = tmp_path / "run"
    save_predictor(fitted.predictor, fitted.space, run / "predictor")
    scores = [*fitted.labels.scores[:-1], np.nan]
    import pandas as pd

    frame = pd.DataFrame({"number": 0, "architecture": fitted.labels.texts, "score": scores})
    frame.to_parquet(run / "evaluations.parquet")
    version = store.publish_folder("found", run)
    assert len(store.labels(version)) == 59  # a failed evaluation is no label
    assert version.facts.origin == {"folder": "run"}


def test_failed_and_given_up_trainings_are_no_labels(tmp_path):
    frame = pd.DataFrame(
        {
            "architecture": ["[]1", "[3]11/1", "[1]11/1", "[M]11/1"],
            "score": [0.5, None, 0.6, 0.7],
            "stopped": pd.array([None, None, 2, None], "Int64"),
        }
    )
    frame.to_parquet(tmp_path / "evaluations.parquet")
    labels = read_labels(tmp_path / "evaluations.parquet")
    assert labels.texts == ["[]1", "[M]11/1"]
    assert labels.scores.tolist() == [0.5, 0.7]


def test_what_cannot_be_loaded_is_not_published(tmp_path, store):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PredictorError, match="no predictor stands here"):
        store.publish_folder("empty", tmp_path / "empty")
    assert store.names() == ["demo"]


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PredictorError, match="is a file"):
        PredictorStore(tmp_path / "file")


def test_reported_results_survive_a_torn_line(store):
    log = ReportedResults(store.home("demo"))
    log.append([("[]1", 0.5)], "a")
    with log.path.open("ab") as file:
        file.write(b'{"architecture": "[3]11/')
    log.append([("[3]11/1", 0.75)], "b")
    assert log.read().texts == ["[]1", "[3]11/1"]
    assert log.read().since(1).scores.tolist() == [0.75]


def test_labels_of_one_architecture_are_averaged(fitted):
    # The second is the first with its two branches swapped.
    labels = Labels(["[31]110/01/1", "[13]110/01/1", "[]1"], np.array([0.5, 0.25, 0.75]))
    twice = Labels(["[3M]101/10/1", "[3M]101/10/1"], np.array([0.5, 1.0]))
    population, scores = labels.joined(twice).averaged(fitted.space)
    assert len(population) == 3
    assert scores.tolist() == [0.375, 0.75, 0.75]


def test_refit_learns_from_labels_and_reports_once(store, fitted):
    log = ReportedResults(store.home("demo"))
    log.append([("[]1", 0.5), ("[3]11/1", 0.6)], "a")
    second = refit(store, "demo")
    assert (second.number, second.facts.n_labels) == (2, 62)
    assert second.facts.origin == {"refit_of": "demo@1", "reported": 2}
    log.append([("[1]11/1", 0.7)], "a")
    third = refit(store, "demo")
    assert len(store.labels(third)) == 63
    assert refit(store, "demo").facts.n_labels == 63


def test_refit_without_labels_says_so(store, fitted):
    store.publish("bare", fitted.predictor, fitted.space)
    with pytest.raises(PredictorError, match="publish it with labels"):
        refit(store, "bare")


_WRITER = """
import sys
from nasplatform.service.store import PredictorStore
store = PredictorStore(sys.argv[1])
predictor, space = store.load(store.find("demo"))
print("ready", flush=True)
while True:
    store.publish("demo", predictor, space, store.labels(store.find("demo", 1)))
"""


@pytest.mark.slow
def test_killed_at_any_moment_the_store_opens_clean(store):
    rng = np.random.default_rng(0)
    for _ in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(store.folder)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.02, 0.3))
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        opened = PredictorStore(store.folder)
        assert not list((store.folder / "demo").glob(".new-*"))
        for number in opened.versions("demo"):
            opened.load(opened.find("demo", number))
            json.loads((opened.find("demo", number).folder / "version.json").read_text())
