"""The loss against numpy, whichever stream has the labels, and one or two heads."""

import numpy as np
import pytest
import torch
from torch import nn

from nasplatform.models.outputs import MainOutput
from nasplatform.stages.distill.alignment import Discriminator
from nasplatform.stages.distill.objective import Aligner, UnlabelledDistillation
from nasplatform.training.distillation import DistillationOptions
from nasplatform.training.objective import Batch
from nasplatform.training.task import cross_entropy

RNG = torch.Generator().manual_seed(0)


def draw(*shape):
    return torch.randn(shape, generator=RNG, dtype=torch.float64)


class Student(nn.Module):
    """A map of two channels, then logits of the means."""

    def __init__(self):
        super().__init__()
        self.low = nn.Conv2d(1, 2, 1).double()
        self.head = nn.Linear(2, 3).double()

    def forward(self, images):
        return self.head(self.low(images).mean((2, 3)))


class TwoHeads(Student):
    def __init__(self):
        super().__init__()
        self.other = nn.Linear(2, 3).double()

    def forward(self, images):
        return torch.stack(self.classifier_logits(images)).mean(0)

    def classifier_logits(self, images):
        means = self.low(images).mean((2, 3))
        return [self.head(means), self.other(means)]


def log_softmax(x):
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def expected(own, taught, said, labels, options):
    """Compute the loss without the adversary."""
    if options.hard:
        apart = -log_softmax(taught)[np.arange(len(said)), said.argmax(1)].mean()
    else:
        t = options.temperature
        soft, found = log_softmax(said / t), log_softmax(taught / t)
        apart = (np.exp(soft) * (soft - found)).sum(1).mean() * t**2
    by_labels = -log_softmax(own)[np.arange(len(labels)), labels].mean()
    return options.weight * apart + (1 - options.weight) * by_labels


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("labelled_first", [False, True])
@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("kind", [Student, TwoHeads])
def test_loss_is_labels_teacher_and_nothing_else(hard, labelled_first, answered, kind):
    student, teacher = kind().train(), Student()
    options = DistillationOptions(weight=0.7, temperature=3.0, hard=hard)
    objective = UnlabelledDistillation(teacher, cross_entropy, options)
    images, more = draw(4, 1, 2, 2), draw(6, 1, 2, 2)
    labels = torch.tensor([0, 2, 1, 1])
    with torch.no_grad():
        said, said_more = teacher(images), teacher(more)
    known = (said, said_more) if answered else (None, None)
    first = Batch(images, labels, None, known[0])
    second = Batch(more, None, None, known[1])
    if answered:
        objective.teacher = None  # not asked again
    if labelled_first:
        batch = Batch(images, labels, second, known[0])
    else:
        batch = Batch(more, None, first, known[1])
    found, metrics = objective(MainOutput(student, 3), batch)
    every = torch.cat([images, more])
    made = student(every)
    own, taught = student.classifier_logits(every) if kind is TwoHeads else (made, made)
    own, taught = own[:4].detach().numpy(), taught.detach().numpy()
    every = torch.cat([said, said_more]).numpy()
    assert float(found.detach()) == pytest.approx(
        expected(own, taught, every, labels.numpy(), options)
    )
    assert set(metrics) == {"teacher_loss", "label_loss"}


def test_adversary_pushes_the_low_layers_the_other_way():
    student, teacher = Student(), Student()
    discriminator = Discriminator(2, 4).double()
    aligner = Aligner("low", discriminator)
    options = DistillationOptions(weight=0.5)
    plain = UnlabelledDistillation(teacher, cross_entropy, options)
    objective = UnlabelledDistillation(teacher, cross_entropy, options, aligner)
    first = Batch(draw(3, 1, 4, 4), torch.tensor([0, 1, 2]))
    batch = Batch(draw(5, 1, 4, 4) - 1, None, first)

    def gradients(objective):
        student.zero_grad()
        loss, metrics = objective(student, batch)
        loss.backward()
        return student.low.weight.grad.clone(), student.head.weight.grad.clone(), metrics

    low, head, _ = gradients(plain)
    aligner.factor = 0.3
    pushed, same, metrics = gradients(objective)
    torch.testing.assert_close(same, head)
    # the adversary's own gradient, by hand
    student.zero_grad()
    logits = discriminator(student.low(torch.cat([first.inputs, batch.inputs])).flatten(2))
    sign = torch.tensor([-1.0] * 3 + [1.0] * 5, dtype=torch.float64)
    each = torch.log1p(torch.exp(sign * logits))
    adversary = (each[:3].mean() + each[3:].mean()) / 2
    adversary.backward()
    torch.testing.assert_close(metrics["alignment_loss"].detach(), adversary.detach().float())
    torch.testing.assert_close(pushed, low - 0.3 * student.low.weight.grad)
    learnt = [p.grad.clone() for p in discriminator.parameters()]
    discriminator.zero_grad()
    gradients(objective)
    for found, twice in zip(discriminator.parameters(), learnt, strict=True):
        torch.testing.assert_close(found.grad * 2, twice)  # learns at its full rate, both times


def test_objective_does_not_train_its_teacher():
    teacher = nn.Linear(2, 2)
    objective = UnlabelledDistillation(lambda x: teacher(x), cross_entropy, DistillationOptions())
    assert not list(objective.parameters())
    assert not objective.state_dict()
