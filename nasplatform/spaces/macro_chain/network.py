"""The network of a chain: batch normalisation and ReLU6 as in MobileNetV2 (Sandler et al., 2018).

The modules are plain and the forward pass branches on no tensor, so that it can be traced,
exported and taken apart by stages. Convolutions start from He's normal weights (fan out).
"""

from __future__ import annotations

from torch import Tensor, nn

from nasplatform.spaces.macro_chain.chains import Block, Chain
from nasplatform.spaces.macro_chain.skeleton import Skeleton


class ConvNormReLU6(nn.Sequential):
    """Convolution without bias, batch normalisation, ReLU6."""

    def __init__(
        self, incoming: int, outgoing: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(incoming, outgoing, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outgoing),
            nn.ReLU6(),
        )


class InvertedResidual(nn.Module):
    """1x1 expansion (none for expansion 1), depthwise window, linear 1x1 projection.

    (B, in, h, w) -> (B, out, ceil(h / stride), ceil(w / stride)); ``residual`` adds the input.
    """

    def __init__(
        self, incoming: int, outgoing: int, block: Block, stride: int, residual: bool
    ) -> None:
        super().__init__()
        inside = incoming * block.expansion
        self.residual = residual
        expand = [ConvNormReLU6(incoming, inside, 1)] if block.expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            ConvNormReLU6(inside, inside, block.kernel, stride, groups=inside),
            nn.Conv2d(inside, outgoing, 1, bias=False),
            nn.BatchNorm2d(outgoing),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the block."""
        changed: Tensor = self.layers(inputs)
        return inputs + changed if self.residual else changed


class Network(nn.Module):
    """Stem, the chain, and a linear classifier of the mean map."""

    def __init__(self, chain: Chain, skeleton: Skeleton) -> None:
        super().__init__()
        width = skeleton.stem_channels
        self.stem = ConvNormReLU6(skeleton.input_shape[0], width, 3, skeleton.stem_stride)
        body: list[nn.Module] = []
        for stage in chain.stages:
            for place, block in enumerate(stage.blocks):
                stride = 1 if place else stage.stride
                body.append(InvertedResidual(width, stage.width, block, stride, place > 0))
                width = stage.width
        self.body = nn.Sequential(*body)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, skeleton.classes)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """(B, colours, h, w) -> (B, classes) logits."""
        features: Tensor = self.pool(self.body(self.stem(images)))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
