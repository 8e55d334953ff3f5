"""GraphBatch -> arrays. An encoding is a function of a batch alone, so it works on every space."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from nasplatform import plugins
from nasplatform.spaces.graph import GraphBatch

__all__ = ["Encoding", "get_encoding"]


class Encoding(Protocol):
    """Turns B architectures into an array whose first axis has length B."""

    def __call__(self, graphs: GraphBatch) -> NDArray[Any]:
        """Encode a batch."""
        ...


def get_encoding(name: str) -> Encoding:
    """Return a registered encoding; raise PluginError for an unknown name."""
    encoding: Encoding = plugins.get("encodings", name)
    return encoding
