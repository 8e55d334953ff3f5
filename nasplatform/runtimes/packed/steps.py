"""The operations of programs, as values that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Shape = tuple[int, int, int]
"""Height, width and channels of a map; a vector is a map of 1 x 1."""
Tensors = Mapping[str, NDArray[Any]]
LARGEST = 2**28
"""Most numbers in the map of one image."""
OPS = (
    *("conv", "binary_conv", "product", "map", "max_pool", "avg_pool", "layer_norm", "softmax"),
    *("gather", "view", "constant"),
)
MAPS = ("mul", "add", "prelu", "clamp", "plus", "times", "gate", "sigmoid", "gelu")
"""What steps and maps there are; the kernels know the maps by their places here."""
BLOCK = 16
"""Outputs that the weights of a convolution or product are laid side by side for."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Map(_Part):
    """One operation on every element.

    kind:   ``mul``, ``add``, ``prelu`` (slope below 0) by channel; ``clamp`` to two bounds;
            ``plus`` and ``times`` another map; ``gate``: times one number for each channel;
            ``sigmoid`` and ``gelu``.
    values: name of the tensor, (channels,) or for ``clamp`` (2,); else none.
    other:  number of the other map, of a ``gate`` 1 x 1; else none.
    """

    kind: str = Field(pattern=f"^({'|'.join(MAPS)})$")
    values: str | None = None
    other: int | None = None


class Window(_Part):
    """How a kernel moves over a map; rows first. ``padding``: top, left, bottom, right."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    def taken(self, shape: Shape) -> tuple[int, int]:
        """Return height and width of what is made of a map; raise ValueError where nothing is."""
        if min(*self.kernel, *self.stride, *self.dilation) < 1 or min(self.padding) < 0:
            raise ValueError(f"a window of impossible sizes: {self!r}")
        if max(*self.kernel, *self.stride, *self.dilation, *self.padding) > 2**14:
            raise ValueError(f"a window of impossible sizes: {self!r}")
        top, left, bottom, right = self.padding
        room = (shape[0] + top + bottom, shape[1] + left + right)
        over = [
            r - d * (k - 1) - 1 for r, d, k in zip(room, self.dilation, self.kernel, strict=True)
        ]
        if min(over) < 0:
            raise ValueError(f"a window that does not fit: {self!r} on {shape}")
        return over[0] // self.stride[0] + 1, over[1] // self.stride[1] + 1


class Step(_Part):
    """One operation: maps by number in, one map out.

    op:      ``conv`` and ``binary_conv`` (``weight``, ``window``, ``groups``; for binary ones
             ``shift``); ``product``: a convolution of 1 x 1 whose weights are another map;
             ``max_pool``, ``avg_pool`` (``window``); ``map``; ``layer_norm`` and ``softmax`` over
             the channels of each pixel; ``gather``; ``view``: the same numbers in another shape;
             ``constant``.
    source:  number of the map that is taken: 0 the images, n what step n - 1 made.
    other:   of a product the map (groups * blocks, inputs, 16) of its weights: 16 outputs of a
             group side by side, what is beyond the last of them is not read.
    window:  of convolutions and poolings.
    weight:  name of the tensor: of convolutions floats (out, rows, columns, in / groups), or bits
             (out, bytes) in the same order, lowest first; of ``layer_norm`` what is added to the
             variance, (1,); of a constant itself, (h, w, c).
    inputs:  channels that a group of a convolution or product takes; of a gather the length of a
             run.
    padded:  whether the divisor of ``avg_pool`` counts what is padded.
    parts:   of a gather: (source, name of an int32 tensor) with for each run of the new map the
             place of its first number in the source, or -1 where it is none of this source. What
             is of no source is 0.
    shape:   of a gather, view or constant: (h, w, c).
    outputs: channels of a convolution or product.
    maps:    what is done to the result before anyone sees it.
    """

    op: str = Field(pattern=f"^({'|'.join(OPS)})$")
    source: int = Field(default=0, ge=0, le=2**20)
    other: int | None = Field(default=None, ge=0, le=2**20)
    window: Window = Window()
    weight: str | None = None
    shift: str | None = None
    inputs: int = Field(default=1, ge=1, le=2**20)
    groups: int = Field(default=1, ge=1, le=2**20)
    outputs: int = Field(default=1, ge=1, le=2**20)
    padded: bool = True
    parts: tuple[tuple[int, str], ...] = ()
    shape: Shape | None = None
    maps: tuple[Map, ...] = ()

    @property
    def sources(self) -> tuple[int, ...]:
        """Numbers of all maps that are taken."""
        others = (self.other, *(each.other for each in self.maps))
        taken = tuple(part[0] for part in self.parts)
        if self.op not in ("gather", "constant"):
            taken = (self.source,)
        return (*taken, *(number for number in others if number is not None))

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of all tensors that are read."""
        named = (self.weight, self.shift, *(part[1] for part in self.parts))
        every = (*named, *(each.values for each in self.maps))
        return tuple(name for name in every if name is not None)
