"""A network together with the description from which it can be built again.

On disk a network is a folder of two files: ``structure.json`` says which architecture of which
space, or which registered network it is, and what stages have done to its layers;
``weights.safetensors`` holds every parameter and buffer. Nothing is pickled.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from nasplatform import plugins
from nasplatform.atomic_io import replace_folder
from nasplatform.errors import RunError
from nasplatform.networks.base import build_network, describe_network
from nasplatform.spaces import Space, get_space
from nasplatform.training.checkpoint import detached_state
from nasplatform.training.loop import seeded

STRUCTURE, WEIGHTS = "structure.json", "weights.safetensors"
FORMAT = 1
_DAMAGE = (
    OSError,
    SafetensorError,
    LookupError,
    AttributeError,
    TypeError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class Structure:
    """How to build a network, as values that JSON can hold.

    base:  ``space`` (what ``Space.describe`` returns) and ``architecture`` (its text form), or
           ``network``, what ``describe_network`` returns for one that is registered by name.
    edits: what stages did to the layers, in order; each a mapping with the key ``stage``, the
           name of the stage whose ``replay`` does it again.
    """

    base: Mapping[str, Any]
    edits: tuple[Mapping[str, Any], ...] = ()

    def build(self, seed: int = 0) -> nn.Module:
        """Make the module with fresh weights that follow from the seed."""
        with seeded(seed):
            if "network" in self.base:
                module = build_network(self.base["network"])
            else:
                space = get_space(**self.base["space"])
                module = space.build(space.parse(self.base["architecture"]))
            for edit in self.edits:
                module = plugins.get("stages", edit["stage"]).replay(module, edit)
        return module

    def to_json(self) -> str:
        """Return the text of ``structure.json``."""
        edits = [dict(edit) for edit in self.edits]
        found = {"format": FORMAT, "base": dict(self.base), "edits": edits}
        return json.dumps(found, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read ``to_json`` back; raise ValueError or KeyError for anything else."""
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']!r}, this version reads {FORMAT}")
        return cls(found["base"], tuple(found["edits"]))


@dataclass(frozen=True)
class Network:
    """A module on the CPU and its structure; the module computes (B, c, h, w) -> (B, K) logits."""

    module: nn.Module
    structure: Structure

    @classmethod
    def of(cls, space: Space[Any], architecture: Any, seed: int = 0) -> Self:
        """Build an architecture of a space with fresh weights that follow from the seed."""
        base = {"space": space.describe(), "architecture": space.format(architecture)}
        return cls.from_structure(Structure(base), seed)

    @classmethod
    def named(cls, name: str, seed: int = 0, **options: Any) -> Self:
        """Build a registered network, e.g. ``resnet``, with fresh weights from the seed.

        Raises PluginError for an unknown name, ConfigError for bad options.
        """
        return cls.from_structure(Structure({"network": describe_network(name, options)}), seed)

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

    def edited(self, module: nn.Module, edit: Mapping[str, Any]) -> Self:
        """Return the network after an edit of its layers; ``edit`` has the key ``stage``."""
        structure = replace(self.structure, edits=(*self.structure.edits, edit))
        return replace(self, module=module, structure=structure)

    def save(self, folder: Path) -> None:
        """Write the folder; it appears whole or not at all."""
        with replace_folder(folder) as temporary:
            (temporary / STRUCTURE).write_text(self.structure.to_json(), encoding="utf-8")
            save_file(detached_state(self.module.state_dict()), temporary / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder back, to equal outputs; raise RunError where it is missing or damaged."""
        try:
            text = (folder / STRUCTURE).read_text(encoding="utf-8")
            weights = load_file(folder / WEIGHTS)
            network = cls.from_structure(Structure.from_json(text))
            network.module.load_state_dict(weights)
        except _DAMAGE as error:
            words = " ".join(str(error).split())
            raise RunError(f"{folder} holds no network that can be loaded: {words}") from None
        return network
