"""Images of another source, as a task wants them: shape, colours, brightness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from nasplatform.errors import DataError
from nasplatform.training.image_store import Array, ChangedImages, Images
from nasplatform.training.task import Task

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


def fitted(images: Images, task: Task, name: str) -> tuple[Images, str]:
    """Return images as a task's network takes them, changed as they are read, and a line on it.

    Sides are resized (bilinear, smoothed where they shrink), colours made grey or grey repeated.
    Images of 8 bits are standardised by the task's statistics, where its own have 8 bits; all
    others keep their own standardisation, for nobody knows their unit.
    Raises DataError for colours that cannot be brought together.
    """
    shape, given = task.input_shape, images.shape[1:]
    if given[0] != shape[0] and {given[0], shape[0]} != {1, 3}:
        raise DataError(
            f"{name} has images of {given[0]} channels, {task.name} of {shape[0]}: only grey and "
            f"colours can be brought together"
        )
    own = task.train.inputs
    bytes_both = images.levels() is not None and own.levels() is not None
    scale = own.scale if bytes_both else images.scale
    raw, words = images.raw, f"standardised by {'the task' if bytes_both else 'their own'}"
    if given == shape:
        return Images(raw, scale), f"{_line(name, images)}, {words} statistics"
    change = _Fit(shape)
    if not bytes_both:  # colours are mixed once they are standardised
        change, scale = _Fit(shape, images), None
    dtype = raw.dtype if bytes_both else np.dtype(np.float32)
    told = f"brought to {_sides(shape)}"
    scales = [] if images.scale is None else [values.tolist() for values in images.scale]
    made = ChangedImages(raw, change, shape, dtype, f"{told} {words} {scales}")
    return Images(made, scale), f"{_line(name, images)} {told}, {words} statistics"


@dataclass(frozen=True)
class _Fit:
    """Resize and recolour, after standardising where images say how."""

    shape: tuple[int, int, int]
    standard: Images | None = None

    def __call__(self, stored: Array) -> Array:
        found = torch.from_numpy(np.ascontiguousarray(stored))
        found = found.float() if self.standard is None else self.standard.standardised(found)
        if found.shape[1] > self.shape[0]:
            found = (found * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        if found.shape[2:] != self.shape[1:]:
            found = functional.interpolate(
                found, self.shape[1:], mode="bilinear", antialias=True, align_corners=False
            )
        made: Array = found.expand(-1, self.shape[0], -1, -1).numpy()
        if self.standard is None:
            return made.round().clip(0, 255).astype(np.uint8)
        return made


def _line(name: str, images: Images) -> str:
    return f"unlabelled images of {name}: {len(images):,} of {_sides(images.shape[1:])}"


def _sides(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
