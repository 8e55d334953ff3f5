"""The shape of what each step makes; what does not fit is refused before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nasplatform.runtimes.packed.steps import BLOCK, LARGEST, Map, Shape, Step, Tensors


def shape_made(step: Step, shapes: list[Shape], tensors: Tensors) -> Shape:
    """Return the shape of what a step makes; raise where anything does not fit."""
    if any(not 0 <= source < len(shapes) for source in step.sources):
        raise ValueError(f"takes a map that is not made yet: {step.sources}")
    made = _MAKERS[step.op](step, shapes, tensors)
    if int(np.prod(made, dtype=object)) > LARGEST:
        raise ValueError(f"makes a map of {made}")
    if step.maps and step.op in _WITHOUT_MAPS:
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


def _multiplied(step: Step, shapes: list[Shape], tensors: Tensors) -> Shape:
    height, width, channels = shapes[step.source]
    if step.inputs * step.groups != channels or step.outputs % step.groups:
        raise ValueError(f"{step.groups} groups of {step.inputs} channels, given {channels}")
    blocks = step.groups * -(-(step.outputs // step.groups) // BLOCK)
    weights = None if step.other is None else shapes[step.other]
    if weights != (blocks, step.inputs, BLOCK) or step.inputs > 2**24:
        raise ValueError(f"weights of {weights} for {step.groups} groups of {step.inputs}")
    return height, width, step.outputs


def _gathered(step: Step, shapes: list[Shape], tensors: Tensors) -> Shape:
    made, size = _said(step)
    if not step.parts or size % step.inputs:
        raise ValueError(f"{len(step.parts)} parts in runs of {step.inputs} for a map of {made}")
    for source, name in step.parts:
        _check_tensor(tensors, name, (size // step.inputs,), np.int32)
        places, given = tensors[name], int(np.prod(shapes[source]))
        if places.min() < -1 or places.max() > given - step.inputs:
            raise ValueError(f"places beyond the {given} of map {source}")
    return made


def _viewed(step: Step, shapes: list[Shape], tensors: Tensors) -> Shape:
    made, size = _said(step)
    if size != int(np.prod(shapes[step.source])):
        raise ValueError(f"a map of {shapes[step.source]} as {made}")
    return made


def _constant(step: Step, shapes: list[Shape], tensors: Tensors) -> Shape:
    made, _ = _said(step)
    _check_tensor(tensors, step.weight, made)
    return made


def _said(step: Step) -> tuple[Shape, int]:
    """Return the shape that a step names itself, and how many numbers that is."""
    if step.shape is None or min(step.shape) < 1:
        raise ValueError(f"a map of {step.shape}")
    size = int(np.prod(step.shape, dtype=object))
    if size > LARGEST:
        raise ValueError(f"makes a map of {step.shape}")
    return step.shape, size


def _normalised(step: Step, shapes: list[Shape], tensors: Tensors) -> Shape:
    _check_tensor(tensors, step.weight, (1,))
    return shapes[step.source]


def _same(step: Step, shapes: list[Shape], tensors: Tensors) -> Shape:
    return shapes[step.source]


_WITH_VALUES, _WITH_OTHER = ("mul", "add", "prelu", "clamp"), ("plus", "times", "gate")
_WITHOUT_MAPS = ("gather", "view", "constant")
_MAKERS: Mapping[str, Callable[[Step, list[Shape], Tensors], Shape]] = {
    "conv": _convolved,
    "binary_conv": _convolved,
    "product": _multiplied,
    "map": _same,
    "max_pool": _pooled,
    "avg_pool": _pooled,
    "layer_norm": _normalised,
    "softmax": _same,
    "gather": _gathered,
    "view": _viewed,
    "constant": _constant,
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
