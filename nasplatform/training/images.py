"""CIFAR-10, CIFAR-100 and MNIST, from the files of ``nasplatform data fetch`` or the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nasplatform.errors import DataError
from nasplatform.training.cifar import read_cifar
from nasplatform.training.datasets import DatasetOptions, fetched_folder, read_idx
from nasplatform.training.image_store import Raw
from nasplatform.training.npz import read_npz
from nasplatform.training.preprocessing import generator, standardised_task
from nasplatform.training.task import Labels, Task

_Part = tuple[NDArray[np.uint8], Labels]


class DrawnOptions(DatasetOptions):
    """How many images of each part are used, and which."""

    train_size: int | None = Field(default=None, ge=1)
    """Training images, drawn from the official training set; null for all that are left."""
    valid_size: int = Field(default=5_000, ge=1)
    """Validation images, drawn from the official training set; the same ones whatever
    ``train_size`` is."""
    test_size: int | None = Field(default=None, ge=1)
    """Test images, drawn from the official test set (from the training set where the files have
    no other); null for all."""
    seed: int = Field(default=0, ge=0)
    """Seed of what is drawn."""


class CifarOptions(DrawnOptions):
    """What ``cifar10`` and ``cifar100`` have in common."""

    path: Path
    """Official binary folder or archive, or a zip of lossless mosaics."""
    unlabelled: Path | None = None
    """Images of either CIFAR, in any of these forms, to be the unlabelled data: a *biased* source
    where it is the other one. Null for what the splits leave of the training set."""


class Cifar10Options(CifarOptions):
    """Options of ``cifar10``."""

    path: Path = Field(default_factory=lambda: fetched_folder("cifar10"))
    """Official binary folder or archive, or a zip of lossless mosaics."""


class Cifar100Options(CifarOptions):
    """Options of ``cifar100``."""

    path: Path = Field(default_factory=lambda: fetched_folder("cifar100"))
    """Official binary folder or archive, or a zip of lossless mosaics."""


class MnistOptions(DrawnOptions):
    """Options of ``mnist``."""

    path: Path = Field(default_factory=lambda: fetched_folder("mnist"))
    """Folder of the four official ``.gz`` files, or an ``.npz`` with x_train, y_train, x_test and
    y_test."""


def cifar10(options: Cifar10Options) -> Task:
    """CIFAR-10 (Krizhevsky 2009), 3 x 32 x 32, 10 classes: 50,000 training, 10,000 test images."""
    return _cifar("cifar10", 10, options)


def cifar100(options: Cifar100Options) -> Task:
    """CIFAR-100 (Krizhevsky 2009), 3 x 32 x 32, 100 fine classes, 50,000 and 10,000 images."""
    return _cifar("cifar100", 100, options)


def mnist(options: MnistOptions) -> Task:
    """MNIST (LeCun et al. 1998), 1 x 28 x 28, 10 classes: 60,000 training, 10,000 test images."""
    path = options.path
    train, test = _mnist_npz(path) if path.suffix == ".npz" else _mnist_idx(path)
    return _drawn_task("mnist", train, test, options, f"mnist in {path}")


def _cifar(name: str, classes: int, options: CifarOptions) -> Task:
    found = read_cifar(options.path)
    if found.classes != classes:
        raise DataError(f"{options.path} is CIFAR-{found.classes}, not CIFAR-{classes}")
    more = None if options.unlabelled is None else read_cifar(options.unlabelled).train[0]
    where = f"{name} in {options.path}"
    return _drawn_task(name, found.train, found.test, options, where, more)


def _drawn_task(
    name: str,
    train: _Part,
    test: _Part | None,
    options: DrawnOptions,
    where: str,
    unlabelled: Raw | None = None,
) -> Task:
    """Draw the splits: training from the beginning of a random order, validation from its end."""
    images, labels = train
    rng = generator(options.seed)
    order = rng.permutation(len(images))
    if test is None:
        if options.test_size is None:
            raise DataError(f"{where}: there are no test images; give test_size to hold some out")
        order, held = _cut(order, options.test_size, "test_size", where)
        test, test_order = train, held
    else:
        test_order = rng.permutation(len(test[0]))
        if options.test_size is not None:
            test_order = _cut(test_order, options.test_size, "test_size", where, rest=0)[1]
    order, valid_order = _cut(order, options.valid_size, "valid_size", where)
    train_size = len(order) if options.train_size is None else options.train_size
    if train_size > len(order):
        raise DataError(f"{where}: train_size is {train_size:,}, {len(order):,} images are left")
    splits = [
        (images[order[:train_size]], labels[order[:train_size]]),
        (images[valid_order], labels[valid_order]),
        (test[0][test_order], test[1][test_order]),
    ]
    more = images[order[train_size:]] if unlabelled is None else unlabelled
    return standardised_task(name, splits, where, more)


def _cut(
    order: NDArray[np.int64], size: int, option: str, where: str, rest: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take ``size`` indices off the end of an order, at least ``rest`` of them must be left."""
    if size > len(order) - rest:
        raise DataError(f"{where}: {option} is {size:,}, there are {len(order):,} images")
    return order[: len(order) - size], order[len(order) - size :]


def _mnist_idx(folder: Path) -> tuple[_Part, _Part]:
    how = "`nasplatform data fetch mnist`"
    parts = []
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        images = read_idx(folder / f"{part}-images-idx3-ubyte.gz", (count, 28, 28), how)
        labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz", (count,), how)
        parts.append((images[:, None], labels.astype(np.int64)))
    return parts[0], parts[1]


def _mnist_npz(path: Path) -> tuple[_Part, _Part]:
    arrays = read_npz(path)
    parts = []
    for part in ("train", "test"):
        if f"x_{part}" not in arrays or f"y_{part}" not in arrays:
            raise DataError(f"{path}: array 'x_{part}' or 'y_{part}' is missing")
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        fits = images.dtype == np.uint8 and images.shape[1:] == (28, 28)
        if not fits or labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise DataError(
                f"{path}: x_{part} {images.dtype} {images.shape} with y_{part} {labels.dtype} "
                f"{labels.shape} is not MNIST: expected uint8 (n, 28, 28) and whole numbers (n,)"
            )
        parts.append((images[:, None], labels.astype(np.int64)))
    return parts[0], parts[1]
