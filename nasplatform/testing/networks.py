"""The contract of a network as tests; a plug-in author inherits them in a test module.

class TestMyNetwork(NetworkContract):
    network_name = "my-network"
    options = {"width": 8}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from nasplatform.models.check import checked
from nasplatform.models.costs import count_parameters
from nasplatform.models.network import Network
from nasplatform.runtimes.choice import open_session
from nasplatform.testing.tiny import CLASSES, SIDE, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.evaluation import predict
from nasplatform.training.loop import train
from nasplatform.training.recipe import Recipe


class NetworkContract:
    """What every registered network must do, on a tiny task.

    network_name: the name under which it is registered.
    options:      so chosen that it is small; it is given 1 x 8 x 8 images of 3 classes.
    """

    network_name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}

    def network(self, seed: int = 0) -> Network:
        """Build the network."""
        tiny = {"input_shape": (1, SIDE, SIDE), "classes": CLASSES}
        return Network.named(self.network_name, seed, **tiny | dict(self.options))

    def test_it_passes_the_check_before_stages(self) -> None:
        """A registered network returns its logits and nothing else."""
        assert checked(self.network(), tiny_task()).structure.edits == ()

    def test_weights_follow_from_the_seed_alone(self) -> None:
        """Stages start from it again and again."""
        first = state_digest(self.network(3).module)
        torch.rand(1)
        assert state_digest(self.network(3).module) == first
        assert state_digest(self.network(4).module) != first

    def test_it_is_saved_and_loaded_by_name(self, tmp_path: Path) -> None:
        """The folder alone is enough."""
        network, images = self.network(3), tiny_task().test.inputs
        network.save(tmp_path / "network")
        loaded = Network.load(tmp_path / "network")
        assert loaded.structure == network.structure
        assert torch.equal(predict(loaded.module, images), predict(network.module, images))

    def test_every_parameter_is_computed_with(self) -> None:
        """What is not used need not be there."""
        module = self.network().module
        whole = sum(parameter.numel() for parameter in module.parameters())
        assert count_parameters(module, tiny_task().input_shape) == whole

    def test_it_can_be_trained(self) -> None:
        """An epoch changes its weights and leaves finite logits."""
        network = self.network()
        before = state_digest(network.module)
        train(network.module, tiny_task(), Recipe(epochs=1, batch_size=16), 0)
        assert state_digest(network.module) != before
        assert bool(predict(network.module, tiny_task().test.inputs).isfinite().all())

    def test_the_default_runtime_computes_it(self) -> None:
        """It is timed in the engine that would be deployed."""
        module, shape = self.network().module, tiny_task().input_shape
        assert open_session(module, shape, batches=(1, 2, 64)).note == ""
