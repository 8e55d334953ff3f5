"""Networks whose branches are put side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from zoo_members import Net, conv, head, kind, unit

concat, dense = kind("concatenation"), kind("dense")
inception, unet = kind("inception"), kind("U-Net")


def joined(*branches: nn.Module) -> nn.Module:
    """What all branches make of one map, side by side."""
    parts = nn.ModuleList(branches)
    return Net(lambda self, x: torch.cat([part(x) for part in self.parts], 1), parts=parts)


class Grown(nn.Module):
    """DenseNet's layer: what it makes is put beside what it read."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, 2 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), conv(2 * growth, growth, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made = self.conv1(functional.relu(self.norm1(x)))
        made = self.conv2(functional.relu(self.norm2(made)))
        return torch.cat([x, made], dim=1)


@concat()
def two_branches() -> nn.Module:
    return nn.Sequential(unit(3, 8, 3, 2), joined(unit(8, 6), unit(8, 10, 1)), unit(16, 8), head(8))


@concat()
def doubled() -> nn.Module:
    """A map beside itself, and its negative (CReLU)."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.b(functional.relu(torch.cat([x, -x], dim=1))))

    return Net(compute, stem=conv(3, 8, 3, 2), b=conv(16, 10), head=head(10))


@concat()
def image_beside() -> nn.Module:
    """The image itself goes beside what was made of it."""

    def compute(self, x: Tensor) -> Tensor:
        return self.head(self.b(torch.cat([x, self.a(x)], dim=1)))

    return Net(compute, a=unit(3, 9), b=unit(12, 10, 3, 2), head=head(10))


@concat()
def concat_and_sum() -> nn.Module:
    """Two concatenations in a sum, cut at different places."""
    parts = {"a": conv(8, 4), "b": conv(8, 8), "c": conv(8, 6), "d": conv(8, 6)}

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        first, second = (torch.cat(p, 1) for p in ((self.a(x), self.b(x)), (self.c(x), self.d(x))))
        return self.head(functional.relu(first + second))

    return Net(compute, stem=unit(3, 8, 3, 2), **parts, head=head(12))


@concat()
def pooled_twice() -> nn.Module:
    """Mean and maximum of every channel, side by side, go into the classifier."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.linear(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1))

    body = nn.Sequential(unit(3, 8, 3, 2), unit(8, 10))
    return Net(compute, body=body, linear=nn.Linear(20, 4))


@concat()
def pyramid_pooling() -> nn.Module:
    """Pooled to several grids, and laid beside the map again (PSPNet)."""
    squeezed = nn.ModuleList([conv(8, 3, 1) for _ in range(2)])

    def compute(self, x: Tensor) -> Tensor:
        x, parts = self.stem(x), []
        for grid, layer in zip((1, 2), self.squeezed, strict=True):
            small = layer(functional.adaptive_avg_pool2d(x, grid))
            parts.append(functional.interpolate(small, x.shape[2:], mode="bilinear"))
        return self.head(self.join(torch.cat([x, *parts], dim=1)))

    return Net(compute, stem=unit(3, 8, 3, 2), squeezed=squeezed, join=unit(14, 8), head=head(8))


@concat()
def spatial_pyramid() -> nn.Module:
    """Flattened poolings of several grids (SPP)."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.body(x)
        grids = [functional.adaptive_max_pool2d(x, grid).flatten(1) for grid in (1, 2)]
        return self.linear(torch.cat(grids, dim=1))

    return Net(compute, body=unit(3, 8, 3, 2), linear=nn.Linear(40, 4))


@concat()
def csp() -> nn.Module:
    """Half of the channels go round the blocks (CSPNet, YOLO)."""
    parts = {"left": unit(8, 6, 1), "right": unit(8, 6, 1), "body": unit(6, 6), "join": unit(12, 8)}

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        right = self.right(x)
        return self.head(self.join(torch.cat([self.left(x), right + self.body(right)], 1)))

    return Net(compute, stem=unit(3, 8, 3, 2), **parts, head=head(8))


@dense()
def dense_block() -> nn.Module:
    layers = [Grown(8, 4), Grown(12, 4), Grown(16, 4), unit(20, 10, 1), nn.AvgPool2d(2)]
    return nn.Sequential(conv(3, 8), *layers, Grown(10, 4), head(14))


@dense()
def dense_list() -> nn.Module:
    """All earlier maps are kept in a list and put side by side anew for each layer."""
    units = nn.ModuleList([unit(8 + 4 * i, 4) for i in range(3)])

    def compute(self, x: Tensor) -> Tensor:
        maps = [self.stem(x)]
        for layer in self.units:
            maps.append(layer(torch.cat(maps, dim=1)))
        return self.head(torch.cat(maps, dim=1))

    return Net(compute, stem=unit(3, 8, 3, 2), units=units, head=head(20))


@dense()
def harmonic() -> nn.Module:
    """Layers read some of the maps before them only (HarDNet)."""

    def compute(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(a)
        c = self.c(torch.cat([b, a], 1))
        d = self.d(c)
        return self.head(torch.cat([b, self.e(torch.cat([d, c, a], 1))], 1))

    parts = {"a": unit(3, 6, 3, 2), "b": unit(6, 4), "c": unit(10, 5), "d": unit(5, 4)}
    return Net(compute, **parts, e=unit(15, 6), head=head(10))


@dense()
def dual_path() -> nn.Module:
    """A part of what a block makes is added, the rest put beside (DPN), by slices."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        summed, beside = self.add(x), self.grow(x)
        return self.head(self.join(torch.cat([x + summed, beside], 1)))

    parts = {"add": unit(8, 8), "grow": unit(8, 4), "join": unit(12, 8)}
    return Net(compute, stem=unit(3, 8, 3, 2), **parts, head=head(8))


def googlenet_block(width: int) -> nn.Module:
    pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), unit(width, 3, 1))
    wide = nn.Sequential(unit(width, 4, 1), unit(4, 6, 5))
    return joined(unit(width, 4, 1), nn.Sequential(unit(width, 5, 1), unit(5, 8)), wide, pooled)


@inception()
def inception_blocks() -> nn.Module:
    layers = (googlenet_block(8), googlenet_block(21), head(21))
    return nn.Sequential(unit(3, 8, 3, 2), *layers)


@inception()
def inception_reduction() -> nn.Module:
    """The maps are made smaller by strides and by pooling."""
    block = joined(unit(8, 6, 3, 2), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 2))
    return nn.Sequential(unit(3, 8), block, unit(22, 10, 1), head(10))


@inception()
def factorised() -> nn.Module:
    """Windows of 1x3 after 3x1, and both side by side."""
    one = nn.Sequential(nn.Conv2d(8, 6, (1, 3), padding=(0, 1)), nn.ReLU())
    two = nn.Sequential(nn.Conv2d(8, 6, (3, 1), padding=(1, 0)), nn.ReLU())
    return nn.Sequential(unit(3, 8, 3, 2), joined(one, two), unit(12, 8), head(8))


@inception()
def inception_residual() -> nn.Module:
    """Branches side by side, squeezed, scaled and added (Inception-ResNet)."""
    mixed = joined(unit(12, 4, 1), nn.Sequential(unit(12, 4, 1), unit(4, 6)))

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(functional.relu(x + 0.2 * self.out(self.mixed(x))))

    return Net(compute, stem=unit(3, 12, 3, 2), mixed=mixed, out=conv(10, 12, 1), head=head(12))


@inception()
def fire() -> nn.Module:
    """SqueezeNet's module, and its classifier that is a convolution."""

    def module(inputs: int) -> nn.Module:
        squeeze = nn.Sequential(conv(inputs, 5, 1), nn.ReLU())
        wide = (nn.Sequential(conv(5, 8, k), nn.ReLU()) for k in (1, 3))
        return nn.Sequential(squeeze, joined(*wide))

    last = (nn.Dropout(0.2), conv(16, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(conv(3, 8, 3, 2), nn.ReLU(), module(8), module(16), *last)


class Unet(nn.Module):
    """Down, up again with the maps of the same size beside, then pooled for the classes."""

    def __init__(self, up: str) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = unit(3, 6), unit(6, 10), unit(10, 14)
        self.up2, self.up1 = self.larger(up, 14, 8), self.larger(up, 10, 6)
        self.join2, self.join1 = unit(18, 10), unit(12, 8)
        self.head = head(8)

    @staticmethod
    def larger(up: str, inputs: int, outputs: int) -> nn.Module:
        if up == "transposed":
            return nn.ConvTranspose2d(inputs, outputs, 2, 2)
        return nn.Sequential(nn.Upsample(scale_factor=2, mode=up), conv(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(functional.max_pool2d(one, 2))
        deep = self.bottom(functional.max_pool2d(two, 2))
        deep = self.join2(torch.cat([two, self.up2(deep)], dim=1))
        return self.head(self.join1(torch.cat([one, self.up1(deep)], dim=1)))


@unet()
def unet_transposed() -> nn.Module:
    return Unet("transposed")


@unet()
def unet_bilinear() -> nn.Module:
    return Unet("bilinear")


@unet()
def unet_sums() -> nn.Module:
    """The maps of one size are added (LinkNet, FPN)."""
    parts = {"down1": unit(3, 8), "down2": unit(8, 12, 3, 2), "side": conv(8, 10, 1)}

    def compute(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        up = functional.interpolate(self.top(self.down2(one)), size=one.shape[-2:])
        return self.head(self.smooth(self.side(one) + up))

    return Net(compute, **parts, top=conv(12, 10, 1), smooth=unit(10, 8), head=head(8))


@unet()
def autoencoder() -> nn.Module:
    """Down and up with transposed convolutions that overlap, without anything beside."""
    up = (nn.ConvTranspose2d(12, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    more = (nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1), nn.ReLU())
    return nn.Sequential(unit(3, 8, 3, 2), unit(8, 12, 3, 2), *up, *more, head(6))
