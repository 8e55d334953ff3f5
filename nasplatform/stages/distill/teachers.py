"""Who teaches: a network of the run, one in files, or one that is trained first."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from nasplatform.atomic_io import replace_file, sha256
from nasplatform.errors import InputError, StageError
from nasplatform.models.network import STRUCTURE, Network
from nasplatform.models.outputs import main_output
from nasplatform.runtimes.onnx_runtime import OnnxSession
from nasplatform.stages.distill.trained import TrainedTeacher
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.evaluation import EVALUATION_BATCH
from nasplatform.training.image_store import Images
from nasplatform.training.task import Task

Tell = Callable[[int, int, str], None]
CHECKED = (2, 1)
"""Sizes of the batches with which a teacher is tried."""


class TeacherChoice(BaseModel):
    """Who teaches; one of four, or none of them for the network that the stage is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    network: str | None = None
    """Name of an earlier stage of the run (``start`` for what the first was given), or a folder
    of a saved network."""
    function: str | None = None
    """``module:function`` of the user's own, annotated ``-> nn.Module``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the function."""
    weights: Path | None = None
    """File with the weights of the function's network (see ``load_weights``)."""
    onnx: Path | None = None
    """An ONNX file, images (B, c, h, w) -> logits (B, K); run by ONNX Runtime on the CPU."""
    train: TrainedTeacher | None = None
    """A registered network that is trained first: ``{name: resnet, depth: 14, recipe: {...}}``."""

    @model_validator(mode="after")
    def _one_at_most(self) -> TeacherChoice:
        given = (self.network, self.function, self.onnx, self.train)
        if sum(one is not None for one in given) > 1:
            raise ValueError("give one of network, function, onnx and train")
        if self.function is None and (self.options or self.weights is not None):
            raise ValueError("options and weights belong to a function")
        if self.function is not None and self.weights is None:
            raise ValueError("a function needs the weights of a trained network")
        return self

    def load(self) -> ModuleTeacher | OnnxTeacher | None:
        """Return the teacher that lies in files; None for a network of the run."""
        if self.onnx is not None:
            return OnnxTeacher.load(self.onnx)
        if self.function is not None:
            network = Network.from_function(self.function, self.options, weights=self.weights)
            return ModuleTeacher.of(network, self.function)
        # a folder of images may well have the name of a stage
        if self.network is not None and Path(self.network, STRUCTURE).is_file():
            return ModuleTeacher.of(Network.load(Path(self.network)), self.network)
        return None


@dataclass(frozen=True)
class ModuleTeacher:
    """A frozen copy of a network, in evaluation mode.

    title:  what to call it in messages.
    digest: of its structure and weights.
    """

    module: nn.Module
    title: str
    digest: str

    @classmethod
    def of(cls, network: Network, title: str) -> Self:
        """Copy and freeze a network."""
        frozen = copy.deepcopy(network.module).requires_grad_(False).eval()
        told = network.structure.to_json() + state_digest(frozen)
        return cls(frozen, title, hashlib.sha256(told.encode()).hexdigest())

    def on(self, device: str) -> ModuleTeacher:
        """Move to a device."""
        self.module.to(device)
        return self

    def __call__(self, inputs: Tensor) -> Any:
        """Return what the network makes of images (B, c, h, w)."""
        return self.module(inputs)


@dataclass(frozen=True)
class OnnxTeacher:
    """A graph in ONNX Runtime; it computes on the CPU, whatever the device of the student."""

    session: OnnxSession
    title: str
    digest: str

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file; raise StageError where it is none or its input has another form."""
        if not path.is_file():
            raise StageError(f"teacher {path}: there is no such file")
        try:
            session = OnnxSession(str(path), torch.get_num_threads())
        except InputError:
            raise
        except Exception as error:  # ONNX Runtime has kinds of its own for what is damaged
            words = " ".join(str(error).split())[:200]
            raise StageError(f"teacher {path} cannot be read by ONNX Runtime: {words}") from None
        return cls(session, str(path), sha256(path))

    def on(self, device: str) -> OnnxTeacher:
        """Stay on the CPU."""
        return self

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the logits of images (B, c, h, w) on their device."""
        images = np.ascontiguousarray(inputs.float().cpu().numpy())
        return torch.from_numpy(self.session.run(images)).to(inputs.device)


@dataclass(frozen=True)
class Teacher:
    """A teacher that suits a task: images (B, c, h, w) -> logits (B, K)."""

    inner: ModuleTeacher | OnnxTeacher
    classes: int

    @classmethod
    def checked(cls, inner: ModuleTeacher | OnnxTeacher, task: Task) -> Self:
        """Return the teacher.

        Raises StageError where it takes other images or batches of one size only, has other
        classes, or says what are no numbers.
        """
        teacher = cls(inner.on("cpu"), task.classes)
        for count in CHECKED:
            teacher._check(task.valid.inputs[:count], task)
        return teacher

    def _check(self, images: Tensor, task: Task) -> None:
        title = self.inner.title
        try:
            with torch.no_grad():
                logits = self(images)
        except Exception as error:  # whatever the network of a third party raises
            words = " ".join(str(error).split())[:200]
            shape = " x ".join(map(str, images.shape))
            raise StageError(f"teacher {title} does not take {shape} images: {words}") from None
        if logits.shape != (len(images), task.classes):
            raise StageError(
                f"teacher {title} makes {tuple(logits.shape)} of {len(images)} images, task "
                f"{task.name!r} has {task.classes} classes"
            )
        if not bool(logits.isfinite().all()):
            raise StageError(f"teacher {title} says what are no finite numbers: was it trained?")

    @property
    def digest(self) -> str:
        """What tells it from others."""
        return self.inner.digest

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the logits."""
        return main_output(self.inner(inputs), self.classes)


def stored_answers(
    teacher: Teacher, images: Images, folder: Path, device: str, tell: Tell
) -> Tensor:
    """Return what a teacher says of images as they are, (n, K) float32, kept in a file.

    The file is mapped, not read; its name says teacher and images, so that it is written once.
    """

    def say(inputs: Tensor) -> Tensor:
        return teacher(inputs.to(device)).float().cpu()

    key = hashlib.sha256(teacher.digest.encode())
    images.add_to(key)
    path = folder / f"answers-{key.hexdigest()[:32]}.npy"
    return stored_rows(path, images, teacher.classes, say, tell, "the teacher answers")


def stored_rows(
    path: Path,
    images: Images,
    width: int,
    compute: Callable[[Tensor], Tensor],
    tell: Tell,
    words: str,
) -> Tensor:
    """Return (n, width) float32 computed batch by batch, once, into a file that is then mapped."""
    if not path.exists():
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(images), width)}
        with replace_file(path) as temporary, temporary.open("wb") as file, torch.no_grad():
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(images), EVALUATION_BATCH):
                part = slice(start, start + EVALUATION_BATCH)
                file.write(compute(images[part]).numpy().astype("<f4").tobytes())
                tell(min(part.stop, len(images)), len(images), words)
    try:
        found = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StageError(f"{path} is damaged, delete it: {error}") from None
    return torch.from_numpy(found)
