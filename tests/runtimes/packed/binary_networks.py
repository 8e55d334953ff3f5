"""Networks with binary layers for the tests of the packed runtime."""

import torch
from torch import nn

from nasplatform.models.binary import BinaryConv2d, BinaryLinear
from nasplatform.runtimes.packed.native import Native
from nasplatform.runtimes.packed.program import Program
from nasplatform.testing.tiny import CLASSES


def stirred_norm(channels: int) -> nn.BatchNorm2d:
    """Statistics as after a training, some factors negative."""
    norm = nn.BatchNorm2d(channels)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def binary_conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, **more) -> nn.Module:
    return BinaryConv2d.from_signs(
        torch.randn(outputs, inputs // more.get("groups", 1), kernel, kernel),
        torch.rand(outputs) + 0.1,
        stride=(stride, stride),
        padding=(kernel // 2, kernel // 2),
        **more,
    )


class Block(nn.Module):
    """A residual block with a shortcut around it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        shift, bias = torch.randn(inputs), torch.randn(outputs)
        self.first = binary_conv(inputs, outputs, stride=stride, shift=shift, bias=bias)
        self.norm, self.prelu = stirred_norm(outputs), nn.PReLU(outputs)
        self.second = binary_conv(outputs, outputs)
        self.shortcut = nn.Identity()
        if inputs != outputs or stride > 1:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, stirred_norm(outputs))

    def forward(self, x):
        inner = self.prelu(self.norm(self.first(x)))
        return nn.functional.hardtanh(self.second(inner) * 0.1 + self.shortcut(x))


class SmallResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 20, 3, padding=1), stirred_norm(20), nn.ReLU())
        self.body = nn.Sequential(Block(20, 20, 1), nn.MaxPool2d(2), Block(20, 37, 2))
        self.classifier = nn.Linear(37, CLASSES)

    def forward(self, images):
        return self.classifier(self.body(self.stem(images)).mean((2, 3)))


class SmallVGG(nn.Module):
    """No shortcuts: the sums of one layer decide the bits of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.body = nn.Sequential(
            binary_conv(16, 40),
            stirred_norm(40),
            nn.PReLU(40),
            binary_conv(40, 33, stride=2, shift=torch.randn(40)),
            stirred_norm(33),
            nn.Hardtanh(),
            binary_conv(33, 66, groups=3),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(
            BinaryLinear.from_signs(torch.randn(50, 66 * 16), torch.rand(50), bias=torch.randn(50)),
            nn.Linear(50, CLASSES),
        )

    def forward(self, images):
        return self.classifier(self.body(self.stem(images)))


class Gated(nn.Module):
    """Squeeze and excitation around a binary convolution, by whatever gates."""

    def __init__(self, gate=torch.sigmoid) -> None:
        super().__init__()
        self.stem, self.binary = nn.Conv2d(1, 20, 3, padding=1), binary_conv(20, 20)
        self.squeeze, self.excite, self.gate = nn.Linear(20, 6), nn.Linear(6, 20), gate
        self.head = nn.Linear(20, 3)

    def forward(self, x):
        x = self.binary(self.gate(self.stem(x)))
        inner = nn.functional.silu(self.squeeze(x.mean((2, 3))))
        x = x * self.gate(self.excite(inner))[:, :, None, None] / 2
        x = self.gate(x) * x
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def made(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind().eval()


def paths() -> list[str]:
    """The paths of the kernels that this processor has."""
    from nasplatform.runtimes.packed.library import INSTRUCTIONS, instructions

    return list(INSTRUCTIONS[: instructions() + 1])


def all_outputs(program: Program, images) -> list:
    """What every path makes, with one thread and with two."""
    return [Native(program, threads, path).run(images) for path in paths() for threads in (1, 2)]
