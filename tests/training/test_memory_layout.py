import pytest
import torch
from torch import nn

from nasplatform.testing.tiny import tiny_task
from nasplatform.training.distillation import Distillation, DistillationOptions
from nasplatform.training.layout import fastest_layout, laid_out
from nasplatform.training.loop import train
from nasplatform.training.recipe import Recipe
from nasplatform.training.seeding import seeded

TASK = tiny_task()  # 1 x 8 x 8 images of 3 classes


class Viewed(nn.Module):
    """Views its maps as vectors, as most code for small images does."""

    def __init__(self, reshape: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1))
        self.linear = nn.Linear(144, 3)
        self.reshape = reshape

    def forward(self, x):
        x = self.conv(x).relu()
        return self.linear(x.reshape(len(x), -1) if self.reshape else x.view(x.size(0), -1))


class Volume(nn.Module):
    """Convolutions of three dimensions, whose weights have five axes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv3d(1, 4, (1, 3, 3)), nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(self.conv(x[:, None]).mean((2, 3, 4)))


def test_layout_is_channels_last_where_the_code_allows_it():
    assert fastest_layout(Viewed(reshape=True), TASK.input_shape) == torch.channels_last
    assert fastest_layout(Viewed(), TASK.input_shape) == torch.contiguous_format


@pytest.mark.parametrize("make", [Viewed, Volume])
def test_networks_train_whatever_their_code_asks_of_memory(make):
    with seeded(0):
        module, teacher = make(), make()
    images = TASK.test.inputs[:]
    before = module(images).detach()
    objective = Distillation.of(teacher, TASK.loss, DistillationOptions())
    train(module, TASK, Recipe(epochs=1, batch_size=16), 0, objective=objective)
    assert module(images).shape == before.shape
    assert not torch.equal(module(images), before)


def test_viewing_and_reshaping_train_alike():
    trained = []
    for reshape in (False, True):
        with seeded(0):
            module = Viewed(reshape)
        train(module, TASK, Recipe(epochs=1, batch_size=16), 0)
        trained.append(module(TASK.test.inputs[:]).detach())
    torch.testing.assert_close(*trained, rtol=1e-4, atol=1e-5)


def test_only_tensors_of_four_axes_are_laid_out():
    module = laid_out(nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv3d(2, 2, 3), nn.Linear(2, 2)))
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module[1].weight.is_contiguous()


@pytest.mark.parametrize(
    ("channels", "layout"), [(4, torch.contiguous_format), (8, torch.channels_last)]
)
def test_torch_is_not_given_a_layout_that_breaks_its_backward_pass(channels, layout):
    shortcut = nn.Sequential(nn.Conv2d(1, channels, 3), nn.Conv2d(channels, 8, 1, stride=2))
    assert fastest_layout(shortcut, (1, 8, 8)) is layout
