from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from nasplatform.cli import main
from nasplatform.runs.saved import save_predictor
from nasplatform.service import PredictorStore

PREDICT = "/v1/predictors/found/predict"


def serve(*arguments):
    """Start the command; return the process and its address."""
    run = "import sys; from nasplatform.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", run, "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    words = []
    for line in process.stderr:
        words.append(line)
        found = re.search(r"at (http://\S+)", line)
        if found:
            return process, found[1]
    raise AssertionError("".join(words))


@pytest.mark.slow
def test_a_runs_predictor_is_served_and_killed_and_served_again(tmp_path, fitted):
    run, store = tmp_path / "run", tmp_path / "store"
    save_predictor(fitted.predictor, fitted.space, run / "predictor")
    options = ["--predictors", store, "--set", "reference=500"]
    process, url = serve(*options, "--add", f"found={run}")
    try:
        with httpx.Client(base_url=url, timeout=60) as http:
            body = http.post(PREDICT, json={"architectures": ["[3M]101/10/1"]}).json()
            assert body["version"] == 1
            report = {"evaluations": [{"architecture": "[]1", "score": 0.25}]}
            path = "/v1/predictors/found/evaluations"
            assert http.post(path, json=report).json()["reported"] == 1
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert PredictorStore(store).versions("found") == [1]

    process, url = serve(*options, "--add", f"found={run}")
    try:
        with httpx.Client(base_url=url, timeout=60) as http:
            again = http.post(PREDICT, json={"architectures": ["[3M]101/10/1"]}).json()
            assert again["version"] == 2
            assert again["results"][0]["mean"] == pytest.approx(body["results"][0]["mean"])
        process.send_signal(signal.SIGTERM)
        lines = [json.loads(line) for line in process.stderr]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    events = [line["event"] for line in lines]
    assert "loaded" in events
    (asked,) = [line for line in lines if line.get("endpoint") == f"POST {_template()}"]
    assert (asked["status"], asked["items"], asked["model"]) == (200, 1, "found@2")


def _template():
    return "/v1/predictors/{name}/predict"


def test_a_missing_file_of_keys_is_told_before_anything_listens(tmp_path, capsys):
    missing = tmp_path / "keys.json"
    arguments = ["serve", "--predictors", str(tmp_path / "store"), "--api-keys", str(missing)]
    assert main([*arguments, "--host", "0.0.0.0"]) == 2
    assert f"{missing}: no such file" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_that_is_taken_is_told_in_one_line(tmp_path, capfd, host):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        arguments = ["serve", "--predictors", str(tmp_path / "store"), "--host", host]
        assert main([*arguments, "--port", port]) == 2
    *_, line = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: --host {host} --port {port}: cannot be listened on (")
    assert "--port 0 takes a free one" in line


@pytest.mark.slow
def test_a_damaged_predictor_is_told_once_and_the_others_are_served(store, fitted):
    store.publish("whole", fitted.predictor, fitted.space)
    (store.find("demo").folder / "card.json").write_text("{")
    process, url = serve("--predictors", store.folder, "--set", "reference=500", "--quiet")
    try:
        with httpx.Client(base_url=url, timeout=60) as http:
            listed = http.get("/v1/predictors").json()
            assert [card["name"] for card in listed["predictors"]] == ["whole"]
            asked = http.post("/v1/predictors/demo/predict", json={"architectures": []})
            assert asked.status_code == 409
        process.send_signal(signal.SIGTERM)
        lines = process.stderr.read().splitlines()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    (told,) = [json.loads(line) for line in lines]
    assert (told["event"], told["predictor"]) == ("skipped", "demo")
    assert "card.json" in told["error"]
    assert listed["broken"]["demo"] == told["error"]
    assert told["error"] in asked.json()["detail"]
