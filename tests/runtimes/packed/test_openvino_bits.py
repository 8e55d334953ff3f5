"""Binary networks in OpenVINO: its binary convolutions, and what is left to floats."""

import os

import numpy as np
import pytest
import torch
from binary_networks import Block, SmallVGG, binary_conv, made, stirred_norm
from torch import nn

from nasplatform.errors import MissingExtraError, NetworkError
from nasplatform.models.binary import BinaryConv2d, BinaryLinear
from nasplatform.models.network import Network
from nasplatform.models.structure import Structure
from nasplatform.runtimes import openvino_runtime
from nasplatform.runtimes.choice import choose_runtime, noise, open_session
from nasplatform.runtimes.onnx_graph import onnx_model
from nasplatform.runtimes.openvino_runtime import OpenVino, with_binary_convolutions
from nasplatform.testing.runtimes import RuntimeContract

openvino = pytest.importorskip("openvino", reason="needs the extra 'openvino'")


class Eights(nn.Sequential):
    """All channels by eights."""

    def __init__(self):
        stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), stirred_norm(16), nn.ReLU())
        pool, head = nn.AdaptiveAvgPool2d(1), nn.Linear(40, 3)
        super().__init__(stem, Block(16, 16, 1), Block(16, 40, 2), pool, nn.Flatten(), head)


class TestBinaryNetworks(RuntimeContract):
    runtime_name = "openvino"

    def network(self):
        return Network(made(Eights), Structure({}))


def read(module, shape):
    graph = openvino.Core().read_model(
        onnx_model(module.eval(), torch.zeros(1, *shape)).SerializeToString()
    )
    graph.reshape([1, *shape])
    return graph


def kinds(graph):
    return [node.get_type_name() for node in graph.get_ordered_ops()]


@pytest.mark.parametrize(
    ("inputs", "outputs", "geometry"),
    [
        (8, 1, {}),
        (16, 5, {"padding": (1, 1)}),
        (40, 17, {"padding": (2, 0), "stride": (2, 1)}),
        (32, 16, {"padding": (2, 2), "dilation": (2, 2)}),
        (64, 64, {"padding": (1, 1), "stride": (2, 2)}),
        (72, 33, {"padding": "same"}),
        (136, 8, {"padding": "valid", "dilation": (1, 3)}),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_binary_convolutions_are_exact(inputs, outputs, geometry, batch):
    """Images with zeros of both signs, which are +1, and padding, which is none of both."""
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, 3, 3, generator=rng)
    module = (
        nn.Sequential(
            BinaryConv2d.from_signs(weight, torch.ones(outputs), **geometry), nn.Flatten()
        )
        .eval()
        .requires_grad_(False)
    )
    images = torch.randn(batch, inputs, 9, 8, generator=rng)
    images[:, :, ::3], images[:, :, 1::3, ::2] = 0.0, -0.0
    session = OpenVino().compile(module, (inputs, 9, 8))
    assert np.array_equal(session.run(images.numpy()), module(images).numpy())
    graph = read(module, (inputs, 9, 8))
    assert with_binary_convolutions(graph)
    assert "BinaryConvolution" in kinds(graph)
    assert "Convolution" not in kinds(graph)


def test_what_has_no_bits_there_stays_in_floats():
    """Groups, odd channels, linear layers, and floats by weights that happen to be signs."""
    first = nn.Conv2d(16, 16, 3, bias=False)
    first.weight.data = first.weight.data.sign()
    groups, odd = binary_conv(16, 12, groups=2), binary_conv(12, 4)
    linear = BinaryLinear.from_signs(torch.randn(5, 4 * 36), torch.ones(5))
    for layer in (groups, odd):
        layer.scale.data[:] = 1  # other scales, folded into weights, leave no sum exactly 0
    module = nn.Sequential(first, groups, odd, nn.Flatten(), linear).eval().requires_grad_(False)
    graph = read(module, (16, 8, 8))
    assert with_binary_convolutions(graph) == []
    assert "BinaryConvolution" not in kinds(graph)
    session = OpenVino().compile(module, (16, 8, 8))
    images = noise((16, 8, 8), 2)
    assert np.allclose(session.run(images), module(torch.from_numpy(images)).numpy(), atol=1e-4)


def test_networks_run_in_batches_of_any_size():
    chosen = open_session(made(Eights), (1, 8, 8), "openvino", (1, 7, 64, 3, 5, 7))
    assert (chosen.session.runtime, chosen.note) == ("openvino", "")


def test_the_machine_is_left_as_it_was():
    before = os.sched_getaffinity(0)
    session = OpenVino().compile(made(SmallVGG), (1, 8, 8), threads=2)
    session.run(noise((1, 8, 8), 2))
    assert os.sched_getaffinity(0) == before


def test_wrong_images_are_named():
    with pytest.raises(NetworkError, match=r"images are float32 \(2, 1, 9, 8\), expected"):
        OpenVino().compile(made(SmallVGG), (1, 8, 8)).run(noise((1, 9, 8), 2))


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(openvino_runtime, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nasplatform\[openvino\]'"):
        choose_runtime("openvino")


def test_it_is_nobodys_default():
    assert choose_runtime(None, made(SmallVGG)).name == "packed"
