"""The search file of transformers, and transformers that are trained by the search itself."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import nasplatform

FILE = Path(__file__).parents[2] / "searches" / "vit.yaml"
ONE = {"epochs": 1, "optimizer": {"name": "adamw"}}
STAGES = [
    {"name": "train", "recipe": ONE},
    {"name": "disout", "recipe": ONE},
    {
        "name": "scop",
        "recipe": ONE,
        "budget": {"metric": "macs", "keep": 0.6},
        "round_to": 4,
        "knockoffs": {"diagnostic_steps": 2},
        "control": {"epochs": 1},
    },
    {
        "name": "distill",
        "recipe": ONE,
        "unlabelled": None,
        "teacher": {"train": {"name": "resnet", "depth": 8, "width": 4, "recipe": {"epochs": 1}}},
    },
    {"name": "binarize", "recipe": ONE, "shortcuts": True},
]
"""Those of the file, with recipes of one epoch."""


@pytest.mark.slow
def test_the_search_file_runs_with_its_stages(tmp_path: Path) -> None:
    found = nasplatform.run(
        FILE, out=tmp_path / "run", overrides={"search.budget": 25, "stages": STAGES}
    )
    assert found.best["score"] > 0.6  # four of five of the table are below
    frame = nasplatform.read_runs(tmp_path / "run")
    assert len(frame) == 25
    named = [stage["name"] for stage in yaml.safe_load(FILE.read_text())["stages"]]
    stages = found.stages.set_index("stage")
    assert list(stages.index) == named == [stage["name"] for stage in STAGES]
    assert stages["metric_macs_kept"]["scop"] <= 0.6
    assert stages["metric_pinned"]["scop"] == 0
    assert stages["after_bytes_on_disk"]["binarize"] < stages["before_bytes_on_disk"]["binarize"]
    space: Any = nasplatform.get_space("vit", subspace="digits")
    assert all(space.format(space.parse(text)) == text for text in frame["architecture"])


def test_transformers_are_trained_by_a_search(tmp_path: Path) -> None:
    found = nasplatform.run(
        FILE,
        out=tmp_path / "run",
        overrides={
            "space": {"name": "vit", "subspace": "digits"},
            "evaluator": {"name": "trained", "recipe": ONE},
            "search": {"sampler": {"name": "random"}, "budget": 2},
            "stages": [],
        },
    )
    assert 0 < found.best["score"] < 1
