"""What a training minimises: a function of a module and a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from nasplatform.errors import TrainingError

Metrics = Mapping[str, Tensor]
"""Scalars by name; the loop reports their means over the images of an epoch."""


@dataclass(frozen=True)
class Batch:
    """What one step sees, on the device of the training.

    inputs: (B, c, h, w) float32, standardised and augmented.
    labels: (B,) int64; (B, K) probabilities where the recipe smooths labels or mixes images;
            None in a stream without labels.
    beside: the batch of the stream that runs along, e.g. unlabelled images, or None.
    answers: (B, K) logits that a teacher gave before, or None.
    """

    inputs: Tensor
    labels: Tensor | None = None
    beside: Batch | None = None
    answers: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def laid_out(self, layout: torch.memory_format) -> Batch:
        """Return the batch with its images in a memory format, the same where they are."""
        inputs = self.inputs.contiguous(memory_format=layout)
        return replace(self, inputs=inputs, beside=self.beside and self.beside.laid_out(layout))


class Objective(Protocol):
    """Computes the loss of a batch.

    An objective that is an ``nn.Module`` has its own parameters trained along with the network's;
    one with ``state_dict`` and ``load_state_dict`` has its state kept in the checkpoint.
    """

    def __call__(self, module: nn.Module, batch: Batch) -> Tensor | tuple[Tensor, Metrics]:
        """Return the mean loss of a batch, a scalar, and perhaps metrics; module in training mode.

        Not run where a batch has no labels and the objective needs them: raise TrainingError.
        """
        ...


@dataclass(frozen=True)
class Supervised:
    """The loss of a task on labelled images."""

    loss: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of the module's logits; raise TrainingError without labels."""
        return self.loss(module(batch.inputs), labels_of(batch))


def labels_of(batch: Batch) -> Tensor:
    """Return the labels of a batch; raise TrainingError where it has none."""
    if batch.labels is None:
        raise TrainingError("this objective needs labels, the stream has none")
    return batch.labels
