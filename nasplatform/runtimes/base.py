"""The contract of a runtime: what computes a network where it is deployed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nasplatform.errors import BuildError, NetworkError

if TYPE_CHECKING:  # a session of a file needs no torch
    from torch import nn

    from nasplatform.models.network import Network

Arrays = NDArray[np.float32]


class Session(ABC):
    """A network that a runtime has made ready.

    runtime: name of the runtime.
    threads: how many threads of the CPU it computes with.
    note:    what the user should know of how it computes, in one line; empty for nothing.
    """

    runtime: str
    threads: int
    note: str = ""

    @abstractmethod
    def run(self, images: Arrays) -> Arrays:
        """Compute the logits: (B, c, h, w) -> (B, K), for any B from 1."""


@dataclass(frozen=True)
class Costs:
    """What a network costs whatever computes it; the words of ``Measurements``."""

    params: int
    macs: int
    binary_macs: int
    bytes_binary: int
    bytes_scales: int
    bytes_full_precision: int


@dataclass(frozen=True)
class Deployed:
    """A network read from the one file in which a runtime keeps it.

    session:     ready to run.
    input_shape: (c, h, w) of an image.
    input:       what else is known of the images, as ``Structure.input`` says it; None for nothing.
    costs:       counted in the file.
    """

    session: Session
    input_shape: tuple[int, int, int]
    input: Mapping[str, Any] | None
    costs: Costs


class Runtime(ABC):
    """Makes networks ready to run on the CPU.

    Registered as an entry point of the group ``nasplatform.runtimes``; made without arguments. It
    is asked whether it is available, then ``compile`` is called once for each network. Nothing is
    kept between calls, and the module is left as it was, in evaluation mode.

    preference: of several that are available and suit a network, the highest is the default.
    suffix:     of the one file in which it keeps a network (``write``, ``read``); None for none.
    """

    name: ClassVar[str]
    preference: ClassVar[int] = 0
    suffix: ClassVar[str | None] = None

    def available(self) -> str | None:
        """Return why it cannot be used on this machine, in a few words; None where it can."""
        return None

    def suits(self, module: nn.Module) -> bool:
        """Say whether it may be the default for a network; others can still ask for it."""
        return True

    @abstractmethod
    def compile(
        self, module: nn.Module, input_shape: tuple[int, int, int], threads: int = 1
    ) -> Session:
        """Make a network ready; raise BuildError where the runtime cannot express it.

        module:      (B, c, h, w) -> (B, K), on the CPU, float32.
        input_shape: (c, h, w).
        """

    def write(self, network: Network, path: Path) -> None:
        """Write a network as one file that is all that is needed to run it.

        Raises BuildError where it cannot, as it cannot without a ``suffix``.
        """
        raise BuildError(f"runtime {self.name!r} keeps no network in a file of its own")

    def read(self, path: Path, threads: int = 1) -> Deployed:
        """Make ready what ``write`` wrote; raise RunError where it is missing or damaged."""
        raise BuildError(f"runtime {self.name!r} keeps no network in a file of its own")


def checked_images(images: object, input_shape: tuple[int, int, int]) -> Arrays:
    """Return images as float32, innermost axis without gaps, for a session that knows their shape.

    Raises NetworkError for anything but floats (B, c, h, w) with B from 1: integers would be
    pixels that nobody standardised.
    """
    wanted = f"expected floats (B, {', '.join(map(str, input_shape))}), standardised"
    if not isinstance(images, np.ndarray):
        raise NetworkError(f"images are a {type(images).__name__}, {wanted}")
    if images.dtype.kind != "f" or images.shape[1:] != input_shape or not len(images):
        raise NetworkError(f"images are {images.dtype} {images.shape}, {wanted}")
    return np.ascontiguousarray(images, dtype=np.float32)
