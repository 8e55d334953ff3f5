"""How a network is trained: optimiser, schedule, augmentation, precision."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.errors import TrainingError
from nasplatform.training.optimizers import SGD, Averaging, Cosine, Optimizer, Schedule
from nasplatform.training.randaugment import RandAugmentOptions

USUAL_RATES = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3}


Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _usual_rate(known: dict[str, Any]) -> float:
    return USUAL_RATES[known["optimizer"].name]


class Recipe(BaseModel):
    """Everything about a training but the network, the data and the objective.

    By default SGD with Nesterov momentum, a linear warm-up, then a cosine to 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=10, ge=1)
    """Passes over the training split; 10 is what the embedded benchmark of digits uses."""
    batch_size: int = Field(default=64, ge=2)
    """Largest batch; the batches of an epoch differ by at most one image. None has a single image
    (pairs out of an odd number: one batch has three), for batch normalisation needs two."""
    optimizer: Optimizer = SGD()
    """``{name: sgd, momentum, nesterov}``, or ``{name: adam | adamw, betas, eps}``."""
    learning_rate: float = Field(default_factory=_usual_rate, gt=0)
    """Peak learning rate; unless given, 0.1 for sgd (Disout, CIFAR ResNet-56) and 0.001 for adam
    and adamw."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """Of every parameter (Disout, CIFAR ResNet-56); an L2 penalty but for adamw."""
    schedule: Schedule = Cosine()
    """After the warm-up: ``{name: cosine}``, ``{name: constant}`` or ``{name: step, milestones,
    gamma}``."""
    warmup: float = Field(default=0.2, ge=0, lt=1)
    """Share of the steps in which the learning rate grows linearly to its peak."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Norm to which the gradient of all parameters together is clipped."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the forward pass (automatic mixed precision); float16 scales the loss and needs a CUDA
    device. Networks are judged in float32."""
    averaging: Averaging | None = None
    """Keep an average of the weights: ``{name: ema, decay}`` or ``{name: mean, share}``; accuracies
    are those of the average as soon as there is one."""
    augmentation: Literal["none", "flip-crop"] = "none"
    """``flip-crop``: random mirroring and shifts of up to an eighth of the side (4 of 32)."""
    randaugment: RandAugmentOptions | None = None
    """``{layers, magnitude}``: random operations on images of 8 bits (RandAugment)."""
    erasing: float = Field(default=0.0, ge=0, le=1)
    """Probability with which a rectangle of an image is erased (Zhong et al. 2020: 0.5)."""
    mixup: float = Field(default=0.0, ge=0)
    """Alpha of mixup (Zhang et al. 2018: 0.2 to 1); with cutmix, each batch takes one of them."""
    cutmix: float = Field(default=0.0, ge=0)
    """Alpha of cutmix (Yun et al. 2019: 1)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the label that goes to all classes alike (Szegedy et al. 2016: 0.1)."""
    class_weights: Literal["balanced"] | tuple[Weight, ...] | None = None
    """Weight of each class in the cross-entropy: numbers in the order of the classes, or
    ``balanced``, inverse to its share of the training images (King and Zeng 2001)."""

    @property
    def soft_labels(self) -> bool:
        """Whether labels become probabilities (B, K)."""
        return bool(self.mixup or self.cutmix or self.label_smoothing)

    @property
    def augments(self) -> bool:
        """Whether an image looks different in every epoch."""
        augmented = self.augmentation != "none" or self.randaugment is not None
        return augmented or bool(self.erasing or self.mixup or self.cutmix)


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Return the learning rate of step 0..steps-1: up linearly, then as the schedule says."""
    warm = recipe.warmup * steps
    if step + 1 < warm:
        return recipe.learning_rate * (step + 1) / warm
    done = (step - warm) / (steps - warm) if step > warm else 0.0
    return recipe.learning_rate * recipe.schedule.factor(done)


def check_device(recipe: Recipe, device: str) -> None:
    """Raise TrainingError where a device is missing or cannot train as the recipe says."""
    cuda = device.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        raise TrainingError(f"device {device!r}: this machine offers no CUDA device")
    if recipe.precision == "float16" and not cuda:
        raise TrainingError(
            f"precision float16 needs a CUDA device, device is {device!r}: use bfloat16 or float32"
        )
