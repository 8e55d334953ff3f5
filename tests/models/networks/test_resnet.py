import pytest
import torch
from torch import nn

from nasplatform.errors import ConfigError, PluginError
from nasplatform.models.network import Network
from nasplatform.models.networks.resnet import Padding
from nasplatform.testing.tiny import tiny_task
from nasplatform.training.evaluation import predict
from nasplatform.training.flops import count_macs

CIFAR = (3, 32, 32)


IMAGENET = {"stem": "imagenet", "input_shape": (3, 224, 224), "classes": 1000}


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        # He et al., table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million
        ({"depth": 20, "shortcut": "padding"}, 269_722),
        ({"depth": 32, "shortcut": "padding"}, 464_154),
        ({"depth": 44, "shortcut": "padding"}, 658_586),
        ({"depth": 56, "shortcut": "padding"}, 853_018),
        ({"depth": 110, "shortcut": "padding"}, 1_727_962),
        ({"depth": 56, "shortcut": "padding", "classes": 100}, 858_868),
        # two projections of 16 x 32 and 32 x 64 weights and their normalisations more
        ({"depth": 20}, 269_722 + 2_560 + 192),
        ({"depth": 8, "width": 8}, 19_954),
        # the usual CIFAR forms of the papers on distillation and binary networks
        ({"depth": 18}, 11_173_962),
        ({"depth": 34}, 21_282_122),
        ({"depth": 34, "classes": 100}, 21_328_292),
        # torchvision's table of weights
        ({"depth": 18, **IMAGENET}, 11_689_512),
        ({"depth": 34, **IMAGENET}, 21_797_672),
    ],
)
def test_parameters_are_those_published(options, parameters):
    module = Network.named("resnet", **options).module
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters


@pytest.mark.parametrize(("depth", "projections"), [(20, 2), (18, 3), (34, 3)])
def test_depth_counts_layers_without_projections(depth, projections):
    module = Network.named("resnet", depth=depth, width=2).module
    convolutions = [child for child in module.modules() if isinstance(child, nn.Conv2d)]
    assert len(convolutions) - projections + 1 == depth


@pytest.mark.parametrize(
    ("options", "shape", "published"),
    [
        ({"depth": 20, "shortcut": "padding"}, CIFAR, 40.55e6),
        ({"depth": 18}, CIFAR, 0.5556e9),
        # table 1 of He et al. rounds to 1.8 and 3.6; torchvision says 1.814 and 3.664
        ({"depth": 18, **IMAGENET}, (3, 224, 224), 1.814e9),
        ({"depth": 34, **IMAGENET}, (3, 224, 224), 3.664e9),
    ],
)
def test_multiply_adds_are_those_published(options, shape, published):
    macs = count_macs(Network.named("resnet", **options).module, shape)
    assert macs == pytest.approx(published, rel=1e-3)


def test_padding_takes_every_second_place_and_adds_zeros_on_both_sides():
    images = torch.randn(2, 3, 5, 4)
    found = Padding(3, 2)(images)
    assert torch.equal(found[:, 1:4], images[:, :, ::2, ::2])
    assert not found[:, [0, 4, 5]].any()
    assert found.shape == (2, 6, 3, 2)


def test_it_is_saved_and_loaded_by_name(tmp_path):
    network = Network.named("resnet", 3, depth=8, width=4, input_shape=(1, 8, 8), classes=3)
    network.save(tmp_path / "n")
    loaded = Network.load(tmp_path / "n")
    images = tiny_task().test.inputs[:]
    assert loaded.structure == network.structure
    assert torch.equal(predict(loaded.module, images), predict(network.module, images))
    other = network.fresh(4)
    assert not torch.equal(predict(other.module, images), predict(network.module, images))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 21}, r"network 'resnet'\.depth.*6 n \+ 2.*18 or 34"),
        ({"stem": "large"}, r"network 'resnet'\.stem"),
        ({"input_shape": (3, 0, 4)}, "three positive numbers"),
        ({"widht": 8}, "unknown key 'widht'; did you mean 'width'"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        Network.named("resnet", **options)


def test_unknown_network_is_refused():
    with pytest.raises(PluginError, match="did you mean 'resnet'"):
        Network.named("resnett")
