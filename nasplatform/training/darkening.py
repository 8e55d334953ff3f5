"""Images in the dark: a bias between two sources that can be made stronger step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasplatform.training.image_store import Array, ChangedImages, Images
from nasplatform.training.task import Task


def darkened(images: Images, strength: float, task: Task) -> Images:
    """Return images whose raw pixels are multiplied by ``1 - strength``, darkened as they are read.

    task: the one by which images that are stored standardised are so. Black stays black, and
    images of 8 bits keep 8 bits.
    """
    light = 1 - strength
    black = np.divide(task.mean, task.std)[:, None, None] if images.scale is None else None
    dtype = np.dtype(np.uint8 if images.raw.dtype == np.uint8 else np.float32)
    change, words = _Darken(light, black), f"darkened {strength}"
    made = ChangedImages(images.raw, change, images.shape[1:], dtype, words)
    return Images(made, images.scale)


@dataclass(frozen=True)
class _Darken:
    """Multiply raw pixels; ``black``, (c, 1, 1), is what standardised images have below their 0."""

    light: float
    black: Array | None

    def __call__(self, stored: Array) -> Array:
        if stored.dtype == np.uint8:
            return np.asarray((stored * self.light).round(), np.uint8)
        shift = 0 if self.black is None else (1 - self.light) * self.black
        return np.asarray(stored * self.light - shift, np.float32)
