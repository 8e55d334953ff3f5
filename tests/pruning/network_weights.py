"""What the networks of ``networks`` with computed weights and statistics are made of."""

from __future__ import annotations

import torch
from network_parts import CLASSES, conv, head
from torch import Tensor, nn
from torch.nn import functional


class NormByHand(nn.Module):
    """ConvNeXt's layer normalisation of (B, C, h, w), written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(width)), nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        spread = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(spread + 1e-2)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Standardised(nn.Conv2d):
    """Weight standardisation with a gain for each filter."""

    def __init__(self, width: int, groups: int = 1) -> None:
        super().__init__(width, width, 3, padding=1, groups=groups)
        self.gain = nn.Parameter(torch.ones(width, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        spread, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        weight = self.gain * (self.weight - mean) * torch.rsqrt(spread + 1e-3)
        return functional.conv2d(x, weight, self.bias, padding=1, groups=self.groups)


class Equalised(nn.Module):
    """Linear layers whose weights are scaled in the pass."""

    class Layer(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(x, self.weight * 0.5, self.bias)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = self.Layer(192, 12), self.Layer(12, 10)
        self.head = nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.relu(self.b(functional.relu(self.a(x.flatten(1))))))


class Mixer(nn.Module):
    """A linear layer over the tokens of each channel, between layers over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 2, 2)
        self.wide, self.narrow = nn.Linear(12, 20), nn.Linear(20, 12)
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, CLASSES)
        self.register_buffer("places", torch.rand(16, 16))
        self.more = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2)
        x = (x + self.more(functional.linear(x, self.places))).transpose(1, 2)
        x = x + self.narrow(functional.gelu(self.wide(self.norm(x))))
        return self.head(x.mean(1))


class Unflattened(nn.Module):
    """A linear layer makes a small map."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(192, 40), conv(10, 12), conv(12, 8)
        self.head = head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.a(x.flatten(1))).unflatten(1, (-1, 2, 2))
        return self.head(functional.relu(self.c(functional.relu(self.b(x)))))


class OneMoreHead(nn.Module):
    """A head that is used in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 12), conv(12, 10)
        self.head, self.aux = head(10), head(10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.b(functional.relu(self.a(x))))
        return self.head(x) + 0.1 * self.aux(x) if self.training else self.head(x)
