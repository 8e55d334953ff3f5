"""What torch computes for some images, followed operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

from nasplatform.errors import BuildError
from nasplatform.runtimes.packed.program import Step
from nasplatform.training.operations import Operations

BATCH = 3
"""Images of the run that is followed; a size that is unlike most others."""
Rules = Mapping[str, Callable[..., None]]
"""Name of an operation -> function (following, what it made, its arguments), which adds steps."""


class Following(Operations):
    """Notes the steps that lead from images to whatever is computed of them within the block.

    silent: while True nothing is noted, as within a layer that is one step.
    """

    def __init__(self, images: Tensor, rules: Rules) -> None:
        """Take the images, and for each operation of torch what notes it."""
        super().__init__()
        self._rules = rules
        self.steps: list[Step] = []
        self.tensors: dict[str, NDArray[Any]] = {}
        self.silent = False
        self._kept: list[Tensor] = [images]
        self._numbers = {id(images): 0}

    def number(self, value: Any) -> int | None:
        """Return the number of a map that depends on the images; None for anything else."""
        return self._numbers.get(id(value))

    def known(self, value: Tensor, number: int) -> None:
        """Note that a tensor is a map."""
        self._kept.append(value)
        self._numbers[id(value)] = number

    def tensor(self, values: Tensor | NDArray[Any]) -> str:
        """Keep constants under a new name."""
        array = values.detach().numpy() if isinstance(values, Tensor) else values
        name = f"t{len(self.tensors)}"
        self.tensors[name] = np.ascontiguousarray(array)
        return name

    def add(self, value: Tensor, step: Step) -> None:
        """Add a step that makes a tensor."""
        self.steps.append(step)
        self.known(value, len(self.steps))

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute an operation, and note it where it depends on the images."""
        name, given = func.overloadpacket.__name__, args
        overwrites = name.endswith("_") and isinstance(args[0], Tensor)
        if overwrites and self.number(args[0]) is None:  # a constant, as it was before
            given = (args[0].clone(), *args[1:])
        made = func(*args, **kwargs)
        self._kept.extend(t for t in tree_leaves((args, made)) if isinstance(t, Tensor))
        follows = any(self.number(value) is not None for value in tree_leaves((args, kwargs)))
        if follows and not self.silent:
            self._note(name, made, given, kwargs)
        return made

    def _note(self, name: str, made: Any, given: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rule = self._rules.get(name)
        if rule is None:
            raise BuildError(f"the packed runtime has no {name!r}, which the network computes")
        try:
            rule(self, made, *given, **kwargs)
        except (TypeError, ValueError) as error:  # a form that the rule does not take
            words = " ".join(str(error).split())[:200]
            raise BuildError(f"the packed runtime cannot express this {name!r}: {words}") from None


def source_of(f: Following, value: Any) -> int:
    """Return the number of the map that a step reads; raise BuildError for a constant."""
    number = f.number(value)
    if number is None:
        raise BuildError("the packed runtime cannot mix maps with constants of their shape")
    return number


def expect_constants(f: Following, *values: Any) -> None:
    """Raise BuildError where weights depend on the images."""
    expect(all(f.number(value) is None for value in values), "weights made of images")


def expect(holds: bool, what: str) -> None:
    """Raise BuildError, which names what has no step, unless something holds."""
    if not holds:
        raise BuildError(f"the packed runtime cannot express {what}")
