"""Data of ``stages_distill.py``: a task, and unlabelled images that are ever less like its own.

A pair is written into ``.npz`` files of a folder, once, from images halved in size. Its function
returns the file of the task, the sources by name (options ``unlabelled`` of the stage), the nearest
to the task first, and a larger pool of images to choose from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from nasplatform.atomic_io import replace_file
from nasplatform.training.datasets import load_task
from nasplatform.training.task import Task

TRAIN, VALID, TEST, POOL, UNLABELLED = 6000, 2000, 8000, 18_000, 6000
Pair = tuple[Path, dict[str, dict[str, Any]], dict[str, Any]]


def cifar(folder: Path) -> Pair:
    """CIFAR-10 beside CIFAR-100, as it is and with shares of its light taken."""
    path = folder / "task.npz"
    if not path.exists():
        few = {"train_size": POOL, "valid_size": 500, "test_size": 500}
        other = read("cifar100", few)
        pool = halved(other.train.inputs.raw)
        write(folder / "pool.npz", {"x_unlabelled": pool})
        write(folder / "random.npz", {"x_unlabelled": pool[:UNLABELLED]})
        write_task(path, read("cifar10"))
    random = {"npz": str(folder / "random.npz")}
    sources = {
        "+ unlabelled": random,
        "0.3 darker": {**random, "darken": 0.3},
        "0.6 darker": {**random, "darken": 0.6},
    }
    return path, sources, {"npz": str(folder / "pool.npz")}


def grey(folder: Path, own: str, other: str) -> Pair:
    """Fashion-MNIST and MNIST: other images of the task, a third of them, none, none and dark ones.

    The pool has as many images of the task's own as are used, and twice as many of the others.
    """
    path = folder / "task.npz"
    if not path.exists():
        task, few = read(own), {"train_size": POOL - UNLABELLED, "valid_size": 500}
        assert task.unlabelled is not None
        known = halved(task.unlabelled.raw[:UNLABELLED])
        strange = halved(read(other, {**few, "test_size": 500}).train.inputs.raw)
        pool = np.random.default_rng(0).permutation(np.concatenate([known, strange]))
        write(folder / "own.npz", {"x_unlabelled": known})
        write(folder / "other.npz", {"x_unlabelled": strange[:UNLABELLED]})
        write(folder / "pool.npz", {"x_unlabelled": pool})
        write(folder / "random.npz", {"x_unlabelled": pool[:UNLABELLED]})
        write_task(path, task)
    strangers = {"npz": str(folder / "other.npz")}
    sources = {
        "+ its own": {"npz": str(folder / "own.npz")},
        "+ random": {"npz": str(folder / "random.npz")},
        f"+ {TITLES[other]}": strangers,
        f"+ {TITLES[other]} 0.6 darker": {**strangers, "darken": 0.6},
    }
    return path, sources, {"npz": str(folder / "pool.npz")}


TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
PAIRS: dict[str, Callable[[Path], Pair]] = {
    "cifar10": cifar,
    "fashion-mnist": lambda folder: grey(folder, "fashion-mnist", "mnist"),
    "mnist": lambda folder: grey(folder, "mnist", "fashion-mnist"),
}
FILES = {"cifar10": "cifar10_*.zip", "cifar100": "cifar100_*.zip", "mnist": "mnist.npz"}
"""What a data set is called below $NASPLATFORM_DATA."""


def read(name: str, sizes: Mapping[str, int] = MappingProxyType({})) -> Task:
    """Read a data set, from a file below $NASPLATFORM_DATA where there is one."""
    usual = {"train_size": TRAIN, "valid_size": VALID, "test_size": TEST}
    folder = Path(os.environ.get("NASPLATFORM_DATA", "."))
    found = list(folder.glob(FILES[name])) if name in FILES else []
    where = {"path": str(found[0])} if found else {}
    return load_task(name, {**usual, **sizes, **where}, name)


def write_task(path: Path, task: Task) -> None:
    """Write the three splits of a task at half the size."""
    arrays: dict[str, Any] = {}
    for part in ("train", "valid", "test"):
        split = getattr(task, part)
        arrays[f"x_{part}"] = halved(split.inputs.raw)
        arrays[f"y_{part}"] = split.labels.numpy()
    write(path, arrays)


def write(path: Path, arrays: dict[str, Any]) -> None:
    """Write a ``.npz`` that appears whole or not at all."""
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def halved(images: Any) -> Any:
    """Average blocks of 2 x 2 pixels: (n, c, h, w) uint8 -> (n, c, h / 2, w / 2) uint8."""
    found = np.asarray(images)
    n, c, h, w = found.shape
    return found.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5)).round().astype(np.uint8)
