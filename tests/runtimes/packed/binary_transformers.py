"""Transformers with binary layers for the tests of the packed runtime."""

import torch
from torch import nn
from transformer_kinds import CLASSES, EVERY, SHAPE

from nasplatform.models.binary import BinaryLinear, put_layers
from nasplatform.spaces.vit.network import Network


class Transformer(nn.Module):
    """One of the space ``vit`` of which all linear layers of the blocks are binary."""

    def __init__(self, kind: str = "class") -> None:
        super().__init__()
        self.network = binary_transformer(EVERY[kind], SHAPE)

    def forward(self, images):
        return self.network(images)


def binary_transformer(architecture, shape) -> nn.Module:
    """Weights and biases of every layer at random, as after a training."""
    network = Network(architecture, shape, CLASSES).eval()
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3)
    layers = {
        layer: BinaryLinear.from_signs(
            layer.weight,
            layer.weight.abs().mean(1),
            shift=torch.randn(layer.in_features) / 4,
            bias=torch.randn(layer.out_features),
        )
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and "blocks" in name
    }
    return put_layers(network, layers)
