"""What torch computes for some images, followed operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from nasplatform.errors import BuildError
from nasplatform.runtimes.packed.maps import Laid, Maps, Order, runs
from nasplatform.runtimes.packed.shapes import shape_made
from nasplatform.runtimes.packed.steps import Shape, Step
from nasplatform.training.operations import Operations

BATCH = 3
"""Images of the run that is followed; a size that is unlike most others."""
Rules = Mapping[str, Callable[..., None]]
"""Name of an operation -> function (following, what it made, its arguments), which adds steps."""


class Following(Operations):
    """Notes the steps that lead from images to whatever is computed of them within the block.

    silent: while True nothing is noted, as within a layer that is one step.
    layers: names of the layers that compute now, the innermost last.
    """

    def __init__(self, images: Tensor, rules: Rules) -> None:
        """Take the images, and for each operation of torch what notes it."""
        super().__init__()
        self._rules = rules
        self.steps: list[Step] = []
        self.tensors: dict[str, NDArray[Any]] = {}
        self.silent = False
        self.layers: list[str] = []
        channels, height, width = images.shape[1:]
        self.maps = Maps(len(images), (height, width, channels))
        self._kept: list[Tensor] = []
        self._known: dict[int, Laid | Tensor] = {}
        self._indices: dict[bytes, str] = {}
        self._operation: Any = None
        self.know(images, Laid(tuple(images.shape), 0, Order.CHANNELS_FIRST))

    def follows(self, value: Any) -> bool:
        """Say whether a value depends on the images."""
        return id(value) in self._known

    def know(self, value: Tensor, laid: Laid | Tensor) -> None:
        """Note a tensor as elements of a map, or as places of any."""
        self._kept.append(value)
        self._known[id(value)] = laid

    def known(self, value: Tensor) -> Laid | Tensor:
        """Return what was noted; raise ValueError for a constant."""
        if not self.follows(value):
            raise ValueError("a constant in place of a map")
        return self._known[id(value)]

    def places(self, value: Tensor) -> Tensor:
        """Return the places of a tensor's elements, in its shape."""
        known = self.known(value)
        return self.maps.places(known) if isinstance(known, Laid) else known

    def laid(self, value: Tensor, shape: tuple[int, ...] | None = None) -> Laid:
        """Return a tensor, broadcast to a shape, as elements of one map: made if there is none."""
        known = self.known(value)
        if isinstance(known, Laid) and shape in (None, known.shape):
            return known
        found = self.laid_at(self.places(value).expand(value.shape if shape is None else shape))
        if found.shape == tuple(value.shape):
            self._known[id(value)] = found
        return found

    def laid_at(self, places: Tensor) -> Laid:
        """Return the tensor of these places as elements of one map: made if there is none."""
        found = self.maps.whole(places)
        return self._in_one_map(places) if found is None else found

    def arranged(self, places: Tensor, by_rows: bool = False) -> int:
        """Return the number of a map (h, w, c) that has places (B, h, w, c) in this order.

        by_rows: any map with c channels will do.
        Raises ValueError where images are mixed.
        """
        wanted = (places.shape[1], places.shape[2], places.shape[3])
        number, index = self.maps.found(places.flatten(1))
        first = int(number[0])
        same = bool((number == first).all() and (index == np.arange(len(index))).all())
        if first < 0 or not same or len(index) != np.prod(self.maps.shapes[first]):
            return self._gathered(number, index, wanted)
        given = self.maps.shapes[first]
        if given == wanted or (by_rows and given[2] == wanted[2]):
            return first
        return self.append(Step(op="view", source=first, shape=wanted))

    def tensor(self, values: Tensor | NDArray[Any]) -> str:
        """Keep constants under a new name."""
        array = values.detach().numpy() if isinstance(values, Tensor) else values
        name = f"t{len(self.tensors)}"
        self.tensors[name] = np.ascontiguousarray(array)
        return name

    def constant(self, values: Tensor, shape: Shape) -> int:
        """Return the number of a map that is the same for all images."""
        name = self.tensor(values.reshape(shape).to(torch.float32))
        return self.append(Step(op="constant", weight=name, shape=shape))

    def append(self, step: Step) -> int:
        """Add a step; return the number of the map that it makes."""
        self.steps.append(step)
        shape = shape_made(step, self.maps.shapes, self.tensors)
        return self.maps.add(shape, fixed=step.op == "constant")

    def add(self, made: Tensor, step: Step, order: Order = Order.CHANNELS_LAST) -> None:
        """Add a step that makes a tensor, its channels last or first."""
        self.know(made, Laid(tuple(made.shape), self.append(step), order))

    def add_like(self, made: Tensor, step: Step, laid: Laid) -> None:
        """Add a step that makes a tensor, which lies in its map as another one in its own."""
        self.know(made, self.maps.like(laid, self.append(step)))

    def moved(self, args: Any, kwargs: Any) -> Any:
        """Return what the operation that is noted now makes of the places of its arguments."""

        def places(value: Any) -> Any:
            return self.places(value) if self.follows(value) else value

        return self._operation(*tree_map(places, args), **tree_map(places, kwargs))

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute an operation, and note it where it depends on the images."""
        name, given = func.overloadpacket.__name__, args
        overwrites = name.endswith("_") and isinstance(args[0], Tensor)
        if overwrites and not self.follows(args[0]):  # a constant, as it was before
            given = (args[0].clone(), *args[1:])
        made = func(*args, **kwargs)
        self._kept.extend(t for t in tree_leaves((args, made)) if isinstance(t, Tensor))
        follows = any(self.follows(value) for value in tree_leaves((args, kwargs)))
        if follows and not self.silent:
            self._operation = func
            self._note(name, made, given, kwargs)
        return made

    def _note(self, name: str, made: Any, given: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rule, where = self._rules.get(name), self.where()
        if rule is None:
            raise BuildError(f"the packed runtime has no {name!r}, which {where} computes")
        try:
            rule(self, made, *given, **kwargs)
        except (TypeError, ValueError, RuntimeError) as error:  # a form that the rule does not take
            words = " ".join(str(error).split())[:200]
            raise BuildError(
                f"the packed runtime cannot express the {name!r} of {where}: {words}"
            ) from None

    def where(self) -> str:
        """Say which layer computes now."""
        named = [name for name in self.layers if name]
        return f"layer {named[-1]!r}" if named else "the network"

    def _in_one_map(self, places: Tensor) -> Laid:
        """Make a map of places; of maps as images have them the order that has longer runs."""
        shape = tuple(places.shape)
        first = places.permute(0, 2, 3, 1) if places.ndim == 4 else None
        if first is not None and len(places) == self.maps.images:
            lengths = [runs(*self.maps.found(each.flatten(1))) for each in (first, places)]
            if lengths[0] > lengths[1]:
                return Laid(shape, self.arranged(first), Order.CHANNELS_FIRST)
        rows = places.reshape(self.maps.images, 1, -1, places.shape[-1])
        number = self.arranged(rows)
        return Laid(shape, number, Order.CHANNELS_LAST)

    def _gathered(self, number: NDArray[np.int64], index: NDArray[np.int64], shape: Shape) -> int:
        length = runs(number, index)
        starts, firsts = number[::length], index[::length]
        parts = tuple(
            (int(source), self._index(np.where(starts == source, firsts, -1)))
            for source in np.unique(starts)
            if source >= 0
        )
        return self.append(Step(op="gather", parts=parts, shape=shape, inputs=length))

    def _index(self, places: NDArray[np.int64]) -> str:
        """Keep places, those that are there already under their name."""
        values = places.astype(np.int32)
        digest = sha256(values.tobytes()).digest()
        if digest not in self._indices:
            self._indices[digest] = self.tensor(values)
        return self._indices[digest]


def expect_constants(f: Following, *values: Any) -> None:
    """Raise ValueError where weights depend on the images."""
    expect(not any(f.follows(value) for value in values), "weights made of images")


def expect(holds: bool, what: str) -> None:
    """Raise ValueError, which names what has no step, unless something holds."""
    if not holds:
        raise ValueError(what)
