"""What CONTRIBUTING shows: each plug-in of ``docs/plugins`` passes the contract that is shipped.

Nothing is installed: the entry points of its pyproject.toml are laid out as an installer would.
"""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from nasplatform import plugins
from nasplatform.benchmarks.registry import load_table
from nasplatform.catalogue import catalogue
from nasplatform.cli import main
from nasplatform.runs.driver import Run
from nasplatform.testing.datasets import DatasetContract
from nasplatform.testing.encodings import EncodingContract
from nasplatform.testing.networks import NetworkContract
from nasplatform.testing.predictors import PredictorContract
from nasplatform.testing.runtimes import RuntimeContract
from nasplatform.testing.samplers import SamplerContract
from nasplatform.testing.spaces import SpaceContract
from nasplatform.testing.stages import StageContract

SHOWN = Path(__file__).parents[2] / "docs" / "plugins"


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Lay out the distribution of ``docs/plugins`` on the path."""
    project = tomllib.loads((SHOWN / "pyproject.toml").read_text())["project"]
    site = tmp_path_factory.mktemp("site")
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata)
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    with pytest.MonkeyPatch.context() as patch:
        for folder in (SHOWN, site):
            patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(SHOWN), str(site)]))
        plugins._entries.cache_clear()
        yield SHOWN
    plugins._entries.cache_clear()
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


class TestSpace(SpaceContract):
    space_name = "towers"
    options = {"classes": 3}  # noqa: RUF012


class TestEncoding(EncodingContract):
    encoding_name = "node-choices"
    spaces = {"towers": {}, "macro-chain": {}, "nasbench101": {}}  # noqa: RUF012


class TestPredictor(PredictorContract):
    predictor_name = "ridge"


class TestSampler(SamplerContract):
    sampler_name = "annealing"


class TestDataset(DatasetContract):
    dataset_name = "stripes"


class TestNetwork(NetworkContract):
    network_name = "plain"


class TestRuntime(RuntimeContract):
    runtime_name = "traced"


class TestStage(StageContract):
    stage_name = "round-weights"


def test_all_that_is_registered_works() -> None:
    own = [one for one in catalogue() if one.origin == "my-plugins"]
    assert len(own) == 8
    assert not [one for one in own if one.error]


def test_they_run_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Space, table, predictor with its encoding, sampler, data set, runtime, stage: one YAML."""
    from my_table import write_table

    monkeypatch.setenv("NASPLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "towers.csv", 25, epochs=1)
    command = ["data", "import", "towers.csv", "--space", "towers", "--option", "classes=4"]
    assert main([*command, "--score", "accuracy"]) == 0
    assert len(load_table("towers")) == 25
    shutil.copy(SHOWN / "towers.yaml", tmp_path)
    assert main(["run", "towers.yaml"]) == 0
    run = Run(tmp_path / "runs" / "towers")
    assert len(run.evaluations) == 12
    assert run.stages["stage"].tolist()[-2:] == ["train", "round-weights"]
    assert main(["predict", "-p", "runs/towers", "k3w8-k3w8-k3w8-k3w8"]) == 0
    labels = ["--labels", "10", "--draws", "1", "-p", "ridge"]
    assert main(["predictors", "evaluate", "--table", "towers", *labels]) == 0


def test_a_network_without_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(SHOWN / "plain.yaml", tmp_path)
    assert main(["compress", "plain.yaml"]) == 0
    stages = Run(tmp_path / "runs" / "plain").stages
    assert stages["stage"].tolist()[-2:] == ["train", "round-weights"]


def test_contributing_shows_the_files_as_they_are() -> None:
    text = (SHOWN.parents[1] / "CONTRIBUTING.md").read_text()
    for file in sorted(SHOWN.glob("my_*.py")):
        assert f"docs/plugins/{file.name}" in text
        assert len(file.read_text().splitlines()) < 190
    assert yaml.safe_load((SHOWN / "towers.yaml").read_text())["runtime"] == "traced"


def test_towers_cost_what_their_networks_cost() -> None:
    from my_space import TowerSpace

    space = TowerSpace(TowerSpace.Options(classes=4))
    some = space.sample(20, np.random.default_rng(0))
    for tower, params in zip(some, space.graphs(some).total_params.tolist(), strict=True):
        assert sum(p.numel() for p in space.build(tower).parameters()) == params
