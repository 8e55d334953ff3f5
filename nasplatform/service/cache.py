"""A bounded memory of predictions, read and written for whole batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class PredictionCache:
    """Maps codes (W words of uint64) to rows of numbers; a new code takes the slot of an old one.

    Every code has one slot, so that a batch is looked up by a few array operations, there is
    nothing to keep in order, and the memory is fixed from the start. The key is the code of the
    architecture *as labelled*: a predictor need not give isomorphic cells the same answer, and a
    service must give the answer that the predictor gives.
    """

    def __init__(self, slots: int, width: int, words: int = 1) -> None:
        """Take the number of slots (rounded up to a power of two; 0 remembers nothing).

        width: numbers of a row. words: of a code.
        """
        size = 1 << max(slots - 1, 0).bit_length() if slots else 0
        self._mask = np.uint64(max(size - 1, 0))
        self._codes = np.zeros((size, words), np.uint64)
        self._used = np.zeros(size, bool)
        self._rows = np.zeros((size, width))

    def get(self, codes: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return which of the codes (B, W) are known and rows (B, width), valid where known."""
        if not len(self._codes):
            return np.zeros(len(codes), bool), np.zeros((len(codes), self._rows.shape[1]))
        slots = self._slots(codes)
        return self._used[slots] & (self._codes[slots] == codes).all(1), self._rows[slots]

    def put(self, codes: NDArray[np.uint64], rows: NDArray[np.float64]) -> None:
        """Remember rows (B, width) of codes (B, W)."""
        if not len(self._codes):
            return
        slots = self._slots(codes)
        # Where codes of the batch share a slot, numpy keeps the last of them, here as there.
        self._codes[slots], self._rows[slots] = codes, rows
        self._used[slots] = True

    def _slots(self, codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        mixed = np.zeros(len(codes), np.uint64)
        for word in codes.T:
            mixed = (mixed ^ word) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(32)
        return mixed & self._mask
