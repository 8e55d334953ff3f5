"""The training loop of networks, used by evaluators and stages alike."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from nasplatform.training import checkpoint as checkpoints
from nasplatform.training import distributed
from nasplatform.training.curve import thinned
from nasplatform.training.evaluation import predict
from nasplatform.training.flops import threads, worthwhile_threads
from nasplatform.training.layout import fastest_layout
from nasplatform.training.objective import Objective, Supervised
from nasplatform.training.recipe import Recipe, check_device, learning_rate
from nasplatform.training.seeding import derive_seed, seeded
from nasplatform.training.state import TrainingState, autocast, check_loss
from nasplatform.training.streams import Stream, batches, labelled
from nasplatform.training.task import Task
from nasplatform.training.weighting import training_loss

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
    learning_rate:  of its last step.
    seconds:        that it took, validation included; two trainings may differ by them alone.
    metrics:        means over its images of what the objective reports.
    """

    epoch: int
    train_loss: float
    valid_accuracy: float
    learning_rate: float
    seconds: float = field(compare=False)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """The epochs of a training, those before a kill included."""

    epochs: tuple[Epoch, ...]

    @property
    def seconds(self) -> float:
        """What its epochs took together."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def valid_accuracy(self) -> float:
        """Validation accuracy after the last epoch."""
        return self.epochs[-1].valid_accuracy

    def frame(self) -> pd.DataFrame:
        """Return one row per epoch: the fields of ``Epoch``, and the metrics."""
        return pd.DataFrame(curve_of(self.epochs))

    def curve(self) -> dict[str, list[float]]:
        """Return its epochs as they are kept: the columns of ``frame``, at most so many epochs."""
        return thinned(curve_of(self.epochs))


def curve_of(epochs: Sequence[Epoch]) -> dict[str, list[float]]:
    """Return the epochs of a training as columns, the metrics that all of them have among them."""
    names = [one.name for one in fields(Epoch) if one.name != "metrics"]
    found = {name: [getattr(epoch, name) for epoch in epochs] for name in names}
    for name in epochs[0].metrics if epochs else ():
        if all(name in epoch.metrics for epoch in epochs):
            found[name] = [epoch.metrics[name] for epoch in epochs]
    return found


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
    processes: int = 1,
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
    processes: of this machine that train together, each on its share of every batch; the curve is
             that of one but for the last digits (see ``distributed``).
    Raises TrainingError where the loss or a weight stops being finite (the checkpoint of the epoch
    before is kept), the device cannot do what the recipe asks, or the checkpoint is another's.
    """
    check_device(recipe, device)
    distributed.check_processes(processes, device, recipe.batch_size)
    what = _Training(
        module, task, recipe, seed, device, checkpoint, objective, stream, on_step, tag
    )
    if processes == 1:
        return what.run(progress, on_epoch)
    with distributed.helpers(processes, what.run):
        return what.run(progress, on_epoch)


@dataclass(frozen=True)
class _Training:
    """The arguments of ``train`` that all processes of a training share."""

    module: nn.Module
    task: Task
    recipe: Recipe
    seed: int
    device: str
    checkpoint: Path | None
    objective: Objective | None
    stream: Stream | None
    on_step: StepHook | None
    tag: str

    def run(self, progress: Progress | None = None, on_epoch: EpochHook | None = None) -> History:
        """Train; of several processes the first has the hooks, judges and keeps."""
        module, task, recipe, seed, device = (
            self.module, self.task, self.recipe, self.seed, self.device,
        )  # fmt: skip
        key = _key(module, task, recipe, seed, self.tag)
        stream = self.stream or labelled(task, recipe)
        with seeded(seed):  # the module may draw numbers in any forward pass
            count = worthwhile_threads(module, task.input_shape, recipe.batch_size)
        count = 1 if distributed.active() else count
        objective = self.objective or Supervised(training_loss(task, recipe))
        with autocast(recipe, "cpu"):
            layout = fastest_layout(module, task.input_shape)
        state = TrainingState.start(module, objective, recipe, device, layout)
        known = checkpoints.read(self.checkpoint, key) if self.checkpoint else None
        epochs: list[Epoch] = []
        if known:
            tensors, facts = known
            state.restore(tensors, facts["state"])
            epochs = [Epoch(**row) for row in facts["epochs"]]
        ended = on_epoch is not None and any(on_epoch(epoch) for epoch in tuple(epochs))
        for number in range(len(epochs) + 1, recipe.epochs + 1):
            if distributed.agreed(ended):
                break
            start = time.perf_counter()
            words = _words(number, recipe.epochs, epochs)
            with threads(count), seeded(derive_seed(seed, number), device):
                loss, metrics = _epoch(state, stream, number, seed, words, progress, self.on_step)
                if not distributed.is_first():
                    continue
                state.end_epoch(number, _inputs(task, recipe, device))
                logits = predict(state.judged, task.valid.inputs, device)
            last, steps = stream.batches * number, stream.batches * recipe.epochs
            state.check_finite(logits, last, steps)
            accuracy = task.metric(logits, task.valid.labels)
            rate = learning_rate(last - 1, steps, recipe)
            seconds = time.perf_counter() - start
            epochs.append(Epoch(number, loss, accuracy, rate, seconds, metrics))
            if self.checkpoint:
                rows = [asdict(epoch) for epoch in epochs]
                facts = {"key": key, "epochs": rows, "state": state.numbers()}
                checkpoints.write(self.checkpoint, state.tensors(), facts)
            ended = on_epoch is not None and on_epoch(epochs[-1])
        state.finish()
        return History(tuple(epochs))


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
    for step, batch in enumerate(stream.epoch(derive_seed(seed, number, 1), device), start=first):
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
    for rows in torch.arange(len(images)).tensor_split(batches(len(images), recipe.batch_size)):
        yield images[rows].to(device)


def _words(number: int, epochs: int, before: list[Epoch]) -> str:
    so_far = f", accuracy {before[-1].valid_accuracy:.4f}" if before else ""
    return f"epoch {number}/{epochs}{so_far}"


def _key(module: nn.Module, task: Task, recipe: Recipe, seed: int, tag: str) -> str:
    told = [one.name for one in fields(Epoch)]  # another version may keep other facts
    weights, how = checkpoints.state_digest(module), recipe.model_dump_json()
    parts = (weights, task.digest, how, seed, tag, told)
    return hashlib.sha256(repr(parts).encode()).hexdigest()
