"""All chains that are one decision away from some."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.macro_chain.skeleton import Skeleton


def edited(stages: NDArray[Any], skeleton: Skeleton) -> NDArray[Any]:
    """Return (B', 6) of ``STAGE``: every edit of chains (B, 6), those that change nothing too."""
    return np.concatenate([stages[:0], *_edits(stages, skeleton)])


def _edits(stages: NDArray[Any], skeleton: Skeleton) -> Iterator[NDArray[Any]]:
    for place in range(skeleton.stages):
        for width in skeleton.widths[place]:
            yield _with(stages, "width", place, width)
        for stride in skeleton.strides[place]:
            yield _with(stages, "stride", place, stride)
        depth = (stages["blocks"][:, place] > 0).sum(1)
        for number in range(skeleton.max_depth):
            yield from _edits_of_block(stages, depth, (place, number), skeleton)


def _edits_of_block(
    stages: NDArray[Any], depth: NDArray[np.intp], where: tuple[int, int], skeleton: Skeleton
) -> Iterator[NDArray[Any]]:
    place, number = where
    there = stages[depth > number]
    old = there["blocks"][:, place, number]
    for kernel in skeleton.kernels:
        yield _with(there, "blocks", where, kernel << 4 | old & 15)
    for expansion in skeleton.expansions:
        yield _with(there, "blocks", where, old & 0xF0 | expansion)
    if number:
        yield _with(stages[depth == number + 1], "blocks", where, 0)
        for block in skeleton.blocks:
            yield _with(stages[depth == number], "blocks", where, block.code)


def _with(
    stages: NDArray[Any], name: str, where: int | tuple[int, int], value: Any
) -> NDArray[Any]:
    """Return a copy with one field set in every row."""
    changed = stages.copy()
    changed[name][:, *np.atleast_1d(where)] = value
    return changed
