"""Validation and test images that nobody set aside: cut from the training data, class by class."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain, combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from nasplatform.errors import DataError
from nasplatform.training.datasets import DatasetOptions
from nasplatform.training.image_store import DiskImages, Raw
from nasplatform.training.preprocessing import count_classes, generator
from nasplatform.training.task import Labels


class SplitOptions(DatasetOptions):
    """Options of data sets that may come without validation or test data."""

    path: Path
    """Where the data are."""
    valid_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of each class held out for validation where no split of that name is given."""
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of each class held out for the test where no split of that name is given."""
    seed: int = Field(default=0, ge=0)
    """Seed of what is held out."""

    @model_validator(mode="after")
    def _some_left(self) -> SplitOptions:
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError("valid_fraction + test_fraction must be below 1")
        return self


def hold_out(
    found: Mapping[str, tuple[Raw, Labels]],
    options: SplitOptions,
    where: str,
    class_names: Sequence[str] = (),
) -> list[tuple[Raw, Labels]]:
    """Return train, valid and test; those that are missing are taken from the training data.

    found:       by the name of the split, images (n, c, h, w) and labels (n,).
    class_names: by label, for messages; empty where classes have no names.
    Raises DataError for a class with fewer images than splits that need one.
    """
    images, labels = found["train"]
    count_classes(labels, where)
    shares = {"valid": options.valid_fraction, "test": options.test_fraction}
    missing = {name: share for name, share in shares.items() if name not in found}
    cut = stratified(labels, missing, generator(options.seed), where, class_names)
    parts = {name: (images[rows], labels[rows]) for name, rows in cut.items()}
    return [(dict(found) | parts)[name] for name in ("train", "valid", "test")]


def warn_of_twins(splits: Sequence[tuple[Raw, Labels]], where: str) -> None:
    """Warn of images that are pixel by pixel the same in two splits, or in two classes.

    splits: train, valid and test.
    """
    digests = [_digests(images) for images, _ in splits]
    named = dict(zip(("train", "valid", "test"), map(set, digests), strict=True))
    shared = {
        f"{one} and {other}": len(named[one] & named[other])
        for one, other in combinations(named, 2)
    }
    told = [f"{count:,} in {both}" for both, count in shared.items() if count]
    if told:
        warnings.warn(
            f"{where}: the same images stand in two splits ({', '.join(told)}): what was learnt "
            f"by heart counts as known",
            stacklevel=3,
        )
    labels = np.concatenate([labels for _, labels in splits]).tolist()
    first: dict[bytes, int] = {}
    doubtful = {
        digest
        for digest, label in zip(chain(*digests), labels, strict=True)
        if first.setdefault(digest, label) != label
    }
    if doubtful:
        warnings.warn(
            f"{where}: {len(doubtful):,} image(s) stand in several classes: only one can be right",
            stacklevel=3,
        )


def _digests(images: Raw) -> list[bytes]:
    """Return what tells each image from all others."""
    if isinstance(images, DiskImages):
        return [row.tobytes() for row in images.digests[images.rows]]
    return [hashlib.sha256(image.tobytes()).digest() for image in images]


def stratified(
    labels: Labels,
    shares: Mapping[str, float],
    rng: np.random.Generator,
    where: str,
    class_names: Sequence[str] = (),
) -> dict[str, NDArray[np.int64]]:
    """Deal examples to splits at random, each class by the same shares.

    labels: (n,), 0..K-1. shares: of the splits beside ``train``, which gets the rest.
    Returns the rows of each split; of every class there is at least one in each. Raises
    DataError, beginning with ``where``, for a class that is too small for that.
    """
    counts = np.bincount(labels)
    small = np.flatnonzero(counts < 1 + len(shares))
    if len(small):
        name = repr(class_names[small[0]]) if class_names else str(small[0])
        raise DataError(
            f"{where}: class {name} has {counts[small[0]]} image(s), and {', '.join(shares)} and "
            f"train need one each: add images, or give {' and '.join(shares)} data of your own"
        )
    order = rng.permutation(len(labels))
    split_of = np.zeros(len(labels), np.int64)
    for label, count in enumerate(counts):
        rows, start = order[labels[order] == label], 0
        for place, share in enumerate(shares.values(), start=1):
            others = 1 + len(shares) - place  # splits that still need an example
            stop = start + min(max(round(count * share), 1), count - start - others)
            split_of[rows[start:stop]] = place
            start = stop
    return {name: order[split_of[order] == k] for k, name in enumerate(("train", *shares))}
