"""The stage ``distill``: few labels, unlabelled images, a teacher and an adversary.

After "Bringing Giant Neural Networks Down to Earth with Unlabeled Data" (arXiv 1907.06065), of
which only the abstract could be had. The abstract's: a compressed network learns from a fraction
of the labels and, on cheap unlabelled images of another source, from the large network's answers;
an adversary aligns the low-level features of both sources. Ours: every formula, weight and
default, see ``objective``, ``alignment`` and ``choice`` for where each is from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasplatform.errors import StageError
from nasplatform.models.network import Network
from nasplatform.stages.base import Stage, StageContext, StageResult
from nasplatform.stages.distill.alignment import AlignmentOptions, Discriminator, ramp
from nasplatform.stages.distill.choice import Choice, chosen_rows, kept_count
from nasplatform.stages.distill.features import (
    FeatureMap,
    feature_maps,
    low_level_map,
    named_map,
)
from nasplatform.stages.distill.objective import Aligner, UnlabelledDistillation
from nasplatform.stages.distill.sources import (
    PerClass,
    Share,
    UnlabelledChoice,
    labelled_rows,
    with_labels,
)
from nasplatform.stages.distill.teachers import (
    ModuleTeacher,
    OnnxTeacher,
    Teacher,
    TeacherChoice,
    stored_answers,
)
from nasplatform.stages.train import training_metrics
from nasplatform.training.distillation import DistillationOptions
from nasplatform.training.evaluation import EVALUATION_BATCH
from nasplatform.training.image_store import Images
from nasplatform.training.loop import train
from nasplatform.training.recipe import Recipe
from nasplatform.training.seeding import derive_seed, seeded
from nasplatform.training.streams import Stream, check_recipe, labelled, unlabelled
from nasplatform.training.task import Task
from nasplatform.training.weighting import training_loss


class DistillOptions(BaseModel):
    """Options of ``distill``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: Recipe = Recipe()
    """How to train; an epoch is a pass over the larger of the two sets."""
    labels: Share | PerClass = Field(default=1.0)
    """Which labels may be used: a share of every class (0.05), or a number of images of every
    class (100, PU compression). Validation and test data keep theirs, they only judge."""
    unlabelled: UnlabelledChoice | None = UnlabelledChoice()
    """``{dataset: NAME, ...}``, ``{folder: PATH}`` or ``{npz: PATH}``; by default the unlabelled
    images of the task, or else its training images without labels; null for none."""
    teacher: TeacherChoice = TeacherChoice()
    """Who teaches; by default the network that the stage is given."""
    distillation: DistillationOptions = DistillationOptions()
    """Share of the loss that is the teacher's, temperature, hard or soft answers."""
    alignment: AlignmentOptions | None = None
    """Adversarial alignment of labelled and unlabelled images, ``{}`` for that with its defaults;
    null for none: it helped on no pair of sources that was measured."""
    choice: Choice | None = None
    """Keep only some unlabelled images: ``{by: confidence, keep}`` (DFND) or ``{by: pu, prior}``
    (PU compression)."""
    start: Literal["given", "scratch"] = "given"
    """Go on from the weights of the network given, e.g. a pruned one, or train new ones."""

    @model_validator(mode="after")
    def _something_to_choose(self) -> DistillOptions:
        if self.choice is not None and self.unlabelled is None:
            raise ValueError("choice needs unlabelled images, unlabelled is null")
        return self


class Distill(Stage):
    """Train the network with few labels, a teacher's answers and unlabelled images."""

    name: ClassVar[str] = "distill"
    Options: ClassVar[type[BaseModel]] = DistillOptions
    options: DistillOptions
    _loaded: tuple[str, Images, str] | None = None
    _read: ModuleTeacher | OnnxTeacher | None = None
    """A teacher that lies in files."""

    def check(self, task: Task, device: str) -> None:
        """Raise where recipe, labels, unlabelled images or a teacher in a file cannot be used."""
        some, _ = self._task(task, seed=0)
        choice = self.options.choice
        if choice is not None and choice.keep is not None and some.unlabelled is not None:
            kept_count(choice.keep, len(some.unlabelled))
        check_recipe(task, self.options.recipe, device)
        first = self.options.teacher.train
        if first is not None:
            first.check(task, device)
            Teacher.checked(ModuleTeacher.of(first.untrained(task, 0), first.name), task)
        teacher = self._from_files()
        if teacher is not None:
            Teacher.checked(teacher, task)

    def check_network(self, network: Network, task: Task, earlier: Sequence[str]) -> None:
        """Raise StageError for a tap or a teacher's name that does not exist."""
        self._tap(network, task)
        choice = self.options.teacher
        if (
            choice.network is not None
            and choice.network not in earlier
            and self._from_files() is None
        ):
            raise StageError(
                f"teacher {choice.network!r} is no earlier network of the run "
                f"({', '.join(earlier)}) and no folder of a network"
            )

    def apply(self, network: Network, task: Task, context: StageContext) -> StageResult:
        """Return the trained network.

        Raises StageError where teacher, tap or choice do not fit; TrainingError where it diverges.
        """
        options = self.options
        some, notes = self._task(task, context.seed)
        teacher = Teacher.checked(self._teacher(network, some, context), task)
        teacher.inner.on(context.device)
        if options.choice is not None and some.unlabelled is not None:
            rows = chosen_rows(
                options.choice,
                teacher,
                some.train.inputs,
                some.unlabelled,
                context.scratch,
                context.seed,
                context.device,
                context.progress,
            )
            notes.append(
                f"kept {len(rows):,} of {len(some.unlabelled):,} unlabelled images "
                f"by {options.choice.by}"
            )
            some = replace(some, unlabelled=some.unlabelled.chosen(rows))
        stream = self._stream(some, teacher, context)
        scratch = options.start == "scratch"
        trained = network.fresh(context.seed) if scratch else network.copy()
        tap = None if some.unlabelled is None else self._tap(network, task)
        if tap is not None:
            notes.append(f"aligned {tap.name!r}: {tap.channels} channels, {tap.places} places")
        aligner = None if tap is None else self._aligner(tap, context.seed)
        loss = training_loss(some, options.recipe)
        objective = UnlabelledDistillation(teacher, loss, options.distillation, aligner)
        history = train(
            trained.module,
            some,
            options.recipe,
            context.seed,
            device=context.device,
            checkpoint=context.checkpoint,
            progress=context.progress,
            objective=objective,
            stream=stream,
            on_step=lambda step, steps: self._move(aligner, step / steps),
            tag=repr((options.model_dump_json(), teacher.digest, _digest(some))),
        )
        counts = {
            "labelled_images": float(len(some.train)),
            "unlabelled_images": float(0 if some.unlabelled is None else len(some.unlabelled)),
            "teacher_accuracy": _accuracy(teacher, task, context.device),
        }
        metrics = training_metrics(history) | counts
        return StageResult(trained, metrics, notes=tuple(notes), curve=history.curve())

    def _task(self, task: Task, seed: int) -> tuple[Task, list[str]]:
        """Return the task with the labels and unlabelled images that may be used, and notes."""
        wanted = self.options.unlabelled
        some = with_labels(task, labelled_rows(task, self.options.labels, derive_seed(seed, 1)))
        if wanted is None:
            return replace(some, unlabelled=None), []
        key = task.digest if wanted.elsewhere else f"{task.digest} {seed}"
        if self._loaded is None or self._loaded[0] != key:  # ``check`` has read them perhaps
            self._loaded = (key, *wanted.load(some))
        return replace(some, unlabelled=self._loaded[1]), [self._loaded[2]]

    def _teacher(
        self, network: Network, task: Task, context: StageContext
    ) -> ModuleTeacher | OnnxTeacher:
        first = self.options.teacher.train
        if first is not None:
            trained = first.trained(replace(task, unlabelled=None), context)
            return ModuleTeacher.of(trained, first.name)
        name = self.options.teacher.network
        if name is not None and (name in context.networks or self._from_files() is None):
            return ModuleTeacher.of(context.network(name), name)
        return self._from_files() or ModuleTeacher.of(network, "the network given")

    def _from_files(self) -> ModuleTeacher | OnnxTeacher | None:
        """Read a teacher that lies in files, once; None for a network of the run."""
        self._read = self._read or self.options.teacher.load()
        return self._read

    def _tap(self, network: Network, task: Task) -> FeatureMap | None:
        alignment = self.options.alignment
        if alignment is None or self.options.unlabelled is None:
            return None
        maps = feature_maps(network.module, task.input_shape)
        if alignment.tap is not None:
            return named_map(maps, alignment.tap)
        return low_level_map(maps, task.input_shape)

    def _aligner(self, tap: FeatureMap, seed: int) -> Aligner:
        assert self.options.alignment is not None
        with seeded(derive_seed(seed, 2)):
            return Aligner(tap.name, Discriminator(tap.channels, self.options.alignment.hidden))

    def _move(self, aligner: Aligner | None, done: float) -> None:
        if aligner is not None and self.options.alignment is not None:
            aligner.factor = self.options.alignment.weight * ramp(done)

    def _stream(self, task: Task, teacher: Teacher, context: StageContext) -> Stream:
        """Return the larger set with the smaller one beside it."""
        recipe = self.options.recipe

        def answered(stream: Stream) -> Stream:
            if recipe.augments:
                return stream
            answers = stored_answers(
                teacher, stream.images, context.scratch, context.device, context.progress
            )
            return replace(stream, answers=answers)

        first = answered(labelled(task, recipe))
        if task.unlabelled is None:
            return first
        second = answered(unlabelled(task, recipe))
        if len(second) > len(first):
            first, second = second, first
        return replace(first, beside=second)


def _accuracy(teacher: Teacher, task: Task, device: str) -> float:
    """Return the teacher's accuracy on the validation split."""
    images, starts = task.valid.inputs, range(0, len(task.valid), EVALUATION_BATCH)
    with torch.no_grad():
        said = [teacher(images[at : at + EVALUATION_BATCH].to(device)).cpu() for at in starts]
    return task.metric(torch.cat(said).float(), task.valid.labels)


def _digest(task: Task) -> str:
    """Return what tells the images and labels that are trained on from others."""
    found = hashlib.sha256(np.ascontiguousarray(task.train.labels.numpy()).tobytes())
    task.train.inputs.add_to(found)
    if task.unlabelled is not None:
        task.unlabelled.add_to(found)
    return found.hexdigest()
