"""Programs as kernel steps: every buffer laid out, every address filled in."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.runtimes.base import Arrays
from nasplatform.runtimes.packed import constants
from nasplatform.runtimes.packed.constants import Thresholds, words_of
from nasplatform.runtimes.packed.library import KINDS, KernelStep, MapOp
from nasplatform.runtimes.packed.program import Program
from nasplatform.runtimes.packed.steps import MAPS, Shape, Step


class Constants:
    """What all plans of a program share, worked out when it is first asked for.

    fused: number of a step that makes bits for another one -> number of that one, thresholds.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.fused = {index: (reader, found) for index, reader, found in _fused(program)}
        self._known: dict[Any, Any] = {}

    def weights(self, index: int) -> tuple[NDArray[Any], ...]:
        """Return the interleaved weights of a convolution; of a binary one the counts too."""
        step = self.program.steps[index]
        if index not in self._known:
            if step.op == "conv":
                self._known[index] = (constants.interleaved_floats(self.program, step),)
            else:
                self._known[index] = constants.interleaved_bits(self.program, step)
        found: tuple[NDArray[Any], ...] = self._known[index]
        return found


class Plan:
    """The kernel steps of a program for a number of images.

    steps:  what the kernels run.
    inputs: numbers of the steps that read the images; their ``source`` is set before each run.
    output: (images, K), the logits after a run.
    """

    def __init__(self, known: Constants, images: int) -> None:
        self._known, self._program, self._images = known, known.program, images
        self._kept: list[Any] = []
        self._free: list[NDArray[np.float32]] = []
        self._maps: dict[int, NDArray[np.float32]] = {}
        self._bits: dict[int, NDArray[np.uint32]] = {}
        self._fixed: set[int] = set()  # addresses of maps of which a part never changes
        self._steps: list[KernelStep] = []
        self.inputs: list[int] = []
        self._build()
        self.steps = (KernelStep * len(self._steps))(*self._steps)
        self.output = self._maps[len(self._program.steps)][: images * self._size(-1)].reshape(
            images, -1
        )

    def _build(self) -> None:
        steps = self._program.steps
        last = {source: i for i, step in enumerate(steps) for source in step.sources}
        for index, step in enumerate(steps):
            _BUILDERS.get(step.op, Plan._plain)(self, index, step)
            for source in set(step.sources):
                if last[source] == index and source in self._maps:
                    self._give_back(self._maps.pop(source))

    def _convolution(self, index: int, step: Step) -> None:
        binary = step.op == "binary_conv"
        shape = self._program.shapes[step.source]
        numbers = step.groups * words_of(step.inputs) if binary else shape[2]
        padded = _padded(step, shape)
        source = self._packed(index, step) if binary else self._padded_floats(index, step)
        each = numbers // step.groups
        weights = self._known.weights(index)
        offsets = constants.offsets(step, padded[1], numbers, each)
        self._kept += [offsets, *weights]
        kind = "depthwise" if constants.is_depthwise(step) else step.op
        found = self._step(index, step, kind, shape)
        found.in_c, (found.padded_h, found.padded_w) = numbers, padded
        found.count, found.depth = step.inputs, len(offsets)
        found.weights, found.offsets = _address(weights[0]), _address(offsets)
        if binary:
            found.tap_counts = _address(weights[1])
        self._add(found, source)
        if index in self._known.fused:
            self._make_bits(index, *self._known.fused[index])
        else:
            self._make(index, step)

    def _packed(self, index: int, step: Step) -> NDArray[Any]:
        """Return the bits that a binary convolution reads, and see that they are made."""
        if index in self._bits:
            return self._bits.pop(index)
        shape = self._program.shapes[step.source]
        padded = _padded(step, shape)
        words = step.groups * words_of(step.inputs)
        bits = self._zeros((self._images, *padded, words), np.uint32)
        source = self._map(step.source)
        found = self._step(index, step, "pack", shape)
        found.padded_h, found.padded_w = padded
        if step.shift is not None:
            found.shift = self._tensor(step.shift)
        self._add(found, source, bits)
        return bits

    def _padded_floats(self, index: int, step: Step) -> NDArray[Any]:
        if not any(step.window.padding):
            return self._map(step.source)
        shape = self._program.shapes[step.source]
        padded = _padded(step, shape)
        floats = self._zeros((self._images, *padded, shape[2]), np.float32)
        kind = "layout" if step.source == 0 else "pad"
        found = self._step(index, step, kind, shape)
        found.padded_h, found.padded_w = padded
        self._add(found, None if step.source == 0 else self._map(step.source), floats)
        return floats

    def _make_bits(self, index: int, reader: int, found: Thresholds) -> None:
        """Let the convolution that was added last make the bits that another one reads."""
        shape, window = self._program.shapes[index + 1], self._program.steps[reader].window
        padded = _padded(self._program.steps[reader], shape)
        bits = self._zeros((self._images, *padded, words_of(shape[2])), np.uint32)
        self._bits[reader] = bits
        self._kept += [found.values, found.flips]
        step = self._steps[-1]
        step.thresholds, step.flips = _address(found.values), _address(found.flips)
        step.to_h, step.to_w = padded
        step.to_top, step.to_left = window.padding[:2]
        step.made = _address(bits)

    def _plain(self, index: int, step: Step) -> None:
        shape = self._program.shapes[step.source]
        found = self._step(index, step, step.op, shape)
        found.count = step.window.kernel[0] * step.window.kernel[1] if step.padded else 0
        self._add(found, self._map(step.source))
        self._make(index, step)

    def _gather(self, index: int, step: Step) -> None:
        places = [np.ascontiguousarray(self._program.tensors[name]) for _, name in step.parts]
        size = self._images * self._size(index + 1)
        if np.logical_or.reduce([each >= 0 for each in places]).all():
            made = self._take(size)
        else:
            made = self._zeros((size,), np.float32)
            self._fixed.add(_address(made))
        for (source, _), each in zip(step.parts, places, strict=True):
            found = self._step(index, step, "gather", self._program.shapes[source])
            found.depth, found.count, found.offsets = len(each), step.inputs, _address(each)
            self._kept.append(each)
            self._add(found, self._map(source), made)
        self._maps[index + 1] = made

    def _product(self, index: int, step: Step) -> None:
        offsets = np.arange(step.inputs, dtype=np.int32)
        self._kept.append(offsets)
        shape = self._program.shapes[step.source]
        found = self._step(index, step, "product", shape)
        found.padded_h, found.padded_w = shape[:2]
        found.depth, found.offsets = step.inputs, _address(offsets)
        found.weights = _address(self._map(step.other or 0))
        self._add(found, self._map(step.source))
        self._make(index, step)

    def _view(self, index: int, step: Step) -> None:
        self._maps[index + 1] = self._map(step.source)

    def _constant(self, index: int, step: Step) -> None:
        made = self._zeros((self._images, self._size(index + 1)), np.float32)
        made[:] = self._program.tensors[step.weight or ""].reshape(-1)
        self._maps[index + 1] = made.reshape(-1)
        self._fixed.add(_address(made))

    def _layer_norm(self, index: int, step: Step) -> None:
        self._plain(index, step)
        self._steps[-1].shift = self._tensor(step.weight or "")

    def _step(self, index: int, step: Step, kind: str, shape: Shape) -> KernelStep:
        """Begin a kernel step with the geometry of a step and the shape of its source."""
        window, (height, width, channels) = step.window, self._program.shapes[index + 1]
        computes = kind in (step.op, "depthwise")  # not what comes before, such as packing
        maps = step.maps if computes and index not in self._known.fused else ()
        operations = [
            MapOp(MAPS.index(each.kind), self._operand(each.values, each.other)) for each in maps
        ]
        array = (MapOp * len(operations))(*operations)
        self._kept.append(array)
        return KernelStep(
            kind=KINDS.index(kind),
            images=self._images,
            groups=step.groups,
            in_h=shape[0],
            in_w=shape[1],
            in_c=shape[2],
            out_h=height,
            out_w=width,
            out_c=channels,
            kernel_h=window.kernel[0],
            kernel_w=window.kernel[1],
            stride_h=window.stride[0],
            stride_w=window.stride[1],
            pad_top=window.padding[0],
            pad_left=window.padding[1],
            dilation_h=window.dilation[0],
            dilation_w=window.dilation[1],
            ops=ctypes.addressof(array),
            n_ops=len(operations),
        )

    def _add(
        self, step: KernelStep, source: NDArray[Any] | None, made: NDArray[Any] | None = None
    ) -> None:
        """Add a kernel step; a source of None is the images."""
        if source is None:
            self.inputs.append(len(self._steps))
        else:
            step.source = _address(source)
        if made is not None:
            step.made = _address(made)
        self._steps.append(step)

    def _make(self, index: int, step: Step) -> None:
        """Give the step that was added last a map to fill."""
        self._maps[index + 1] = self._take(self._images * self._size(index + 1))
        self._steps[-1].made = _address(self._maps[index + 1])

    def _map(self, number: int) -> NDArray[np.float32]:
        """Return a map; the images are laid out channels innermost when first asked for."""
        if number not in self._maps:
            shape = self._program.shapes[0]
            self._maps[0] = self._take(self._images * self._size(0))
            found = KernelStep(
                kind=KINDS.index("layout"),
                images=self._images,
                in_h=shape[0],
                in_w=shape[1],
                in_c=shape[2],
                padded_h=shape[0],
                padded_w=shape[1],
            )
            self._add(found, None, self._maps[0])
        return self._maps[number]

    def _take(self, size: int) -> NDArray[np.float32]:
        """Return a buffer of at least so many floats, one that is free again if there is one."""
        fitting = [i for i, free in enumerate(self._free) if free.size >= size]
        if fitting:
            return self._free.pop(min(fitting, key=lambda i: self._free[i].size))
        return self._zeros((size,), np.float32)

    def _give_back(self, made: NDArray[np.float32]) -> None:
        """Let others use a buffer, unless a view of it is still read or it must stay as it is."""
        read = any(_address(other) == _address(made) for other in self._maps.values())
        if not read and _address(made) not in self._fixed:
            self._free.append(made)

    def _zeros(self, shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
        made = np.zeros(shape, kind)
        self._kept.append(made)
        return made

    def _tensor(self, name: str) -> int:
        values: Arrays = np.ascontiguousarray(self._program.tensors[name])
        self._kept.append(values)
        return _address(values)

    def _operand(self, name: str | None, number: int | None) -> int | None:
        if name is not None:
            return self._tensor(name)
        return None if number is None else _address(self._map(number))

    def _size(self, number: int) -> int:
        return int(np.prod(self._program.shapes[number]))


_BUILDERS = {
    "conv": Plan._convolution,
    "binary_conv": Plan._convolution,
    "product": Plan._product,
    "layer_norm": Plan._layer_norm,
    "gather": Plan._gather,
    "view": Plan._view,
    "constant": Plan._constant,
}


def _padded(step: Step, shape: Shape) -> tuple[int, int]:
    top, left, bottom, right = step.window.padding
    return shape[0] + top + bottom, shape[1] + left + right


def _fused(program: Program) -> Iterable[tuple[int, int, Thresholds]]:
    """Find the binary convolutions whose only reader takes no more than the sign."""
    readers: dict[int, list[int]] = {}
    for index, step in enumerate(program.steps):
        for source in step.sources:
            readers.setdefault(source, []).append(index)
    for index, step in enumerate(program.steps):
        reading = readers.get(index + 1, [])
        if step.op != "binary_conv" or step.groups != 1 or len(reading) != 1:
            continue
        reader = program.steps[reading[0]]
        if reader.op != "binary_conv" or reader.groups != 1 or reader.source != index + 1:
            continue  # also one that adds the map to its own sums
        if any(each.other is not None for each in step.maps):
            continue
        found = constants.thresholds(program, step, reader)
        if found is not None:
            yield index, reading[0], found


def _address(values: NDArray[Any]) -> int:
    return values.ctypes.data
