"""Populations of visual transformers, packed into six words each.

The first byte is the number of the sub-space, the others are the row of the architecture there
(``choices``), 0 behind its end. So a code says by itself what it is, and no two are one network.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.base import Population
from nasplatform.spaces.keys import mixed
from nasplatform.spaces.vit.architecture import VisionTransformer
from nasplatform.spaces.vit.choices import SubSpace
from nasplatform.spaces.vit.subspaces import BY_NUMBER

WORDS = 6
BYTES = 8 * WORDS
Rows = NDArray[np.uint8]


class Transformers(Population[VisionTransformer]):
    """A population of transformers of one sub-space, 48 bytes each."""

    words: ClassVar[int] = WORDS

    def _unpack(self, code: NDArray[np.uint64]) -> VisionTransformer:
        number, *row = as_bytes(code[None])[0].tolist()
        subspace = BY_NUMBER[number]
        return subspace.architecture(row[: len(subspace.decisions)])

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """(B,) 64-bit mix of the words."""
        return mixed(self.codes)

    @cached_property
    def hashes(self) -> list[str]:
        """The md5 of all that each architecture says."""
        return [one.hash for one in self]


def as_bytes(codes: NDArray[np.uint64]) -> Rows:
    """Return codes (B, 6) as bytes (B, 48): number of the sub-space, then the row."""
    return np.ascontiguousarray(codes.astype("<u8", copy=False)).view(np.uint8)


def rows(codes: NDArray[np.uint64], subspace: SubSpace) -> Rows:
    """Return the rows (B, D) of codes of a sub-space, D its open decisions."""
    return as_bytes(codes)[:, 1 : 1 + len(subspace.decisions)]


def codes(rows: Rows, subspace: SubSpace) -> NDArray[np.uint64]:
    """Return the codes (B, 6) of rows (B, D)."""
    every = np.zeros((len(rows), BYTES), np.uint8)
    every[:, 0] = subspace.number
    every[:, 1 : 1 + rows.shape[1]] = rows
    return every.view("<u8").astype(np.uint64, copy=False)


def packed(rows: Sequence[Sequence[int]], subspace: SubSpace) -> NDArray[np.uint64]:
    """Return the codes (B, 6) of B rows that stand one by one."""
    return codes(np.array(rows, np.uint8).reshape(len(rows), len(subspace.decisions)), subspace)
