"""Which classes a network tells apart, and which it takes for one another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Confusion:
    """Counts (K, K) of images: row the class that each is of, column the one that was said."""

    counts: NDArray[np.int64]
    names: tuple[str, ...]

    @classmethod
    def of(
        cls, labels: NDArray[np.integer], said: NDArray[np.integer], names: tuple[str, ...]
    ) -> Confusion:
        """Count; labels and said (n,) in [0, K), names (K,)."""
        count = len(names)
        cells = np.bincount(labels.astype(np.int64) * count + said, minlength=count * count)
        return cls(cells.reshape(count, count), names)

    @property
    def images(self) -> NDArray[np.int64]:
        """(K,) images of each class."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """(K,) share of the images of each class that were told; NaN for a class without any."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.diag(self.counts) / self.images)

    def mistakes(self, most: int) -> list[tuple[str, str, int]]:
        """Return the most frequent mistakes: of class, taken for, how often."""
        wrong = self.counts * (1 - np.eye(len(self.counts), dtype=np.int64))
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        places = [np.unravel_index(place, wrong.shape) for place in order]
        return [(self.names[a], self.names[b], int(wrong[a, b])) for a, b in places if wrong[a, b]]


def standard_error(share: float, images: int) -> float:
    """Return the standard error of a share of so many images: sqrt(p (1 - p) / n); NaN of none."""
    return math.sqrt(share * (1 - share) / images) if images else math.nan
