"""Reads the images of CIFAR-10 and CIFAR-100 from whatever form they lie in.

Three forms: the folder of the official *binary version*, its ``.tar.gz`` archive, and a zip of
lossless mosaics (images of 32 x 32 tiles and an ``index.csv`` with the columns mosaic, pos, label
and, where there are test images, split). The *Python version* is made of pickles and is not read.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nasplatform.errors import DataError
from nasplatform.foreign import TarMember, blaming, read_bytes, require_regular, zip_members
from nasplatform.training.decoding import FORMATS
from nasplatform.training.task import Labels

SIDE, CHANNELS = 32, 3
_PIXELS = CHANNELS * SIDE * SIDE
_INDEX = "index.csv"
_BATCHES_10 = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST_10 = "test_batch.bin"
_TRAIN_100, _TEST_100 = "train.bin", "test.bin"
_NAMES = frozenset({*_BATCHES_10, _TEST_10, _TRAIN_100, _TEST_100})
_LARGEST = 256 << 20  # bytes of all files; the official ones have 184 MB
_MEMBERS = 1000  # of an archive
_IMAGES = 100_000  # CIFAR has 60,000
Part = tuple[NDArray[np.uint8], Labels]


@dataclass(frozen=True)
class Cifar:
    """What a folder or file holds: images (n, 3, 32, 32) uint8 and labels (n,), test maybe not."""

    classes: Literal[10, 100]
    train: Part
    test: Part | None


def read_cifar(path: Path) -> Cifar:
    """Read any of the three forms; raise DataError where it is none of them, or a damaged one."""
    if path.is_dir():
        return _binary(_files_of_folder(path), path)
    if not path.exists():
        raise DataError(
            f"{path} does not exist: `nasplatform data fetch cifar10` (or cifar100), or give the "
            f"official folder or archive as option 'path'"
        )
    with blaming(path, DataError, "cannot be read as a CIFAR archive"):
        require_regular(path)
        if zipfile.is_zipfile(path):
            return _mosaics(path)
        return _binary(_files_of_archive(path), path)


def _files_of_folder(path: Path) -> dict[str, bytes]:
    """Read the known files of a folder or of one folder inside it."""
    found = [file for pattern in ("*.bin", "*/*.bin") for file in sorted(path.glob(pattern))]
    files: dict[str, bytes] = {}
    for file in found:
        if file.name in _NAMES:
            files[file.name] = read_bytes(file, _room(files))
    return files


def _room(files: dict[str, bytes]) -> int:
    """Return how many bytes there may still be beside those that were read."""
    return _LARGEST - sum(len(data) for data in files.values())


def _files_of_archive(path: Path) -> dict[str, bytes]:
    """Read the known files of a tar archive; nothing is written anywhere."""
    found: dict[str, bytes] = {}
    with tarfile.open(path, tarinfo=TarMember) as tar:
        for count, member in enumerate(tar):
            if count == _MEMBERS:
                raise ValueError(f"it holds more than {_MEMBERS:,} files")
            name = member.name.rpartition("/")[2]
            file = tar.extractfile(member) if member.isfile() and name in _NAMES else None
            if file is not None:
                _require_moderate(name, member.size, _room(found))
                found[name] = file.read()
    return found


def _require_moderate(name: str, size: int, most: int = _LARGEST) -> None:
    if size > most:
        raise ValueError(f"{name} has {size:,} bytes, expected at most {most:,}")


def _binary(files: dict[str, bytes], path: Path) -> Cifar:
    train_names: tuple[str, ...]
    if _TRAIN_100 in files:
        classes: Literal[10, 100] = 100
        train_names, test_name = (_TRAIN_100,), _TEST_100
    elif files:
        classes, train_names, test_name = 10, _BATCHES_10, _TEST_10
    else:
        raise DataError(f"{path} has neither {_BATCHES_10[0]} nor {_TRAIN_100}: no binary CIFAR")
    missing = [name for name in (*train_names, test_name) if name not in files]
    if missing:
        raise DataError(f"{path}: {missing[0]} is missing")
    parts = [_records(files[name], classes, f"{path}: {name}") for name in train_names]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Cifar(
        classes, (images, labels), _records(files[test_name], classes, f"{path}: {test_name}")
    )


def _records(data: bytes, classes: int, where: str) -> Part:
    """Cut records of a label (CIFAR-100: a coarse one before it) and three planes of pixels."""
    head = 1 if classes == 10 else 2
    size = head + _PIXELS
    if not data or len(data) % size:
        raise DataError(f"{where} has {len(data):,} bytes, expected a multiple of {size:,}")
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    labels = records[:, head - 1].astype(np.int64)
    if labels.max() >= classes:
        raise DataError(f"{where}: label {labels.max()}, expected 0 to {classes - 1}")
    return records[:, head:].reshape(-1, CHANNELS, SIDE, SIDE), labels


def _mosaics(path: Path) -> Cifar:
    try:
        for member in zip_members(path):
            _require_moderate(member.filename, member.file_size)
        with zipfile.ZipFile(path) as archive, archive.open(_INDEX) as listed:
            index = pd.read_csv(listed, nrows=_IMAGES + 1)
            _check_index(index, path)
            images = np.empty((len(index), CHANNELS, SIDE, SIDE), np.uint8)
            seen = 0
            for name, rows in index.groupby("mosaic").indices.items():
                tiles = _tiles(archive.read(str(name)), f"{path}: {name}")
                seen += len(tiles)
                _require_few(seen, path)
                positions = index["pos"].to_numpy()[rows]
                if not 0 <= positions.min() <= positions.max() < len(tiles):
                    raise DataError(f"{path}: {_INDEX} names a tile that {name} does not have")
                images[rows] = tiles[positions]
    except (KeyError, zipfile.BadZipFile, OSError, pd.errors.ParserError, zlib.error) as error:
        raise DataError(f"{path} is not a zip of mosaics: {error}") from None
    labels = index["label"].to_numpy().astype(np.int64)
    classes: Literal[10, 100] = 10 if labels.max() < 10 else 100
    test = (index["split"] == "test").to_numpy() if "split" in index else np.zeros(len(index), bool)
    parts = [(images[chosen], labels[chosen]) for chosen in (~test, test)]
    return Cifar(classes, parts[0], parts[1] if test.any() else None)


def _require_few(images: int, where: Path | str) -> None:
    if images > _IMAGES:
        raise DataError(f"{where}: holds more than {_IMAGES:,} images, CIFAR has 60,000")


def _check_index(index: pd.DataFrame, path: Path) -> None:
    _require_few(len(index), path)
    for column in ("mosaic", "pos", "label"):
        if column not in index:
            raise DataError(f"{path}: {_INDEX} has no column {column!r}")
        if column != "mosaic" and index[column].dtype.kind not in "iu":
            raise DataError(f"{path}: {_INDEX} has a {column!r} that is no whole number")
    if not len(index) or not index["label"].between(0, 99).all():
        raise DataError(f"{path}: {_INDEX} is empty or has labels outside of 0 to 99")


def _tiles(data: bytes, where: str) -> NDArray[np.uint8]:
    """Return the tiles of a mosaic, row by row, (n, 3, 32, 32)."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _require_few(image.width * image.height // SIDE**2, where)
            pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{where} cannot be read as an image: {error}") from None
    rows, columns = pixels.shape[0] // SIDE, pixels.shape[1] // SIDE
    if pixels.shape[:2] != (rows * SIDE, columns * SIDE):
        raise DataError(f"{where} is {pixels.shape[1]} x {pixels.shape[0]} pixels, not tiles of 32")
    grid = pixels.reshape(rows, SIDE, columns, SIDE, CHANNELS).transpose(0, 2, 4, 1, 3)
    return grid.reshape(-1, CHANNELS, SIDE, SIDE)
