"""The description from which a network can be built again, as values that JSON can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from nasplatform.complaints import explain
from nasplatform.errors import NetworkError
from nasplatform.foreign import parse_json
from nasplatform.models.edits import Edit
from nasplatform.models.functions import build_function
from nasplatform.models.inputs import Images
from nasplatform.models.networks.base import build_network
from nasplatform.spaces import get_space
from nasplatform.training.seeding import seeded
from nasplatform.training.task import Task

FORMAT = 1


class _Written(BaseModel):
    """What ``structure.json`` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: int
    base: dict[str, Any]
    edits: list[dict[str, Any]]
    input: Images | None


@dataclass(frozen=True)
class Structure:
    """How to build a network.

    base:  one of three: ``space`` (what ``Space.describe`` returns) and ``architecture`` (its text
           form); ``network``, what ``describe_network`` returns for one that is registered by
           name; ``module`` and ``options``, what ``describe_function`` returns.
    edits: what was done to the layers since, in order.
    input: what the network was made for, where that is known: name of the ``task`` and digest
           of its data, ``shape`` (c, h, w) of an image,
           ``mean`` and ``std`` of each channel in raw images, what 255 of a picture is there
           (``white``), number of ``classes``, and ``class_names`` where there are any.
    """

    base: Mapping[str, Any]
    edits: tuple[Edit, ...] = ()
    input: Mapping[str, Any] | None = None

    @property
    def title(self) -> str:
        """What it is built from, and what was done to its layers, in a few words."""
        named = self.base.get("network", {}).get("name")
        base = named or self.base.get("module") or self.base.get("architecture")
        return ", ".join([str(base), *(edit.kind for edit in self.edits)])

    def build(self, seed: int = 0) -> nn.Module:
        """Make the module with fresh weights that follow from the seed."""
        with seeded(seed):
            module = _module(self._build_base(), f"{self._what()} builds")
            for edit in self.edits:
                module = _module(edit.apply(module), f"edit {edit.kind!r} makes")
        return module

    def _what(self) -> str:
        """Say what builds the network."""
        kind = next(key for key in ("module", "network", "space") if key in self.base)
        named = self.base[kind]
        return f"{kind} {named if isinstance(named, str) else named['name']!r}"

    def _build_base(self) -> nn.Module:
        if "module" in self.base:
            return build_function(self.base)
        if "network" in self.base:
            return build_network(self.base["network"])
        space = get_space(**self.base["space"])
        return space.build(space.parse(self.base["architecture"]))

    def to_json(self) -> str:
        """Return the text of ``structure.json``."""
        found = {
            "format": FORMAT,
            "base": dict(self.base),
            "edits": [edit.to_dict() for edit in self.edits],
            "input": self.input,
        }
        return json.dumps(found, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read ``to_json`` back; raise ValueError, KeyError or TypeError for anything else."""
        found = parse_json(text)
        version = found.get("format", FORMAT) if isinstance(found, dict) else FORMAT
        if version != FORMAT:
            raise ValueError(f"format {version!r}, this version reads {FORMAT}")
        try:
            _Written.model_validate(found)
        except ValidationError as error:
            raise ValueError(explain(error, _Written, "structure.json", found)) from None
        edits = tuple(Edit.from_dict(edit) for edit in found["edits"])
        return cls(found["base"], edits, found["input"])


def _module(made: object, who: str) -> nn.Module:
    if not isinstance(made, nn.Module):
        raise NetworkError(f"{who} a {type(made).__name__}, expected an nn.Module")
    return made


def describe_input(task: Task) -> dict[str, Any]:
    """Return what a network for a task takes and tells apart, as ``Structure.input`` says it."""
    names = {"class_names": list(task.class_names)} if task.class_names else {}
    return names | {
        "task": task.name,
        "data_sha256": task.digest,
        "shape": list(task.input_shape),
        "mean": list(task.mean),
        "std": list(task.std),
        "white": task.white,
        "classes": task.classes,
    }
