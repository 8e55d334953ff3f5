"""Depth-wise and grouped convolutions, gates, shuffles."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from zoo_members import Net, conv, head, kind, unit

depthwise, grouped = kind("depth-wise"), kind("grouped")
gates, shuffles = kind("gates"), kind("chunks and shuffles")


class Squeeze(nn.Module):
    """Squeeze and excitation by 1 x 1 convolutions."""

    def __init__(self, width: int, gate: type[nn.Module] = nn.Hardsigmoid) -> None:
        super().__init__()
        self.pool, self.gate = nn.AdaptiveAvgPool2d(1), gate()
        self.fc1, self.fc2 = nn.Conv2d(width, 4, 1), nn.Conv2d(4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.fc2(functional.relu(self.fc1(self.pool(x)))))


def inverted(width: int, gate: bool = False, act: type[nn.Module] = nn.ReLU6) -> nn.Module:
    """MobileNet's inverted bottleneck with a shortcut."""
    inside = 2 * width
    wide = (conv(width, inside, 1, bias=False), nn.BatchNorm2d(inside), act())
    deep = (conv(inside, inside, groups=inside, bias=False), nn.BatchNorm2d(inside), act())
    last = (conv(inside, width, 1, bias=False), nn.BatchNorm2d(width))
    body = nn.Sequential(*wide, *deep, *([Squeeze(inside)] if gate else []), *last)
    return Net(lambda self, x: x + self.body(x), body=body)


@depthwise()
def separable() -> nn.Module:
    """MobileNetV1 and Xception: depth-wise, then 1 x 1."""
    layers = [unit(3, 8, 3, 2)]
    for inputs, outputs in ((8, 12), (12, 16)):
        layers += [unit(inputs, inputs, groups=inputs), unit(inputs, outputs, 1)]
    return nn.Sequential(*layers, head(16))


@depthwise()
def inverted_bottlenecks() -> nn.Module:
    return nn.Sequential(unit(3, 8, 3, 2), inverted(8), inverted(8), unit(8, 16, 1), head(16))


@depthwise()
def inverted_swish() -> nn.Module:
    blocks = (inverted(8, True, nn.Hardswish), inverted(8, True, nn.SiLU))
    return nn.Sequential(unit(3, 8, 3, 2), *blocks, head(8))


@depthwise()
def channel_multiplier() -> nn.Module:
    """Two filters for each channel."""
    wide = nn.Conv2d(8, 16, 3, padding=1, groups=8)
    return nn.Sequential(unit(3, 8, 3, 2), wide, nn.ReLU(), conv(16, 10, 1), nn.ReLU(), head(10))


@depthwise()
def mixed_windows() -> nn.Module:
    """Depth-wise convolutions of several windows on parts of the channels (MixNet)."""
    parts = {"a": conv(6, 6, 3, groups=6), "b": conv(6, 6, 5, groups=6), "join": unit(12, 10, 1)}

    def compute(self, x: Tensor) -> Tensor:
        first, second = self.stem(x).chunk(2, dim=1)
        return self.head(self.join(torch.cat([self.a(first), self.b(second)], dim=1)))

    return Net(compute, stem=unit(3, 12, 3, 2), **parts, head=head(10))


@depthwise()
def ghost() -> nn.Module:
    """Half of the channels are made by cheap filters of the other half (GhostNet)."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x))
        return self.head(self.last(torch.cat([x, self.cheap(x)], dim=1)))

    parts = {"first": unit(8, 6, 1), "cheap": unit(6, 6, groups=6), "last": unit(12, 8, 1)}
    return Net(compute, stem=unit(3, 8, 3, 2), **parts, head=head(8))


@depthwise()
def all_depthwise_stem() -> nn.Module:
    """The image's own channels are filtered one by one first."""
    return nn.Sequential(conv(3, 12, groups=3), nn.ReLU(), unit(12, 8, 1, 2), head(8))


@grouped()
def groups_of_four() -> nn.Module:
    return nn.Sequential(unit(3, 16, 3, 2), unit(16, 16, groups=4), unit(16, 8, groups=2), head(8))


@grouped()
def groups_and_shuffle() -> nn.Module:
    """ShuffleNet's first version: grouped 1 x 1 with a shuffle between."""
    layers = (unit(12, 12, 1, groups=3), nn.ChannelShuffle(3), unit(12, 12, groups=12))
    return nn.Sequential(unit(3, 12, 3, 2), *layers, unit(12, 12, 1, groups=3), head(12))


@grouped()
def grouped_concat() -> nn.Module:
    """A grouped convolution reads branches of different widths."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.join(torch.cat([self.a(x), self.b(x)], dim=1)))

    parts = {"a": unit(8, 4), "b": unit(8, 8), "join": unit(12, 12, groups=3)}
    return Net(compute, stem=unit(3, 8, 3, 2), **parts, head=head(12))


@grouped()
def grouped_residual() -> nn.Module:
    parts = {"a": unit(12, 12, groups=3), "b": conv(12, 12, groups=3), "head": head(12)}

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(functional.relu(x + self.b(self.a(x))))

    return Net(compute, stem=unit(3, 12, 3, 2), **parts)


@grouped(pins="cannot be followed")
def grouped_transposed() -> nn.Module:
    up = nn.ConvTranspose2d(8, 8, 2, 2, groups=2)
    return nn.Sequential(unit(3, 8, 3, 2), unit(8, 10, 3, 2), unit(10, 8), up, unit(8, 6), head(6))


@gates()
def squeeze_convolutions() -> nn.Module:
    gated = (Squeeze(8), unit(8, 12), Squeeze(12, nn.Sigmoid))
    return nn.Sequential(unit(3, 8, 3, 2), *gated, head(12))


@gates()
def squeeze_linear() -> nn.Module:
    """As Hu et al. write it, by views of numbers that are asked for."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        images, channels, _, _ = x.size()
        gate = self.fc(functional.adaptive_avg_pool2d(x, 1).view(images, channels))
        return self.head(self.last(x * gate.view(images, channels, 1, 1).expand_as(x)))

    fc = nn.Sequential(nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 12), nn.Sigmoid())
    return Net(compute, stem=unit(3, 12, 3, 2), fc=fc, last=unit(12, 8), head=head(8))


@gates()
def gates_by_groups() -> nn.Module:
    """The gate's second layer is grouped."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x * torch.sigmoid(self.two(self.one(x.mean((2, 3), keepdim=True)))))

    parts = {"one": unit(12, 4, 1), "two": nn.Conv2d(4, 12, 1, groups=2), "head": head(12)}
    return Net(compute, stem=unit(3, 12, 3, 2), **parts)


@gates(pins=None)
def efficient_channel_attention() -> nn.Module:
    """A window slides over the channels' means (ECA)."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = self.along(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
        return self.head(self.last(self.inner(x * torch.sigmoid(gate))))

    along = nn.Conv1d(1, 1, 3, padding=1, bias=False)
    parts = {"along": along, "inner": unit(12, 10), "last": unit(10, 8), "head": head(8)}
    return Net(compute, stem=unit(3, 12, 3, 2), **parts)


@gates(pins=None)
def cbam() -> nn.Module:
    """A gate of channels by a shared MLP, and one of places by a mean over channels."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        x = self.body(x * torch.sigmoid(gate)[:, :, None, None])
        places = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return self.head(x * torch.sigmoid(self.places(places)))

    mlp = nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 12))
    parts = {"mlp": mlp, "body": unit(12, 8), "places": conv(2, 1, 7), "head": head(8)}
    return Net(compute, stem=unit(3, 12, 3, 2), **parts)


@gates()
def spatial_gate() -> nn.Module:
    """One convolution makes a gate for all channels (sSE)."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.last(x * torch.sigmoid(self.gate(x))))

    parts = {"gate": conv(10, 1, 1), "last": unit(10, 8), "head": head(8)}
    return Net(compute, stem=unit(3, 10, 3, 2), **parts)


@gates()
def gated_linear() -> nn.Module:
    """Half of a convolution's channels gates the other half (GLU)."""

    def compute(self, x: Tensor) -> Tensor:
        return self.head(self.last(functional.glu(self.stem(x), dim=1)))

    return Net(compute, stem=conv(3, 16, 3, 2), last=unit(8, 10), head=head(10))


class Shuffled(nn.Module):
    """ShuffleNetV2's unit."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        deep = conv(half, half, groups=half, bias=False)
        self.branch = nn.Sequential(
            unit(half, half, 1), deep, nn.BatchNorm2d(half), unit(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        images, channels, height, width = x.shape
        first, second = x.chunk(2, dim=1)
        x = torch.cat((first, self.branch(second)), dim=1)
        x = x.view(images, 2, channels // 2, height, width)
        return torch.transpose(x, 1, 2).contiguous().view(images, -1, height, width)


@shuffles()
def shuffle_units() -> nn.Module:
    return nn.Sequential(unit(3, 12, 3, 2), Shuffled(12), Shuffled(12), unit(12, 16, 1), head(16))


@shuffles()
def chunks_in_four() -> nn.Module:
    """Quarters of the channels, each with what came of the one before (Res2Net)."""
    units = nn.ModuleList([unit(4, 4) for _ in range(3)])

    def compute(self, x: Tensor) -> Tensor:
        parts = list(torch.chunk(self.stem(x), 4, dim=1))
        for i, layer in enumerate(self.units):
            parts[i + 1] = layer(parts[i] + parts[i + 1])
        return self.head(self.join(torch.cat(parts, dim=1)))

    return Net(compute, stem=unit(3, 16, 3, 2), units=units, join=unit(16, 10, 1), head=head(10))


@shuffles(pins="fewer channels")
def split_by_number() -> nn.Module:
    """The code says in a number where to cut."""

    def compute(self, x: Tensor) -> Tensor:
        a, b = torch.split(self.stem(x), 6, dim=1)
        return self.head(self.last(self.join(a * b)))

    parts = {"join": unit(6, 10, 1), "last": unit(10, 8), "head": head(8)}
    return Net(compute, stem=unit(3, 12, 3, 2), **parts)


@shuffles(pins=None)
def split_unequally() -> nn.Module:
    def compute(self, x: Tensor) -> Tensor:
        a, b = torch.split(self.stem(x), [8, 4], dim=1)
        return self.head(self.last(torch.cat([self.a(a), b], dim=1)))

    parts = {"a": unit(8, 6), "last": unit(10, 8), "head": head(8)}
    return Net(compute, stem=unit(3, 12, 3, 2), **parts)


@shuffles()
def stacked() -> nn.Module:
    """Branches on an axis of their own, of which the largest counts."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.stack([self.a(x), self.b(x), x], dim=2).amax(2))

    return Net(compute, stem=unit(3, 10, 3, 2), a=unit(10, 10), b=unit(10, 10, 1), head=head(10))


@shuffles()
def unbound_branches() -> nn.Module:
    """A convolution makes both the values and their gate, on an axis of their own."""

    def compute(self, x: Tensor) -> Tensor:
        made = self.stem(x)
        value, gate = made.view(len(x), 2, -1, *made.shape[2:]).unbind(1)
        return self.head(self.last(value * torch.sigmoid(gate)))

    return Net(compute, stem=conv(3, 16, 3, 2), last=unit(8, 10), head=head(10))


@shuffles()
def pixels_shuffled() -> nn.Module:
    layers = (unit(3, 16, 3, 2), nn.PixelShuffle(2), unit(4, 10), head(10))
    return nn.Sequential(*layers)


@shuffles(pins=None)
def space_to_depth() -> nn.Module:
    """Squares of pixels become channels, at the image and inside (YOLOv5's focus)."""
    layers = (nn.PixelUnshuffle(2), unit(12, 8), nn.PixelUnshuffle(2), unit(32, 12), head(12))
    return nn.Sequential(*layers)


@shuffles()
def focus() -> nn.Module:
    """The image's pixels are sorted by slices."""

    def compute(self, x: Tensor) -> Tensor:
        corners = [x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return self.head(self.last(self.stem(torch.cat(corners, dim=1))))

    return Net(compute, stem=unit(12, 10), last=unit(10, 8), head=head(8))


@shuffles()
def folded_slices() -> nn.Module:
    """Patches of every channel side by side, inside the network."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        corners = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return self.head(self.last(torch.cat(corners, dim=1)))

    return Net(compute, stem=unit(3, 6, 3, 2), last=unit(24, 8), head=head(8))
