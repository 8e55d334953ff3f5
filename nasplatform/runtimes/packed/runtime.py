"""The runtime ``packed``: counts bits where others multiply floats."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import nn

from nasplatform.errors import NetworkError
from nasplatform.models.binary import binary_layers
from nasplatform.models.network import Network
from nasplatform.runtimes.base import Deployed, Runtime, Session
from nasplatform.runtimes.packed.costs import program_costs
from nasplatform.runtimes.packed.file import SUFFIX, read_packed, write_program
from nasplatform.runtimes.packed.lowering import lowered
from nasplatform.runtimes.packed.session import PackedSession


class Packed(Runtime):
    """Binary layers as XNOR and popcount on one bit a value, the others in float32.

    Needs a C compiler when it is first used on a machine; without one numpy computes, and the
    session's note says so.
    """

    name: ClassVar[str] = "packed"
    preference: ClassVar[int] = 20
    suffix: ClassVar[str | None] = SUFFIX

    def suits(self, module: nn.Module) -> bool:
        """Say whether there is a binary layer."""
        return bool(binary_layers(module))

    def compile(
        self, module: nn.Module, input_shape: tuple[int, int, int], threads: int = 1
    ) -> Session:
        """Follow a module; raise BuildError for an operation that is not known."""
        return PackedSession(lowered(module, input_shape), threads)

    def write(self, network: Network, path: Path) -> None:
        """Write a file for ``read_packed``."""
        write_packed(network, path)

    def read(self, path: Path, threads: int = 1) -> Deployed:
        """Read such a file."""
        found = read_packed(path)
        costs = program_costs(found.program)
        return Deployed(found.session(threads), found.program.image_shape, found.input, costs)


def write_packed(network: Network, path: Path) -> None:
    """Write a network as one file that ``read_packed`` makes ready to run, without torch.

    Raises NetworkError where its structure does not say what images it takes, BuildError for an
    operation that the runtime does not know.
    """
    images = network.structure.input
    if images is None:
        raise NetworkError("the network does not say what images it takes: check it with a task")
    channels, height, width = images["shape"]
    write_program(lowered(network.module, (channels, height, width)), path, images)
