"""The one training loop, used by evaluators and stages alike."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from nasplatform.errors import TrainingError
from nasplatform.training import checkpoint as checkpoints
from nasplatform.training.flops import threads, worthwhile_threads
from nasplatform.training.recipe import Recipe, flip_crop, learning_rate
from nasplatform.training.task import Split, Task

LossFunction = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(module in training mode, inputs (B, c, h, w), labels (B,)) -> scalar, the mean of the batch."""
StepHook = Callable[[int, int], None]
"""(step, steps): called before each training step 0..steps-1."""
EpochHook = Callable[["Epoch"], bool]
"""Called after each epoch; True ends the training there."""
Progress = Callable[[int, int, str], None]
"""(steps done, steps in all, a few words)."""

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: its number from 1, mean training loss, validation accuracy."""

    epoch: int
    train_loss: float
    valid_accuracy: float


@dataclass(frozen=True)
class History:
    """The epochs of a training, and the seconds it took, those before a kill included."""

    epochs: tuple[Epoch, ...]
    seconds: float

    @property
    def valid_accuracy(self) -> float:
        """Validation accuracy after the last epoch, in [0, 1]."""
        return self.epochs[-1].valid_accuracy

    def frame(self) -> pd.DataFrame:
        """Return one row per epoch: epoch, train_loss, valid_accuracy."""
        return pd.DataFrame([asdict(epoch) for epoch in self.epochs])


def train(
    module: nn.Module,
    task: Task,
    recipe: Recipe,
    seed: int,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    loss: LossFunction | None = None,
    on_step: StepHook | None = None,
    on_epoch: EpochHook | None = None,
    tag: str = "",
) -> History:
    """Train a module in place, and leave it on the CPU in evaluation mode.

    Everything random follows from ``seed`` and the number of the epoch, so that on a CPU equal
    arguments give equal bits, and a training that was killed goes on from ``checkpoint`` (written
    after each epoch) to the same bits as one that was not.

    loss:    in place of the cross-entropy of the task, e.g. to distil.
    on_step: called before each step, e.g. to move a schedule.
    on_epoch: may end the training early; hears of the epochs of a checkpoint again.
    tag:     what else the checkpoint must have in common, e.g. the options behind ``loss``.
    Raises TrainingError where the loss stops being finite or the checkpoint is another training's.
    """
    key = _key(module, task, recipe, seed, tag)
    count = worthwhile_threads(module, task.input_shape, recipe.batch_size)
    module.to(device)
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    known = checkpoints.read(checkpoint, module, optimizer, key) if checkpoint else None
    epochs = [Epoch(**row) for row in known["epochs"]] if known else []
    seconds = float(known["seconds"]) if known else 0.0
    step = _Steps(module, task, recipe, optimizer, device, loss or _cross_entropy, on_step)
    ended = on_epoch is not None and any(on_epoch(epoch) for epoch in tuple(epochs))
    for number in range(len(epochs) + 1, recipe.epochs + 1):
        if ended:
            break
        start = time.perf_counter()
        with threads(count):
            with seeded(derive_seed(seed, number), device):
                mean_loss = step.epoch(number, derive_seed(seed, number, 1), progress, epochs)
            accuracy = evaluate(module, task.valid, device)
        epochs.append(Epoch(number, mean_loss, accuracy))
        seconds += time.perf_counter() - start
        if checkpoint:
            rows = [asdict(epoch) for epoch in epochs]
            facts = {"key": key, "epochs": rows, "seconds": seconds}
            checkpoints.write(checkpoint, module, optimizer, facts)
        ended = on_epoch is not None and on_epoch(epochs[-1])
    module.to("cpu").eval()
    return History(tuple(epochs), seconds)


def predict(module: nn.Module, inputs: Tensor, device: str = "cpu") -> Tensor:
    """Return the logits of all inputs on the CPU: (n, c, h, w) -> (n, K).

    The module is left in evaluation mode on ``device``.
    """
    module.to(device).eval()
    with torch.inference_mode():
        batches = [module(part.to(device)).cpu() for part in torch.split(inputs, EVALUATION_BATCH)]
    return torch.cat(batches)


def evaluate(module: nn.Module, split: Split, device: str = "cpu") -> float:
    """Return the accuracy in [0, 1]; the module is left in evaluation mode on ``device``."""
    return Task.metric(predict(module, split.inputs, device), split.labels)


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seed torch's global generators for the block, and put them back afterwards.

    For what cannot take a generator: the initial weights of a module, ``nn.Dropout``.
    """
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True)
class _Steps:
    """The steps of an epoch."""

    module: nn.Module
    task: Task
    recipe: Recipe
    optimizer: torch.optim.Optimizer
    device: str
    loss: LossFunction
    on_step: StepHook | None

    def epoch(
        self, number: int, seed: int, progress: Progress | None, before: list[Epoch]
    ) -> float:
        """Train one epoch and return the mean loss of its images, in nats."""
        rng = torch.Generator().manual_seed(seed)
        batches = math.ceil(len(self.task.train) / self.recipe.batch_size)
        steps, first = batches * self.recipe.epochs, batches * (number - 1)
        order = torch.randperm(len(self.task.train), generator=rng)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        self.module.train()
        for step, indices in enumerate(order.tensor_split(batches), start=first):
            if self.on_step:
                self.on_step(step, steps)
            self.optimizer.param_groups[0]["lr"] = learning_rate(step, steps, self.recipe)
            total += self._step(indices, rng) * len(indices)
            if progress:
                progress(step + 1, steps, _words(number, self.recipe.epochs, before))
        mean = float(total) / len(self.task.train)
        if not math.isfinite(mean):
            raise TrainingError(
                f"the training loss is {mean} in epoch {number} of {self.recipe.epochs}: "
                f"learning_rate {self.recipe.learning_rate} is too high for this network"
            )
        return mean

    def _step(self, indices: Tensor, rng: torch.Generator) -> Tensor:
        inputs = self.task.train.inputs[indices].to(self.device)
        labels = self.task.train.labels[indices].to(self.device)
        if self.recipe.augmentation == "flip-crop":
            inputs = flip_crop(inputs, rng)
        self.optimizer.zero_grad()
        value = self.loss(self.module, inputs, labels)
        torch.autograd.backward(value)
        self.optimizer.step()
        return value.detach()


def _cross_entropy(module: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    return Task.loss(module(inputs), labels)


def _words(number: int, epochs: int, before: list[Epoch]) -> str:
    so_far = f", accuracy {before[-1].valid_accuracy:.4f}" if before else ""
    return f"epoch {number}/{epochs}{so_far}"


def derive_seed(*numbers: int) -> int:
    """Mix numbers into one seed below 2**63."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _key(module: nn.Module, task: Task, recipe: Recipe, seed: int, tag: str) -> str:
    parts = (checkpoints.state_digest(module), task.digest, recipe.model_dump_json(), seed, tag)
    return hashlib.sha256(repr(parts).encode()).hexdigest()
