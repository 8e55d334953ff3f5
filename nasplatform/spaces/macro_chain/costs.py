"""Exact channels, resolution, parameters and FLOPs of every node of every chain of a skeleton."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.macro_chain.skeleton import Skeleton

_Counts = NDArray[np.int64]
_Kind = TypeVar("_Kind", np.int32, np.int64)


class Costs(NamedTuple):
    """channels, resolution (B, 1, N) int32; flops, params (B, 1, N) int64; totals (B,) int64."""

    channels: NDArray[np.int32]
    resolution: NDArray[np.int32]
    flops: NDArray[np.int64]
    params: NDArray[np.int64]
    total_flops: NDArray[np.int64]
    total_params: NDArray[np.int64]


def count(stages: NDArray[Any], skeleton: Skeleton) -> Costs:
    """Count a population: (B, S) of ``STAGE`` for the S stages of the skeleton.

    The input stands for what leaves the stem, the output for what enters the pooling; a place
    without a block carries what flows through it. FLOPs are two per multiply-add of convolutions
    and of the classifier; additions, pooling, normalisation and ReLU6 cost nothing. Parameters
    count batch normalisation's two vectors. Stem and classifier are in the totals alone.
    """
    depth = skeleton.max_depth
    blocks = stages["blocks"][:, :, :depth].astype(np.int64)  # (B, S, D)
    kernel, expansion, present = blocks >> 4, blocks & 15, blocks > 0
    outgoing = _over_blocks(stages["width"].astype(np.int64), depth)
    incoming = _before(outgoing, skeleton.stem_channels)
    height, width = (
        _over_blocks(_sides(stages["stride"], start), depth) for start in skeleton.stem_sides
    )
    area = height * width
    entering = _before(area, int(np.prod(skeleton.stem_sides)))

    inside = incoming * expansion
    widen = np.where(expansion > 1, incoming * inside, 0)  # weights of the three convolutions
    window = kernel**2 * inside
    project = inside * outgoing
    norms = 2 * (np.where(expansion > 1, 2, 1) * inside + outgoing)
    params = np.where(present, widen + window + project + norms, 0)
    flops = 2 * np.where(present, widen * entering + (window + project) * area, 0)

    stem = 9 * skeleton.input_shape[0] * skeleton.stem_channels
    last = outgoing[:, -1, -1]
    around = stem + 2 * skeleton.stem_channels + (last + 1) * skeleton.classes
    around_flops = 2 * (stem * int(np.prod(skeleton.stem_sides)) + last * skeleton.classes)
    side = np.maximum(height, width)
    return Costs(
        _nodes(outgoing, skeleton.stem_channels, last, np.int32),
        _nodes(side, max(skeleton.stem_sides), side[:, -1, -1], np.int32),
        _nodes(flops, 0, 0, np.int64),
        _nodes(params, 0, 0, np.int64),
        flops.sum((1, 2)) + around_flops,
        params.sum((1, 2)) + around,
    )


def _sides(strides: NDArray[np.uint8], start: int) -> _Counts:
    """Return (B, S) the side of the maps that leave each stage."""
    reached = np.cumprod(strides, axis=1, dtype=np.int64)
    sides: _Counts = -(-start // reached)  # halving upwards again and again is dividing upwards
    return sides


def _over_blocks(of_stage: _Counts, depth: int) -> _Counts:
    return np.repeat(of_stage[:, :, None], depth, axis=2)


def _before(of_block: _Counts, start: int) -> _Counts:
    """Return (B, S, D) what enters each block, given what leaves it."""
    entering = of_block.copy()
    entering[:, 0, 0] = start
    entering[:, 1:, 0] = of_block[:, :-1, -1]
    return entering


def _nodes(
    of_block: _Counts, at_input: int, at_output: _Counts | int, kind: type[_Kind]
) -> NDArray[_Kind]:
    """Return (B, 1, N): the blocks between the input and the output."""
    b, s, d = of_block.shape
    nodes = np.empty((b, 1, s * d + 2), kind)
    nodes[:, 0, 0], nodes[:, 0, -1] = at_input, at_output
    nodes[:, 0, 1:-1] = of_block.reshape(b, s * d)
    return nodes
