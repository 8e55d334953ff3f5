"""GraphBatch -> arrays. An encoding is a function of a batch alone, so it works on every space."""

from __future__ import annotations

from nasplatform import plugins
from nasplatform.encodings.base import Encoding

__all__ = ["Encoding", "get_encoding"]


def get_encoding(name: str) -> Encoding:
    """Return a registered encoding; raise PluginError for an unknown name."""
    encoding: Encoding = plugins.get("encodings", name)
    return encoding
