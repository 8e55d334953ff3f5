"""The contract of a stage: network in, better network out, both measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel

from nasplatform.errors import StageError
from nasplatform.models.binary import binary_layers
from nasplatform.models.network import Network
from nasplatform.training.curve import Curve
from nasplatform.training.task import Task


@dataclass(frozen=True)
class StageContext:
    """What a stage may use beside the network and the task.

    folder:   its own folder for checkpoints; what lies there after a kill is resumed from.
    seed:     the source of everything random in the stage.
    device:   ``cpu`` or ``cuda``.
    runtime:  in which runtime latency counts; None for the best that is available.
    progress: called with (steps done, steps in all, a few words) from time to time.
    networks: earlier networks of the run, by the name of the stage that left them; ``start`` is
              the one that the first stage was given.
    """

    folder: Path
    seed: int = 0
    device: str = "cpu"
    runtime: str | None = None
    progress: Callable[[int, int, str], None] = lambda done, total, words: None
    networks: Mapping[str, Network] = field(default_factory=dict)

    def network(self, name: str) -> Network:
        """Return an earlier network of the run, or the one saved in the folder ``name``.

        Raises StageError where it is neither, RunError where the folder is damaged.
        """
        if name in self.networks:
            return self.networks[name]
        if Path(name).is_dir():
            return Network.load(Path(name))
        known = ", ".join(self.networks) or "none"
        raise StageError(
            f"{name!r} is no earlier network of this run ({known}) and no folder of a network"
        )

    @property
    def checkpoint(self) -> Path:
        """The file from which a killed training of this stage goes on."""
        return self.folder / "checkpoint.safetensors"

    @property
    def scratch(self) -> Path:
        """A folder for whatever else a killed stage goes on from; removed when it is finished."""
        return self.folder / "scratch"


@dataclass(frozen=True)
class StageResult:
    """What a stage leaves behind.

    network:   the network after the stage.
    metrics:   numbers of the stage itself (epochs, losses); size and speed are measured outside.
    artifacts: files that it wrote, by name.
    notes:     what the user should know, one line each.
    curve:     how its training went, epoch by epoch; empty where nothing was trained.
    """

    network: Network
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifacts: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    curve: Curve = field(default_factory=dict)


class Stage(ABC):
    """One step on the way from the winner of a search to a deployed network.

    Life cycle: made with its options; ``check``, ``check_network`` and ``apply`` are called once;
    it never changes the network that it is given, nor those of ``context.networks``. The pipeline
    checks the first network, measures accuracy, parameters, MACs, bytes on disk and latency before
    and after, and saves the result before the next stage starts.

    A stage that changes layers describes the change as an ``Edit`` of a registered kind and hands
    it on with ``network.edited(module, edit)``.
    """

    name: ClassVar[str]
    Options: ClassVar[type[BaseModel]]
    leaves_bits: ClassVar[bool] = False
    """Whether the network that it leaves has binary layers."""
    takes_bits: ClassVar[bool] = False
    """Whether it works on a network with binary layers, which have no weights to train or cut."""

    def __init__(self, options: BaseModel | None = None) -> None:
        """Take the options, an instance of ``Options`` (None for the defaults)."""
        self.options = self.Options() if options is None else options

    def check(self, task: Task, device: str) -> None:  # noqa: B027
        """Raise where the options do not fit task or device.

        Called before any stage is run, perhaps twice: what it reads may be kept for ``apply``.
        """

    def check_network(  # noqa: B027
        self, network: Network, task: Task, earlier: Sequence[str]
    ) -> None:
        """Raise where the options do not fit the network that the first stage is given.

        earlier: names that ``context.networks`` will have when the stage is run.
        """

    @abstractmethod
    def apply(self, network: Network, task: Task, context: StageContext) -> StageResult:
        """Return the network after the stage; raise StageError where it would change nothing."""


def check_order(stages: Sequence[Stage]) -> None:
    """Raise StageError where a stage that needs weights comes after one that leaves bits."""
    before: str | None = None
    for stage in stages:
        if before is not None and not stage.takes_bits:
            raise StageError(
                f"stage {stage.name!r} needs float weights, but {before!r} before it leaves a "
                f"network of bits: binarise last"
            )
        before = stage.name if stage.leaves_bits else before


def check_floats(network: Network, stage: str) -> None:
    """Raise StageError where a network of bits meets a stage that needs weights."""
    binary = binary_layers(network.module)
    if binary:
        raise StageError(
            f"stage {stage!r} needs float weights, but {len(binary)} layers of the network are "
            f"binary, {next(iter(binary))} the first: binarise last"
        )
