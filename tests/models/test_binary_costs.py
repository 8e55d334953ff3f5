import torch
from torch import nn

from nasplatform.models.binary import BinaryConv2d
from nasplatform.models.costs import count_operations, count_parameters, state_bytes

SHAPE = (4, 6, 6)


def network():
    binary = BinaryConv2d.from_signs(torch.randn(8, 4, 3, 3), torch.ones(8), shift=torch.zeros(4))
    return nn.Sequential(binary, nn.Conv2d(8, 2, 1), nn.Flatten()).eval()


def test_signs_and_floats_are_counted_apart():
    found = count_operations(network(), SHAPE)
    assert (found.macs, found.binary_macs) == (16 * 8 * 2, 16 * 8 * 36)
    assert not any(m._forward_hooks for m in network().modules())


def test_weights_of_one_bit_are_parameters_too():
    assert count_parameters(network(), SHAPE) == 8 * 36 + 8 + 4 + 16 + 2


def test_bytes_are_told_apart_by_what_they_are():
    found = state_bytes(network())
    assert (found.binary, found.scales, found.full_precision) == (8 * 5, 4 * 12, 4 * 18)
