"""Weights of classes: the loss against numpy, and that each training really uses it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nasplatform.errors import TrainingError
from nasplatform.stages.base import StageContext
from nasplatform.stages.pipeline import make_stage
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.recipe import Recipe
from nasplatform.training.task import Split, Task
from nasplatform.training.weighting import balanced_weights, training_loss

TASK = tiny_task()


def uneven() -> Task:
    """Return the tiny task with 16, 8 and 4 images of its classes."""
    labels = TASK.train.labels.numpy()
    rows = np.concatenate([np.flatnonzero(labels == k)[: 16 >> k] for k in range(3)])
    return replace(TASK, train=Split(TASK.train.inputs.chosen(rows), TASK.train.labels[rows]))


def test_images_of_every_class_together_count_the_same() -> None:
    task = uneven()
    weights = balanced_weights(task)
    sums = [float(weights[k] * n) for k, n in ((0, 16), (1, 8), (2, 4))]
    assert sums == pytest.approx([28 / 3] * 3)
    assert torch.equal(balanced_weights(TASK), torch.ones(3))


@pytest.mark.parametrize("soft", [False, True])
def test_loss_is_the_weighted_cross_entropy(soft: bool) -> None:
    loss = training_loss(TASK, Recipe(class_weights=(1.0, 2.0, 0.5)))
    rng = np.random.default_rng(0)
    logits, weights = rng.standard_normal((5, 3)), np.array([1.0, 2.0, 0.5])
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    labels = np.array([0, 2, 1, 1, 2])
    if soft:  # the weight of each class stands at its share of the label
        shares = rng.dirichlet(np.ones(3), 5)
        found = loss(torch.tensor(logits), torch.tensor(shares))
        expected = -(weights * shares * logs).sum(1).mean()
    else:
        found = loss(torch.tensor(logits), torch.tensor(labels))
        each = weights[labels]
        expected = -(each * logs[np.arange(5), labels]).sum() / each.sum()
    assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        ("train", {}),
        ("disout", {}),
        ("distill", {"distillation": {"weight": 0.1}, "start": "scratch"}),
        ("scop", {"criterion": "l1", "rate": 0.4, "teacher": {"weight": 0.1}}),
        ("binarize", {"teacher": {"weight": 0.1}}),
    ],
)
def test_every_training_uses_the_weights(stage: str, more: dict[str, object], tmp_path) -> None:
    """A class that counts for nearly all is the one that is answered."""
    weights = [1e-6, 1.0, 1e-6]
    recipe = {"epochs": 4, "batch_size": 16, "class_weights": weights, "learning_rate": 0.05}
    made = make_stage(stage, {"recipe": recipe, **more}, "here")
    found = made.apply(tiny_network(), TASK, StageContext(tmp_path)).network
    with torch.no_grad():
        said = found.module(TASK.valid.inputs[:]).argmax(1)
    assert float((said == 1).double().mean()) > 0.9


@pytest.mark.parametrize("weights", [(1.0, 0.0, 1.0), (1.0, float("inf"), 1.0), "equal"])
def test_impossible_weights_are_refused(weights: object) -> None:
    with pytest.raises(ValidationError, match="class_weights"):
        Recipe(class_weights=weights)


def test_weights_of_other_classes_are_refused_before_anything_is_trained() -> None:
    made = make_stage("train", {"recipe": {"class_weights": [1, 2]}}, "here")
    with pytest.raises(TrainingError, match="class_weights has 2 numbers, task 'tiny' has 3"):
        made.check(TASK, "cpu")
    own = replace(TASK, loss=lambda logits, labels: logits.sum())
    with pytest.raises(TrainingError, match="'tiny' has a loss of its own"):
        training_loss(own, Recipe(class_weights="balanced"))
