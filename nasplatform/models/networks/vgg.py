"""VGG-small, the plain network of the literature on binary and low-bit networks."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import nn

MULTIPLES = (1, 1, 2, 2, 4, 4)
"""Widths of the six convolutions; every second one is followed by a 2x2 max-pooling."""


class VGGSmallOptions(BaseModel):
    """Options of ``vgg-small``; the defaults are the network of the papers for CIFAR-10."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(default=128, ge=1, le=8192)
    """Channels of the first two convolutions; the others have twice and four times as many."""
    input_shape: tuple[int, int, int] = (3, 32, 32)
    """Channels, height, width; the sides are halved three times."""
    classes: int = Field(default=10, ge=2)
    """Outputs of the classifier."""

    @field_validator("input_shape")
    @classmethod
    def _can_be_halved(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if shape[0] < 1 or min(shape[1:]) < 8:
            raise ValueError("must be one channel or more and sides of at least 8")
        return shape


def vgg_small(options: VGGSmallOptions) -> nn.Module:
    """VGG-small: six 3x3 convolutions and one linear layer (Zhang et al. 2018, LQ-Nets).

    Pooling comes before normalisation, as in networks of binary activations, whose signs a later
    pooling would make nearly all positive.
    """
    layers: list[nn.Module] = []
    incoming, height, width = options.input_shape
    for index, multiple in enumerate(MULTIPLES):
        outgoing = multiple * options.width
        layers.append(nn.Conv2d(incoming, outgoing, 3, padding=1, bias=False))
        if index % 2:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        layers += [nn.BatchNorm2d(outgoing), nn.ReLU()]
        incoming = outgoing
    classifier = nn.Linear(incoming * height * width, options.classes)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(*layers, nn.Flatten(), classifier)
