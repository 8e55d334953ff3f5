"""What can be built: each space samples, mutates, parses, counts and constructs architectures."""

from __future__ import annotations

from typing import Any

from nasplatform import plugins
from nasplatform.spaces.base import Architecture, Population, Space
from nasplatform.spaces.check import check_space
from nasplatform.spaces.graph import GraphBatch, Operation, concatenate

__all__ = [
    "Architecture",
    "GraphBatch",
    "Operation",
    "Population",
    "Space",
    "concatenate",
    "get_space",
]


def get_space(name: str, **options: Any) -> Space[Any]:
    """Make a space by its registered name, e.g. ``get_space("nasbench101", stem_channels=8)``.

    Raises PluginError for an unknown name and for a space that breaks its contract, ConfigError
    for options that it does not have.
    """
    kind: type[Space[Any]] = plugins.get("spaces", name)
    chosen = plugins.make_options(kind.Options, options, f"space {name!r}")
    space: Space[Any] = plugins.make("spaces", name, chosen)
    check_space(space)
    return space
