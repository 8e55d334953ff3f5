"""A network in one file: no search found it, the stages take it as they take a winner."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch import nn


class PlainOptions(BaseModel):
    """Every network needs ``input_shape`` and ``classes``: the data set of a file sets them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    width: int = Field(default=8, ge=1, description="channels of each convolution")
    layers: int = Field(default=2, ge=1, description="convolutions")
    input_shape: tuple[int, int, int] = Field((1, 8, 8), description="channels, height, width")
    classes: int = Field(10, ge=2, description="outputs of the classifier")


def plain(options: PlainOptions) -> nn.Module:
    """Convolutions, the mean over all pixels, a classifier: (B, c, h, w) -> (B, classes)."""
    layers: list[nn.Module] = []
    incoming = options.input_shape[0]
    for _ in range(options.layers):
        convolution = nn.Conv2d(incoming, options.width, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(options.width), nn.ReLU()]
        incoming = options.width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(incoming, options.classes)]
    return nn.Sequential(*layers, *head)
