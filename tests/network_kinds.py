"""Small networks of the kinds that people bring, for 8 x 8 or 16 x 16 images."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def block(incoming: int, outgoing: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(incoming, outgoing, 3, stride, 1, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outgoing), nn.ReLU()]


class SqueezeExcite(nn.Module):
    """Gates written as 1 x 1 convolutions (MobileNetV3) or as linear layers."""

    def __init__(self, width: int, linear: bool, by_hand: bool = False) -> None:
        super().__init__()
        self.linear, self.by_hand = linear, by_hand
        kind = nn.Linear if linear else lambda a, b: nn.Conv2d(a, b, 1)
        self.reduce, self.expand = kind(width, 2), kind(2, width)

    def forward(self, x: Tensor) -> Tensor:
        gate = x.mean((2, 3)) if self.linear else functional.adaptive_avg_pool2d(x, 1)
        gate = self.expand(torch.relu(self.reduce(gate)))
        gate = functional.relu6(gate + 3) / 6 if self.by_hand else torch.sigmoid(gate)
        return x * (gate[:, :, None, None] if self.linear else gate)


class SpatialAttention(nn.Module):
    """The gate of places of CBAM: a 7 x 7 convolution of mean and maximum over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.conv(both))


def gated(linear: bool, by_hand: bool = False, classes: int = 3) -> nn.Sequential:
    layers: list[nn.Module] = []
    for incoming, outgoing, stride in ((1, 4, 1), (4, 6, 2), (6, 8, 1)):
        layers += [*block(incoming, outgoing, stride), SqueezeExcite(outgoing, linear, by_hand)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


def pooled_head(classes: int = 3) -> nn.Sequential:
    """As MobileNetV3 ends: pooling, a convolution, an activation, a convolution to the logits."""
    head = (nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 12, 1), nn.Hardswish(), nn.Conv2d(12, classes, 1))
    return nn.Sequential(*block(1, 4), *block(4, 6, 2), *head, nn.Flatten())


def convolutional_classifier(classes: int = 3) -> nn.Sequential:
    """As SqueezeNet and All-CNN end: a convolution makes a map of each class, then pooling."""
    head = (nn.Conv2d(6, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*block(1, 4), *block(4, 6, 2), *block(6, 6), *head)


def to_one_place(classes: int = 3) -> nn.Sequential:
    """Halved until one place is left, which is then pooled."""
    layers = [*block(1, 4, 2), *block(4, 4, 2), *block(4, 4, 2), *block(4, 4)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))


def depthwise(classes: int = 3) -> nn.Sequential:
    layers = [*block(1, 4), *block(4, 4, 2, groups=4), nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8)]
    layers += [nn.ReLU6(), *block(8, 8, 1, groups=2), *block(8, 8, 1, groups=8)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


class SharedReLU(nn.Module):
    """A residual block as torchvision writes it: one activation module, sums in place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x
        return self.relu(out)


def torchvision_like(classes: int = 3) -> nn.Sequential:
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
    return nn.Sequential(*block(1, 4), SharedReLU(4), *head)


class FrozenNorms(nn.Sequential):
    """Normalisation stays in evaluation mode, as in detection."""

    def train(self, mode: bool = True) -> "FrozenNorms":
        super().train(mode)
        for child in self.modules():
            if isinstance(child, nn.BatchNorm2d):
                child.eval()
        return self


class AlwaysEval(nn.Sequential):
    """A network that keeps itself in evaluation mode."""

    def train(self, mode: bool = True) -> "AlwaysEval":
        return super().train(False)


def frozen(kind: type[nn.Sequential], classes: int = 3) -> nn.Sequential:
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes))
    return kind(*block(1, 4), *block(4, 6, 2), *block(6, 6), *head)


def conventional(classes: int = 3) -> nn.Sequential:
    """Convolutions, then hidden linear layers."""
    layers = [*block(1, 4), nn.MaxPool2d(2), *block(4, 4), nn.MaxPool2d(2), nn.Flatten()]
    hidden = [nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU()]
    return nn.Sequential(*layers, *hidden, nn.Linear(8, classes))


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        images, tokens, width = x.shape
        qkv = self.qkv(x).reshape(images, tokens, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*qkv)
        return self.proj(mixed.transpose(1, 2).reshape(images, tokens, width))


class EncoderBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width)
        self.mlp = nn.Sequential(nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Patches of 2 x 4 by a convolution or by cutting; class tokens first, last, or none."""

    def __init__(
        self, cut: bool = False, extra: int = 1, last: bool = False, library: bool = False
    ) -> None:
        super().__init__()
        self.cut, self.last, self.library = cut, last, library
        self.patch = nn.Linear(8, 6) if cut else nn.Conv2d(1, 6, (2, 4), (2, 4))
        self.tokens = nn.Parameter(torch.randn(1, extra, 6))
        self.places = nn.Parameter(torch.randn(1, 8 + extra, 6))
        if library:
            self.blocks: nn.Module = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(6, 2, 12), 2, enable_nested_tensor=False
            )
        else:
            self.blocks = nn.Sequential(EncoderBlock(6), EncoderBlock(6))
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        if self.cut:
            cut = images.reshape(len(images), 4, 2, 2, 4).transpose(2, 3)
            patches = self.patch(cut.reshape(len(images), 8, 8))
        else:
            patches = self.patch(images).flatten(2).transpose(1, 2)
        extra = self.tokens.expand(len(images), -1, -1)
        x = torch.cat([patches, extra] if self.last else [extra, patches], dim=1) + self.places
        # torch's own encoder takes (tokens, images, width) by default
        x = self.blocks(x.transpose(0, 1)).transpose(0, 1) if self.library else self.blocks(x)
        return self.head(self.norm(x).mean(1) if not self.tokens.numel() else self.norm(x)[:, 0])


class ChannelsLast(nn.Module):
    """A ConvNeXt block: depth-wise convolution, then linear layers on (B, h, w, c)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 2, 2)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.norm = nn.LayerNorm(4)
        self.wide, self.act, self.narrow = nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 4)
        self.scale = nn.Parameter(torch.full((4,), 0.1))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        inner = self.scale * self.narrow(self.act(self.wide(inner)))
        return self.head((x + inner.permute(0, 3, 1, 2)).mean((2, 3)))


class Sigmoids(nn.Sequential):
    """LeNet as first written: sigmoids are activations here, not gates."""

    def __init__(self) -> None:
        layers = (nn.Conv2d(1, 4, 3, padding=1), nn.Sigmoid(), nn.AvgPool2d(2))
        more = (nn.Conv2d(4, 6, 3, padding=1), nn.Sigmoid(), nn.AvgPool2d(2))
        super().__init__(*layers, *more, nn.Flatten(), nn.Linear(24, 3))


class Twice(nn.Module):
    """One convolution, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = self.shared(torch.relu(self.shared(x)))
        return self.head(x.mean((2, 3)))


def weight_normed() -> nn.Sequential:
    """Layers with a parametrised weight have children."""
    norm = nn.utils.parametrizations.weight_norm
    convs = (norm(nn.Conv2d(1, 4, 3, padding=1)), nn.ReLU(), norm(nn.Conv2d(4, 4, 3, padding=1)))
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), norm(nn.Linear(4, 3)))


class FullAttention(nn.Module):
    """A gate for every place of every channel, as large as the map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.outer(torch.relu(self.inner(x))))


def halved_by_pooling(classes: int = 3) -> nn.Sequential:
    """As VGG: windows of two by two until one place is left, and layers after the last of them."""
    layers: list[nn.Module] = []
    for incoming, outgoing in ((1, 4), (4, 5), (5, 6)):
        layers += [*block(incoming, outgoing), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, *block(6, 7), nn.Flatten(), nn.Linear(7, classes))


class Refined(nn.Module):
    """Maps of the classes are logits, and are read once more to correct them."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem, self.classifier = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, classes, 1)
        self.correct, self.head = nn.Conv2d(classes, 4, 3, padding=1), nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.classifier(torch.relu(self.stem(x)))
        correction = self.head(torch.relu(self.correct(maps)).mean((2, 3)))
        return maps.mean((2, 3)) + correction
