"""Image files as arrays: in memory while they fit, else in a cache file that is written once.

The cache lies in ``$NASPLATFORM_HOME/cache/images``, one folder for what the files, their sizes
and dates, and the wanted shape amount to; deleting it costs nothing but decoding again. Images of
at most 1024 x 1024 pixels and 8 bits per channel; the disk must hold all of them.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from nasplatform import faults
from nasplatform.atomic_io import replace_folder, user_folder
from nasplatform.errors import DataError
from nasplatform.foreign import require_regular
from nasplatform.training.image_store import DiskImages, Raw

_PIXELS = 1 << 27  # of one image, 0.4 GB as colours; Pillow warns of bombs from two thirds of it
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What is read; Pillow would give PostScript, whatever its file is called, to Ghostscript."""
MEMORY_LIMIT = 512 * 2**20
"""Bytes of pixels up to which images are kept in memory."""
PART = 64
"""Files that a thread decodes at once."""
PIXELS, FACTS = "pixels.u8", "facts.safetensors"
Shape = tuple[int, int, int, int]


def decoded(files: Sequence[Path], size: int, grey: bool) -> Raw:
    """Read image files as (n, c, size, size) uint8, c = 1 where they are wanted grey, else 3.

    Raises DataError for a file that is no image of 8 bits, and where the disk is too small.
    """
    shape = (len(files), 1 if grey else 3, size, size)
    if math.prod(shape) > MEMORY_LIMIT:
        return _from_cache(files, shape)
    made = np.empty(shape, np.uint8)

    def keep(start: int, pixels: NDArray[np.uint8]) -> None:
        made[start : start + len(pixels)] = pixels

    _decode(files, shape, keep)
    return made


def cache_folder() -> Path:
    """Return the folder of the caches, one folder each; ``nasplatform data cache`` lists them."""
    return user_folder() / "cache" / "images"


def read_image(path: Path, size: tuple[int, int], grey: bool) -> NDArray[np.uint8]:
    """Return one image, turned as its EXIF says and resized to (h, w), as (c, h, w)."""
    try:
        require_regular(path)
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > _PIXELS:
                raise DataError(
                    f"{path} has {image.width:,} x {image.height:,} pixels, expected at most "
                    f"{_PIXELS:,}: make it smaller"
                )
            if image.mode.startswith(("I", "F")):  # Pillow would clip them at 255
                raise DataError(f"{path} has {image.mode} pixels, expected 8 bits per channel")
            upright = ImageOps.exif_transpose(image).convert("L" if grey else "RGB")
            resized = upright.resize(size[::-1], Image.Resampling.BOX)
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(
            f"{path} has more than {_PIXELS:,} pixels, expected fewer: make it smaller"
        ) from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path} cannot be read as an image: it is none, whatever it is called"
        ) from None
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files
        told = getattr(error, "strerror", None) or str(error)
        words = " ".join(told.split()) or type(error).__name__
        raise DataError(f"{path} cannot be read as an image: {words}") from None
    pixels = np.asarray(resized, dtype=np.uint8)
    return pixels[None] if grey else np.moveaxis(pixels, 2, 0)


@contextmanager
def large_images() -> Iterator[None]:
    """Have Pillow not warn of pictures below our own limit; filters are of all threads at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _decode(
    files: Sequence[Path], shape: Shape, keep: Callable[[int, NDArray[np.uint8]], None]
) -> None:
    """Decode all files, in threads, for Pillow decodes without Python's lock."""

    def part(start: int) -> None:
        some = files[start : start + PART]
        keep(start, np.stack([read_image(path, shape[2:], shape[1] == 1) for path in some]))

    with large_images(), ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for _ in pool.map(part, range(0, len(files), PART)):
                pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _from_cache(files: Sequence[Path], shape: Shape) -> DiskImages:
    folder = cache_folder() / _key(files, shape)
    if not (folder / FACTS).exists():
        _write_cache(files, shape, folder)
    with suppress(OSError):  # a folder that is only to be read will do
        os.utime(folder)  # when it was last used, for whoever wants to make room
    try:
        facts = load_file(folder / FACTS)
        if (folder / PIXELS).stat().st_size != math.prod(shape):
            raise DataError(f"{folder} is damaged, delete it to decode the images again")
        return DiskImages(
            path=folder / PIXELS,
            file_shape=shape,
            rows=np.arange(shape[0]),
            sums=facts["sums"],
            squares=facts["squares"],
            digests=facts["digests"],
        )
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(
            f"{folder} is damaged, delete it to decode the images again: {faults.short(error)}"
        ) from None


def _write_cache(files: Sequence[Path], shape: Shape, folder: Path) -> None:
    count, channels = shape[:2]
    facts: dict[str, NDArray[Any]] = {
        "sums": np.empty((count, channels), np.int64),
        "squares": np.empty((count, channels), np.int64),
        "digests": np.empty((count, 32), np.uint8),
    }
    with replace_folder(folder) as temporary:
        free = shutil.disk_usage(temporary).free
        if math.prod(shape) > free:
            raise DataError(
                f"{count:,} images of {' x '.join(map(str, shape[1:]))} take "
                f"{math.prod(shape):,} bytes, {folder.parent} has {free:,}: set NASPLATFORM_HOME "
                f"to a larger disk, or choose a smaller size"
            )
        with (temporary / PIXELS).open("wb") as file:

            def keep(start: int, pixels: NDArray[np.uint8]) -> None:
                rows = slice(start, start + len(pixels))
                # whole numbers below 2**53: exact in float64, where sums are fastest
                values = pixels.reshape(len(pixels), channels, -1).astype(np.float64)
                facts["sums"][rows] = values.sum(2)
                facts["squares"][rows] = np.einsum("ncp,ncp->nc", values, values)
                for row, image in enumerate(pixels, start):
                    found = hashlib.sha256(image.tobytes()).digest()
                    facts["digests"][row] = np.frombuffer(found, np.uint8)
                os.pwrite(file.fileno(), pixels.tobytes(), start * math.prod(shape[1:]))

            _decode(files, shape, keep)
        save_file(facts, temporary / FACTS)


def _key(files: Sequence[Path], shape: Shape) -> str:
    found = hashlib.sha256(repr(shape).encode())
    for path in files:
        known = path.stat()
        found.update(f"{path.absolute()}\n{known.st_size} {known.st_mtime_ns}\n".encode())
    return found.hexdigest()[:32]
