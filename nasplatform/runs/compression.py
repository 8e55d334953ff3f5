"""From a file that starts from a network to the objects that it names, each checked first."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nasplatform.atomic_io import sha256
from nasplatform.config import CompressionConfig, NetworkChoice, Provenance
from nasplatform.models.check import checked
from nasplatform.models.network import Network
from nasplatform.models.networks.base import describe_network, suited
from nasplatform.models.weights import load_weights
from nasplatform.runs.components import (
    check_runtime,
    make_stages,
    make_task,
    require_device,
    versions,
    with_options,
)
from nasplatform.runs.resolved import ResolvedCompression
from nasplatform.stages.base import Stage
from nasplatform.training.task import Task
from nasplatform.yaml_source import Source


@dataclass(frozen=True)
class Compression:
    """Everything that a file which starts from a network names, made and checked.

    network: where the walk begins.
    choice:  its name or function with every option.
    stages:  what it walks through.
    """

    config: CompressionConfig
    network: Network
    choice: NetworkChoice
    task: Task
    stages: tuple[Stage, ...]

    def resolved(self) -> ResolvedCompression:
        """Return the file with every default written out, and where its numbers come from."""
        weights = self.choice.weights
        return ResolvedCompression(
            name=self.config.name,
            seed=self.config.seed,
            network=self.choice,
            task=self.config.task,
            stages=tuple(with_options(stage.name, stage.options) for stage in self.stages),
            device=self.config.device,
            runtime=self.config.runtime,
            provenance=Provenance(
                measured=self.config.task.dataset,
                data=self.task.digest,
                weights=weights and sha256(weights),
                versions=versions(),
            ),
        )


def make_compression(config: CompressionConfig, source: Source) -> Compression:
    """Make all that the file names; raise ConfigError with file, line and key."""
    require_device(config, source)
    task = make_task(config, source)
    assert task is not None  # a required key
    stages = make_stages(config, source, task)
    check_runtime(config, source)
    with source.blame("network"), _importable(Path(source.file).parent):
        choice = _with_input(config.network, task)
        network = checked(_build(choice, config.seed), task)
    return Compression(config, network, choice, task, stages)


def _with_input(choice: NetworkChoice, task: Task) -> NetworkChoice:
    """Return the choice with the task's input and classes, where it takes and does not say them."""
    if choice.name is None:
        return choice
    told = suited(choice.name, choice.own_options, task.input_shape, task.classes)
    described = describe_network(choice.name, told)
    return NetworkChoice(**described, weights=choice.weights)


def _build(choice: NetworkChoice, seed: int) -> Network:
    if choice.function is not None:
        return Network.from_function(choice.function, choice.options, seed, choice.weights)
    network = Network.named(choice.title, seed, **choice.own_options)
    if choice.weights is not None:
        load_weights(network.module, choice.weights)
    return network


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let Python find the modules of a folder, after those that it knows of."""
    place = str(folder.resolve())
    sys.path.append(place)
    try:
        yield
    finally:
        sys.path.remove(place)
