"""Shallow trees, asked level by level for all trees and architectures at once.

A tree is filled up to a complete one; then every node's question is answered in one comparison,
and the answers choose among the leaves from the bottom up. That is more arithmetic than walking
down, but a few long array operations in place of many short ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEEPEST = 5  # a level more doubles the work
_CHUNK = 256  # architectures at once: what fits into the caches of a core


@dataclass(frozen=True)
class CompleteTrees:
    """T complete trees of depth D, nodes in the order of a heap.

    feature:   (T, 2^D - 1) column of x that a node asks for.
    threshold: (T, 2^D - 1) float32; the answer is right where x is larger.
    leaves:    (T, 2^D) float32, from left to right.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    leaves: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        feature: NDArray[np.int32],
        left: NDArray[np.int32],
        right: NDArray[np.int32],
        threshold: NDArray[np.float32],
        value: NDArray[np.float32],
        depth: int,
    ) -> CompleteTrees:
        """Fill up trees (T, M) in which a leaf leads to itself."""
        tree = np.arange(len(feature))[:, None]
        node = np.zeros((len(feature), 1), np.int32)
        features, thresholds = [], []
        for _ in range(depth):
            features.append(feature[tree, node])
            thresholds.append(threshold[tree, node])
            pairs = np.stack([left[tree, node], right[tree, node]], axis=2)
            node = pairs.reshape(len(feature), -1)
        return cls(
            np.concatenate(features, axis=1),
            np.concatenate(thresholds, axis=1),
            value[tree, node],
        )

    def sums(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (B,) the sums over all trees for x (B, F)."""
        starts = range(0, len(x), _CHUNK)
        parts = [self._sums(x[start : start + _CHUNK]) for start in starts]
        return np.concatenate(parts) if parts else np.empty(0)

    def _sums(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        asked = np.ascontiguousarray(x.T)[self.feature]  # (T, nodes, B)
        goes_right = asked > self.threshold[:, :, None]
        chosen = self.leaves[:, :, None]
        while chosen.shape[1] > 1:
            nodes = chosen.shape[1] // 2
            answers = goes_right[:, nodes - 1 : 2 * nodes - 1]
            chosen = np.where(answers, chosen[:, 1::2], chosen[:, ::2])
        sums: NDArray[np.float64] = chosen[:, 0].sum(0, dtype=np.float64)
        return sums
