"""Images as they are stored, in memory or on disk, and as a network sees them: standardised.

Nothing is standardised before it is needed: 50,000 images of 8 bits stay 8 bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Statistics = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Mean and standard deviation of each channel, (c,) each."""
CHUNK = 2048
Index = slice | Tensor | NDArray[np.int64]


@dataclass(frozen=True)
class DiskImages:
    """8-bit images in a file. Indexing chooses images and reads nothing, ``np.asarray`` reads.

    path:       file of (N, c, h, w) bytes.
    file_shape: (N, c, h, w).
    rows:       (n,) which of the N images, in which order.
    sums, squares: (N, c) sums of the pixels and of their squares.
    digests:    (N, 32) sha256 of each image.
    """

    path: Path
    file_shape: tuple[int, int, int, int]
    rows: NDArray[np.int64]
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]
    digests: NDArray[np.uint8]
    dtype: ClassVar[np.dtype[np.uint8]] = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, c, h, w)."""
        return (len(self.rows), *self.file_shape[1:])

    @property
    def size(self) -> int:
        """Number of pixel values."""
        return int(np.prod(self.shape))

    def __getitem__(self, index: slice | NDArray[np.int64]) -> DiskImages:
        return replace(self, rows=self.rows[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        # mapped anew for each reading, so that pages read before do not count as memory in use
        mapped = np.memmap(self.path, np.uint8, "r", shape=self.file_shape)
        found = np.asarray(mapped[self.rows])
        return found if dtype is None else found.astype(dtype)


Array = NDArray[Any]
Raw = Array | DiskImages
"""Images (n, c, h, w) of any real type, as they are stored."""


@dataclass(frozen=True)
class ChangedImages:
    """Images that are changed as they are read. Indexing chooses and reads nothing.

    images:      as they are stored.
    change:      some images (B, ...) -> the same ones, changed (B, *image_shape).
    image_shape: (c, h, w) of a changed image.
    dtype:       of the changed images.
    words:       what the change does; with the images before it, all that digests hold.
    """

    images: Raw | ChangedImages
    change: Callable[[Array], Array]
    image_shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    words: str

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, c, h, w)."""
        return (len(self), *self.image_shape)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> ChangedImages:
        return replace(self, images=self.images[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        found = self.change(np.asarray(self.images))
        return found if dtype is None else found.astype(dtype)


@dataclass(frozen=True)
class Images:
    """Images that are standardised as they are read: ``images[rows]`` is (n, c, h, w) float32.

    raw:   as they are stored.
    scale: mean and deviation of each channel in the unit of ``raw``; None where ``raw`` holds
           standardised images already.
    """

    raw: Raw | ChangedImages
    scale: Statistics | None = None

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, c, h, w)."""
        n, c, h, w = self.raw.shape
        return n, c, h, w

    def __getitem__(self, index: Index) -> Tensor:
        return self.standardised(self.stored(index))

    def chosen(self, rows: NDArray[np.int64]) -> Images:
        """Return some of the images; nothing is read of those on disk."""
        return replace(self, raw=self.raw[rows])

    def stored(self, index: Index) -> Tensor:
        """Read images as they are stored, (n, c, h, w)."""
        chosen = self.raw[index.numpy() if isinstance(index, Tensor) else index]
        return torch.from_numpy(np.ascontiguousarray(chosen))

    def standardised(self, stored: Tensor) -> Tensor:
        """Return ``(stored - mean) / std`` in float32, computed in float64 on its device."""
        if self.scale is None:
            return stored.float()
        mean, std = (torch.from_numpy(v)[:, None, None].to(stored.device) for v in self.scale)
        return ((stored.double() - mean) / std).float()

    def levels(self) -> tuple[Tensor, Tensor] | None:
        """Return what black and white of 8-bit images are once standardised, (c,) each, or None."""
        if self.scale is None or self.raw.dtype != np.uint8:
            return None
        mean, std = (torch.from_numpy(values) for values in self.scale)
        return ((0 - mean) / std).float(), ((255 - mean) / std).float()

    def add_to(self, digest: hashlib._Hash) -> None:
        """Feed type, shape and values of the standardised images into a digest.

        In place of the values of images on disk stand their own digests and the scale.
        """
        digest.update(f"<f4{self.shape}".encode())
        if isinstance(self.raw, ChangedImages):
            digest.update(self.raw.words.encode())
            Images(self.raw.images, self.scale).add_to(digest)
            return
        if isinstance(self.raw, DiskImages):
            digest.update(self.raw.digests[self.raw.rows].tobytes())
            digest.update(np.array(self.scale).astype("<f8").tobytes())
            return
        for start in range(0, len(self), CHUNK):
            part = self[start : start + CHUNK].numpy()
            digest.update(np.ascontiguousarray(part.astype("<f4", copy=False)).data)
