"""VGG-small: six convolutions and one linear layer, the usual binary network without shortcuts."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class VGGSmallOptions(BaseModel):
    """Options of ``vgg-small``; the defaults are the network of the binary literature."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(default=128, ge=1)
    """Channels of the first two convolutions; the next have twice and four times as many."""
    input_shape: tuple[int, int, int] = (3, 32, 32)
    """Channels, height, width; the sides at least 8."""
    classes: int = Field(default=10, ge=2)
    """Outputs of the classifier."""


def vgg_small(options: VGGSmallOptions) -> nn.Module:
    """VGG-small (Zhang et al., LQ-Nets, ECCV 2018) for small images."""
    return VGGSmall(options)


class VGGSmall(nn.Module):
    """(B, colours, h, w) -> (B, classes) logits."""

    def __init__(self, options: VGGSmallOptions) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        incoming = options.input_shape[0]
        for stage in range(3):
            outgoing = options.width << stage
            layers += _normalised(incoming, outgoing, nn.Identity())
            layers += _normalised(outgoing, outgoing, nn.MaxPool2d(2))
            incoming = outgoing
        self.features = nn.Sequential(*layers)
        side = (options.input_shape[1] // 8) * (options.input_shape[2] // 8)
        self.classifier = nn.Linear(incoming * side, options.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def _normalised(incoming: int, outgoing: int, pooling: nn.Module) -> list[nn.Module]:
    """Pool before the normalisation: the largest of several numbers is mostly positive."""
    conv = nn.Conv2d(incoming, outgoing, 3, padding=1, bias=False)
    return [conv, pooling, nn.BatchNorm2d(outgoing), nn.ReLU()]
