"""Stages as a task of a cluster: the same networks as here, and errors in the same line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nasplatform.errors import NasplatformError
from nasplatform.executors.ray_executor import RayExecutor, RayOptions
from nasplatform.models.network import Network
from nasplatform.spaces import get_space
from nasplatform.stages.pipeline import run_pipeline
from nasplatform.stages.remote import walk_elsewhere
from nasplatform.training.datasets import load_task

CELL: dict[str, Any] = {"name": "nasbench101", "stem_channels": 4, "modules_per_stack": 1}
TRAIN = ("train", {"recipe": {"epochs": 1, "batch_size": 256}})


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_stages_on_ray_leave_the_network_that_they_leave_here(tmp_path: Path) -> None:
    space = get_space(**CELL).with_input((1, 8, 8), 10)
    network = Network.of(space, space.parse("[333]1101/110/10/1"), 0)
    _, here = run_pipeline(network.copy(), load_task("digits", {}, "task"), [TRAIN], tmp_path / "a")
    how: Any = (network.structure, ("digits", {}))
    with RayExecutor(RayOptions()) as executor:
        there = walk_elsewhere(executor, *how, [TRAIN], tmp_path / "b", 0, "cpu", None)
        with pytest.raises(NasplatformError, match="unknown stage 'trian'") as refused:
            walk_elsewhere(executor, *how, [("trian", {})], tmp_path / "c", 0, "cpu", None)
    assert "\n" not in str(refused.value)
    assert there is not None
    assert there[0]["after"]["accuracy"] == here[0]["after"]["accuracy"]
    one, other = (Network.load(tmp_path / x / "0-train" / "network").module for x in "ab")
    for ours, theirs in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
