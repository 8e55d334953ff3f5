"""Which labels may be used, and where the unlabelled images come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

from nasplatform import plugins
from nasplatform.errors import DataError, StageError
from nasplatform.training.darkening import darkened
from nasplatform.training.datasets import load_task
from nasplatform.training.decoding import decoded
from nasplatform.training.fitting import fitted
from nasplatform.training.image_folder import images_in
from nasplatform.training.image_store import Images
from nasplatform.training.npz import NpzOptions, npz_images, read_npz
from nasplatform.training.preprocessing import channel_statistics, generator
from nasplatform.training.task import Split, Task

Share = Annotated[float, Field(gt=0, le=1), Strict()]
PerClass = Annotated[int, Field(ge=1), Strict()]
NPZ_NAMES = ("x_unlabelled", "x", "x_train")
"""Under which a ``.npz`` may hold its images; the first there is."""


class UnlabelledChoice(BaseModel):
    """One source of images; what labels it has are dropped. Options stand beside the name.

    With none of the three: the unlabelled images of the task, or else its training images whose
    labels are not used.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    dataset: str | None = None
    """A registered data set, of which the training split is taken; its options stand beside."""
    folder: Path | None = None
    """A folder of image files, those of its folders included."""
    npz: Path | None = None
    """A ``.npz`` with ``x_unlabelled``, ``x`` or ``x_train``; ``layout`` may stand beside."""
    darken: float = Field(default=0.0, ge=0, lt=1)
    """Take this share of the light, to see what a stronger bias does (ours)."""

    @model_validator(mode="after")
    def _one_at_most(self) -> UnlabelledChoice:
        if sum(one is not None for one in (self.dataset, self.folder, self.npz)) > 1:
            raise ValueError("give one of dataset, folder and npz")
        if self.model_extra and self.dataset is None and self.npz is None:
            raise ValueError(f"{next(iter(self.model_extra))!r} belongs to a dataset or npz")
        return self

    @property
    def elsewhere(self) -> bool:
        """Whether the images are not those of the task."""
        return any(one is not None for one in (self.dataset, self.folder, self.npz))

    def load(self, task: Task) -> tuple[Images, str]:
        """Return the images as the task's network takes them, and a line on what was done.

        Raises DataError where the source is missing, empty or damaged, StageError where the task
        has no unlabelled images.
        """
        images, origin, name = self._source(task)
        if not self.darken:
            return fitted(images, task, name)
        # before they are fitted: only the source knows what is black in its own standardisation
        made, note = fitted(darkened(images, self.darken, origin), task, name)
        return made, f"{note}, {self.darken:g} of the light taken"

    def _source(self, task: Task) -> tuple[Images, Task, str]:
        """Return the images, the task by which they are standardised if they are, their name."""
        options: dict[str, Any] = dict(self.model_extra or {})
        if self.dataset is not None:
            origin = load_task(self.dataset, options, "unlabelled")
            return origin.train.inputs, origin, self.dataset
        if self.npz is not None:
            return _npz_file(self.npz, options), task, str(self.npz)
        if self.folder is not None:
            return _folder(self.folder, task), task, str(self.folder)
        if task.unlabelled is None:
            raise StageError(
                f"task {task.name!r} has no unlabelled images and no training image without a "
                f"label: give a source as 'unlabelled', or null for none"
            )
        return task.unlabelled, task, task.name


def _folder(folder: Path, task: Task) -> Images:
    """Decode a folder, at the larger side of the task's images."""
    if not folder.is_dir():
        raise DataError(f"unlabelled: {folder} is not a directory")
    files = images_in(folder)
    if not files:
        raise DataError(f"unlabelled: {folder} holds no image files")
    channels, *sides = task.input_shape
    return _standardised(decoded(files, max(sides), channels == 1), str(folder))


def _npz_file(path: Path, values: dict[str, Any]) -> Images:
    options = plugins.make_options(NpzOptions, {"path": path, **values}, "unlabelled")
    assert isinstance(options, NpzOptions)
    arrays = read_npz(path)
    name = next((name for name in NPZ_NAMES if name in arrays), None)
    if name is None:
        raise DataError(f"{path}: expected an array of images called {' or '.join(NPZ_NAMES)}")
    return _standardised(npz_images(arrays, name, options), str(path))


def _standardised(raw: Any, where: str) -> Images:
    scale = channel_statistics(raw)
    constant = np.flatnonzero(scale[1] == 0)
    if len(constant):
        raise DataError(f"{where}: channel {constant[0]} is the same in every pixel")
    return Images(raw, scale)


def labelled_rows(task: Task, wanted: float | int, seed: int) -> NDArray[np.int64]:
    """Return which training images keep their labels, sorted: (m,).

    wanted: a share of every class, or a number of images of every class.
    Raises StageError where a class would be left without any, has too few, or there is one only.
    """
    labels = task.train.labels.numpy()
    rng = generator(seed)
    found = []
    for label in range(task.classes):
        rows = rng.permutation(np.flatnonzero(labels == label))
        count = wanted if isinstance(wanted, int) else round(wanted * len(rows))
        if not 0 < count <= len(rows):
            raise StageError(
                f"labels: {wanted} asks for {count} of the {len(rows)} training images of class "
                f"{label}; every class needs one label at least"
            )
        found.append(rows[:count])
    if len(found) < 2:
        raise StageError(f"labels: task {task.name!r} has a single class, at least 2 are needed")
    return np.sort(np.concatenate(found))


def with_labels(task: Task, rows: NDArray[np.int64]) -> Task:
    """Return the task with some of its labels.

    The other training images become its unlabelled ones, unless it has such already.
    """
    train, rest = task.train, np.ones(len(task.train), bool)
    rest[rows] = False
    more = task.unlabelled
    if more is None and rest.any():
        more = train.inputs.chosen(np.flatnonzero(rest))
    chosen = Split(train.inputs.chosen(rows), train.labels[rows])
    return replace(task, train=chosen, unlabelled=more)
