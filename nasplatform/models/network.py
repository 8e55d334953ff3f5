"""A network together with the description from which it can be built again.

On disk a network is a folder of two files: ``structure.json`` says which architecture of which
space, which registered network or which function it comes from, and what was done to its layers;
``weights.safetensors`` holds every parameter and buffer. Nothing is pickled.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nasplatform.atomic_io import replace_folder, require_own
from nasplatform.errors import RunError
from nasplatform.foreign import blaming, path_of, read_text, require_tensors
from nasplatform.models.edits import Edit
from nasplatform.models.functions import describe_function
from nasplatform.models.networks.base import describe_network
from nasplatform.models.structure import Structure, describe_input
from nasplatform.models.weights import load_weights
from nasplatform.spaces import Space
from nasplatform.training.checkpoint import detached_state
from nasplatform.training.task import Task

STRUCTURE, WEIGHTS = "structure.json", "weights.safetensors"


@dataclass(frozen=True)
class Network:
    """A module on the CPU and its structure; the module computes (B, c, h, w) -> (B, K) logits."""

    module: nn.Module
    structure: Structure

    def __repr__(self) -> str:
        count = sum(parameter.numel() for parameter in self.module.parameters())
        return f"<network {self.structure.title}, {count:,} parameters>"

    @classmethod
    def of(cls, space: Space[Any], architecture: Any, seed: int = 0) -> Self:
        """Build an architecture of a space with fresh weights that follow from the seed."""
        base = {"space": space.describe(), "architecture": space.format(architecture)}
        return cls.from_structure(Structure(base), seed)

    @classmethod
    def named(cls, name: str, seed: int = 0, /, **options: Any) -> Self:
        """Build a registered network, e.g. ``resnet``, with fresh weights from the seed.

        Raises PluginError for an unknown name, ConfigError for bad options.
        """
        return cls.from_structure(Structure({"network": describe_network(name, options)}), seed)

    @classmethod
    def from_function(
        cls,
        path: str,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        weights: Path | None = None,
    ) -> Self:
        """Build the network of a user's own function, ``package.module:function``.

        options: its keyword arguments, values that JSON can hold.
        weights: a file to read into it (see ``load_weights``); None leaves those of the seed.
        Raises NetworkError where that cannot be done.
        """
        network = cls.from_structure(Structure(describe_function(path, options or {})), seed)
        if weights is not None:
            load_weights(network.module, weights)
        return network

    @classmethod
    def from_structure(cls, structure: Structure, seed: int = 0) -> Self:
        """Build what a structure describes, with fresh weights that follow from the seed."""
        return cls(structure.build(seed).eval(), structure)

    def fresh(self, seed: int) -> Self:
        """Return the same structure with new weights."""
        return self.from_structure(self.structure, seed)

    def copy(self) -> Self:
        """Return a network with its own copy of the weights."""
        return replace(self, module=copy.deepcopy(self.module))

    def edited(self, module: nn.Module, edit: Edit) -> Self:
        """Return the network after an edit of its layers; ``module`` is what the edit made."""
        structure = replace(self.structure, edits=(*self.structure.edits, edit))
        return replace(self, module=module, structure=structure)

    def for_task(self, task: Task) -> Self:
        """Return the network, knowing what images the task's are."""
        return replace(self, structure=replace(self.structure, input=describe_input(task)))

    def save(self, folder: Path | str) -> None:
        """Write the folder; it appears whole or not at all.

        Raises RunError where something else than a network stands there.
        """
        home = path_of(folder, RunError)
        require_own(home, (STRUCTURE, WEIGHTS), RunError)
        with replace_folder(home) as temporary:
            (temporary / STRUCTURE).write_text(self.structure.to_json(), encoding="utf-8")
            save_file(detached_state(self.module.state_dict()), temporary / WEIGHTS)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a folder back, to equal outputs; raise RunError where it is missing or damaged."""
        folder = path_of(folder, RunError)
        with blaming(folder, RunError, "holds no network that can be loaded"):
            text = read_text(folder / STRUCTURE)
            require_tensors(folder / WEIGHTS)
            with blaming(folder / WEIGHTS, RunError, "holds no weights"):
                weights = load_file(folder / WEIGHTS)
            network = cls.from_structure(Structure.from_json(text))
            network.module.load_state_dict(weights)
            network._require_logits()
        return network

    def _require_logits(self) -> None:
        """Raise ValueError where what is said of the input does not fit the layers."""
        known = self.structure.input
        if known is None:
            return
        with torch.inference_mode():
            logits = self.module(torch.zeros(1, *known["shape"]))
        if logits.shape != (1, known["classes"]):
            raise ValueError(
                f"structure.json says {known['classes']} classes, the layers give "
                f"{tuple(logits.shape[1:])} numbers for an image"
            )
