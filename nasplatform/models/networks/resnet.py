"""ResNets of basic blocks (He et al. 2016): three stages for small images, or ResNet-18 and 34."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

FOUR_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Blocks in each stage of the networks of table 1."""


def _usual_width(known: dict[str, Any]) -> int:
    return 64 if known.get("depth") in FOUR_STAGES else 16


class ResNetOptions(BaseModel):
    """Options of ``resnet``; the defaults are ResNet-20 for CIFAR-10."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    depth: int = Field(default=20, ge=8, le=1202)
    """Layers: 6 n + 2 in three stages (20, 32, 56, ...; section 4.2), or 18 or 34 in four."""
    width: int = Field(default_factory=_usual_width, ge=1, le=8192)
    """Channels of the first stage, doubled from stage to stage; 64 for 18 and 34, 16 otherwise."""
    stem: Literal["small", "imagenet"] = "small"
    """One 3x3 convolution, as for CIFAR, or 7x7 of stride 2 and a 3x3 max-pooling of stride 2."""
    shortcut: Literal["projection", "padding"] = "projection"
    """Where the shape changes: a 1x1 convolution (option B), or zeros for the channels that are
    missing (option A, the paper's CIFAR networks: 1 % fewer parameters in ResNet-20)."""
    input_shape: tuple[int, int, int] = (3, 32, 32)
    """Channels, height, width."""
    classes: int = Field(default=10, ge=2)
    """Outputs of the classifier."""

    @field_validator("depth")
    @classmethod
    def _whole_blocks(cls, depth: int) -> int:
        if depth % 6 != 2 and depth not in FOUR_STAGES:
            raise ValueError("must be 6 n + 2, such as 20, 32 or 56, or 18 or 34")
        return depth

    @field_validator("input_shape")
    @classmethod
    def _is_an_image(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(shape) < 1:
            raise ValueError("must be three positive numbers")
        return shape

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks in each stage."""
        return FOUR_STAGES.get(self.depth, ((self.depth - 2) // 6,) * 3)


def resnet(options: ResNetOptions) -> nn.Module:
    """ResNet of He et al. for small images or ImageNet, e.g. ResNet-18, ResNet-20 and ResNet-56."""
    return ResNet(options)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, c, h, w) -> (B, c, h / stride, w / stride)."""

    def __init__(self, incoming: int, outgoing: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.first = _normalised(incoming, outgoing, 3, stride).append(nn.ReLU())
        self.second = _normalised(outgoing, outgoing, 3, 1)
        self.shortcut: nn.Module
        if incoming == outgoing and stride == 1:
            self.shortcut = nn.Identity()
        elif shortcut == "projection":
            self.shortcut = _normalised(incoming, outgoing, 1, stride)
        else:
            self.shortcut = Padding(outgoing - incoming, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Add what the block computes to the shortcut."""
        return torch.relu(self.second(self.first(inputs)) + self.shortcut(inputs))


class Padding(nn.Module):
    """Every ``stride``-th place, and channels of zeros, half of them on either side."""

    def __init__(self, added: int, stride: int) -> None:
        super().__init__()
        self.before, self.stride = added // 2, stride
        self.after = added - self.before

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, c + added, h / stride, w / stride)."""
        thinned = inputs[:, :, :: self.stride, :: self.stride]
        return functional.pad(thinned, (0, 0, 0, 0, self.before, self.after))


class ResNet(nn.Module):
    """(B, colours, h, w) -> (B, classes) logits."""

    def __init__(self, options: ResNetOptions) -> None:
        super().__init__()
        imagenet, width = options.stem == "imagenet", options.width
        stem = (7, 2) if imagenet else (3, 1)
        self.stem = _normalised(options.input_shape[0], width, *stem).append(nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
        body: list[nn.Module] = []
        incoming = width
        for stage, blocks in enumerate(options.blocks):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                body.append(BasicBlock(incoming, width << stage, stride, options.shortcut))
                incoming = width << stage
        self.body = nn.Sequential(*body)
        self.classifier = nn.Linear(incoming, options.classes)
        for child in self.modules():
            if isinstance(child, nn.Conv2d):
                nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        features: Tensor = self.body(self.pool(self.stem(images)))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def _normalised(incoming: int, outgoing: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(incoming, outgoing, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outgoing))
