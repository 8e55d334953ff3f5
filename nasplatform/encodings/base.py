"""The contract of an encoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.errors import GraphError
from nasplatform.plugin_contracts import check_reason
from nasplatform.spaces.graph import GraphBatch


def _sees_all(graphs: GraphBatch) -> str | None:
    return None


@dataclass(frozen=True)
class Encoding:
    """Turns B architectures into an array whose first axis has length B.

    An encoding reads all that tells architectures of a space apart, their attributes among it, or
    it refuses the space.

    encode: the arrays of a batch.
    why_not: what these graphs have that the encoding cannot see, or None.
    """

    encode: Callable[[GraphBatch], NDArray[Any]]
    why_not: Callable[[GraphBatch], str | None] = _sees_all

    def supports(self, graphs: GraphBatch) -> str | None:
        """Return None where the encoding sees these graphs, else the reason why not."""
        return check_reason(f"why_not of {self._words()}", self.why_not(graphs))

    def __call__(self, graphs: GraphBatch) -> NDArray[Any]:
        """Encode a batch; raise GraphError where the encoding does not support it."""
        reason = self.supports(graphs)
        if reason is not None:
            raise GraphError(f"graphs of space {graphs.space!r} cannot be encoded: {reason}")
        found = self.encode(graphs)
        self._check(found, len(graphs))
        return found

    def _words(self) -> str:
        return f"encoding {getattr(self.encode, '__name__', 'function')!r}"

    def _check(self, found: object, count: int) -> None:
        who = self._words()
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "buif":
            kind = found.dtype if isinstance(found, np.ndarray) else type(found).__name__
            raise GraphError(f"{who} makes {kind}, expected an array of numbers")
        if found.shape[:1] != (count,):
            raise GraphError(
                f"{who} makes an array {found.shape} of {count} graphs, expected ({count}, ...)"
            )
        if not np.isfinite(found).all():
            raise GraphError(f"{who} makes values that are not finite")
