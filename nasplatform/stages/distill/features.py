"""Which maps a network makes, in which order, and what flows through one of them.

A map is what leaves a module that is called once in a forward pass: (B, c, h, w), or tokens
(B, n, c) of a transformer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from nasplatform.errors import StageError

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class FeatureMap:
    """The output of the module ``name``: ``channels`` at each of ``places``."""

    name: str
    channels: int
    places: int


def feature_maps(module: nn.Module, input_shape: Shape) -> list[FeatureMap]:
    """Return the maps of a network in the order in which they are finished."""
    found: list[FeatureMap] = []
    names = {child: name for name, child in module.named_modules() if name}

    def note(child: nn.Module, given: Any, made: Any) -> None:
        if isinstance(made, Tensor) and made.ndim in (3, 4):
            _, channels, places = _flat(made).shape
            found.append(FeatureMap(names[child], channels, places))

    handles = [child.register_forward_hook(note) for child in names]
    was_training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, *input_shape))
    finally:
        module.train(was_training)
        for handle in handles:
            handle.remove()
    times = Counter(one.name for one in found)
    return [one for one in found if times[one.name] == 1]


def low_level_map(maps: Sequence[FeatureMap], input_shape: Shape) -> FeatureMap:
    """Return the last map before the sides are halved for the second time.

    A network that halves them once: the last map before. One that never does: the map half way.
    One that begins with both, as vision transformers do: the first map there is.
    Raises StageError where there is no map.
    """
    if not maps:
        raise StageError("the network makes no feature maps that could be aligned")
    halvings = _halvings(maps, input_shape[1] * input_shape[2])
    if not halvings[-1]:
        return maps[len(maps) // 2]
    end = min(2, halvings[-1])
    before = [one for one, halved in zip(maps, halvings, strict=True) if halved < end]
    return before[-1] if before else maps[0]


def last_maps(maps: Sequence[FeatureMap]) -> list[FeatureMap]:
    """Return the last map of each number of places, one for each level of a network."""
    return list({one.places: one for one in maps}.values())


def named_map(maps: Sequence[FeatureMap], name: str) -> FeatureMap:
    """Return the map that a module makes; raise StageError where there is none."""
    found = {one.name: one for one in maps}
    if name not in found:
        near = get_close_matches(name, found, n=3) or list(found)[:5]
        raise StageError(
            f"tap {name!r} names no feature map of the network; some that do: {', '.join(near)}"
        )
    return found[name]


@contextmanager
def tapped(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect, as (B, c, places), the maps that the named modules make in the block."""
    made: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(child: nn.Module, given: Any, output: Tensor) -> None:
            made[name] = _flat(output)

        return hook

    handles = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield made
    finally:
        for handle in handles:
            handle.remove()


def _flat(made: Tensor) -> Tensor:
    return made.flatten(2) if made.ndim == 4 else made.transpose(1, 2)


def _halvings(maps: Sequence[FeatureMap], places: int) -> list[int]:
    """Return how often the sides were halved before each map; a fall by 16 counts twice."""
    found, halved = [], 0
    for one in maps:
        fall = round(math.log(max(places / one.places, 1), 4))
        if fall:
            halved, places = halved + fall, one.places
        found.append(halved)
    return found
