"""Small networks of many kinds: ``PRUNED`` throughout, ``PINNED`` in part."""

from __future__ import annotations

from collections.abc import Callable

import torch
from network_parts import (
    Around,
    ConvNeXt,
    DenseBuffer,
    Encoder,
    FrozenNorm,
    FunctionalNorm,
    Gate,
    Inception,
    LeNet,
    OneD,
    OptionA,
    OwnConvolution,
    RepVGG,
    Rows,
    Scaled,
    Separate,
    ThreeD,
    Tied,
    TiedConvolutions,
    UNet,
    blurred,
    conv,
    mobile,
    shufflenet,
    stack,
)
from network_weights import (
    Equalised,
    Mixer,
    NormByHand,
    OneMoreHead,
    Standardised,
    Unflattened,
)
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

PRUNED: dict[str, Callable[[], nn.Module]] = {
    "group-norm": lambda: stack(lambda n: nn.GroupNorm(3, n), lambda n: nn.GroupNorm(1, n)),
    "group-norm-of-one": lambda: stack(lambda n: nn.GroupNorm(n, n)),
    "group-norm-plain": lambda: stack(lambda n: nn.GroupNorm(4, n, affine=False)),
    "instance-norm": lambda: stack(lambda n: nn.InstanceNorm2d(n, affine=True)),
    "instance-norm-plain": lambda: stack(nn.InstanceNorm2d, nn.InstanceNorm2d),
    "instance-norm-running": lambda: stack(
        lambda n: nn.InstanceNorm2d(n, affine=True, track_running_stats=True)
    ),
    "layer-norm-channels-last": ConvNeXt,
    "prelu": lambda: stack(lambda n: nn.PReLU()),
    "prelu-per-channel": lambda: stack(nn.PReLU, nn.PReLU),
    "mish": lambda: stack(lambda n: nn.Mish(), lambda n: nn.Mish(inplace=True)),
    "softplus-and-tanh": lambda: Around(lambda self, x: functional.softplus(x) * torch.tanh(x)),
    "celu-selu-hardsigmoid": lambda: stack(
        lambda n: nn.CELU(), lambda n: nn.SELU(), lambda n: nn.Hardsigmoid()
    ),
    "clamp": lambda: Around(lambda self, x: x.clamp(-1, 0.5).clamp_min(-0.5)),
    "where": lambda: Around(lambda self, x: torch.where(x > 0.2, x, 0.1 * x)),
    "scale-broadcast": lambda: stack(lambda n: Scaled(1, n, 1, 1), lambda n: Scaled(n, 1, 1)),
    "scale-of-map": lambda: stack(lambda n: Scaled(1, n, 8, 8)),
    "scale-viewed": lambda: Around(
        lambda self, x: x * self.s.gamma.view(1, -1, 1, 1), s=Scaled(12)
    ),
    "chunk": lambda: Around(lambda self, x: torch.mul(*x.chunk(2, dim=1)), out=6),
    "glu": lambda: Around(lambda self, x: functional.glu(x, 1), out=6),
    "split-and-cat": lambda: Around(
        lambda self, x: torch.cat(x.split(x.shape[1] // 3, dim=1)[::-1], dim=1)
    ),
    "half-slice": lambda: Around(
        lambda self, x: x[:, : x.shape[1] // 2] + x[:, x.shape[1] // 2 :], out=6
    ),
    "stack": lambda: Around(lambda self, x: torch.stack([x, x.relu()], dim=1).sum(1)),
    "stack-flattened": lambda: Around(
        lambda self, x: torch.stack([x, x.relu()], dim=1).flatten(1, 2), out=24
    ),
    "shuffle": lambda: shufflenet(),
    "shuffle-builtin": lambda: shufflenet(builtin=True),
    "transposed": lambda: Around(
        lambda self, x: self.up(x), out=10, up=nn.ConvTranspose2d(12, 10, 2, 2)
    ),
    "pixel-shuffle": lambda: Around(lambda self, x: functional.pixel_shuffle(x, 2), out=3),
    "reflection-pad": lambda: stack(
        lambda n: nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(n, n, 3))
    ),
    "replication-pad": lambda: stack(lambda n: nn.ReplicationPad2d(1)),
    "upsample": lambda: stack(lambda n: nn.Upsample(scale_factor=2, mode="bilinear")),
    "gate-of-convolutions": lambda: stack(lambda n: Gate(n, linear=False)),
    "gate-of-linear-layers": lambda: stack(lambda n: Gate(n, linear=True)),
    "spatial-gate": lambda: Around(
        lambda self, x: x * torch.sigmoid(self.gate(x)), gate=nn.Conv2d(12, 1, 1)
    ),
    "mobile": lambda: mobile(gate=False),
    "mobile-gated": lambda: mobile(gate=True),
    "grouped": lambda: stack(lambda n: conv(n, n, groups=4)),
    "blurpool": blurred,
    "tied-normalisations": Tied,
    "tied-convolutions": TiedConvolutions,
    "functional-norm": lambda: stack(FunctionalNorm, FunctionalNorm),
    "frozen-norm": lambda: stack(FrozenNorm, FrozenNorm),
    "sync-norm": lambda: stack(nn.SyncBatchNorm),
    "own-convolution": lambda: stack(OwnConvolution, OwnConvolution),
    "reflecting-convolution": lambda: stack(lambda n: conv(n, n, padding_mode="reflect")),
    "unet": UNet,
    "repvgg": lambda: stack(RepVGG, RepVGG),
    "inception": lambda: stack(Inception, Inception),
    "dropout": lambda: stack(lambda n: nn.Dropout2d(), lambda n: nn.Dropout(inplace=True)),
    "local-pools": lambda: stack(lambda n: nn.LPPool2d(2, 2), lambda n: nn.AdaptiveMaxPool2d(2)),
    "conv1d": OneD,
    "conv3d": ThreeD,
    "normalised-length": lambda: Around(lambda self, x: functional.normalize(x, dim=1)),
    "mean-of-channels": lambda: Around(lambda self, x: x - x.mean(1, keepdim=True)),
    "layer-norm-by-hand": lambda: stack(NormByHand, NormByHand),
    "root-mean-square": lambda: Around(lambda self, x: x / (x**2).mean(1, True).add(0.1).sqrt()),
    "weight-norm": lambda: stack(lambda n: parametrizations.weight_norm(conv(n, n))),
    "spectral-norm": lambda: stack(lambda n: parametrizations.spectral_norm(conv(n, n))),
    "spectral-norm-by-hook": lambda: stack(lambda n: nn.utils.spectral_norm(conv(n, n))),
    "standardised": lambda: stack(Standardised, lambda n: Standardised(n, groups=4)),
    "standardised-depthwise": lambda: stack(lambda n: Standardised(n, groups=n)),
    "equalised-linear": Equalised,
    "circular-pad": lambda: stack(lambda n: conv(n, n, padding_mode="circular")),
    "log-softmax": lambda: nn.Sequential(stack(nn.BatchNorm2d), nn.LogSoftmax(1)),
    "random-slopes": lambda: stack(lambda n: nn.RReLU()),
    "mixer": Mixer,
    "map-of-a-vector": Unflattened,
    "einsum": lambda: Around(
        lambda self, x: torch.einsum("bchw,bchw->bc", x, x)[..., None, None].expand_as(x)
    ),
    "norm-without-scale": lambda: stack(lambda n: nn.BatchNorm2d(n, affine=False)),
}
"""Each of their hidden convolutions and linear layers gets narrower."""

PINNED: dict[str, tuple[Callable[[], nn.Module], str, set[str]]] = {
    "dense-buffer": (
        lambda: Around(lambda self, x: self.fixed(x), fixed=DenseBuffer(12)),
        "operation 'convolution' in layer 'fixed'",
        {"a"},
    ),
    "gru": (lambda: Rows(nn.GRU), "layer 'recurrent' (GRU)", {"b"}),
    "lstm": (lambda: Rows(nn.LSTM), "layer 'recurrent' (LSTM)", {"b"}),
    "hard-coded-view": (LeNet, "shape '[-1, 256]'", {"b"}),
    "hard-coded-slice": (
        lambda: Around(lambda self, x: x[:, :9], out=9),
        "operation 'slice' in the network itself",
        {"a"},
    ),
    "hard-coded-split": (
        lambda: Around(lambda self, x: torch.mul(*torch.split(x, 6, dim=1)), out=6),
        "the network does not work with fewer channels",
        {"a"},
    ),
    "hard-coded-indices": (
        lambda: Around(lambda self, x: x[:, torch.arange(11, -1, -1)]),
        "the network does not work with fewer channels",
        {"a"},
    ),
    "cumulative": (
        lambda: Around(lambda self, x: x.cumsum(1)),
        "operation 'cumsum' in the network itself",
        {"a"},
    ),
    "constant": (
        lambda: Around(lambda self, x: x * torch.linspace(0, 1, 12)[:, None, None]),
        "operation 'mul' in the network itself",
        {"a"},
    ),
    "head-of-training": (
        OneMoreHead,
        "the network does not work with fewer channels: layer 'aux.2' raises",
        {"b"},
    ),
    "softmax": (
        lambda: Around(lambda self, x: x.softmax(1)),
        "operation '_softmax' in the network itself",
        {"a"},
    ),
    "option-a": (OptionA, "operation 'constant_pad_nd' in the network itself", {"a"}),
    "first-channel": (
        lambda: Around(lambda self, x: x * x[:, :1].sigmoid()),
        "in the network itself",
        {"a"},
    ),
    "attention": (Encoder, "layer 'layer.self_attn' (MultiheadAttention)", {"patch"}),
    "separate-attention": (
        Separate,
        "Provided sizes [2, 4] don't multiply up to the size of dim 2 (6)",
        {"q", "k", "v"},
    ),
}
"""Network, a part of the reason, and the layers that are pinned for it; the rest is pruned."""
