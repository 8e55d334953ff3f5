"""The numbers of maps, counted through, and tensors as places in them.

Whatever moves numbers about without changing them does so with their places too: places go through
the same operation of torch, and in the end say which number of which map stands where.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasplatform.runtimes.packed.steps import Shape

ZERO = 0.0
"""The place of the number 0, as padding has it."""


class Order(Enum):
    """How the elements of a tensor lie in a map of exactly these elements."""

    CHANNELS_FIRST = "(B, c, h, w)"
    CHANNELS_LAST = "(B, ..., c)"
    MIXED = "as its places say"


@dataclass(frozen=True)
class Laid:
    """A tensor that is the elements of a map, each once.

    shape: of the tensor.
    number, order: of the map, and how the tensor is that map.
    places: (shape), unless the order says it all.
    """

    shape: tuple[int, ...]
    number: int
    order: Order
    places: Tensor | None = None


class Maps:
    """All maps of some images; places are whole numbers from 1, as float64.

    images: how many there are.
    shapes: (h, w, c) of each map.
    """

    def __init__(self, images: int, shape: Shape) -> None:
        self.images, self.shapes = images, list[Shape]()
        self._starts, self._sizes, self._fixed = list[int](), list[int](), list[bool]()
        self._next = 1
        self.add(shape)

    def add(self, shape: Shape, fixed: bool = False) -> int:
        """Count in a map, and return its number; a fixed one is the same for all images."""
        size = math.prod(shape)
        self.shapes.append(shape)
        self._starts.append(self._next)
        self._sizes.append(size)
        self._fixed.append(fixed)
        self._next += size if fixed else size * self.images
        return len(self.shapes) - 1

    def places(self, laid: Laid) -> Tensor:
        """Return the places of a tensor's elements, in its shape."""
        if laid.places is not None:
            return laid.places
        count = self._sizes[laid.number] * self.images
        every = torch.arange(count, dtype=torch.float64) + self._starts[laid.number]
        if laid.order is Order.CHANNELS_LAST:
            return every.view(laid.shape)
        return every.view(self.images, *self.shapes[laid.number]).permute(0, 3, 1, 2)

    def of_fixed(self, number: int) -> Tensor:
        """Return the places of a fixed map, (n,)."""
        return torch.arange(self._sizes[number], dtype=torch.float64) + self._starts[number]

    def found(self, places: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return of places (B, n) the map (-1 for zeros) and the place in it, (n,) each.

        Raises ValueError where an image is made of another one, or one otherwise than another.
        """
        flat = places.numpy().astype(np.int64)
        number = np.searchsorted(self._starts, flat, side="right") - 1  # of zeros -1
        rest = flat - np.asarray(self._starts)[number]
        size = np.asarray(self._sizes)[number]
        image = np.arange(self.images)[:, None]
        here = (rest // size == image) | np.asarray(self._fixed)[number] | (number < 0)
        index = np.where(number < 0, -1, rest % size)
        if not here.all() or (number != number[0]).any() or (index != index[0]).any():
            raise ValueError("images that are computed otherwise than one by one")
        return number[0], index[0]

    def like(self, laid: Laid, number: int) -> Laid:
        """Return the tensor laid out in another map of the same shape as it is in its own."""
        if laid.places is None:
            return Laid(laid.shape, number, laid.order)
        moved = laid.places + (self._starts[number] - self._starts[laid.number])
        return Laid(laid.shape, number, laid.order, moved)

    def in_map(self, laid: Laid, values: Tensor) -> Tensor:
        """Put values (laid.shape) where the elements of a tensor lie: (B, h, w, c)."""
        shape = (self.images, *self.shapes[laid.number])
        if laid.order is Order.CHANNELS_FIRST:
            return values.permute(0, 2, 3, 1)
        if laid.places is None:
            return values.reshape(shape)
        made = values.new_empty(math.prod(shape))
        made[(laid.places.flatten() - self._starts[laid.number]).long()] = values.flatten()
        return made.view(shape)

    def whole(self, places: Tensor) -> Laid | None:
        """Return the tensor of these places as a map of which it has each element once."""
        if places.numel() % self.images or not places.numel():
            return None
        flat = places.flatten().numpy()
        number = int(np.searchsorted(self._starts, flat[0], side="right")) - 1
        if number < 0 or self._fixed[number] or len(flat) != self._sizes[number] * self.images:
            return None
        steps = np.diff(flat)
        if flat[0] == self._starts[number] and (steps == 1).all():
            return Laid(tuple(places.shape), number, Order.CHANNELS_LAST)
        every = np.sort(flat)
        if every[0] != self._starts[number] or (np.diff(every) != 1).any():
            return None
        return Laid(tuple(places.shape), number, Order.MIXED, places)

    def by_image(self, places: Tensor) -> bool:
        """Say whether places (n, ...) are those of one image after the other."""
        try:
            self.found(places.reshape(self.images, -1))
        except ValueError:
            return False
        return True

    def has_rows(self, laid: Laid) -> bool:
        """Say whether each row of a tensor (..., c) is neighbours, from a multiple of c on."""
        if laid.order is not Order.MIXED or laid.places is None:
            return laid.order is Order.CHANNELS_LAST
        rows = laid.places.reshape(-1, laid.shape[-1]) - self._starts[laid.number]
        return bool((rows.diff() == 1).all() and (rows[:, 0] % laid.shape[-1] == 0).all())


def runs(number: NDArray[np.int64], index: NDArray[np.int64]) -> int:
    """Return the largest length by which places (n,) are runs of neighbours in one map."""
    follows = (number[1:] == number[:-1]) & ((index[1:] == index[:-1] + 1) | (number[1:] < 0))
    breaks = np.flatnonzero(~follows) + 1
    return int(np.gcd.reduce(np.append(breaks, len(number))))
