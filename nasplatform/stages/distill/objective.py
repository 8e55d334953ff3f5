"""The loss: labels where there are any, the teacher everywhere, and the adversary.

    L = (1 - w) CE(labelled) + w KD(labelled and unlabelled) + BCE(D(reversed(features)))

with w the teacher's share and KD = T^2 KL(teacher || student) or, hard, the cross-entropy with
the teacher's class. Of arXiv 1907.06065 only the abstract could be had, which names the three
parts; their form and weights are our reading.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nasplatform.stages.distill.alignment import (
    Discriminator,
    reversed_gradient,
    source_accuracy,
    source_loss,
)
from nasplatform.stages.distill.features import tapped
from nasplatform.training.distillation import (
    DistillationOptions,
    hard_target_loss,
    heads,
    soft_target_loss,
)
from nasplatform.training.objective import Batch, Metrics, labels_of
from nasplatform.training.task import Loss

Teacher = Callable[[Tensor], Tensor]


class Aligner(nn.Module):
    """Aligns the map of one module; ``factor`` is the weight of the step, set from outside."""

    def __init__(self, tap: str, discriminator: Discriminator) -> None:
        super().__init__()
        self.tap, self.discriminator, self.factor = tap, discriminator, 0.0

    def forward(self, features: Tensor, labelled: int) -> tuple[Tensor, Metrics]:
        """Return the loss and how well the sources are told apart; features (B, c, places)."""
        logits = self.discriminator(reversed_gradient(features, self.factor)).float()
        loss = source_loss(logits, labelled)
        accuracy = source_accuracy(logits.detach(), labelled)
        return loss, {"alignment_loss": loss, "source_accuracy": accuracy}


class UnlabelledDistillation(nn.Module):
    """The objective of ``distill``; either of the two streams may be the one with labels.

    Of a network with a distillation token, labels teach the first classifier and the teacher the
    last (see ``heads``).
    """

    def __init__(
        self,
        teacher: Teacher,
        loss: Loss,
        options: DistillationOptions,
        aligner: Aligner | None = None,
    ) -> None:
        super().__init__()
        self.teacher, self.loss, self.options, self.aligner = teacher, loss, options, aligner

    def forward(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the loss and its parts."""
        first, second = _labelled_first(batch)
        inputs = first.inputs if second is None else torch.cat([first.inputs, second.inputs])
        taps = [] if self.aligner is None else [self.aligner.tap]
        with tapped(module, taps) as maps:
            own, taught = heads(module, inputs)
        parts = [part for part in (first, second) if part is not None]
        said = torch.cat([self._said(part) for part in parts])
        if self.options.hard:
            apart = hard_target_loss(taught, said)
        else:
            apart = soft_target_loss(taught, said, self.options.temperature)
        weight = self.options.weight
        metrics = {"teacher_loss": apart}
        total = weight * apart
        if weight < 1:
            by_labels = self.loss(own[: len(first)], labels_of(first))
            metrics["label_loss"] = by_labels
            total = total + (1 - weight) * by_labels
        if self.aligner is None:
            return total, metrics
        adversary, more = self.aligner(maps[self.aligner.tap], len(first))
        return total + adversary, {**metrics, **more}

    def _said(self, part: Batch) -> Tensor:
        if part.answers is not None:
            return part.answers
        with torch.no_grad():
            return self.teacher(part.inputs)


def _labelled_first(batch: Batch) -> tuple[Batch, Batch | None]:
    if batch.labels is None and batch.beside is not None:
        return batch.beside, batch
    return batch, batch.beside
