"""Classes that count more than others: for training data of which some have few images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nasplatform.errors import TrainingError
from nasplatform.training.recipe import Recipe
from nasplatform.training.task import Loss, Task, cross_entropy


def training_loss(task: Task, recipe: Recipe) -> Loss:
    """Return the loss of a task, its classes weighted as the recipe says.

    Raises TrainingError for another number of weights than classes, and where the task has a loss
    of its own, for only the cross-entropy has weights.
    """
    if recipe.class_weights is None:
        return task.loss
    if task.loss is not cross_entropy:
        raise TrainingError(f"class_weights: task {task.name!r} has a loss of its own, without any")
    given = recipe.class_weights
    weights = balanced_weights(task) if given == "balanced" else torch.tensor(given)
    if len(weights) != task.classes:
        raise TrainingError(
            f"class_weights has {len(weights)} numbers, task {task.name!r} has {task.classes} "
            f"classes"
        )

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, weight=weights.to(logits))

    return loss


def balanced_weights(task: Task) -> Tensor:
    """Return n / (K n_k) for each class with n_k of the n training images: (K,), float32.

    The images of every class together count the same (King and Zeng 2001).
    """
    counts = np.bincount(task.train.labels.numpy(), minlength=task.classes)
    return torch.from_numpy(counts.sum() / (task.classes * counts)).float()
