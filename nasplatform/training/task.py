"""What a network is trained for: data, loss, metric, input shape."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    inputs: (n, c, h, w) float32, standardised by the statistics of the training split.
    labels: (n,) int64, in 0..classes-1.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Task:
    """Image classification: the data, and what is known of it.

    unlabelled:  further images of the same kind, (n, c, h, w) float32, or None.
    classes:     number of classes K; labels run from 0 to K - 1.
    input_shape: (channels, height, width) of one image.
    mean, std:   per channel, in the unit of the raw images; an input is ``(raw - mean) / std``.
    digest:      sha256 of all data as hexadecimal text; equal data have equal digests.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    unlabelled: Tensor | None
    classes: int
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str

    @staticmethod
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats; logits (B, K), labels (B,)."""
        return functional.cross_entropy(logits, labels)

    @staticmethod
    def metric(logits: Tensor, labels: Tensor) -> float:
        """Return the accuracy in [0, 1]; logits (B, K), labels (B,)."""
        return float((logits.argmax(dim=1) == labels).double().mean())


def make_task(
    name: str,
    splits: list[tuple[Images, Labels]],
    classes: int,
    scale: tuple[NDArray[np.float64], NDArray[np.float64]],
    unlabelled: Images | None = None,
) -> Task:
    """Make a task of numpy arrays.

    splits: train, valid and test, each (inputs (n, c, h, w), labels (n,)).
    scale:  mean and standard deviation of each channel, shape (c,), in the unit of raw images.
    """
    made = [Split(torch.from_numpy(x), torch.from_numpy(y)) for x, y in splits]
    shape = splits[0][0].shape
    return Task(
        name=name,
        train=made[0],
        valid=made[1],
        test=made[2],
        unlabelled=None if unlabelled is None else torch.from_numpy(unlabelled),
        classes=classes,
        input_shape=(int(shape[1]), int(shape[2]), int(shape[3])),
        mean=tuple(float(value) for value in scale[0]),
        std=tuple(float(value) for value in scale[1]),
        digest=_digest([array for split in splits for array in split], unlabelled),
    )


def _digest(arrays: list[NDArray[np.generic]], unlabelled: Images | None) -> str:
    found = hashlib.sha256()
    for array in arrays if unlabelled is None else [*arrays, unlabelled]:
        little_endian = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
        found.update(f"{little_endian.dtype.str}{little_endian.shape}".encode())
        found.update(little_endian.data)
    return found.hexdigest()
