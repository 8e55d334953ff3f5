"""What can be built: each space samples, mutates, parses, counts and constructs architectures."""

from __future__ import annotations

from typing import Any

from nasplatform import plugins
from nasplatform.spaces.base import Architecture, Population, Space
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

    Raises PluginError for an unknown name and ConfigError for options that it does not have.
    """
    kind = plugins.get("spaces", name)
    space: Space[Any] = kind(plugins.make_options(kind.Options, options, f"space {name!r}"))
    return space
