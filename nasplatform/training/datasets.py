"""The data sets that come with the platform, and ``load_task``, which finds any by its name.

A data set plug-in is a function ``(options) -> Task`` whose only parameter is annotated with a
pydantic model; registered as an entry point of the group ``nasplatform.datasets``.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasplatform import plugins
from nasplatform.atomic_io import datasets_folder
from nasplatform.errors import DataError, PluginError
from nasplatform.training.decoding import decoded
from nasplatform.training.image_store import Array, Images, Raw
from nasplatform.training.preprocessing import (
    block_sums,
    channel_statistics,
    generator,
    split_off,
    standardised_task,
)
from nasplatform.training.task import Labels, Task, make_task

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
NPZ_ARRAYS = frozenset(
    {"x_unlabelled", *(f"{axis}_{part}" for axis in "xy" for part in ("train", "valid", "test"))}
)


class DatasetOptions(BaseModel):
    """What the options of every data set have in common: frozen, and no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def load_task(name: str, options: dict[str, Any], where: str) -> Task:
    """Load a registered data set.

    where: what to call the options in messages, e.g. ``searches/x.yaml: task.options``.
    Raises PluginError for an unknown name, ConfigError for bad options, DataError for bad data.
    """
    dataset: Callable[[BaseModel], Task] = plugins.get("datasets", name)
    return dataset(plugins.make_options(options_model(dataset), options, where))


def options_model(dataset: Callable[..., Task]) -> type[BaseModel]:
    """Return the pydantic model that a data set or network takes, read from its annotation."""
    hints = get_type_hints(dataset)
    hints.pop("return", None)
    models = [hint for hint in hints.values() if isinstance(hint, type)]
    if len(models) != 1 or not issubclass(models[0], BaseModel):
        raise PluginError(
            f"plug-in {dataset!r} must be a function of one argument that is annotated with a "
            f"pydantic model"
        )
    return models[0]


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
    return make_task("digits", splits, 10, (mean, std * unit))


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
    try:
        data = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{path} is missing: {how}, or give the folder of the official .gz files as option "
            f"'path'"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    header = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
    size = int(np.prod(shape))
    if not data.startswith(header) or len(data) != len(header) + size:
        raise DataError(f"{path} is not the official idx file of shape {shape}")
    return np.frombuffer(data, dtype=np.uint8, offset=len(header)).reshape(shape)


class SplitOptions(DatasetOptions):
    """Options of data sets that may come without validation or test data."""

    path: Path
    """Where the data are."""
    valid_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of the examples held out for validation where no split of that name is given."""
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of the examples held out for the test where no split of that name is given."""
    seed: int = Field(default=0, ge=0)
    """Seed of what is held out."""

    @model_validator(mode="after")
    def _some_left(self) -> SplitOptions:
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError("valid_fraction + test_fraction must be below 1")
        return self


class NpzOptions(SplitOptions):
    """Options of ``npz``."""

    layout: Literal["channels-first", "channels-last"] = "channels-first"
    """Order of the axes where images have four; three axes are (n, height, width)."""


def npz(options: NpzOptions) -> Task:
    """Read the user's own images from one ``.npz`` file.

    Arrays: ``x_train`` and ``y_train`` (or ``x`` and ``y``), and, where they exist, ``x_valid``,
    ``y_valid``, ``x_test``, ``y_test`` and ``x_unlabelled``. Images are (n, h, w) or
    (n, c, h, w), of any real type; labels are whole numbers 0..K-1. A split that is missing is
    held out of the training data. Nothing is unpickled.
    """
    where = str(options.path)
    arrays = read_npz(options.path)
    plain = "x_train" not in arrays and ("x" in arrays or "y" in arrays)
    found = {}
    for part in ("train", "valid", "test"):
        x, y = ("x", "y") if plain and part == "train" else (f"x_{part}", f"y_{part}")
        if part == "train" or x in arrays or y in arrays:
            images = npz_images(arrays, x, options)
            found[part] = images, _npz_labels(arrays, y, len(images), where)
    more = npz_images(arrays, "x_unlabelled", options) if "x_unlabelled" in arrays else None
    shapes = {x.shape[1:] for x, _ in found.values()}
    shapes |= set() if more is None else {more.shape[1:]}
    if len(shapes) > 1:
        raise DataError(f"{where}: splits have images of different shapes: {sorted(shapes)}")
    return standardised_task("npz", _hold_out(found, options, where), where, more)


def read_npz(path: Path) -> dict[str, Array]:
    """Read the arrays of an ``.npz`` file, nothing unpickled; raise DataError for any other."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is not a .npz file")
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for a damaged file
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    known_arrays = NPZ_ARRAYS if "x_train" in arrays else NPZ_ARRAYS | {"x", "y"}
    strange = sorted(arrays.keys() - known_arrays)
    if strange:
        known = ", ".join(sorted(known_arrays))
        raise DataError(f"{path}: unknown array {strange[0]!r}; known are {known}")
    return arrays


def npz_images(arrays: dict[str, Array], name: str, options: NpzOptions) -> Array:
    """Return images of a file as (n, c, h, w); raise DataError where they are none."""
    if name not in arrays:
        raise DataError(f"{options.path}: array {name!r} is missing")
    images = arrays[name]
    where = f"{options.path}: array {name!r}"
    if images.ndim not in (3, 4) or not images.size:
        raise DataError(f"{where} has shape {images.shape}, expected (n, h, w) or (n, c, h, w)")
    if images.dtype == np.bool_:
        images = images.astype(np.uint8)
    if images.dtype.kind not in "iuf" or images.dtype.itemsize > 8:
        raise DataError(f"{where} has type {images.dtype}, expected integers or floats")
    images = images.astype(images.dtype.newbyteorder("="), copy=False)
    if not np.isfinite(images).all():
        raise DataError(f"{where} holds values that are not finite")
    if images.ndim == 3:
        return images[:, None]
    return images if options.layout == "channels-first" else np.moveaxis(images, 3, 1)


def _npz_labels(arrays: dict[str, Array], name: str, count: int, where: str) -> Labels:
    if name not in arrays:
        raise DataError(f"{where}: array {name!r} is missing")
    labels = arrays[name]
    if labels.shape != (count,):
        raise DataError(f"{where}: array {name!r} has shape {labels.shape}, expected ({count},)")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{where}: array {name!r} has type {labels.dtype}, expected integers")
    return labels.astype(np.int64)


def _hold_out(
    found: Mapping[str, tuple[Raw, Labels]], options: SplitOptions, where: str
) -> list[tuple[Raw, Labels]]:
    """Return train, valid and test; those that are missing are taken from the training data."""
    images, labels = found["train"]
    order = generator(options.seed).permutation(len(images))
    shares = (
        0.0 if "valid" in found else options.valid_fraction,
        0.0 if "test" in found else options.test_fraction,
    )
    cut = [(images[part], labels[part]) for part in split_off(order, shares, where)]
    return [cut[0], found.get("valid", cut[1]), found.get("test", cut[2])]


class FolderOptions(SplitOptions):
    """Options of ``folder``."""

    size: int = Field(default=32, ge=4, le=1024)
    """Side to which every image is resized, in pixels."""
    grey: bool = False
    """One channel instead of red, green and blue."""


def image_folder(options: FolderOptions) -> Task:
    """Read a folder of images with one directory per class, in alphabetical order.

    Either ``path/<class>/*.png`` or ``path/{train,valid,test}/<class>/*.png``; a split that is
    missing is held out of the training images. Images are resized to a square; more than fit into
    memory are decoded once, into a cache on disk (``decoding``).
    """
    path, where = options.path, str(options.path)
    levels = {part: path / part for part in ("train", "valid", "test") if (path / part).is_dir()}
    if "train" not in levels:
        levels = {"train": path}
    names = _class_names(levels["train"])
    found = {}
    for part, folder in levels.items():
        strange = sorted(set(_class_names(folder)) - set(names))
        if strange:
            raise DataError(f"{folder / strange[0]} is a class that the training images lack")
        files = [(file, k) for k, name in enumerate(names) for file in _images_in(folder / name)]
        if not files:
            raise DataError(f"{folder}: no image files in its class directories")
        images = decoded([file for file, _ in files], options.size, options.grey)
        found[part] = (images, np.array([label for _, label in files], dtype=np.int64))
    return standardised_task("folder", _hold_out(found, options, where), where)


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a directory")
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise DataError(f"{folder}: expected one directory per class, found none")
    return names


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
