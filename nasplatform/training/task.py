"""What a network is trained for: data, loss, metric, input shape."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nasplatform.errors import DataError
from nasplatform.training.image_store import Images

Labels = NDArray[np.int64]
Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, K), labels (B,) or, smoothed or mixed, probabilities (B, K)) -> mean loss."""
Metric = Callable[[Tensor, Tensor], float]
"""(logits (n, K), labels (n,)) -> a number, higher is better."""
_NAMES = 8  # class names in a summary


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats; logits (B, K), labels (B,) or (B, K)."""
    return functional.cross_entropy(logits, labels)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the accuracy in [0, 1]; logits (n, K), labels (n,)."""
    return float((logits.argmax(dim=1) == labels).double().mean())


@dataclass(frozen=True)
class Split:
    """Images (n, c, h, w), standardised by the training split, and their labels (n,), int64."""

    inputs: Images
    labels: Tensor

    def __repr__(self) -> str:
        return f"<split of {len(self):,} labelled images>"

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Task:
    """Image classification: the data, what is known of it, and what counts as good.

    unlabelled:  further images of the same kind, or None.
    classes:     number of classes K; labels run from 0 to K - 1.
    input_shape: (channels, height, width) of one image.
    mean, std:   per channel, in the unit of the raw images; an input is ``(raw - mean) / std``.
    digest:      sha256 of all data as hexadecimal text; equal data have equal digests.
    class_names: by label, empty where classes have none; not part of the digest.
    white:       what 255 of a picture of 8 bits is in raw images; None where they are no pictures.
    loss:        what trainings minimise; given here, or as a method of a subclass.
    metric:      what networks are judged by, likewise.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    unlabelled: Images | None
    classes: int
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    loss: Loss = cross_entropy
    metric: Metric = accuracy
    class_names: tuple[str, ...] = ()
    white: float | None = 255.0

    def __post_init__(self) -> None:
        for name, usual in (("loss", cross_entropy), ("metric", accuracy)):
            # a default that was not asked for would hide the method of a subclass
            if getattr(type(self), name) is not usual and self.__dict__[name] is usual:
                object.__delattr__(self, name)

    def __repr__(self) -> str:
        return f"<task {self.summary()}>"

    def summary(self) -> str:
        """Return one line that says what was read: images, shape, classes, splits."""
        sizes: dict[str, Split | Images] = {
            "train": self.train,
            "valid": self.valid,
            "test": self.test,
        }
        if self.unlabelled is not None:
            sizes["unlabelled"] = self.unlabelled
        splits = ", ".join(f"{len(part):,} {name}" for name, part in sizes.items())
        shape = " x ".join(map(str, self.input_shape))
        total = sum(len(part) for part in sizes.values())
        shown = (name if name.isprintable() else repr(name) for name in self.class_names[:_NAMES])
        names = ", ".join(shown) + (", ..." if self.classes > _NAMES else "")
        classes = f"{self.classes} classes" + (f" ({names})" if self.class_names else "")
        return f"{self.name}: {total:,} images of {shape}, {classes}: {splits}"


def check_task(task: object, where: str) -> None:
    """Raise DataError, beginning with ``where``, unless it is a task whose parts agree."""
    if not isinstance(task, Task):
        raise DataError(f"{where} is a {type(task).__name__}, expected a Task")
    shape = tuple(task.input_shape)
    for name, split in (("train", task.train), ("valid", task.valid), ("test", task.test)):
        labels, images = split.labels, split.inputs
        if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.ndim != 1:
            kind = getattr(labels, "dtype", type(labels).__name__)
            raise DataError(f"{where}: labels of {name} are {kind}, expected a tensor (n,) int64")
        if len(images) != len(labels) or not len(labels):
            raise DataError(f"{where}: {name} has {len(images)} images and {len(labels)} labels")
        if tuple(images.shape[1:]) != shape:
            raise DataError(
                f"{where}: images of {name} are {tuple(images.shape[1:])}, input_shape is {shape}"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= task.classes:
            raise DataError(
                f"{where}: labels of {name} run from {low} to {high}, expected 0 to "
                f"{task.classes - 1}, as it says {task.classes} classes"
            )
    _check_classes(task, where)
    scale = (len(task.mean), len(task.std))
    if scale != (shape[0], shape[0]) or not all(np.isfinite([*task.mean, *task.std])):
        raise DataError(
            f"{where}: mean and std are {task.mean} and {task.std}, expected a finite number each "
            f"for {shape[0]} channel(s)"
        )


def _check_classes(task: Task, where: str) -> None:
    """Raise DataError where a class has no training image, or names do not fit the classes."""
    missing = np.setdiff1d(np.arange(task.classes), task.train.labels.numpy())
    if len(missing):
        raise DataError(
            f"{where} says {task.classes} classes, no training image is of class {missing[0]}: "
            f"expected labels 0 to {task.classes - 1}, each of them in train"
        )
    if task.class_names and len(task.class_names) != task.classes:
        raise DataError(
            f"{where} has {len(task.class_names)} class_names for {task.classes} classes, expected "
            f"one for each, or none"
        )


def make_task(
    name: str,
    splits: Sequence[tuple[Images, Labels]],
    classes: int,
    scale: tuple[NDArray[np.float64], NDArray[np.float64]],
    unlabelled: Images | None = None,
    class_names: tuple[str, ...] = (),
) -> Task:
    """Make a task of images and labels.

    splits: train, valid and test, each (images (n, c, h, w), labels (n,)).
    scale:  mean and standard deviation of each channel, shape (c,), in the unit of raw images.
    """
    train, valid, test = (Split(x, torch.from_numpy(np.ascontiguousarray(y))) for x, y in splits)
    return Task(
        name=name,
        train=train,
        valid=valid,
        test=test,
        unlabelled=unlabelled,
        classes=classes,
        input_shape=train.inputs.shape[1:],
        mean=tuple(float(value) for value in scale[0]),
        std=tuple(float(value) for value in scale[1]),
        digest=_digest(splits, unlabelled),
        class_names=class_names,
    )


def _digest(splits: Sequence[tuple[Images, Labels]], unlabelled: Images | None) -> str:
    found = hashlib.sha256()
    for images, labels in splits:
        images.add_to(found)
        found.update(f"<i8{labels.shape}".encode())
        found.update(labels.astype("<i8").tobytes())
    if unlabelled is not None:
        unlabelled.add_to(found)
    return found.hexdigest()
