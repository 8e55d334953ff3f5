"""The user's own arrays: images and labels in one ``.npz`` file."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from nasplatform import faults
from nasplatform.errors import DataError
from nasplatform.foreign import require_regular, zip_members
from nasplatform.training.holdout import SplitOptions, hold_out, warn_of_twins
from nasplatform.training.image_store import Array
from nasplatform.training.preprocessing import standardised_task
from nasplatform.training.task import Labels, Task

NPZ_ARRAYS = frozenset(
    {"x_unlabelled", *(f"{axis}_{part}" for axis in "xy" for part in ("train", "valid", "test"))}
)
_HARMLESS, _PACKED = 64 << 20, 50
"""Bytes that any file may unpack to, and times its size that a larger one may."""
_COLOURS = (1, 3, 4)
"""Numbers of channels that images usually have."""


class NpzOptions(SplitOptions):
    """Options of ``npz``."""

    layout: Literal["channels-first", "channels-last"] | None = None
    """Order of the axes where images have four, three axes are (n, height, width); unless given,
    the last axis is the channels where it has 1, 3 or 4 and the second has not. Where both have,
    that one is which leaves square images, and the file is refused where neither or both do."""


def npz(options: NpzOptions) -> Task:
    """Read the user's own images from one ``.npz`` file.

    Arrays: ``x_train`` and ``y_train`` (or ``x`` and ``y``), and, where they exist, ``x_valid``,
    ``y_valid``, ``x_test``, ``y_test`` and ``x_unlabelled``. Images are (n, h, w), (n, c, h, w)
    or (n, h, w, c), of any real type; labels are whole numbers 0..K-1. A split that is missing is
    held out of the training data, class by class. Nothing is unpickled.
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
    every = [x for x, _ in found.values()] + ([] if more is None else [more])
    if len({x.dtype.kind == "f" for x in every}) > 1:
        kinds = " and ".join(sorted({str(x.dtype) for x in every}))
        raise DataError(
            f"{where}: the images of some splits are whole numbers, of others not ({kinds}): save "
            f"all of them in one scale"
        )
    splits = hold_out(found, options, where)
    task = standardised_task("npz", splits, where, more)
    warn_of_twins(splits, where)
    pictures = found["train"][0].dtype == np.uint8
    return task if pictures else replace(task, white=None)


def read_npz(path: Path) -> dict[str, Array]:
    """Read the arrays of an ``.npz`` file, nothing unpickled; raise DataError for any other."""
    try:
        _require_moderate(path)
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except ValueError as error:
        objects = "allow_pickle" in str(error)
        words = "it holds an array of objects" if objects else faults.short(error)
        raise DataError(f"{path} cannot be read: {words}") from None
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for a damaged file
        raise DataError(f"{path} cannot be read: {faults.short(error)}") from None
    known_arrays = NPZ_ARRAYS if "x_train" in arrays else NPZ_ARRAYS | {"x", "y"}
    strange = sorted(arrays.keys() - known_arrays)
    no_array = next((name for name, found in arrays.items() if isinstance(found, bytes)), None)
    if no_array is not None:
        raise DataError(f"{path}: {no_array!r} is no array: save it with numpy.savez")
    if strange:
        known = ", ".join(sorted(known_arrays))
        raise DataError(f"{path}: unknown array {strange[0]!r}; known are {known}")
    return arrays


def _require_moderate(path: Path) -> None:
    """Raise ValueError for what is no archive, or unpacks to far more than images ever do."""
    packed = require_regular(path)
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no .npz file")
    unpacked = sum(member.file_size for member in zip_members(path))
    if unpacked > max(_HARMLESS, _PACKED * packed):
        raise ValueError(
            f"it unpacks from {packed:,} to {unpacked:,} bytes, more than images do: save it with "
            f"numpy.savez if that is meant"
        )


def npz_images(arrays: dict[str, Array], name: str, options: NpzOptions) -> Array:
    """Return images of a file as (n, c, h, w); raise DataError where they are none."""
    if name not in arrays:
        raise DataError(f"{options.path}: array {name!r} is missing")
    images = arrays[name]
    where = f"{options.path}: array {name!r}"
    if images.ndim not in (3, 4) or not images.size:
        raise DataError(f"{where} has shape {images.shape}, expected (n, h, w) or (n, c, h, w)")
    if images.dtype == np.bool_:
        images = images.astype(np.int8)  # uint8 are pictures, of which 255 is white
    if images.dtype.kind not in "iuf" or images.dtype.itemsize > 8:
        raise DataError(f"{where} has type {images.dtype}, expected integers or floats")
    images = images.astype(images.dtype.newbyteorder("="), copy=False)
    if not np.isfinite(images).all():
        raise DataError(f"{where} holds values that are not finite")
    if images.ndim == 3:
        return images[:, None]
    layout = options.layout or _layout(images.shape, where)
    return np.moveaxis(images, 3, 1) if layout == "channels-last" else images


def _layout(shape: tuple[int, ...], where: str) -> str:
    """Return which axis is the channels; raise DataError where two could be and neither is odd."""
    _, second, third, last = shape
    first_may, last_may = second in _COLOURS, last in _COLOURS
    if first_may and last_may:
        first_may, last_may = third == last, second == third  # square images
        if first_may == last_may:
            raise DataError(
                f"{where} has shape {shape}, of which the second or the last axis could be the "
                f"channels: say it by 'layout: channels-first' or 'layout: channels-last'"
            )
    return "channels-last" if last_may and not first_may else "channels-first"


def _npz_labels(arrays: dict[str, Array], name: str, count: int, where: str) -> Labels:
    if name not in arrays:
        raise DataError(f"{where}: array {name!r} is missing")
    labels = arrays[name]
    if labels.shape != (count,):
        raise DataError(f"{where}: array {name!r} has shape {labels.shape}, expected ({count},)")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{where}: array {name!r} has type {labels.dtype}, expected integers")
    return labels.astype(np.int64)
