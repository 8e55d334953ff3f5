"""One bad version, or one bad predictor, takes nothing else down."""

from __future__ import annotations

import json
import os
import shutil
import time

import numpy as np
import pytest
from served import PREDICT, serving, until

from nasplatform.atomic_io import sha256
from nasplatform.errors import PredictorError
from nasplatform.service import PredictorStore, Settings
from nasplatform.service.labels import Labels, ReportedResults
from nasplatform.service.models import Models
from nasplatform.service.space_ranking import RankingBuilder


def damaged_copy(store, number, file, change):
    """Make the next version beside the store, damage it, and let it appear as a whole."""
    home = store.folder / "demo"
    made = store.folder.parent / "made"
    shutil.copytree(home / "1", made)
    change(made / file)
    made.rename(home / str(number))


def rewrite(**values):
    """Return a change of a JSON file; the digest of a card is made right."""

    def change(path):
        found = json.loads(path.read_text())
        path.write_text(json.dumps({**found, **values}))
        if path.name != "version.json":
            facts = path.parent / "version.json"
            known = json.loads(facts.read_text())
            known["files"][path.name] = sha256(path)
            facts.write_text(json.dumps(known))

    return change


BAD = [
    ("version.json", rewrite(files=[]), "cannot be read"),
    ("version.json", rewrite(files={}), "no digest of card.json"),
    ("version.json", rewrite(published=5), "cannot be read"),
    ("version.json", rewrite(origin={"x": float("nan")}), "cannot be read"),
    ("version.json", lambda path: path.write_text('{"origin": {"x": "\\ud800"}}'), "be read"),
    ("version.json", lambda path: path.write_bytes(b"[" * 50_000), "cannot be read"),
    ("card.json", rewrite(n_labels=-1), "n_labels"),
    ("card.json", rewrite(seed=1 << 64), "seed"),
    ("card.json", rewrite(graphs={"n_nodes": -1}), "damaged predictor"),
    ("card.json", lambda path: rewrite(predictor=["renas"])(path), "the name of a pred"),
    ("space.json", rewrite(input_shape=[3, 1 << 63, 8]), "too large"),
    ("space.json", rewrite(name=7), "space"),
    ("state.safetensors", lambda path: path.write_bytes(b"\0" * 8), "changed after"),
]


@pytest.mark.parametrize(("file", "change", "words"), BAD)
def test_the_version_before_answers_and_that_is_said(store, file, change, words):
    damaged_copy(store, 2, file, change)
    models = Models(store, Settings())
    assert [model.version.number for model in models.reload()] == [1]
    assert words in models.broken["demo"]
    assert "demo@1 answers in its place" in models.broken["demo"]
    with pytest.raises(PredictorError):
        models.get("demo", "2")
    assert models.get("demo").version.number == 1


def test_a_running_service_goes_on_following_after_each_of_them(store, fitted):
    with serving(store) as running:
        listing = lambda: running.http.get("/v1/predictors").json()  # noqa: E731
        for number, (file, change, _) in enumerate(BAD, start=2):
            damaged_copy(store, number, file, change)
            until(lambda n=number: f"demo@{n}:" in listing()["broken"].get("demo", ""))
            assert running.http.get(f"/v1/predictors/demo@{number}").status_code == 409
        store.publish("demo", *fitted)
        until(lambda: listing()["predictors"][0]["version"] == len(BAD) + 2)
        assert listing()["predictors"][0]["notice"] is None
        assert not listing()["broken"]
        assert running.http.get("/v2/health/ready").status_code == 200


def test_a_service_whose_only_predictor_is_broken_is_not_ready(store, fitted):
    shutil.move(store.folder / "demo", store.folder.parent / "kept")
    with serving(store) as running:
        made = store.folder.parent / "kept"
        rewrite(files=[])(made / "1" / "version.json")
        made.rename(store.folder / "demo")
        until(lambda: running.http.get("/v2/health/ready").status_code == 503)
        assert "demo" in running.http.get("/v2/health/ready").json()["detail"]
        assert running.http.get("/v1/predictors/demo").status_code == 409
        store.publish("demo", *fitted)
        until(lambda: running.http.get("/v2/health/ready").status_code == 200)


def test_what_predicts_no_numbers_is_not_published(store, fitted, monkeypatch):
    spoilt = fitted.predictor.load(store.folder / "demo" / "1")
    spoilt._slope = float("inf")
    with pytest.raises(PredictorError, match="not finite"):
        store.publish("demo", spoilt, fitted.space)
    assert store.versions("demo") == [1]
    assert not list((store.folder / "demo").glob(".new-*"))


def test_scores_that_no_predictor_can_learn_from_are_refused_before_a_fit(fitted):
    cells = fitted.space.sample(8, np.random.default_rng(0))
    with pytest.raises(PredictorError, match="within 1e\\+12 of 0"):
        type(fitted.predictor)().fit(fitted.space.graphs(cells), [1e308, -1e308] * 4)


def test_leftovers_of_a_name_that_never_had_a_version_are_removed(tmp_path):
    left = tmp_path / "store" / "demo" / ".new-x" / "content"
    left.mkdir(parents=True)
    PredictorStore(tmp_path / "store")
    assert not left.exists()


def test_a_pipe_in_place_of_a_file_is_not_waited_for(store):
    made = store.folder / "pipes"
    shutil.copytree(store.folder / "demo" / "1", made / "1")
    for file in ("version.json", "space.json"):
        (made / "1" / file).unlink()
        os.mkfifo(made / "1" / file)
        with pytest.raises(PredictorError, match=r"no regular file|is missing"):
            store.load(store.find("pipes"))
        shutil.copyfile(store.folder / "demo" / "1" / file, made / "1" / "copy")
        (made / "1" / file).unlink()
        (made / "1" / "copy").rename(made / "1" / file)


def link_to_nothing(path):
    path.unlink()
    path.symlink_to("nowhere")


def link_in_a_circle(path):
    path.unlink()
    path.symlink_to(path.name)


def folder_in_its_place(path):
    path.unlink()
    path.mkdir()


def a_hole_of_terabytes(path):
    with path.open("r+b") as file:
        file.truncate(8 << 40)


def from_the_future(path):
    path.write_text(path.read_text().replace('"published":"20', '"published":"99'))
    os.utime(path, (1 << 34, 1 << 34))


STRANGE = [link_to_nothing, link_in_a_circle, folder_in_its_place, a_hole_of_terabytes]


@pytest.mark.parametrize("change", STRANGE)
@pytest.mark.parametrize("file", ["state.safetensors", "space.json", "version.json"])
def test_whatever_stands_in_place_of_a_file_the_version_before_answers(store, file, change):
    damaged_copy(store, 2, file, change)
    models = Models(store, Settings())
    begun = time.monotonic()
    assert [model.version.number for model in models.reload()] == [1]
    assert time.monotonic() - begun < 20
    assert "demo@1 answers in its place" in models.broken["demo"]


@pytest.mark.parametrize("change", [*STRANGE, from_the_future])
def test_what_is_not_needed_to_predict_may_be_anything(store, change):
    made = store.folder / "demo"
    for file in ("aliases.json", "reported.jsonl"):
        (made / file).write_text("{}\n")
        change(made / file)
    models = Models(store, Settings())
    assert [model.version.number for model in models.reload()] == [1]


def test_reported_results_may_be_anything(store):
    log = ReportedResults(store.folder / "demo")
    lines = [b"[" * 50_000, b'{"architecture": "[]1", "score": ' + b"9" * 400 + b"}", b"\xff", b"5"]
    log.path.write_bytes(b"\n".join([*lines, b'{"architecture": "[]1", "score": 0.5}']))
    assert log.read().texts == ["[]1"]
    log.path.unlink()
    os.mkfifo(log.path)
    for act in (log.read, lambda: log.append([("[]1", 0.5)], "me")):
        with pytest.raises(OSError, match="no regular file"):
            act()


def test_labels_far_outside_of_the_known_ones_are_told(service):
    body = {"evaluations": [{"architecture": "[]1", "score": 94.2}]}
    answer = service.http.post("/v1/predictors/demo/evaluations", json=body).json()
    assert answer["accepted"] == 0
    assert "unit" in answer["errors"][0]["detail"]


@pytest.mark.parametrize("score", [1e308, -1e308, 1e13])
def test_scores_beyond_bounds_are_refused(service, score):
    body = {"evaluations": [{"architecture": "[]1", "score": score}]}
    answer = service.http.post("/v1/predictors/demo/evaluations", json=body)
    assert answer.status_code == 422


def test_labels_on_disk_may_be_anything(store):
    path = store.folder / "demo" / "1" / "labels.parquet"
    path.write_bytes(b"PAR1" * 9)
    with pytest.raises(PredictorError, match="holds no labels"):
        store.labels(store.find("demo"))
    assert isinstance(Labels(["a"], np.ones(1)), Labels)


def test_a_space_that_cannot_be_ranked_is_told_and_still_predicted(store, service, monkeypatch):
    # The server that other tests share must have done its ranking before nobody can.
    until(lambda: service.http.get("/v1/predictors/demo").json()["view"]["done"] == 2000)

    def fail(self):
        raise ValueError("of one architecture")

    monkeypatch.setattr(RankingBuilder, "step", fail)
    with serving(store) as running:
        suggest = lambda: running.http.post("/v1/predictors/demo/suggest", json={})  # noqa: E731
        until(lambda: suggest().status_code == 409)
        assert "of one architecture" in suggest().json()["detail"]
        said = running.http.post(PREDICT, json={"architectures": ["[]1"]}).json()
        assert said["results"][0]["mean"] is not None
