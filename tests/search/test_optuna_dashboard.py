"""Optuna's dashboard shows a search that is under way, and does not disturb it."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

import nasplatform
from nasplatform.runs.events import Event

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("optuna_dashboard") is None,
        reason="optuna-dashboard is not installed: pip install optuna-dashboard",
    ),
]
SEARCH = {
    "name": "toy",
    "space": {"name": "bits", "n": 8},
    "evaluator": {"name": "bits"},
    "search": {"budget": 25, "sampler": {"name": "nsga2"}, "objectives": {"params": "minimize"}},
}
DASHBOARD = "from optuna_dashboard._cli import main; main()"


@contextmanager
def dashboard(storage: str) -> Iterator[str]:
    """Serve a storage on a free port; yield the address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", DASHBOARD, storage, "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        until = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert server.poll() is None, "the dashboard ended"
            assert time.monotonic() < until
            time.sleep(0.2)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def told(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.usefixtures("toy")
def test_a_live_search_is_shown_and_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(SEARCH))
    seen: list[Any] = []

    def look(event: Event) -> None:
        if event.phase == "search" and event.done == 21 and not seen:
            with dashboard(f"sqlite:///{tmp_path}/run/study.db") as at:
                (summary,) = told(f"{at}/api/studies")["study_summaries"]
                study = told(f"{at}/api/studies/{summary['study_id']}?after=0")
            seen.append((summary, study))

    run = nasplatform.run(file, tmp_path / "run", watch=look)
    summary, study = seen[0]
    assert (summary["study_name"], summary["directions"]) == ("toy", ["maximize", "minimize"])
    shown = {t["number"]: t["values"] for t in study["trials"] if t["state"] == "Complete"}
    assert len(shown) >= 21
    found = run.evaluations.set_index("number")
    for number, values in shown.items():
        assert values == [found.loc[number, "score"], found.loc[number, "params"]]
    assert len(found.loc[:, "hash"].unique()) == 25
