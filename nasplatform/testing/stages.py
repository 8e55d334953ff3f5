"""The contract of a stage as tests; a plug-in author inherits them in a test module.

class TestMyStage(StageContract):
    stage_name = "my-stage"
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from nasplatform import plugins
from nasplatform.models.network import Network
from nasplatform.stages.base import StageContext, StageResult
from nasplatform.stages.pipeline import make_stage
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.evaluation import predict


class StageContract:
    """What every stage must do, on a tiny network and task.

    stage_name: the name under which the stage is registered.
    options:    its options; None takes the defaults, with recipes of one epoch.
    """

    stage_name: ClassVar[str]
    options: ClassVar[Mapping[str, Any] | None] = None

    def network(self) -> Network:
        """Return the network that is given; override for a stage of other networks."""
        return tiny_network()

    def apply(self, network: Network, folder: Path, seed: int = 0) -> StageResult:
        """Apply the stage with its options in a folder of its own."""
        options = self.options
        if options is None:
            kind = plugins.get("stages", self.stage_name)
            options = {"recipe": {"epochs": 1}} if "recipe" in kind.Options.model_fields else {}
        folder.mkdir(exist_ok=True)
        stage = make_stage(self.stage_name, options, "contract")
        return stage.apply(network, tiny_task(), StageContext(folder, seed))

    def test_result_saves_and_loads_to_equal_outputs(self, tmp_path: Path) -> None:
        """What is deployed can be rebuilt from its folder alone."""
        network = self.apply(self.network(), tmp_path / "stage").network
        network.save(tmp_path / "network")
        loaded = Network.load(tmp_path / "network")
        inputs = tiny_task().test.inputs
        assert loaded.structure == network.structure
        assert torch.equal(predict(loaded.module, inputs), predict(network.module, inputs))

    def test_network_given_is_untouched(self, tmp_path: Path) -> None:
        """The network before the stage can be used on."""
        network = self.network()
        structure, weights = network.structure.to_json(), state_digest(network.module)
        self.apply(network, tmp_path / "stage")
        assert network.structure.to_json() == structure
        assert state_digest(network.module) == weights

    def test_something_changes(self, tmp_path: Path) -> None:
        """A stage that changes nothing must raise StageError."""
        network = self.network()
        after = self.apply(network, tmp_path / "stage").network
        same_structure = after.structure == network.structure
        assert not same_structure or state_digest(after.module) != state_digest(network.module)

    def test_same_seed_same_result(self, tmp_path: Path) -> None:
        """On a CPU the seed decides everything, whatever else draws random numbers."""
        first = self.apply(self.network(), tmp_path / "first", seed=3)
        torch.rand(1)
        second = self.apply(self.network(), tmp_path / "second", seed=3)
        assert first.network.structure == second.network.structure
        assert state_digest(first.network.module) == state_digest(second.network.module)

    def test_another_run_in_the_same_folder_gives_the_same(self, tmp_path: Path) -> None:
        """A stage that was killed at its very end resumes to the same result."""
        first = self.apply(self.network(), tmp_path / "stage")
        second = self.apply(self.network(), tmp_path / "stage")
        assert state_digest(first.network.module) == state_digest(second.network.module)

    def test_leaves_the_generators_alone(self, tmp_path: Path) -> None:
        """A stage draws from generators of its own, so the caller's numbers do not change."""
        before = torch.random.get_rng_state()
        self.apply(self.network(), tmp_path / "stage")
        assert torch.equal(before, torch.random.get_rng_state())

    def test_metrics_and_epochs_are_numbers(self, tmp_path: Path) -> None:
        """Both become frames; a stage that trains tells its epochs from 1, column by column."""
        result = self.apply(self.network(), tmp_path / "stage")
        assert all(math.isfinite(value) for value in result.metrics.values())
        assert all(path.exists() for path in result.artifacts.values())
        curve = result.curve
        trains = "recipe" in plugins.get("stages", self.stage_name).Options.model_fields
        assert bool(curve) or not trains
        if curve:
            count = len(curve["epoch"])
            assert list(curve["epoch"]) == list(range(1, count + 1))
            assert {len(values) for values in curve.values()} == {count}
