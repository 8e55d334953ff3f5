"""The data sets that come with the platform, and ``load_task``, which finds any by its name.

A data set plug-in is a function ``(options) -> Task`` whose only parameter is annotated with a
pydantic model; registered as an entry point of the group ``nasplatform.datasets``.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasplatform import plugins
from nasplatform.atomic_io import datasets_folder
from nasplatform.errors import DataError
from nasplatform.foreign import require_regular
from nasplatform.plugin_contracts import options_model
from nasplatform.training.image_store import Images
from nasplatform.training.preprocessing import (
    block_sums,
    channel_statistics,
    generator,
    standardised_task,
)
from nasplatform.training.task import Labels, Task, check_task, make_task

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")


class DatasetOptions(BaseModel):
    """What the options of every data set have in common: frozen, and no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def load_task(name: str, options: dict[str, Any], where: str) -> Task:
    """Load a registered data set.

    where: what to call the options in messages, e.g. ``searches/x.yaml: task.options``.
    Raises PluginError for an unknown name, ConfigError for bad options, DataError for bad data.
    """
    dataset: Callable[[BaseModel], Task] = plugins.get("datasets", name)
    task = dataset(plugins.make_options(options_model(dataset), options, where))
    check_task(task, f"data set {name!r}")
    return task


class DigitsOptions(DatasetOptions):
    """Options of ``digits``."""

    noise: float = Field(default=1.0, ge=0)
    """Standard deviation of the fixed noise, in units of that of the pixels; 1 spreads
    architectures widest (the platform's own measurement, 60 cells)."""
    seed: int = Field(default=0, ge=0)
    """Seed of the split and of the noise."""


def digits(options: DigitsOptions) -> Task:
    """Scikit-learn's 1,797 handwritten digits, 1 x 8 x 8, with noise that never changes.

    898 train, 449 valid, 450 test. The images are standardised, fixed Gaussian noise is added,
    and the sum is divided by ``sqrt(1 + noise**2)``, so that it has unit deviation again.
    """
    from sklearn.datasets import load_digits  # a second of imports that others need not pay

    bunch = load_digits()
    images = bunch.images.astype(np.int64)[:, None]
    labels: Labels = bunch.target.astype(np.int64)
    rng = generator(options.seed)
    parts = np.split(rng.permutation(len(images)), [898, 898 + 449])
    mean, std = channel_statistics(images[parts[0]])
    clean = (images - mean[:, None, None]) / std[:, None, None]
    unit = float(np.sqrt(1 + options.noise**2))
    noisy = (clean + options.noise * rng.standard_normal(images.shape)) / unit
    splits = [(Images(noisy[part].astype(np.float32)), labels[part]) for part in parts]
    task = make_task("digits", splits, 10, (mean, std * unit))
    return replace(task, white=16.0)


class FashionOptions(DatasetOptions):
    """Options of ``fashion-mnist``."""

    path: Path = Field(default_factory=lambda: fetched_folder("fashion-mnist", FASHION_FOLDER))
    """Folder with the four official ``.gz`` files; what ``data fetch`` left, else Debian's."""
    pool: Literal[1, 2, 4, 7, 14] = 1
    """Side of the blocks that are averaged; 4 makes 7 x 7 images of 28 x 28."""
    train_size: int = Field(default=50_000, ge=1)
    """Training images, drawn from the 60,000 official ones."""
    valid_size: int = Field(default=10_000, ge=1)
    """Validation images, drawn from the rest; the same ones whatever ``train_size`` is."""
    test_size: int = Field(default=10_000, ge=1, le=10_000)
    """Test images, drawn from the 10,000 official ones."""
    seed: int = Field(default=0, ge=0)
    """Seed of what is drawn."""

    @model_validator(mode="after")
    def _enough(self) -> FashionOptions:
        if self.train_size + self.valid_size > 60_000:
            raise ValueError("train_size + valid_size must not exceed 60000")
        return self


def fashion_mnist(options: FashionOptions) -> Task:
    """Fashion-MNIST, 1 x 28 x 28 or average-pooled, from its four official files.

    What the training and validation splits leave of the 60,000 is the unlabelled data.
    """
    images, labels = _fashion_part(options.path, "train", 60_000)
    test_images, test_labels = _fashion_part(options.path, "t10k", 10_000)
    rng = generator(options.seed)
    order, test_order = rng.permutation(60_000), rng.permutation(10_000)
    pooled = block_sums(images, options.pool)[:, None]
    test_pooled = block_sums(test_images, options.pool)[:, None]
    train, valid = order[: options.train_size], order[60_000 - options.valid_size :]
    rest = order[options.train_size : 60_000 - options.valid_size]
    test = test_order[: options.test_size]
    splits = [
        (pooled[train], labels[train]),
        (pooled[valid], labels[valid]),
        (test_pooled[test], test_labels[test]),
    ]
    where = f"fashion-mnist in {options.path}"
    return standardised_task("fashion-mnist", splits, where, pooled[rest], options.pool**2)


def _fashion_part(folder: Path, part: str, count: int) -> tuple[NDArray[np.uint8], Labels]:
    how = "`nasplatform data fetch fashion-mnist`, or apt-get install dataset-fashion-mnist"
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz", (count, 28, 28), how)
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz", (count,), how)
    return images, labels.astype(np.int64)


def fetched_folder(name: str, otherwise: Path | None = None) -> Path:
    """Return where ``nasplatform data fetch`` puts a data set; ``otherwise`` if it is not there."""
    folder = datasets_folder() / name
    return folder if otherwise is None or folder.is_dir() else otherwise


def read_idx(path: Path, shape: tuple[int, ...], how: str) -> NDArray[np.uint8]:
    """Read a gzipped idx file of bytes: magic 0x0000_08_dims, big-endian sizes, the bytes.

    how: how to get the file, for the message. Raises DataError where it is missing or another.
    """
    header = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
    size = int(np.prod(shape))
    try:
        require_regular(path)
        with gzip.open(path) as file:
            data = file.read(len(header) + size + 1)
    except FileNotFoundError:
        raise DataError(
            f"{path} is missing: {how}, or give the folder of the official .gz files as option "
            f"'path'"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not data.startswith(header) or len(data) != len(header) + size:
        raise DataError(f"{path} is not the official idx file of shape {shape}")
    return np.frombuffer(data, dtype=np.uint8, offset=len(header)).reshape(shape)
