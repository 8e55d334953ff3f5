"""New versions while a service runs: by refits, and by others who publish."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from served import PREDICT, problem, serving, until

from nasplatform.predictors import get_predictor
from nasplatform.predictors.fitting import fit_on_space
from nasplatform.service import PredictorStore
from nasplatform.service.labels import Labels, ReportedResults
from nasplatform.service.refit import refit
from nasplatform.spaces import get_space


def graph_networks(version):
    state = load_file(version.folder / "state.safetensors")
    return {name.partition(".")[0] for name in state if name.startswith("distilled_gnn")}


@pytest.mark.slow
def test_a_refit_keeps_the_graph_networks(tmp_path):
    space = get_space("nasbench101", stem_channels=8, stacks=1, modules_per_stack=1)
    cells = space.sample(100, np.random.default_rng(0))
    scores = np.log(space.graphs(cells).total_params.astype(float))
    made = get_predictor("default", steps=2, trees=5, distilled_gnns=1)
    fit_on_space(made, space, cells, scores)
    store = PredictorStore(tmp_path / "store")
    labels = Labels([space.format(cell) for cell in cells], scores)
    before = store.publish("demo", made, space, labels)
    ReportedResults(store.home("demo")).append([("[]1", 0.5)], "tester")
    after = refit(store, "demo")
    assert graph_networks(after) == graph_networks(before) == {"distilled_gnn0"}
    assert after.facts.n_labels == 101


@pytest.mark.slow
def test_results_are_reported_and_refitted_while_others_ask(store, fitted):
    path = "/v1/predictors/demo/evaluations"
    with serving(store) as running:
        body = [{"architecture": "[]1", "score": 0.5}, {"architecture": "nix", "score": 0.5}]
        answer = running.http.post(path, json={"evaluations": body}).json()
        assert (answer["accepted"], answer["reported"]) == (1, 1)
        assert [error["index"] for error in answer["errors"]] == [1]
        assert answer["refit"]["state"] == "none"
        for score in ("NaN", "1e999", '"x"', "null"):
            text = f'{{"evaluations": [{{"architecture": "[]1", "score": {score}}}]}}'
            bad = running.http.post(
                path, content=text, headers={"content-type": "application/json"}
            )
            assert "evaluations.0.score" in problem(bad, 422, "bad-body")
        problem(running.http.post(path, json={"evaluations": []}), 422, "bad-body")
        problem(running.http.post(path.replace("demo", "demo@1"), json={}), 409, "conflict")

        begun = running.http.post(
            path, json={"evaluations": [{"architecture": "[3]11/1", "score": 0.7}], "refit": True}
        )
        assert begun.json()["refit"]["state"] == "running"
        versions = []

        def refitted():
            versions.append(
                running.http.post(PREDICT, json={"architectures": ["[]1"]}).json()["version"]
            )
            return running.http.get("/v1/predictors/demo/refit").json()["state"] != "running"

        until(refitted)
        state = running.http.get("/v1/predictors/demo/refit").json()
        assert (state["state"], state["version"]) == ("done", 2)
        assert running.http.get("/v1/predictors/demo").json()["version"] == 2
        assert versions == sorted(versions)
        old = running.http.post("/v1/predictors/demo@1/predict", json={"architectures": ["[]1"]})
        assert old.json()["version"] == 1
        assert math.isfinite(old.json()["results"][0]["mean"])
    assert store.find("demo").facts.n_labels == 62


def test_the_store_is_followed_without_a_restart(store, fitted, tmp_path):
    # Damaged elsewhere and moved in: the service could load it between its coming and its damage.
    damaged = PredictorStore(tmp_path / "other").publish("demo", fitted.predictor, fitted.space)
    (damaged.folder / "card.json").write_text("{}")
    with serving(store) as running:
        store.publish("fresh", fitted.predictor, fitted.space)
        until(lambda: running.http.get("/v1/predictors/fresh").status_code == 200)
        no_labels = {"evaluations": [{"architecture": "[]1", "score": 0.5}], "refit": True}
        answer = running.http.post("/v1/predictors/fresh/evaluations", json=no_labels)
        assert "publish it with labels" in problem(answer, 409, "conflict")
        damaged.folder.rename(store.home("demo") / "2")
        until(lambda: "demo" in running.http.get("/v1/predictors").json()["broken"])
        body = running.http.post(PREDICT, json={"architectures": ["[]1"]}).json()
        assert body["version"] == 1  # the one before goes on


def test_a_refit_ends_with_its_service(store):
    """Killed as the system kills: nothing is published behind the back of the next service."""
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from nasplatform.service.refit import Refitter\n"
        "made = Refitter(Path(sys.argv[1]), lambda name, outcome: None)\n"
        "made.start('demo')\n"
        "while not made._processes: time.sleep(0.01)\n"
        "print(made._processes['demo'].pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(store.folder)]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    refit = int(service.stdout.readline())
    assert Path(f"/proc/{refit}").exists()
    service.kill()
    service.wait()
    service.stdout.close()
    until(lambda: not running(refit))
    assert store.versions("demo") == [1]
    assert not list(PredictorStore(store.folder).home("demo").glob(".new-*"))


def running(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
