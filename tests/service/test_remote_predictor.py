from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from served import serving, until

from nasplatform.cli import main
from nasplatform.errors import ConfigError, PredictorError
from nasplatform.predictors import get_predictor, load_predictor
from nasplatform.runs.driver import run
from nasplatform.service import PredictorStore
from nasplatform.service.client import (
    RequestRejectedError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from nasplatform.service.security import add_key
from nasplatform.spaces import get_space
from nasplatform.testing.predictors import (
    PredictorContract,
    known_cells,
    known_scores,
    other_cells,
)


@pytest.fixture(scope="module")
def local():
    """A predictor of the cells of the contract tests."""
    return get_predictor("gp-trees", trees=40).fit(known_cells(), known_scores())


@pytest.fixture(scope="module")
def remote_service(local, tmp_path_factory):
    store = PredictorStore(tmp_path_factory.mktemp("remote") / "store")
    space = get_space("nasbench101", stem_channels=8, stacks=1, modules_per_stack=1)
    store.publish("demo", local, space)
    with serving(store) as running:
        # From then on an answer is looked up where it was given before: to the last digit the same.
        card = "/v1/predictors/demo"
        until(lambda: running.http.get(card).json()["view"]["done"] == 2000)
        yield running


class TestRemote(PredictorContract):
    """The contract, less what it means to learn: what is served is used as it is."""

    predictor_name = "remote"
    options = {"url": "", "model": "demo"}  # noqa: RUF012
    least_tau = 0.6
    spaces = ("nasbench101",)

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls, remote_service):
        cls.options = {"url": remote_service.url, "model": "demo"}

    def test_the_unit_is_that_of_the_scores(self, fitted):
        cells = other_cells()[:50]
        percent = self.make().fit(known_cells(), 100 * known_scores() - 7, other_cells())
        np.testing.assert_array_equal(percent.predict(cells).mean, fitted.predict(cells).mean)

    def test_says_what_the_served_predictor_says(self, fitted, local):
        cells = other_cells()
        here, there = local.predict(cells), fitted.predict(cells)
        np.testing.assert_allclose(there.mean, here.mean, rtol=1e-6)
        np.testing.assert_allclose(there.std, here.std, rtol=1e-5)

    def test_what_is_saved_holds_no_key(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MY_KEY", "nasp_x_" + "s" * 43)
        made = get_predictor("remote", **self.options, key="MY_KEY")
        made.fit(known_cells(), known_scores()).save(tmp_path / "saved")
        text = b"".join(path.read_bytes() for path in (tmp_path / "saved").iterdir())
        assert b"sssss" not in text
        assert b"MY_KEY" in text


def test_between_two_fits_one_version_answers(store, fitted):
    space, cells = fitted.space, fitted.space.sample(30, np.random.default_rng(5))
    graphs = space.graphs(cells)
    scores = np.linspace(0, 1, 30)
    with serving(store) as running:
        one = get_predictor("remote", url=running.url, model="demo").fit(graphs, scores)
        before = one.predict(graphs).mean
        store.publish("demo", get_predictor("gp-trees", trees=5).fit(graphs, scores), space)
        newest = get_predictor("remote", url=running.url, model="demo", version=2)
        newest.fit(graphs, scores)
        assert np.abs(newest.predict(graphs).mean - before).max() > 0.01
        np.testing.assert_array_equal(one.predict(graphs).mean, before)


def test_what_is_wrong_is_told(remote_service, tmp_path, monkeypatch):
    graphs, scores = known_cells(), known_scores()
    options = {"url": remote_service.url, "model": "demo"}
    with pytest.raises(RequestRejectedError, match="unknown predictor 'dema'"):
        get_predictor("remote", **{**options, "model": "dema"}).fit(graphs, scores)
    with pytest.raises(RequestRejectedError, match="no version '9'"):
        get_predictor("remote", **options, version=9).fit(graphs, scores)
    with pytest.raises(ConfigError, match="url"):
        get_predictor("remote", url="ftp://nowhere", model="demo")
    other = get_space("nasbench201")
    strangers = other.graphs(other.sample(5, np.random.default_rng(0)))
    with pytest.raises(PredictorError, match="'nasbench101', these are of 'nasbench201'"):
        get_predictor("remote", **options).fit(strangers, np.arange(5.0))
    monkeypatch.setattr("nasplatform.service.client._sleep", lambda seconds: None)
    with pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1:1"):
        get_predictor("remote", url="http://127.0.0.1:1", model="demo").fit(graphs, scores)


def test_the_key_comes_from_the_variable_that_is_named(store, fitted, tmp_path, monkeypatch):
    key = add_key(tmp_path / "keys.json", "search", frozenset({"read"}))
    graphs = fitted.space.graphs(fitted.space.sample(4, np.random.default_rng(0)))
    monkeypatch.delenv("NASPLATFORM_API_KEY", raising=False)
    with serving(store, api_keys=tmp_path / "keys.json") as running:
        made = get_predictor("remote", url=running.url, model="demo", key="SEARCH_KEY")
        with pytest.raises(ServiceRefusedError, match="key is missing"):
            made.fit(graphs, np.arange(4.0))
        monkeypatch.setenv("SEARCH_KEY", key)
        assert np.isfinite(made.fit(graphs, np.arange(4.0)).predict(graphs).mean).all()
        made.save(tmp_path / "saved")
        loaded = load_predictor(tmp_path / "saved")
        np.testing.assert_array_equal(loaded.predict(graphs).mean, made.predict(graphs).mean)


def search_file(folder: Path, predictor: dict[str, object]) -> Path:
    search = {
        "name": "small",
        "evaluator": {"name": "table", "table": "cells-fashion", "metric": "valid_accuracy"},
        "predictor": predictor,
        "search": {"sampler": {"name": "predictor"}, "budget": 12},
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(search))
    return path


def test_a_search_asks_a_predictor_that_a_run_has_published(tmp_path, capsys):
    """The whole way round: run, publish, serve, search by URL."""
    file = search_file(tmp_path, {"name": "gp-trees", "trees": 20})
    store = tmp_path / "served"
    arguments = ["run", str(file), "--out", str(tmp_path / "one"), "--json"]
    assert main([*arguments, "--publish", f"{store}:cells"]) == 0
    told = capsys.readouterr()
    assert "published cells@1" in told.err
    assert json.loads(told.out)["published"] == "cells@1"
    version = PredictorStore(store).find("cells")
    assert version.facts.n_labels == 12
    labels = PredictorStore(store).labels(version)
    assert labels is not None
    assert len(labels) == 12

    with serving(PredictorStore(store)) as running:
        remote = {"name": "remote", "url": running.url, "model": "cells"}
        done = run(search_file(tmp_path, remote), tmp_path / "two")
    assert len(done.evaluations) == 12
    asked = done.evaluations[done.evaluations["source"] == "predicted"]
    assert len(asked) >= 6
    local, space = PredictorStore(store).load(version)
    graphs = space.graphs([space.parse(text) for text in asked["architecture"]])
    np.testing.assert_allclose(asked["mean"], local.predict(graphs).mean, rtol=1e-5)


def test_the_same_predictor_is_published_once(tmp_path, capsys):
    file = search_file(tmp_path, {"name": "gp", "steps": 5})
    store = tmp_path / "served"
    arguments = ["run", str(file), "--out", str(tmp_path / "one"), "--publish", str(store)]
    assert main(arguments) == 0
    assert main([*arguments, "--resume"]) == 0
    assert "published small@1" in capsys.readouterr().err
    assert PredictorStore(store).versions("small") == [1]
    assert main([*arguments, "--force", "--set", "seed=1"]) == 0
    assert PredictorStore(store).versions("small") == [1, 2]


@pytest.mark.parametrize(
    ("target", "words"),
    [("", "an empty text after --publish"), (":x", "expected DIR"), ("d:a b", "expected DIR")],
)
def test_a_wrong_target_is_told_before_the_search(tmp_path, capsys, target, words):
    file = search_file(tmp_path, {"name": "gp-trees"})
    out = tmp_path / "run"
    assert main(["run", str(file), "--out", str(out), "--publish", target]) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_a_search_without_a_predictor_has_none_to_publish(tmp_path, capsys):
    file = search_file(tmp_path, {"name": "gp-trees"})
    search = yaml.safe_load(file.read_text())
    del search["predictor"]
    random = {"sampler": {"name": "random"}, "budget": 3}
    file.write_text(yaml.safe_dump({**search, "search": random}))
    assert main(["run", str(file), "--out", str(tmp_path / "r"), "--publish", "d:x"]) == 2
    assert "names no predictor" in capsys.readouterr().err
