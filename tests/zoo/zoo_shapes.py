"""Views, one and three dimensions, shared and computed weights, fixed filters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from zoo_members import CLASSES, Net, conv, head, kind, plain, unit

views, dimensions = kind("views"), kind("one and three dimensions")
shared, computed, fixed = kind("shared weights"), kind("computed weights"), kind("fixed filters")


@views()
def flattened() -> nn.Module:
    """VGG: maps are flattened into linear layers."""
    layers = [unit(3, 8), nn.MaxPool2d(2), unit(8, 12), nn.MaxPool2d(4), nn.Flatten()]
    return nn.Sequential(
        *layers, nn.Linear(48, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, CLASSES)
    )


@views()
def multilayer_perceptron() -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(768, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(16, CLASSES))


def lenet(view) -> nn.Module:
    def compute(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return self.fc2(functional.relu(self.fc1(view(x))))

    parts = {"conv1": conv(3, 6), "conv2": conv(6, 20), "fc1": nn.Linear(320, 24)}
    return Net(compute, **parts, fc2=nn.Linear(24, CLASSES))


@views(pins="[-1, 320]")
def view_of_320() -> nn.Module:
    """PyTorch's MNIST example: ``x.view(-1, 320)``."""
    return lenet(lambda x: x.view(-1, 320))


@views(pins="320")
def reshape_of_320() -> nn.Module:
    return lenet(lambda x: torch.reshape(x, (x.shape[0], 320)))


@views(pins="320")
def view_of_dimensions() -> nn.Module:
    return lenet(lambda x: x.view(x.size(0), 20 * 4 * 4))


@views()
def view_by_sizes() -> nn.Module:
    return lenet(lambda x: x.view(x.size(0), x.size(1) * x.size(2) * x.size(3)))


@views()
def unflattened() -> nn.Module:
    """A linear layer makes a small map, which convolutions read."""
    layers = [unit(3, 8, 3, 4), nn.Flatten(), nn.Linear(128, 10 * 4), nn.Unflatten(1, (-1, 2, 2))]
    return nn.Sequential(*layers, unit(10, 8), head(8))


@views()
def channels_last() -> nn.Module:
    """Linear layers on (B, h, w, C) (MLP-Mixer's half, ConvMLP)."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x).movedim(1, -1)
        x = x + self.two(functional.gelu(self.one(x)))
        return self.linear(x.mean(dim=(1, 2)))

    parts = {"one": nn.Linear(8, 20), "two": nn.Linear(20, 8), "linear": nn.Linear(8, CLASSES)}
    return Net(compute, stem=unit(3, 8, 3, 2), **parts)


@views()
def memory_format() -> nn.Module:
    module = nn.Sequential(unit(3, 8, 3, 2), unit(8, 12), head(12))
    return module.to(memory_format=torch.channels_last)


@views()
def mixer() -> nn.Module:
    """Linear layers over tokens, then over channels."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return self.linear((x + self.channels(self.norm2(x))).mean(1))

    def mlp(width: int, inside: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, inside), nn.GELU(), nn.Linear(inside, width))

    parts = {"tokens": mlp(16, 12), "channels": mlp(12, 24), "linear": nn.Linear(12, CLASSES)}
    norms = {"norm1": nn.LayerNorm(12), "norm2": nn.LayerNorm(12)}
    return Net(compute, patch=nn.Conv2d(3, 12, 4, 4), **parts, **norms)


@views(pins=None)
def bilinear_pooling() -> nn.Module:
    """Products of all pairs of channels."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.body(x).flatten(2)
        pairs = torch.bmm(x, x.transpose(1, 2)) / x.shape[2]
        return self.linear(pairs.flatten(1))

    body = nn.Sequential(unit(3, 8, 3, 2), unit(8, 10), unit(10, 6))
    return Net(compute, body=body, linear=nn.Linear(36, CLASSES))


@views(pins=None)
def first_channels() -> nn.Module:
    """Some channels are cut off by number."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.last(torch.cat([self.part(x[:, :3]), x[:, 3:]], dim=1)))

    parts = {"part": conv(3, 3), "last": nn.Sequential(unit(12, 10), unit(10, 8)), "head": head(8)}
    return Net(compute, stem=unit(3, 12, 3, 2), **parts)


@dimensions()
def one_dimension() -> nn.Module:
    """Rows of the image as a signal."""

    def compute(self, x: Tensor) -> Tensor:
        x = functional.max_pool1d(self.a(x.flatten(2)), 4)
        return self.linear(self.b(x).mean(-1))

    a = nn.Sequential(nn.Conv1d(3, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU())
    b = nn.Sequential(nn.Conv1d(8, 12, 3), nn.BatchNorm1d(12), nn.ReLU())
    return Net(compute, a=a, b=b, linear=nn.Linear(12, CLASSES))


@dimensions()
def dilated_causal() -> nn.Module:
    """Padded at one end, with gaps in the window (WaveNet, TCN)."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.first(x.mean(2))
        for step, layer in enumerate(self.layers):
            made = layer(functional.pad(x, (2**step, 0)))
            x = x + self.mix(torch.tanh(made) * torch.sigmoid(made))
        return self.linear(x[:, :, -1])

    layers = nn.ModuleList([nn.Conv1d(8, 10, 2, dilation=d) for d in (1, 2)])
    parts = {"layers": layers, "mix": nn.Conv1d(10, 8, 1), "linear": nn.Linear(8, CLASSES)}
    return Net(compute, first=nn.Conv1d(3, 8, 1), **parts)


@dimensions()
def mixed_dimensions() -> nn.Module:
    """Convolutions of maps, then of their columns."""

    def compute(self, x: Tensor) -> Tensor:
        return self.linear(functional.adaptive_avg_pool1d(self.b(self.a(x).mean(2)), 1).squeeze(-1))

    b = nn.Sequential(nn.Conv1d(10, 12, 3), nn.ReLU())
    return Net(compute, a=unit(3, 10, 3, 2), b=b, linear=nn.Linear(12, CLASSES))


@dimensions()
def three_dimensions() -> nn.Module:
    """Colours as a third axis."""
    a = nn.Sequential(nn.Conv3d(1, 8, 3, (1, 2, 2), 1), nn.BatchNorm3d(8), nn.ReLU())
    b = nn.Sequential(
        nn.Conv3d(8, 10, 3, 2, 1), nn.BatchNorm3d(10), nn.ReLU(), nn.MaxPool3d((2, 1, 1))
    )
    linear = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(10, CLASSES))
    return Net(lambda self, x: self.linear(self.b(self.a(x.unsqueeze(1)))), a=a, b=b, linear=linear)


@dimensions()
def factorised_in_time() -> nn.Module:
    """(2+1)D: places first, then the third axis."""
    space, time = nn.Conv3d(1, 8, (1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.Conv3d(8, 10, (3, 1, 1))

    def compute(self, x: Tensor) -> Tensor:
        x = functional.relu(self.time(functional.relu(self.space(x[:, None]))))
        return self.head(self.flat(x.squeeze(2)))

    return Net(compute, space=space, time=time, flat=unit(10, 8), head=head(8))


@shared()
def called_twice() -> nn.Module:
    """One block, used twice."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.last(self.block(self.block(x))))

    parts = {"block": unit(8, 8), "last": unit(8, 12), "head": head(12)}
    return Net(compute, stem=unit(3, 8, 3, 2), **parts)


@shared()
def shared_with_own_norms() -> nn.Module:
    """One convolution, with a normalisation for each use."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm in self.norms:
            x = functional.relu(norm(self.conv(x)))
        return self.head(x)

    norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(8)])
    return Net(compute, stem=unit(3, 8, 3, 2), conv=conv(8, 8), norms=norms, head=head(8))


@shared()
def tied_weights() -> nn.Module:
    """Two convolutions hold one weight."""
    a, b = conv(10, 10), conv(10, 10)
    b.weight = a.weight
    first = (conv(3, 10, 3, 2), nn.ReLU(), a, nn.ReLU(), b, nn.ReLU())
    return nn.Sequential(*first, unit(10, 8), head(8))


@shared()
def tied_norms() -> nn.Module:
    a, b = nn.BatchNorm2d(10), nn.BatchNorm2d(10)
    b.weight, b.bias = a.weight, a.bias
    layers = (conv(3, 10, 3, 2), a, nn.ReLU(), conv(10, 10), b, nn.ReLU(), unit(10, 8), head(8))
    return nn.Sequential(*layers)


@shared()
def one_branch_for_two_sizes() -> nn.Module:
    """The same layers read the image at two sizes."""

    def compute(self, x: Tensor) -> Tensor:
        whole = self.body(x).mean((2, 3))
        half = self.body(functional.avg_pool2d(x, 2)).mean((2, 3))
        return self.linear(whole + half)

    body = nn.Sequential(unit(3, 8, 3, 2), unit(8, 10))
    return Net(compute, body=body, linear=nn.Linear(10, CLASSES))


@shared(pins=None)
def transposed_ties() -> nn.Module:
    """A linear layer's weight is used again the other way round."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.body(x).mean((2, 3))
        again = functional.linear(functional.relu(self.code(x)), self.code.weight.t())
        return self.linear(x + again)

    body = nn.Sequential(unit(3, 8, 3, 2), unit(8, 12))
    return Net(compute, body=body, code=nn.Linear(12, 6), linear=nn.Linear(12, CLASSES))


@shared()
def recurrent_convolution() -> nn.Module:
    """A state goes through one convolution several times."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        state = torch.zeros_like(x)
        for _ in range(3):
            state = torch.tanh(self.feed(x) + self.back(state))
        return self.head(self.last(state))

    parts = {"feed": conv(8, 8), "back": conv(8, 8), "last": unit(8, 10), "head": head(10)}
    return Net(compute, stem=unit(3, 8, 3, 2), **parts)


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

    def forward(self, x: Tensor) -> Tensor:
        spread, mean = torch.var_mean(self.weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
        scale = torch.rsqrt(spread * self.weight[0].numel() + 1e-4) * self.gain
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


@fixed()
def maxout_of_reshape() -> nn.Module:
    """The larger of each pair of channels, on an axis of their own."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.last(x.view(len(x), -1, 2, *x.shape[2:]).amax(2)))

    return Net(compute, stem=conv(3, 16, 3, 2), last=unit(8, 10), head=head(10))


@fixed()
def plain_layers() -> nn.Module:
    return plain(lambda n: nn.ReLU(), lambda n: nn.Identity(), lambda n: nn.LeakyReLU())
