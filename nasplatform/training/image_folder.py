"""The user's own pictures: a folder with a directory for each class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import Field

from nasplatform.errors import DataError
from nasplatform.training.decoding import decoded
from nasplatform.training.holdout import SplitOptions, hold_out, warn_of_twins
from nasplatform.training.preprocessing import standardised_task
from nasplatform.training.task import Task

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_OTHERS = frozenset(
    {".avif", ".dng", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".pgm", ".ppm", ".svg"}
)
"""Pictures that are not read, which is told."""
SPLIT_NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing"),
}
_NO_FILES = frozenset({"__MACOSX"})
"""What a Mac adds to an archive."""


class FolderOptions(SplitOptions):
    """Options of ``folder``."""

    size: int = Field(default=32, ge=4, le=1024)
    """Side to which every image is resized, in pixels."""
    grey: bool = False
    """One channel instead of red, green and blue."""


def image_folder(options: FolderOptions) -> Task:
    """Read a folder of images with one directory per class, in alphabetical order.

    Either ``path/<class>/*.png`` or ``path/{train,valid,test}/<class>/*.png``, where ``Val`` and
    the other usual names do as well; directories within a class belong to it, hidden files do not.
    A split that is missing is held out of the training images, class by class. Images are turned
    as their EXIF says and resized to a square; more than fit into memory are decoded once, into a
    cache on disk (``decoding``). Raises DataError for a layout that could mean two things.
    """
    path, where = options.path, str(options.path)
    splits = _splits(path)
    names = _class_names(splits["train"])
    found = {}
    for part, folder in splits.items():
        strange = sorted(set(_class_names(folder)) - set(names))
        if strange:
            raise DataError(f"{folder / strange[0]} is a class that the training images lack")
        files = [(file, k) for k, name in enumerate(names) for file in images_in(folder / name)]
        if not files:
            raise DataError(f"{folder}: no image files in its class directories")
        _warn_of_others(folder, {file for file, _ in files})
        labels = np.array([label for _, label in files], dtype=np.int64)
        empty = sorted(set(range(len(names))) - set(labels.tolist()))
        if part == "train" and empty:
            raise DataError(f"{folder / names[empty[0]]} holds no image: fill or remove it")
        found[part] = (decoded([file for file, _ in files], options.size, options.grey), labels)
    parts = hold_out(found, options, where, names)
    task = standardised_task("folder", parts, where, class_names=tuple(names))
    warn_of_twins(parts, where)
    return task


def _splits(path: Path) -> dict[str, Path]:
    """Return the folder of each split that there is; the whole one where none has a name."""
    known = {name: part for part, names in SPLIT_NAMES.items() for name in names}
    found: dict[str, Path] = {}
    folders = _folders(path)
    if not any(known.get(each.name.lower()) == "train" and _folders(each) for each in folders):
        halves = [each for each in folders if each.name.lower() in known and _folders(each)]
        if halves:
            raise DataError(f"{path} has {halves[0].name}/ but no train/ with class directories")
        return {"train": path}
    for each in folders:
        part = known.get(each.name.lower())
        if part is None:
            raise DataError(
                f"{each} stands beside {path.name}/train: expected {', '.join(known)} only"
            )
        if part in found:
            raise DataError(f"{path} has {found[part].name}/ and {each.name}/: keep one of them")
        found[part] = each
    return {part: found[part] for part in SPLIT_NAMES if part in found}


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise DataError(f"{path} is not a directory")
    return sorted(each for each in path.iterdir() if each.is_dir() and _counts(each))


def _class_names(folder: Path) -> list[str]:
    names = [each.name for each in _folders(folder)]
    if not names:
        raise DataError(f"{folder}: expected one directory per class, found none")
    return names


def images_in(folder: Path) -> list[Path]:
    """Return the picture files of a folder and of those within it, in order; hidden ones not."""
    if not folder.is_dir():
        return []
    return sorted(filter(_is_picture, _walk(folder, frozenset())))


def others_in(folder: Path) -> list[Path]:
    """Return what ``images_in`` leaves out of a folder, in order; hidden files apart."""
    return sorted(each for each in _walk(folder, frozenset()) if not _is_picture(each))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _warn_of_others(folder: Path, read: set[Path]) -> None:
    pictures = IMAGE_SUFFIXES | _OTHERS
    found = {each for each in _walk(folder, frozenset()) if each.suffix.lower() in pictures}
    if others := sorted(found - read):
        warnings.warn(
            f"{folder}: {len(others):,} of its pictures are left out, {others[0].name!r} first: "
            f"read are those in class directories that end in {', '.join(sorted(IMAGE_SUFFIXES))}",
            stacklevel=3,
        )


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Yield the files; a link that leads back to a folder above is refused."""
    found = folder.stat()
    here = (found.st_dev, found.st_ino)
    if here in above:
        raise DataError(f"{folder} leads back to a folder above it: remove the link")
    for each in folder.iterdir():
        if _counts(each):
            if each.is_dir():
                yield from _walk(each, above | {here})
            else:
                yield each


def _counts(path: Path) -> bool:
    return not path.name.startswith(".") and path.name not in _NO_FILES
