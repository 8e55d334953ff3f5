"""The adversary against slow computations in numpy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nasplatform.errors import StageError
from nasplatform.models.network import Network
from nasplatform.stages.distill.alignment import (
    Discriminator,
    ramp,
    reversed_gradient,
    source_accuracy,
    source_loss,
)
from nasplatform.stages.distill.features import (
    FeatureMap,
    feature_maps,
    low_level_map,
    named_map,
    tapped,
)
from nasplatform.testing.tiny import tiny_network


def test_ramp_is_that_of_dann():
    assert ramp(0) == 0
    assert ramp(0.3) == pytest.approx(2 / (1 + math.exp(-3)) - 1)
    assert ramp(0.5) == pytest.approx(math.tanh(2.5))


def test_gradient_is_reversed_and_weighed():
    features = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    made = reversed_gradient(features, 0.25)
    assert torch.equal(made, features)
    (made * torch.tensor([1.0, 2.0, 4.0])).sum().backward()
    assert features.grad.tolist() == [-0.25, -0.5, -1.0]


def test_source_loss_is_the_mean_cross_entropy_of_both_sources():
    logits = torch.tensor([2.0, -1.0, 0.5, 3.0, -4.0])
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    expected = (-np.log(p[:2]).mean() - np.log(1 - p[2:]).mean()) / 2
    assert float(source_loss(logits, 2)) == pytest.approx(expected, rel=1e-6)
    assert float(source_accuracy(logits, 2)) == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_discriminator_sees_mean_and_deviation_of_channels():
    torch.manual_seed(0)
    discriminator = Discriminator(3, 4).double()
    features = torch.randn(5, 3, 7, dtype=torch.float64)
    found = discriminator(features).detach().numpy()
    x = features.numpy()
    seen = np.concatenate([x.mean(2), np.sqrt(x.var(2) + 1e-5)], 1)
    seen = (seen - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-5)
    first, _, last = discriminator.layers
    hidden = seen @ first.weight.detach().numpy().T + first.bias.detach().numpy()
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    expected = hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_allclose(found, expected[:, 0])


@pytest.mark.parametrize(
    ("network", "shape", "name"),
    [
        (Network.named("resnet", depth=20), (3, 32, 32), "body.5"),  # 32, 16 | 8
        (tiny_network(), (1, 8, 8), "layers.3"),  # 8, 4 | 2
    ],
)
def test_low_level_map_is_the_last_before_the_second_halving(network, shape, name):
    assert low_level_map(feature_maps(network.module, shape), shape).name == name


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([64, 64, 16, 16, 4, 1], 3),
        ([49, 16, 4], 1),  # 7 x 7, 4 x 4, 2 x 2: odd sides
        ([64, 64, 16, 16], 1),  # halved once
        ([64, 64, 64, 64], 2),  # never
        ([4, 5, 5], 0),  # patches of 4 x 4 pixels, then tokens and one more
        ([64, 60, 1], 1),  # a global pooling
    ],
)
def test_low_level_map_of_other_shapes(places, expected):
    maps = [FeatureMap(str(index), 3, count) for index, count in enumerate(places)]
    side = 7 if places[0] == 49 else 8
    assert low_level_map(maps, (1, side, side)).name == str(expected)


def test_maps_of_tokens_have_channels_last():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.block = nn.Conv2d(1, 6, 4, 4), nn.Linear(6, 5)

        def forward(self, images):
            return self.block(self.patches(images).flatten(2).transpose(1, 2)).mean(1)

    module = Tokens()
    maps = feature_maps(module, (1, 8, 8))
    assert maps == [FeatureMap("patches", 6, 4), FeatureMap("block", 5, 4)]
    with tapped(module, ["block"]) as made:
        logits = module(torch.ones(2, 1, 8, 8))
    torch.testing.assert_close(made["block"].mean(2), logits)
    assert not module.block._forward_hooks


def test_tap_that_does_not_exist_is_named():
    maps = feature_maps(tiny_network().module, (1, 8, 8))
    assert named_map(maps, "layers.1").places == 64
    with pytest.raises(StageError, match=r"tap 'layer.1' names no feature map .* layers.1"):
        named_map(maps, "layer.1")
