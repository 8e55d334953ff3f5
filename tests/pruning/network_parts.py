"""What the networks of ``networks`` are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

SHAPE = (3, 8, 8)
CLASSES = 4


def head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


def conv(inputs: int, outputs: int, kernel: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def stack(*between: Callable[[int], nn.Module], width: int = 12) -> nn.Sequential:
    """Convolutions of one width with a module after each."""
    layers: list[nn.Module] = [conv(3, width)]
    for make in between:
        layers += [make(width), conv(width, width)]
    return nn.Sequential(*layers, head(width))


class Around(nn.Module):
    """A function between two convolutions: (B, width, 8, 8) -> (B, out, h, w)."""

    def __init__(self, function, width: int = 12, out: int = 12, **modules: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, width), conv(out, 10), conv(10, 8)
        self.function, self.head = function, head(8)
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.a(x))
        x = self.b(self.function(self, x))
        return self.head(functional.relu(self.c(functional.relu(x))))


class Scaled(nn.Module):
    """A scale and a shift for each channel, of the map's shape or to be broadcast."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.rand(shape)), nn.Parameter(torch.rand(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma + self.beta


class ChannelsLast(nn.Module):
    """ConvNeXt's block: depthwise window, LayerNorm and linear layers on (B, h, w, C), scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.window = conv(width, width, 5, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand, self.project = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(self.window(x).permute(0, 2, 3, 1))
        inner = self.gamma * self.project(functional.gelu(self.expand(inner)))
        return x + inner.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, 2)
        self.body = nn.Sequential(ChannelsLast(8), ChannelsLast(8))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.body(self.stem(x)).mean((2, 3))))


class Gate(nn.Module):
    """Squeeze and excitation by convolutions or linear layers."""

    def __init__(self, width: int, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        make = nn.Linear if linear else (lambda a, b: nn.Conv2d(a, b, 1))
        self.squeeze, self.excite = make(width, 4), make(4, width)

    def forward(self, x: Tensor) -> Tensor:
        gate = x.mean((2, 3)) if self.linear else x.mean((2, 3), keepdim=True)
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(gate))))
        return x * (gate[:, :, None, None] if self.linear else gate)


class MBConv(nn.Module):
    """MobileNetV2's inverted bottleneck, with a gate or without."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, gate: bool = False) -> None:
        super().__init__()
        inside = 4 * inputs
        self.layers = nn.Sequential(
            *(nn.Conv2d(inputs, inside, 1, bias=False), nn.BatchNorm2d(inside), nn.ReLU6()),
            nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False),
            *(nn.BatchNorm2d(inside), nn.ReLU6()),
            *([Gate(inside, linear=False)] if gate else []),
            *(nn.Conv2d(inside, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
        )
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def mobile(gate: bool) -> nn.Module:
    blocks = [MBConv(8, 8, 1, gate), MBConv(8, 12, 2, gate), MBConv(12, 12, 1, gate)]
    return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU6(), *blocks, head(12))


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's basic unit: one half through three convolutions, then a shuffle."""

    def __init__(self, width: int, builtin: bool) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            *(conv(half, half, 1), nn.BatchNorm2d(half), nn.ReLU()),
            *(conv(half, half, groups=half), nn.BatchNorm2d(half)),
            *(conv(half, half, 1), nn.BatchNorm2d(half), nn.ReLU()),
        )
        self.shuffle = nn.ChannelShuffle(2) if builtin else self.by_hand

    @staticmethod
    def by_hand(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return self.shuffle(torch.cat([first, self.branch(second)], dim=1))


def shufflenet(builtin: bool = False) -> nn.Module:
    units = [ShuffleUnit(16, builtin), ShuffleUnit(16, builtin)]
    return nn.Sequential(
        *(conv(3, 16), nn.BatchNorm2d(16), nn.ReLU()),
        *(*units, conv(16, 16), nn.ReLU(), head(16)),
    )


class BlurPool(nn.Module):
    """A fixed window for each channel, kept as a buffer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("window", (row[:, None] * row / 16).repeat(width, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return functional.conv2d(padded, self.window, stride=2, groups=x.shape[1])


class DenseBuffer(nn.Module):
    """A fixed convolution that mixes all channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.rand(width, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.window)


class Tied(nn.Module):
    """Two normalisations with one weight and one bias, each with statistics of its own."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.a, self.b = conv(3, width), conv(width, width)
        self.first, self.second = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.second.weight, self.second.bias = self.first.weight, self.first.bias
        self.c, self.head = conv(width, 8), head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(self.a(x)))
        x = functional.relu(self.second(self.b(x)))
        return self.head(functional.relu(self.c(x)))


class TiedConvolutions(nn.Module):
    """Two convolutions with one weight."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, width), conv(width, width), conv(width, width)
        self.c.weight = self.b.weight
        self.d, self.head = conv(width, 8), head(8)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.a, self.b, self.c, self.d):
            x = functional.relu(layer(x))
        return self.head(x)


class FunctionalNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(width)), nn.Parameter(torch.rand(width))
        self.register_buffer("mean", torch.rand(width))
        self.register_buffer("spread", torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, self.mean, self.spread, self.scale, self.shift)


class FrozenNorm(nn.Module):
    """A normalisation whose scale is worked out of four buffers in every pass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


class OwnConvolution(nn.Module):
    """A convolution that is no class of torch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width, width, 3, 3) - 0.5)
        self.bias = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, padding=1)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.bottom = conv(3, 8), conv(8, 12)
        self.up, self.out = nn.ConvTranspose2d(12, 6, 2, 2), conv(14, 10)
        self.head = head(10)

    def forward(self, x: Tensor) -> Tensor:
        wide = functional.relu(self.down(x))
        deep = functional.relu(self.bottom(functional.max_pool2d(wide, 2)))
        return self.head(functional.relu(self.out(torch.cat([wide, self.up(deep)], dim=1))))


class RepVGG(nn.Module):
    """Three branches in a sum, one of them a normalisation of the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide = nn.Sequential(conv(width, width), nn.BatchNorm2d(width))
        self.narrow = nn.Sequential(conv(width, width, 1), nn.BatchNorm2d(width))
        self.plain = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.wide(x) + self.narrow(x) + self.plain(x))


class Inception(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = conv(width, 5, 1), nn.Sequential(conv(width, 3, 1), conv(3, 4, 3))
        self.c = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(width, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), self.b(x), self.c(x)], dim=1)


class OptionA(nn.Module):
    """A shortcut that is filled up with channels of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 6), conv(6, 9), conv(9, 12)
        self.head = head(12)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.a(x))
        inner = self.c(functional.relu(self.b(x)))
        return self.head(functional.relu(inner + functional.pad(x, (0, 0, 0, 0, 3, 3))))


class Rows(nn.Module):
    """The rows of the pooled map go through a recurrent layer."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.a, self.b = conv(3, 12), conv(12, 6)
        self.recurrent, self.head = kind(6 * 8, 10, batch_first=True), nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(functional.relu(self.a(x)))
        rows = x.permute(0, 2, 1, 3).flatten(2)
        return self.head(self.recurrent(rows)[0][:, -1])


class LeNet(nn.Module):
    """Says in numbers how many features it flattens to."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 6), conv(6, 16)
        self.hidden, self.head = nn.Linear(256, 20), nn.Linear(20, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.b(functional.relu(self.a(x)))), 2)
        return self.head(functional.relu(self.hidden(x.view(-1, 256))))


class OneD(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv1d(3, 12, 3), nn.BatchNorm1d(12), nn.Conv1d(12, 10, 3)
        self.head = nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool1d(functional.relu(self.norm(self.a(x.flatten(2)))), 2)
        return self.head(functional.avg_pool1d(self.b(x), 4).mean(2))


class ThreeD(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv3d(1, 12, 3), nn.BatchNorm3d(12), nn.Conv3d(12, 10, 1)
        self.head = nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.a(x[:, None])))
        return self.head(self.b(x).mean((2, 3, 4)))


class Encoder(nn.Module):
    """Patches as tokens, one layer of a transformer, the mean of the tokens."""

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, 2)
        self.place = nn.Parameter(torch.rand(1, 16, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 24, 0.0, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.layer(tokens).mean(1))


class Separate(nn.Module):
    """Attention with separate projections of queries, keys and values; a token of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 8, 2, 2), nn.Parameter(torch.rand(1, 1, 8))
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 20), nn.Linear(20, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1)
        q, k, v = (
            layer(tokens).unflatten(2, (2, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(mixed)
        tokens = tokens + self.down(functional.gelu(self.up(self.norm(tokens))))
        return self.head(tokens[:, 0])


def blurred() -> nn.Module:
    return Around(lambda self, x: self.blur(x), blur=BlurPool(12))
