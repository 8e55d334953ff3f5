from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from nasplatform.stages.base import StageContext
from nasplatform.stages.train import Train, TrainOptions
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.evaluation import evaluate
from nasplatform.training.loop import train
from nasplatform.training.recipe import Recipe
from nasplatform.training.task import Task, accuracy, cross_entropy

RECIPE = Recipe(epochs=1, batch_size=16)


def top_two(logits, labels):
    return float((logits.topk(2).indices == labels[:, None]).any(1).double().mean())


def margin(logits, labels):
    return functional.multi_margin_loss(logits, labels)


class Marginal(Task):
    """A task of one's own as a subclass: a method and a static method."""

    def loss(self, logits, labels):
        assert isinstance(self, Marginal)
        return margin(logits, labels)

    @staticmethod
    def metric(logits, labels):
        return top_two(logits, labels)


def variants():
    task = tiny_task()
    fields = {name: value for name, value in vars(task).items() if name not in ("loss", "metric")}
    return {
        "instance": replace(task, loss=margin, metric=top_two),
        "subclass": Marginal(**fields),
        "copied": replace(Marginal(**fields), name="other"),
        "both": replace(Marginal(**fields), loss=margin, metric=top_two),
    }


@pytest.mark.parametrize("kind", variants())
def test_loss_and_metric_of_the_task_are_those_that_count(kind, tmp_path):
    task, plain = variants()[kind], tiny_task()
    ours, own, usual = (tiny_network().module for _ in range(3))
    history = train(ours, task, RECIPE, 0)
    train(own, plain, RECIPE, 0, objective=lambda module, b: margin(module(b.inputs), b.labels))
    train(usual, plain, RECIPE, 0)
    assert state_digest(ours) == state_digest(own) != state_digest(usual)
    logits = ours(task.valid.inputs[:])
    assert history.valid_accuracy == top_two(logits, task.valid.labels)
    assert top_two(logits, task.valid.labels) != accuracy(logits, task.valid.labels)
    assert evaluate(ours, task, "test") == top_two(ours(task.test.inputs[:]), task.test.labels)
    staged = Train(TrainOptions(recipe=RECIPE)).apply(tiny_network(), task, StageContext(tmp_path))
    assert staged.metrics["valid_accuracy"] == history.valid_accuracy


def test_usual_loss_and_metric():
    task = tiny_task()
    assert (task.loss, task.metric) == (cross_entropy, accuracy)
    logits, labels = torch.tensor([[2.0, 0, 0], [0, 0, 1]]), torch.tensor([0, 1])
    assert task.metric(logits, labels) == 0.5
    expected = -(logits.log_softmax(1)[0, 0] + logits.log_softmax(1)[1, 1]) / 2
    torch.testing.assert_close(task.loss(logits, labels), expected)


def test_summary_says_what_was_read():
    assert tiny_task().summary() == (
        "tiny: 132 images of 1 x 8 x 8, 3 classes: 48 train, 30 valid, 30 test, 24 unlabelled"
    )
