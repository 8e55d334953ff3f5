"""Weights that are computed in the pass, and filters that stay as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from zoo_members import Net, conv, head, kind, plain, unit

computed, fixed = kind("computed weights"), kind("fixed filters")


@computed()
def weight_normed() -> nn.Module:
    norm = parametrizations.weight_norm
    layers = (norm(conv(3, 8, 3, 2)), nn.ReLU(), norm(conv(8, 12)), nn.ReLU())
    return nn.Sequential(*layers, norm(conv(12, 10)), nn.ReLU(), head(10))


@computed(refused="cannot be copied")
def weight_normed_by_hook() -> nn.Module:
    """The older form, which keeps the weight as an attribute."""
    norm = nn.utils.weight_norm
    layers = (norm(conv(3, 8, 3, 2)), nn.ReLU(), norm(conv(8, 12)), nn.ReLU())
    return nn.Sequential(*layers, head(12))


@computed()
def spectral_normed() -> nn.Module:
    norm = parametrizations.spectral_norm
    layers = (norm(conv(3, 8, 3, 2)), nn.ReLU(), norm(conv(8, 12)), nn.ReLU())
    return nn.Sequential(*layers, norm(conv(12, 10)), nn.ReLU(), head(10))


@computed()
def spectral_normed_by_hook() -> nn.Module:
    norm = nn.utils.spectral_norm
    layers = (norm(conv(3, 8, 3, 2)), nn.ReLU(), norm(conv(8, 12)), nn.ReLU())
    return nn.Sequential(*layers, head(12))


@computed()
def some_weights_normed() -> nn.Module:
    norm = parametrizations.weight_norm
    return nn.Sequential(unit(3, 8, 3, 2), norm(conv(8, 12)), nn.ReLU(), unit(12, 8), head(8))


class Standardised(nn.Conv2d):
    """Weight standardisation: each filter has mean 0 and deviation 1."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        mean = weight.mean(dim=(1, 2, 3), keepdim=True)
        weight = (weight - mean) / (weight.std(dim=(1, 2, 3), keepdim=True) + 1e-5)
        return self._conv_forward(x, weight, self.bias)


class ScaledStandardised(nn.Conv2d):
    """Big Transfer's and NFNet's, by the variance and with a gain for each filter."""

    def __init__(self, *sizes: int, **options) -> None:
        super().__init__(*sizes, **options)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))
        self.fan_in = self.weight[0].numel()

    def forward(self, x: Tensor) -> Tensor:
        spread, mean = torch.var_mean(self.weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
        scale = torch.rsqrt(spread * self.fan_in + 1e-4) * self.gain
        weight = (self.weight - mean) * scale
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


@computed()
def standardised() -> nn.Module:
    layers = [Standardised(3, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.ReLU(), Standardised(8, 12, 3)]
    return nn.Sequential(*layers, nn.GroupNorm(3, 12), nn.ReLU(), head(12))


@computed()
def standardised_with_gain() -> nn.Module:
    layers = [ScaledStandardised(3, 8, 3, stride=2), nn.ReLU(), ScaledStandardised(8, 12, 3)]
    return nn.Sequential(*layers, nn.ReLU(), conv(12, 8), nn.ReLU(), head(8))


@computed()
def scaled_weights() -> nn.Module:
    """Equalised learning rate: weights are multiplied by a number in the pass (StyleGAN)."""

    class Equalised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return functional.conv2d(x, self.weight * 0.5, self.bias, self.stride, self.padding)

    layers = (Equalised(3, 8, 3, 2, 1), nn.ReLU(), Equalised(8, 12, 3, 1, 1), nn.ReLU())
    return nn.Sequential(*layers, head(12))


@computed(pins=None)
def quantised_weights() -> nn.Module:
    """Weights are rounded in the pass, gradients go through (fake quantisation)."""

    class Rounded(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            step = self.weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True) / 127
            rounded = torch.round(self.weight / step) * step
            weight = self.weight + (rounded - self.weight).detach()
            return functional.conv2d(x, weight, self.bias, self.stride, self.padding)

    first = (unit(3, 8, 3, 2), Rounded(8, 12, 3, 1, 1), nn.ReLU())
    return nn.Sequential(*first, unit(12, 8), unit(8, 8), head(8))


@computed(pins=None)
def made_by_another_layer() -> nn.Module:
    """Filters are a mixture of four, weighed for each image (CondConv)."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        share = torch.softmax(self.route(x.mean((2, 3))), dim=1)
        weight = (share @ self.experts.flatten(1)).view(-1, 8, 3, 3)
        made = functional.conv2d(x.reshape(1, -1, *x.shape[2:]), weight, padding=1, groups=len(x))
        return self.head(self.last(made.view(len(x), -1, *made.shape[2:])))

    # each image has one filter for its 8 channels
    experts = nn.Parameter(torch.randn(4, 1, 8, 3, 3) / 8)
    parts = {"route": nn.Linear(8, 4), "last": nn.Sequential(unit(1, 8), unit(8, 10))}
    return Net(compute, stem=unit(3, 8, 3, 2), experts=experts, **parts, head=head(10))


class Blur(nn.Module):
    """Anti-aliased halving: a fixed window for each channel (Zhang 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        row = torch.tensor([1.0, 2.0, 1.0])
        window = row[:, None] * row[None, :] / 16
        self.register_buffer("filt", window[None, None].repeat(width, 1, 1, 1))
        self.pad = nn.ReflectionPad2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(self.pad(x), self.filt, stride=2, groups=x.shape[1])


class BlurByNumber(Blur):
    """The same, with its own width in the call."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(self.pad(x), self.filt, stride=2, groups=self.width)


class BlurExpanded(nn.Module):
    """One window, expanded to as many channels as there are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.full((1, 1, 3, 3), 1 / 9))

    def forward(self, x: Tensor) -> Tensor:
        window = self.window.expand(x.shape[1], -1, -1, -1)
        return functional.conv2d(x, window, padding=1, groups=x.shape[1])


@fixed()
def blurred() -> nn.Module:
    return nn.Sequential(unit(3, 8), Blur(8), unit(8, 12), Blur(12), unit(12, 8), head(8))


@fixed(pins=None)
def blurred_by_number() -> nn.Module:
    return nn.Sequential(unit(3, 8), BlurByNumber(8), unit(8, 12), unit(12, 8), head(8))


@fixed(pins=None)
def blurred_expanded() -> nn.Module:
    return nn.Sequential(unit(3, 8, 3, 2), BlurExpanded(), unit(8, 12), unit(12, 8), head(8))


@fixed()
def edges_of_image() -> nn.Module:
    """A fixed filter of the image alone (Sobel)."""

    def compute(self, x: Tensor) -> Tensor:
        edges = functional.conv2d(x, self.sobel, padding=1, groups=3)
        return self.head(self.b(self.a(torch.cat([x, edges], dim=1))))

    net = Net(compute, a=unit(6, 8, 3, 2), b=unit(8, 10), head=head(10))
    window = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    net.register_buffer("sobel", window[None, None].repeat(3, 1, 1, 1))
    return net


@fixed(pins="convolution")
def dense_fixed() -> nn.Module:
    """A fixed convolution that mixes all channels."""

    def compute(self, x: Tensor) -> Tensor:
        x = functional.conv2d(self.stem(x), self.mixing)
        return self.head(self.last(self.inner(x)))

    parts = {"inner": unit(8, 10), "last": unit(10, 8), "head": head(8)}
    net = Net(compute, stem=unit(3, 8, 3, 2), **parts)
    net.register_buffer("mixing", torch.randn(8, 8, 1, 1))
    return net


@fixed()
def frozen_stem() -> nn.Module:
    module = nn.Sequential(unit(3, 8, 3, 2), unit(8, 12), head(12))
    module[0].requires_grad_(False)
    return module


@fixed(pins="fewer channels")
def maxout_of_reshape() -> nn.Module:
    """The larger of each pair of channels, on an axis of their own."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.last(x.view(len(x), -1, 2, *x.shape[2:]).amax(2)))

    return Net(compute, stem=conv(3, 16, 3, 2), last=unit(8, 10), head=head(10))


@fixed()
def plain_layers() -> nn.Module:
    return plain(lambda n: nn.ReLU(), lambda n: nn.Identity(), lambda n: nn.LeakyReLU())
