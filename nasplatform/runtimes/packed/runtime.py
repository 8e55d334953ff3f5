"""The runtime ``packed``: counts bits where others multiply floats."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from nasplatform.models.binary import binary_layers
from nasplatform.runtimes.base import Runtime, Session
from nasplatform.runtimes.packed.lowering import lowered
from nasplatform.runtimes.packed.session import PackedSession


class Packed(Runtime):
    """Binary layers as XNOR and popcount on one bit a value, the others in float32.

    Needs a C compiler when it is first used on a machine; without one numpy computes, and the
    session's note says so.
    """

    name: ClassVar[str] = "packed"
    preference: ClassVar[int] = 20

    def suits(self, module: nn.Module) -> bool:
        """Say whether there is a binary layer."""
        return bool(binary_layers(module))

    def compile(
        self, module: nn.Module, input_shape: tuple[int, int, int], threads: int = 1
    ) -> Session:
        """Follow a module; raise BuildError for an operation that is not known."""
        return PackedSession(lowered(module, input_shape), threads)
