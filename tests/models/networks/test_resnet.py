import pytest
import torch
from torch import nn

from nasplatform.errors import ConfigError, PluginError
from nasplatform.models.costs import count_parameters
from nasplatform.models.network import Network
from nasplatform.testing.tiny import tiny_task
from nasplatform.training.evaluation import predict
from nasplatform.training.flops import count_macs

CIFAR = (3, 32, 32)


@pytest.mark.parametrize(("depth", "published"), [(20, 0.27), (32, 0.46), (56, 0.85)])
def test_sizes_are_those_of_the_paper(depth, published):
    """Table 6 of He et al., in millions; the projections add a little."""
    module = Network.named("resnet", depth=depth).module
    convolutions = [child for child in module.modules() if isinstance(child, nn.Conv2d)]
    assert len(convolutions) - 2 + 1 == depth  # two projections are not counted, the head is
    assert count_parameters(module, CIFAR) / 1e6 == pytest.approx(published, abs=0.008)


def test_multiply_adds_of_resnet20():
    """40.55 million (He et al.'s network), and projections of 16 x 32 x 256 and 32 x 64 x 64."""
    macs = count_macs(Network.named("resnet").module, CIFAR)
    assert macs - 2 * 131_072 == pytest.approx(40.55e6, rel=1e-3)


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
        ({"depth": 21}, r"network 'resnet'\.depth.*6 n \+ 2"),
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
