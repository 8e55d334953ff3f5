"""ResNets for small images (He et al. 2016, section 4.2): three stages of basic blocks."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn


class ResNetOptions(BaseModel):
    """Options of ``resnet``; the defaults are ResNet-20 for CIFAR-10."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    depth: int = Field(default=20, ge=8)
    """Layers, 6 n + 2: 20, 32, 44, 56, 110, ..."""
    width: int = Field(default=16, ge=1)
    """Channels of the first stage; the others have twice and four times as many."""
    input_shape: tuple[int, int, int] = (3, 32, 32)
    """Channels, height, width."""
    classes: int = Field(default=10, ge=2)
    """Outputs of the classifier."""

    @field_validator("depth")
    @classmethod
    def _whole_blocks(cls, depth: int) -> int:
        if depth % 6 != 2:
            raise ValueError("must be 6 n + 2, such as 20, 32 or 56")
        return depth

    @field_validator("input_shape")
    @classmethod
    def _is_an_image(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(shape) < 1:
            raise ValueError("must be three positive numbers")
        return shape


def resnet(options: ResNetOptions) -> nn.Module:
    """ResNet of He et al. for small images, e.g. ResNet-20 and ResNet-56."""
    return ResNet(options)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, c, h, w) -> (B, outgoing, h / stride, w / stride).

    Where the shape changes the shortcut is a 1x1 convolution (the paper's option B; its CIFAR
    networks fill up with zeros, option A, which saves 1 % of the parameters of ResNet-20).
    """

    def __init__(self, incoming: int, outgoing: int, stride: int) -> None:
        super().__init__()
        self.first = _normalised(incoming, outgoing, 3, stride)
        self.second = _normalised(outgoing, outgoing, 3, 1)
        same = incoming == outgoing and stride == 1
        self.shortcut = nn.Identity() if same else _normalised(incoming, outgoing, 1, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Add what the block computes to the shortcut."""
        inner = torch.relu(self.first(inputs))
        return torch.relu(self.second(inner) + self.shortcut(inputs))


class ResNet(nn.Module):
    """(B, colours, h, w) -> (B, classes) logits."""

    def __init__(self, options: ResNetOptions) -> None:
        super().__init__()
        width, blocks = options.width, (options.depth - 2) // 6
        self.stem = _normalised(options.input_shape[0], width, 3, 1)
        body: list[nn.Module] = []
        for stage in range(3):
            for block in range(blocks):
                first = stage > 0 and block == 0
                incoming = width << (stage - 1 if first else stage)
                body.append(BasicBlock(incoming, width << stage, 2 if first else 1))
        self.body = nn.Sequential(*body)
        self.classifier = nn.Linear(width << 2, options.classes)
        for child in self.modules():
            if isinstance(child, nn.Conv2d):
                nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        features: Tensor = self.body(torch.relu(self.stem(images)))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def _normalised(incoming: int, outgoing: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(incoming, outgoing, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outgoing))
