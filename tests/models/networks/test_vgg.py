import itertools

import pytest
import torch

from nasplatform.errors import ConfigError
from nasplatform.models.network import Network


def test_parameters_are_those_of_the_binary_networks_papers():
    """4.57 million in the convolutions and 4.6 million in all, by hand."""
    widths = (3, 128, 128, 256, 256, 512, 512)
    convolutions = sum(9 * a * b for a, b in itertools.pairwise(widths))
    assert convolutions == 4_574_592
    module = Network.named("vgg-small").module
    normalisations, classifier = 2 * sum(widths[1:]), 512 * 4 * 4 * 10 + 10
    found = sum(parameter.numel() for parameter in module.parameters())
    assert found == convolutions + normalisations + classifier == 4_660_106


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 15)])
def test_other_shapes(shape):
    module = Network.named("vgg-small", width=2, input_shape=shape, classes=5).module
    assert module(torch.zeros(2, *shape)).shape == (2, 5)


def test_an_image_too_small_to_be_halved_is_refused():
    with pytest.raises(ConfigError, match=r"network 'vgg-small'\.input_shape.*at least 8"):
        Network.named("vgg-small", input_shape=(3, 7, 32))
