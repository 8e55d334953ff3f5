"""How the networks of an embedded table are trained: by the kernel for cells, or by torch."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nasplatform.benchmarks import cellnet
from nasplatform.benchmarks.cellnet.build import kernel
from nasplatform.spaces import Space
from nasplatform.spaces.nasbench101.cells import CONV3X3
from nasplatform.training.evaluation import evaluate
from nasplatform.training.flops import threads
from nasplatform.training.layout import laid_out
from nasplatform.training.loop import Epoch, train
from nasplatform.training.recipe import Recipe
from nasplatform.training.seeding import seeded
from nasplatform.training.task import Task

RECORD = np.dtype(
    [("train_loss", "f4"), ("valid_accuracy", "f4"), ("test_accuracy", "f4"), ("seconds", "f4")]
)


class Trainer(Protocol):
    """Trains one network of a space; must be picklable, and give equal bits for equal seeds."""

    @property
    def fidelities(self) -> tuple[int, ...]:
        """Epochs after which both evaluation splits are classified, rising."""
        ...

    def check(self) -> None:
        """Raise KernelError where networks cannot be trained on this machine."""
        ...

    def train(
        self, space: Space[Any], architecture: Any, task: Task, seed: int
    ) -> NDArray[np.void]:
        """Return a ``RECORD`` per fidelity, (F,)."""
        ...

    def description(self) -> dict[str, Any]:
        """Return the recipe as it stands on the card, plain JSON."""
        ...


@dataclass(frozen=True)
class CellKernel:
    """The C kernel for NAS-Bench-101's cells; its arithmetic does not depend on the machine."""

    recipe: cellnet.Recipe

    @property
    def fidelities(self) -> tuple[int, ...]:
        """Epochs after which both evaluation splits are classified."""
        return self.recipe.evaluations

    def check(self) -> None:
        """Compile and load the kernel."""
        kernel()

    def train(
        self, space: Space[Any], architecture: Any, task: Task, seed: int
    ) -> NDArray[np.void]:
        """Train a cell in the skeleton of the recipe."""
        train, valid, test = (
            cellnet.Images(split.inputs[:].numpy(), split.labels.numpy())
            for split in (task.train, task.valid, task.test)
        )
        matrix, ops = architecture.arrays
        curve = cellnet.train_cell(
            matrix, (ops - CONV3X3).astype(np.int8), train, valid, test, self.recipe, seed
        )
        records = np.empty(len(curve.epochs), RECORD)
        records["train_loss"] = curve.train_loss
        records["valid_accuracy"] = curve.valid_correct / len(valid.labels)
        records["test_accuracy"] = curve.test_correct / len(test.labels)
        records["seconds"] = curve.seconds
        return records

    def description(self) -> dict[str, Any]:
        """Return the recipe."""
        return asdict(self.recipe)


@dataclass(frozen=True)
class TrainingLoop:
    """The platform's ordinary training loop, for any space; one thread, channels last.

    Equal seeds give equal bits on one kind of processor. ``seconds`` are those of the processor.
    """

    recipe: Recipe
    evaluate_at: tuple[int, ...]

    @property
    def fidelities(self) -> tuple[int, ...]:
        """Epochs after which both evaluation splits are classified."""
        return self.evaluate_at

    def check(self) -> None:
        """Torch trains everywhere."""

    def train(
        self, space: Space[Any], architecture: Any, task: Task, seed: int
    ) -> NDArray[np.void]:
        """Build the network from the seed and train it for all epochs of the recipe."""
        rows: list[tuple[float, float, float, float]] = []

        def record(epoch: Epoch) -> bool:
            if epoch.epoch in self.evaluate_at:
                seconds = time.process_time() - start
                accuracy = evaluate(module, task, "test")
                rows.append((epoch.train_loss, epoch.valid_accuracy, accuracy, seconds))
            return False

        with threads(1):
            with seeded(seed):
                module = laid_out(space.build(architecture))
            start = time.process_time()
            train(module, task, self.recipe, seed, on_epoch=record)
        return np.array(rows, RECORD)

    def description(self) -> dict[str, Any]:
        """Return the recipe and the fidelities."""
        return {**self.recipe.model_dump(mode="json"), "evaluate_at": list(self.evaluate_at)}
