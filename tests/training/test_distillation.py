import pytest
import torch
from torch import nn

from nasplatform.errors import TrainingError
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.distillation import (
    Distillation,
    DistillationOptions,
    hard_target_loss,
    soft_target_loss,
)
from nasplatform.training.evaluation import predict
from nasplatform.training.loop import train
from nasplatform.training.objective import Batch
from nasplatform.training.recipe import Recipe
from nasplatform.training.streams import labelled, unlabelled

RECIPE = Recipe(epochs=2, batch_size=16)


def test_soft_targets_are_the_divergence_of_softened_predictions():
    rng = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 7, 4, generator=rng, dtype=torch.float64)
    soft, found = torch.softmax(teacher / 3, 1), torch.softmax(logits / 3, 1)
    expected = (soft * (soft.log() - found.log())).sum(1).mean() * 9
    torch.testing.assert_close(soft_target_loss(logits, teacher, 3.0), expected)
    assert float(soft_target_loss(teacher, teacher, 3.0)) == pytest.approx(0, abs=1e-12)
    hot = 1e4  # section 2.1: then it is half the squared difference of the centred logits over K
    centred = (logits - logits.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    limit = centred.square().sum(1).mean() / (2 * 4)
    torch.testing.assert_close(soft_target_loss(logits, teacher, hot), limit, rtol=1e-3, atol=0)


def test_hard_targets_are_the_teachers_classes():
    logits, teacher = torch.tensor([[1.0, 2, 0], [0, 0, 0]]), torch.tensor([[0.0, 1, 9], [3, 1, 2]])
    expected = -(logits.log_softmax(1)[0, 2] + logits.log_softmax(1)[1, 0]) / 2
    torch.testing.assert_close(hard_target_loss(logits, teacher), expected)


@pytest.mark.parametrize("hard", [False, True])
def test_objective_weighs_teacher_and_labels(hard):
    network, task = tiny_network().module, tiny_task()
    student = tiny_network(1).module
    options = DistillationOptions(weight=0.75, temperature=2.0, hard=hard)
    objective = Distillation.of(network, task.loss, options)
    inputs, labels = task.train.inputs[:], task.train.labels
    found, metrics = objective(student, Batch(inputs, labels))
    said, logits = predict(network, inputs), student(inputs)
    log = torch.log_softmax(logits / (1 if hard else 2), 1)
    soft = torch.softmax(said / 2, 1)
    apart = (
        -log[torch.arange(48), said.argmax(1)].mean()
        if hard
        else (soft * (soft.log() - log)).sum(1).mean() * 4
    )
    torch.testing.assert_close(metrics["teacher_loss"], apart)
    torch.testing.assert_close(found, 0.75 * apart + 0.25 * task.loss(logits, labels))


def test_unlabelled_images_are_taught_by_the_teacher():
    network, task = tiny_network().module, tiny_task()
    student = tiny_network(1).module.eval()
    objective = Distillation.of(network, task.loss, DistillationOptions(weight=0.5))
    labelled_batch = Batch(task.train.inputs[:10], task.train.labels[:10])
    batch = Batch(labelled_batch.inputs, labelled_batch.labels, beside=Batch(task.unlabelled[:6]))
    found, _ = objective(student, batch)
    every = torch.cat([task.train.inputs[:10], task.unlabelled[:6]])
    apart = soft_target_loss(student(every), predict(network, every), 4.0)
    own = task.loss(student(task.train.inputs[:10]), task.train.labels[:10])
    torch.testing.assert_close(found, 0.5 * apart + 0.5 * own)


def test_student_comes_closer_to_its_teacher_on_both_streams_and_is_resumed(tmp_path):
    task = tiny_task()
    teacher = tiny_network().module
    train(teacher, task, Recipe(epochs=10, batch_size=16), 0)
    before = state_digest(teacher)
    objective = Distillation.of(teacher, task.loss, DistillationOptions())
    stream = labelled(task, RECIPE, unlabelled(task, RECIPE))

    def run(epochs=2, **arguments):
        student = tiny_network(3).module
        recipe = RECIPE.model_copy(update={"epochs": epochs})
        history = train(student, task, recipe, 1, objective=objective, stream=stream, **arguments)
        return state_digest(student), history

    whole, history = run(epochs=8)
    losses = history.frame()["teacher_loss"]
    assert losses.iloc[-1] < losses.iloc[0] / 2
    path = tmp_path / "c.safetensors"
    run(epochs=8, checkpoint=path, on_epoch=lambda epoch: epoch.epoch == 3)
    assert run(epochs=8, checkpoint=path)[0] == whole
    assert state_digest(teacher) == before
    assert all(parameter.requires_grad for parameter in teacher.parameters())


def test_unlabelled_images_alone_need_the_whole_weight():
    task = tiny_task()
    stream, teacher = unlabelled(task, RECIPE), tiny_network().module

    def run(weight):
        options = DistillationOptions(weight=weight)
        objective = Distillation.of(teacher, task.loss, options)
        return train(tiny_network(1).module, task, RECIPE, 0, objective=objective, stream=stream)

    assert run(1.0).epochs[-1].train_loss > 0
    with pytest.raises(TrainingError, match="needs labels"):
        run(0.5)


class TwoClassifiers(nn.Module):
    def __init__(self):
        super().__init__()
        self.own, self.taught = nn.Linear(64, 3), nn.Linear(64, 3)

    def forward(self, images):
        return torch.stack(self.classifier_logits(images)).mean(0)

    def classifier_logits(self, images):
        return [self.own(images.flatten(1)), self.taught(images.flatten(1))]


def test_labels_teach_the_first_classifier_and_the_teacher_the_last():
    module, task = TwoClassifiers(), tiny_task()
    teacher = tiny_network().module
    batch = Batch(task.train.inputs[:4], task.train.labels[:4])
    objective = Distillation.of(teacher, task.loss, DistillationOptions(weight=0.7))
    loss, metrics = objective(module, batch)
    with torch.no_grad():
        said = teacher.eval()(batch.inputs)
    own, taught = module.classifier_logits(batch.inputs)
    apart = soft_target_loss(taught, said, 4.0)
    torch.testing.assert_close(metrics["teacher_loss"], apart)
    torch.testing.assert_close(loss, 0.7 * apart + 0.3 * task.loss(own, batch.labels))
