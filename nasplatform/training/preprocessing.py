"""From raw images to a task: exact statistics, standardisation, splitting; numpy only.

Whole-number images (uint8 and sums of them) are added up as integers, so that their statistics,
and with them the data, are equal bit for bit on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.errors import DataError
from nasplatform.training.image_store import CHUNK, DiskImages, Images, Raw, Statistics
from nasplatform.training.task import Labels, Task, make_task

_LARGEST = 2**62
"""Sums that int64 holds."""


def generator(seed: int) -> np.random.Generator:
    """Return the random generator of a data set; its stream is the same on every machine."""
    return np.random.Generator(np.random.PCG64(seed))


def standardised_task(
    name: str,
    splits: Sequence[tuple[Raw, Labels]],
    where: str,
    unlabelled: Raw | None = None,
    unit: float = 1.0,
    class_names: tuple[str, ...] = (),
) -> Task:
    """Standardise raw splits by the statistics of the first and make a task of them.

    splits: train, valid and test, each (raw images (n, c, h, w), labels (n,) in 0..K-1).
    class_names: by label, where classes have names.
    unit:   what one raw image unit is in the arrays given, e.g. 16 where 16 pixels were added.
    Raises DataError, beginning with ``where``, for a constant channel or labels that do not fit.
    """
    check_splits(splits, where)
    classes = check_labels([labels for _, labels in splits], where)
    scale = channel_statistics(splits[0][0])
    constant = np.flatnonzero(scale[1] == 0)
    if len(constant):
        raise DataError(f"{where}: channel {constant[0]} is the same in every training pixel")
    made = [(Images(x, scale), y.astype(np.int64)) for x, y in splits]
    more = None if unlabelled is None or not len(unlabelled) else Images(unlabelled, scale)
    return make_task(name, made, classes, (scale[0] / unit, scale[1] / unit), more, class_names)


def check_splits(splits: Sequence[object], where: str) -> None:
    """Raise DataError unless there are three pairs of images (n, c, h, w) and labels (n,)."""
    if len(splits) != 3:
        raise DataError(f"{where}: {len(splits)} splits, expected train, valid and test")
    for name, split in zip(("train", "valid", "test"), splits, strict=True):
        if not (isinstance(split, tuple) and len(split) == 2):
            raise DataError(f"{where}: {name} is not a pair of images and labels")
        images, labels = split
        if not isinstance(labels, np.ndarray) or not hasattr(images, "dtype"):
            kinds = f"{type(images).__name__} and {type(labels).__name__}"
            raise DataError(f"{where}: {name} is {kinds}, expected two arrays of numpy")
        if len(images.shape) != 4 or labels.shape != (images.shape[0],):
            raise DataError(
                f"{where}: {name} has images {tuple(images.shape)} and labels {labels.shape}, "
                f"expected (n, channels, height, width) and (n,)"
            )


def channel_statistics(images: Raw) -> Statistics:
    """Return mean and standard deviation (population) of each channel; images (n, c, h, w).

    Exact for whole numbers whose squares add up in 64 bits, two-pass float64 for anything else;
    both have shape (c,).
    """
    count = images.size // images.shape[1]
    if isinstance(images, DiskImages):
        rows = images.rows
        return _exact(images.sums[rows].sum(0), images.squares[rows].sum(0), count)
    if np.issubdtype(images.dtype, np.integer):
        largest = max(abs(int(images.min())), abs(int(images.max())))
        if largest**2 * CHUNK * images[0, 0].size < _LARGEST:
            total = _whole_sums(part.astype(np.int64) for part in _chunks(images))
            squares = _whole_sums(part.astype(np.int64) ** 2 for part in _chunks(images))
            return _exact(total, squares, count)
    return _rounded(images, count)


def _exact(total: Iterable[int], squares: Iterable[int], count: int) -> Statistics:
    pairs = [(int(s), int(q)) for s, q in zip(total, squares, strict=True)]
    mean = np.array([s / count for s, _ in pairs])
    std = np.array([math.sqrt((count * q - s * s) / count**2) for s, q in pairs])
    return mean, std


def _rounded(images: NDArray[Any], count: int) -> Statistics:
    """Two passes over images divided by a power of two, so that no square over- or underflows."""
    largest = max(float(np.abs(part.astype(np.float64)).max()) for part in _chunks(images))
    exponent = math.frexp(largest)[1]

    def scaled() -> Iterator[NDArray[np.float64]]:
        return (np.ldexp(part.astype(np.float64), -exponent) for part in _chunks(images))

    mean = _sums(scaled()) / count
    centre = mean[:, None, None]
    std = np.sqrt(_sums((part - centre) ** 2 for part in scaled()) / count)
    return np.ldexp(mean, exponent), np.ldexp(std, exponent)


def block_sums(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8] | NDArray[np.int32]:
    """Add up blocks of side x side pixels: (n, h, w) -> (n, h / side, w / side)."""
    if side == 1:
        return images
    n, height, width = images.shape
    blocks = images.reshape(n, height // side, side, width // side, side)
    return np.asarray(blocks.sum(axis=(2, 4), dtype=np.int32))


def check_labels(labels: list[Labels], where: str) -> int:
    """Return the number of classes K.

    labels: those of train, valid and test, each (n,).
    Raises DataError unless each of 0..K-1 occurs in the training split and nothing else anywhere.
    """
    classes = count_classes(labels[0], where)
    for name, values in zip(("valid", "test"), labels[1:], strict=True):
        strange = values[(values < 0) | (values >= classes)]
        if len(strange):
            raise DataError(
                f"{where}: label {strange[0]} of the {name} split is not among the training "
                f"labels 0..{classes - 1}"
            )
    return classes


def count_classes(labels: Labels, where: str) -> int:
    """Return K; raise DataError unless labels (n,) are 0..K-1 with none missing, K at least 2."""
    found = np.unique(labels)
    classes = len(found)
    if classes < 2:
        raise DataError(f"{where}: the training split has {classes} class(es), at least 2 needed")
    if not np.array_equal(found, np.arange(classes)):
        raise DataError(
            f"{where}: training labels must be 0..K-1 with none missing, "
            f"found {classes} different ones from {found[0]} to {found[-1]}"
        )
    return classes


def _chunks(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))


def _sums(parts: Iterator[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.asarray(np.sum([part.sum(axis=(0, 2, 3)) for part in parts], axis=0))


def _whole_sums(parts: Iterator[NDArray[np.int64]]) -> list[int]:
    """Return the sum of each channel; Python's own whole numbers do not overflow."""
    each = [part.sum(axis=(0, 2, 3)).tolist() for part in parts]
    return [sum(channel) for channel in zip(*each, strict=True)]
