"""What others may import: the names that the package and its rooms offer, and no others.

A name that is taken away or renamed breaks somebody's code: whoever does it changes this list too,
and says so in CHANGELOG.md.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import nasplatform

ROOMS = {
    "nasplatform": "Run compress get_predictor get_space list_runs read_epochs read_predictions "
    "read_runs read_stages read_timings run",
    "nasplatform.encodings": "Encoding get_encoding",
    "nasplatform.executors": "EvaluationRequest EvaluatorSpec Executor ExecutorContext",
    "nasplatform.models.networks": "build_network describe_network",
    "nasplatform.predictors": "Prediction Predictor get_predictor load_predictor",
    "nasplatform.search": "ArchitectureSampler History OptimizationConfig PredictorSampler "
    "Proposal RandomSampler SamplerContext Step TrialRecord open_study search",
    "nasplatform.service": "AsyncPredictorClient PredictorClient PredictorStore Settings "
    "create_app",
    "nasplatform.spaces": "Architecture GraphBatch Operation Population Space concatenate "
    "get_space",
    "nasplatform.visualization": "architecture_drawing benchmark_card calibration colour_of front "
    "learning_curves new_axes predictions regret save search_curves stage_walk tau_against_labels "
    "workers",
}
PACKAGES = ["nasplatform"] + [
    found.name
    for found in pkgutil.walk_packages(nasplatform.__path__, "nasplatform.")
    if found.ispkg and "migrations" not in found.name
]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_offers_these_names(room: str) -> None:
    assert sorted(importlib.import_module(room).__all__) == ROOMS[room].split()


@pytest.mark.parametrize("package", PACKAGES)
def test_all_that_is_offered_is_there_and_explained(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    for name in names:
        assert not name.startswith("_")
        found = getattr(module, name)
        assert getattr(found, "__doc__", None) or not callable(found), name


def test_a_star_import_brings_what_is_offered_and_nothing_else() -> None:
    code = "space = {}; exec('from nasplatform import *', space); print(*sorted(space))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted([*ROOMS["nasplatform"].split(), "__builtins__"])


def test_the_reference_explains_what_the_package_and_the_pictures_offer() -> None:
    page = Path(__file__).parents[1] / "docs" / "reference" / "python.md"
    told = {line.removeprefix("::: ") for line in page.read_text().splitlines()}
    for room in ("nasplatform", "nasplatform.visualization"):
        for name in ROOMS[room].split():
            home = "nasplatform.runs.run.Run" if name == "Run" else f"{room}.{name}"
            assert home in told, home
