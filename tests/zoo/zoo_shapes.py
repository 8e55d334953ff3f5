"""Views, one and three dimensions, shared weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from zoo_members import CLASSES, Net, conv, head, kind, unit

views, dimensions = kind("views"), kind("one and three dimensions")
shared = kind("shared weights")


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
