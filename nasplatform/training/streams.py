"""Streams of batches: one epoch after the other, with or without labels, several side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from nasplatform.errors import TrainingError
from nasplatform.training import augmentation
from nasplatform.training.image_store import Images
from nasplatform.training.objective import Batch
from nasplatform.training.randaugment import randaugment
from nasplatform.training.recipe import Recipe, check_device
from nasplatform.training.seeding import derive_seed
from nasplatform.training.task import Task
from nasplatform.training.weighting import training_loss

_Read = tuple[Tensor, Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Stream:
    """Every image once an epoch, in a random order, augmented as the recipe says.

    images: what the batches are made of.
    labels: (n,) int64, or None.
    recipe: its batch size, augmentations and label smoothing are used.
    classes: number of classes K, for labels that become probabilities.
    beside: a stream of which each batch carries one along, begun anew whenever it ends.
    answers: (n, K) logits of a teacher, handed on with the images, or None.
    """

    images: Images
    labels: Tensor | None
    recipe: Recipe
    classes: int
    beside: Stream | None = None
    answers: Tensor | None = None

    def __post_init__(self) -> None:
        if not len(self.images):
            raise TrainingError("a stream needs at least one image")
        if self.recipe.randaugment and self.images.levels() is None:
            raise TrainingError("randaugment needs images stored with 8 bits per channel")
        mixes = self.recipe.mixup or self.recipe.cutmix
        if mixes and self.labels is None:
            raise TrainingError("mixup and cutmix mix labels, the stream has none")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return batches(len(self), self.recipe.batch_size)

    def epoch(self, seed: int, device: str = "cpu") -> Iterator[Batch]:
        """Yield the batches of an epoch, which follow from the seed."""
        rng = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=rng).tensor_split(self.batches)
        cuda = device.startswith("cuda")
        read = _ahead(map(self._pinned, order)) if cuda else map(self._read, order)
        beside = self.beside and _endless(self.beside, derive_seed(seed, 1), device)
        for stored, labels, answers in read:
            labels, answers = (
                None if t is None else t.to(device, non_blocking=True) for t in (labels, answers)
            )
            inputs = self.images.standardised(stored.to(device, non_blocking=True))
            inputs, labels = self._augmented(inputs, labels, rng)
            # convolutions run fastest with channels last, on CPUs and on CUDA devices
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            yield Batch(inputs, labels, next(beside) if beside else None, answers)

    def _read(self, rows: Tensor) -> _Read:
        labels = None if self.labels is None else self.labels[rows]
        answers = None if self.answers is None else self.answers[rows]
        return self.images.stored(rows), labels, answers

    def _pinned(self, rows: Tensor) -> _Read:
        stored, labels, answers = self._read(rows)
        labels, answers = (None if t is None else t.pin_memory() for t in (labels, answers))
        return stored.pin_memory(), labels, answers

    def _augmented(
        self, inputs: Tensor, labels: Tensor | None, rng: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        recipe = self.recipe
        if recipe.augmentation == "flip-crop":
            inputs = augmentation.flip_crop(inputs, rng)
        if recipe.randaugment and (levels := self.images.levels()):
            inputs = randaugment(inputs, levels, recipe.randaugment, rng)
        if recipe.erasing:
            inputs = augmentation.erase(inputs, recipe.erasing, rng)
        if labels is None or not recipe.soft_labels:
            return inputs, labels
        labels = augmentation.soft_labels(labels, self.classes, recipe.label_smoothing)
        return self._mixed(inputs, labels, rng)

    def _mixed(self, inputs: Tensor, labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        mixup, cutmix = self.recipe.mixup, self.recipe.cutmix
        if mixup and cutmix:  # one of them for each batch
            first = bool(torch.rand((), generator=rng) < 0.5)
            mixup, cutmix = (mixup, 0.0) if first else (0.0, cutmix)
        if mixup:
            return augmentation.mixup(inputs, labels, mixup, rng)
        if cutmix:
            return augmentation.cutmix(inputs, labels, cutmix, rng)
        return inputs, labels


def batches(images: int, size: int) -> int:
    """Return into how many batches images are split, alike but for one image, none a single one."""
    return max(1, min(math.ceil(images / size), images // 2))


def labelled(task: Task, recipe: Recipe, beside: Stream | None = None) -> Stream:
    """Return the stream of the training split."""
    return Stream(task.train.inputs, task.train.labels, recipe, task.classes, beside)


def unlabelled(task: Task, recipe: Recipe) -> Stream:
    """Return the stream of the unlabelled images; raise TrainingError where a task has none."""
    if task.unlabelled is None:
        raise TrainingError(f"{task.name} has no unlabelled images")
    plain = recipe.model_copy(update={"mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0})
    return Stream(task.unlabelled, None, plain, task.classes)


def check_recipe(task: Task, recipe: Recipe, device: str) -> None:
    """Raise TrainingError, before anything is paid for, where a recipe asks for the impossible.

    That is: a device that is missing or cannot do it, augmentations that the data do not allow, or
    weights of other classes.
    """
    check_device(recipe, device)
    labelled(task, recipe)
    training_loss(task, recipe)


def _endless(stream: Stream, seed: int, device: str) -> Iterator[Batch]:
    for number in count():
        yield from stream.epoch(derive_seed(seed, number), device)


def _ahead(items: Iterator[_Read]) -> Iterator[_Read]:
    """Yield items, the next of which is made in another thread meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item
