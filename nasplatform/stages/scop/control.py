"""Weighing real features against their knockoffs.

Each convolution gets one scale beta per output channel. A batch is run together with its
knockoffs; after the convolution and before the normalisation the real features become
``beta * real + (1 - beta) * knockoff``, while the knockoffs go on as they are. Only the scales
learn, from the loss of the real half, and stay in [0, 1]. The network works on a copy, so that
its weights and running statistics are not touched; normalisations use the statistics of the
batch, everything else is as in evaluation. (The release does the same, but lets the running
statistics drift and leaves out the stem and the layers of shortcuts.)
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from nasplatform.errors import StageError
from nasplatform.stages.scop.knockoffs import Knockoffs
from nasplatform.training.evaluation import EVALUATION_BATCH
from nasplatform.training.loop import Progress
from nasplatform.training.seeding import derive_seed
from nasplatform.training.task import Task


class ControlOptions(BaseModel):
    """How the scales are trained; the defaults are the release's, batch size and end aside."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=20, ge=1)
    """Passes over the training split, at most."""
    stop_at: float = Field(default=0.75, gt=0, le=1)
    """Mean of all scales at which their training ends. In a network without channels to spare
    every scale reaches 1 in the end (in ResNet-20 on Fashion-MNIST after 140 steps), and then none
    is told from another; how fast each one moves tells which matter. 1 trains all epochs."""
    batch_size: int = Field(default=64, ge=2)
    """Real images in a batch; as many knockoffs come on top (release, ImageNet: 512)."""
    learning_rate: float = Field(default=4e-3, gt=0)
    """Of Adam, with betas (0.5, 0.9)."""
    start: float = Field(default=0.5, gt=0, lt=1)
    """Value from which every scale starts."""


def mix(made: Tensor, scale: Tensor, axis: int = 1) -> Tensor:
    """Mix the knockoff half into the real half of a batch.

    made:  (2 B, C, ...), real features first, or with its channels on another axis.
    scale: beta, (C,). Returns the shape of ``made``.
    """
    real, knockoff = made.chunk(2)
    beta = scale.view(-1, *(1,) * (made.dim() - 1 - axis % made.dim()))
    return torch.cat([beta * real + (1 - beta) * knockoff, knockoff])


@contextmanager
def mixed(module: nn.Module, scales: Mapping[str, Tensor]) -> Iterator[None]:
    """Mix after each named layer while the block lasts."""

    def hook(scale: Tensor) -> Any:
        return lambda layer, given, made: mix(made, scale, _axis(layer))

    handles = [
        module.get_submodule(name).register_forward_hook(hook(scale))
        for name, scale in scales.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def train_scales(
    module: nn.Module,
    layers: Sequence[str],
    task: Task,
    knockoffs: Knockoffs,
    options: ControlOptions,
    seed: int,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Return the scale beta of each output channel, (C,) in [0, 1] on the CPU, by layer name.

    Raises StageError where the loss stops being finite.
    """
    frozen = copy.deepcopy(module).to(device).requires_grad_(False).eval()
    for norm in normalisations(frozen):
        norm.train()
    scales = {
        name: torch.full(
            (_width(frozen.get_submodule(name)),),
            options.start,
            device=device,
            requires_grad=True,
        )
        for name in layers
    }
    optimizer = torch.optim.Adam(list(scales.values()), lr=options.learning_rate, betas=(0.5, 0.9))
    batches = math.ceil(len(task.train) / options.batch_size)
    steps = options.epochs * batches
    with mixed(frozen, scales):
        for step, (indices, rng) in enumerate(_batches(len(task.train), batches, seed), start=1):
            _step(frozen, scales, optimizer, task, knockoffs, indices, rng, device)
            mean = float(torch.cat([scale.detach() for scale in scales.values()]).mean())
            ended = step == steps or mean >= options.stop_at or not math.isfinite(mean)
            if progress:
                progress(steps if ended else step, steps, f"scales, mean {mean:.2f}")
            if ended:
                break
    found = {name: scale.detach().cpu() for name, scale in scales.items()}
    if not all(torch.isfinite(scale).all() for scale in found.values()):
        raise StageError("the scales diverged; lower control.learning_rate")
    return found


def recalibrate_batchnorm(module: nn.Module, inputs: Tensor, device: str = "cpu") -> nn.Module:
    """Return a copy whose running statistics are those of inputs (n, c, h, w); weights stay.

    A network that lost channels is judged so before it is fine-tuned (release).
    """
    copied = copy.deepcopy(module).to(device).eval()
    for norm in normalisations(copied):
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    with torch.no_grad():
        for part in inputs.tensor_split(math.ceil(len(inputs) / EVALUATION_BATCH)):
            copied(part.to(device))
    return copied.eval()


def normalisations(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the layers that keep running statistics."""
    kind = nn.modules.batchnorm._BatchNorm
    return [child for child in module.modules() if isinstance(child, kind)]


def _batches(count: int, batches: int, seed: int) -> Iterator[tuple[Tensor, torch.Generator]]:
    """Return the indices of each batch, epoch after epoch, and where its numbers come from."""
    for epoch in itertools.count():
        rng = torch.Generator().manual_seed(derive_seed(seed, epoch))
        for indices in torch.randperm(count, generator=rng).tensor_split(batches):
            yield indices, rng


def _step(
    module: nn.Module,
    scales: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    task: Task,
    knockoffs: Knockoffs,
    indices: Tensor,
    rng: torch.Generator,
    device: str,
) -> None:
    inputs = task.train.inputs[indices].to(device)
    logits = module(torch.cat([inputs, knockoffs(inputs, rng)]))
    loss = task.loss(logits[: len(indices)], task.train.labels[indices].to(device))
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    with torch.no_grad():
        for scale in scales.values():
            scale.clamp_(0.0, 1.0)


def _axis(layer: nn.Module) -> int:
    return -1 if isinstance(layer, nn.Linear) else 1


def _width(layer: nn.Module) -> int:
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    return int(layer.get_parameter("weight").shape[int(transposed)])
