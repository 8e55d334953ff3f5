"""From a file that starts from a network to the objects that it names, each checked first."""

from __future__ import annotations

from dataclasses import dataclass

from nasplatform import plugins
from nasplatform.atomic_io import sha256
from nasplatform.config import Choice, CompressionConfig, NetworkChoice, Provenance
from nasplatform.deploy.network import Network
from nasplatform.runs.components import make_task, require_device, resolve_stages, versions
from nasplatform.runs.resolved import ResolvedCompression
from nasplatform.training.datasets import options_model
from nasplatform.training.task import Task
from nasplatform.yaml_source import Source


@dataclass(frozen=True)
class Compression:
    """Everything that a file which starts from a network names, made and checked.

    network: where the walk begins.
    choice:  its name or function with every option.
    stages:  with every option.
    """

    config: CompressionConfig
    network: Network
    choice: NetworkChoice
    task: Task
    stages: tuple[Choice, ...]

    def resolved(self) -> ResolvedCompression:
        """Return the file with every default written out, and where its numbers come from."""
        weights = self.choice.weights
        return ResolvedCompression(
            name=self.config.name,
            seed=self.config.seed,
            network=self.choice,
            task=self.config.task,
            stages=self.stages,
            device=self.config.device,
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
    stages = resolve_stages(config, source)
    with source.blame("network"):
        choice = _fitted(config.network, task)
        network = Network.named(str(choice.name), config.seed, **choice.own_options)
    return Compression(config, network, choice, task, stages)


def _fitted(choice: NetworkChoice, task: Task) -> NetworkChoice:
    """Return the choice with the task's input and classes, where it takes and does not say them."""
    known = {"input_shape": task.input_shape, "classes": task.classes}
    takes = options_model(plugins.get("networks", str(choice.name))).model_fields
    filled = {key: value for key, value in known.items() if key in takes}
    return NetworkChoice(name=choice.name, **{**filled, **choice.own_options})
