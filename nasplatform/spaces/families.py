"""Published networks as points of a space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

A = TypeVar("A", covariant=True)


@dataclass(frozen=True)
class Family(Generic[A]):
    """A published network as an architecture of the space.

    name:                 e.g. ``deit-ti``.
    architecture:         the point of the space.
    input_shape, classes: channels, height, width of its images, and outputs.
    published_params:     as printed, in millions.
    published_macs:       multiply-adds as printed, in billions.
    note:                 why what is counted here is not what was printed.
    """

    name: str
    architecture: A
    input_shape: tuple[int, int, int]
    classes: int
    published_params: float
    published_macs: float
    note: str
