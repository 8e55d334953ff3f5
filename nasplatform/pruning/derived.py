"""Parameters that are laid out before they are used: tables of positions, vectors of offsets.

What is derived keeps, for each parameter and each of its axes, the place from which every number
comes. So the axis on which a table holds the heads is found when it meets what has heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasplatform.pruning.couplings import axes_of

Origins = tuple[Tensor, ...]
"""For each axis of a parameter the place on it, of the shape of what was derived."""
LARGEST = 1 << 22
"""Numbers of a parameter up to which it is followed."""


@dataclass(frozen=True)
class Derived:
    """Numbers that come from one or several parameters, by the names of these."""

    parameters: tuple[tuple[str, Origins], ...]

    @classmethod
    def whole(cls, name: str, tensor: Tensor) -> Derived | None:
        """Return a parameter as derived from itself; None for one that is too large."""
        if tensor.numel() > LARGEST:
            return None
        axes = range(tensor.dim())
        places = [torch.arange(tensor.shape[axis]) for axis in axes]
        origins = [
            place.reshape([-1 if other == axis else 1 for other in axes]).expand(tensor.shape)
            for axis, place in enumerate(places)
        ]
        return cls(((name, tuple(origins)),))

    @classmethod
    def by(cls, call: Any, given: Sequence[tuple[Tensor, Derived | None]]) -> Derived | None:
        """Return what an operation makes of tensors; None where it is no layout and no sum.

        call:  a ``trace.Call`` whose first argument is derived, or that works element by element.
        given: its tensors, and what they are derived from.
        """
        first, made = call.args[0] if call.args else None, call.made
        if not isinstance(made, Tensor):
            return None
        if torch.Tag.pointwise in call.func.tags:
            known = [one for _, one in given if one is not None]
            spread = [_moved(one, lambda origin: origin.expand(made.shape)) for one in known]
            return cls(tuple(part for one in spread for part in one.parameters)) if spread else None
        source = next((one for tensor, one in given if tensor is first), None)
        if source is None:
            return None
        return _moved(
            source, lambda origin: call.func(origin.contiguous(), *call.args[1:], **call.kwargs)
        )

    @property
    def names(self) -> list[str]:
        """Of the parameters."""
        return [name for name, _ in self.parameters]

    def sources(self, axis: int) -> list[tuple[str, int, NDArray[np.int64]]] | None:
        """Return which axis of each parameter lies along an axis, and the place of each number.

        Parameters that do not change along it are left out; None where one changes otherwise.
        """
        found = []
        for name, origins in self.parameters:
            changing = [own for own, origin in enumerate(origins) if axis in axes_of(origin)]
            if not changing:
                continue
            own, places = changing[0], _line(origins[changing[0]], axis)
            distinct = len(np.unique(places)) == len(places)
            if len(changing) > 1 or axes_of(origins[own]) != [axis] or not distinct:
                return None
            if int(places.max()) != len(places) - 1:
                return None  # a part of the parameter
            found.append((name, own, places))
        return found


def _moved(derived: Derived, function: Any) -> Derived:
    return Derived(
        tuple((name, tuple(map(function, origins))) for name, origins in derived.parameters)
    )


def _line(origin: Tensor, axis: int) -> NDArray[np.int64]:
    """Return the places along an axis, at the start of all others."""
    index = tuple(slice(None) if other == axis else 0 for other in range(origin.dim()))
    line: NDArray[np.int64] = origin[index].numpy()
    return line
