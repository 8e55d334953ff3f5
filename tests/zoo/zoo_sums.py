"""Networks whose branches meet in sums."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from zoo_members import Net, conv, head, kind, unit

residual = kind("residual")


class Basic(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if inputs != outputs or stride != 1:
            layer = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(layer, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += shortcut
        return self.relu(out)


class PreActivation(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(width), conv(width, width, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), conv(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(functional.relu(self.bn1(x)))
        return x + self.conv2(functional.relu(self.bn2(out)))


def bottleneck(width: int, inside: int, groups: int = 1) -> nn.Module:
    inner = nn.Sequential(
        unit(width, inside, 1), unit(inside, inside, groups=groups), conv(inside, width, 1)
    )
    return Net(lambda self, x: functional.relu(x + self.inner(x)), inner=inner)


@residual()
def basic_blocks() -> nn.Module:
    return nn.Sequential(unit(3, 8), Basic(8, 8), Basic(8, 16, 2), Basic(16, 16), head(16))


@residual()
def preactivation() -> nn.Module:
    return nn.Sequential(conv(3, 8, stride=2), PreActivation(8), PreActivation(8), head(8))


@residual()
def bottlenecks() -> nn.Module:
    return nn.Sequential(unit(3, 16, 3, 2), bottleneck(16, 8), bottleneck(16, 8), head(16))


@residual()
def resnext() -> nn.Module:
    return nn.Sequential(unit(3, 16, 3, 2), bottleneck(16, 16, 4), bottleneck(16, 8, 2), head(16))


@residual()
def pooled_shortcut() -> nn.Module:
    short = nn.Sequential(nn.AvgPool2d(2), conv(8, 12, 1))
    parts = {"stem": unit(3, 8), "body": unit(8, 12, 3, 2), "short": short, "head": head(12)}

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.body(x) + self.short(x))

    return Net(compute, **parts)


@residual()
def scaled_residual() -> nn.Module:
    """The branch is multiplied by one number that is learned (ReZero)."""
    parts = {"stem": unit(3, 8, 3, 2), "body": conv(8, 8), "alpha": nn.Parameter(torch.ones(1))}

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.alpha * self.body(x))

    return Net(compute, **parts, head=head(8))


@residual()
def long_sum() -> nn.Module:
    """Everything that was made is added up in the end."""
    units = nn.ModuleList([unit(8, 8) for _ in range(3)])

    def compute(self, x: Tensor) -> Tensor:
        made = [self.stem(x)]
        for layer in self.units:
            made.append(layer(made[-1]))
        return self.head(sum(made))

    return Net(compute, stem=unit(3, 8, 3, 2), units=units, head=head(8))


@residual()
def weighted_sum() -> nn.Module:
    """Branches are weighed by a softmax over one number each (DARTS)."""
    parts = {"alpha": nn.Parameter(torch.zeros(3)), "a": conv(8, 8), "b": conv(8, 8, 1)}

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        weights = functional.softmax(self.alpha, dim=0)
        mixed = weights[0] * self.a(x) + weights[1] * self.b(x) + weights[2] * x
        return self.head(functional.relu(mixed))

    return Net(compute, **parts, stem=unit(3, 8, 3, 2), head=head(8))


@residual()
def maximum_of_branches() -> nn.Module:
    """Maxout: the larger of two convolutions."""
    parts = {"a": conv(8, 12), "b": conv(8, 12), "stem": unit(3, 8, 3, 2), "head": head(12)}

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.maximum(self.a(x), self.b(x)))

    return Net(compute, **parts)


@residual()
def selective_kernel() -> nn.Module:
    """Two windows, weighed for each channel by a softmax between the two (SKNet)."""
    parts = {"a": unit(8, 12), "b": unit(8, 12, 5), "squeeze": nn.Linear(12, 6)}
    more = {"to_a": nn.Linear(6, 12), "to_b": nn.Linear(6, 12)}

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        a, b = self.a(x), self.b(x)
        middle = functional.relu(self.squeeze((a + b).mean((2, 3))))
        share = torch.softmax(torch.stack([self.to_a(middle), self.to_b(middle)], dim=1), dim=1)
        first, second = share[:, 0], share[:, 1]
        return self.head(a * first[:, :, None, None] + b * second[:, :, None, None])

    return Net(compute, **parts, **more, stem=unit(3, 8, 3, 2), head=head(12))


@residual()
def stochastic_depth() -> nn.Module:
    """In training blocks are left out at random."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            if not self.training or torch.rand(()) < 0.8:
                x = x + block(x)
        return self.head(x)

    blocks = nn.ModuleList([nn.Sequential(unit(8, 10), conv(10, 8)) for _ in range(2)])
    return Net(compute, stem=unit(3, 8, 3, 2), blocks=blocks, head=head(8))


@residual()
def highway() -> nn.Module:
    """A gate says how much of a block's output and how much of its input goes on."""
    parts = {"body": conv(10, 10), "gate": conv(10, 10, 1), "head": head(10)}

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.gate(x))
        return self.head(gate * torch.tanh(self.body(x)) + (1 - gate) * x)

    return Net(compute, stem=unit(3, 10, 3, 2), **parts)


@residual()
def multi_scale_sums() -> nn.Module:
    """Two resolutions that exchange their maps (HRNet)."""
    parts = {"high": unit(8, 8), "low": unit(8, 12, 3, 2), "up": conv(12, 8, 1)}
    more = {"down": conv(8, 12, 3, 2), "join": unit(20, 10), "head": head(10)}

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        high, low = self.high(x), self.low(x)
        larger = functional.interpolate(self.up(low), scale_factor=2, mode="nearest")
        high, low = high + larger, low + self.down(high)
        low = functional.interpolate(low, size=high.shape[2:], mode="bilinear")
        return self.head(self.join(torch.cat([high, low], dim=1)))

    return Net(compute, stem=unit(3, 8), **parts, **more)


@residual(pins="constant_pad_nd")
def padded_shortcut() -> nn.Module:
    """A shortcut that is filled up with channels of zeros (ResNet's option A)."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        short = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head(functional.relu(self.b(self.a(x)) + short))

    return Net(compute, stem=unit(3, 8), a=unit(8, 10), b=conv(10, 12, 3, 2), head=head(12))


class Branches(nn.Module):
    """RepVGG's block: 3x3, 1x1 and the input itself, each normalised, in a sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide = nn.Sequential(conv(width, width, bias=False), nn.BatchNorm2d(width))
        self.narrow = nn.Sequential(conv(width, width, 1, bias=False), nn.BatchNorm2d(width))
        self.plain = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.wide(x) + self.narrow(x) + self.plain(x))


repvgg = kind("RepVGG")


@repvgg()
def rep_blocks() -> nn.Module:
    return nn.Sequential(unit(3, 8, 3, 2), Branches(8), Branches(8), head(8))


@repvgg()
def rep_grouped() -> nn.Module:
    """Branches with as many groups of their own."""
    parts = {"a": unit(8, 8, groups=2), "b": unit(8, 8, 1, groups=2), "norm": nn.BatchNorm2d(8)}

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.a(x) + self.b(x) + self.norm(x))

    return Net(compute, stem=unit(3, 8, 3, 2), **parts, head=head(8))


@repvgg()
def rep_depthwise() -> nn.Module:
    """Depth-wise branches of several windows (MobileOne)."""
    parts = {"a": unit(12, 12, groups=12), "b": unit(12, 12, 1, groups=12), "c": unit(12, 10, 1)}

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.c(self.a(x) + self.b(x)))

    return Net(compute, stem=unit(3, 12, 3, 2), **parts, head=head(10))


@repvgg()
def asymmetric() -> nn.Module:
    """Windows of 3x3, 1x3 and 3x1 in a sum (ACNet)."""
    flat, tall = nn.Conv2d(8, 12, (1, 3), padding=(0, 1)), nn.Conv2d(8, 12, (3, 1), padding=(1, 0))

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(functional.relu(self.square(x) + self.flat(x) + self.tall(x)))

    parts = {"square": conv(8, 12), "flat": flat, "tall": tall, "head": head(12)}
    return Net(compute, stem=unit(3, 8, 3, 2), **parts)
