"""Knowledge distillation: a trained network teaches another (Hinton et al. 2015)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.training.objective import Batch, Metrics, labels_of
from nasplatform.training.task import Loss


class DistillationOptions(BaseModel):
    """How much the teacher counts, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weight: float = Field(default=0.9, gt=0, le=1)
    """Share of the loss that is the teacher's; the rest is the task's, on labels."""
    temperature: float = Field(default=4.0, gt=0)
    """By which the logits of both are divided; not used where the teaching is hard."""
    hard: bool = False
    """Learn the teacher's most likely class in place of its probabilities (Touvron et al. 2021)."""


def soft_target_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) of the softened predictions, in nats.

    logits, teacher: (B, K). The factor keeps gradients of one size whatever T is (Hinton et al.
    2015, section 2.1).
    """
    soft = (teacher / temperature).log_softmax(1)
    found = (logits / temperature).log_softmax(1)
    apart = functional.kl_div(found, soft, reduction="batchmean", log_target=True)
    return apart * temperature**2


def hard_target_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean cross-entropy with the teacher's most likely classes; both (B, K)."""
    return functional.cross_entropy(logits, teacher.argmax(1))


def heads(module: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits that learn labels and those that learn from a teacher, both (B, K).

    They are the same but for a network with a distillation token (DeiT, Touvron et al. 2021): one
    that has a method ``classifier_logits(images)``, the logits of each of its classifiers. The
    first is taught by labels, the last by the teacher.
    """
    if not hasattr(module, "classifier_logits"):
        logits = module(inputs)
        return logits, logits
    found = module.classifier_logits(inputs)
    return found[0], found[-1]


@dataclass(frozen=True)
class Distillation:
    """An objective: the teacher's share on all images, the task's on the labelled ones.

    A stream beside the labelled one adds its images to those that the teacher labels; a stream
    without labels is taught by the teacher alone, which needs a weight of 1.
    """

    teacher: nn.Module
    loss: Loss
    options: DistillationOptions

    @classmethod
    def of(
        cls, teacher: nn.Module, loss: Loss, options: DistillationOptions, device: str = "cpu"
    ) -> Distillation:
        """Teach with a frozen copy of a network, in evaluation mode on the device."""
        frozen = copy.deepcopy(teacher).to(device).requires_grad_(False).eval()
        return cls(frozen, loss, options)

    def __call__(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the loss and the teacher's part of it (``teacher_loss``)."""
        inputs = batch.inputs
        if batch.beside is not None:
            inputs = torch.cat([inputs, batch.beside.inputs])
        own, taught = heads(module, inputs)
        with torch.no_grad():
            said = self.teacher(inputs)
        if self.options.hard:
            apart = hard_target_loss(taught, said)
        else:
            apart = soft_target_loss(taught, said, self.options.temperature)
        weight, metrics = self.options.weight, {"teacher_loss": apart}
        if weight == 1:
            return apart, metrics
        by_labels = self.loss(own[: len(batch)], labels_of(batch))
        return weight * apart + (1 - weight) * by_labels, metrics
