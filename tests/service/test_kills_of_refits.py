"""Killed at any step of a refit, its publication included, a store opens clean and goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nasplatform.predictors import get_predictor
from nasplatform.service import PredictorStore
from nasplatform.service.labels import Labels, ReportedResults
from nasplatform.service.refit import refit
from nasplatform.spaces import get_space

# Refits copies of a store: unharmed, then killed at some of the steps that touched the first one.
KILLER = """
import os, shutil, signal, sys
from nasplatform.service.refit import refit
from nasplatform.service.store import PredictorStore

def begin(folder, end):
    steps = 0
    def step(event, arguments):
        nonlocal steps
        if any(str(folder) in str(each) for each in arguments):
            steps += 1
            if steps == end:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(step)
    refit(PredictorStore(folder), "demo")
    return steps

def killed(source, folder, end):
    shutil.copytree(source, folder)
    there, here = os.pipe()
    child = os.fork()
    if not child:
        os.write(here, str(begin(folder, end)).encode())
        os._exit(0)
    os.close(here)
    os.waitpid(child, 0)
    return int(os.read(there, 20) or 0)

source, out, stride = sys.argv[1], sys.argv[2], int(sys.argv[3])
steps = killed(source, out + "/unharmed", -1)
for end in range(steps, 0, -stride):
    killed(source, f"{out}/{end}", end)
"""


@pytest.fixture
def small(tmp_path: Path) -> PredictorStore:
    """A store whose predictor is refitted in a moment, with an alias and a reported result."""
    space = get_space("nasbench201")
    cells = space.sample(20, np.random.default_rng(0))
    graphs = space.graphs(cells)
    scores = graphs.total_params / graphs.total_params.max()
    labels = Labels([space.format(cell) for cell in cells], scores)
    store = PredictorStore(tmp_path / "store")
    store.publish("demo", get_predictor("trees", trees=3).fit(graphs, scores), space, labels)
    store.point("demo", "latest", 1)
    store.point("demo", "stable", 1)
    ReportedResults(store.home("demo")).append([(labels.texts[0], 0.5)], "tester")
    return store


def require_clean(folder: Path) -> int:
    """Open a store that was killed; return how many versions it has, all of them whole."""
    store = PredictorStore(folder)
    numbers = store.versions("demo")
    assert numbers == list(range(1, len(numbers) + 1))
    for number in numbers:
        version = store.find("demo", number)
        store.load(version)
        assert store.labels(version) is not None
    assert store.aliases("demo")["stable"] == 1
    inside = {path.name for path in store.home("demo").iterdir()} - set(map(str, numbers))
    assert inside <= {".lock", ".views", "aliases.json", "reported.jsonl"}
    return len(numbers)


@pytest.mark.parametrize("stride", [15, pytest.param(1, marks=pytest.mark.slow)])
def test_a_refit_that_is_killed_at_any_step_leaves_a_clean_store(small, tmp_path, stride):
    out = tmp_path / "killed"
    subprocess.run(
        [sys.executable, "-c", KILLER, str(small.folder), str(out), str(stride)], check=True
    )
    found = {path.name: require_clean(path) for path in out.iterdir()}
    assert found.pop("unharmed") == 2
    assert len(found) > 90 // stride
    assert set(found.values()) == {1, 2}  # before its rename and after it
    assert refit(PredictorStore(out / min(found, key=int)), "demo").number == 2
