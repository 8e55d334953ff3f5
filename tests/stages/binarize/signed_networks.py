"""Small networks of many kinds, with the layers that are to be binarised in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.models.network import Network
from nasplatform.spaces import get_space

SHAPE = (3, 8, 8)
CLASSES = 4


class Case(NamedTuple):
    """A network and what becomes of its layers; ``calls``: of relu in front of binary layers."""

    make: Callable[[], nn.Module]
    chosen: set[str]
    left: dict[str, str]
    rectifiers: frozenset[str] = frozenset()
    calls: int = 0


def conv(inputs: int, outputs: int, kernel: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


ENDS = {"0": "reads the image", "head.2": "makes the logits"}


def net(*layers: nn.Module, width: int = 8) -> nn.Sequential:
    names = {str(i): layer for i, layer in enumerate((conv(3, 8), nn.BatchNorm2d(8), *layers))}
    found = nn.Sequential()
    for name, layer in {**names, "head": head(width)}.items():
        found.add_module(name, layer)
    return found


class Block(nn.Module):
    """ResNet's basic block with one module for both rectifiers, or the function."""

    def __init__(self, incoming: int, outgoing: int, stride: int, function: bool = False) -> None:
        super().__init__()
        self.a = nn.Conv2d(incoming, outgoing, 3, stride, 1, bias=False)
        self.b, self.n1, self.n2 = conv(outgoing, outgoing), *(nn.BatchNorm2d(outgoing),) * 2
        self.relu = functional.relu if function else nn.ReLU(inplace=True)
        self.down = None
        if stride > 1:
            self.down = nn.Conv2d(incoming, outgoing, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.down is None else self.down(x)
        return self.relu(self.n2(self.b(self.relu(self.n1(self.a(x))))) + around)


class Bottleneck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.window, self.widen = conv(8, 4, 1), conv(4, 4), conv(4, 16, 1)
        self.around = conv(8, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.widen(self.window(self.narrow(x))) + self.around(x)


class Gate(nn.Module):
    def __init__(self, width: int, gating: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.squeeze, self.excite, self.gating = nn.Linear(width, 4), nn.Linear(4, width), gating

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.squeeze(x.mean((2, 3))))
        return x * self.gating(self.excite(inner))[:, :, None, None]


class MBConv(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.expand, self.window = conv(inputs, 16, 1), conv(16, 16, groups=16)
        self.project, self.act = conv(16, outputs, 1), nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        made = self.project(self.act(self.window(self.act(self.expand(x)))))
        return x + made if made.shape == x.shape else made


class Attention(nn.Module):
    def __init__(self, colours: int = 3, classes: int = CLASSES) -> None:
        super().__init__()
        self.patch = nn.Conv2d(colours, 8, 2, 2)
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.n1, self.n2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.up, self.down, self.head = nn.Linear(8, 20), nn.Linear(20, 8), nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        q, k, v = (
            layer(self.n1(x)).unflatten(2, (2, 4)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return self.head((x + self.down(functional.gelu(self.up(self.n2(x))))).mean(1))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.mix = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 24, 0.0, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.mix(self.patch(x).flatten(2).transpose(1, 2))
        return self.head(self.layer(tokens).mean(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 8), conv(8, 8), conv(8, 8), conv(8, 8)
        self.c.weight, self.head = self.b.weight, head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.d(self.c(self.b(self.a(x)))))


class Auxiliary(nn.Module):
    """In training mode it goes another way; so it cannot be traced to one graph."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = conv(3, 8), conv(8, 8), head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.a(x))
        if self.training:
            x = x * 0.5
        return self.head(self.b(x))


class Perceptron(nn.Sequential):
    def __init__(self) -> None:
        layers = (nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU())
        super().__init__(*layers, nn.Linear(12, CLASSES))


def nasbench101() -> nn.Module:
    space = get_space(
        "nasbench101",
        **{"stem_channels": 4, "modules_per_stack": 1, "input_shape": SHAPE, "classes": CLASSES},
    )
    return Network.of(space, space.parse("[3M1]1011/110/01/1")).module


CASES: dict[str, Case] = {
    "chain": Case(
        lambda: net(nn.ReLU(), conv(8, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 12), width=12),
        {"3", "6"},
        ENDS,
        {"2", "5"},
    ),
    "blocks": Case(
        lambda: net(nn.ReLU(), Block(8, 8, 1), Block(8, 16, 2), width=16),
        {"3.a", "3.b", "4.a", "4.b"},
        ENDS | {"4.down": "shortcut"},
        {"2", "3.relu", "4.relu"},
    ),
    "blocks-of-functions": Case(
        lambda: net(Block(8, 8, 1, True), Block(8, 16, 2, True), width=16),
        {"2.a", "2.b", "3.a", "3.b"},
        ENDS | {"3.down": "shortcut"},
        calls=3,
    ),
    "bottleneck": Case(
        lambda: net(Bottleneck(), width=16),
        {"2.narrow", "2.window", "2.widen"},
        ENDS | {"2.around": "shortcut"},
    ),
    "gate": Case(
        lambda: net(conv(8, 8), Gate(8, torch.sigmoid), conv(8, 8)),
        {"2", "4"},
        ENDS | {"3.squeeze": "gate", "3.excite": "gate"},
    ),
    "gate-by-hand": Case(
        lambda: net(Gate(8, lambda x: functional.relu6(x + 3) / 6), conv(8, 8)),
        {"3"},
        ENDS | {"2.squeeze": "gate", "2.excite": "gate"},
    ),
    "sigmoid-is-no-gate": Case(lambda: net(conv(8, 8), nn.Sigmoid(), conv(8, 8)), {"2", "4"}, ENDS),
    "mobile": Case(
        lambda: net(MBConv(8, 12), MBConv(12, 12), width=12),
        {"2.expand", "2.project", "3.expand", "3.project"},
        ENDS | {"2.window": "depth-wise", "3.window": "depth-wise"},
        {"2.act", "3.act"},
    ),
    "grouped": Case(lambda: net(conv(8, 8, groups=2)), {"2"}, ENDS),
    "padded-by-reflection": Case(
        lambda: net(conv(8, 8, padding_mode="reflect"), conv(8, 8)),
        {"3"},
        ENDS | {"2": "pads with 'reflect'"},
    ),
    "transposed": Case(
        lambda: net(nn.ConvTranspose2d(8, 8, 2, 2), conv(8, 8)),
        {"3"},
        ENDS | {"2": "ConvTranspose2d"},
    ),
    "attention": Case(
        Attention,
        {"q", "k", "v", "out", "up", "down"},
        {"patch": "reads the image", "head": "makes the logits"},
    ),
    "encoder": Case(
        Encoder,
        {"mix"},
        {
            "patch": "reads the image",
            "head": "makes the logits",
            "layer.linear1": "TransformerEncoderLayer",
            "layer.linear2": "TransformerEncoderLayer",
            "layer.self_attn.out_proj": "MultiheadAttention",
        },
    ),
    "tied": Case(
        Tied,
        {"d"},
        {"a": "reads the image", "b": "shared", "c": "shared", "head.2": "makes the logits"},
    ),
    "perceptron": Case(Perceptron, {"3"}, {"1": "reads the image", "5": "makes the logits"}, {"2"}),
    "other-way-in-training": Case(
        Auxiliary, {"b"}, {"a": "reads the image", "head.2": "makes the logits"}
    ),
}
