"""The list of the zoo, and what its networks have in common: 3 x 16 x 16 images of four classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

SHAPE = (3, 16, 16)
CLASSES = 4
Make = Callable[..., nn.Module]


@dataclass(frozen=True)
class Member:
    """A network and what ought to come of it.

    path:    of its function, as ``Network.from_function`` takes it.
    pins:    words of what must be named as pinned; "" for nothing pinned, None for anything.
    refused: words of the line in which the check refuses it; "" for a network that is taken.
    """

    kind: str
    name: str
    path: str
    pins: str | None
    refused: str


MEMBERS: dict[str, Member] = {}


def kind(title: str) -> Callable[..., Callable[[Make], Make]]:
    """Return a decorator that enters functions into the list under a kind."""

    def member(pins: str | None = "", refused: str = "") -> Callable[[Make], Make]:
        def enter(make: Make) -> Make:
            path = f"{make.__module__}:{make.__name__}"
            MEMBERS[make.__name__] = Member(title, make.__name__, path, pins, refused)
            return make

        return enter

    return member


class Net(nn.Module):
    """A function of an image batch and the parts that it is made of."""

    def __init__(self, compute: Callable[[Any, Tensor], Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.compute = compute

    def forward(self, x: Tensor) -> Any:
        return self.compute(self, x)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, **options: Any) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, **options)


def unit(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, normalisation, activation."""
    layer = conv(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def head(width: int) -> nn.Sequential:
    """Pooling and a linear layer to the classes."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


def plain(*between: Callable[[int], nn.Module], width: int = 12) -> nn.Sequential:
    """Convolutions of one width with a module after each."""
    layers: list[nn.Module] = [conv(3, width, stride=2)]
    for make in between:
        layers += [make(width), conv(width, width)]
    return nn.Sequential(*layers, nn.ReLU(), head(width))
