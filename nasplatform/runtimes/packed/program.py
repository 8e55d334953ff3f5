"""A network as a short list of operations on maps with the channels innermost.

Everything that computes a program, in whatever language, must make the same floats, bit for bit:

- sums of a convolution go along rows, columns and channels of the kernel one by one, each product
  and each sum rounded to float32; what is padded takes part as 0;
- sums of signs are whole numbers; ``scale`` and ``bias`` follow as maps, each step rounded;
- sums of a pooling go along rows and columns; the mean is the sum divided by how many;
- functions are polynomials, written out in ``functions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nasplatform.errors import RunError

Shape = tuple[int, int, int]
"""Height, width and channels of a map; a vector is a map of 1 x 1."""
Tensors = Mapping[str, NDArray[Any]]
LARGEST = 2**28
"""Most numbers in the map of one image."""


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

    kind: str = Field(pattern="^(mul|add|prelu|clamp|plus|times|gate|sigmoid|gelu)$")
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
             ``shift``), ``map``, ``max_pool``, ``avg_pool`` (``window``), ``copy``, ``flatten``.
    source:  number of the map that is taken: 0 the images, n what step n - 1 made.
    window:  of convolutions and poolings; of a copy the stride, and its first pixel as padding.
    weight:  name of the tensor: floats (out, rows, columns, in / groups), or bits (out, bytes) in
             the same order, lowest first.
    inputs:  channels that a group of a convolution takes.
    padded:  whether the divisor of ``avg_pool`` counts what is padded.
    parts:   of a copy: (source, first channel, how many, first channel there).
    outputs: channels of a convolution or copy.
    maps:    what is done to the result before anyone sees it.
    """

    op: str = Field(pattern="^(conv|binary_conv|map|max_pool|avg_pool|copy|flatten)$")
    source: int = Field(default=0, ge=0, le=2**20)
    window: Window = Window()
    weight: str | None = None
    shift: str | None = None
    inputs: int = Field(default=1, ge=1, le=2**20)
    groups: int = Field(default=1, ge=1, le=2**20)
    outputs: int = Field(default=1, ge=1, le=2**20)
    padded: bool = True
    parts: tuple[tuple[int, int, int, int], ...] = ()
    maps: tuple[Map, ...] = ()

    @property
    def sources(self) -> tuple[int, ...]:
        """Numbers of all maps that are taken."""
        others = tuple(m.other for m in self.maps if m.other is not None)
        taken = tuple(part[0] for part in self.parts) or (self.source,)
        return (*taken, *others)


_STEPS = TypeAdapter(tuple[Step, ...])


@dataclass(frozen=True)
class Program:
    """A checked list of steps.

    input_shape: (h, w, c) of an image.
    steps:       in order; the last one makes the logits, a map of 1 x 1.
    tensors:     float32, or uint8 for bits, by name.
    shapes:      of every map: the images', then that of each step.
    """

    input_shape: Shape
    steps: tuple[Step, ...]
    tensors: Tensors
    shapes: tuple[Shape, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Work out the shapes; raise ValueError where steps and tensors do not fit."""
        if min(self.input_shape) < 1 or int(np.prod(self.input_shape, dtype=object)) > LARGEST:
            raise ValueError(f"images of {self.input_shape}")
        shapes = [self.input_shape]
        for index, step in enumerate(self.steps):
            try:
                shapes.append(_made(step, shapes, self.tensors))
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise ValueError(f"step {index} ({step.op}): {error}") from None
        if not self.steps or shapes[-1][:2] != (1, 1):
            raise ValueError("the last step makes no logits")
        object.__setattr__(self, "shapes", tuple(shapes))

    @property
    def image_shape(self) -> Shape:
        """Of an image as sessions take it: (c, h, w)."""
        height, width, channels = self.input_shape
        return channels, height, width

    def describe(self) -> dict[str, Any]:
        """Return everything but the tensors as values that JSON can hold."""
        steps = [step.model_dump(mode="json", exclude_defaults=True) for step in self.steps]
        return {"input_shape": list(self.input_shape), "steps": steps}

    @classmethod
    def read(cls, described: Any, tensors: Tensors) -> Program:
        """Read ``describe`` back; raise RunError where it is no program of these tensors."""
        try:
            height, width, channels = map(int, described["input_shape"])
            steps = _STEPS.validate_python(_tuples(described["steps"]))
            return cls((height, width, channels), steps, tensors)
        except ValidationError as error:
            raise RunError(f"it holds no program: {error.errors()[0]['msg']}") from None
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RunError(f"it holds no program: {error}") from None


def _tuples(value: Any) -> Any:
    """Return JSON's lists as tuples, which the frozen models hold."""
    if isinstance(value, dict):
        return {key: _tuples(one) for key, one in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _made(step: Step, shapes: list[Shape], tensors: Tensors) -> Shape:
    """Return the shape of what a step makes; raise where anything does not fit."""
    if any(not 0 <= source < len(shapes) for source in step.sources):
        raise ValueError(f"takes a map that is not made yet: {step.sources}")
    made = _MAKERS[step.op](step, shapes, tensors)
    if int(np.prod(made, dtype=object)) > LARGEST:
        raise ValueError(f"makes a map of {made}")
    if step.maps and step.op in ("copy", "flatten"):
        raise ValueError("takes no maps")
    for each in step.maps:
        _check_map(each, made, shapes, tensors)
    return made


def _convolved(step: Step, shapes: list[Shape], tensors: Tensors) -> Shape:
    shape, (rows, columns) = shapes[step.source], step.window.kernel
    if step.inputs * step.groups != shape[2] or step.outputs % step.groups:
        raise ValueError(f"{step.groups} groups of {step.inputs} channels, given {shape[2]}")
    height, width = step.window.taken(shape)
    depth = rows * columns * step.inputs
    top, left, bottom, right = step.window.padding
    if depth > 2**24 or (shape[0] + top + bottom) * (shape[1] + left + right) * shape[2] > LARGEST:
        raise ValueError(f"kernels of {depth} weights on a map of {shape}")
    if step.op == "conv":
        _check_tensor(tensors, step.weight, (step.outputs, rows, columns, step.inputs))
    else:
        _check_tensor(tensors, step.weight, (step.outputs, -(-depth // 8)), np.uint8)
        if step.shift is not None:
            _check_tensor(tensors, step.shift, (shape[2],))
    return height, width, step.outputs


def _pooled(step: Step, shapes: list[Shape], tensors: Tensors) -> Shape:
    shape, window = shapes[step.source], step.window
    made = (*window.taken(shape), shape[2])
    reach = [k - 1 for k in window.kernel] * 2
    if any(p > r for p, r in zip(window.padding, reach, strict=True)) or (
        any(window.padding) and max(window.dilation) > 1
    ):
        raise ValueError(f"a window of which nothing may be inside: {window!r}")
    return made


def _copied(step: Step, shapes: list[Shape], tensors: Tensors) -> Shape:
    if not step.parts:
        raise ValueError("copies nothing")
    top, left = step.window.padding[:2]
    if min(step.window.stride) < 1 or min(step.window.padding) < 0:
        raise ValueError(f"a window of impossible sizes: {step.window!r}")
    sizes = set()
    for source, first, count, there in step.parts:
        height, width, channels = shapes[source]
        if min(first, there) < 0 or count < 1 or first + count > channels:
            raise ValueError(f"channels {first} to {first + count} of {channels}")
        if there + count > step.outputs or height <= top or width <= left:
            raise ValueError(f"channels {there} to {there + count} for {step.outputs}")
        down, across = step.window.stride
        sizes.add(((height - top - 1) // down + 1, (width - left - 1) // across + 1))
    if len(sizes) != 1:
        raise ValueError(f"maps of different sizes: {sorted(sizes)}")
    return (*sizes.pop(), step.outputs)


def _flat(step: Step, shapes: list[Shape], tensors: Tensors) -> Shape:
    return 1, 1, int(np.prod(shapes[step.source]))


def _same(step: Step, shapes: list[Shape], tensors: Tensors) -> Shape:
    return shapes[step.source]


_WITH_VALUES, _WITH_OTHER = ("mul", "add", "prelu", "clamp"), ("plus", "times", "gate")
_MAKERS = {
    "conv": _convolved,
    "binary_conv": _convolved,
    "map": _same,
    "max_pool": _pooled,
    "avg_pool": _pooled,
    "copy": _copied,
    "flatten": _flat,
}


def _check_map(each: Map, made: Shape, shapes: list[Shape], tensors: Tensors) -> None:
    if each.kind in _WITH_VALUES:
        _check_tensor(tensors, each.values, (2,) if each.kind == "clamp" else (made[2],))
    elif each.values is not None:
        raise ValueError(f"{each.kind} takes no tensor")
    if each.kind in _WITH_OTHER:
        wanted = (1, 1, made[2]) if each.kind == "gate" else made
        if each.other is None or shapes[each.other] != wanted:
            raise ValueError(f"{each.kind} of map {each.other} and one of {made}")
    elif each.other is not None:
        raise ValueError(f"{each.kind} takes no other map")


def _check_tensor(
    tensors: Tensors,
    name: str | None,
    shape: tuple[int, ...],
    kind: type[np.generic] = np.float32,
) -> None:
    found = tensors[name] if name is not None else None
    if found is None or found.shape != shape or found.dtype != kind:
        given = "nothing" if found is None else f"{found.dtype} {found.shape}"
        raise ValueError(f"tensor {name!r} is {given}, expected {kind.__name__} {shape}")
