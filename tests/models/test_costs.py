import numpy as np
import torch
from torch import nn

from nasplatform.models.costs import count_parameters
from nasplatform.models.network import Network
from nasplatform.spaces import get_space
from nasplatform.training.flops import count_macs

SHAPE = (3, 8, 6)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 5)
        self.placeholder = nn.Parameter(torch.zeros(1000))

    def forward(self, x):
        return self.linear(self.norm(self.grouped(self.conv(x))).mean((2, 3)))


def test_counts_equal_the_closed_form():
    module = Small()
    conv, grouped, linear = 3 * 4 * 9, 8 * 9, 8 * 5
    assert count_parameters(module, SHAPE) == conv + 4 + grouped + 16 + linear + 5
    assert count_macs(module, SHAPE) == conv * 48 + grouped * 12 + linear


def test_frozen_parameters_count_and_stay_frozen():
    module = Small()
    expected = count_parameters(module, SHAPE)
    module.conv.requires_grad_(False)
    with torch.no_grad():
        assert count_parameters(module, SHAPE) == expected
    assert not module.conv.weight.requires_grad
    assert module.linear.weight.requires_grad
    assert all(parameter.grad is None for parameter in module.parameters())


def test_module_without_parameters_has_none():
    assert count_parameters(nn.Flatten(), SHAPE) == 0


def test_counts_of_searched_networks_are_those_of_the_space():
    space = get_space("nasbench101", stem_channels=4, modules_per_stack=1, input_shape=(1, 8, 8))
    cells = space.sample(5, np.random.Generator(np.random.PCG64(0)))
    graphs = space.graphs(cells)
    for i, cell in enumerate(cells):
        module = Network.of(space, cell).module
        assert count_parameters(module, (1, 8, 8)) == graphs.total_params[i]


class Odd(nn.Module):
    """Uses a layer without gradients, and another one unless the image is all zeros."""

    def __init__(self):
        super().__init__()
        self.fixed = nn.Linear(6, 6)
        self.rare = nn.Linear(6, 2)

    def forward(self, x):
        with torch.no_grad():
            x = self.fixed(x)
        return self.rare(x).mean((1, 2)) if bool(x.std() > 0.1) else x.mean((1, 2))


def test_parameters_without_gradients_and_in_branches_count():
    with torch.no_grad():
        module = Odd()
        module.fixed.bias.zero_()
    assert count_parameters(module, SHAPE) == 6 * 6 + 6 + 6 * 2 + 2


def test_recurrent_and_attention_parameters_count():
    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            self.attends = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
            self.reads = nn.LSTM(6, 4, batch_first=True)

        def forward(self, x):
            return self.reads(self.attends(x[:, 0]))[0][:, -1]

    module = Sequence()
    assert count_parameters(module, SHAPE) == sum(p.numel() for p in module.parameters())
