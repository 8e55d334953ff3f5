"""Architectures of the literature as their authors draw them, for small images and widths."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from zoo_concats import Grown, joined
from zoo_members import SHAPE, Net, conv, head, kind
from zoo_mobile import Squeeze
from zoo_sums import Basic, bottleneck

from nasplatform.models.networks.resnet import ResNet, ResNetOptions

classics = kind("classics")
CLASSES = 4


def block(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    act: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Convolution, normalisation, and an activation or none."""
    layer = conv(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), *([act()] if act else []))


@classics()
def resnet20(width: int = 8) -> nn.Module:
    return ResNet(ResNetOptions(depth=20, width=width, input_shape=SHAPE, classes=CLASSES))


@classics()
def resnet50(width: int = 16) -> nn.Module:
    """Bottlenecks with a factor of four, in four stages."""
    layers: list[nn.Module] = [block(3, width)]
    for stage in range(3):
        outer = 2 * width * 2**stage
        layers += [block(width if stage == 0 else outer // 2, outer, 1, 1 + (stage > 0))]
        layers += [bottleneck(outer, outer // 4), bottleneck(outer, outer // 4)]
    return nn.Sequential(*layers, head(outer))


@classics()
def vgg(width: int = 8) -> nn.Module:
    """VGG-11 with normalisation, flattened into linear layers."""
    layers: list[nn.Module] = []
    inputs = SHAPE[0]
    for outputs in (width, 0, 2 * width, 0, 4 * width, 4 * width, 0, 8 * width, 8 * width, 0):
        layers.append(block(inputs, outputs) if outputs else nn.MaxPool2d(2))
        inputs = outputs or inputs
    last = (
        nn.Linear(inputs, 8 * width),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(8 * width, CLASSES),
    )
    return nn.Sequential(*layers, nn.Flatten(), *last)


@classics()
def densenet(width: int = 8) -> nn.Module:
    """Three dense blocks with transitions that halve channels and sides."""
    layers: list[nn.Module] = [conv(3, 2 * width, bias=False)]
    now = 2 * width
    for stage in range(3):
        for _ in range(3):
            layers.append(Grown(now, width))
            now += width
        if stage < 2:
            transition = (nn.BatchNorm2d(now), nn.ReLU(), conv(now, now // 2, 1, bias=False))
            layers += [*transition, nn.AvgPool2d(2)]
            now //= 2
    return nn.Sequential(*layers, nn.BatchNorm2d(now), nn.ReLU(), head(now))


def inverted(
    inputs: int,
    inside: int,
    outputs: int,
    kernel: int,
    stride: int,
    act: type[nn.Module],
    gate: type[nn.Module] | None,
) -> nn.Module:
    """MobileNet's inverted bottleneck, with a gate or none."""
    wide = block(inputs, inside, 1, act=act)
    deep = block(inside, inside, kernel, stride, inside, act)
    gates = [] if gate is None else [Squeeze(inside, gate)]
    body = nn.Sequential(wide, deep, *gates, block(inside, outputs, 1, act=None))
    if stride == 1 and inputs == outputs:
        return Net(lambda self, x: x + self.body(x), body=body)
    return body


def inverted_chain(
    width: int, kernels: tuple[int, ...], act: type[nn.Module], gate: type[nn.Module] | None
) -> nn.Module:
    layers: list[nn.Module] = [block(3, width, act=act)]
    inputs = width
    for stage, kernel in enumerate(kernels):
        for place in range(2):
            outputs = width * (stage + 1)
            stride = 2 if place == 0 and stage else 1
            layers.append(inverted(inputs, 4 * inputs, outputs, kernel, stride, act, gate))
            inputs = outputs
    return nn.Sequential(*layers, block(inputs, 4 * inputs, 1, act=act), head(4 * inputs))


@classics()
def mobilenet_v2(width: int = 8) -> nn.Module:
    return inverted_chain(width, (3, 3, 3), nn.ReLU6, None)


@classics()
def mobilenet_v3(width: int = 8) -> nn.Module:
    return inverted_chain(width, (3, 5, 5), nn.Hardswish, nn.Hardsigmoid)


@classics()
def efficientnet(width: int = 8) -> nn.Module:
    return inverted_chain(width, (3, 5, 3), nn.SiLU, nn.Sigmoid)


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's units: with a split, or with two branches of stride 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half, self.stride = outputs // 2, stride
        own = inputs if stride == 2 else inputs // 2
        self.left = nn.Sequential()
        if stride == 2:
            self.left = nn.Sequential(
                block(inputs, inputs, 3, 2, inputs, None), block(inputs, half, 1)
            )
        deep = block(half, half, 3, stride, half, None)
        self.right = nn.Sequential(block(own, half, 1), deep, block(half, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            made = torch.cat([self.left(x), self.right(x)], dim=1)
        else:
            kept, own = x.chunk(2, dim=1)
            made = torch.cat([kept, self.right(own)], dim=1)
        return functional.channel_shuffle(made, 2)


@classics()
def shufflenet_v2(width: int = 16) -> nn.Module:
    layers: list[nn.Module] = [block(3, width)]
    for stage in range(2):
        inputs, outputs = width * 2**stage, width * 2 ** (stage + 1)
        layers += [ShuffleUnit(inputs, outputs, 2), ShuffleUnit(outputs, outputs, 1)]
        layers += [ShuffleUnit(outputs, outputs, 1)]
    return nn.Sequential(*layers, block(outputs, 2 * outputs, 1), head(2 * outputs))


class ConvNextBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv, self.norm = conv(width, width, 7, groups=width), nn.LayerNorm(width)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(1e-1 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        made = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        made = self.gamma * self.pwconv2(functional.gelu(self.pwconv1(made)))
        return x + made.permute(0, 3, 1, 2)


@classics()
def convnext_tiny(width: int = 16) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, width, 2, 2)]
    for stage in range(2):
        now = width * 2**stage
        if stage:
            layers += [nn.GroupNorm(1, width), nn.Conv2d(width, now, 2, 2)]
        layers += [ConvNextBlock(now), ConvNextBlock(now)]
    last = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(now), nn.Linear(now, CLASSES))
    return nn.Sequential(*layers, *last)


@classics()
def googlenet(width: int = 8) -> nn.Module:
    def module(inputs: int, size: int) -> nn.Module:
        middle = nn.Sequential(block(inputs, 2 * size, 1), block(2 * size, 3 * size))
        wide = nn.Sequential(block(inputs, size, 1), block(size, size, 5))
        pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), block(inputs, size, 1))
        return joined(block(inputs, 2 * size, 1), middle, wide, pooled)

    first = (block(3, 3 * width), module(3 * width, width), module(7 * width, width))
    second = (module(7 * width, 2 * width), module(14 * width, 2 * width))
    return nn.Sequential(*first, nn.MaxPool2d(3, 2, 1), *second, head(14 * width))


@classics()
def squeezenet(width: int = 8) -> nn.Module:
    def fire(inputs: int, size: int) -> nn.Module:
        squeeze = nn.Sequential(conv(inputs, size, 1), nn.ReLU(True))
        wide = (nn.Sequential(conv(size, 4 * size, k), nn.ReLU(True)) for k in (1, 3))
        return nn.Sequential(squeeze, joined(*wide))

    first = (conv(3, 4 * width), nn.ReLU(True), fire(4 * width, width), fire(8 * width, width))
    second = (nn.MaxPool2d(2), fire(8 * width, 2 * width), fire(16 * width, 2 * width))
    last = (nn.Dropout(), conv(16 * width, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*first, *second, *last, nn.Flatten())


class UNet(nn.Module):
    """Two convolutions at each size, transposed ones on the way up, pooled for the classes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width]
        inputs = [3, *sizes]
        self.down = nn.ModuleList([self.double(i, o) for i, o in zip(inputs, sizes, strict=False)])
        pairs = [(sizes[2], sizes[1]), (sizes[1], sizes[0])]
        self.larger = nn.ModuleList([nn.ConvTranspose2d(i, o, 2, 2) for i, o in pairs])
        self.up = nn.ModuleList([self.double(2 * o, o) for _, o in pairs])
        self.head = head(width)

    @staticmethod
    def double(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(block(inputs, outputs), block(outputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for index, layer in enumerate(self.down):
            x = layer(functional.max_pool2d(x, 2) if index else x)
            kept.append(x)
        for larger, layer, beside in zip(self.larger, self.up, kept[-2::-1], strict=True):
            x = layer(torch.cat([beside, larger(x)], dim=1))
        return self.head(x)


@classics()
def unet(width: int = 8) -> nn.Module:
    return UNet(width)


@classics()
def wide_resnet(width: int = 16) -> nn.Module:
    blocks = (Basic(width, 2 * width), Basic(2 * width, 4 * width, 2), Basic(4 * width, 4 * width))
    return nn.Sequential(conv(3, width), *blocks, head(4 * width))
