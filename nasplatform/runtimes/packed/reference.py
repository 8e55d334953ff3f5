"""Programs in numpy: slow, plain, and what the compiled kernels are held against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nasplatform.runtimes.base import Arrays
from nasplatform.runtimes.packed import functions
from nasplatform.runtimes.packed.program import Program
from nasplatform.runtimes.packed.steps import BLOCK, Map, Step, Window

_FUNCTIONS = {"sigmoid": functions.sigmoid, "gelu": functions.gelu}


def run_reference(program: Program, images: Arrays) -> Arrays:
    """Compute the logits: (B, c, h, w) -> (B, K)."""
    maps = [np.ascontiguousarray(images.transpose(0, 2, 3, 1))]
    last = {source: i for i, step in enumerate(program.steps) for source in step.sources}
    for index, step in enumerate(program.steps):
        made = apply_maps(step.maps, _KINDS[step.op](program, step, maps), program, maps)
        maps.append(made)
        for source in step.sources:
            if last[source] == index and source:  # of the images the number is asked
                maps[source] = maps[source][:0]  # nobody reads it any more
    logits: Arrays = maps[-1].reshape(len(images), -1).copy()
    return logits


def apply_maps(
    operations: tuple[Map, ...], values: Arrays, program: Program, maps: list[Arrays]
) -> Arrays:
    """Do operations on every element of (..., channels), one after the other."""
    for each in operations:
        if each.other is not None:
            other = maps[each.other]
            values = values + other if each.kind == "plus" else values * other
            continue
        if each.kind in _FUNCTIONS:
            values = _FUNCTIONS[each.kind](values)
            continue
        operand = program.tensors[each.values or ""]
        if each.kind == "mul":
            values = values * operand
        elif each.kind == "add":
            values = values + operand
        elif each.kind == "prelu":
            values = np.where(values < 0, values * operand, values)
        else:
            values = np.where(values < operand[0], operand[0], values)
            values = np.where(values > operand[1], operand[1], values)
    return values


def unpacked(program: Program, step: Step) -> Arrays:
    """Return the weight of a binary convolution, +1 or -1: (out, rows, columns, in / groups)."""
    shape = (step.outputs, *step.window.kernel, step.inputs)
    bits = np.unpackbits(
        program.tensors[step.weight or ""], axis=1, count=int(np.prod(shape[1:])), bitorder="little"
    )
    signs: Arrays = np.where(bits, np.float32(1), np.float32(-1)).reshape(shape)
    return signs


def _binary_conv(program: Program, step: Step, maps: list[Arrays]) -> Arrays:
    inputs = maps[step.source]
    if step.shift is not None:
        inputs = inputs + program.tensors[step.shift]
    signs = np.where(inputs >= 0, np.float32(1), np.float32(-1))
    weight, made = unpacked(program, step), []
    for group in range(step.groups):
        patches = _patches(step, signs, group)
        rows = _of_group(weight, group, step.groups).reshape(-1, patches.shape[-1])
        made.append(patches @ rows.T)  # whole numbers: exact in any order
    return np.concatenate(made, axis=-1)


def _conv(program: Program, step: Step, maps: list[Arrays]) -> Arrays:
    weight, made = program.tensors[step.weight or ""], []
    for group in range(step.groups):
        patches = _patches(step, maps[step.source], group)
        rows = _of_group(weight, group, step.groups).reshape(-1, patches.shape[-1])
        sums = np.zeros((*patches.shape[:-1], len(rows)), np.float32)
        for k in range(patches.shape[-1]):
            sums += patches[..., k, None] * rows[:, k]
        made.append(sums)
    return np.concatenate(made, axis=-1)


def _of_group(values: NDArray[np.float32], group: int, groups: int) -> Arrays:
    each = len(values) // groups
    return values[group * each : (group + 1) * each]


def _patches(step: Step, inputs: Arrays, group: int) -> Arrays:
    """Return what lies under the kernel: (B, h', w', rows * columns * channels of the group)."""
    channels = slice(group * step.inputs, (group + 1) * step.inputs)
    return np.concatenate(_taps(step.window, inputs[..., channels], 0), axis=-1)


def _taps(window: Window, inputs: Arrays, fill: float) -> list[Arrays]:
    """Return for each place of the kernel the numbers there, (B, h', w', c)."""
    height, width = window.taken(inputs.shape[1:])
    top, left, bottom, right = window.padding
    edges = ((0, 0), (top, bottom), (left, right), (0, 0))
    padded = np.pad(inputs, edges, constant_values=fill)
    found = []
    for row in range(window.kernel[0]):
        for column in range(window.kernel[1]):
            y, x = row * window.dilation[0], column * window.dilation[1]
            down, across = window.stride
            ends = (y + (height - 1) * down + 1, x + (width - 1) * across + 1)
            found.append(padded[:, y : ends[0] : down, x : ends[1] : across])
    return found


def _max_pool(program: Program, step: Step, maps: list[Arrays]) -> Arrays:
    first, *others = _taps(step.window, maps[step.source], -np.inf)
    for other in others:
        first = np.where(first < other, other, first)
    return first


def _avg_pool(program: Program, step: Step, maps: list[Arrays]) -> Arrays:
    inputs, window = maps[step.source], step.window
    first, *others = _taps(window, inputs, 0)
    for other in others:
        first = first + other
    ones = np.ones((1, *inputs.shape[1:3], 1), np.float32)
    inside = np.sum(_taps(window, ones, 0), axis=0, dtype=np.float32)
    whole = np.float32(window.kernel[0] * window.kernel[1])
    made: Arrays = first / (whole if step.padded else inside)
    return made


def _gather(program: Program, step: Step, maps: list[Arrays]) -> Arrays:
    images, run = len(maps[step.parts[0][0]]), step.inputs
    made = np.zeros((images, int(np.prod(step.shape or ())) // run, run), np.float32)
    for source, name in step.parts:
        places = program.tensors[name]
        here = places >= 0
        flat = maps[source].reshape(images, -1)
        made[:, here] = flat[:, places[here, None] + np.arange(run)]
    return made.reshape(images, *(step.shape or ()))


def _view(program: Program, step: Step, maps: list[Arrays]) -> Arrays:
    return maps[step.source].reshape(-1, *(step.shape or ()))


def _constant(program: Program, step: Step, maps: list[Arrays]) -> Arrays:
    values = program.tensors[step.weight or ""]
    return np.broadcast_to(values, (len(maps[0]), *values.shape))


def _product(program: Program, step: Step, maps: list[Arrays]) -> Arrays:
    inputs, each = maps[step.source], step.outputs // step.groups
    blocks = maps[step.other or 0].reshape(len(inputs), step.groups, -1, step.inputs, BLOCK)
    weights = blocks.transpose(0, 1, 3, 2, 4).reshape(len(inputs), step.groups, step.inputs, -1)
    rows = inputs.reshape(len(inputs), -1, step.groups, step.inputs)
    sums = np.zeros((*rows.shape[:3], each), np.float32)
    for k in range(step.inputs):
        sums += rows[..., k, None] * weights[:, None, :, k, :each]
    return sums.reshape(*inputs.shape[:3], step.outputs)


def _layer_norm(program: Program, step: Step, maps: list[Arrays]) -> Arrays:
    return functions.layer_norm(maps[step.source], program.tensors[step.weight or ""])


def _softmax(program: Program, step: Step, maps: list[Arrays]) -> Arrays:
    return functions.softmax(maps[step.source])


def _identity(program: Program, step: Step, maps: list[Arrays]) -> Arrays:
    return maps[step.source]


_KINDS = {
    "conv": _conv,
    "binary_conv": _binary_conv,
    "product": _product,
    "map": _identity,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "gather": _gather,
    "view": _view,
    "constant": _constant,
}
