"""The contract of a runtime as tests; a plug-in author inherits them in a test module.

class TestMyRuntime(RuntimeContract):
    runtime_name = "my-runtime"
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from nasplatform import plugins
from nasplatform.errors import BuildError, RunError
from nasplatform.models.network import Network
from nasplatform.runtimes.base import Runtime, Session
from nasplatform.runtimes.choice import TOLERANCE, check_session, noise
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest


class RuntimeContract:
    """What every runtime must do, on a tiny network.

    runtime_name: the name under which the runtime is registered.
    """

    runtime_name: ClassVar[str]

    def network(self) -> Network:
        """Return the network that is compiled; override for a runtime of special networks."""
        return tiny_network()

    def runtime(self) -> Runtime:
        """Return the runtime; the test is skipped where it is not available."""
        runtime: Runtime = plugins.make("runtimes", self.runtime_name)
        why = runtime.available()
        if why is not None:
            pytest.skip(f"runtime {self.runtime_name!r} {why}")
        return runtime

    def session(self, network: Network, threads: int = 1) -> Session:
        """Compile a network for the images of the tiny task."""
        return self.runtime().compile(network.module, tiny_task().input_shape, threads)

    def test_it_goes_by_the_name_under_which_it_is_registered(self) -> None:
        """Measurements name the runtime."""
        assert self.runtime().name == self.runtime_name
        assert self.session(self.network()).runtime == self.runtime_name

    @pytest.mark.parametrize("batch", [1, 2, 7, 64])
    def test_logits_are_those_of_torch(self, batch: int) -> None:
        """Whatever the size of the batch."""
        network, shape = self.network(), tiny_task().input_shape
        assert check_session(self.session(network), network.module, shape, batch) <= TOLERANCE

    def test_logits_are_float32_arrays_of_their_own(self) -> None:
        """A later batch does not change an earlier answer."""
        session, images = self.session(self.network()), noise(tiny_task().input_shape, 3)
        first = session.run(images)
        kept = first.copy()
        session.run(-images)
        assert first.dtype == np.float32
        assert np.array_equal(first, kept)
        assert np.array_equal(session.run(images), kept)

    def test_images_are_left_alone(self) -> None:
        """They are used again."""
        images = noise(tiny_task().input_shape, 3)
        before = images.copy()
        self.session(self.network()).run(images)
        assert np.array_equal(images, before)

    def test_module_is_left_alone(self) -> None:
        """Compiling and running change no weight and leave no hook."""
        network = self.network()
        before, modules = state_digest(network.module), repr(network.module)
        self.session(network).run(noise(tiny_task().input_shape, 2))
        assert state_digest(network.module) == before
        assert repr(network.module) == modules
        assert not network.module.training
        assert not any(m._forward_pre_hooks or m._forward_hooks for m in network.module.modules())

    def test_threads_are_those_asked_for_and_torch_keeps_its_own(self) -> None:
        """A latency names its threads."""
        before = torch.get_num_threads()
        session = self.session(self.network(), threads=2)
        session.run(noise(tiny_task().input_shape, 2))
        assert session.threads == 2
        assert torch.get_num_threads() == before

    def test_a_file_is_the_network(self, tmp_path: Path) -> None:
        """What is written is read back to the same logits, and refused when it is damaged."""
        runtime, path = self.runtime(), tmp_path / "network"
        network = self.network().for_task(tiny_task())
        if runtime.suffix is None:
            with pytest.raises(BuildError, match="keeps no network in a file"):
                runtime.write(network, path)
            return
        mine = self.session(network)
        runtime.write(network, path)
        found, images = runtime.read(path), noise(tiny_task().input_shape, 3)
        assert (found.input_shape, found.input) == (
            tiny_task().input_shape,
            network.structure.input,
        )
        assert np.array_equal(found.session.run(images), mine.run(images))
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(RunError):
            runtime.read(path)
