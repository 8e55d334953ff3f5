"""A network as a short list of operations on maps with the channels innermost.

Everything that computes a program, in whatever language, must make the same floats, bit for bit:

- sums of a convolution go along rows, columns and channels of the kernel one by one, each product
  and each sum rounded to float32; what is padded takes part as 0;
- sums of signs are whole numbers; ``scale`` and ``bias`` follow as maps, each step rounded;
- sums of a pooling go along rows and columns; the mean is the sum divided by how many;
- ``layer_norm`` and ``softmax`` sum over channels in sixteen lanes, as ``functions.lane_sum``;
- functions are polynomials, written out in ``functions``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from nasplatform.errors import RunError
from nasplatform.runtimes.packed.shapes import shape_made
from nasplatform.runtimes.packed.steps import LARGEST, Shape, Step, Tensors

_STEPS = TypeAdapter(tuple[Step, ...])


@dataclass(frozen=True)
class Program:
    """A checked list of steps.

    input_shape: (h, w, c) of an image.
    steps:       in order; the last one makes the logits, a map of 1 x 1.
    tensors:     float32, uint8 for bits or int32 for places, by name.
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
                shapes.append(shape_made(step, shapes, self.tensors))
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
