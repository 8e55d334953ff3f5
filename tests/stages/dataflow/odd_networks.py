"""Networks with gates, contexts and heads as published papers write them, for 1 x 8 x 8 images."""

import torch
from network_kinds import block
from torch import Tensor, nn
from torch.nn import functional


def around(inner: nn.Module) -> nn.Sequential:
    """Two layers, an inner part on (B, 6, 4, 4), one more layer and a classifier."""
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    return nn.Sequential(*block(1, 4), *block(4, 6, 2), inner, nn.Conv2d(6, 5, 3), *head)


class EfficientChannelAttention(nn.Module):
    """ECA-Net: a one-dimensional convolution over the means of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv(x.mean((2, 3))[:, None])[:, 0])[:, :, None, None]


class GatherExcite(nn.Module):
    """GENet: depth-wise layers that shrink, made large again."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(6, 6, 3, 2, 1, groups=6) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        gate = self.two(torch.relu(self.one(x)))
        return x * torch.sigmoid(functional.interpolate(gate, size=x.shape[2:]))


class SelectiveKernel(nn.Module):
    """SKNet: two branches, weighed by a softmax over the branches."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(6, 6, 3, 1, 1), nn.Conv2d(6, 6, 5, 1, 2)
        self.squeeze = nn.Linear(6, 2)
        self.each = nn.ModuleList([nn.Linear(2, 6), nn.Linear(2, 6)])

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([torch.relu(self.small(x)), torch.relu(self.large(x))], 1)
        squeezed = torch.relu(self.squeeze(both.sum(1).mean((2, 3))))
        weights = torch.stack([layer(squeezed) for layer in self.each], 1).softmax(1)
        return (both * weights[..., None, None]).sum(1)


class FiLM(nn.Module):
    """Scale and shift of each channel, computed of the pooled map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.scale, self.shift = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3))
        scale, shift = (part(pooled)[:, :, None, None] for part in (self.scale, self.shift))
        return torch.relu(self.conv(x) * (1 + scale) + shift)


class GlobalContext(nn.Module):
    """GCNet: a context that attention pools is added to every place."""

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Conv2d(6, 1, 1)
        self.transform = nn.Sequential(nn.Conv2d(6, 2, 1), nn.ReLU(), nn.Conv2d(2, 6, 1))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.key(x).flatten(2).softmax(2)
        context = torch.bmm(x.flatten(2), weights.transpose(1, 2))[..., None]
        return x + self.transform(context)


class GatedHalves(nn.Module):
    """A gated linear unit: one half of the channels gates the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.glu(self.conv(x), 1)


class SimpleGate(nn.Module):
    """NAFNet: the product of two halves, and channel attention without a squashing."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.attention, self.narrow = (nn.Conv2d(6, n, 1) for n in (12, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.wide(x).chunk(2, 1)
        made = one * other
        return x + self.narrow(made * self.attention(functional.adaptive_avg_pool2d(made, 1)))


class ByHand(nn.Module):
    """A gate of every place whose squashing is written out."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv = how, nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.how == "tanh":
            return x * (torch.tanh(y) + 1) / 2
        if self.how == "hardtanh":
            return x * functional.hardtanh(y, 0, 1)
        if self.how == "clamp":
            return x * torch.clamp(0.2 * y + 0.5, 0, 1)
        return x * functional.relu6(y + 3) / 6


class CoordinateAttention(nn.Module):
    """Gates of rows and of columns, computed of means over the other."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.rows, self.columns = (
            nn.Conv2d(a, b, 1) for a, b in ((6, 4), (4, 6), (4, 6))
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        means = (x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3))
        rows, columns = torch.relu(self.both(torch.cat(means, 2))).split([height, width], 2)
        gates = self.rows(rows).sigmoid(), self.columns(columns.transpose(2, 3)).sigmoid()
        return x * gates[0] * gates[1]


class PooledBranch(nn.Module):
    """ASPP: one of three branches is pooled, and spread over the map again."""

    def __init__(self) -> None:
        super().__init__()
        self.point, self.wide, self.pooled = (
            nn.Conv2d(6, 4, 1),
            nn.Conv2d(6, 4, 3, 1, 1),
            nn.Conv2d(6, 4, 1),
        )
        self.out = nn.Conv2d(12, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.interpolate(self.pooled(x.mean((2, 3), True)), size=x.shape[2:])
        return torch.relu(self.out(torch.cat([self.point(x), self.wide(x), pooled], 1)))


class Trunk(nn.Module):
    """Two layers, and a head of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*block(1, 4), *block(4, 6, 2))


class AttentionPooled(Trunk):
    """A learned query pools the map; then a hidden layer of 1 x 1 convolutions."""

    def __init__(self, matrices: bool) -> None:
        super().__init__()
        self.matrices, self.key = matrices, nn.Conv2d(6, 1, 1)
        self.head = nn.Sequential(nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(x)
        weights, places = self.key(x).flatten(2).softmax(2), x.flatten(2)
        if self.matrices:
            pooled = torch.bmm(places, weights.transpose(1, 2))[..., None]
        else:
            pooled = (places * weights).sum(2)[..., None, None]
        return self.head(pooled).flatten(1)


class LearnedQuery(Trunk):
    """Attention with one query, a parameter; keys and values are linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, 6))
        self.key, self.value, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.trunk(x).flatten(2).transpose(1, 2)
        weights = (self.query @ self.key(tokens).transpose(1, 2)).softmax(2)
        return self.head((weights @ self.value(tokens))[:, 0])


class ClassAttention(nn.Module):
    """CaiT: at the end only the class token asks, and only it goes through the last MLP."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused, self.patch = fused, nn.Conv2d(1, 6, 2, 2)
        self.mlp = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6))
        self.token = nn.Parameter(torch.zeros(1, 1, 6))
        self.query, self.key, self.value, self.proj = (nn.Linear(6, 6) for _ in range(4))
        self.last = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch(images).flatten(2).transpose(1, 2)
        x = x + self.mlp(x)
        token = self.token.expand(len(x), -1, -1)
        every = torch.cat([token, x], 1)
        q, k, v = self.query(token), self.key(every), self.value(every)
        if self.fused:
            made = functional.scaled_dot_product_attention(q, k, v)
        else:
            made = (q @ k.transpose(1, 2)).softmax(2) @ v
        token = token + self.proj(made)
        return self.head((token + self.last(token))[:, 0])


class LinearTwice(nn.Module):
    """Hidden linear layers, one of them called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.head = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.shared(torch.relu(self.first(x.flatten(1)))))
        return self.head(torch.relu(self.shared(x)))
