"""Normalisations, and scales for each channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from zoo_members import Net, conv, head, kind, plain, unit

norms, scales = kind("normalisation"), kind("scales per channel")


@norms()
def group_norms() -> nn.Module:
    return plain(lambda n: nn.GroupNorm(4, n), lambda n: nn.GroupNorm(1, n))


@norms()
def group_norm_residual() -> nn.Module:
    parts = {"norm": nn.GroupNorm(3, 12), "a": conv(12, 12), "b": conv(12, 12, 1)}

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.b(functional.silu(self.norm(self.a(x)))))

    return Net(compute, stem=conv(3, 12, 3, 2), **parts, head=head(12))


@norms()
def instance_norms() -> nn.Module:
    return plain(nn.InstanceNorm2d, lambda n: nn.InstanceNorm2d(n, affine=True))


@norms()
def conditional_instance_norm() -> nn.Module:
    """Scales come from a linear layer on the pooled map (AdaIN)."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        scale, shift = self.style(x.mean((2, 3))).chunk(2, dim=1)
        made = functional.instance_norm(self.body(x))
        return self.head(made * scale[:, :, None, None] + shift[:, :, None, None])

    parts = {"style": nn.Linear(8, 20), "body": conv(8, 10), "head": head(10)}
    return Net(compute, stem=unit(3, 8, 3, 2), **parts)


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of (B, C, h, w), by permutation."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LayerNormByHand(nn.Module):
    """ConvNeXt's own, which works out mean and variance over axis 1 itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        spread = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(spread + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class RootMeanSquare(nn.Module):
    """RMS norm over channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        shared = x.pow(2).mean(1, keepdim=True).add(1e-6).rsqrt()
        return x * shared * self.weight.view(1, -1, 1, 1)


@norms()
def layer_norms_2d() -> nn.Module:
    return plain(LayerNorm2d, LayerNorm2d)


@norms()
def layer_norms_by_hand() -> nn.Module:
    return plain(LayerNormByHand, LayerNormByHand)


@norms()
def root_mean_square() -> nn.Module:
    return plain(RootMeanSquare, RootMeanSquare)


@norms(pins=None)
def layer_norm_of_map() -> nn.Module:
    """Over channels and places together, with a scale for each element."""
    layers = (nn.LayerNorm([12, 8, 8]), nn.ReLU(), unit(12, 10), unit(10, 8), head(8))
    return nn.Sequential(conv(3, 12, 3, 2), *layers)


@norms(pins=None)
def local_response() -> nn.Module:
    """AlexNet's, over neighbouring channels."""
    first = (conv(3, 12, 3, 2), nn.ReLU(), nn.LocalResponseNorm(3))
    return nn.Sequential(*first, unit(12, 10), unit(10, 8), head(8))


@norms()
def sync_norms() -> nn.Module:
    return plain(nn.SyncBatchNorm, nn.SyncBatchNorm)


@norms()
def norms_without_scale() -> nn.Module:
    def without(width: int) -> nn.Module:
        return nn.BatchNorm2d(width, affine=False)

    return plain(without, without)


class Frozen(nn.Module):
    """torchvision's FrozenBatchNorm2d: four buffers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            self.register_buffer(name, torch.full((width,), value))
        for name, value in (("running_mean", 0.1), ("running_var", 0.8)):
            self.register_buffer(name, torch.full((width,), value))

    def forward(self, x: Tensor) -> Tensor:
        w, b = self.weight.reshape(1, -1, 1, 1), self.bias.reshape(1, -1, 1, 1)
        rv, rm = self.running_var.reshape(1, -1, 1, 1), self.running_mean.reshape(1, -1, 1, 1)
        scale = w * (rv + 1e-5).rsqrt()
        return x * scale + (b - rm * scale)


@norms()
def frozen_norms() -> nn.Module:
    return plain(Frozen, Frozen)


class KeepsNormFrozen(nn.Sequential):
    """``train()`` leaves normalisations in evaluation mode, and their numbers do not learn."""

    def train(self, mode: bool = True) -> KeepsNormFrozen:
        super().train(mode)
        for child in self.modules():
            if isinstance(child, nn.BatchNorm2d):
                child.eval().requires_grad_(False)
        return self


@norms()
def norms_kept_in_eval() -> nn.Module:
    return KeepsNormFrozen(unit(3, 8, 3, 2), unit(8, 12), head(12))


@norms()
def functional_norm() -> nn.Module:
    """Statistics and scales are the network's own, normalised by a function."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = functional.batch_norm(x, self.mean, self.var, self.scale, self.shift, self.training)
        return self.head(self.b(functional.relu(x)))

    scale, shift = nn.Parameter(torch.ones(12)), nn.Parameter(torch.zeros(12))
    net = Net(compute, a=conv(3, 12, 3, 2), b=unit(12, 8), head=head(8), scale=scale, shift=shift)
    net.register_buffer("mean", torch.zeros(12))
    net.register_buffer("var", torch.ones(12))
    return net


@norms()
def switchable_norm() -> nn.Module:
    """A weighted sum of two normalisations."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        share = torch.sigmoid(self.share)
        return self.head(functional.relu(share * self.batch(x) + (1 - share) * self.each(x)))

    parts = {"share": nn.Parameter(torch.zeros(1)), "batch": nn.BatchNorm2d(12)}
    each = nn.InstanceNorm2d(12, affine=True)
    return Net(compute, stem=conv(3, 12, 3, 2), **parts, each=each, head=head(12))


@norms()
def norm_first() -> nn.Module:
    """The images are normalised by the network itself."""
    return nn.Sequential(nn.BatchNorm2d(3), unit(3, 10, 3, 2), unit(10, 8), head(8))


@norms()
def norm_of_features() -> nn.Module:
    """After pooling: BatchNorm1d between linear layers."""
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16), nn.BatchNorm1d(16))
    return nn.Sequential(unit(3, 8, 3, 2), *pooled, nn.ReLU(), nn.Linear(16, 4))


@norms()
def unit_length() -> nn.Module:
    """Features and the classifier's rows are brought to length 1 (a cosine classifier)."""

    def compute(self, x: Tensor) -> Tensor:
        x = functional.normalize(self.body(x).mean((2, 3)), dim=1)
        return 8 * functional.linear(x, functional.normalize(self.weight, dim=1))

    body = nn.Sequential(unit(3, 8, 3, 2), unit(8, 10), unit(10, 12))
    return Net(compute, body=body, weight=nn.Parameter(torch.randn(4, 12)))


@norms()
def global_response_norm() -> nn.Module:
    """ConvNeXt V2's, on the last axis."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.wide(self.stem(x).permute(0, 2, 3, 1))
        size = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        share = size / (size.mean(dim=-1, keepdim=True) + 1e-6)
        x = self.gamma * (x * share) + self.beta + x
        return self.head(self.narrow(functional.gelu(x)).permute(0, 3, 1, 2))

    shape = (1, 1, 1, 16)
    parts = {"gamma": nn.Parameter(torch.zeros(shape)), "beta": nn.Parameter(torch.zeros(shape))}
    more = {"wide": nn.Linear(8, 16), "narrow": nn.Linear(16, 8), "head": head(8)}
    return Net(compute, stem=unit(3, 8, 3, 2), **parts, **more)


class Affine(nn.Module):
    """A scale and a shift for each channel."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


@scales()
def affine_layers() -> nn.Module:
    return plain(lambda n: Affine(1, n, 1, 1), lambda n: Affine(n, 1, 1))


@scales()
def layer_scale() -> nn.Module:
    """CaiT's and ConvNeXt's scale before the sum."""
    body = nn.Sequential(unit(8, 16, 1), conv(16, 8, 1))

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.gamma[None, :, None, None] * self.body(x))

    gamma = nn.Parameter(1e-1 * torch.ones(8))
    return Net(compute, stem=unit(3, 8, 3, 2), body=body, gamma=gamma, head=head(8))


@scales()
def scale_of_places() -> nn.Module:
    """A number for each place, the same for all channels, and one for each element."""
    return plain(lambda n: Affine(1, 1, 8, 8), lambda n: Affine(1, n, 8, 8))


@scales()
def list_of_scales() -> nn.Module:
    """Scales in a list of parameters, made positive by a function."""
    gammas = nn.ParameterList([nn.Parameter(torch.zeros(10)) for _ in range(2)])

    def compute(self, x: Tensor) -> Tensor:
        x = self.a(x) * torch.exp(self.gammas[0]).view(1, -1, 1, 1)
        x = self.b(functional.relu(x)) * functional.softplus(self.gammas[1])[:, None, None]
        return self.head(functional.relu(x))

    return Net(compute, a=conv(3, 10, 3, 2), b=conv(10, 10), gammas=gammas, head=head(10))


@scales()
def convnext() -> nn.Module:
    """Window by channel, LayerNorm and linear layers on the last axis, scale, sum."""

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.dwconv, self.norm = conv(width, width, 7, groups=width), nn.LayerNorm(width)
            self.pwconv1, self.pwconv2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
            self.gamma = nn.Parameter(1e-1 * torch.ones(width))

        def forward(self, x: Tensor) -> Tensor:
            made = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
            made = self.gamma * self.pwconv2(functional.gelu(self.pwconv1(made)))
            return x + made.permute(0, 3, 1, 2)

    stem = (nn.Conv2d(3, 8, 2, 2), LayerNorm2d(8))
    down = (LayerNorm2d(8), nn.Conv2d(8, 12, 2, 2))
    last = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 4))
    return nn.Sequential(*stem, Block(8), *down, Block(12), *last)


@scales(pins=None)
def constant_per_channel() -> nn.Module:
    """A table of numbers that is made in the pass, as wide as the channels."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x) * torch.linspace(0.5, 1, 12).view(1, -1, 1, 1)
        return self.head(self.last(self.inner(x)))

    parts = {"inner": unit(12, 10), "last": unit(10, 8), "head": head(8)}
    return Net(compute, stem=unit(3, 12, 3, 2), **parts)
