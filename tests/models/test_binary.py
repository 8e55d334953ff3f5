"""Binary layers compute with signs, keep one bit a weight, and come back from a folder."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nasplatform.errors import NetworkError
from nasplatform.models.binary import (
    BinaryConv2d,
    BinaryLinear,
    binarized,
    binary_layers,
    describe_layers,
    sign,
)
from nasplatform.models.edits import Edit
from nasplatform.models.network import WEIGHTS, Network


def test_sign_of_zero_is_plus_one():
    values = torch.tensor([-1.0, -0.0, 0.0, 1e-30, -1e-30, float("nan")])
    assert sign(values).tolist() == [-1, 1, 1, 1, -1, -1]


@pytest.mark.parametrize(("groups", "stride", "padding", "dilation"), [
    (1, (1, 1), (1, 1), (1, 1)),
    (2, (2, 1), (0, 2), (1, 2)),
    (3, (1, 1), "same", (1, 1)),
])  # fmt: skip
def test_convolution_is_that_of_the_signs(groups, stride, padding, dilation):
    torch.manual_seed(0)
    weight, inputs = torch.randn(6, 12 // groups, 3, 3), torch.randn(2, 12, 9, 8)
    scale, shift, bias = torch.rand(6), torch.randn(12), torch.randn(6)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    layer = BinaryConv2d.from_signs(weight, scale, shift=shift, bias=bias, **geometry)
    signs = torch.where(inputs + shift.view(1, -1, 1, 1) >= 0, 1.0, -1.0).double()
    sums = functional.conv2d(signs, torch.where(weight >= 0, 1.0, -1.0).double(), **geometry)
    expected = sums.float() * scale.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)
    assert torch.equal(layer(inputs), expected)


def test_linear_layer_is_the_product_of_the_signs():
    torch.manual_seed(0)
    weight, inputs, scale = torch.randn(5, 13), torch.randn(2, 3, 13), torch.rand(5)
    layer = BinaryLinear.from_signs(weight, scale)
    expected = (torch.sign(inputs) @ torch.sign(weight).T) * scale
    assert torch.equal(layer(inputs), expected)


def test_state_holds_one_bit_a_weight():
    layer = BinaryConv2d.from_signs(torch.randn(6, 5, 3, 3), torch.ones(6))
    assert set(layer.state_dict()) == {"bits", "scale"}
    assert layer.bits.shape == (6, 6)  # 45 weights
    assert layer.bits.dtype == torch.uint8


def test_unpacked_signs_follow_the_bits():
    layer, inputs = BinaryLinear.from_signs(torch.ones(2, 9), torch.ones(2)), torch.ones(1, 9)
    assert layer(inputs).tolist() == [[9, 9]]
    other = copy.deepcopy(layer)
    layer.load_state_dict(BinaryLinear.from_signs(-torch.ones(2, 9), torch.ones(2)).state_dict())
    assert layer(inputs).tolist() == [[-9, -9]]
    assert other(inputs).tolist() == [[9, 9]]


def binary_network() -> Network:
    """A small ResNet whose inner 3x3 convolutions are binary."""
    network = Network.named("resnet", depth=8, width=8, input_shape=(1, 8, 8))
    names = [n for n, m in network.module.named_modules()
             if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) and n != "stem.0"]  # fmt: skip
    layers = {}
    for name in names:
        conv = network.module.get_submodule(name)
        layer = BinaryConv2d.like(conv, shift=True, bias=False)
        shift = 0.1 * torch.randn(conv.in_channels)
        scale = conv.weight.abs().mean((1, 2, 3))
        layers[name] = layer.set_state(conv.weight, scale, shift, None)
    edit = Edit("binarized", 1, describe_layers(layers))
    module = edit.apply(copy.deepcopy(network.module))
    for name, layer in layers.items():
        module.get_submodule(name).load_state_dict(layer.state_dict())
    return network.edited(module, edit)


def test_network_comes_back_from_its_folder(tmp_path):
    network = binary_network()
    network.save(tmp_path / "network")
    loaded = Network.load(tmp_path / "network")
    images = torch.randn(3, 1, 8, 8)
    assert len(binary_layers(loaded.module)) == 6
    assert torch.equal(loaded.module.eval()(images), network.module.eval()(images))
    floats = sum(p.numel() for p in network.module.parameters()) * 4
    bits = sum(layer.bits.numel() for layer in binary_layers(network.module).values())
    buffers = sum(b.nbytes for b in network.module.buffers())
    assert (tmp_path / "network" / WEIGHTS).stat().st_size < floats + buffers + 12_000
    assert bits == sum(layer.binary_weights for layer in binary_layers(network.module).values()) / 8


def test_a_layer_held_twice_stays_shared():
    layer = nn.Linear(4, 4)
    module = binarized(
        nn.Sequential(layer, nn.ReLU(), layer),
        {"layers": {"0": {"kind": "linear", "shift": False, "bias": True}}},
    )
    assert module[0] is module[2]
    assert isinstance(module[0], BinaryLinear)


@pytest.mark.parametrize(("entry", "words"), [
    ({"0": {"kind": "linear", "shift": False, "bias": False}}, "it is a Conv2d, expected Linear"),
    ({"0": {"kind": "conv3d", "shift": False, "bias": False}}, "conv3d"),
    ({"7": {"kind": "conv2d", "shift": False, "bias": False}}, "layer '7' cannot be binarised"),
    ({"1": {"kind": "conv2d", "shift": False, "bias": False}}, "pads with 'circular'"),
])  # fmt: skip
def test_layers_that_are_not_what_the_edit_says_are_refused(entry, words):
    module = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3, padding_mode="circular"))
    with pytest.raises(NetworkError, match=words):
        binarized(module, {"layers": entry})


def test_wrong_shapes_are_refused():
    with pytest.raises(NetworkError, match=r"scale is of shape \(3,\), expected \(2,\)"):
        BinaryLinear.from_signs(torch.ones(2, 9), torch.ones(3))
    layer = BinaryLinear(9, 2)
    with pytest.raises(NetworkError, match="the layer has no bias"):
        layer.set_state(torch.ones(2, 9), torch.ones(2), None, torch.ones(2))


def test_order_of_the_bits_is_lowest_first():
    weight = torch.tensor([[1.0, -1, -1, 1, -1, -1, -1, -1, 1]])
    assert BinaryLinear.from_signs(weight, torch.ones(1)).bits.tolist() == [[0b1001, 1]]
    assert np.array_equal(BinaryLinear.from_signs(weight, torch.ones(1)).signs(), weight)
