"""The training loop of networks, used by evaluators and stages alike."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from nasplatform.training import checkpoint as checkpoints
from nasplatform.training.evaluation import predict
from nasplatform.training.flops import threads, worthwhile_threads
from nasplatform.training.layout import fastest_layout
from nasplatform.training.objective import Objective, Supervised
from nasplatform.training.recipe import Recipe, check_device, learning_rate
from nasplatform.training.seeding import derive_seed, seeded
from nasplatform.training.state import TrainingState, autocast, check_loss
from nasplatform.training.streams import Stream, labelled
from nasplatform.training.task import Task

StepHook = Callable[[int, int], None]
"""(step, steps): called before each training step 0..steps-1."""
EpochHook = Callable[["Epoch"], bool]
"""Called after each epoch; True ends the training there."""
Progress = Callable[[int, int, str], None]
"""(steps done, steps in all, a few words)."""
CHECKED_EVERY = 100
"""Steps on a CUDA device after which the loss is fetched; on a CPU it is looked at each step."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    epoch:          its number, from 1.
    train_loss:     mean over its images.
    valid_accuracy: the task's metric on the validation split, its accuracy unless told otherwise.
    metrics:        means over its images of what the objective reports.
    """

    epoch: int
    train_loss: float
    valid_accuracy: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """The epochs of a training, and the seconds it took, those before a kill included."""

    epochs: tuple[Epoch, ...]
    seconds: float

    @property
    def valid_accuracy(self) -> float:
        """Validation accuracy after the last epoch."""
        return self.epochs[-1].valid_accuracy

    def frame(self) -> pd.DataFrame:
        """Return one row per epoch: epoch, train_loss, valid_accuracy, and the metrics."""
        columns = ("epoch", "train_loss", "valid_accuracy")
        return pd.DataFrame(
            [{c: getattr(e, c) for c in columns} | dict(e.metrics) for e in self.epochs]
        )


def train(
    module: nn.Module,
    task: Task,
    recipe: Recipe,
    seed: int,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    objective: Objective | None = None,
    stream: Stream | None = None,
    on_step: StepHook | None = None,
    on_epoch: EpochHook | None = None,
    tag: str = "",
) -> History:
    """Train a module in place, and leave it on the CPU in evaluation mode.

    Everything random follows from ``seed`` and the number of the epoch, so that on a CPU equal
    arguments give equal bits, and a training that was killed goes on from ``checkpoint`` (written
    after each epoch) to the same bits as one that was not.

    objective: in place of the loss of the task, e.g. to distil.
    stream:    in place of the training split, e.g. with unlabelled images beside it.
    on_step: called before each step, e.g. to move a schedule.
    on_epoch: may end the training early; hears of the epochs of a checkpoint again.
    tag:     what else the checkpoint must have in common: the options behind objective and stream.
    Raises TrainingError where the loss or a weight stops being finite (the checkpoint of the epoch
    before is kept), the device cannot do what the recipe asks, or the checkpoint is another's.
    """
    check_device(recipe, device)
    key = _key(module, task, recipe, seed, tag)
    stream = stream or labelled(task, recipe)
    with seeded(seed):  # the module may draw numbers in any forward pass
        count = worthwhile_threads(module, task.input_shape, recipe.batch_size)
    with autocast(recipe, "cpu"):
        layout = fastest_layout(module, task.input_shape)
    objective = objective or Supervised(task.loss)
    state = TrainingState.start(module, objective, recipe, device, layout)
    known = checkpoints.read(checkpoint, key) if checkpoint else None
    epochs, seconds = [], 0.0
    if known:
        tensors, facts = known
        state.restore(tensors, facts["state"])
        epochs, seconds = [Epoch(**row) for row in facts["epochs"]], float(facts["seconds"])
    ended = on_epoch is not None and any(on_epoch(epoch) for epoch in tuple(epochs))
    for number in range(len(epochs) + 1, recipe.epochs + 1):
        if ended:
            break
        start = time.perf_counter()
        words = _words(number, recipe.epochs, epochs)
        with threads(count), seeded(derive_seed(seed, number), device):
            loss, metrics = _epoch(state, stream, number, seed, words, progress, on_step)
            state.end_epoch(number, _inputs(task, recipe, device))
            logits = predict(state.judged, task.valid.inputs, device)
        state.check_finite(logits, stream.batches * number, stream.batches * recipe.epochs)
        accuracy = task.metric(logits, task.valid.labels)
        epochs.append(Epoch(number, loss, accuracy, metrics))
        seconds += time.perf_counter() - start
        if checkpoint:
            rows = [asdict(epoch) for epoch in epochs]
            facts = {"key": key, "epochs": rows, "seconds": seconds, "state": state.numbers()}
            checkpoints.write(checkpoint, state.tensors(), facts)
        ended = on_epoch is not None and on_epoch(epochs[-1])
    state.finish()
    return History(tuple(epochs), seconds)


def _epoch(
    state: TrainingState,
    stream: Stream,
    number: int,
    seed: int,
    words: str,
    progress: Progress | None,
    on_step: StepHook | None,
) -> tuple[float, dict[str, float]]:
    """Train one epoch; return the mean loss of its images and the means of the metrics."""
    recipe, device = state.recipe, state.device
    steps, first = stream.batches * recipe.epochs, stream.batches * (number - 1)
    every = CHECKED_EVERY if device.startswith("cuda") else 1
    zero = torch.zeros((), dtype=torch.float64, device=device)
    total, sums = zero.clone(), defaultdict[str, Tensor](zero.clone)
    state.module.train()
    batches = stream.epoch(derive_seed(seed, number, 1), device)
    for step, batch in enumerate(batches, start=first):
        if on_step:
            on_step(step, steps)
        loss, metrics = state.step(batch, learning_rate(step, steps, recipe))
        total += loss * len(batch)
        for name, value in metrics.items():
            sums[name] += value * len(batch)
        if (step + 1 - first) % every == 0:
            check_loss(total, step + 1, steps, recipe)
        if progress:
            progress(step + 1, steps, words)
    check_loss(total, first + stream.batches, steps, recipe)
    means = {name: float(value) / len(stream) for name, value in sums.items()}
    return float(total) / len(stream), means


def _inputs(task: Task, recipe: Recipe, device: str) -> Iterator[Tensor]:
    """Yield the training images in batches, as they are."""
    images = task.train.inputs
    for start in range(0, len(images), recipe.batch_size):
        yield images[start : start + recipe.batch_size].to(device)


def _words(number: int, epochs: int, before: list[Epoch]) -> str:
    so_far = f", accuracy {before[-1].valid_accuracy:.4f}" if before else ""
    return f"epoch {number}/{epochs}{so_far}"


def _key(module: nn.Module, task: Task, recipe: Recipe, seed: int, tag: str) -> str:
    parts = (checkpoints.state_digest(module), task.digest, recipe.model_dump_json(), seed, tag)
    return hashlib.sha256(repr(parts).encode()).hexdigest()
